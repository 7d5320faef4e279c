"""From photos with cameras and masks to a closed mesh: depth maps, what they agree on, one surface."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from recon_lib.camera import Cameras
from recon_lib.coarse import bitten, hull, one_body, phantoms, visibility
from recon_lib.coarse.config import HullConfig, StereoConfig
from recon_lib.coarse.stereo import consistency, fusion, search
from recon_lib.coarse.stereo import views as views_
from recon_lib.coarse.stereo.views import Views
from recon_lib.mesh import Mesh
from recon_lib.progress import Progress, part, silent
from recon_lib.surface import grid_mesh

BOX_MARGIN = 0.04  # of the consistent points' extent, around them
LEAST_POINTS = 100  # consistent pixels, of fewer no box can be drawn


class TooLittleAgreed(ValueError):
    """The photos agree on too few points for a surface."""


@dataclass(frozen=True, eq=False)
class Fields:
    """Signed distances on one grid, negative inside: of the hull, and of the surface that stereo made of it."""

    hull: Float32[np.ndarray, "X Y Z"]
    surface: Float32[np.ndarray, "X Y Z"]
    origin: Float[np.ndarray, "3"]  # world position of grid point (0, 0, 0)
    spacing: float


@dataclass(frozen=True, eq=False)
class StereoMesh:
    mesh: Mesh
    agreed: Bool[np.ndarray, " V"]  # vertices that depths speak of; the others lie where the hull is
    kept: one_body.Kept
    views: Views  # the crops of which depths and costs are
    depths: Float32[np.ndarray, "B H W"]  # along each crop's axis, 0 where too few views agree
    costs: Float32[np.ndarray, "B H W"]  # 1 - ZNCC of the depth that was found
    fields: Fields
    mended: list[float]  # by photo, what its mask lacked as a share of it (`bitten`)

    @property
    def consistent(self) -> float:
        """The share of the masks' pixels whose depth other views agree with."""
        return float((self.depths[self.views.masks] > 0).mean())


def stereo_mesh(
    images: tuple[np.ndarray, ...],
    cameras: Cameras,
    config: StereoConfig,
    shape: HullConfig,
    progress: Progress = silent,
    device: str = "cpu",
) -> StereoMesh:
    """`images` are H W 4 uint8, straight alpha, sRGB. The mesh is closed, outward, one body. Depths are searched on `device`.

    It ends at the box of the points that photos agree on and of what the masks need besides. Raises ValueError where no point
    of space lies inside all masks, TooLittleAgreed where photos agree on too little, and `one_body.TornApart` where the
    surface is not one body.
    """
    alphas = [image[..., 3] / np.float32(255) for image in images]
    field, origin, spacing = hull.carve_field(alphas, cameras, config.bound_resolution, part(progress, 0.0, 0.1))
    centre = _middle(field, origin, spacing)
    fine = views_.crop_views(images, cameras, config.size)
    others = views_.neighbours(fine, centre, config.neighbours)
    within, bounds = field, views_.hull_bounds(fine, field, origin, spacing)
    doubted = bitten.suspected(fine.masks, bounds[:, 0] > 0)
    if doubted:
        within = hull.carve_but_one(alphas, cameras, origin, spacing, field.shape)
        bounds = views_.hull_bounds(fine, within, origin, spacing)
    planes, costs = search.search(
        images, cameras, fine, config, others, (within, origin, spacing), bounds, device, part(progress, 0.1, 0.75)
    )
    depths = _agreed(fine, planes[..., 0], costs, centre)
    progress(0.8, "fusing depths")
    points = _points(fine, depths)
    if len(points) < LEAST_POINTS:
        raise TooLittleAgreed(
            f"stereo: photos agree on {len(points)} points, need {LEAST_POINTS}: too few photos, too little texture, or "
            "cameras that do not belong to the photos; choose backend hull"
        )
    added = [0.0] * len(images)
    if doubted:
        pixel = max(max(image.shape[:2]) for image in images) / config.size
        alphas, added = bitten.mend(alphas, cameras, points, max(pixel, 1.0))
        field = hull.field_at(alphas, cameras, origin, spacing, field.shape)
    low, high = _box(points, field, origin, spacing, cameras)
    spacing = float((high - low).max() / (config.resolution - 1))
    grid = tuple((np.ceil((high - low) / spacing).astype(int) + 1).tolist())
    carved = hull.field_at(alphas, cameras, low, spacing, grid)
    P = fine.K @ fine.T_cv_world[:, :3]
    fused, near = fusion.fuse(depths, P, carved, low, spacing)
    missed = phantoms.missed(fused < 0, (fused >= 0) & (carved < 0), cameras, low, spacing)
    fused = np.where(missed, carved, fused)
    padded, corner = np.pad(fused, 1, constant_values=np.float32(spacing)), low - spacing
    body, kept = one_body.keep(padded, corner, spacing, cameras, np.pad(near >= 1, 1))
    mesh = grid_mesh.mesh_of_field(body, corner, spacing, shape.faces, part(progress, 0.85, 1.0))
    fields = Fields(carved, body[1:-1, 1:-1, 1:-1], low, spacing)
    return StereoMesh(mesh, _near_depths(mesh, near, low, spacing), kept, fine, depths, costs, fields, added)


def _agreed(shown: Views, inverse: np.ndarray, costs: np.ndarray, centre: np.ndarray) -> np.ndarray:
    count = len(inverse)
    M, m = np.zeros((count, count, 3, 3), np.float32), np.zeros((count, count, 3), np.float32)
    for i in range(count):
        M[i], m[i] = views_.homographies(shown, i, np.arange(count))
    R, t = shown.T_cv_world[:, :3, :3], shown.T_cv_world[:, :3, 3]
    towards = centre + np.einsum("bji,bj->bi", R, t)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    degrees = np.degrees(np.arccos((towards @ towards.T).clip(-1, 1)))
    asked = (degrees < consistency.WIDEST) & ~np.eye(count, dtype=bool)
    return consistency.agree(np.ascontiguousarray(inverse), costs, M, m, asked)


def _points(shown: Views, depths: np.ndarray) -> np.ndarray:
    """World points (P 3) of all depths."""
    found = []
    for i, depth in enumerate(depths):
        y, x = np.nonzero(depth > 0)
        rays = np.linalg.inv(shown.K[i]) @ np.stack([x + 0.5, y + 0.5, np.ones(len(x))])
        T = np.linalg.inv(shown.T_cv_world[i])
        found.append((T[:3, :3] @ (rays * depth[y, x]) + T[:3, 3:]).T)
    return np.concatenate(found)


def _box(
    points: np.ndarray, field: np.ndarray, origin: np.ndarray, spacing: float, cameras: Cameras
) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the box of the points that photos agree on, and of parts of the hull around it that the masks need.

    Such a part has no texture. What the masks do not need is the cone behind, which no photo bounds.
    """
    low, high = np.quantile(points, 0.001, axis=0), np.quantile(points, 0.999, axis=0)
    around = BOX_MARGIN * (high - low).max()
    first, last = (((corner - origin) / spacing) for corner in (low - around, high + around))
    places = np.indices(field.shape, np.int32)
    within = ((places >= first[:, None, None, None]) & (places <= last[:, None, None, None])).all(0)
    seen = visibility.well_seen(field, 0.0, cameras, origin, spacing)
    parts = one_body.bodies_of(seen & ~within, seen)
    name_at = np.where(seen & within, len(parts.sizes), parts.name_at)
    needed = phantoms.real(name_at, np.array([len(parts.sizes), *parts.whole]), cameras, origin, spacing)[1:]
    more = np.argwhere(np.isin(name_at, parts.whole[needed])) * spacing + origin
    corners = np.concatenate([[low - around, high + around], more - spacing, more + spacing])
    return corners.min(0), corners.max(0)


def _middle(field: np.ndarray, origin: np.ndarray, spacing: float) -> np.ndarray:
    return origin + np.argwhere(field < 0).mean(0) * spacing


def _near_depths(mesh: Mesh, near: np.ndarray, origin: np.ndarray, spacing: float) -> np.ndarray:
    """Per vertex, whether at least one depth lies close by."""
    at = (mesh.verts.double().numpy() - origin).T / spacing
    return ndimage.map_coordinates(near, at, order=1, mode="nearest") >= 1
