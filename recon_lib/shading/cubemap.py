"""Cube maps: the directions and solid angles of their texels, and conversion from and to latitude-longitude images.

A latitude-longitude image has +y at its top row, and its columns run from -z over +x, +z and -x back to -z, so that the
middle column looks along +z.
"""

import torch
from jaxtyping import Float
from torch import Tensor

# Per face, the direction of (1, s, t) as columns: main axis, s to the right, t downwards (OpenGL's table of cube maps).
FACE_AXES = (
    ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
    ((-1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((0, 1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, -1, 0), (1, 0, 0), (0, 0, -1)),
    ((0, 0, 1), (1, 0, 0), (0, -1, 0)),
    ((0, 0, -1), (-1, 0, 0), (0, -1, 0)),
)


def directions(size: int, device: str | torch.device = "cpu") -> Float[Tensor, "6 S S 3"]:
    """Unit vectors to the centres of the texels of a cube map with `size` texels per side."""
    centre = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    t, s = torch.meshgrid(centre, centre, indexing="ij")
    on_face = torch.stack([torch.ones_like(s), s, t], -1)
    axes = torch.tensor(FACE_AXES, dtype=on_face.dtype, device=device)
    return torch.nn.functional.normalize(torch.einsum("hwk,fkc->fhwc", on_face, axes), dim=-1)


def solid_angles(size: int, device: str | torch.device = "cpu") -> Float[Tensor, "S S"]:
    """The exact solid angles in steradians of a face's texels: differences of atan(x y / sqrt(1 + x^2 + y^2)) at corners."""
    edge = torch.linspace(-1, 1, size + 1, dtype=torch.float64)
    x, y = edge[:, None], edge[None]
    corner = torch.atan2(x * y, (1 + x * x + y * y).sqrt())
    area = corner[1:, 1:] - corner[1:, :-1] - corner[:-1, 1:] + corner[:-1, :-1]
    return area.float().to(device)


def halve(cube: Float[Tensor, "6 S S C"]) -> Float[Tensor, "6 R R C"]:
    """The cube map at half the size R, by means over 2 x 2 texels."""
    faces, size, _, channels = cube.shape
    return cube.reshape(faces, size // 2, 2, size // 2, 2, channels).mean((2, 4))


def from_latlong(image: Float[Tensor, "H W 3"], size: int) -> Float[Tensor, "6 S S 3"]:
    """The cube map of a latitude-longitude image; each texel is the mean of 8 x 8 bilinear lookups."""
    fine = directions(8 * size, image.device)
    u = torch.atan2(fine[..., 0], fine[..., 2]) / torch.pi  # -1 to 1 over the columns, 0 along +z
    v = torch.acos(fine[..., 1].clamp(-1, 1)) * (2 / torch.pi) - 1
    # One more column on each side, because the image is periodic and grid_sample is not.
    wrapped = torch.cat([image[:, -1:], image, image[:, :1]], 1).permute(2, 0, 1)[None]
    grid = torch.stack([u * image.shape[1] / (image.shape[1] + 2), v], -1).reshape(1, 6 * 8 * size, 8 * size, 2)
    looked_up = torch.nn.functional.grid_sample(wrapped, grid, padding_mode="border", align_corners=False)
    return looked_up.reshape(3, 6, size, 8, size, 8).mean((3, 5)).permute(1, 2, 3, 0)


def latlong_directions(height: int, device: str | torch.device = "cpu") -> Float[Tensor, "H W 3"]:
    """Unit vectors of the pixels of an image of `height` x 2 `height`, by which a cube map can be looked up."""
    polar = (torch.arange(height, device=device) + 0.5) * (torch.pi / height)
    azimuth = (torch.arange(2 * height, device=device) + 0.5) * (torch.pi / height) - torch.pi
    polar, azimuth = torch.meshgrid(polar, azimuth, indexing="ij")
    return torch.stack([polar.sin() * azimuth.sin(), polar.cos(), polar.sin() * azimuth.cos()], -1)


def turned(cube: Float[Tensor, "6 S S 3"], R_new_old: Float[Tensor, "3 3"]) -> Float[Tensor, "6 S S 3"]:
    """The same light in a rotated frame; each texel is the mean of 4 x 4 lookups in the old map, exact for quarter turns."""
    size = cube.shape[1]
    to = directions(4 * size, cube.device) @ R_new_old.to(
        cube
    )  # a row vector times R is R transposed times the column vector, which leads to the old frame
    axes = torch.tensor(FACE_AXES, dtype=cube.dtype, device=cube.device)
    along = torch.einsum("fhwc,kac->fhwka", to, axes)  # components along main axis, s and t of each old face k
    face = along[..., 0].argmax(-1)
    main, s, t = along.gather(-2, face[..., None, None].expand(*face.shape, 1, 3))[..., 0, :].unbind(-1)
    column, row = (((x / main + 1) * (size / 2)).long().clamp(0, size - 1) for x in (s, t))
    return cube[face, row, column].reshape(6, size, 4, size, 4, 3).mean((2, 4))
