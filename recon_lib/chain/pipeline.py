"""The chain: runs the notebooks in order in one run folder, each in a kernel of its own.

All parameters are checked before the first notebook starts. `reuse` decides which stages are reused. When a stage runs again,
all later stages run again, too, and their earlier results are deleted first, so that a verdict never lies beside a mesh that it
does not judge. Edited notebooks are renamed, never overwritten (`copies`). Every parameter of a stage is written into the
notebook that runs, so editing a default in a template has no effect. This process never imports torch, because the kernels need
the memory.
"""

import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from recon_lib import files
from recon_lib.chain import cancel, copies, kernels, lock, reuse, tickets
from recon_lib.chain import params as parameters
from recon_lib.chain import run as records
from recon_lib.stages import FINISHED, INGEST, OUTPUTS, STAGES, after

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TIMEOUT_S = 6 * 3600.0  # a stage that takes longer fails
SOFT_LIMIT_S = 7200.0  # from the run's start; after it, refinement stops and keeps its best mesh

log = logging.getLogger(__name__)


class StageError(Exception):
    """A stage failed. `cause` says why on one line; the original exception is chained."""

    def __init__(self, stage: str, cause: str):
        super().__init__(f"{stage}: {cause}")
        self.stage, self.cause = stage, cause


def run(
    params: dict[str, dict[str, Any]],
    run_dir: str | Path,
    stages: Sequence[str] = STAGES,
    notebooks: Path = NOTEBOOKS,
    force: bool = False,
    bar: bool = True,
    timeout_s: float = TIMEOUT_S,
    soft_limit_s: float = SOFT_LIMIT_S,
    ticket: int | None = None,
) -> dict[str, Any]:
    """Runs the stages that cannot be reused (with `force`, all of them) and returns the content of run.json.

    The report is written after a success and after a failure. If `stages` skips one between two others, its earlier results are
    deleted, because the later stages then use the mesh from before it. `ticket` is the run's number if it comes from the queue.

    Raises ValueError before anything runs, StageError for a stage that fails, and KeyboardInterrupt after run.json has been
    marked interrupted, or cancelled where that was asked for.
    """
    folder, notebooks = files.root(str(run_dir)).absolute(), notebooks.absolute()
    stages = [stage for stage in STAGES if stage in _check_stages(stages)]
    values = validate(params)
    began = time.time()
    inputs = reuse.photo_hashes(values[INGEST], notebooks) if stages[0] == INGEST else {}
    folder.mkdir(parents=True, exist_ok=True)
    job = describe(params, stages, notebooks, force, timeout_s=timeout_s, soft_limit_s=soft_limit_s)
    with lock.held(folder, f"recon run of {', '.join(stages)}"):
        if ticket is None:
            cancel.withdraw(folder)  # what an earlier run, killed since, did not obey
        elif tickets.find(folder.parent, ticket) is None:  # cancelled before it began
            raise KeyboardInterrupt
        files.tidy(folder)
        _open(folder, stages, values, inputs, notebooks, {"job": job, "ticket": ticket})
        stage = stages[0]
        try:
            with cancel.obeyed(folder), kernels.server(notebooks) as server:
                for stage in stages:
                    cancel.raise_if_confirmed(folder)
                    key = reuse.key(folder, stage, notebooks, values[stage], inputs)
                    entry = records.load(folder)["stages"][stage]
                    if not force and entry.get("key") == key and reuse.intact(folder, stage, entry):
                        _set_stage(folder, stage, entry | {"state": "reused"})
                        continue
                    limits = timeout_s, began + soft_limit_s
                    _execute(stage, notebooks, folder, values[stage], limits, bar, server)
                    _set_stage(folder, stage, records.load(folder)["stages"][stage] | {"key": key})
        except KeyboardInterrupt:
            state = "cancelled" if cancel.confirmed(folder) else "interrupted"
            files.tidy(folder)
            _close(folder, stage, state, f"{stage}: {state}")
            cancel.withdraw(folder)
            raise
        except Exception as error:  # whatever went wrong, the run folder says so
            _close(folder, stage, "failed", f"{stage}: {kernels.one_line(error)}")
            _report_failure(folder)
            raise StageError(stage, kernels.one_line(error)) from error
        _close(folder, stage, "done", None)
        if time.time() > began + soft_limit_s:
            files.write_json(folder / "run.json", records.load(folder) | {"over_soft_limit_s": soft_limit_s})
        write_report(folder)
        return records.load(folder)


def describe(
    params: dict[str, dict[str, Any]], stages: Sequence[str], notebooks: Path, force: bool,
    timeout_s: float = TIMEOUT_S, soft_limit_s: float = SOFT_LIMIT_S,
) -> dict[str, Any]:  # fmt: skip
    """What was asked of a run, as run.json keeps it, so that the run can be resumed from its folder alone."""
    limits = {"timeout_s": timeout_s, "soft_limit_s": soft_limit_s}
    return {"params": params, "stages": list(stages), "notebooks": str(notebooks.absolute()), "force": force} | limits


def validate(params: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The parameters of each stage, defaults included. Raises one ValueError with a line per problem."""
    problems = [parameters.unknown(str(name), STAGES) for name in params if name not in STAGES]
    values = {}
    for stage in STAGES:
        given = params.get(stage, {})
        if "run_dir" in given:
            problems.append(f"{stage}: run_dir: the run's name decides it, leave it out")
            given = {name: value for name, value in given.items() if name != "run_dir"}
        try:
            values[stage] = parameters.defaults(stage) | parameters.check(stage, given)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return values


def write_copies(
    params: dict[str, dict[str, Any]], folder: Path, run_dir: str | Path, notebooks: Path = NOTEBOOKS
) -> list[Path]:
    """Writes copies of the notebooks, with their parameters, for a person or another tool to run; returns their paths.

    All copies use the run folder `run_dir`. Edited copies that already lie in `folder` are renamed first. Raises ValueError for
    bad parameters.
    """
    values = validate(params)
    folder.mkdir(parents=True, exist_ok=True)
    return [_write_copy(stage, notebooks, folder, values[stage] | {"run_dir": str(run_dir)}) for stage in STAGES]


def new(params: dict[str, dict[str, Any]], run_dir: str | Path, notebooks: Path = NOTEBOOKS) -> list[Path]:
    """Makes a run folder with working copies of the notebooks, runs nothing, and returns the copies' paths.

    Raises ValueError for bad parameters and for a photos folder that does not exist.
    """
    folder, notebooks = files.root(str(run_dir)).absolute(), notebooks.absolute()
    values = validate(params)
    inputs = reuse.photo_hashes(values[INGEST], notebooks)
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder, "recon new"):
        content = records.load(folder) if (folder / "run.json").exists() else records.new(folder)
        content |= {"inputs": inputs, "photos": photos_folder(values[INGEST], notebooks)}
        files.write_json(folder / "run.json", content)
        return write_copies(params, folder, _relative(folder, notebooks), notebooks)


def photos_folder(ingest: dict[str, Any], notebooks: Path) -> str | None:
    """The real path of the photos that the parameters of 1_ingest name; None if they name none. It identifies a run."""
    if "photos" not in ingest:
        return None
    return os.path.realpath(notebooks.absolute().parent / Path(ingest["photos"]).expanduser())


def _write_copy(stage: str, notebooks: Path, folder: Path, values: dict[str, Any]) -> Path:
    copy = folder / f"{stage}.ipynb"
    copies.set_aside(folder, stage)
    files.write_text(copy, nbformat.writes(copies.with_parameters(notebooks / copy.name, stage, values)))
    copies.note_written(folder, stage)
    return copy


def _relative(folder: Path, notebooks: Path) -> str:
    """The path of a run folder as notebooks write it: relative to the repository if it lies inside, else absolute."""
    home = notebooks.absolute().parent
    return str(folder.relative_to(home) if folder.is_relative_to(home) else folder)


def _check_stages(stages: Sequence[str]) -> Sequence[str]:
    problems = [parameters.unknown(stage, STAGES) for stage in stages if stage not in STAGES]
    if problems or not stages:
        raise ValueError("\n".join(problems) or f"no stage chosen; there are {', '.join(STAGES)}")
    return stages


def _open(
    folder: Path, stages: list[str], values: dict[str, dict], inputs: dict[str, str], notebooks: Path, asked: dict
) -> None:
    content = records.load(folder) if (folder / "run.json").exists() else records.new(folder)
    for stage in STAGES[: STAGES.index(stages[0])]:
        if content["stages"][stage]["state"] not in FINISHED:
            raise ValueError(f"{folder}: {stages[0]} needs {stage}, which is {content['stages'][stage]['state']}")
    for stage in STAGES[STAGES.index(stages[0]) : STAGES.index(stages[-1])]:
        if stage not in stages:
            _put_away(folder, stage)
            content["stages"][stage] = {"state": "pending"}
    made = [content["stages"][stage].get("final_mesh") for stage in STAGES]
    content["final_mesh"] = next((mesh for mesh in reversed(made) if mesh), None)
    content.pop("over_soft_limit_s", None)
    content |= {"state": "running", "error": None, "started": records.now()} | asked
    content["parameters"] = content.get("parameters", {}) | {stage: values[stage] for stage in stages}
    if stages[0] == INGEST:
        content |= {"inputs": inputs, "photos": photos_folder(values[INGEST], notebooks)}
    files.write_json(folder / "run.json", content)


def _close(folder: Path, stage: str, state: str, error: str | None) -> None:
    content = records.load(folder)
    entry = content["stages"][stage]
    if "key" not in entry and entry["state"] in ("running", "done"):  # a cell may fail after the one that finished
        entry |= {"state": state, "error": error}
    files.write_json(folder / "run.json", content | {"state": state, "error": error, "ended": records.now()})
    records.write_progress(folder, stage, 100.0 if state == "done" else 0.0, state, 0.0)


def _set_stage(folder: Path, stage: str, entry: dict[str, Any]) -> None:
    content = records.load(folder)
    content["stages"][stage] = entry
    files.write_json(folder / "run.json", content)


def _execute(
    stage: str, notebooks: Path, folder: Path, values: dict, limits: tuple[float, float], bar: bool, server: Any
) -> None:
    began, gpu_before = time.monotonic(), kernels.gpu_memory_mb()
    timeout_s, deadline = limits
    for later in after(stage):  # as pending they cannot be reused
        _set_stage(folder, later, {"state": "pending"})
        _put_away(folder, later)
    _set_stage(folder, stage, {"state": "running", "started": records.now(), "parameters": values})
    records.write_progress(folder, stage, 0.0, "starting the kernel", None)
    copy = _write_copy(stage, notebooks, folder, values | {"run_dir": _relative(folder, notebooks)})
    with kernels.progress_bar(stage, folder, bar):
        kernels.execute(
            copy,
            cwd=notebooks.parent,
            execution_timeout=timeout_s,
            kernel_env=kernels.environment() | {"RECON_DEADLINE": str(deadline)},
            kernel_log=folder / "kernel.log",
            kernel_server=server,
        )
    kernels.sign(copy)
    entry = records.load(folder)["stages"][stage]
    # sys.exit(0) in a cell ends the notebook there, and papermill calls it a success.
    if entry["state"] != "done":
        raise RuntimeError("the notebook ended without finishing its stage")
    entry |= {"work_seconds": entry["seconds"], "seconds": round(time.monotonic() - began, 3)}
    if gpu_before is not None:  # the kernel has ended, so its memory is free again
        entry["gpu_memory_mb"] = {"before": gpu_before, "after": kernels.gpu_memory_mb()}
    _set_stage(folder, stage, entry)


def _put_away(folder: Path, stage: str) -> None:
    copies.set_aside(folder, stage)
    shutil.rmtree(folder / OUTPUTS[stage], ignore_errors=True)
    (folder / f"{stage}.ipynb").unlink(missing_ok=True)


def write_report(folder: Path) -> None:
    """Writes `report.html` from whatever the run folder has."""
    from recon_lib.show import report  # brings the plotting libraries, which the chain itself does without

    report.write(folder, {stage: parameters.defaults(stage) for stage in STAGES})


def _report_failure(folder: Path) -> None:
    try:
        write_report(folder)
    except Exception as error:  # the stage's own error is the one to tell
        log.warning("no report: %s", kernels.one_line(error))
