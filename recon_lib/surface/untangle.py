"""Smooths a mesh where its faces pass through one another, and nowhere else.

A fit of single vertices leaves folds where two parts of the surface meet. The vertices of such faces move towards the mean of
their neighbours until no face passes through another; where that is not enough, their neighbours move as well. As texture moves
with vertices, few should. What is scored and exported is the smoothed mesh. Parts that lie in each other as a whole stay so.
Axes: V vertices, F faces.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from recon_lib import mesh as meshes
from recon_lib.surface import intersections

ROUNDS, STEPS = 12, 2  # of searching, and of smoothing after each search
WIDER = 8  # the round from which neighbours move as well
LARGE = 3.0  # times the middle of all faces' sizes; a larger face is searched every time
LIMIT_S = 5.0  # for each search; a mesh that takes longer is left as it is


class Untangled(NamedTuple):
    """The smoothed vertices, and how many faces pass through others; None where the search took too long."""

    verts: Float[Tensor, "V 3"]
    before: int | None
    after: int | None


def untangle(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Untangled:
    """The vertices of the round with the fewest faces that pass through others; the given ones where nothing was gained."""
    with intersections.Search() as search:
        return _untangle(verts, faces, search)


def _untangle(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], search: intersections.Search) -> Untangled:
    crossing = search.find(verts, faces, LIMIT_S)
    if crossing is None or not crossing.any():
        return Untangled(verts, *(None if crossing is None else 0,) * 2)
    before = fewest = int(crossing.sum())
    first, second = meshes.edges(faces).long().numpy().T
    neighbours = np.bincount(first, minlength=len(verts)) + np.bincount(second, minlength=len(verts))
    now, best = verts.double().numpy().copy(), verts
    for turn in range(ROUNDS):
        folded = np.zeros(len(verts), bool)
        folded[faces.numpy()[crossing]] = True
        near = folded.copy()
        if turn >= WIDER:
            near[first[folded[second]]] = near[second[folded[first]]] = True
        for _ in range(STEPS):
            total = np.zeros_like(now)
            np.add.at(total, first, now[second])
            np.add.at(total, second, now[first])
            now[near] = (now[near] + total[near] / neighbours[near, None]) / 2
        moved = torch.from_numpy(now).to(verts.dtype)
        around = _around(moved, faces, near)
        found = search.find(moved, faces[around], LIMIT_S)
        if found is None:
            break
        crossing = np.zeros(len(faces), bool)
        crossing[around] = found
        if (count := int(crossing.sum())) < fewest:
            best, fewest = moved, count
        if not count:
            break
    return Untangled(best, before, fewest)


def _around(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], moved: Bool[np.ndarray, " V"]) -> np.ndarray:
    """The numbers of the faces that may cross others after these vertices moved: all others crossed none before, nor do now."""
    corners = verts[faces.long()].double().numpy()
    middle = corners.mean(1)
    radius = np.linalg.norm(corners - middle[:, None], axis=2).max(1)
    changed = moved[faces.numpy()].any(1)
    small = LARGE * np.median(radius)
    kept = np.flatnonzero(radius <= small)
    near = cKDTree(middle[kept]).query_ball_point(middle[changed], radius[changed] + small)
    found = radius > small
    found[kept[np.unique(np.concatenate(near).astype(np.int64))]] = True
    return np.flatnonzero(found)
