"""The four operations on a GPU: nvdiffrast 0.4 (Laine et al. 2020) behind the package's signatures.

nvdiffrast is not part of this project and has a licence of its own (non-commercial). Gradients are summed by atomic adds, so
two runs differ in their last bits. It takes only contiguous tensors and int32 faces, so arguments are converted here.
Its results differ from the reference's in two places. Near the corners of cube maps, the gradients to texels differ and, in all
but the first of several maps, the values, too. With boundary "zero", the gradients to texels at the border differ.
"""

import threading
from functools import cache
from itertools import groupby

import nvdiffrast.torch as dr
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib.raster import checks
from recon_lib.raster.interface import Layers

DEVICE = "cuda"  # torch's name of the device on which all tensors must lie


@cache
def _context(device: int, thread: int) -> dr.RasterizeCudaContext:
    """One context per thread, because two threads must not use the same one at once."""
    return dr.RasterizeCudaContext(device=device)


def rasterize(
    pos: Float[Tensor, "N V 4"], faces: Int[Tensor, "F 3"], resolution: tuple[int, int], grad_db: bool = True
) -> tuple[Float[Tensor, "N H W 4"], Float[Tensor, "N H W D"]]:
    """As `cpu.rasterize`, but vertices are snapped to 1/16 pixel to decide which pixels are covered."""
    checks.rasterize(faces, resolution)
    context = _context(torch.cuda.current_device(), threading.get_ident())
    rast, db = dr.rasterize(context, pos.contiguous(), _indices(faces), resolution, grad_db=grad_db)
    return rast, db if grad_db else rast.new_zeros(*rast.shape[:3], 0)


def interpolate(
    attr: Float[Tensor, "M V A"],
    rast: Float[Tensor, "N H W 4"],
    faces: Int[Tensor, "F 3"],
    rast_db: Float[Tensor, "N H W 4"] | None = None,
    diff_attrs: tuple[int, ...] = (),
) -> tuple[Float[Tensor, "N H W A"], Float[Tensor, "N H W D"]]:
    """As `cpu.interpolate`."""
    checks.interpolate(attr, rast, rast_db, diff_attrs)
    attr, rast, index = attr.contiguous(), rast.contiguous(), _indices(faces)
    if not diff_attrs:
        return dr.interpolate(attr, rast, index)[0], rast.new_zeros(*rast.shape[:3], 0)
    return dr.interpolate(attr, rast, index, rast_db=rast_db.contiguous(), diff_attrs=list(diff_attrs))


def attributes_at(
    rast: Float[Tensor, "N H W 4"], index: Int[Tensor, " P"], layers: Layers
) -> tuple[Float[Tensor, "P _"], ...]:
    """As `cpu.attributes_at`. Neighbours of the same faces are interpolated together."""
    chosen = index.clamp_max(rast[..., 0].numel() - 1)
    found: list[Tensor] = []
    for _, group in groupby(layers, key=lambda layer: id(layer[1])):
        attrs, (faces, *_) = zip(*group, strict=True)
        pixels = dr.interpolate(torch.cat(attrs, -1)[None], rast.contiguous(), _indices(faces))[0]
        widths = [attr.shape[-1] for attr in attrs]
        found += pixels.reshape(-1, sum(widths)).index_select(0, chosen).split(widths, -1)
    return tuple(found)


def texture(
    tex: Float[Tensor, "M TH TW C"] | Float[Tensor, "M 6 S S C"],
    uv: Float[Tensor, "N H W 2"] | Float[Tensor, "N H W 3"],
    uv_da: Float[Tensor, "N H W 4"] | None = None,
    mip_level_bias: Float[Tensor, "N H W"] | None = None,
    mip: list[Float[Tensor, "M ... C"]] | None = None,
    filter_mode: str = "linear",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Float[Tensor, "N H W C"]:
    """As `cpu.texture`."""
    levels, depth = checks.texture(tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level)
    if uv.numel() == 0:  # nvdiffrast refuses empty lookups; the sum keeps the inputs in the graph, with gradients of 0
        return uv.new_zeros(*uv.shape[:3], tex.shape[-1]) + 0 * sum(part.sum() for part in (tex, uv, *levels))
    return dr.texture(
        tex.contiguous(), uv.contiguous(), uv_da=_contiguous(uv_da), mip_level_bias=_contiguous(mip_level_bias),
        mip=[level.contiguous() for level in levels] or None, filter_mode=filter_mode, boundary_mode=boundary_mode,
        max_mip_level=len(levels) or depth,
    )  # fmt: skip


def topology(faces: Int[Tensor, "F 3"]) -> object:
    """What `antialias` needs to know about neighbouring faces; callers keep it as long as the faces stay the same."""
    return dr.antialias_construct_topology_hash(_indices(faces))


def antialias(
    colour: Float[Tensor, "N H W C"],
    rast: Float[Tensor, "N H W 4"],
    pos: Float[Tensor, "N V 4"],
    faces: Int[Tensor, "F 3"],
    topology: object | None = None,
    pos_gradient_boost: float = 1.0,
) -> Float[Tensor, "N H W C"]:
    """As `cpu.antialias`."""
    return dr.antialias(
        colour.contiguous(), rast.contiguous(), pos.contiguous(), _indices(faces), topology_hash=topology,
        pos_gradient_boost=pos_gradient_boost,
    )  # fmt: skip


def _indices(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    return faces.int().contiguous()


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()
