"""A triangle mesh as half-edges, and the changes of remeshing as kernels (`remeshing`).

Half-edge h = 3 f + k is the side of face f from its corner k to the next; what each array says stands in `Connected`. A face
that is gone has tails of -1. Nothing at a vertex that may not change is changed.
Axes: V vertices, F faces, H = 3 F half-edges.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numba import njit

REGULAR = 6  # edges at a vertex of an even mesh
MOST_EDGES = 64  # at a vertex
TURNED = 0.8  # least cosine between the normals of a face before and after a change; less leaves more slivers


class Connected(NamedTuple):
    """The arrays of a mesh whose faces may change."""

    tail: Int[np.ndarray, " H"]  # the vertex where a half-edge starts
    twin: Int[np.ndarray, " H"]  # the same side seen from the neighbouring face; -1 at a border
    out: Int[np.ndarray, " V"]  # one of the half-edges that start at a vertex; -1 where nothing may change
    valence: Int[np.ndarray, " V"]  # the number of edges at a vertex
    home: Int[np.ndarray, " V"]  # the vertex of the given mesh where the walk to the nearest point starts
    verts: Float[np.ndarray, "V 3"]


def connect(verts: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Connected:
    """The half-edges of a mesh. Raises ValueError if more than two faces share an edge, or two lie on one side of it."""
    tail, head = faces.reshape(-1).copy(), np.roll(faces, -1, 1).reshape(-1)
    count = len(verts)
    there, back = tail * count + head, head * count + tail
    order = np.argsort(there, kind="stable")
    ordered = there[order]
    if twice := int((ordered[1:] == ordered[:-1]).sum()):
        raise ValueError(f"remeshing: got {twice} edges with two faces on one side, need none; weld or mend the mesh")
    at = np.minimum(np.searchsorted(ordered, back), len(order) - 1)
    twin = np.where(ordered[at] == back, order[at], -1)
    out = np.full(count, -1)
    out[tail] = np.arange(len(tail))
    mesh = Connected(tail, twin, out, np.bincount(tail, minlength=count), np.arange(count), verts.copy())
    freeze(mesh)
    return mesh


@njit(inline="always")
def following(h):
    return h + 1 if h % 3 < 2 else h - 2


@njit(inline="always")
def preceding(h):
    return h - 1 if h % 3 else h + 2


@njit(inline="always")
def _join(twin, h, other):
    twin[h] = other
    if other >= 0:
        twin[other] = h


@njit(inline="always")
def _length(mesh, h):
    a, b = mesh.tail[h], mesh.tail[following(h)]
    return distance(mesh.verts[a], mesh.verts[b])


@njit(inline="always")
def distance(p, q):
    return np.sqrt((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 + (p[2] - q[2]) ** 2)


@njit(inline="always")
def normal(p, q, r):
    """Twice the area times the normal of a triangle."""
    x1, y1, z1 = q[0] - p[0], q[1] - p[1], q[2] - p[2]
    x2, y2, z2 = r[0] - p[0], r[1] - p[1], r[2] - p[2]
    return y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2


@njit(inline="always")
def _turned(before, after):
    """Whether a normal turned too far."""
    dot = before[0] * after[0] + before[1] * after[1] + before[2] * after[2]
    lengths = np.sqrt(
        (before[0] ** 2 + before[1] ** 2 + before[2] ** 2) * (after[0] ** 2 + after[1] ** 2 + after[2] ** 2)
    )
    return dot <= TURNED * lengths


@njit(cache=True)
def freeze(mesh):
    """Forbids changes at borders, and where the faces at a vertex are more than one fan."""
    twin, out, valence = mesh.twin, mesh.out, mesh.valence
    for v in range(len(out)):
        h, turns = out[v], 0
        while h >= 0 and (turns == 0 or h != out[v]):
            h = twin[preceding(h)]
            turns += 1
        if h < 0 or turns != valence[v]:
            out[v] = -1


@njit(inline="always")
def _free(mesh, h):
    """Whether the edge may change."""
    return mesh.tail[h] >= 0 and mesh.out[mesh.tail[h]] >= 0 and mesh.out[mesh.tail[following(h)]] >= 0


@njit(cache=True)
def count_longer(mesh, most):
    count = 0
    for h in range(len(mesh.tail)):
        count += h < mesh.twin[h] and _free(mesh, h) and _length(mesh, h) > most
    return count


@njit(cache=True)
def find_shorter(mesh, least):
    """The half-edges that are shorter, one for each edge, and their lengths."""
    found, lengths, count = np.empty(len(mesh.tail), np.int64), np.empty(len(mesh.tail)), 0
    for h in range(len(mesh.tail)):
        if h < mesh.twin[h] and _free(mesh, h) and _length(mesh, h) < least:
            found[count], lengths[count] = h, _length(mesh, h)
            count += 1
    return found[:count], lengths[:count]


@njit(cache=True)
def split(mesh, next_vertex, next_face, most):
    """Halves longer edges. New vertices and faces are numbered from `next_vertex` and `next_face`, where arrays have room.

    A face that was split has other sides at its half-edges, so one call does not reach all edges.
    """
    tail, twin, out, valence, home, verts = mesh
    for h in range(3 * next_face):
        if next_vertex == len(out):
            return
        if not (h < twin[h] and _free(mesh, h) and _length(mesh, h) > most):
            continue
        m, f, g, t = next_vertex, 3 * next_face, 3 * next_face + 3, twin[h]
        n, tn = following(h), following(t)
        a, b, c, d = tail[h], tail[n], tail[preceding(h)], tail[preceding(t)]
        next_vertex, next_face = next_vertex + 1, next_face + 2
        # Face (a, b, c) becomes (a, m, c), and f is (m, b, c); face (b, a, d) becomes (b, m, d), and g is (m, a, d).
        tail[f], tail[f + 1], tail[f + 2] = m, b, c
        tail[g], tail[g + 1], tail[g + 2] = m, a, d
        _join(twin, f + 1, twin[n])
        _join(twin, g + 1, twin[tn])
        tail[n], tail[tn] = m, m
        _join(twin, n, f + 2)
        _join(twin, tn, g + 2)
        _join(twin, h, g)
        _join(twin, t, f)
        out[m], out[a], out[b] = f, h, t
        if out[c] >= 0:
            out[c] = f + 2
        if out[d] >= 0:
            out[d] = g + 2
        valence[m] = 4
        valence[c] += 1
        valence[d] += 1
        home[m] = home[a]
        for i in range(3):
            verts[m, i] = (verts[a, i] + verts[b, i]) / 2


@njit(inline="always")
def _neighbours(mesh, v, found):
    """Writes the half-edges that start at `v` into `found`; returns their number."""
    h, count = mesh.out[v], 0
    while count < MOST_EDGES:
        found[count] = h
        count += 1
        h = mesh.twin[preceding(h)]
        if h == mesh.out[v]:
            break
    return count


@njit(cache=True)
def collapse(mesh, order, least, most):
    """Collapses edges shorter than `least` to their middle, in this order, where no edge gets longer than `most`.

    Returns how many. Nothing is collapsed where the surface would not stay a manifold (the link condition), or a face turns.
    """
    tail, twin, out, valence, verts = mesh.tail, mesh.twin, mesh.out, mesh.valence, mesh.verts
    at_a, at_b = np.empty(MOST_EDGES, np.int64), np.empty(MOST_EDGES, np.int64)
    middle, done = np.empty(3), 0
    for h in order:
        if tail[h] < 0 or not _free(mesh, h) or _length(mesh, h) >= least:
            continue
        t = twin[h]
        n, p, tn, tp = following(h), preceding(h), following(t), preceding(t)
        a, b, c, d = tail[h], tail[t], tail[p], tail[tp]
        if c == d or valence[c] <= 3 or valence[d] <= 3 or valence[a] + valence[b] - 4 > MOST_EDGES:
            continue
        count_a, count_b, shared = _neighbours(mesh, a, at_a), _neighbours(mesh, b, at_b), 0
        for i in range(count_a):
            for j in range(count_b):
                shared += tail[following(at_a[i])] == tail[following(at_b[j])]
        if shared != 2 or count_a + count_b < 7:
            continue
        for i in range(3):
            middle[i] = (verts[a, i] + verts[b, i]) / 2
        if _spoils(mesh, at_a[:count_a], middle, b, most) or _spoils(mesh, at_b[:count_b], middle, a, most):
            continue
        for i in range(count_a):
            tail[at_a[i]] = b
        _join(twin, twin[n], twin[p])
        _join(twin, twin[tn], twin[tp])
        out[b] = twin[p] if twin[p] >= 0 else twin[n]
        if out[c] >= 0:
            out[c] = twin[n]
        if out[d] >= 0:
            out[d] = twin[tn]
        out[a] = -1
        valence[b] = count_a + count_b - 4
        valence[c] -= 1
        valence[d] -= 1
        for i in range(3):
            verts[b, i] = middle[i]
            tail[h - h % 3 + i] = -1
            tail[t - t % 3 + i] = -1
        done += 1
    return done


@njit(inline="always")
def _spoils(mesh, sides, to, other, most):
    """Whether moving the vertex where the sides start makes an edge too long, or turns a face that `other` is not part of."""
    tail, verts = mesh.tail, mesh.verts
    for h in sides:
        v, q, r = tail[h], tail[following(h)], tail[preceding(h)]
        if distance(verts[q], to) > most:
            return True
        if q == other or r == other:
            continue
        if _turned(normal(verts[v], verts[q], verts[r]), normal(to, verts[q], verts[r])):
            return True
    return False


@njit(cache=True)
def flip(mesh):
    """Flips edges where that brings the four vertices' numbers of edges nearer to REGULAR. Returns how many."""
    tail, twin, out, valence, verts = mesh.tail, mesh.twin, mesh.out, mesh.valence, mesh.verts
    around, done = np.empty(MOST_EDGES, np.int64), 0
    for h in range(len(tail)):
        t = twin[h]
        if not (h < t and _free(mesh, h)):
            continue
        n, p, tn, tp = following(h), preceding(h), following(t), preceding(t)
        a, b, c, d = tail[h], tail[t], tail[p], tail[tp]
        if out[c] < 0 or out[d] < 0 or c == d or valence[a] <= 3 or valence[b] <= 3 or valence[c] == MOST_EDGES:
            continue
        gained = 0
        for v, change in ((a, -1), (b, -1), (c, 1), (d, 1)):
            gained += abs(valence[v] - REGULAR) - abs(valence[v] + change - REGULAR)
        if gained <= 0:
            continue
        count, joined = _neighbours(mesh, c, around), False
        for i in range(count):
            joined |= tail[following(around[i])] == d
        if joined:
            continue
        old = normal(verts[a], verts[b], verts[c]), normal(verts[b], verts[a], verts[d])
        new = normal(verts[a], verts[d], verts[c]), normal(verts[d], verts[b], verts[c])
        if _turned(old[0], new[0]) or _turned(old[0], new[1]) or _turned(old[1], new[0]) or _turned(old[1], new[1]):
            continue
        # Faces (a, b, c) and (b, a, d) become (a, d, c) and (d, b, c).
        f, g = h - h % 3, t - t % 3
        ca, bc, ad, db = twin[p], twin[n], twin[tn], twin[tp]
        tail[f], tail[f + 1], tail[f + 2] = a, d, c
        tail[g], tail[g + 1], tail[g + 2] = d, b, c
        _join(twin, f, ad)
        _join(twin, f + 1, g + 2)
        _join(twin, f + 2, ca)
        _join(twin, g, db)
        _join(twin, g + 1, bc)
        out[a], out[b], out[c], out[d] = f, g + 1, f + 2, g
        valence[a] -= 1
        valence[b] -= 1
        valence[c] += 1
        valence[d] += 1
        done += 1
    return done
