"""The run folder, through which stages pass on their results: `run.json`, `progress.json`, and one folder per stage.

`run.json` holds the run's name, `photos` (their folder), `inputs` (their hashes), parameters, seed, versions, device and state,
`job`, what was asked of the chain (`pipeline.describe`), `queued`, the number of its latest ticket in the queue, and `ticket`,
the number of the ticket with which it last began, None without one.
Under `stages` it holds for each stage its state, parameters, `started` (UTC), `seconds`, `work_seconds` (without its kernel's
start and imports), `peak_memory_mb` (MiB, its process alone), error and results; with a GPU `peak_gpu_memory_mb` (by torch) and
`gpu_memory_mb` (in use before the stage and after its process ended); `outputs`, the hash of each file that it wrote; `key`,
written when its notebook has ended; and `made_from`, one hash per earlier stage of its outputs then.

States: pending, running, done, reused, failed, interrupted, cancelled and stale. A stale stage is finished, but an earlier
stage has run again since, or is running again. `progress.json` holds the stage, its percentage, what is running and the seconds
left. Whoever works in a run folder holds its lock (`lock`). If run.json says that a run is running but its holder is dead,
`load` marks it interrupted. Shares are 0 to 1.
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

import recon_lib
from recon_lib import files, knobs, progress
from recon_lib.chain import lock, params
from recon_lib.stages import FINISHED, OUTPUTS, STAGES

PACKAGES = ("torch", "numpy", "scipy", "numba", "trimesh", "scikit-image", "flip-evaluator", "libigl", "papermill",
            "nvdiffrast")  # fmt: skip
PROGRESS_SECONDS = 0.5  # least time between two writings of progress.json
RESERVED = ("state", "started", "seconds", "work_seconds", "peak_memory_mb", "peak_gpu_memory_mb", "gpu_memory_mb",
            "parameters", "error", "key", "outputs", "made_from")  # fmt: skip
INJECTED = "# Parameters"  # the first line of the cell that papermill injects
Config = TypeVar("Config")


class Stage:
    """One running stage: its run folder, its parameters and the time of its start."""

    def __init__(self, run_dir: Path, name: str, parameters: dict[str, Any]):
        self.run_dir = run_dir
        self.name = name
        self.parameters = parameters
        self.began = time.monotonic()
        self.written = -PROGRESS_SECONDS
        self.bar: tqdm | None = None

    def folder(self, name: str) -> Path:
        """The path of a folder or file in the run folder."""
        return self.run_dir / name

    def config(self, kind: type[Config]) -> Config:
        """A config of the stage: knobs take the values of the parameters, plain fields keep their defaults."""
        return kind(**{name: self.parameters[name] for name in knobs.parameters(kind)})

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields an empty folder to fill; it replaces `folder(name)` when the `with` block ends without an error."""
        temporary = self.run_dir / f".{name}.new"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        files.replace_folder(temporary, self.folder(name))

    def progress(self, share: float, what: str) -> None:
        """Records how far the stage has come, at most twice per second; in a watched notebook it also draws a bar."""
        if time.monotonic() - self.written >= PROGRESS_SECONDS:
            self._write_progress(share, what)
        if progress.watched():
            self._draw(share, what)

    def track(self, iterable: Iterable, total: int, what: str) -> Iterator[Any]:
        """Yields the items and reports progress after each of the `total` items."""
        for i, item in enumerate(iterable):
            yield item
            self.progress((i + 1) / total, what)

    def overdue(self) -> bool:
        """Whether the run's soft limit has passed; a notebook that a person runs has no limit."""
        return time.time() > float(os.environ.get("RECON_DEADLINE", "inf"))

    def finish(self, results: dict[str, Any]) -> None:
        """Marks the stage done and stores its results (JSON values); `final_mesh` and `device` become the run's, too."""
        taken = set(results) & set(RESERVED)
        assert not taken, f"{taken} are run.json's own names"
        content = load(self.run_dir)
        content["stages"][self.name] |= (
            results
            | {"state": "done", "seconds": round(time.monotonic() - self.began, 3), "peak_memory_mb": peak_memory_mb()}
            | {"outputs": files.hashes(self.folder(OUTPUTS[self.name]), self.run_dir)}
            | peak_gpu_memory_mb()
        )
        content |= {name: results[name] for name in ("final_mesh", "device") if name in results}
        _mark_stale(content)
        if not in_batch():
            content["state"] = overall_state(content)
        files.write_json(self.run_dir / "run.json", content)
        self._write_progress(1.0, "done")
        if not in_batch():
            lock.release(self.run_dir)

    def _draw(self, share: float, what: str) -> None:
        """Draws a text bar; a share smaller than the one before starts a new bar."""
        if self.bar is None or 100 * share < self.bar.n:
            self.bar = tqdm(
                total=100, file=sys.stdout, mininterval=0.2, bar_format="{desc:24.24} {percentage:3.0f}% |{bar:30}|"
            )
        self.bar.set_description_str(what, refresh=False)
        self.bar.update(100 * share - self.bar.n)
        if share >= 1:
            self.bar.close()
            self.bar = None

    def _write_progress(self, share: float, what: str) -> None:
        self.written = time.monotonic()
        left = (self.written - self.began) * (1 - share) / share if share > 0 else None
        write_progress(self.run_dir, self.name, 100 * share, what, left)


def begin(run_dir: str | Path, stage: str, scope: dict[str, Any]) -> Stage:
    """Locks the run folder and marks the stage running; its earlier entry in run.json is dropped.

    `scope` is a notebook's `globals()`, from which the stage's parameters are read, or a dict of the parameters. Later stages
    that were finished become stale.

    Raises ValueError for a parameter that the stage does not declare, that has a wrong type or is out of range, and if somebody
    else works in the folder.
    """
    parameters = params.defaults(stage) | params.check(stage, _find_parameters(stage, scope))
    folder = files.root(str(run_dir))
    folder.mkdir(parents=True, exist_ok=True)
    if not in_batch():  # in a batch run, the chain holds the lock
        lock.take(folder, f"{stage} in a notebook")
    content = load(folder) if (folder / "run.json").exists() else new(folder)
    content["stages"][stage] = {
        "state": "running", "started": now(), "parameters": parameters, "made_from": _made_from(content, stage),
    }  # fmt: skip
    _mark_stale(content)
    if not in_batch():
        content |= {"state": "running", "error": None}
    content |= {"seed": parameters["seed"]} if "seed" in parameters else {}
    content |= {"versions": versions(), "platform": platform.platform(), "cpus": os.cpu_count()}
    files.write_json(folder / "run.json", content)
    write_progress(folder, stage, 0.0, "starting", None)
    return Stage(folder, stage, parameters)


def _find_parameters(stage: str, scope: dict[str, Any]) -> dict[str, Any]:
    """The parameters in a notebook's names: all that the stage declares, and unknown ones that its parameter cells assign."""
    if "__name__" not in scope:
        return scope
    known = params.declared(stage)
    typed: set[str] = set()
    for source in scope.get("In", []):
        names = _find_assigned(source)
        if params.RUN_DIR.name in names and not source.startswith(INJECTED):
            typed = set()  # the parameters cell was run again, so its earlier content no longer counts
        if params.RUN_DIR.name in names or source.startswith(INJECTED):
            typed |= names
    return {name: scope[name] for name in (*known, *sorted(typed - {*known, params.RUN_DIR.name})) if name in scope}


def _find_assigned(source: str) -> set[str]:
    """The names that a cell assigns at its top level; none for a cell that is not plain Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set()
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def in_batch() -> bool:
    """Whether the chain runs this kernel; the chain then holds the lock of the run folder."""
    return "RECON_BATCH" in os.environ


def new(folder: Path) -> dict[str, Any]:
    """The content of run.json before anything has run."""
    stages = {stage: {"state": "pending"} for stage in STAGES}
    return {"name": folder.name, "created": now(), "state": "pending", "stages": stages}


def load(run_dir: str | Path) -> dict[str, Any]:
    """The content of run.json. A run that says it is running but whose process is dead is marked interrupted, also on disk.

    Raises ValueError where there is no run.json, and for one that is damaged.
    """
    path = files.root(str(run_dir)) / "run.json"
    if not path.exists():
        raise ValueError(f"{path.parent}: no run.json; nothing ran here yet")
    content = read(path)
    running = [entry for entry in content["stages"].values() if entry["state"] == "running"]
    if (running or content["state"] == "running") and not lock.alive(path.parent):
        pid = lock.holder(path.parent).get("pid", "?")
        error = f"process {pid} ended without a word: killed, or the machine stopped"
        for entry in running:
            entry |= {"state": "interrupted", "error": error}
        content |= {"state": "interrupted", "error": error}
        if os.access(path.parent, os.W_OK):
            files.write_json(path, content)
    return content


def read(path: Path) -> dict[str, Any]:
    """The content of a run.json as it stands. Raises ValueError for one that is damaged."""
    try:
        content = json.loads(path.read_bytes())
        entries = [content["stages"][stage]["state"] for stage in STAGES]
        sound = all(isinstance(state, str) for state in (content["state"], *entries))
        sound &= all(isinstance(content.get(name), int | None) for name in ("queued", "ticket"))
        sound &= isinstance(content.get("error"), str | None) and isinstance(content.get("job", {}), dict)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path}: damaged; move {path.parent} away to run anew, its results are still in it")
    return content


def overall_state(content: dict[str, Any]) -> str:
    """The state of the run: the worst state of its stages."""
    found = [entry["state"] for entry in content["stages"].values()]
    for state in ("running", "failed", "interrupted", "cancelled", "stale"):
        if state in found:
            return state
    return "done" if found[-1] in FINISHED else "pending"


def _digest(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry["outputs"], sort_keys=True).encode()).hexdigest()


def _made_from(content: dict[str, Any], stage: str) -> dict[str, str]:
    """For each earlier stage that has outputs, the hash of these outputs."""
    before = ((name, content["stages"][name]) for name in STAGES[: STAGES.index(stage)])
    return {name: _digest(entry) for name, entry in before if "outputs" in entry}


def _mark_stale(content: dict[str, Any]) -> None:
    """Marks finished stages stale or done by the hashes in `made_from`, so it does not matter how a stage was started."""
    anew = False  # whether an earlier stage is running, has failed or is stale
    for stage in STAGES:
        entry = content["stages"][stage]
        if entry["state"] in (*FINISHED, "stale") and "made_from" in entry:
            rests = not anew and entry["made_from"] == _made_from(content, stage)
            if not rests or entry["state"] == "stale":
                entry["state"] = "done" if rests else "stale"
        anew |= entry["state"] not in (*FINISHED, "pending")


def write_progress(folder: Path, stage: str, percent: float, what: str, seconds_left: float | None) -> None:
    """Writes progress.json: `percent` of the stage, `what` is running, and the estimated seconds left."""
    left = None if seconds_left is None else round(seconds_left, 1)
    progress = {"stage": stage, "percent": round(percent, 1), "what": what, "seconds_left": left}
    files.write_json(folder / "progress.json", progress)


def now() -> str:
    """The time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """The versions of Python, recon_lib and PACKAGES, read from metadata, because asking torch itself would import it."""
    found = {name: d.version for name in PACKAGES for d in importlib.metadata.distributions(name=name)}
    return {"python": platform.python_version(), "recon_lib": recon_lib.__version__} | found


def peak_memory_mb() -> float:
    """The largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2 ** (20 if sys.platform == "darwin" else 10), 1)  # kibibytes, but on macOS bytes


def peak_gpu_memory_mb() -> dict[str, float]:
    """The most GPU memory that torch has reserved so far, MiB; empty if torch has used no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"peak_gpu_memory_mb": round(torch.cuda.max_memory_reserved() / 2**20, 1)}
