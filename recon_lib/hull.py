"""Visual hull: the largest solid whose silhouettes lie inside all masks (Laurentini 1994).

The solid is sampled as a field of signed distances, negative inside: at each grid point the largest over the views of the
signed pixel distance to the mask's outline times the pixel's footprint there, so the surface lies between grid points and
not on them. A view that does not see a point says nothing about it. Lengths are world units. Axes: V vertices, F faces.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import gpytoolbox
import numpy as np
import torch
from scipy import ndimage
from skimage import measure

from recon_lib.camera import Cameras, invert_rigid
from recon_lib.carving import carve
from recon_lib.mesh import Mesh, face_areas

BOUNDS_RESOLUTION = 48  # grid points a side of the first pass, which only finds the object's box


@dataclass(frozen=True)
class HullConfig:
    resolution: int = 128  # grid points along the object's longest side
    faces: int = 12000  # at most


def visual_hull(
    alphas: list[np.ndarray], cameras: Cameras, config: HullConfig, progress=lambda share, what: None
) -> Mesh:
    """Closed, outward, one body of even triangles, from alpha masks (H W, 0 to 1).

    Raises ValueError where the masks contradict the cameras: no point is inside all of them.
    """
    progress(0, "measuring masks")
    with ThreadPoolExecutor() as pool:
        distances = list(pool.map(signed_distance, alphas))
    progress(0.2, "bounding the object")
    centre, half = _first_box(alphas, cameras)
    field, origin, spacing = _field(
        distances, cameras, centre - half, 2 * half / (BOUNDS_RESOLUTION - 1), (BOUNDS_RESOLUTION,) * 3
    )
    inside = np.argwhere(field < spacing)
    if len(inside) == 0:
        raise ValueError(
            f"visual hull: no point of space lies inside all {len(alphas)} masks, need one; check the poses' convention "
            "(camera-to-world, OpenGL axes) and that each mask belongs to its pose"
        )
    low, high = origin + (inside.min(0) - 1) * spacing, origin + (inside.max(0) + 1) * spacing
    spacing = (high - low).max() / (config.resolution - 1)
    shape = tuple(np.ceil((high - low) / spacing).astype(int) + 1)
    progress(0.3, "carving")
    field, origin, spacing = _field(distances, cameras, low, spacing, shape)
    field = one_body(np.pad(field, 1, constant_values=spacing), spacing)
    return meshed(field, origin - spacing, spacing, config.faces, lambda s, what: progress(0.6 + 0.4 * s, what))


def meshed(
    field: np.ndarray, origin: np.ndarray, spacing: float, faces: int, progress=lambda share, what: None
) -> Mesh:
    """The zero set of a field of distances, positive at its border, in at most `faces` even triangles."""
    progress(0, "meshing")
    # The field grows outwards; scikit-image then winds faces so that normals point up the gradient: outwards.
    verts, triangles, _, _ = measure.marching_cubes(field, 0.0, spacing=(spacing,) * 3)
    progress(0.25, "remeshing")
    remeshed = even(verts + origin, np.ascontiguousarray(triangles), faces)
    progress(1.0, "remeshed")
    return remeshed


def signed_distance(alpha: np.ndarray) -> np.ndarray:
    """Pixels to the mask's outline (alpha 0.5) from each pixel centre, negative inside; a soft edge places it exactly."""
    inside = alpha > 0.5
    if inside.all():
        return np.full(alpha.shape, -np.float32(max(alpha.shape)))
    outer, inner = (
        cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for m in (~inside, inside)
    )
    distance = outer - inner
    distance -= 0.5 * np.sign(distance)
    return np.where((alpha > 0) & (alpha < 1), 0.5 - alpha, distance).astype(np.float32)


def _first_box(alphas: list[np.ndarray], cameras: Cameras) -> tuple[np.ndarray, float]:
    """Centre and half side of a cube around the object: where the rays through the masks' centres meet."""
    T = cameras.T_world_cam.double().numpy()
    focal, principal = cameras.intrinsics.double().numpy()[:, :2], cameras.intrinsics.double().numpy()[:, 2:]
    middle, reach = np.empty((len(alphas), 2)), np.empty(len(alphas))
    for i, alpha in enumerate(alphas):
        rows, columns = np.nonzero(alpha > 0.5)
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        middle[i], reach[i] = (low + high) / 2, np.linalg.norm(high - low) / 2
    ray = np.concatenate([(middle - principal) / focal * [1, -1], -np.ones((len(alphas), 1))], 1)
    ray = np.einsum("nij,nj->ni", T[:, :3, :3], ray / np.linalg.norm(ray, axis=1, keepdims=True))
    across = np.eye(3) - ray[:, :, None] * ray[:, None]  # least squares: the point nearest to all rays
    centre = np.linalg.lstsq(across.sum(0), (across @ T[:, :3, 3:]).sum(0)[:, 0], rcond=None)[0]
    depth = np.linalg.norm(centre - T[:, :3, 3], axis=1)
    return centre, 1.2 * float((depth * reach / focal.min(1)).max())


def _field(distances, cameras, origin, spacing, shape):
    field = np.full(shape, -np.inf, np.float32)
    T_cam_world = invert_rigid(cameras.T_world_cam.double()).numpy()
    intrinsics = cameras.intrinsics.double().numpy()
    for distance, T, k in zip(distances, T_cam_world, intrinsics, strict=True):
        carve(field, origin, spacing, T, k, distance)
    field[np.isinf(field)] = spacing  # seen by no view at all
    return field, origin, spacing


def one_body(field: np.ndarray, spacing: float) -> np.ndarray:
    """Keeps the largest body and fills what no outside air reaches."""
    bodies, count = ndimage.label(field < 0)
    if count == 0:
        raise ValueError("visual hull: the object is thinner than the grid; raise resolution")
    kept = bodies == np.bincount(bodies.ravel())[1:].argmax() + 1
    air, _ = ndimage.label(~kept)
    hollow = ~kept & (air != air[0, 0, 0])
    field = np.where(~kept & (field < 0), np.float32(0.5 * spacing), field)
    return np.where(hollow, np.float32(-spacing), field)


def even(verts: np.ndarray, faces: np.ndarray, most: int) -> Mesh:
    """Isotropic remeshing (Botsch & Kobbelt 2004) to at most `most` faces."""
    area = face_areas(torch.from_numpy(verts), torch.from_numpy(faces)).sum().item()
    budget = 0.97 * most
    while True:
        edge = float(np.sqrt(4 * area / np.sqrt(3) / budget))
        out, tris = gpytoolbox.remesh_botsch(verts.astype(np.float64), faces.astype(np.int32), 6, edge, True)
        if len(tris) <= most:
            return Mesh(
                torch.from_numpy(np.ascontiguousarray(out, np.float32)), torch.from_numpy(tris.astype(np.int32, "C"))
            )
        budget *= 0.97 * most / len(tris)
