"""A textured mesh seen by cameras.

Images are premultiplied linear RGBA, antialiased, top row first; alpha is the share of the pixel that the mesh covers. A mesh
with a light is shaded by it (`shading.pbr`); a mesh without one shows its texture. Axes: N views, H W pixels, P covered pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib import camera
from recon_lib import colour as colours
from recon_lib.camera import Cameras
from recon_lib.mesh import Material, Mesh, vertex_normals
from recon_lib.raster.interface import Rasteriser
from recon_lib.shading import environment, normals_cpu, pbr, pbr_cpu

ASIDE_SHARE = 8  # one covered pixel in this many is compared with the material close to it


class Covered(NamedTuple):
    """The surface at the centres of the pixels that it covers."""

    pixel: Int[Tensor, " P"]  # index into the flattened images
    texture: Float[Tensor, "P C"]
    material: Material | None
    colour: Float[Tensor, "P 3"]  # linear light towards the eye
    material_difference: Float[Tensor, ""]  # mean absolute difference to the material close by; 0 without `aside`


class Rendering(NamedTuple):
    """The images, and the surface that they show."""

    rgba: Float[Tensor, "N H W 4"]
    covered: Covered


class Views(NamedTuple):
    """Cameras prepared for rasterisation: clip matrices and the positions of the eyes in the world."""

    T_clip_world: Float[Tensor, "N 4 4"]
    eye: Float[Tensor, "N 3"]
    width: int  # pixels, of every view
    height: int


def views(cameras: Cameras, verts: Float[Tensor, "V 3"]) -> Views:
    """Prepares cameras of one image size; the near and far planes enclose all points in front of the cameras."""
    width, height = cameras.sizes[0].tolist()
    row = camera.invert_rigid(cameras.T_world_cam)[:, 2]
    depth = -(verts.detach() @ row[:, :3].T + row[:, 3])
    far = 1.01 * depth.max().item()
    near = max(0.99 * depth.min().item(), 1e-3 * far)
    T_clip_world = camera.projection(cameras, near, max(far, 2 * near))
    return Views(T_clip_world, cameras.T_world_cam[:, :3, 3], width, height)


def clip_positions(verts: Float[Tensor, "V 3"], seen: Views) -> Float[Tensor, "N V 4"]:
    """World positions in each view's clip space, as the rasteriser takes them."""
    return verts @ seen.T_clip_world[:, :, :3].mT + seen.T_clip_world[:, None, :, 3]


def render(
    mesh: Mesh, cameras: Cameras, raster: Rasteriser, topology: object | None = None
) -> Float[Tensor, "N H W 4"]:
    """Images of the mesh, one per view; all views must have one size. `topology` is `raster.topology` of the same faces."""
    return surfaces(mesh, views(cameras, mesh.verts), raster, topology).rgba


def surfaces(
    mesh: Mesh,
    seen: Views,
    raster: Rasteriser,
    topology: object | None = None,
    most_covered: int | None = None,
    material: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    aside: Callable[[Tensor], Tensor] | None = None,
) -> Rendering:
    """Renders the mesh, and also returns the surface at the covered pixels.

    `most_covered` allocates a fixed number of pixel slots so that the GPU need not synchronise. Extra slots are ignored;
    covered pixels beyond that number are dropped. `material` is for a mesh without texture coordinates: it maps positions
    (P 3) to base colour (P 3) and `Material.values` (P 6). `aside` maps texture coordinates, or positions if `material` is
    given, to places close by where the material should be nearly the same; then `material_difference` is measured.
    """
    pos, rast = rasterised(mesh, seen, raster)
    return shaded(mesh, seen.eye, pos, rast, raster, topology, most_covered, material, aside)


def rasterised(mesh: Mesh, seen: Views, raster: Rasteriser) -> tuple[Float[Tensor, "N V 4"], Float[Tensor, "N H W 4"]]:
    """The first half of `surfaces`, in which a GPU synchronises: clip positions, and what `raster.rasterize` gives for them."""
    pos = clip_positions(mesh.verts, seen)
    return pos, raster.rasterize(pos, mesh.faces, (seen.height, seen.width), grad_db=False)[0]


def shaded(
    mesh: Mesh, eye: Float[Tensor, "N 3"], pos: Float[Tensor, "N V 4"], rast: Float[Tensor, "N H W 4"],
    raster: Rasteriser, topology: object | None, most_covered: int | None, material: Callable | None,
    aside: Callable | None,
) -> Rendering:  # fmt: skip
    """The second half of `surfaces`."""
    index = _covered_pixels(rast, most_covered)
    covered = _shade(mesh, eye, rast, index, raster, material, aside)
    shaded = torch.nn.functional.pad(covered.colour, (0, 1), value=1.0)
    count = rast[..., 0].numel()
    pixels = shaded.new_zeros(count if most_covered is None else count + 1, 4).index_copy_(0, index, shaded)
    pixels = pixels[:count].reshape(*rast.shape[:3], 4)
    return Rendering(raster.antialias(pixels, rast, pos, mesh.faces, topology), covered)


def lookup(mesh: Mesh, cameras: Cameras, raster: Rasteriser) -> Float[Tensor, "N H W C"]:
    """The texture at each pixel centre, zero where no face covers it; not antialiased."""
    seen = views(cameras, mesh.verts)
    rast, _ = raster.rasterize(clip_positions(mesh.verts, seen), mesh.faces, (seen.height, seen.width), grad_db=False)
    index = _covered_pixels(rast, None)
    (uv,) = raster.attributes_at(rast, index, [(mesh.uvs, mesh.uv_faces)])
    texels = texture_at(mesh.texture, uv, raster)
    pixels = texels.new_zeros(rast[..., 0].numel(), texels.shape[-1]).index_copy(0, index, texels)
    return pixels.reshape(*rast.shape[:3], -1)


def texture_at(texture: Float[Tensor, "H W C"], uv: Float[Tensor, "P 2"], raster: Rasteriser) -> Float[Tensor, "P C"]:
    """The texture at texture coordinates, interpolated bilinearly and clamped at the border."""
    return raster.texture(texture[None], uv[None, None], filter_mode="linear", boundary_mode="clamp")[0, 0]


def _covered_pixels(rast: Tensor, most: int | None) -> Int[Tensor, " P"]:
    covered = (rast[..., 3] > 0).reshape(-1)
    if most is None:
        return covered.nonzero()[:, 0]
    place = torch.where(covered, covered.cumsum(0) - 1, most).clamp_max(most)
    index = torch.full((most + 1,), len(covered), device=rast.device)
    return index.scatter(0, place, torch.arange(len(covered), device=rast.device))[:most]


def _shade(
    mesh: Mesh, eye: Tensor, rast: Tensor, index: Tensor, raster: Rasteriser, material: Callable | None,
    aside: Callable | None,
) -> Covered:  # fmt: skip
    if mesh.light is None:
        (uv,) = raster.attributes_at(rast, index, [(mesh.uvs, mesh.uv_faces)])
        texture = texture_at(mesh.texture, uv, raster)
        return Covered(index, texture, None, texture, texture.new_zeros(()))
    normals_of = normals_cpu.vertex_normals if raster.DEVICE == "cpu" else vertex_normals
    layers = [(normals_of(mesh.verts, mesh.faces), mesh.faces), (mesh.verts, mesh.faces)]
    if material is None:
        layers.append((mesh.uvs, mesh.uv_faces))
    smooth, place, *uvs = raster.attributes_at(rast, index, layers)
    at = place = place.detach()
    if material is None:
        at = uvs[0]

        def material(uv: Tensor) -> tuple[Tensor, Tensor]:
            return texture_at(mesh.texture, uv, raster), texture_at(mesh.material.values, uv, raster)

    texture, values, difference = _look_up_material(material, at, aside)
    pixels_per_view = rast.shape[1] * rast.shape[2]
    view = torch.div(index, pixels_per_view, rounding_mode="floor").clamp_max(len(rast) - 1)
    points = smooth, eye.index_select(0, view) - place, texture, values
    light = environment.of_cube(mesh.light)
    colour = pbr_cpu.radiance(*points, light) if raster.DEVICE == "cpu" else pbr.radiance(*points, light, raster)
    return Covered(index, texture, Material(values), colour, difference)


def _look_up_material(material: Callable, at: Tensor, aside: Callable | None) -> tuple[Tensor, Tensor, Tensor]:
    """Base colour and material at the places, and their mean difference from the places aside. One lookup serves both."""
    if aside is None:
        return *material(at), at.new_zeros(())
    asked = at[::ASIDE_SHARE].detach()
    parts = [both.split([len(at), len(asked)]) for both in material(torch.cat([at, aside(asked)]))]
    (texture, _), (values, _) = parts
    return texture, values, sum((here[::ASIDE_SHARE] - there).abs().mean() for here, there in parts)


def over_white_srgb(rgba: Float[Tensor, "*S 4"]) -> Float[Tensor, "*S 3"]:
    """The image on white as sRGB, 0 to 1. It is blended in sRGB, as programs show straight-alpha image files."""
    alpha = rgba[..., 3:]
    rgb = (rgba[..., :3] / alpha.clamp_min(1e-6)).clamp(0, 1)
    return colours.linear_to_srgb(rgb) * alpha + 1 - alpha


def photographed(
    mesh: Mesh, cameras: Cameras, raster: Rasteriser, samples: int = 2, topology: object | None = None
) -> Float[Tensor, "N H W 4"]:
    """Renders with `samples`² samples per pixel and averages them, as a camera's sensor integrates over each pixel."""
    width, height = cameras.sizes[0].tolist()
    boxes = cameras.intrinsics.new_tensor([[0.0, 0.0, width, height]]).expand(len(cameras), 4)
    fine = render(mesh, camera.cropped(cameras, boxes, samples * width, samples * height), raster, topology)
    return fine.reshape(len(cameras), height, samples, width, samples, 4).mean((2, 4))
