"""Visual hull: the largest solid whose silhouettes lie inside all masks (Laurentini 1994).

The solid is sampled as a field of signed distances, negative inside. Each view that sees a grid point gives the signed pixel
distance to its mask's outline times the size of a pixel at that depth; the field is the largest of these. The surface can
therefore lie anywhere between grid points. Lengths are world units. Axes: V vertices, F faces.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from recon_lib.camera import Cameras, invert_rigid
from recon_lib.coarse import carving, one_body, phantoms, visibility
from recon_lib.coarse.carving import carve
from recon_lib.coarse.config import HullConfig
from recon_lib.mesh import Mesh
from recon_lib.photos import framing
from recon_lib.progress import Progress, part, silent
from recon_lib.surface import grid_mesh

BOUNDS_RESOLUTION = 48  # grid points per side in the first pass, which only finds the object's box
BOUNDS_SIZE = (
    160  # pixels along the longer side of the first pass's mesh in a photo, where is looked which of its faces are seen
)


class Hull(NamedTuple):
    mesh: Mesh
    kept: one_body.Kept


def visual_hull(alphas: list[np.ndarray], cameras: Cameras, config: HullConfig, progress: Progress = silent) -> Mesh:
    """`hull_in_one` without the account of what was dropped."""
    return hull_in_one(alphas, cameras, config, progress).mesh


def hull_in_one(alphas: list[np.ndarray], cameras: Cameras, config: HullConfig, progress: Progress = silent) -> Hull:
    """The hull of alpha masks (H W, 0 to 1, one per view): one closed body of even triangles with normals outwards.

    Raises ValueError if no point is inside all masks, that is, if masks and cameras contradict each other, and if the object is
    thinner than the grid; `one_body.TornApart` where the object is not one body.
    """
    field, origin, spacing = carve_field(alphas, cameras, config.resolution, part(progress, 0.0, 0.6))
    field, kept = one_body.keep(np.pad(field, 1, constant_values=spacing), origin - spacing, spacing, cameras)
    mesh = grid_mesh.mesh_of_field(field, origin - spacing, spacing, config.faces, part(progress, 0.6, 1.0))
    return Hull(mesh, kept)


def carve_field(
    alphas: list[np.ndarray], cameras: Cameras, resolution: int, progress: Progress = silent
) -> tuple[Float32[np.ndarray, "X Y Z"], np.ndarray, float]:
    """The hull's signed distance on a grid of `resolution` points along its longest side, the grid's origin and its spacing.

    All bodies are in it. Raises ValueError if no point is inside all masks.
    """
    progress(0.0, "measuring masks")
    distances = _distances(alphas)
    progress(0.3, "bounding the object")
    low, high = _box(distances, cameras, *_first_box(alphas, cameras))
    spacing = (high - low).max() / (resolution - 1)
    shape = tuple(np.ceil((high - low) / spacing).astype(int) + 1)
    progress(0.5, "carving")
    return _field(distances, cameras, low, spacing, shape), low, spacing


def field_at(
    alphas: list[np.ndarray], cameras: Cameras, origin: np.ndarray, spacing: float, shape: tuple[int, int, int]
) -> Float32[np.ndarray, "X Y Z"]:
    """The hull's signed distance on a grid of somebody else's."""
    return _field(_distances(alphas), cameras, origin, spacing, shape)


def carve_but_one(
    alphas: list[np.ndarray], cameras: Cameras, origin: np.ndarray, spacing: float, shape: tuple[int, int, int]
) -> Float32[np.ndarray, "X Y Z"]:
    """The signed distance, on a given grid, of the points that no two masks deny: one wrong mask does not carve it."""
    largest, second = (np.full(shape, -np.inf, np.float32) for _ in range(2))
    T_cam_world = invert_rigid(cameras.T_world_cam.double()).numpy()
    intrinsics = cameras.intrinsics.double().numpy()
    for distance, T, k in zip(_distances(alphas), T_cam_world, intrinsics, strict=True):
        carving.carve_but_one(largest, second, origin, spacing, T, k, distance)
    second[np.isinf(second)] = spacing
    return second


def _distances(alphas: list[np.ndarray]) -> list[np.ndarray]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(signed_distance, alphas))


def signed_distance(alpha: np.ndarray) -> np.ndarray:
    """The distance in pixels from each pixel centre to the mask's outline (alpha 0.5), H W float32, negative inside.

    At soft edges (alpha between 0 and 1) the alpha itself gives the distance.
    """
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
    """Centre and half side of a cube around the object; the centre is where the rays through the masks' centres meet."""
    boxes = np.array([framing.mask_box(alpha) for alpha in alphas])
    eyes, rays = framing.mask_rays(boxes, cameras)
    centre = framing.meeting_point(eyes, rays)
    depth, reach = np.linalg.norm(centre - eyes, axis=1), np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1) / 2
    focal = cameras.intrinsics.double().numpy()[:, :2]
    return centre, 1.2 * float((depth * reach / focal.min(1)).max())


def _box(distances, cameras, centre, half):
    """The corners of the box of what photos see, about a voxel of the first pass wider than the object.

    Three things stand out of it: pieces that only few views look at, so no mask denies them; phantoms; and the cone behind an
    object that was photographed from one side, whose surface no photo sees.
    """
    spacing, origin = 2 * half / (BOUNDS_RESOLUTION - 1), centre - half
    field = _field(distances, cameras, origin, spacing, (BOUNDS_RESOLUTION,) * 3)
    near = (field < spacing) & visibility.well_seen(field, spacing, cameras, origin, spacing)
    bodies = one_body.bodies_of(near, near)
    if len(bodies.whole) == 0:  # fewer than a crumb is none
        raise ValueError(
            f"visual hull: no point of space lies inside all {len(distances)} masks, need one; check the poses' convention "
            "(camera-to-world, OpenGL axes) and that each mask belongs to its pose"
        )
    real = bodies.whole[phantoms.real(bodies.name_at, bodies.whole, cameras, origin, spacing)]
    field = np.where(np.isin(bodies.name_at, real), field - spacing, np.float32(spacing))
    mesh = grid_mesh.dense_mesh(np.pad(field, 1, constant_values=spacing), origin - spacing, spacing)
    seen = visibility.views_of_faces(mesh, cameras, BOUNDS_SIZE) > 0
    corners = mesh.verts[mesh.faces[seen].long()].reshape(-1, 3).double().numpy()
    return corners.min(0), corners.max(0)


def _field(distances, cameras, origin, spacing, shape):
    """The field carved by all views, with its origin and spacing."""
    field = np.full(shape, -np.inf, np.float32)
    T_cam_world = invert_rigid(cameras.T_world_cam.double()).numpy()
    intrinsics = cameras.intrinsics.double().numpy()
    for distance, T, k in zip(distances, T_cam_world, intrinsics, strict=True):
        carve(field, origin, spacing, T, k, distance)
    field[np.isinf(field)] = spacing  # seen by no view at all
    return field
