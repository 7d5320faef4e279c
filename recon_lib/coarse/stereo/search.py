"""The search for each photo's depths at two scales: the coarser one finds planes, the finer one improves them.

On the CPU the kernels are numba's (`patchmatch`), on a GPU torch's (`patchmatch_torch`); both take the same arguments.
"""

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
HULL_REACH = (
    0.01  # of the bounding grid's diagonal, at least a voxel: depths this near to the hull's surface are its own
)


def search(
    images: tuple[np.ndarray, ...],
    cameras: Cameras,
    config: StereoConfig,
    others: Int[np.ndarray, "B N"],
    bounds: tuple[np.ndarray, np.ndarray, float],
    device: str,
    progress: Progress,
) -> tuple[Float32[np.ndarray, "B H W 3"], Float32[np.ndarray, "B H W"]]:
    """The plane (inverse depth and its slopes) and the cost at each pixel of the finer scale.

    `others` are the photos that each one is compared with, `bounds` the hull's field, origin and spacing.
    """
    planes, costs = np.zeros((len(images), 1, 1, 3), np.float32), np.zeros((len(images), 1, 1), np.float32)
    for level, (size, tries, passes) in enumerate(
        ((config.size // 2, config.random_depths, config.coarse_passes), (config.size, 0, config.fine_passes))
    ):
        shown = views_.crop_views(images, cameras, size)
        greys, masks = _given(device, shown.greys, shown.masks)
        before, planes = planes, np.zeros((*shown.masks.shape, 3), np.float32)
        costs = np.full(shown.masks.shape, patchmatch.WORST, np.float32)
        for i in range(len(images)):
            if level:
                planes[i] = _twice(before[i], shown.masks.shape[1:])
            M, m = views_.homographies(shown, i, others[i])
            compared = greys, masks, i, *_given(device, others[i], M, m)
            _search_view(
                shown, i, compared, bounds, planes[i], costs[i], tries, passes, config.seed, level == 1, device
            )
            progress((level + (i + 1) / len(images)) / 2, f"depth of photo {i + 1} of {len(images)}, {size} pixels")
    return planes, costs


def _given(device: str, *arrays: np.ndarray) -> tuple:
    """The arrays as the kernels of the device take them."""
    return arrays if device == "cpu" else tuple(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays)


def _twice(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The planes of the coarser scale at the pixels of the finer one."""
    rows, columns = (np.minimum(np.arange(n) // 2, m - 1) for n, m in zip(shape, plane.shape[:2], strict=True))
    return plane[rows[:, None], columns] * np.array([1, 0.5, 0.5], np.float32)


def _search_view(
    shown: Views, i: int, compared: tuple, bounds: tuple, plane: np.ndarray, cost: np.ndarray, tries: int, passes: int,
    seed: int, final: bool, device: str,
) -> None:  # fmt: skip
    """Changes `plane` and `cost`; `compared` are the kernels' first arguments."""
    kernels = patchmatch if device == "cpu" else patchmatch_torch
    low, high, surface = views_.hull_bounds(shown, i, *bounds)
    plane[..., 0] = np.where(plane[..., 0] > 0, plane[..., 0].clip(low, high), 0)
    found = _given(device, plane, cost)
    inside = _given(device, low, high)
    kernels.start(*compared, *inside, *found, max(tries, 1), seed)
    for k in range(passes):
        for colour in (0, 1):
            radius = np.float32(0.5**k if tries else 0.1 * 0.5**k)
            kernels.improve(*compared, *inside, *found, colour, radius, seed + 2 * k + colour + 1)
    if final:
        field, _, spacing = bounds
        reach = np.float32(spacing * max(HULL_REACH * np.linalg.norm(field.shape), 1.0))
        hull = _given(device, hull_planes(surface), reach * surface**2)
        kernels.prefer_hull(*compared, *hull, LEAST_GAIN, *found)
    if device != "cpu":
        plane[:], cost[:] = (tensor.cpu().numpy() for tensor in found)


def hull_planes(surface: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
    """The hull's inverse depth and its slopes; a slope is 0 where a neighbour misses the hull."""
    down, along = np.gradient(np.where(surface > 0, surface, np.nan))
    slope = np.nan_to_num(np.stack([along, down], -1)).astype(np.float32)
    return np.concatenate([surface[..., None], slope], -1)
