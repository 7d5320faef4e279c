"""Runs the fit in a notebook: with a panel if a person watches, as a plain loop if not, with the same steps and numbers.

In both cases a notebook awaits `driver.finished()`. The panel runs the fit as an asyncio task of the kernel, one step at a
time, so that the kernel can answer between steps; its callbacks only set a flag or a rate.
"""

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import ipywidgets
import numpy as np
import torch
from IPython.display import display
from PIL import Image

from recon_lib import camera, progress, render
from recon_lib.mesh import Mesh
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import checkpoint, fit, headless, refine
from recon_lib.refine.checkpoint import Keeper
from recon_lib.refine.config import FitConfig
from recon_lib.refine.fit import Controls
from recon_lib.refine.headless import FitResult
from recon_lib.refine.refine import Kept, RefineState, Setup
from recon_lib.show import figures

REFRESH_SECONDS = 1.0  # least time between two refreshes of curve and picture
PANEL_SIZE = 256  # pixels along a side of the live view


@runtime_checkable
class Stage(Protocol):
    """What a fit needs from its stage (`chain.run.Stage`): where to report progress, whether the time is up, its files."""

    def progress(self, share: float, what: str) -> None: ...

    def overdue(self) -> bool: ...

    def folder(self, name: str) -> Path: ...


@runtime_checkable
class Driver(Protocol):
    """A running fit; a notebook's cell awaits `finished`."""

    async def finished(self) -> FitResult: ...


class Headless:
    """The fit in a kernel that nobody watches; it runs when `finished` is awaited."""

    def __init__(self, steps: Iterator[RefineState], total: int, stage: Stage, keeper: Keeper):
        self._steps, self._total, self._stage, self._keeper = steps, total, stage, keeper

    async def finished(self) -> FitResult:
        """Runs the fit to its end, or to the run's soft limit."""
        begun, keep = self._keeper.found.result, self._keeper.keep
        return headless.run_to_end(self._steps, self._total, self._stage.progress, self._stage.overdue, begun, keep)


def drive(
    setup: Setup, config: FitConfig, controls: Controls, raster: Rasteriser, photos: Scene, stage: Stage
) -> Driver:
    """Starts the panel if a person watches this kernel, else prepares the plain loop, which goes on from a checkpoint.

    The panel shows the first held-out view of `photos`, or the first view if none is held out.
    """
    if not progress.watched():
        keeper = Keeper(stage.folder(checkpoint.NAME), setup, config)
        if keeper.found.sentence:
            print(keeper.found.sentence)
        steps = refine.run(setup, config, raster, controls, keeper.found.saved)
        return Headless(steps, config.steps, stage, keeper)
    steps = refine.run(setup, config, raster, controls)
    shown = photos.subset(photos.held_out) if photos.held_out.any() else photos
    view = crops.crop_photos(shown.images[:1], camera.moved(shown.cameras[[0]], setup.T_unit_world), PANEL_SIZE)
    cameras = camera.on_device(view.cameras, raster.DEVICE)

    def rendering(mesh: Mesh) -> np.ndarray:
        with torch.no_grad():
            return _picture(render.render(mesh, cameras, raster)[0])

    def at_the_stop(state: RefineState) -> Kept:
        return refine.validate(setup, state.fit, state.kept, raster)[0]

    return Panel(steps, config.steps, controls, _picture(view.rgba[0]), rendering, at_the_stop)


class Panel:
    """Buttons (start or pause, stop and keep), sliders for both rates, the loss curve, and one photo beside its rendering."""

    def __init__(
        self, steps: Iterator[RefineState], total: int, controls: Controls, photo: np.ndarray,
        rendering: Callable[[Mesh], np.ndarray], at_the_stop: Callable[[RefineState], Kept],
    ):  # fmt: skip
        self._steps, self._total, self._controls = steps, total, controls
        self._photo, self._rendering, self._at_the_stop = photo, rendering, at_the_stop
        self._running, self._stopped, self._refreshed = False, False, 0.0
        self.result = FitResult()
        self._toggle = ipywidgets.Button(description="start", icon="play", button_style="primary")
        self._keep = ipywidgets.Button(description="stop and keep", icon="stop")
        self._bar = ipywidgets.IntProgress(max=total, layout={"width": "260px"})
        self._label = ipywidgets.Label("press start")
        rates = [
            ipywidgets.FloatLogSlider(
                value=getattr(controls, name), min=-5, max=-1, step=0.05, description=name, readout_format=".1e",
                style={"description_width": "80px"},
            )
            for name in ("lr_vertex", "lr_texture")
        ]  # fmt: skip
        for slider, name in zip(rates, ("lr_vertex", "lr_texture"), strict=True):
            slider.observe(lambda change, name=name: self._on_rate(name, change["new"]), "value")
        self._toggle.on_click(self._on_toggle)
        self._keep.on_click(self._on_keep)
        self._curve = ipywidgets.Image(format="png", layout={"max_width": "48%", "object_fit": "contain"})
        self._view = ipywidgets.Image(format="png", layout={"max_width": "52%", "object_fit": "contain"})
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HBox([self._toggle, self._keep, self._bar, self._label]),
                ipywidgets.HBox(rates),
                ipywidgets.HBox([self._curve, self._view]),
            ]
        )
        self._state = next(steps)  # before the first step: the mesh as given
        headless.note(self.result, self._state)
        self._show(self._state)
        display(self.widget)
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def finished(self) -> FitResult:
        """Waits for the last step, or until a person presses "stop and keep"."""
        await self._task
        return self.result

    async def _loop(self) -> None:
        state = self._state
        while await self._may_go_on():
            try:
                state = next(self._steps)
            except StopIteration:
                break
            except FloatingPointError as error:  # as in `headless.until_broken`, which cannot wait between steps
                self.result.error = str(error)
                break
            headless.note(self.result, state)
            if time.monotonic() - self._refreshed > REFRESH_SECONDS:
                self._show(state)
            await asyncio.sleep(0.001)  # the kernel answers here
        if self._stopped:
            state = state._replace(kept=self._at_the_stop(state))
            self.result.kept = state.kept
        self._show(state)
        self.result.mesh = fit.snapshot(state.kept.mesh)
        self._toggle.disabled = self._keep.disabled = True
        self._label.value = self.result.error or f"kept step {state.kept.step}, the best of {state.fit.step}"

    async def _may_go_on(self) -> bool:
        """Waits while the fit is paused; returns False once it has been stopped."""
        while not self._running and not self._stopped:
            await asyncio.sleep(0.05)
        return not self._stopped

    def _show(self, state: RefineState) -> None:
        step = state.fit.step
        self._refreshed = time.monotonic()
        self._bar.value = step
        self._label.value = f"step {step} of {self._total}, best {state.kept.step}" if step else "press start"
        self._curve.value = figures.history(self.result.history, self.result.validation).png()
        pair = np.concatenate([self._photo, self._rendering(state.fit.mesh)], axis=1)
        self._view.value = _png(pair)

    def _on_toggle(self, _) -> None:
        self._running = not self._running
        self._toggle.description, self._toggle.icon = ("pause", "pause") if self._running else ("start", "play")

    def _on_rate(self, name: str, value: float) -> None:
        """Changes a rate from the next step on, and records the change with that step."""
        setattr(self._controls, name, value)
        step = self.result.history[-1][0] + 1 if self.result.history else 1
        self.result.changes = [c for c in self.result.changes if (c["step"], c["name"]) != (step, name)]
        self.result.changes.append({"step": step, "name": name, "value": value})

    def _on_keep(self, _) -> None:
        self._stopped = True


def _picture(rgba: torch.Tensor) -> np.ndarray:
    return (render.over_white_srgb(rgba.cpu()) * 255).round().byte().numpy()


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
