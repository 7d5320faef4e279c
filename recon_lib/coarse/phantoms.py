"""Bodies that the masks do not need: a hull has phantoms, pieces of space that lie behind the object in every photo.

A real body stands out beside the others in some photos. Bodies are asked in order of their size, each against all larger ones
that are real. Silhouettes are compared in pixels as large as a voxel. Axes: X Y Z grid points, N bodies, P points.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy import ndimage

from recon_lib import camera
from recon_lib.camera import Cameras

STANDS_OUT = 0.1  # share of a body's surface points, over all views, that lie beside the others' silhouettes
AROUND = ndimage.generate_binary_structure(3, 1)


def real(
    bodies: Int[np.ndarray, "X Y Z"], names: Int[np.ndarray, " N"], cameras: Cameras, origin: np.ndarray, spacing: float
) -> Bool[np.ndarray, " N"]:
    """Which of the bodies `names`, the largest first, the masks need; `bodies` has the name of each grid point's body."""
    if len(names) < 2:
        return np.ones(len(names), bool)
    shell = np.isin(bodies, names) & (ndimage.grey_erosion(bodies, footprint=AROUND) == 0)
    points, name_of = np.argwhere(shell), bodies[shell]
    pixels, widths, size = _pixels(points * spacing + origin, cameras, spacing)
    covered = np.zeros((len(cameras), size), bool)
    found = np.zeros(len(names), bool)
    for n, name in enumerate(names.tolist()):
        mine = pixels[:, name_of == name]
        inside = mine >= 0
        beside = inside & ~np.take_along_axis(covered, np.maximum(mine, 0), 1)
        found[n] = beside.sum() > STANDS_OUT * max(inside.sum(), 1)
        if found[n]:
            for view, width in enumerate(widths):
                at = np.unique(mine[view][inside[view]])
                for row in (-1, 0, 1):
                    for column in (-1, 0, 1):
                        covered[view, at + row * width + column] = True
    return found


def _pixels(points: np.ndarray, cameras: Cameras, spacing: float) -> tuple[Int[np.ndarray, "B P"], list[int], int]:
    """Each point's pixel in each view's flat image, which has a border, -1 outside; the images' widths; the largest size."""
    xy, depth = camera.project(cameras, torch.from_numpy(points).to(cameras.T_world_cam))
    places, widths, largest = np.full(depth.shape, -1), [], 0
    for view, (at, z) in enumerate(zip(xy.double().numpy(), depth.double().numpy(), strict=True)):
        size = cameras.sizes[view].numpy()
        seen = (z > 0) & (at >= 0).all(1) & (at < size).all(1)
        voxel = 1.0 if not seen.any() else max(cameras.intrinsics[view, 0].item() * spacing / np.median(z[seen]), 1.0)
        columns, rows = (np.floor(size / voxel).astype(int) + 3).tolist()
        cell = np.floor(at[seen] / voxel).astype(int) + 1
        places[view, seen] = cell[:, 1] * columns + cell[:, 0]
        widths.append(columns)
        largest = max(largest, rows * columns)
    return places, widths, largest
