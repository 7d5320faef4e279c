"""Environment light prefiltered for shading, by linear operators that are made once per size of cube map.

Level 0 of the stack is the cube map itself. Each further level has half as many texels per side and a wider GGX lobe; it is
filtered from the cube map averaged down to its own size (Karis 2013, who takes view and normal along the reflected ray). The
irradiance divided by pi is a small cube map of its own. The rows of every operator sum to one, so a constant sky stays
constant.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib.shading import cubemap, ggx

SMALLEST = 4  # texels per side of the last level, which is for roughness 1
IRRADIANCE_SIZE = 8  # texels per side of the irradiance
SUBSAMPLES = 2  # directions per texel side when an operator is made
MIRROR = 0.08  # roughness of level 0; from there to 1 at the last level, the levels' roughness goes up evenly


@dataclass(frozen=True, eq=False)
class Operators:
    """The matrices that turn a cube map of one size into a `Light`. `table` is `ggx.split_sum_table`."""

    size: int  # texels per side
    specular: tuple[Tensor, ...]  # per level from 1 on, 6RR x 6RR for a level of R texels per side
    diffuse: Float[Tensor, "D D"]
    table: Float[Tensor, "R V 2"]


class Light(NamedTuple):
    """Prefiltered light."""

    specular: tuple[Tensor, ...]  # cube maps, 6 R R 3 each, every one half the size of the one before
    irradiance: Float[Tensor, "6 R R 3"]  # divided by pi: the radiance of a white diffuse surface
    table: Float[Tensor, "R V 2"]


@cache
def operators(size: int, device: str | torch.device = "cpu") -> Operators:
    """The operators for cube maps of `size` texels per side.

    Raises ValueError for a size that is not a power of two, or is less than 16.
    """
    if size < 16 or size & (size - 1):
        raise ValueError(f"environment light: {size} texels along a side, need a power of two from 16 on")
    sizes = [size >> k for k in range((size // SMALLEST).bit_length())]
    roughness = torch.linspace(MIRROR, 1, len(sizes)).tolist()
    specular = tuple(
        _make_operator(n, lambda cos, a=r * r: ggx.distribution(((1 + cos) / 2).clamp_min(0).sqrt(), a) * cos, device)
        for n, r in zip(sizes[1:], roughness[1:], strict=True)
    )
    diffuse = _make_operator(IRRADIANCE_SIZE, lambda cos: cos, device)
    return Operators(size, specular, diffuse, ggx.split_sum_table(device))


def of_cube(cube: Float[Tensor, "6 S S 3"]) -> Light:
    """Prefilters a cube map with the operators for its size and device, which are made once."""
    return prefilter(cube, operators(cube.shape[1], cube.device))


def prefilter(cube: Float[Tensor, "6 S S 3"], operators: Operators) -> Light:
    """Prefilters a cube map. The result is linear in `cube`, and gradients reach it through every level."""
    levels, specular, irradiance = cube, [cube], None
    for operator in operators.specular:
        levels = cubemap.halve(levels)
        specular.append((operator @ levels.reshape(-1, 3)).reshape(levels.shape))
        if levels.shape[1] == IRRADIANCE_SIZE:
            irradiance = (operators.diffuse @ levels.reshape(-1, 3)).reshape(levels.shape)
    assert irradiance is not None
    return Light(tuple(specular), irradiance, operators.table)


def _make_operator(size: int, lobe, device) -> Tensor:
    """The matrix whose rows are the weights with which each texel's direction gathers light from all texels.

    Weights are `lobe(cosine)` times solid angle, divided by their sum.
    """
    to = cubemap.directions(size, device).reshape(-1, 3)
    fine = cubemap.directions(size * SUBSAMPLES, device)
    area = cubemap.solid_angles(size * SUBSAMPLES, device).expand(6, -1, -1)
    blocks = 6, size, SUBSAMPLES, size, SUBSAMPLES
    fine = fine.reshape(*blocks, 3).permute(2, 4, 0, 1, 3, 5).reshape(SUBSAMPLES**2, -1, 3)
    area = area.reshape(blocks).permute(2, 4, 0, 1, 3).reshape(SUBSAMPLES**2, -1)
    weight = torch.zeros(len(to), fine.shape[1], device=device)
    for direction, steradians in zip(fine, area, strict=True):
        weight += lobe((to @ direction.T).clamp_min(0)) * steradians
    return weight / weight.sum(1, keepdim=True)
