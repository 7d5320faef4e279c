"""The four operations on the CPU: numba kernels under `torch.autograd.Function`.

The package's docstring has the conventions. Tensors are float32, or float64 for gradient checks. Results and gradients are bit
for bit the same for any number of threads.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib import mesh
from recon_lib.raster import attributes, checks, coverage, cubes, edges, sampling
from recon_lib.raster.interface import Layers

DEVICE = "cpu"  # torch's name of the device on which all tensors must lie


def rasterize(
    pos: Float[Tensor, "N V 4"], faces: Int[Tensor, "F 3"], resolution: tuple[int, int], grad_db: bool = True
) -> tuple[Float[Tensor, "N H W 4"], Float[Tensor, "N H W D"]]:
    """Per pixel, (u, v, z/w, face + 1) and the derivatives (du/dX, du/dY, dv/dX, dv/dY) per pixel; `resolution` is (H, W).

    Without `grad_db` the derivatives are left out (D = 0); only mip-mapped textures need them.
    """
    checks.rasterize(faces, resolution)
    return _Rasterize.apply(pos, faces.int(), *resolution, grad_db)


def interpolate(
    attr: Float[Tensor, "M V A"],
    rast: Float[Tensor, "N H W 4"],
    faces: Int[Tensor, "F 3"],
    rast_db: Float[Tensor, "N H W 4"] | None = None,
    diff_attrs: tuple[int, ...] = (),
) -> tuple[Float[Tensor, "N H W A"], Float[Tensor, "N H W D"]]:
    """Vertex attributes at the pixels (M is N or 1), and (dA/dX, dA/dY) of each of the k attributes in `diff_attrs`, D = 2k."""
    checks.interpolate(attr, rast, rast_db, diff_attrs)
    out = _Interpolate.apply(attr, rast, faces.int())
    if not diff_attrs:
        return out, rast.new_zeros(*rast.shape[:3], 0)
    chosen = np.arange(attr.shape[-1])[list(diff_attrs)]
    return out, _InterpolateDerivatives.apply(attr, rast, rast_db, faces.int(), chosen)


def attributes_at(
    rast: Float[Tensor, "N H W 4"], index: Int[Tensor, " P"], layers: Layers
) -> tuple[Float[Tensor, "P _"], ...]:
    """Of each layer the attributes at some pixels: P distinct indices into the flattened images, from N H W on of no pixel."""
    flat = [part for attr, faces in layers for part in (attr, faces.int())]
    return _AttributesAt.apply(rast, index, *flat)


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
    """Texture lookup (M is N or 1). Boundary "cube": `tex` is a cube map (M 6 S S C) and `uv` holds directions.

    The mip modes need `uv_da`, `mip_level_bias` or both; for a cube the level is the bias alone. `mip` holds levels 1, 2, ...
    and receives their gradients; without it they are means of `tex`. No level above `max_mip_level` is used.
    """
    levels, depth = checks.texture(tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level)
    mode, boundary = checks.FILTERS[filter_mode], checks.BOUNDARIES[boundary_mode]
    return _Texture.apply(tex, uv, uv_da, mip_level_bias, mode, boundary, depth, *levels)


def topology(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """What `antialias` needs to know about neighbouring faces; callers keep it as long as the faces stay the same."""
    return mesh.opposite_vertices(faces)


def antialias(
    colour: Float[Tensor, "N H W C"],
    rast: Float[Tensor, "N H W 4"],
    pos: Float[Tensor, "N V 4"],
    faces: Int[Tensor, "F 3"],
    topology: Int[Tensor, "F 3"] | None = None,
    pos_gradient_boost: float = 1.0,
) -> Float[Tensor, "N H W C"]:
    """Blends colours across silhouette edges. `topology` is the result of this module's `topology` for the same faces."""
    if topology is None:
        topology = mesh.opposite_vertices(faces)
    return _Antialias.apply(colour, rast, pos, faces.int(), topology, pos_gradient_boost)


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


class _AttributesAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rast, index, *flat):
        ctx.arrays = [_array(x) for x in (rast.reshape(-1, 4), index, *flat)]
        ctx.shape, ctx.dtype = rast.shape, rast.dtype
        ctx.set_materialize_grads(False)
        pixels, chosen, *layers = ctx.arrays
        found = []
        for attr, faces in zip(layers[::2], layers[1::2], strict=True):
            out = torch.empty(len(index), attr.shape[1], dtype=rast.dtype)
            attributes.at_pixels(attr, pixels, faces, chosen, out.numpy())
            found.append(out)
        return tuple(found)

    @staticmethod
    def backward(ctx, *grads):
        pixels, chosen, *layers = ctx.arrays
        grad_rast = torch.zeros(ctx.shape, dtype=ctx.dtype)
        grad_flat = grad_rast.reshape(-1, 4).numpy()
        found: list[Tensor | None] = []
        for k, grad in enumerate(grads):
            needs_attr = ctx.needs_input_grad[2 + 2 * k]
            grad_attr = None
            if grad is not None:
                grad_attr = attributes.at_pixels_backward(
                    layers[2 * k], pixels, layers[2 * k + 1], chosen, _array(grad), needs_attr, grad_flat
                )
            found += [torch.from_numpy(grad_attr[0]) if needs_attr and grad_attr is not None else None, None]
        return grad_rast, None, *found


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
    """`mips` are the given mip levels; without them `depth` halvings of `tex` are used. A cube map is six textures per view."""

    @staticmethod
    def forward(ctx, tex, uv, uv_da, bias, mode, boundary, depth, *mips):
        stack = [_array(level).reshape(-1, *level.shape[-3:]) for level in (tex, *mips)]
        texels, levels = sampling.join(stack if mips else sampling.halvings(stack[0], depth))
        absent = np.zeros((1, 4), texels.dtype)
        da = absent if uv_da is None else _array(uv_da).reshape(-1, 4)
        b = absent[0] if bias is None else _array(bias).reshape(-1)
        points = _array(uv).reshape(-1, uv.shape[-1])
        taps = 8 if mode == sampling.MIP_LINEAR and len(levels) > 1 else 4
        index, weight = np.empty((len(points), taps), np.int32), np.empty((len(points), taps), texels.dtype)
        out = torch.empty(*uv.shape[:3], tex.shape[-1], dtype=tex.dtype)
        flat, values = (x.reshape(-1, tex.shape[-1]) for x in (texels, out.numpy()))
        if boundary == sampling.CUBE:
            where = (levels, points, b, mode)
            cubes.sample(flat, len(tex), levels, *cubes.seams(levels), points, b, mode, index, weight, values)
        else:
            where = (levels, points, da, uv_da is not None, b, bias is not None, mode, boundary)
            sampling.find_taps(len(tex), *where, index, weight)
            sampling.gather(flat, index, weight, values)
        ctx.texels, ctx.where, ctx.index, ctx.weight = texels, where, index, weight
        ctx.mode, ctx.boundary = mode, boundary
        ctx.shapes = [None if x is None else x.shape for x in (tex, uv, uv_da, bias)], [level.shape for level in mips]
        return out

    @staticmethod
    def backward(ctx, grad_out):
        texels, where, is_cube = ctx.texels, ctx.where, ctx.boundary == sampling.CUBE
        grad, flat = (x.reshape(-1, texels.shape[-1]) for x in (_array(grad_out), texels))
        shapes, mip_shapes = ctx.shapes
        grads, grad_mips = [None] * 4, [None] * len(mip_shapes)
        if ctx.needs_input_grad[0] or any(ctx.needs_input_grad[7:]):
            if is_cube:
                pyramid = cubes.scatter(grad, ctx.index, ctx.weight, len(flat))
            else:
                pyramid = np.zeros_like(flat)
                sampling.scatter(grad, ctx.index, ctx.weight, pyramid)
            stack = sampling.separate(pyramid.reshape(texels.shape), where[0])
            stack = stack if mip_shapes else [sampling.fold(stack)]
            grads[0], *grad_mips = [
                torch.from_numpy(np.ascontiguousarray(g)).reshape(shape)
                for g, shape in zip(stack, [shapes[0], *mip_shapes], strict=True)
            ]
        if ctx.mode != sampling.NEAREST and any(ctx.needs_input_grad[1:4]):
            if is_cube:
                outputs = np.zeros_like(where[1]), None, np.zeros_like(where[2])
                cubes.sample_backward(flat, *where, ctx.index, grad, outputs[0], outputs[2])
            elif ctx.mode == sampling.LINEAR:
                (levels, points, *_), outputs = where, (np.zeros_like(where[1]), None, None)
                size = levels[0, 1], levels[0, 2]
                sampling.bilinear_backward_uv(flat, ctx.index, points, *size, ctx.boundary, grad, outputs[0])
            else:
                outputs = np.zeros_like(where[1]), np.zeros_like(where[2]), np.zeros_like(where[4])
                sampling.sample_backward_uv(texels, *where, grad, *outputs)
            grads[1:] = [
                None if shape is None or g is None else torch.from_numpy(g).reshape(shape)
                for g, shape in zip(outputs, shapes[1:], strict=True)
            ]
        return *grads, None, None, None, *grad_mips


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
