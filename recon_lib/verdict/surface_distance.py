"""The distance between two surfaces: from area-uniform points on each to the triangles of the other.

A Chamfer distance from points to points has a sampling noise of 0.15 % of the diagonal at 100,000 points; distances to the
triangles do not. Chamfer here is the mean of the two mean distances, not squared; F-scores are as in Knapitsch et al. 2017;
normal consistency is the mean of both directions' |cos| between the normals at a point and at its nearest one (Mescheder et al.
2019), so that the winding does not count.
"""

from typing import NamedTuple

import gpytoolbox
import numpy as np
import trimesh
from jaxtyping import Float

from recon_lib.mesh import Mesh, face_normals

SAMPLES = 50_000  # points per surface


class SurfaceDistance(NamedTuple):
    """How far a mesh is from the true surface."""

    accuracy: float  # mean distance from the mesh to the truth, world units
    completeness: float  # mean distance from the truth to the mesh, world units
    chamfer_percent: float  # mean of the two, % of the truth's diagonal
    f_score_half_percent: float  # harmonic mean of both shares of points within 0.5 % of the diagonal, 0 to 1
    f_score_1_percent: float
    f_score_2_percent: float
    normal_consistency: float  # 0 to 1


def distance(mesh: Mesh, truth: Mesh, seed: int = 0) -> SurfaceDistance:
    """Measures a mesh against the true surface; both are in the world. `seed` is that of the points."""
    diagonal = (truth.verts.max(0).values - truth.verts.min(0).values).norm().item()
    (there, alike), (back, alike_back) = _sampled(mesh, truth, seed), _sampled(truth, mesh, seed)

    def f_score(share: float) -> float:
        precision, recall = (there < share * diagonal).mean(), (back < share * diagonal).mean()
        return float(2 * precision * recall / max(precision + recall, 1e-12))

    percent = 100 * (there.mean() + back.mean()) / 2 / diagonal
    return SurfaceDistance(
        float(there.mean()), float(back.mean()), float(percent), f_score(0.005), f_score(0.01), f_score(0.02),
        (alike + alike_back) / 2,
    )  # fmt: skip


def nearest(points: Float[np.ndarray, "P 3"], target: Mesh) -> tuple[Float[np.ndarray, " P"], np.ndarray]:
    """The distance from each point to the surface, and the face on which the nearest point lies."""
    squared, face, _ = gpytoolbox.squared_distance(
        points, target.verts.double().numpy(), target.faces.numpy().astype(np.int32), use_cpp=True
    )
    return np.sqrt(squared), face


def _sampled(source: Mesh, target: Mesh, seed: int) -> tuple[np.ndarray, float]:
    """The distances of points on the source, and the mean |cos| between the normals."""
    body = trimesh.Trimesh(source.verts.numpy(), source.faces.numpy(), process=False)
    points, own = trimesh.sample.sample_surface(body, SAMPLES, seed=seed)
    found, face = nearest(points, target)
    normals = (face_normals(mesh.verts, mesh.faces).double().numpy() for mesh in (source, target))
    here, there = (n[index] for n, index in zip(normals, (own, face), strict=True))
    return found, float(np.abs((here * there).sum(1)).mean())
