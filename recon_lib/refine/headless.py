"""Runs a fit that nobody watches: all steps in a row, keeping the best state. The panel (`show.panel`) takes the same steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from recon_lib.mesh import Mesh
from recon_lib.progress import Progress
from recon_lib.refine import fit
from recon_lib.refine.refine import Kept, RefineState


@dataclass
class FitResult:
    """What a fit leaves behind."""

    mesh: Mesh | None = None  # of the best state
    history: list[tuple[int, Tensor]] = field(default_factory=list)  # (step, losses)
    validation: list[tuple[int, float]] = field(default_factory=list)  # (step, PSNR in dB on the validation photos)
    kept: Kept | None = None  # the best state, to which `mesh` belongs
    error: str = ""  # why the fit broke off; empty if it did not
    changes: list[dict] = field(default_factory=list)  # changes of rates by a person: step, name, value


def run_to_end(
    steps: Iterator[RefineState], total: int, progress: Progress, overdue: Callable[[], bool] = lambda: False,
    result: FitResult | None = None, keep: Callable[[RefineState, FitResult], None] = lambda state, result: None,
) -> FitResult:  # fmt: skip
    """Takes all `total` steps, or stops early when `overdue` returns True. If the fit breaks off, the result has the error.

    A `result` from before an interruption is continued; `keep` is called after every step and may write a checkpoint.
    """
    result = result or FitResult()
    for state in until_broken(steps, result):
        note(result, state)
        keep(state, result)
        progress(state.fit.step / total, f"step {state.fit.step} of {total}")
        if overdue():
            break
    result.mesh = fit.snapshot(result.kept.mesh)
    return result


def note(result: FitResult, state: RefineState) -> None:
    """Adds one step to the result: its losses, its validation score if it was measured, and the best state so far."""
    if state.fit.step:
        result.history.append((state.fit.step, state.fit.losses))
    if state.psnr_db == state.psnr_db:  # not NaN
        result.validation.append((state.fit.step, state.psnr_db))
    result.kept = state.kept


def until_broken(steps: Iterator[RefineState], result: FitResult) -> Iterator[RefineState]:
    """Yields the steps until the end or until a FloatingPointError, whose message it stores in `result.error`."""
    try:
        yield from steps
    except FloatingPointError as error:
        result.error = str(error)


def require_sound(result: FitResult) -> None:
    """Raises FloatingPointError if the fit broke off; call it after the last good state has been written."""
    if result.error:
        raise FloatingPointError(result.error)
