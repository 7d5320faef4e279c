"""A fit without anybody watching: all its steps in a row, to the best state. The panel (`show.panel`) takes the same steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from recon_lib.mesh import Mesh
from recon_lib.progress import Progress
from recon_lib.refine import fit
from recon_lib.refine.refine import Kept, RefineState


@dataclass
class FitResult:
    mesh: Mesh | None = None  # of the best state
    history: list[tuple[int, Tensor]] = field(default_factory=list)  # (step, losses)
    validation: list[tuple[int, float]] = field(default_factory=list)  # (step, PSNR in dB on the validation photos)
    kept: Kept | None = None  # the best state, whose mesh this is
    error: str = ""  # why the fit stopped early; empty when it did not
    changes: list[dict] = field(default_factory=list)  # rates that a person changed: step, name, value


def run_to_end(
    steps: Iterator[RefineState], total: int, progress: Progress, overdue: Callable[[], bool] = lambda: False
) -> FitResult:
    """All steps, or those until `overdue` says that the time is up. A fit that breaks off leaves its error in the result."""
    result = FitResult()
    for state in until_broken(steps, result):
        note(result, state)
        progress(state.fit.step / total, f"step {state.fit.step} of {total}")
        if overdue():
            break
    result.mesh = fit.snapshot(result.kept.mesh)
    return result


def note(result: FitResult, state: RefineState) -> None:
    """Adds what one step tells to the result: losses, validation score, the best state so far."""
    if state.fit.step:
        result.history.append((state.fit.step, state.fit.losses))
    if state.psnr_db == state.psnr_db:  # not NaN
        result.validation.append((state.fit.step, state.psnr_db))
    result.kept = state.kept


def until_broken(steps: Iterator[RefineState], result: FitResult) -> Iterator[RefineState]:
    """The steps; one that breaks off by itself (FloatingPointError) ends them, and its words go into `result.error`."""
    try:
        yield from steps
    except FloatingPointError as error:
        result.error = str(error)


def require_sound(result: FitResult) -> None:
    """Raises FloatingPointError where the fit broke off; to be called after its last good state was written."""
    if result.error:
        raise FloatingPointError(result.error)
