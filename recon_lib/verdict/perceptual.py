"""LPIPS (Zhang et al. 2018) by torchmetrics, where its network is there; nothing is ever downloaded for it.

It needs torchvision and the weights of AlexNet, which torchvision looks for in torch's own folder. Pictures are those that the
scores compare, white outside of both masks, so the measure is that of the box and not of the mask.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import torch

from recon_lib.verdict.images import Comparison

WEIGHTS = "alexnet-owt-7be5be79.pth"  # as torchvision names them
PACKAGES = ("torchmetrics", "torchvision")
LEAST_SIDE = 64  # pixels; AlexNet halves a smaller picture to nothing


def absent() -> str:
    """Why LPIPS cannot be measured here, in words; empty if it can."""
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        return f"LPIPS: absent, {' and '.join(missing)} not installed"
    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    return "" if path.exists() else f"LPIPS: absent, no {WEIGHTS} in torch's folder of checkpoints"


def measure(views: Iterable[Comparison]) -> float | None:
    """The mean over the views, 0 is the same; None where it is `absent`, and for pictures that are too small."""
    if absent():
        return None
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity as lpips

    found = []
    for view in views:
        photo, rendered = (
            torch.from_numpy(picture).float().clamp(0, 1).permute(2, 0, 1)[None]
            for picture in (view.photo, view.rendered)
        )
        if min(photo.shape[2:]) >= LEAST_SIDE:
            found.append(lpips(photo, rendered, net_type="alex", normalize=True).item())
    return sum(found) / len(found) if found else None
