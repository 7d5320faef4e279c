"""Chooses the implementation: by name, or with "auto" the GPU's if there is a GPU."""

from importlib import import_module
from importlib.util import find_spec

import torch

from recon_lib.raster.interface import Rasteriser

NEEDED_GB = 12.0  # free GPU memory, 2**30 bytes


def rasteriser(device: str) -> tuple[Rasteriser, str]:
    """The module for "cpu", "cuda" or "auto", and one sentence that says why it was chosen.

    "auto" takes the CPU only if there is no GPU. Raises ValueError if the device asked for cannot run, and for "auto" if there
    is a GPU that cannot be used.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: got {device!r}, need auto, cpu or cuda")
    if device == "cpu":
        return import_module("recon_lib.raster.cpu"), "`cpu` was asked for"
    if not torch.cuda.is_available():
        if device == "cuda":
            raise ValueError("device cuda: got no CUDA GPU that torch can use, need one; or choose cpu")
        return import_module("recon_lib.raster.cpu"), "`auto` chose the CPU: torch sees no CUDA GPU"
    name, free = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0] / 2**30
    if find_spec("nvdiffrast") is None:
        raise ValueError(f"device {device}: {name} without nvdiffrast, need nvdiffrast 0.4 to use it; or choose cpu")
    if free < NEEDED_GB:
        raise ValueError(f"device {device}: {name} has {free:.1f} GB free, need {NEEDED_GB:g} GB; or choose cpu")
    return import_module("recon_lib.raster.cuda"), f"{name} with {free:.0f} GB free"


def any_rasteriser(device: str) -> Rasteriser:
    """The module for a device as `rasteriser` chooses it, and the CPU's where that cannot run."""
    try:
        return rasteriser(device)[0]
    except ValueError:
        return import_module("recon_lib.raster.cpu")
