"""A mesh against the true surface, where somebody has it: aligned, measured, and with how exact the measure itself is.

With given cameras mesh and truth stand in one world, and nothing is moved. Cameras that were found in the photos have a frame
of their own: then the mesh is brought to the truth by a similarity: ICP with scale (trimesh's), from the principal axes in each
of the 24 ways in which axes can be matched. The volumes are compared at random points; inside is where the winding number is
above one half.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import gpytoolbox
import numpy as np
import torch
import trimesh
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from trimesh import registration

from recon_lib.mesh import Mesh
from recon_lib.surface import checks
from recon_lib.verdict import surface_distance
from recon_lib.verdict.surface_distance import SurfaceDistance

POINTS = 100_000  # at which the volumes are compared
ROUGH, FINE = 500, 20_000  # points of the mesh in each start, and in the last fit
ALIGNED_BY = {False: "the photos' cameras", True: "principal axes and ICP with scale"}


@dataclass(frozen=True, eq=False)
class Against:
    """A mesh against the truth."""

    distance: SurfaceDistance
    noise_percent: float  # by how much Chamfer changes with other points, % of the diagonal
    volume_iou: float | None  # None where one of the two is not closed
    aligned_by: str
    deviation: Float[np.ndarray, " F"]  # from the middle of each of the mesh's faces to the truth, world units
    diagonal: float  # of the truth, world units

    def record(self) -> dict:
        """What verdict.json says of it."""
        told = {"noise_percent": self.noise_percent, "volume_iou": self.volume_iou, "aligned_by": self.aligned_by}
        return {**self.distance._asdict(), **told, "diagonal": self.diagonal}


def read(path: Path) -> Mesh:
    """The true surface from a mesh file in the world; its colours do not count. Raises ValueError for a file without faces."""
    if not path.exists():
        raise ValueError(f"reference: {path}: no such file")
    loaded = trimesh.load_mesh(path, process=False)
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise ValueError(f"reference: {path}: no triangles, need a mesh")
    loaded.merge_vertices(merge_tex=True, merge_norm=True)
    return Mesh(
        torch.from_numpy(np.array(loaded.vertices, np.float32)), torch.from_numpy(np.array(loaded.faces, np.int32))
    )


def compare(mesh: Mesh, truth: Mesh, align: bool, seed: int = 0) -> Against:
    """Measures a mesh against the truth, both in the world; `align` first moves the mesh, for cameras of an unknown frame."""
    moved = aligned(mesh, truth, seed) if align else mesh
    found, other = (surface_distance.distance(moved, truth, s) for s in (seed, seed + 1))
    middle = moved.verts[moved.faces.long()].mean(1).double().numpy()
    diagonal = (truth.verts.max(0).values - truth.verts.min(0).values).norm().item()
    noise = abs(found.chamfer_percent - other.chamfer_percent)
    deviation = surface_distance.nearest(middle, truth)[0]
    return Against(found, noise, _volume_iou(moved, truth, seed), ALIGNED_BY[align], deviation, diagonal)


def aligned(mesh: Mesh, truth: Mesh, seed: int = 0) -> Mesh:
    """The mesh moved to the truth by a similarity."""
    bodies = [trimesh.Trimesh(m.verts.double().numpy(), m.faces.numpy(), process=False) for m in (mesh, truth)]
    source, target = (trimesh.sample.sample_surface(body, FINE, seed=seed)[0] for body in bodies)
    first, last = _principal(source), _principal(target)
    starts = []
    for turn in Rotation.create_group("O").as_matrix():
        T = np.eye(4)
        T[:3, :3] = turn
        T, _, cost = registration.icp(
            source[:ROUGH], target[: 4 * ROUGH], last @ T @ np.linalg.inv(first), max_iterations=20, scale=True,
            reflection=False,
        )  # fmt: skip
        starts.append((cost, T))
    best = min(starts, key=lambda start: start[0])[1]
    fitted = registration.icp(source, target, best, max_iterations=100, scale=True, reflection=False)[0]
    T_truth_mesh = torch.from_numpy(fitted).float()
    return replace(mesh, verts=mesh.verts @ T_truth_mesh[:3, :3].T + T_truth_mesh[:3, 3])


def _principal(points: np.ndarray) -> np.ndarray:
    """The 4 x 4 from the frame of the points' principal axes, in which their standard deviation is 1, to their own."""
    middle = points.mean(0)
    axes = np.linalg.svd(points - middle, full_matrices=False)[2].T
    axes[:, 2] *= np.linalg.det(axes)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = axes * np.sqrt(((points - middle) ** 2).sum(1).mean()), middle
    return T


def _volume_iou(mesh: Mesh, truth: Mesh, seed: int) -> float | None:
    """Overlap of the two volumes; its standard error is about 0.2 % at POINTS points."""
    for body in (mesh, truth):
        found = checks.check_mesh(body.verts, body.faces)
        if found.open_edges or found.non_finite_vertices:
            return None
    both = torch.cat([mesh.verts, truth.verts]).double().numpy()
    low, high = both.min(0), both.max(0)
    points = low + (high - low) * np.random.default_rng(seed).random((POINTS, 3))
    inside = [
        gpytoolbox.fast_winding_number(points, body.verts.double().numpy(), body.faces.numpy().astype(np.int32)) > 0.5
        for body in (mesh, truth)
    ]
    return float((inside[0] & inside[1]).sum() / max(1, (inside[0] | inside[1]).sum()))
