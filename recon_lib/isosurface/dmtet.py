"""Deep marching tetrahedra: the surface of a signed distance that is linear in each tet (Shen et al. 2021).

The edges of the tets never change, so they are numbered once, when the grid is made. Each call then numbers the cut edges by a
cumulative sum and needs no `unique`. For signs, winding and axes see the package.
"""

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

PAIRS = list(combinations(range(4), 2))  # the edges of a tet as pairs of its corners


@dataclass(frozen=True, eq=False)
class TetGrid:
    """A grid of tetrahedra, and the tables that marching tetrahedra need."""

    verts: Float[Tensor, "G 3"]
    tets: Int[Tensor, "T 4"]  # positive volume: corners 1, 2, 3 wind counter-clockwise seen from outside
    edges: Int[Tensor, "E 2"]
    tet_edges: Int[Tensor, "T 6"]  # rows of `edges`, in the order of PAIRS
    cases: Int[Tensor, "16 2 3"]  # per sign pattern, up to two triangles as columns of `tet_edges`; -1 for no triangle


def kuhn_grid(resolution: int, device: str | torch.device = "cpu") -> TetGrid:
    """A grid over [-1, 1]^3 of `resolution`^3 cubes with six tets each (Kuhn's subdivision).

    Each tet belongs to one order of the axes, along which a path leads from the cube's lowest corner to its highest. Every tet
    edge goes up along one, two or three axes, so neighbouring cubes divide their common face the same way.
    """
    side = resolution + 1
    line = np.linspace(-1, 1, side, dtype=np.float32)
    points = np.arange(side**3, dtype=np.int32).reshape(side, side, side)
    step = np.array([(way >> 2 & 1) * side**2 + (way >> 1 & 1) * side + (way & 1) for way in range(8)])
    edges, edge_at, count = [], np.full((8, side**3), -1, np.int32), 0
    for way in range(1, 8):  # bits 4, 2, 1: up along x, y, z
        low = points[: side - (way >> 2 & 1), : side - (way >> 1 & 1), : side - (way & 1)].reshape(-1)
        edge_at[way, low] = np.arange(count, count + len(low))
        edges.append(np.stack([low, low + step[way]], -1))
        count += len(low)
    cubes = points[:-1, :-1, :-1].reshape(-1)
    tets, tet_edges = [], []
    for a, b, c in permutations((4, 2, 1)):
        corners = [0, a, a | b, 7] if (a, b, c) in {(4, 2, 1), (2, 1, 4), (1, 4, 2)} else [0, a, 7, a | b]
        tets.append(np.stack([cubes + step[corner] for corner in corners], -1))
        ends = [(corners[i], corners[j]) for i, j in PAIRS]
        tet_edges.append(np.stack([edge_at[p ^ q, cubes + step[p & q]] for p, q in ends], -1))
    # Columns of tets and edges are contiguous in memory: marching gathers by columns, twice as fast as by rows.
    arrays = (
        np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3),
        np.asfortranarray(np.stack(tets, 1).reshape(-1, 4).astype(np.int32)),
        np.asfortranarray(np.concatenate(edges).astype(np.int32)),
        np.stack(tet_edges, 1).reshape(-1, 6),
        sign_cases(),
    )
    return TetGrid(*(torch.from_numpy(array).to(device) for array in arrays))


def sign_cases() -> np.ndarray:
    """The triangles of the 16 sign patterns, 16 2 3; bit i of a pattern is set where corner i is inside.

    Up to an even permutation (a, b, c, d) of the corners, three patterns are cut. With a at the origin and b, c, d on the axes:
    a alone inside gives the triangle (ab, ac, ad), whose normal points away from a; a alone outside gives its mirror image;
    a and b inside give the quad (ac, ad, bd, bc), whose normal points from the edge ab to the edge cd.
    """
    cases = np.full((16, 2, 3), -1, np.int64)
    place = {frozenset(pair): i for i, pair in enumerate(PAIRS)}
    for a, b, c, d in permutations(range(4)):
        if sum(p > q for p, q in combinations((a, b, c, d), 2)) % 2 == 0:
            ab, ac, ad, bc, bd = (place[frozenset(pair)] for pair in ((a, b), (a, c), (a, d), (b, c), (b, d)))
            cases[1 << a, 0] = ab, ac, ad
            cases[15 - (1 << a), 0] = ad, ac, ab
            cases[1 << a | 1 << b] = (ac, ad, bd), (ac, bd, bc)
    return cases


def marching_tetrahedra(
    verts: Float[Tensor, "G 3"], sdf: Float[Tensor, " G"], grid: TetGrid
) -> tuple[Float[Tensor, "V 3"], Int[Tensor, "F 3"]]:
    """The mesh with a vertex at the linear zero crossing of each cut edge, and one or two faces per cut tet.

    `verts` are the grid's points, which the caller may have moved. Raises ValueError if no edge is cut.
    """
    inside = sdf < 0
    bits = inside.to(torch.uint8)
    low, high = grid.edges.unbind(1)
    cut = bits.index_select(0, low) != bits.index_select(0, high)
    a, b = grid.edges[cut].long().unbind(1)
    if len(a) == 0:
        raise ValueError(f"no sign change: all {len(sdf)} grid points are {'inside' if inside[0] else 'outside'}")
    s_a, s_b = sdf.index_select(0, a), sdf.index_select(0, b)
    x_a, x_b = verts.index_select(0, a), verts.index_select(0, b)
    crossings = x_a + (s_a / (s_a - s_b))[:, None] * (x_b - x_a)
    vertex_of_edge = cut.cumsum(0, dtype=torch.int32) - 1

    corners = enumerate(grid.tets.unbind(1))
    pattern = sum(((bits << i).index_select(0, corner) for i, corner in corners), bits.new_zeros(()))
    cut_tets = ((pattern > 0) & (pattern < 15)).nonzero()[:, 0]
    places = grid.cases[pattern[cut_tets].long()]
    used = places[..., 0] >= 0
    edges = grid.tet_edges[cut_tets].long().gather(1, places.clamp_min(0).reshape(-1, 6)).reshape(-1, 2, 3)
    return crossings, vertex_of_edge[edges[used]]


def sign_change_bce(sdf: Float[Tensor, " G"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, ""]:
    """The mean over the cut edges of the cross entropy between each end's distance and the other end's sign; 0 if none is cut.

    Munkberg et al. 2022, eq. 2. It removes floaters and inner shells. sigmoid(sdf) is the probability of being outside.
    """
    inside = sdf < 0
    cut = inside.index_select(0, edges[:, 0]) != inside.index_select(0, edges[:, 1])
    ends = edges[cut]
    own = sdf.index_select(0, ends.reshape(-1))
    other_inside = inside.index_select(0, ends.flip(1).reshape(-1))
    # Not binary_cross_entropy_with_logits: its gradient's last bits depend on the number of threads.
    return -torch.nn.functional.logsigmoid(torch.where(other_inside, -own, own)).sum() / max(len(ends), 1)
