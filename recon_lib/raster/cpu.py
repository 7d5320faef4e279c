"""The four operations on the CPU: numba kernels under `torch.autograd.Function`.

Conventions stand in the package's docstring. float32 for work, float64 for gradient checks. Results and gradients are the
same bit for bit whatever the number of threads.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib import mesh
from recon_lib.raster import attributes, coverage, edges, sampling

FILTERS = {
    "nearest": sampling.NEAREST,
    "linear": sampling.LINEAR,
    "linear-mipmap-nearest": sampling.MIP_NEAREST,
    "linear-mipmap-linear": sampling.MIP_LINEAR,
}
BOUNDARIES = {"wrap": sampling.WRAP, "clamp": sampling.CLAMP, "zero": sampling.ZERO}
LARGEST_ID = 2**24  # face ids travel as float32


def rasterize(
    pos: Float[Tensor, "N V 4"], faces: Int[Tensor, "F 3"], resolution: tuple[int, int], grad_db: bool = True
) -> tuple[Float[Tensor, "N H W 4"], Float[Tensor, "N H W D"]]:
    """Faces to pixels: (u, v, z/w, face + 1) and (du/dX, du/dY, dv/dX, dv/dY) in pixels, at `resolution` (H, W).

    Without `grad_db` the derivatives are left out (D = 0): only mip-mapped textures need them.
    """
    if len(faces) == 0 or min(resolution) < 1:
        raise ValueError(f"rasterize: {len(faces)} faces at {resolution} pixels, need at least one of each")
    if len(faces) >= LARGEST_ID:
        raise ValueError(f"rasterize: {len(faces)} faces, need fewer than {LARGEST_ID}")
    return _Rasterize.apply(pos, faces.int(), *resolution, grad_db)


def interpolate(
    attr: Float[Tensor, "M V A"],
    rast: Float[Tensor, "N H W 4"],
    faces: Int[Tensor, "F 3"],
    rast_db: Float[Tensor, "N H W 4"] | None = None,
    diff_attrs: tuple[int, ...] = (),
) -> tuple[Float[Tensor, "N H W A"], Float[Tensor, "N H W D"]]:
    """Vertex attributes (M is N or 1) at the pixels, and the chosen ones' derivatives (dA/dX, dA/dY, ...), D = 2k."""
    out = _Interpolate.apply(attr, rast, faces.int())
    if not diff_attrs:
        return out, rast.new_zeros(*rast.shape[:3], 0)
    chosen = np.arange(attr.shape[-1])[list(diff_attrs)]
    return out, _InterpolateDerivatives.apply(attr, rast, rast_db, faces.int(), chosen)


def texture(
    tex: Float[Tensor, "M TH TW C"],
    uv: Float[Tensor, "N H W 2"],
    uv_da: Float[Tensor, "N H W 4"] | None = None,
    mip_level_bias: Float[Tensor, "N H W"] | None = None,
    filter_mode: str = "linear",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Float[Tensor, "N H W C"]:
    """Texture lookup (M is N or 1). The mip modes need `uv_da`, `mip_level_bias` or both."""
    if filter_mode not in FILTERS or boundary_mode not in BOUNDARIES:
        raise ValueError(
            f"texture: filter {filter_mode!r}, boundary {boundary_mode!r}; need {[*FILTERS]} and {[*BOUNDARIES]}"
        )
    depth = 0
    if "mipmap" in filter_mode:
        if uv_da is None and mip_level_bias is None:
            raise ValueError(f"texture: {filter_mode} without uv_da and mip_level_bias, need one of them")
        depth = _mip_depth(tex.shape[1], tex.shape[2], max_mip_level)
    return _Texture.apply(tex, uv, uv_da, mip_level_bias, FILTERS[filter_mode], BOUNDARIES[boundary_mode], depth)


def antialias(
    colour: Float[Tensor, "N H W C"],
    rast: Float[Tensor, "N H W 4"],
    pos: Float[Tensor, "N V 4"],
    faces: Int[Tensor, "F 3"],
    topology: Int[Tensor, "F 3"] | None = None,
    pos_gradient_boost: float = 1.0,
) -> Float[Tensor, "N H W C"]:
    """Blends colour across silhouette edges. `topology` is `mesh.opposite_vertices(faces)`, worth keeping if fixed."""
    if topology is None:
        topology = mesh.opposite_vertices(faces)
    return _Antialias.apply(colour, rast, pos, faces.int(), topology, pos_gradient_boost)


def _mip_depth(height: int, width: int, most: int | None) -> int:
    depth = 0
    while (height, width) != (1, 1) and (most is None or depth < most):
        if (height > 1 and height % 2) or (width > 1 and width % 2):
            raise ValueError(
                f"texture: mip level {depth} is {width} x {height}, need even sizes; choose max_mip_level <= {depth}"
            )
        height, width, depth = max(height // 2, 1), max(width // 2, 1), depth + 1
    return depth


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pos, faces, height, width, has_db):
        p, f = _array(pos), _array(faces)
        rast = torch.zeros(len(pos), height, width, 4, dtype=pos.dtype)
        coverage.cover(p, f, coverage.face_boxes(p, f, height, width), rast.numpy())
        db = torch.zeros(*rast.shape[:3], 4 if has_db else 0, dtype=pos.dtype)
        if has_db:
            coverage.pixel_derivatives(p, f, rast.numpy(), db.numpy())
        ctx.save_for_backward(pos, faces, rast)
        ctx.set_materialize_grads(False)
        return rast, db

    @staticmethod
    def backward(ctx, grad_rast, grad_db):
        pos, faces, rast = ctx.saved_tensors
        if grad_rast is None and grad_db is None:
            return None, None, None, None, None
        has_db = grad_db is not None and grad_db.shape[-1] > 0
        grad_rast = torch.zeros_like(rast) if grad_rast is None else grad_rast
        grad_db = _array(grad_db) if has_db else np.zeros((1, 1, 1, 4), rast.numpy().dtype)
        grad = coverage.cover_backward(_array(pos), _array(faces), _array(rast), _array(grad_rast), grad_db, has_db)
        return torch.from_numpy(grad), None, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attr, rast, faces):
        out = torch.zeros(*rast.shape[:3], attr.shape[-1], dtype=attr.dtype)
        attributes.interpolate(_array(attr), _array(rast), _array(faces), out.numpy())
        ctx.save_for_backward(attr, rast, faces)
        return out

    @staticmethod
    def backward(ctx, grad_out):
        attr, rast, faces = ctx.saved_tensors
        grad_rast = torch.zeros_like(rast)
        needs_attr = ctx.needs_input_grad[0]
        grad_attr = attributes.interpolate_backward(
            _array(attr), _array(rast), _array(faces), _array(grad_out), needs_attr, grad_rast.numpy()
        )
        return torch.from_numpy(grad_attr) if needs_attr else None, grad_rast, None


class _InterpolateDerivatives(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attr, rast, rast_db, faces, chosen):
        out = torch.zeros(*rast.shape[:3], 2 * len(chosen), dtype=attr.dtype)
        attributes.interpolate_derivatives(
            _array(attr), _array(rast), _array(rast_db), _array(faces), chosen, out.numpy()
        )
        ctx.save_for_backward(attr, rast, rast_db, faces)
        ctx.chosen = chosen
        return out

    @staticmethod
    def backward(ctx, grad_da):
        attr, rast, rast_db, faces = ctx.saved_tensors
        grad_db = torch.zeros_like(rast_db)
        needs_attr = ctx.needs_input_grad[0]
        grad_attr = attributes.interpolate_derivatives_backward(
            _array(attr), _array(rast), _array(rast_db), _array(faces), ctx.chosen, _array(grad_da), needs_attr,
            grad_db.numpy(),
        )  # fmt: skip
        return torch.from_numpy(grad_attr) if needs_attr else None, None, grad_db, None, None


class _Texture(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tex, uv, uv_da, bias, mode, boundary, depth):
        texels, levels = sampling.build_pyramid(_array(tex), depth)
        absent = np.zeros((1, 4), texels.dtype)
        da = absent if uv_da is None else _array(uv_da).reshape(-1, 4)
        b = absent[0] if bias is None else _array(bias).reshape(-1)
        where = (levels, _array(uv).reshape(-1, 2), da, uv_da is not None, b, bias is not None, mode, boundary)
        taps = 8 if mode == sampling.MIP_LINEAR and depth > 0 else 4
        index, weight = (
            np.empty((uv[..., 0].numel(), taps), np.int32),
            np.empty((uv[..., 0].numel(), taps), texels.dtype),
        )
        sampling.find_taps(len(texels), *where, index, weight)
        out = torch.empty(*uv.shape[:3], tex.shape[-1], dtype=tex.dtype)
        sampling.gather(texels.reshape(-1, tex.shape[-1]), index, weight, out.numpy().reshape(len(index), -1))
        ctx.texels, ctx.where, ctx.index, ctx.weight, ctx.shape = texels, where, index, weight, uv.shape[:3]
        return out

    @staticmethod
    def backward(ctx, grad_out):
        levels, uv, da, has_da, bias, has_bias, mode, _ = ctx.where
        grad = _array(grad_out).reshape(len(uv), -1)
        needs_tex, needs_uv, needs_da, needs_bias = ctx.needs_input_grad[:4]
        grad_tex = grad_uv = grad_da = grad_bias = None
        if needs_tex:
            pyramid = np.zeros_like(ctx.texels)
            sampling.scatter(grad, ctx.index, ctx.weight, pyramid.reshape(-1, pyramid.shape[-1]))
            grad_tex = torch.from_numpy(np.ascontiguousarray(sampling.fold_pyramid(pyramid, levels)))
        if mode != sampling.NEAREST and (needs_uv or needs_da or needs_bias):
            outputs = np.zeros_like(uv), np.zeros_like(da), np.zeros_like(bias)
            sampling.sample_backward_uv(ctx.texels, *ctx.where, grad, *outputs)
            grad_uv = torch.from_numpy(outputs[0]).reshape(*ctx.shape, 2)
            grad_da = torch.from_numpy(outputs[1]).reshape(*ctx.shape, 4) if has_da else None
            grad_bias = torch.from_numpy(outputs[2]).reshape(ctx.shape) if has_bias else None
        return grad_tex, grad_uv, grad_da, grad_bias, None, None, None


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, colour, rast, pos, faces, topology, boost):
        height, width = rast.shape[1:3]
        c, r, p, f = _array(colour), _array(rast), _array(pos), _array(faces)
        screen, bits = edges.silhouettes(p, f, _array(topology), height, width)
        alpha = np.zeros((*r.shape[:3], 2), r.dtype)
        edges.blend_weights(r, screen, bits, f, alpha)
        out = colour.detach().clone(memory_format=torch.contiguous_format)
        edges.blend(c, alpha, out.numpy())
        ctx.arguments = c, r, p, screen, f, alpha
        ctx.boost = boost
        return out

    @staticmethod
    def backward(ctx, grad_out):
        c, r, p, screen, f, alpha = ctx.arguments
        grad = _array(grad_out)
        grad_colour = grad_pos = None
        if ctx.needs_input_grad[0]:
            grad_colour = grad.copy()
            edges.blend_backward(alpha, grad, grad_colour)
            grad_colour = torch.from_numpy(grad_colour)
        if ctx.needs_input_grad[2]:
            grad_pos = torch.from_numpy(edges.edge_backward(c, r, p, screen, f, alpha, grad, ctx.boost))
        return grad_colour, None, grad_pos, None, None, None
