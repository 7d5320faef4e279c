"""The fit in a notebook: a panel where a person watches, a plain loop where nobody does. Same steps, same numbers.

Both have `await driver.finished()`. The panel runs the fit as an asyncio task of the kernel, one step at a time, so the
kernel keeps answering; every callback only sets a flag or a rate.
"""

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType

import ipywidgets
import numpy as np
import torch
from IPython.display import display
from PIL import Image

from recon_lib import camera, crops, figures, fit, refine, render
from recon_lib.fit import Controls, FitConfig
from recon_lib.mesh import Mesh
from recon_lib.refine import Kept, RefineState, Setup
from recon_lib.run import Stage, watched
from recon_lib.scene import Scene

REFRESH_SECONDS = 1.0
PANEL_SIZE = 256  # pixels along a side of the live view


@dataclass
class FitResult:
    mesh: Mesh | None = None  # of the best step
    history: list[tuple] = field(default_factory=list)  # (step, losses)
    kept: Kept | None = None  # the best state, whose mesh this is
    error: str = ""  # why the fit stopped early; empty when it did not


def require_sound(result: FitResult) -> None:
    """Raises FloatingPointError where the fit broke off; to be called after its last good state was written."""
    if result.error:
        raise FloatingPointError(result.error)


def drive(
    setup: Setup, config: FitConfig, controls: Controls, raster: ModuleType, photos: Scene, stage: Stage
) -> "Batch | Panel":
    """The panel where a person watches, else the plain loop. The panel's picture is the first held-out view."""
    steps = refine.run(setup, config, raster, controls)
    if not watched():
        return Batch(steps, config.steps, stage.progress, stage.overdue)
    shown = photos.subset(photos.held_out) if photos.held_out.any() else photos
    view = crops.crop_photos(shown.images[:1], camera.moved(shown.cameras[[0]], setup.T_unit_world), PANEL_SIZE)
    cameras = camera.on_device(view.cameras, raster.DEVICE)

    def rendering(mesh: Mesh) -> np.ndarray:
        with torch.no_grad():
            return _picture(render.render(mesh, cameras, raster)[0])

    def at_the_stop(state: RefineState) -> Kept:
        return refine.better(setup, state.fit, state.kept, raster)

    return Panel(steps, config.steps, controls, _picture(view.rgba[0]), rendering, at_the_stop)


class Batch:
    """Runs the fit in one go, or to the best state so far when it is overdue."""

    def __init__(
        self, steps: Iterator[RefineState], total: int, progress: Callable[[float, str], None],
        overdue: Callable[[], bool] = lambda: False,
    ):  # fmt: skip
        self._steps, self._total, self._progress, self._overdue = steps, total, progress, overdue

    async def finished(self) -> FitResult:
        result = FitResult()
        for state in _until_broken(self._steps, result):
            if state.fit.step:
                result.history.append((state.fit.step, state.fit.losses))
            self._progress(state.fit.step / self._total, f"step {state.fit.step} of {self._total}")
            result.kept = state.kept
            if self._overdue():
                break
        result.mesh = fit.snapshot(result.kept.mesh)
        return result


class Panel:
    """start | pause, stop and keep, both learning rates, the loss curve, one held-out view: photo | rendering."""

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
            slider.observe(lambda change, name=name: setattr(controls, name, change["new"]), "value")
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
        self._show(next(steps))
        display(self.widget)
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def finished(self) -> FitResult:
        """Waits until the last step, or until a person stops and keeps."""
        await self._task
        return self.result

    async def _loop(self) -> None:
        for state in _until_broken(self._steps, self.result):
            self.result.history.append((state.fit.step, state.fit.losses))
            if time.monotonic() - self._refreshed > REFRESH_SECONDS:
                self._show(state)
            await asyncio.sleep(0.001)  # the kernel answers here
            while not self._running and not self._stopped:
                await asyncio.sleep(0.05)
            if self._stopped:
                break
        if self._stopped:
            state = state._replace(kept=self._at_the_stop(state))
        self._show(state)
        self.result.mesh = fit.snapshot(state.kept.mesh)
        self._toggle.disabled = self._keep.disabled = True
        self._label.value = self.result.error or f"kept step {state.kept.step}, the best of {state.fit.step}"

    def _show(self, state: RefineState) -> None:
        step = state.fit.step
        self._refreshed = time.monotonic()
        self._bar.value = step
        self._label.value = f"step {step} of {self._total}, best {state.kept.step}" if step else "press start"
        self._curve.value = figures.history(self.result.history).png()
        pair = np.concatenate([self._photo, self._rendering(state.fit.mesh)], axis=1)
        self._view.value = _png(pair)
        self.result.kept = state.kept

    def _on_toggle(self, _) -> None:
        self._running = not self._running
        self._toggle.description, self._toggle.icon = ("pause", "pause") if self._running else ("start", "play")

    def _on_keep(self, _) -> None:
        self._stopped = True


def _until_broken(steps: Iterator[RefineState], result: FitResult) -> Iterator[RefineState]:
    try:
        yield from steps
    except FloatingPointError as error:
        result.error = str(error)


def _picture(rgba: torch.Tensor) -> np.ndarray:
    return (render.over_white_srgb(rgba.cpu()) * 255).round().byte().numpy()


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
