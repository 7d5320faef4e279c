"""The light that metallic-roughness surfaces (glTF 2.0, appendix B) send to the eye under prefiltered environment light.

Vectors and colours are planar, 3 P, because torch sums over three planes several times faster than over a last axis of three.
`radiance` takes and gives points, P 3. `pbr_cpu` has it again for the CPU, in one kernel.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib.raster.interface import Rasteriser
from recon_lib.shading.environment import MIRROR, Light

DIELECTRIC_F0 = 0.04
GRAZING = 0.1  # a shading normal is bent towards the viewer until n.v is at least this


def radiance(
    smooth: Float[Tensor, "P 3"], towards: Float[Tensor, "P 3"], base_colour: Float[Tensor, "P 3"],
    values: Float[Tensor, "P 6"], light: Light, raster: Rasteriser,
) -> Float[Tensor, "P 3"]:  # fmt: skip
    """The linear radiance of points towards the eye.

    `smooth` are the surface's normals and `towards` vectors to the eye, of any length; `values` are `Material.values`.
    """
    to_eye = _unit(towards.T.contiguous())
    orm, offset = values.T.contiguous().split(3)
    normal = shading_normals(smooth.T.contiguous(), offset, to_eye)
    return shade(base_colour.T.contiguous(), orm, normal, to_eye, light, raster).T


def shading_normals(
    smooth: Float[Tensor, "3 P"], offset: Float[Tensor, "3 P"], to_eye: Float[Tensor, "3 P"]
) -> Float[Tensor, "3 P"]:
    """Unit normals of the surface plus the material's offset, bent towards the eye until n.v is at least about GRAZING."""
    n = _unit(_unit(smooth) + offset)
    n_dot_v = (n * to_eye).sum(0, keepdim=True)
    return _unit(n + (GRAZING - n_dot_v).clamp_min(0) * to_eye)


def shade(
    base_colour: Float[Tensor, "3 P"], orm: Float[Tensor, "3 P"], normal: Float[Tensor, "3 P"],
    to_eye: Float[Tensor, "3 P"], light: Light, raster: Rasteriser,
) -> Float[Tensor, "3 P"]:  # fmt: skip
    """The linear radiance towards the eye. `normal` and `to_eye` are unit vectors; `orm`: occlusion, roughness, metallic."""
    occlusion, roughness, metallic = orm.split(1)
    n_dot_v = (normal * to_eye).sum(0, keepdim=True)
    reflected = 2 * n_dot_v * normal - to_eye
    lobe = specular_light(light, reflected, roughness[0], raster)
    at = torch.cat([n_dot_v, roughness]).T[None, None]
    scale, bias = raster.texture(light.table[None], at, boundary_mode="clamp")[0, 0].T.contiguous().split(1)
    diffuse = raster.texture(light.irradiance[None], normal.T[None, None], boundary_mode="cube")[0, 0].T.contiguous()
    dielectric = 1 - metallic
    F0 = DIELECTRIC_F0 * dielectric + base_colour * metallic
    left = 1 - (DIELECTRIC_F0 * scale + bias)  # not reflected by a dielectric's surface, so nothing outshines its sky
    return occlusion * (base_colour * (dielectric * left) * diffuse + lobe * (F0 * scale + bias))


def specular_light(
    light: Light, direction: Float[Tensor, "3 P"], roughness: Float[Tensor, " P"], raster: Rasteriser
) -> Float[Tensor, "3 P"]:
    """The light that a GGX lobe of the given roughness gathers around `direction`, interpolated between texels and levels."""
    top = len(light.specular) - 1
    level = ((roughness - MIRROR) * (top / (1 - MIRROR))).clamp(0, top)
    base, *mip = (cube[None] for cube in light.specular)
    seen = raster.texture(
        base, direction.T[None, None], mip_level_bias=level[None, None], mip=mip,
        filter_mode="linear-mipmap-linear", boundary_mode="cube",
    )  # fmt: skip
    return seen[0, 0].T.contiguous()


def _unit(v: Float[Tensor, "3 P"]) -> Float[Tensor, "3 P"]:
    return v * v.square().sum(0, keepdim=True).clamp_min(1e-20).rsqrt()
