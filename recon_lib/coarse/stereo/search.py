"""The search for each photo's depths at two scales: the coarser one finds planes, the finer one improves them.

On the CPU the kernels are numba's (`patchmatch`), on a GPU torch's (`patchmatch_torch`); both take the same arguments.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int

from recon_lib.camera import Cameras
from recon_lib.coarse.config import StereoConfig
from recon_lib.coarse.stereo import patchmatch, patchmatch_torch
from recon_lib.coarse.stereo import views as views_
from recon_lib.coarse.stereo.views import Views
from recon_lib.progress import Progress

LEAST_GAIN = np.float32(0.15)  # of the cost, by which a depth must beat the hull's surface close by
# Depths this near to the hull's surface are its own: a share of the bounding grid's diagonal, and at least a voxel.
HULL_REACH = 0.01
TOGETHER = 8_000_000  # on a GPU, pixels times other photos whose patches are compared at once, at most
BYTES = 3000  # of a GPU's free memory, for each of them


def search(
    images: tuple[np.ndarray, ...],
    cameras: Cameras,
    fine: Views,
    config: StereoConfig,
    others: Int[np.ndarray, "B N"],
    hull: tuple[np.ndarray, np.ndarray, float],
    bounds: Float32[np.ndarray, "B 3 H W"],
    device: str,
    progress: Progress,
) -> tuple[Float32[np.ndarray, "B H W 3"], Float32[np.ndarray, "B H W"]]:
    """The plane (inverse depth and its slopes) and the cost at each pixel of the finer scale, whose crops are `fine`.

    `others` are the photos that each one is compared with, `hull` is the hull's field, origin and spacing, and `bounds` what
    `views.hull_bounds` says of it at the finer scale.
    """
    planes = np.zeros((len(images), 1, 1, 3), np.float32)
    for level, (tries, passes) in enumerate(((config.random_depths, config.coarse_passes), (0, config.fine_passes))):
        shown = fine if level else views_.crop_views(images, cameras, config.size // 2)
        known = bounds if level else views_.hull_bounds(shown, *hull)
        planes = _twice(planes, shown.masks.shape[1:])
        costs = np.full(shown.masks.shape, patchmatch.WORST, np.float32)
        # The photos and masks of all views are given to every kernel, so they go to the device once.
        compared = (shown.greys, shown.masks) if device == "cpu" else _on(device, shown.greys, shown.masks)
        for photos in _together(shown, others, device):
            near = compared, others[photos], _reach(hull), known[photos], planes[photos], costs[photos]
            planes[photos], costs[photos] = _search_views(shown, photos, near, tries, passes, config.seed, device)
            share = (level + (photos[-1] + 1) / len(images)) / 2
            progress(share, f"depth of photo {photos[-1] + 1} of {len(images)}, {max(shown.masks.shape[1:])} pixels")
    return planes, costs


def _together(shown: Views, others: Int[np.ndarray, "B N"], device: str) -> list[list[int]]:
    """The numbers of the photos that are searched at once: one on the CPU, on a GPU as many as its memory takes."""
    most = 1
    if device != "cpu":
        free, _ = torch.cuda.mem_get_info(device)
        most = max(1, min(TOGETHER, free // BYTES) // (shown.masks[0].size * others.shape[1]))
    return [list(range(i, min(i + most, len(others)))) for i in range(0, len(others), most)]


def _on(device: str, *arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]


def _twice(planes: Float32[np.ndarray, "B h w 3"], shape: tuple[int, int]) -> Float32[np.ndarray, "B H W 3"]:
    """The planes of the coarser scale at the pixels of the finer one."""
    rows, columns = (np.minimum(np.arange(n) // 2, m - 1) for n, m in zip(shape, planes.shape[1:3], strict=True))
    return planes[:, rows[:, None], columns] * np.array([1, 0.5, 0.5], np.float32)


def _search_views(
    shown: Views, photos: list[int], near: tuple, tries: int, passes: int, seed: int, device: str
) -> tuple[Float32[np.ndarray, "B H W 3"], Float32[np.ndarray, "B H W"]]:
    """Planes and costs of some photos; with `tries` they are guessed first, else those given are improved."""
    compared, others, reach, bounds, plane, cost = near
    low, high, surface = bounds.transpose(1, 0, 2, 3)
    M, m = _stacked(views_.homographies(shown, i, o) for i, o in zip(photos, others, strict=True))
    plane[..., 0] = np.where(plane[..., 0] > 0, plane[..., 0].clip(low, high), 0)
    hull = np.stack([hull_planes(s) for s in surface])
    arrays = others, M, m, low, high, hull, reach * surface**2, plane, cost
    kernels: Any
    which: Any
    given: list[Any]
    if device == "cpu":  # numba's kernels take one photo
        kernels, which, given = patchmatch, photos[0], [array[0] for array in arrays]
    else:
        kernels, which, given = patchmatch_torch, torch.tensor(photos, device=device), _on(device, *arrays)
    compared, inside, its_hull, found = (*compared, which, *given[:3]), given[3:5], given[5:7], given[7:]
    kernels.start(*compared, *inside, *found, max(tries, 1), seed)
    for k in range(passes):
        for colour in (0, 1):
            radius = np.float32(0.5**k if tries else 0.1 * 0.5**k)
            kernels.improve(*compared, *inside, *found, colour, radius, seed + 2 * k + colour + 1)
    if not tries:
        kernels.prefer_hull(*compared, *its_hull, LEAST_GAIN, *found)
    return (plane, cost) if device == "cpu" else (found[0].cpu().numpy(), found[1].cpu().numpy())


def _reach(hull: tuple[np.ndarray, np.ndarray, float]) -> np.float32:
    """Depths so near to the hull's surface are its own."""
    field, _, spacing = hull
    return np.float32(spacing * max(HULL_REACH * float(np.linalg.norm(field.shape)), 1.0))


def _stacked(arrays: Iterable[tuple[np.ndarray, ...]]) -> Iterator[np.ndarray]:
    """The first arrays of all, the second, and so on, each as one array."""
    return (np.stack(some) for some in zip(*arrays, strict=True))


def hull_planes(surface: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
    """The hull's inverse depth and its slopes; a slope is 0 where a neighbour misses the hull."""
    down, along = np.gradient(np.where(surface > 0, surface, np.nan))
    slope = np.nan_to_num(np.stack([along, down], -1)).astype(np.float32)
    return np.concatenate([surface[..., None], slope], -1)
