"""FlexiCubes: dual marching cubes with weights for every cube (Shen et al. 2023), written from the paper.

A cube has one dual vertex per loop of cut edges. Each cut inner grid edge has one quad, between the dual vertices of the four
cubes around it. Each cube has 21 positive weights. `alpha` (8 corners) scales the distances before the crossing of a cut edge
is interpolated, so each cube has its own crossing. `beta` (12 edges) weights the crossings whose mean is the dual vertex.
`gamma` decides along which diagonal a quad is split. Only ratios matter; equal weights give dual marching cubes. `dual_cases`
has the order of corners, edges and faces, and keeps the mesh manifold. Triangles may intersect each other where the surface is
thinner than a cube. For signs, winding and axes see the package; further axes: K cut cubes, P pairs of a cut cube and one of
its cut edges, Q quads.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from recon_lib.isosurface.dual_cases import AXIS_BIT, EDGES, PAIRED_OTHERWISE, loop_table


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """A grid of cubes, and the tables of `dual_cases`."""

    resolution: int  # cubes per side
    verts: Float[Tensor, "G 3"]
    edges: Int[Tensor, "E 2"]  # lower end first; all along x, then y, then z
    loops: Int[Tensor, "512 12"]
    pinched_face: Int[Tensor, "256"]


class FlexiSurface(NamedTuple):
    """The mesh, and how uneven its cells are."""

    verts: Float[Tensor, "V 3"]  # the D dual vertices; in training, the middles of the quads follow
    faces: Int[Tensor, "F 3"]
    deviation: Float[
        Tensor, " D"
    ]  # mean absolute deviation of the distances from a dual vertex to its crossings: L_dev


def voxel_grid(resolution: int, device: str | torch.device = "cpu") -> VoxelGrid:
    """A grid over [-1, 1]^3 of `resolution`^3 cubes."""
    side = resolution + 1
    line = torch.linspace(-1, 1, side)
    points = torch.arange(side**3, dtype=torch.int32).reshape(side, side, side)
    edges = [torch.stack([points.narrow(a, 0, resolution), points.narrow(a, 1, resolution)], -1) for a in range(3)]
    loops, pinched = loop_table()
    return VoxelGrid(
        resolution=resolution,
        verts=torch.cartesian_prod(line, line, line).to(device),
        edges=torch.cat([axis.reshape(-1, 2) for axis in edges]).to(device),
        loops=torch.from_numpy(loops).to(device),
        pinched_face=torch.from_numpy(pinched).to(device),
    )


def positive(raw: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Weights from 0.01 to 1.99 from free parameters: 1 + 0.99 tanh. Equal parameters give equal weights."""
    return 1 + 0.99 * raw.tanh()


def flexicubes(
    verts: Float[Tensor, "G 3"],
    sdf: Float[Tensor, " G"],
    alpha: Float[Tensor, "C 8"],
    beta: Float[Tensor, "C 12"],
    gamma: Float[Tensor, " C"],
    grid: VoxelGrid,
    training: bool,
) -> FlexiSurface:
    """The mesh of the zero set. In training, a quad becomes four triangles, differentiable in gamma; otherwise two triangles.

    `verts` are the grid's points, which the caller may have moved. Raises ValueError if no inner edge is cut.
    """
    inside = (sdf < 0).reshape((grid.resolution + 1,) * 3)
    pattern = _patterns(inside)
    cubes = ((pattern > 0) & (pattern < 255)).nonzero()[:, 0]
    loops = grid.loops[_table_rows(cubes, pattern, grid)]
    loop_counts = loops.amax(1) + 1
    dual_of_edge = (loop_counts.cumsum(0) - loop_counts)[:, None] + loops  # K 12, meaningless where loops is -1
    row, edge = (loops >= 0).nonzero().unbind(1)

    crossings = _crossings(verts, sdf, alpha, cubes[row], edge, grid.resolution)
    weights = beta.reshape(-1).index_select(0, 12 * cubes[row] + edge)
    duals, deviation = _duals(crossings, weights, dual_of_edge[row, edge], int(loop_counts.sum()))

    quad_cubes, quad_edges = _quads(inside)
    if len(quad_cubes) == 0:
        raise ValueError(f"no sign change on an inner edge: {int(inside.sum())} of {len(sdf)} grid points are inside")
    row_of_cube = torch.zeros_like(pattern, dtype=torch.long)
    row_of_cube[cubes] = torch.arange(len(cubes), device=cubes.device)
    quads = dual_of_edge[row_of_cube[quad_cubes], quad_edges]
    corner_gammas = gamma.index_select(0, quad_cubes.reshape(-1)).reshape(-1, 4)
    if training:
        middles, faces = _split_in_four(duals, quads, corner_gammas)
        return FlexiSurface(torch.cat([duals, middles]), faces.int(), deviation)
    return FlexiSurface(duals, _split_in_two(quads, corner_gammas).int(), deviation)


def _patterns(inside: Bool[Tensor, "side side side"]) -> UInt8[Tensor, " C"]:
    n = len(inside) - 1
    bits = inside.to(torch.uint8)
    corners = [bits[x : x + n, y : y + n, z : z + n] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    return sum((corner << i for i, corner in enumerate(corners)), bits.new_zeros(())).reshape(-1)


def _table_rows(cubes: Int[Tensor, " K"], pattern: UInt8[Tensor, " C"], grid: VoxelGrid) -> Int[Tensor, " K"]:
    """The cubes' rows in the loop table: two cubes that are both pinched at their common face pair it the other way."""
    n = grid.resolution
    own = pattern[cubes].long()
    face = grid.pinched_face[own]
    axis, up = face.clamp_min(0) // 2, face % 2
    stride = torch.tensor([n * n, n, 1], device=cubes.device)[axis]
    at = cubes // stride % n + 2 * up - 1
    beyond = (cubes + (2 * up - 1) * stride).clamp(0, n**3 - 1)
    both = (grid.pinched_face[pattern[beyond].long()] == (face ^ 1)) & (face >= 0) & (at >= 0) & (at < n)
    return own + PAIRED_OTHERWISE * both


def _crossings(
    verts: Float[Tensor, "G 3"],
    sdf: Float[Tensor, " G"],
    alpha: Float[Tensor, "C 8"],
    cubes: Int[Tensor, " P"],
    edge: Int[Tensor, " P"],
    n: int,
) -> Float[Tensor, "P 3"]:
    """The zero crossing of each pair of cube and cut edge, with the distances scaled by that cube's alpha."""
    side = n + 1
    lowest = (cubes // n**2 * side + cubes // n % n) * side + cubes % n
    scaled, points = [], []
    for corner in torch.tensor(EDGES, device=cubes.device)[edge].unbind(1):
        point = lowest + (corner >> 2) * side**2 + (corner >> 1 & 1) * side + (corner & 1)
        scaled.append(sdf.index_select(0, point) * alpha.reshape(-1).index_select(0, 8 * cubes + corner))
        points.append(verts.index_select(0, point))
    share = scaled[0] / (scaled[0] - scaled[1])
    return points[0] + share[:, None] * (points[1] - points[0])


def _duals(
    crossings: Float[Tensor, "P 3"], weights: Float[Tensor, " P"], dual: Int[Tensor, " P"], count: int
) -> tuple[Float[Tensor, "D 3"], Float[Tensor, " D"]]:
    def total(values: Tensor) -> Tensor:
        return values.new_zeros(count, *values.shape[1:]).index_add(0, dual, values)

    duals = total(weights[:, None] * crossings) / total(weights)[:, None]
    crossings_of = total(torch.ones_like(weights))
    offset = crossings - duals.index_select(0, dual)
    distance = offset.square().sum(-1).clamp_min(1e-20).sqrt()  # sqrt has infinite slope at 0
    spread = (distance - (total(distance) / crossings_of).index_select(0, dual)).abs()
    return duals, total(spread) / crossings_of


def _quads(inside: Bool[Tensor, "side side side"]) -> tuple[Int[Tensor, "Q 4"], Int[Tensor, "Q 4"]]:
    """The four cubes around each cut inner edge, counter-clockwise seen from outside, and the edge's number in each cube."""
    n = len(inside) - 1
    stride = (n * n, n, 1)
    cubes, edges = [], []
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        inner = inside.narrow(b, 1, n - 1).narrow(c, 1, n - 1)
        low_inside = inner.narrow(a, 0, n)
        cut = low_inside != inner.narrow(a, 1, n)
        # The cube on the lower side along b and c: inner edges start at 1 there, so their index is the cube's.
        x, y, z = cut.nonzero().unbind(1)
        first = x * stride[0] + y * stride[1] + z * stride[2]
        around = ((0, 0), (1, 0), (1, 1), (0, 1))  # counter-clockwise seen from the upper end of a
        around_cubes = torch.stack([first + i * stride[b] + j * stride[c] for i, j in around], 1)
        corners = [(1 - i) * AXIS_BIT[b] | (1 - j) * AXIS_BIT[c] for i, j in around]
        around_edges = torch.tensor([EDGES.index((low, low | AXIS_BIT[a])) for low in corners], device=inside.device)
        around_edges = around_edges.expand_as(around_cubes)
        out_is_up = low_inside[cut][:, None]
        cubes.append(torch.where(out_is_up, around_cubes, around_cubes.flip(1)))
        edges.append(torch.where(out_is_up, around_edges, around_edges.flip(1)))
    return torch.cat(cubes), torch.cat(edges)


def _split_in_four(
    duals: Float[Tensor, "D 3"], quads: Int[Tensor, "Q 4"], gamma: Float[Tensor, "Q 4"]
) -> tuple[Float[Tensor, "Q 3"], Int[Tensor, "4*Q 3"]]:
    """Four triangles per quad, around a middle that gamma moves between the middles of the two diagonals."""
    v0, v1, v2, v3 = duals.index_select(0, quads.reshape(-1)).reshape(-1, 4, 3).unbind(1)
    weight_02, weight_13 = gamma[:, 0:1] * gamma[:, 2:3], gamma[:, 1:2] * gamma[:, 3:4]
    middles = (weight_02 * (v0 + v2) + weight_13 * (v1 + v3)) / (2 * (weight_02 + weight_13))
    middle = len(duals) + torch.arange(len(quads), device=quads.device)[:, None].expand(-1, 4)
    return middles, torch.stack([quads, quads.roll(-1, 1), middle], -1).reshape(-1, 3)


def _split_in_two(quads: Int[Tensor, "Q 4"], gamma: Float[Tensor, "Q 4"]) -> Int[Tensor, "2*Q 3"]:
    along_02 = gamma[:, 0] * gamma[:, 2] >= gamma[:, 1] * gamma[:, 3]
    turned = torch.where(along_02[:, None], quads, quads.roll(-1, 1))  # the split now joins the first and third corners
    return turned[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
