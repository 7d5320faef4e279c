"""What a mesh's texture coordinates and textures are like, texel by texel and face by face.

Texture coordinates follow `mesh`: u right, v down, (0, 0) the top-left corner. Lengths are world units.
Axes: F faces, H W texels, C channels.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from recon_lib import colour, render
from recon_lib.mesh import Mesh
from recon_lib.raster.interface import Rasteriser

OUTSIDE = 1e-4  # by how much a coordinate may leave 0 to 1: a rounding error is not a fault
NUDGE = (0.0137, 0.0071)  # texels
SEAM_SAMPLES = (0.25, 0.5, 0.75)  # along each seam edge
MOST_SEAM_EDGES = 20_000  # of all, evenly chosen


class Atlas(NamedTuple):
    """The measures of one mesh's texture. Shares are 0 to 1."""

    width: int  # texels
    height: int
    coverage: float  # share of the texels whose centre lies on a face
    overlap: float  # share of the covered texels that lie on more than one face
    outside_faces: int  # with a corner out of the texture
    flat_faces: int  # without area in the texture
    charts: int
    texels_per_unit: tuple[float, float, float]  # 1st, 50th and 99th percentile over the area
    stretch: float  # median over the area of the ratio of a face's largest to its smallest scaling; 1 is none
    seam_jump: float  # mean absolute difference of the colours on both sides of the seams, sRGB, 0 to 1
    out_of_range: int  # texels of occlusion, roughness or metallic below 0 or above 1, or of any channel not finite


def measure(mesh: Mesh, raster: Rasteriser) -> Atlas:
    """Measures the texture of a mesh that has one."""
    height, width = mesh.texture.shape[:2]
    uvs, uv_faces, shape = mesh.uvs, mesh.uv_faces, (height, width)
    first, last = (_owner(uvs, uv_faces, shape, raster, sign) for sign in (1.0, -1.0))
    covered = first > 0
    corners = uvs[uv_faces.long()]
    outside = ((corners < -OUTSIDE) | (corners > 1 + OUTSIDE)).any(-1).any(-1)
    smallest, largest, areas = _scalings(mesh)
    weights = np.where(smallest > 0, areas, 0)
    density = np.sqrt(smallest * largest)
    seen = weights > 0
    low, median, high = _quantiles(density[seen], weights[seen], (0.01, 0.5, 0.99))
    count = int((~mesh.texture.isfinite().all(-1)).sum())
    if mesh.material is not None:
        orm = mesh.material.occlusion_roughness_metallic
        count += int((~mesh.material.values.isfinite().all(-1) | (orm < 0).any(-1) | (orm > 1).any(-1)).sum())
    return Atlas(
        width, height, covered.float().mean().item(),
        ((first != last) & covered).sum().item() / max(1, covered.sum().item()),
        int(outside.sum()), int((smallest <= 0).sum()), _count_charts(uv_faces, len(uvs)),
        (low, median, high),
        _quantiles((largest[seen] / smallest[seen]), weights[seen], (0.5,))[0], _seam_jump(mesh, raster), count,
    )  # fmt: skip


def _owner(
    uvs: Float[Tensor, "T 2"], uv_faces: Int[Tensor, "F 3"], shape: tuple[int, int], raster: Rasteriser, sign: float
) -> Int[Tensor, "H W"]:
    """The face at each texel's centre, from 1, 0 for none; where faces overlap the first, or with `sign` -1 the last."""
    count = len(uv_faces)
    # Every face gets a depth of its own, so that the rasteriser decides between two as it is asked to.
    z = sign * torch.linspace(-0.9, 0.9, count, dtype=torch.float32)[:, None, None].expand(-1, 3, 1)
    # A texel's centre that lies exactly on the edge of two faces belongs to both; moved a little, none does.
    nudged = uvs + uvs.new_tensor(NUDGE) / uvs.new_tensor([shape[1], shape[0]])
    corners = torch.cat([2 * nudged[uv_faces.long()] - 1, z, torch.ones_like(z)], -1).reshape(1, -1, 4)
    own = torch.arange(3 * count, dtype=torch.int32).reshape(-1, 3)
    return raster.rasterize(corners.contiguous(), own, shape, grad_db=False)[0][0, ..., 3].long()


def _scalings(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per face the least and the largest texels per unit of length, the singular values of its map; and its area."""
    height, width = mesh.texture.shape[:2]
    p = mesh.verts.double().numpy()[mesh.faces.numpy()]
    t = mesh.uvs.double().numpy()[mesh.uv_faces.numpy()] * [width, height]
    e1, e2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    length = np.linalg.norm(e1, axis=1)
    x2 = (e1 * e2).sum(1) / np.maximum(length, 1e-30)
    y2 = np.linalg.norm(np.cross(e1, e2), axis=1) / np.maximum(length, 1e-30)
    good = (length > 0) & (y2 > 0) & np.isfinite(length * y2) & np.isfinite(t).all((1, 2))
    d1, d2 = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    # The face in its own plane: corners (0, 0), (length, 0), (x2, y2).
    along = d1 / np.maximum(length, 1e-30)[:, None]
    across = (d2 - along * x2[:, None]) / np.where(good, y2, 1)[:, None]
    largest, smallest = np.linalg.svd(
        np.where(good[:, None, None], np.stack([along, across], -1), 0), compute_uv=False
    ).T
    return smallest, largest, np.where(good, length * y2 / 2, 0)


def _count_charts(uv_faces: Int[Tensor, "F 3"], count: int) -> int:
    f = uv_faces.numpy()
    links = coo_array((np.ones(f.size), (f.ravel(), np.roll(f, 1, axis=1).ravel())), shape=(count, count))
    return len(np.unique(connected_components(links, directed=False)[1][f[:, 0]]))


def _seam_jump(mesh: Mesh, raster: Rasteriser) -> float:
    """The colours on both sides of edges that two faces share on the surface and not in the texture."""
    f, t = mesh.faces.numpy().astype(np.int64), mesh.uv_faces.numpy().astype(np.int64)
    a, b = f[:, [0, 1, 2]].ravel(), f[:, [1, 2, 0]].ravel()
    ta, tb = t[:, [0, 1, 2]].ravel(), t[:, [1, 2, 0]].ravel()
    flip = a > b
    key = np.where(flip, b, a) * (f.max() + 1) + np.where(flip, a, b)
    low, high = np.where(flip, tb, ta), np.where(flip, ta, tb)
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(np.diff(key[order]) == 0)
    i, j = order[same], order[same + 1]
    seam = (low[i] != low[j]) | (high[i] != high[j])
    i, j = i[seam], j[seam]
    if len(i) == 0:
        return 0.0
    chosen = np.unique(np.linspace(0, len(i) - 1, min(MOST_SEAM_EDGES, len(i))).astype(int))
    sides = []
    for edge in (i[chosen], j[chosen]):
        start, end = mesh.uvs[torch.from_numpy(low[edge])], mesh.uvs[torch.from_numpy(high[edge])]
        at = torch.cat([start + share * (end - start) for share in SEAM_SAMPLES])
        sides.append(colour.linear_to_srgb(render.texture_at(mesh.texture, at, raster).clamp(0, 1)))
    return (sides[0] - sides[1]).abs().mean().item()


def _quantiles(values: np.ndarray, weights: np.ndarray, at: tuple[float, ...]) -> list[float]:
    if len(values) == 0:
        return [0.0] * len(at)
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return [float(values[order][np.searchsorted(total, share * total[-1]).clip(0, len(values) - 1)]) for share in at]
