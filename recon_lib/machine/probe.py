"""Facts about this machine: packages, GPU, driver, ReconViaGen's checkout, weights, disk, memory.

A package that breaks when it is imported is a fact to report, not an error. GB are 2**30 bytes. Importing this module imports
nothing heavy, torch least of all.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recon_lib import threads

OK, MISSING, WRONG = "ok", "missing", "wrong"
IMPORTED = {
    "nvdiffrast": "nvdiffrast.torch",
    "spconv": "spconv.pytorch",
    "flash_attn": "flash_attn",
    "xformers": "xformers.ops",
}
UPSTREAM = ("torchvision", "easydict", "einops", "safetensors", "huggingface_hub")  # imported by ReconViaGen
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Package:
    """A package that works has a `version`; one that breaks on import has a `problem`; one that is absent has neither."""

    version: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Gpu:
    """The GPU that torch uses."""

    name: str
    free_gb: float


@dataclass(frozen=True)
class Facts:
    """Everything that `doctor` judges."""

    python: tuple[int, int, int]
    absent: tuple[str, ...]  # recon_lib's own requirements that are not installed
    torch: Package
    built_for: str | None = None  # the CUDA version that torch is built for
    gpu: Gpu | None = None
    gpu_problem: str | None = None
    driver: str | None = None
    packages: dict[str, Package] = field(default_factory=dict)
    root: Path | None = None  # RECONVIAGEN_ROOT
    commit: str | None = None  # the commit that is checked out in `root`
    weights: tuple[str, str] = (MISSING, "")  # state, and the folder (if ok) or the first problem
    disk_gb: float = 0.0
    memory_gb: float | None = None
    cores: int = 1
    threads: Package = Package()  # `version` is the name of the library that runs the kernels' threads
    chromium: str | None = None


def probe(outputs: Path) -> Facts:
    """Collects the facts; it imports torch, numba and the optional packages. `outputs` need not exist."""
    with contextlib.redirect_stdout(sys.stderr):  # some packages print when they are imported
        torch, loaded = load("torch")
        gpu, gpu_problem = _gpu(loaded)
        packages = {name: load(module)[0] for name, module in IMPORTED.items()}
        packages |= {name: load(name)[0] for name in UPSTREAM}
        psutil = load("psutil")[1]
    root = os.environ.get("RECONVIAGEN_ROOT")
    here = next(path for path in (outputs.absolute(), *outputs.absolute().parents) if path.exists())
    return Facts(
        python=sys.version_info[:3],
        absent=_absent(),
        torch=torch,
        built_for=loaded.version.cuda if loaded else None,
        gpu=gpu,
        gpu_problem=gpu_problem,
        driver=_driver_version(),
        packages=packages,
        root=Path(root) if root else None,
        commit=_ask_program("git", "-c", "safe.directory=*", "-C", root, "rev-parse", "HEAD") if root else None,
        weights=_weights(),
        disk_gb=shutil.disk_usage(here).free / 2**30,
        memory_gb=psutil.virtual_memory().total / 2**30 if psutil else None,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=_threads(),
        chromium=chromium(),
    )


def load(module: str) -> tuple[Package, Any]:
    """Imports a module and says how that went; the module is None if it is absent or breaks."""
    name = module.split(".")[0]
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        return Package(), None
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # whatever a broken package raises is the finding
        return Package(problem=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"), None
    stated = [getattr(sys.modules[name], "__version__", "")] + [
        d.version for d in importlib.metadata.distributions(name=name)
    ]
    return Package(str(next(filter(None, stated), "unknown"))), loaded


def _gpu(torch: Any) -> tuple[Gpu | None, str | None]:
    if torch is None or not torch.cuda.is_available():
        return None, None
    try:
        return Gpu(torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0] / 2**30), None
    except RuntimeError as error:
        return None, " ".join(str(error).split())[:200]


def _threads() -> Package:
    numba, _ = load("numba")
    if numba.version is None:
        return numba
    try:
        return Package(threads.layer())
    except ValueError as error:  # NUMBA_THREADING_LAYER names what is not there
        return Package(problem=" ".join(str(error).split())[:200])


def _absent() -> tuple[str, ...]:
    names: list[str] = []
    if not any(importlib.metadata.distributions(name="recon-lib")):
        return ("recon-lib",)
    for requirement in importlib.metadata.requires("recon-lib") or ():
        if "extra ==" not in requirement:
            name = re.match(r"[\w.-]+", requirement)[0]
            if not any(importlib.metadata.distributions(name=name)):
                names.append(name)
    return tuple(names)


def _weights() -> tuple[str, str]:
    try:
        from recon_lib.weights import store
    except ImportError as error:
        return WRONG, str(error)
    folder = store.folder()
    try:
        store.check(folder, hashing=False)  # hashing a new folder takes a minute
    except store.WeightsError as error:
        return WRONG if (folder / store.LOCK).exists() else MISSING, str(error).splitlines()[0]
    return OK, str(folder)


def _driver_version() -> str | None:
    said = _ask_program("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    proc = Path("/proc/driver/nvidia/version")  # where a container lacks nvidia-smi
    found = re.search(r"\d+\.\d+(\.\d+)?", said or (proc.read_text() if proc.exists() else ""))
    return found[0] if found else None


def _ask_program(*command: str) -> str | None:
    """What a program prints; None if it is absent, fails, or takes more than 3 seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def chromium() -> str | None:
    """The path of an installed Chromium; None if there is none."""
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright"
    installed = [shutil.which(name) for name in CHROMIUM] + [
        str(path) for path in sorted(Path(named).glob("chromium*"))
    ]
    return next((path for path in installed if path), None)
