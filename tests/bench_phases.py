"""Where the time of a benchmark goes: seconds by phase of one run, beside the whole.

A phase is a function of the library. It is timed while this context holds, by its name in its module, so only calls through the
module are seen; on a GPU it ends when the device has done its work. A phase within another is counted in both.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from recon_lib import render
from recon_lib.coarse import hull, one_body
from recon_lib.photos import crops
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import fit, large_steps, losses, refine
from recon_lib.surface import projection, simplify, unseen, uv

PHASES: tuple[tuple[Any, str, str], ...] = (
    (hull, "carve_field", "carving"),
    (one_body, "keep", "one body"),
    (simplify, "remesh_evenly", "remeshing"),
    (crops, "crop_photos", "crops"),
    (uv, "unwrap", "unwrapping"),
    (projection, "project_photos", "projection"),
    (unseen, "fill", "filling what no photo shows, in projection and at the end"),
    (large_steps.Preconditioner, "__init__", "factor of the large steps"),
    (projection, "explain", "validation"),
    (refine, "finish", "finishing"),
)
STEP: tuple[tuple[Any, str, str], ...] = (
    (render, "rasterised", "rasterising"),
    (render, "shaded", "shading and antialiasing"),
    (losses, "of_images", "image losses"),
    (torch.Tensor, "backward", "backward"),
    (fit._Movers, "step", "optimisers"),
)
WATCHED = 20  # steps, before a GPU records them as one


@contextmanager
def watched(phases: tuple[tuple[Any, str, str], ...] = PHASES) -> Iterator[dict[str, float]]:
    """Seconds by phase, complete when the context ends."""
    seconds: dict[str, float] = {}
    patches = [mock.patch.object(owner, name, _timed(owner, name, what, seconds)) for owner, name, what in phases]
    for patch in patches:
        patch.start()
    try:
        yield seconds
    finally:
        for patch in patches:
            patch.stop()


def _timed(owner: ModuleType | type, name: str, what: str, seconds: dict[str, float]) -> Callable:
    inner = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = inner(*args, **kwargs)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        seconds[what] = seconds.get(what, 0.0) + time.perf_counter() - began
        return result

    return outer


def rows(what: str, seconds: dict[str, float]) -> list[dict]:
    """One row of the benchmark's table per phase."""
    return [_row(f"{what}: of these {phase}", took, "s") for phase, took in seconds.items()]


def step_rows(what: str, setup: refine.Setup, config: fit.FitConfig, raster: Rasteriser) -> list[dict]:
    """Where the time of a step goes, by waiting for the device after each phase."""
    steps = fit.fit(setup.photos, setup.start, config, raster)
    for _ in range(6):
        next(steps)
    with watched(STEP) as seconds:
        began = time.perf_counter()
        for _ in range(WATCHED):
            next(steps)
        whole = time.perf_counter() - began
    phases = {"a step of phases one by one": whole} | {f"of it {phase}": took for phase, took in seconds.items()}
    return [_row(f"{what}: {phase}", 1e3 * took / WATCHED, "ms") for phase, took in phases.items()]


def _row(name: str, value: float, unit: str) -> dict:
    return {"name": name, "value": value, "unit": unit, "reference": ""}
