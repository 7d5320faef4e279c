"""What this machine has and lacks for each way of running: one row per check, with the command that repairs it.

`rows` is a plain function of the facts that `probe` has collected. GB are 2**30 bytes.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from recon_lib.machine import probe
from recon_lib.machine.probe import MISSING, OK, UPSTREAM, WRONG, Facts, Gpu, Package

PINNED_COMMIT = (
    "f6720923260927333e22761fa722144d214733d9"  # the same as in coarse.reconviagen.upstream, which imports torch
)
GPU_GB, RECONVIAGEN_GB = 12.0, 16.0  # free GPU memory; the same as in raster.select and coarse.reconviagen.upstream
DISK_GB, MEMORY_GB = 2.0, 4.0  # free disk for a few runs; the largest stage on the CPU was seen to use 1.4 GB of memory
DRIVERS = {"11": 450, "12": 525, "13": 580}  # CUDA version that torch is built for -> oldest driver that works
CPU = ("python", "packages", "torch", "disk", "cores", "memory")
CUDA = (*CPU, "CUDA", "driver")
DEMANDED = {
    "cpu": CPU,
    "gpu": (*CUDA, "GPU memory", "nvdiffrast"),
    "reconviagen": (
        *CUDA, "GPU memory for ReconViaGen", "spconv", "attention", "ReconViaGen's packages", "ReconViaGen", "weights"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The result of one check."""

    name: str
    state: str  # ok, missing or wrong
    found: str
    needed: str
    mend: str  # the command that repairs it; "" if the check is ok


def examine(outputs: Path = Path("outputs")) -> list[Row]:
    """Examines this machine; `outputs` is the folder whose disk must have room."""
    return rows(probe.probe(outputs))


def passes(found: list[Row], purpose: str | None) -> bool:
    """Whether every row that the purpose needs is ok; `purpose` is a key of DEMANDED, None means cpu."""
    return all(row.state == OK for row in found if row.name in DEMANDED[purpose or "cpu"])


def rows(facts: Facts) -> list[Row]:
    """Judges the facts, one row per check."""
    return [
        _row("python", (3, 11) <= facts.python[:2] <= (3, 12), ".".join(map(str, facts.python)), "3.11 or 3.12",
             "make clean, then make PYTHON=python3.12"),
        _row("packages", not facts.absent, ", ".join(facts.absent) + " absent" if facts.absent else "all",
             "what pyproject.toml names", "python -m pip install -c constraints/cpu.txt -e ."),
        _package("torch", facts.torch, "2.4", "python -m pip install -c constraints/cpu.txt torch"),
        _cuda(facts),
        _driver(facts),
        _gpu_memory("GPU memory", facts.gpu, GPU_GB),
        _gpu_memory("GPU memory for ReconViaGen", facts.gpu, RECONVIAGEN_GB),
        _package("nvdiffrast", facts.packages.get("nvdiffrast", Package()), "0.4",
                 "python -m pip install --no-build-isolation git+https://github.com/NVlabs/nvdiffrast.git@v0.4.0"),
        _package("spconv", facts.packages.get("spconv", Package()), "2.3.6",
                 "python -m pip install -c constraints/gpu.txt -e '.[gpu]'  # Python 3.11, CUDA 12"),
        _attention(facts),
        _upstream(facts),
        _checkout(facts),
        _row("weights", facts.weights[0] == OK, facts.weights[1], "all files with their sizes", "recon weights fetch",
             facts.weights[0]),
        _row("disk", facts.disk_gb >= DISK_GB, f"{facts.disk_gb:.1f} GB free in outputs", f"{DISK_GB:g} GB",
             "delete runs in outputs"),
        _row("cores", facts.cores >= 1, str(facts.cores), "1", ""),
        _threads(facts.threads),
        _row("memory", facts.memory_gb is not None and facts.memory_gb >= MEMORY_GB,
             "unknown: psutil does not load" if facts.memory_gb is None else f"{facts.memory_gb:.1f} GB",
             f"{MEMORY_GB:g} GB", "use a machine or a container with more memory"),
        _row("Chromium", facts.chromium is not None, facts.chromium or "none", "optional: screenshots in the tests",
             "python -m playwright install chromium", MISSING),
    ]  # fmt: skip


def _row(name: str, fine: bool, found: str, needed: str, mend: str, otherwise: str = WRONG) -> Row:
    return Row(name, OK if fine else otherwise, found, needed, "" if fine else mend)


def _package(name: str, package: Package, least: str, mend: str) -> Row:
    needed = f"{least} or later"
    if package.problem is not None:
        return Row(name, WRONG, f"does not load: {package.problem}", needed, mend)
    if package.version is None:
        return Row(name, MISSING, "not installed", needed, mend)
    return _row(name, _numbers(package.version) >= _numbers(least), package.version, needed, mend)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))


def _cuda(facts: Facts) -> Row:
    needed, mend = (
        "a GPU that torch sees",
        "python -m pip install --index-url https://download.pytorch.org/whl/cu126 torch",
    )
    if facts.gpu:
        return Row("CUDA", OK, f"{facts.gpu.name}, torch built for CUDA {facts.built_for}", needed, "")
    if facts.torch.version is None:
        return Row("CUDA", MISSING, "torch does not load", needed, mend)
    if facts.built_for is None:
        return Row("CUDA", MISSING, f"torch {facts.torch.version} is built for the CPU", needed, mend)
    found = facts.gpu_problem or "no GPU"
    state = WRONG if facts.gpu_problem else MISSING
    return Row(
        "CUDA", state, f"torch built for CUDA {facts.built_for}: {found}", needed, "nvidia-smi; docker run --gpus all"
    )


def _driver(facts: Facts) -> Row:
    least = DRIVERS.get((facts.built_for or "12").split(".")[0], max(DRIVERS.values()))
    needed, mend = f"{least} or later", f"install NVIDIA's driver {least} or later"
    if facts.driver is None:
        return Row("driver", MISSING, "none", needed, mend)
    return _row("driver", _numbers(facts.driver) >= (least,), facts.driver, needed, mend)


def _gpu_memory(name: str, gpu: Gpu | None, needed_gb: float) -> Row:
    if gpu is None:
        return Row(name, MISSING, "no GPU", f"{needed_gb:g} GB free", "mend CUDA first")
    mend = "nvidia-smi: end what else uses it, or take a larger one"
    return _row(name, gpu.free_gb >= needed_gb, f"{gpu.free_gb:.1f} GB free", f"{needed_gb:g} GB free", mend)


def _threads(layer: Package) -> Row:
    """The kernels run on any library, but workqueue runs one kernel at a time, and TBB may spin for minutes at exit."""
    needed = "omp; workqueue and tbb do, less well"
    if layer.version is None:
        found = "numba is not installed" if layer.problem is None else f"does not start: {layer.problem}"
        return Row("threads", MISSING if layer.problem is None else WRONG, found, needed, "unset NUMBA_THREADING_LAYER")
    return _row("threads", layer.version == "omp", layer.version, needed,
                "unset NUMBA_THREADING_LAYER; apt-get install libgomp1")  # fmt: skip


def _attention(facts: Facts) -> Row:
    """The first attention library that is installed; torch's own always works."""
    needed = "flash_attn, xformers or torch's own"
    for name in ("flash_attn", "xformers"):
        package = facts.packages.get(name, Package())
        if package.problem is not None:
            mend = f"python -m pip uninstall {name.replace('_', '-')}"
            return Row("attention", WRONG, f"{name} does not load: {package.problem}", needed, mend)
        if package.version is not None:
            return Row("attention", OK, f"{name} {package.version}", needed, "")
    own = facts.torch.version is not None
    found = f"torch {facts.torch.version}'s own" if own else "none: torch does not load"
    return _row("attention", own, found, needed, "mend torch", MISSING)


def _upstream(facts: Facts) -> Row:
    found = {name: facts.packages.get(name, Package()) for name in UPSTREAM}
    broken = [
        f"{name} does not load: {package.problem}" for name, package in found.items() if package.problem is not None
    ]
    absent = [name for name, package in found.items() if package == Package()]
    said = "; ".join(broken + ([f"{', '.join(absent)} absent"] if absent else [])) or "all"
    mend = f"python -m pip install {' '.join(absent)}" if absent else "install them for this torch"
    return _row("ReconViaGen's packages", said == "all", said, ", ".join(UPSTREAM), mend, WRONG if broken else MISSING)


def _checkout(facts: Facts) -> Row:
    if facts.root is None or not facts.root.is_dir():
        found = "RECONVIAGEN_ROOT is not set" if facts.root is None else f"{facts.root}: no such folder"
        mend = (
            "git clone https://github.com/GAP-LAB-CUHK-SZ/ReconViaGen DIR; "
            f"git -C DIR checkout {PINNED_COMMIT}; export RECONVIAGEN_ROOT=DIR"
        )
        return Row("ReconViaGen", MISSING, found, f"commit {PINNED_COMMIT}", mend)
    mend = f"git -C {facts.root} checkout {PINNED_COMMIT}"
    found = f"{facts.root}: {facts.commit or 'no git checkout'}"
    return _row("ReconViaGen", facts.commit == PINNED_COMMIT, found, f"commit {PINNED_COMMIT}", mend)
