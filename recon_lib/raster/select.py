"""Which implementation runs: by name, or the GPU's where there is a GPU."""

from importlib import import_module
from importlib.util import find_spec

import torch

from recon_lib.raster.interface import Rasteriser

NEEDED_GB = 12.0  # free memory of a GPU


def rasteriser(device: str) -> tuple[Rasteriser, str]:
    """The module for "cpu", "cuda" or "auto", and one sentence that says why it is this one.

    Raises ValueError where the device asked for cannot run, and for "auto" where a GPU is there but not fit for use: that
    one falls back to the CPU only when there is no GPU.
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
