"""Values for the part of a texture that no photo shows, from its surroundings; and the picture that says which part that is.

The values are harmonic on the surface: an unseen vertex has the mean of its neighbours (Laplace's equation, with the seen
vertices as its border). So they are smooth, also across the atlas' charts, which lie apart in the texture but side by side on
the surface. Axes: H W texels, V vertices, C channels.
"""

from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from recon_lib import mesh as meshes
from recon_lib.mesh import Mesh
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import uv

LEAST_WEIGHT = 1e-3  # of all texels around a vertex; one with less has none


def fill(mesh: Mesh, texels: Float[Tensor, "H W C"], seen: Bool[Tensor, "H W"], raster: Rasteriser) -> Tensor:
    """The texels with harmonic values where a chart is not seen; off all charts, a texel has the value of the nearest one.

    If none is seen, those on charts stay as they are.
    """
    rast = uv.atlas_raster(mesh.uvs, mesh.uv_faces, (texels.shape[0], texels.shape[1]), raster)
    covered = rast[0, ..., 3] > 0
    known, wanted = covered & seen, covered & ~seen
    if not known.any():
        return uv.dilate(texels, covered)
    values = _of_vertices(mesh, texels, rast, known)
    out = texels.clone()
    out[wanted] = raster.interpolate(values[None].to(texels), rast, mesh.faces)[0][0][wanted]
    return uv.dilate(out, covered)


def _of_vertices(mesh: Mesh, texels: Tensor, rast: Tensor, known: Tensor) -> Float[Tensor, "V C"]:
    """The mean of the known texels on the faces around each vertex, by barycentric weight; harmonic where there are none."""
    count = len(mesh.verts)
    corners = mesh.faces.long()[rast[0, ..., 3][known].long() - 1]
    u, v = rast[0, ..., :2][known].double().unbind(-1)
    weights = torch.stack([u, v, 1 - u - v], -1)
    parts = weights[..., None] * torch.nn.functional.pad(texels[known].double(), (0, 1), value=1.0)[:, None]
    sums = parts.new_zeros(count, parts.shape[-1]).index_add_(0, corners.reshape(-1), parts.flatten(0, 1)).cpu().numpy()
    total, weight = sums[:, :-1], sums[:, -1]
    has = weight > LEAST_WEIGHT
    values = np.zeros_like(total)
    values[has] = total[has] / weight[has, None]
    if has.all():
        return torch.from_numpy(values).float()
    L = meshes.laplacian(mesh.faces.cpu(), count).tocsr()
    part = scipy.sparse.csgraph.connected_components(L, directed=False)[1]
    reached = np.isin(part, part[has])
    free = ~has & reached
    if free.any():
        solve = scipy.sparse.linalg.splu(L[free][:, free].tocsc())
        values[free] = solve.solve(-(L[free][:, has] @ values[has]))
    values[~reached] = values[has].mean(0)
    return torch.from_numpy(values).float()


def share(mesh: Mesh, seen: Bool[Tensor, "H W"], raster: Rasteriser) -> float:
    """The share of the texels on charts, 0 to 1, that are not seen."""
    covered = uv.covered(mesh.uvs, mesh.uv_faces, (seen.shape[0], seen.shape[1]), raster)
    return (covered & ~seen).sum().item() / max(1, covered.sum().item())


def sentence(share: float) -> str:
    """The share in words, for the notebook's Reading."""
    return f"No photo shows {share:.0%} of the texture; there it is filled smoothly from its surroundings (black in seen.png)."


def save_mask(seen: Bool[Tensor, "H W"], path: Path) -> None:
    """Writes a picture in the mesh's texture coordinates: white where a photo shows the texel, black where none does."""
    Image.fromarray((255 * seen.cpu().byte()).numpy()).save(path)
