"""How the vertices of a mesh that is remeshed move: within the surface (`remeshing`). Axes: V vertices, F faces."""

import numpy as np
from numba import njit

from recon_lib.surface.half_edges import distance, following, normal

MOST_WALKED = 100  # vertices on the way to the nearest point


@njit(cache=True)
def faces_around(faces, count):
    """The faces at each vertex v as `around[start[v] : start[v + 1]]`."""
    start = np.zeros(count + 1, np.int64)
    for f in range(len(faces)):
        for k in range(3):
            start[faces[f, k] + 1] += 1
    start = np.cumsum(start)
    filled, around = start[:-1].copy(), np.empty(3 * len(faces), np.int64)
    for f in range(len(faces)):
        for k in range(3):
            around[filled[faces[f, k]]] = f
            filled[faces[f, k]] += 1
    return start, around


@njit(cache=True)
def relax(mesh):
    """Moves each vertex to the mean of its neighbours, within the plane across its normal."""
    tail, out, valence, verts = mesh.tail, mesh.out, mesh.valence, mesh.verts
    total, across = np.zeros_like(verts), np.zeros_like(verts)
    for f in range(0, len(tail), 3):
        if tail[f] < 0:
            continue
        n = normal(verts[tail[f]], verts[tail[f + 1]], verts[tail[f + 2]])
        for k in range(3):
            v, w = tail[f + k], tail[following(f + k)]
            for i in range(3):
                across[v, i] += n[i]
                total[v, i] += verts[w, i]
    for v in range(len(out)):
        squared = across[v, 0] ** 2 + across[v, 1] ** 2 + across[v, 2] ** 2
        if out[v] >= 0 and squared > 0:
            off = 0.0
            for i in range(3):
                off += across[v, i] * (verts[v, i] - total[v, i] / valence[v])
            for i in range(3):
                verts[v, i] = total[v, i] / valence[v] + off / squared * across[v, i]


@njit(cache=True)
def to_surface(mesh, given, faces, start, around):
    """Moves each vertex to the nearest point of the given mesh, and its home along."""
    best, point, weights = np.empty(3), np.empty(3), np.empty(3)
    for v in range(len(mesh.out)):
        if mesh.out[v] < 0:
            continue
        nearest, at = np.inf, mesh.home[v]
        for _ in range(MOST_WALKED):
            to, gained = at, False
            for f in around[start[at] : start[at + 1]]:
                corners = faces[f]
                _closest(mesh.verts[v], given[corners[0]], given[corners[1]], given[corners[2]], point, weights)
                away = distance(mesh.verts[v], point)
                if away < nearest:
                    nearest, gained = away, True
                    best[:] = point
                    to = corners[np.argmax(weights)]
            if not gained or to == at:
                break
            at = to
        mesh.home[v] = at
        mesh.verts[v] = best


@njit(cache=True)
def _closest(p, a, b, c, point, weights):
    """The point of a triangle that is nearest to `p`, and its barycentric weights (Ericson 2005, section 5.1.5)."""
    ab, ac, ap = b - a, c - a, p - a
    d1, d2 = np.dot(ab, ap), np.dot(ac, ap)
    bp, cp = p - b, p - c
    d3, d4, d5, d6 = np.dot(ab, bp), np.dot(ac, bp), np.dot(ab, cp), np.dot(ac, cp)
    vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    if d1 <= 0 and d2 <= 0:
        v, w = 0.0, 0.0
    elif d3 >= 0 and d4 <= d3:
        v, w = 1.0, 0.0
    elif d6 >= 0 and d5 <= d6:
        v, w = 0.0, 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        v, w = d1 / (d1 - d3), 0.0
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        v, w = 0.0, d2 / (d2 - d6)
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        w = (d4 - d3) / (d4 - d3 + d5 - d6)
        v = 1 - w
    else:
        v, w = vb / (va + vb + vc), vc / (va + vb + vc)
    weights[0], weights[1], weights[2] = 1 - v - w, v, w
    point[:] = a + v * ab + w * ac
