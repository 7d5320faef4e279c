"""The run folder, where stages meet: `run.json`, `progress.json`, and one folder a stage.

`run.json` holds of the run its name, inputs' hashes, parameters, seed, versions, device and state; of each stage, under
`stages`, its state (pending, running, done, reused, failed, interrupted), parameters, `started` (UTC), `seconds`,
`peak_memory_mb` (MiB, its process alone), of a GPU `peak_gpu_memory_mb` (by torch) and `gpu_memory_mb` (in use before the
stage and after its process ended), error and results. `progress.json` holds stage, percent of that stage, what
is running and seconds left. Every file and folder gets its name when it is whole. Shares are 0 to 1.
"""

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
from typing import Any

from tqdm import tqdm

import recon_lib
from recon_lib import params

PACKAGES = ("torch", "numpy", "scipy", "numba", "trimesh", "scikit-image", "papermill", "nvdiffrast")
PROGRESS_SECONDS = 0.5  # between two writings of progress.json
RESERVED = ("state", "started", "seconds", "peak_memory_mb", "peak_gpu_memory_mb", "gpu_memory_mb", "parameters", "error",
            "key", "outputs")  # fmt: skip


class Stage:
    """One running stage: knows its folder and when it began."""

    def __init__(self, run_dir: Path, name: str):
        self.run_dir = run_dir
        self.name = name
        self.began = time.monotonic()
        self.written = -PROGRESS_SECONDS
        self.bar: tqdm | None = None

    def folder(self, name: str) -> Path:
        return self.run_dir / name

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """An empty folder to fill; it takes the place of `folder(name)` if nothing went wrong."""
        temporary = self.run_dir / f".{name}.new"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        replace_folder(temporary, self.folder(name))

    def progress(self, share: float, what: str) -> None:
        """Notes how far the stage, or one of its calls, has come, at most twice a second; a person watching sees a bar."""
        if time.monotonic() - self.written >= PROGRESS_SECONDS:
            self._write_progress(share, what)
        if watched():
            self._draw(share, what)

    def track(self, iterable: Iterable, total: int, what: str) -> Iterator[Any]:
        """The iterable's items; progress goes by their number."""
        for i, item in enumerate(iterable):
            yield item
            self.progress((i + 1) / total, what)

    def overdue(self) -> bool:
        """Whether the run's soft limit has passed; a notebook run by hand has none."""
        return time.time() > float(os.environ.get("RECON_DEADLINE", "inf"))

    def finish(self, results: dict[str, Any]) -> None:
        """Marks the stage done with its results, JSON values. `final_mesh` among them becomes the run's."""
        taken = set(results) & set(RESERVED)
        assert not taken, f"{taken} are run.json's own names"
        content = load(self.run_dir)
        content["stages"][self.name] |= (
            results
            | {
                "state": "done",
                "seconds": round(time.monotonic() - self.began, 3),
                "peak_memory_mb": peak_memory_mb(),
            }
            | peak_gpu_memory_mb()
        )
        if "final_mesh" in results:
            content["final_mesh"] = results["final_mesh"]
        write_json(self.run_dir / "run.json", content)
        self._write_progress(1.0, "done")

    def _draw(self, share: float, what: str) -> None:
        """Text, one bar a call: shares that fall back to the start begin a new one."""
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


def begin(run_dir: str | Path, stage: str, parameters: dict[str, Any]) -> Stage:
    """Marks the stage running; what run.json held of an earlier run of it is dropped."""
    notebook = root("notebooks") / f"{stage}.ipynb"
    if notebook.exists():
        parameters = params.check(notebook, parameters)
    folder = root(str(run_dir))
    folder.mkdir(parents=True, exist_ok=True)
    content = load(folder) if (folder / "run.json").exists() else new(folder)
    content["stages"][stage] = {"state": "running", "started": now(), "parameters": parameters}
    content |= {name: parameters[name] for name in ("device", "seed") if name in parameters}
    content |= {"versions": versions(), "platform": platform.platform(), "cpus": os.cpu_count()}
    write_json(folder / "run.json", content)
    write_progress(folder, stage, 0.0, "starting", None)
    return Stage(folder, stage)


def new(folder: Path) -> dict[str, Any]:
    """What run.json holds before anything ran."""
    stages = {stage: {"state": "pending"} for stage in params.STAGES}
    return {"name": folder.name, "created": now(), "state": "pending", "stages": stages}


def load(run_dir: str | Path) -> dict[str, Any]:
    path = root(str(run_dir)) / "run.json"
    if not path.exists():
        raise ValueError(f"{path.parent}: no run.json; nothing ran here yet")
    return json.loads(path.read_text())


def root(path: str) -> Path:
    """A relative path is meant from the repository: the current folder, or its parent when that is `notebooks`."""
    here = Path.cwd()
    return (here.parent if here.name == "notebooks" else here) / Path(path).expanduser()


def watched() -> bool:
    """Whether a person sits at this kernel: only a Jupyter server names the session of the kernels that it starts."""
    return "JPY_SESSION_NAME" in os.environ and "RECON_BATCH" not in os.environ


def write_progress(folder: Path, stage: str, percent: float, what: str, seconds_left: float | None) -> None:
    left = None if seconds_left is None else round(seconds_left, 1)
    progress = {"stage": stage, "percent": round(percent, 1), "what": what, "seconds_left": left}
    write_json(folder / "progress.json", progress)


def write_json(path: Path, value: Any) -> None:
    """NaN and infinity are refused: JSON has no word for them."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def replace_folder(temporary: Path, target: Path) -> None:
    """Gives a finished folder its name; an earlier one goes only after that. Both lie on one file system."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(temporary, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions by the packages' metadata: asking torch itself would import it."""
    found = {name: d.version for name in PACKAGES for d in importlib.metadata.distributions(name=name)}
    return {"python": platform.python_version(), "recon_lib": recon_lib.__version__} | found


def peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2 ** (20 if sys.platform == "darwin" else 10), 1)  # kibibytes, but on macOS bytes


def peak_gpu_memory_mb() -> dict[str, float]:
    """What torch had taken at most, MiB; nothing where it used no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"peak_gpu_memory_mb": round(torch.cuda.max_memory_reserved() / 2**20, 1)}
