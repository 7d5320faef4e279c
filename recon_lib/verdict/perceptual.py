"""LPIPS (Zhang et al. 2018) by torchmetrics, where its network is there; nothing is ever downloaded for it.

It needs torchvision and the weights of AlexNet, which torchvision looks for in torch's own folder. Pictures are those that the
scores compare, white outside of both masks, so the measure is that of the box and not of the mask.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch

from recon_lib.verdict.images import Comparison

WEIGHTS = "alexnet-owt-7be5be79.pth"  # as torchvision names them
PACKAGES = ("torchmetrics", "torchvision")
LEAST_SIDE = 64  # pixels; AlexNet halves a smaller picture to nothing


def absent(views: Sequence[Comparison]) -> str:
    """Why LPIPS of these views cannot be measured here, in words; empty if it can."""
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        return f"LPIPS: absent, {' and '.join(missing)} not installed"
    if not (Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS).exists():
        return f"LPIPS: absent, no {WEIGHTS} in torch's folder of checkpoints"
    if broken := _broken():
        return f"LPIPS: absent, {broken}"
    least = min(min(view.true_mask.shape) for view in views)
    return "" if least >= LEAST_SIDE else f"LPIPS: absent, a compared picture is {least} pixels, needed {LEAST_SIDE}"


def _broken() -> str:
    """Why torchvision cannot be imported, in words: one that was built for another torch raises RuntimeError."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        return f"torchvision does not import ({error})"
    return ""


def measure(views: Sequence[Comparison]) -> float | None:
    """The mean over the views, 0 is the same; None where it is `absent`."""
    if absent(views):
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    with torch.no_grad():
        for view in views:
            pictures = (torch.from_numpy(picture).float().clamp(0, 1) for picture in (view.photo, view.rendered))
            network.update(*(picture.permute(2, 0, 1)[None] for picture in pictures))
    return network.compute().item()
