"""Triangle meshes.

Faces wind counter-clockwise seen from outside, so normals point outwards and the volume is positive. Texture coordinates are
glTF's: u right, v down, (0, 0) the top-left corner of the texture. They have their own index (`uv_faces`), so that positions
stay shared across texture seams. `texture` is linear colour. In a mesh without a light (unlit) it is the colour that the eye
sees. In a mesh with a light (lit), which is a cube map of linear radiance (see `shading`), it is the base colour, and
`material` holds the other channels at a resolution of its own.
Axes: V vertices, F faces, T texture coordinates, E undirected edges, S texels along a cube map's side.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from jaxtyping import Float, Int
from torch import Tensor

PARTS = ("verts", "faces", "uvs", "uv_faces", "texture", "material", "light")  # of a Mesh
MOVING = ("verts", "texture", "material", "light")  # the parts that a fit changes


@dataclass(frozen=True, eq=False)
class Material:
    """The channels of a surface besides its base colour, at texels or at points: one array, so that one lookup finds all.

    Channels 0 to 2 are occlusion (1 is open), roughness and metallic, each 0 to 1. Channels 3 to 5 are the normal offset, a
    vector in the mesh's frame that is added to the unit normal.
    """

    values: Float[Tensor, "*S 6"]

    @property
    def occlusion_roughness_metallic(self) -> Float[Tensor, "*S 3"]:
        """Channels 0 to 2, each 0 to 1."""
        return self.values[..., :3]

    @property
    def normal_offset(self) -> Float[Tensor, "*S 3"]:
        """Channels 3 to 5, in the mesh's frame."""
        return self.values[..., 3:]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh; the parts that are None are absent. The module's docstring says what each part means."""

    verts: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    uvs: Float[Tensor, "T 2"] | None = None
    uv_faces: Int[Tensor, "F 3"] | None = None
    texture: Float[Tensor, "H W C"] | None = None
    material: Material | None = None
    light: Float[Tensor, "6 S S 3"] | None = None


def _corners(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> tuple[Tensor, Tensor, Tensor]:
    # Not verts[faces]: with several threads its gradient is summed by atomic adds, in another order each time.
    a, b, c = verts.index_select(0, faces.long().reshape(-1)).reshape(-1, 3, 3).unbind(1)
    return a, b, c


def face_normals(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "F 3"]:
    """Unit normals that point outwards; zero for a degenerate face."""
    a, b, c = _corners(verts, faces)
    normal = torch.linalg.cross(b - a, c - a)
    # sqrt has infinite slope at 0, so clamp before it: clamping the length afterwards still gives NaN gradients.
    return normal / normal.square().sum(-1, keepdim=True).clamp_min(1e-30).sqrt()


def face_areas(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, " F"]:
    """Areas in squared units of the vertices' frame."""
    a, b, c = _corners(verts, faces)
    return torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2


def vertex_normals(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """Unit normals: the area-weighted mean over the faces around each vertex; zero for a vertex that no face uses."""
    a, b, c = _corners(verts, faces)
    normal = torch.linalg.cross(b - a, c - a)[:, None].expand(-1, 3, -1).reshape(-1, 3)
    total = torch.zeros_like(verts).index_add(0, faces.long().reshape(-1), normal)
    return torch.nn.functional.normalize(total, dim=-1)


def volume(verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, ""]:
    """Signed volume by the divergence theorem; positive when closed and wound outwards."""
    a, b, c = _corners(verts, faces)
    return (a * torch.linalg.cross(b, c)).sum() / 6


def edges(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "E 2"]:
    """The undirected edges, each once: the smaller vertex first, rows in ascending order."""
    pairs = faces.long()[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2)
    return unique_pairs(pairs.sort(dim=-1).values)[0]


def unique_pairs(pairs: Int[Tensor, "N 2"]) -> tuple[Int[Tensor, "U 2"], Int[Tensor, " N"]]:
    """The pairs (0 or larger), each once, rows in ascending order, and which of them each given pair is.

    The same as `torch.unique` along dimension 0, which is many times slower.
    """
    key = (pairs[:, 0].long() << 32) + pairs[:, 1].long()
    if key.is_cuda:
        found, index = torch.unique(key, return_inverse=True)
    else:  # numpy sorts ten times faster
        found, index = map(torch.from_numpy, np.unique(key.numpy(), return_inverse=True))
    return torch.stack([found >> 32, found & 0xFFFFFFFF], -1), index


def opposite_vertices(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """Per face and corner, the vertex of the neighbouring face that does not lie on the edge opposite that corner.

    -1 where the edge has no second face. Of an edge with more than two faces, the first two are each other's neighbours; the
    others take the first as theirs.
    """
    f = faces.cpu().numpy().astype(np.int64)
    pairs = np.sort(f[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1)
    key = pairs[:, 0] * (f.max(initial=0) + 1) + pairs[:, 1]
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0])
    counts = np.diff(np.r_[starts, len(order)])
    first, second = order[starts[counts > 1]], order[starts[counts > 1] + 1]
    far = f.reshape(-1)
    out = np.full(len(far), -1, np.int32)
    out[first], out[second] = far[second], far[first]
    rest = np.ones(len(order), bool)
    rest[order[starts]] = rest[second] = False
    third = np.flatnonzero(rest)
    first_of = order[np.repeat(starts, counts)][np.argsort(order)]
    out[third] = far[first_of[third]]
    return torch.from_numpy(out.reshape(-1, 3))


def laplacian(faces: Int[Tensor, "F 3"], vertex_count: int) -> scipy.sparse.coo_array:
    """The combinatorial Laplacian L = D - A, V x V float64: D holds the vertex degrees, A the adjacency."""
    i, j = torch.cat([edges(faces), edges(faces).flip(1)]).T.numpy()
    degree = np.bincount(i, minlength=vertex_count)
    diagonal = np.arange(vertex_count)
    values = np.concatenate([-np.ones(len(i)), degree])
    return scipy.sparse.coo_array((values, (np.r_[i, diagonal], np.r_[j, diagonal])), shape=(vertex_count,) * 2)


def icosphere(subdivisions: int) -> Mesh:
    """A unit sphere around the origin with 20 * 4^subdivisions faces, made from an icosahedron."""
    p = (1 + 5**0.5) / 2
    verts = torch.tensor(
        [[-1, p, 0], [1, p, 0], [-1, -p, 0], [1, -p, 0], [0, -1, p], [0, 1, p],
         [0, -1, -p], [0, 1, -p], [p, 0, -1], [p, 0, 1], [-p, 0, -1], [-p, 0, 1]]
    )  # fmt: skip
    faces = torch.tensor(
        [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4], [11, 10, 2], [10, 7, 6],
         [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8], [3, 8, 9], [4, 9, 5], [2, 4, 11], [6, 2, 10],
         [8, 6, 7], [9, 8, 1]]
    )  # fmt: skip
    for _ in range(subdivisions):
        pairs = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).sort(dim=-1).values
        unique, inverse = unique_pairs(pairs)
        ab, bc, ca = (inverse.reshape(-1, 3) + len(verts)).unbind(1)
        a, b, c = faces.unbind(1)
        verts = torch.cat([verts, verts[unique].mean(1)])
        faces = torch.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], -1).reshape(-1, 3)
    return Mesh(torch.nn.functional.normalize(verts, dim=-1), faces.int())


def map_tensors(mesh: Mesh, change: Callable[[Tensor], Tensor], names: tuple[str, ...] = PARTS) -> Mesh:
    """The mesh with `change` applied to each of the named parts that is not None."""
    changed: dict[str, Any] = {}
    for name in names:
        value = getattr(mesh, name)
        if value is not None:
            changed[name] = Material(change(value.values)) if isinstance(value, Material) else change(value)
    return replace(mesh, **changed)


def on_device(mesh: Mesh, device: str) -> Mesh:
    """The mesh with all its tensors on a torch device, contiguous."""
    return map_tensors(mesh, lambda tensor: tensor.to(device).contiguous())


def weld(
    verts: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], tolerance: float = 0.0
) -> tuple[Float[Tensor, "W 3"], Int[Tensor, "F 3"]]:
    """Merges vertices whose positions are equal after rounding to multiples of `tolerance` (0: bitwise equal).

    No face is dropped. Mesh files split vertices at texture seams, where the surface itself has no seam.
    """
    place = verts.numpy()
    if tolerance:
        place = np.round(verts.double().numpy() / tolerance).astype(np.int64)
    _, first, index = np.unique(place, axis=0, return_index=True, return_inverse=True)
    return verts[torch.from_numpy(first)], torch.from_numpy(index.reshape(-1)[faces.numpy()].astype(np.int32))


def connected_parts(faces: Int[Tensor, "F 3"], vertex_count: int) -> np.ndarray:
    """The number (from 0) of the connected part that each face belongs to, F ints. Faces that share a vertex are connected."""
    f = faces.numpy()
    links = scipy.sparse.coo_array(
        (np.ones(f.size), (f.ravel(), np.roll(f, 1, axis=1).ravel())), shape=(vertex_count,) * 2
    )
    part = scipy.sparse.csgraph.connected_components(links, directed=False)[1][f[:, 0]]
    return np.unique(part, return_inverse=True)[1]
