"""Runs the fit in a notebook: with a panel if a person watches, as a plain loop if not, with the same steps and numbers.

In a watched notebook no cell waits for the fit. The cell shows the panel and ends in `NotYet`, so the cells below it do not run
and the kernel stays free: "Run All" again, an interrupt or a closed browser harm nothing. When the person has chosen what to
keep, the same cell returns it, and the cells below run.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

from recon_lib import progress
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import checkpoint, headless, refine
from recon_lib.refine import live as live_fits
from recon_lib.refine.checkpoint import Keeper
from recon_lib.refine.config import FitConfig
from recon_lib.refine.headless import FitResult
from recon_lib.refine.refine import Setup
from recon_lib.show.panel_widgets import PanelWidgets

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
        return _run_through(setup, config, raster, stage)
    path = stage.folder(live_fits.NAME)
    identity = checkpoint.identity(setup, config)
    shown = _open.get(path)
    if shown is None or shown.live.identity != identity or shown.live.config != config:
        if shown is not None:
            shown.live.close()
        shown = _open[path] = PanelWidgets(live_fits.LiveFit(setup, config, raster, path, identity), photos)
    shown.show()
    if not shown.live.chosen:
        raise NotYet("The fit waits for you: press start above. What you keep is then used by the cells below.")
    return shown.live.result


def _run_through(setup: Setup, config: FitConfig, raster: Rasteriser, stage: Stage) -> FitResult:
    keeper = Keeper(stage.folder(checkpoint.NAME), setup, config)
    if keeper.found.sentence:
        print(keeper.found.sentence)
    steps = refine.run(setup, config, raster, saved=keeper.found.saved)
    return headless.run_to_end(steps, config.steps, stage.progress, stage.overdue, keeper.found.result, keeper.keep)
