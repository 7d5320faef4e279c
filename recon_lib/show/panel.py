"""Runs the fit in a notebook: with a panel if a person watches, as a plain loop if not, with the same steps and numbers.

In a watched notebook no cell waits for the fit. The cell shows the panel and ends in `NotYet`, so the cells below it do not run
and the kernel stays free: "Run All" again, an interrupt or a closed browser harm nothing. When the person has chosen what to
keep, the same cell returns it, and the cells below run.

A cell that ends in an error makes the kernel drop everything that waits for it, from this and from other browser tabs. If this
very cell is among that, its output is empty by then, so it gets the panel in place of an answer (`_show_where_dropped`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from IPython import get_ipython

from recon_lib import progress
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import checkpoint, headless, refine
from recon_lib.refine import live as live_fits
from recon_lib.refine.checkpoint import Keeper
from recon_lib.refine.config import FitConfig
from recon_lib.refine.headless import FitResult
from recon_lib.refine.refine import RefineState, Setup
from recon_lib.show import live_pictures
from recon_lib.show.panel_widgets import PanelWidgets
from recon_lib.stages import LIVE

_open: dict[Path, PanelWidgets] = {}  # the panel of each run folder that this kernel works in


@runtime_checkable
class Stage(Protocol):
    """What a fit needs from its stage (`chain.run.Stage`): where to report progress, whether the time is up, its files."""

    def progress(self, share: float, what: str) -> None: ...

    def overdue(self) -> bool: ...

    def folder(self, name: str) -> Path: ...


class NotYet(Exception):
    """The fit is not over, so the cells below have nothing to work with; a notebook shows the text alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def fitted(setup: Setup, config: FitConfig, raster: Rasteriser, photos: Scene, stage: Stage) -> FitResult:
    """What the fit leaves behind: at once in a kernel that nobody watches, else when a person has chosen what to keep.

    Until then it shows the panel and raises NotYet. A second call for the same fit shows the same panel again.
    """
    if not progress.watched():
        return _run_through(setup, config, raster, photos, stage)
    path = stage.folder(live_fits.NAME)
    identity = checkpoint.identity(setup, config)
    shown = _open.get(path)
    if shown is None or shown.live.identity != identity or shown.live.config != config:
        if shown is not None:
            shown.live.close()
        shown = _open[path] = PanelWidgets(live_fits.LiveFit(setup, config, raster, path, identity), photos)
    shown.show()
    if not shown.live.chosen:
        _show_where_dropped(get_ipython().kernel, shown.show)
        raise NotYet("The fit waits for you: press start above. What you keep is then used by the cells below.")
    return shown.live.result


def _show_where_dropped(kernel: Any, show: Callable[[], None]) -> None:
    """Calls `show` for each request with the code that runs now if the kernel drops it. It replaces an earlier `show`.

    ipykernel has no public place for this; a browser test would miss it.
    """
    code, send = kernel.get_parent()["content"]["code"], type(kernel)._send_abort_reply

    def show_and_send(stream: Any, request: dict, idents: Any) -> None:
        if request["content"]["code"] == code:
            show()  # as output of the dropped request, which is the kernel's current one
        send(kernel, stream, request, idents)

    kernel._send_abort_reply = show_and_send


def _run_through(setup: Setup, config: FitConfig, raster: Rasteriser, photos: Scene, stage: Stage) -> FitResult:
    keeper = Keeper(stage.folder(checkpoint.NAME), setup, config)
    if keeper.found.sentence:
        print(keeper.found.sentence)
    steps = refine.run(setup, config, raster, saved=keeper.found.saved)
    watched = live_pictures.Watched(photos, live_pictures.first_watched(photos), setup.T_unit_world, raster)
    reporter = live_pictures.Reporter(watched, stage.folder(LIVE))

    def keep(state: RefineState, result: FitResult) -> None:
        keeper.keep(state, result)
        reporter.update(state.fit.step, state.fit.mesh)

    try:
        return headless.run_to_end(steps, config.steps, stage.progress, stage.overdue, keeper.found.result, keep)
    finally:
        reporter.close()
