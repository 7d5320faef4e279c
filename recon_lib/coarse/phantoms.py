"""What the masks need, and what they do not: a hull has phantoms, pieces of space that lie behind the object in every photo.

A real body stands out beside the others in some photos. Bodies are asked in order of their size, each against all larger ones
that are real. Silhouettes are compared in pixels as large as a voxel. Axes: X Y Z grid points, N bodies, P points, B views.
"""

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from recon_lib.camera import Cameras, invert_rigid
from recon_lib.coarse import carving

STANDS_OUT = 0.1  # share of a body's surface points, over all views, that lie beside the others' silhouettes
MOSTLY = 0.5  # of the views that look at a point
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
        found[n] = _beside(mine, covered).sum() > STANDS_OUT * max((mine >= 0).sum(), 1)
        if found[n]:
            _cover(covered, mine, widths)
    return found


def missed(
    kept: Bool[np.ndarray, "X Y Z"],
    left_out: Bool[np.ndarray, "X Y Z"],
    cameras: Cameras,
    origin: np.ndarray,
    spacing: float,
) -> Bool[np.ndarray, "X Y Z"]:
    """The points of `left_out` that most views in whose image they lie show beside `kept`: without them masks stay empty."""
    shell = kept & ~ndimage.binary_erosion(kept, AROUND)
    points = np.concatenate([np.argwhere(shell), np.argwhere(left_out)])
    pixels, widths, size = _pixels(points * spacing + origin, cameras, spacing)
    covered, asked = np.zeros((len(cameras), size), bool), pixels[:, shell.sum() :]
    _cover(covered, pixels[:, : shell.sum()], widths)
    found = np.zeros(kept.shape, bool)
    found[left_out] = _beside(asked, covered).sum(0) > MOSTLY * (asked >= 0).sum(0)
    return found


def _beside(pixels: Int[np.ndarray, "B P"], covered: Bool[np.ndarray, "B S"]) -> Bool[np.ndarray, "B P"]:
    return (pixels >= 0) & ~np.take_along_axis(covered, np.maximum(pixels, 0), 1)


def _cover(covered: Bool[np.ndarray, "B S"], pixels: Int[np.ndarray, "B P"], widths: list[int]) -> None:
    """Marks these pixels and the eight around each."""
    for row, mine, width in zip(covered, pixels, widths, strict=True):
        at = np.unique(mine[mine >= 0])
        for down in (-width, 0, width):
            for right in (-1, 0, 1):
                row[at + down + right] = True


def _pixels(points: np.ndarray, cameras: Cameras, spacing: float) -> tuple[Int[np.ndarray, "B P"], list[int], int]:
    """Each point's pixel in each view's flat image, which has a border, -1 outside; the images' widths; the largest size."""
    T_cam_world = invert_rigid(cameras.T_world_cam.double()).numpy()
    intrinsics, sizes = cameras.intrinsics.double().numpy(), cameras.sizes.numpy()
    places, widths, largest = np.full((len(cameras), len(points)), -1, np.int32), [], 0
    at, depth = np.empty((len(points), 2), np.float32), np.empty(len(points), np.float32)
    for view, (T, k, size) in enumerate(zip(T_cam_world, intrinsics, sizes, strict=True)):
        carving.look_up(at, depth, points, T, k, *size)
        seen = depth[depth > 0]
        voxel = max(k[0] * spacing / np.median(seen), 1.0) if len(seen) else 1.0
        columns, rows = (np.floor(size / voxel).astype(int) + 3).tolist()
        carving.enter_cells(places[view], at, depth, voxel, columns)
        widths.append(columns)
        largest = max(largest, rows * columns)
    return places, widths, largest
