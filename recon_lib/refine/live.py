"""A fit that a person drives: start, pause, single steps, changed rates, snapshots to return to, and what is kept in the end.

It is a task of the kernel's event loop that takes one step at a time, so that the kernel answers between two steps and no cell
waits for it. What a person asks for (`ask`) may come from any thread and is done between two steps. Unless something is
changed, the steps have the numbers of `headless.run_to_end`. At every pause and every `checkpoint.EVERY` steps a checkpoint is
written, with the changes made so far, so that a kernel that ends costs little.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recon_lib import knobs
from recon_lib.knobs import Parameter
from recon_lib.photos import crops
from recon_lib.photos.crops import Photos
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import checkpoint, corrections, fit, headless, refine
from recon_lib.refine.config import FitConfig
from recon_lib.refine.controls import Controls
from recon_lib.refine.fit import Begun
from recon_lib.refine.headless import FitResult
from recon_lib.refine.refine import RefineState, Saved, Setup
from recon_lib.surface import projection

NAME = ".refined.panel.checkpoint"  # in the run folder; not `checkpoint.NAME`, as changes make it another fit
MOST_SNAPSHOTS = 8
BEST, THIS = "best", "this"
WEIGHTS = {  # no parameters of the notebook, but a person may change them while the fit runs
    name: Parameter(name, getattr(FitConfig, name), help, 0, 1000)
    for name, help in (
        ("w_occlusion", "weight against occlusion"),
        ("w_laplacian", "weight of the Laplacian energy at the start, fades to 0 by the last step"),
    )
}

log = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """A state to which a person may return."""

    saved: Saved | None  # None: before the first step
    steps: int  # of `Controls` at that time


class LiveFit:
    """One fit. Attributes are changed only in the event loop's thread, between two steps."""

    state: RefineState  # after the latest step

    def __init__(self, setup: Setup, config: FitConfig, raster: Rasteriser, path: Path, identity: str):
        """Looks for this fit's checkpoint at `path` and begins there, without taking a step.

        `identity` is `checkpoint.identity` of setup and config. Call it in a running event loop.
        """
        self.setup, self.config, self.raster, self.path, self.identity = setup, config, raster, path, identity
        self.knobs = knobs.parameters(FitConfig) | WEIGHTS
        self.controls = Controls(config, self._photos)
        self.running = False
        self.chosen = ""  # what is kept: BEST or THIS; empty while the fit is not over
        self.watcher: Callable[[], None] = lambda: None  # called after each step and each thing that was asked for
        self.snapshots: dict[int, Snapshot] = {0: Snapshot(None, config.steps)}
        found = checkpoint.find(path, identity, config, setup.start.verts.device)
        self.says = found.sentence  # the latest word to the person, if there is one
        self.result = found.result
        for change in self.result.changes:
            setattr(self.controls, change["name"], change["value"])
        self._begin(found.saved)
        self._wanted: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._serve())

    def ask(self, what: Callable[..., None], *arguments: Any) -> None:
        """Asks for one of the methods below, which is then called between two steps; from any thread."""
        self._loop.call_soon_threadsafe(self._wanted.put_nowait, lambda: what(*arguments))

    def close(self) -> None:
        """Ends the task; the state stays as it is."""
        self._task.cancel()

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.state.fit.step

    def start(self) -> None:
        """Takes steps until `pause` or the last step. Raises ValueError if that was taken already."""
        if self.step >= self.controls.steps:
            raise ValueError(f"step {self.step} was the last; extend the fit to go on")
        self.running, self.chosen, self.result.mesh = True, "", None
        if threading.current_thread() is threading.main_thread():
            # An interrupt of the idle kernel pauses the fit. While a cell runs, Jupyter has a handler of its own.
            signal.signal(signal.SIGINT, lambda number, frame: self.ask(self.pause))

    def pause(self) -> None:
        """Takes no more steps for now."""
        if self.running:
            self.running = False
            self._save()

    def one_step(self) -> None:
        """Takes one step."""
        self.start()
        self.running = False
        self._take_step()

    def keep_best(self) -> None:
        """Ends the fit with the state that explains the validation photos best, this one included."""
        if self.step:
            self.state = self.state._replace(
                kept=refine.validate(self.setup, self.state.fit, self.state.kept, self.raster)[0]
            )
        self._end(BEST, self.state.kept)

    def keep_this(self) -> None:
        """Ends the fit with the state of this step, whatever the validation photos say."""
        best, body = self.state.kept, fit.snapshot(self.state.fit.mesh)
        psnr_db, quality_db = torch.nan, torch.nan
        if self.setup.validation:
            psnr_db, quality_db = projection.explain(body, self.setup.validation, self.raster)
        told = self.state.fit.corrected.told() if self.step else None
        self._end(THIS, refine.Kept(self.step, body, psnr_db, best.given_psnr_db, quality_db, told, by_hand=True))

    def change(self, name: str, value: float | int) -> None:
        """Changes a rate, a weight, the batch or the photo size from the next step on, and records it with that step.

        Raises ValueError for a value out of range; nothing is changed then.
        """
        if name == "photo_size":
            if value not in self.photo_sizes():
                raise ValueError(f"photo_size: got {value}, needed one of {', '.join(map(str, self.photo_sizes()))}")
        else:
            knob = self.knobs[name]
            if not knob.low <= value <= knob.high:
                raise ValueError(
                    f"{name}: got {value:g}, needed a number in {knob.limits}; it stays {self.value(name):g}"
                )
        setattr(self.controls, name, value)
        self._record(name, value)

    def value(self, name: str) -> float | int:
        """What the next step will use."""
        return getattr(self.controls, name)

    def photo_sizes(self) -> tuple[int, ...]:
        """The sizes in pixels that photos can have, up to what is in them; 0 leaves the size to the schedule."""
        size, own = self.setup.photos.rgba.shape[2], self.setup.own_size
        larger = [k * size for k in (2, 4) if k * size < own] + [own] * (own > size)
        return 0, *(size // k for k in (4, 2, 1) if size % k == 0), *larger

    def extend(self, more: int) -> None:
        """Adds steps at the end, at the rates that the last step had, and goes on. Raises ValueError for less than one."""
        if more < 1 or self.controls.steps + more > self.knobs["steps"].high:
            raise ValueError(f"extend: got {more}, needed 1 step or more, {self.knobs['steps'].high} in all")
        self.controls.steps += more
        self._record("steps", self.controls.steps)
        self.start()

    def take_snapshot(self) -> None:
        """Keeps this state to return to; of more than MOST_SNAPSHOTS the oldest but the start is dropped."""
        state = self.state.fit
        if self.step:
            inside = {name: tensor.detach().clone() for name, tensor in state.inside().items()}
            saved = Saved(Begun(self.step, fit.snapshot(state.mesh), inside), self.state.kept)
            self.snapshots[self.step] = Snapshot(saved, self.controls.steps)
        for oldest in sorted(self.snapshots)[1 : len(self.snapshots) - MOST_SNAPSHOTS]:
            del self.snapshots[oldest]

    def return_to(self, step: int) -> None:
        """Goes back to a snapshot; what came after it leaves the history, and rates stay as they are now."""
        saved, steps = self.snapshots[step]
        before, result = self.controls.values(), self.result
        changes = [change for change in result.changes if change["step"] <= step]
        history = [row for row in result.history if row[0] <= step]
        validation = [row for row in result.validation if row[0] <= step] if step else []
        self.result = FitResult(history=history, validation=validation, kept=saved and saved.kept, changes=changes)
        self.running, self.chosen, self.controls.steps = False, "", steps
        self._begin(saved)
        in_force = Controls(self.config).values() | {change["name"]: change["value"] for change in changes}
        for name, value in before.items():
            if value != in_force[name]:
                self._record(name, value)

    def _photos(self, size: int) -> Photos:
        photos = self.setup.photos
        there = photos.rgba.shape[2]
        return crops.shrink(photos, there // size) if size <= there else self.setup.larger(size)

    def _begin(self, saved: Saved | None) -> None:
        self._steps = refine.run(self.setup, self.config, self.raster, self.controls, saved)
        if saved is None:
            self.state = next(self._steps)  # before the first step: the mesh as given
            headless.note(self.result, self.state)
            return
        asked = corrections.wanted(self.config.correct, self.setup.cameras_found)
        corrected = corrections.Corrections(self.setup.photos.cameras, asked)
        corrected.load(saved.begun.inside)
        begun = fit.FitState(saved.begun.step, saved.begun.mesh, torch.empty(0), corrected, lambda: saved.begun.inside)
        self.state = RefineState(begun, saved.kept, torch.nan)
        self.result.kept = saved.kept

    async def _serve(self) -> None:
        while True:
            while not self.running or not self._wanted.empty():
                wanted = await self._wanted.get()
                self.says = ""
                self._do(wanted)
            self._do(self._take_step)
            await asyncio.sleep(0.001)  # the kernel answers here

    def _do(self, what: Callable[[], None]) -> None:
        try:
            what()
        except ValueError as error:
            self.says = str(error)
        except Exception as error:  # whatever went wrong, the panel says so and its buttons stay alive
            log.exception("the live fit")
            self.running, self.says = False, f"{type(error).__name__}: {error}"
        self.watcher()

    def _take_step(self) -> None:
        try:
            state = next(self._steps)
        except (FloatingPointError, MemoryError) as error:
            self._go_back(str(error))
            return
        best = self.state.kept  # `keep_best` may have found it between the steps at which the fit itself looks
        self.state = state._replace(kept=best) if best.quality_db > state.kept.quality_db else state
        headless.note(self.result, self.state)
        if self.step >= self.controls.steps:
            self.running = False
            self.keep_best()
        elif self.step % checkpoint.EVERY == 0:
            self._save()

    def _go_back(self, why: str) -> None:
        """After a step that failed: to the state before it, or to the latest snapshot if that state is not sound."""
        if torch.isfinite(self.state.fit.mesh.verts).all():
            self.take_snapshot()
        self.return_to(max(self.snapshots))
        self.says = f"{why}. The fit is back at step {self.step}; change what you can and start again"

    def _end(self, chosen: str, kept: refine.Kept) -> None:
        self.running, self.chosen = False, chosen
        self.result.kept, self.result.mesh = kept, fit.snapshot(kept.mesh)
        self._save()

    def _record(self, name: str, value: float | int) -> None:
        step = self.step + 1
        others = [c for c in self.result.changes if (c["step"], c["name"]) != (step, name)]
        self.result.changes = [*others, {"step": step, "name": name, "value": value}]

    def _save(self) -> None:
        if self.step:
            checkpoint.write(self.path, self.identity, self.config.steps, self.state, self.result)
