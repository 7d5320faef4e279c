"""Outgoing light of metallic-roughness surfaces (glTF 2.0, appendix B) under prefiltered environment light."""

from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib.shading.environment import Light

DIELECTRIC_F0 = 0.04
GRAZING = 0.1  # a shading normal is bent towards the viewer until n.v is at least this


def shading_normals(
    smooth: Float[Tensor, "P 3"], offset: Float[Tensor, "P 3"], to_eye: Float[Tensor, "P 3"]
) -> Float[Tensor, "P 3"]:
    """Unit normals of the surface plus its texture's offset, turned into the half space that the eye sees."""
    n = _unit(_unit(smooth) + offset)
    n_dot_v = (n * to_eye).sum(-1, keepdim=True)
    return _unit(n + (GRAZING - n_dot_v).clamp_min(0) * to_eye)


def shade(
    base_colour: Float[Tensor, "P 3"], orm: Float[Tensor, "P 3"], normal: Float[Tensor, "P 3"],
    to_eye: Float[Tensor, "P 3"], light: Light, raster: ModuleType,
) -> Float[Tensor, "P 3"]:  # fmt: skip
    """Linear radiance towards the eye. `normal` and `to_eye` are unit vectors; `orm` is (occlusion, roughness, metallic)."""
    occlusion, roughness, metallic = orm.split(1, -1)
    n_dot_v = (normal * to_eye).sum(-1, keepdim=True)
    reflected = 2 * n_dot_v * normal - to_eye
    lobe = specular_light(light, reflected, roughness[:, 0], raster)
    at = torch.cat([n_dot_v, roughness], -1)[None, None]
    scale, bias = raster.texture(light.table[None], at, boundary_mode="clamp")[0, 0].split(1, -1)
    diffuse = raster.texture(light.irradiance[None], normal[None, None], boundary_mode="cube")[0, 0]
    dielectric = 1 - metallic
    F0 = DIELECTRIC_F0 * dielectric + base_colour * metallic
    left = 1 - (
        DIELECTRIC_F0 * scale + bias
    )  # what a dielectric's surface lets through: nothing shines brighter than its sky
    return occlusion * (base_colour * dielectric * left * diffuse + lobe * (F0 * scale + bias))


def specular_light(
    light: Light, direction: Float[Tensor, "P 3"], roughness: Float[Tensor, " P"], raster: ModuleType
) -> Float[Tensor, "P 3"]:
    """The light that a GGX lobe of that roughness gathers around `direction`: trilinear between texels and levels."""
    level = torch.zeros_like(roughness)
    for low, high in zip(light.roughness[:-1], light.roughness[1:], strict=True):
        level = level + ((roughness - low) / (high - low)).clamp(0, 1)
    base, *mip = (cube[None] for cube in light.specular)
    return raster.texture(
        base, direction[None, None], mip_level_bias=level[None, None], mip=mip,
        filter_mode="linear-mipmap-linear", boundary_mode="cube",
    )[0, 0]  # fmt: skip


def _unit(v: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
    return v * v.square().sum(-1, keepdim=True).clamp_min(1e-20).rsqrt()
