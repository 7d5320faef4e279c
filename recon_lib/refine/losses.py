"""Losses of nvdiffrec (Munkberg et al. 2022, section 4 and supplement): means over pixels, texels or edges."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib.colour import linear_to_srgb


def log_l1(prediction: Float[Tensor, "*S"], target: Float[Tensor, "*S"]) -> Float[Tensor, ""]:
    """The mean L1 difference after the tone map sRGB(log(x + 1)), which keeps highlights from outweighing everything else."""
    return (linear_to_srgb(torch.log1p(prediction)) - linear_to_srgb(torch.log1p(target))).abs().mean()


def squared(prediction: Float[Tensor, "*S"], target: Float[Tensor, "*S"]) -> Float[Tensor, ""]:
    """The mean squared difference."""
    return (prediction - target).square().mean()


def whiteness(radiance: Float[Tensor, "*S 3"]) -> Float[Tensor, ""]:
    """The mean absolute difference of light from its own grey. Without this loss, the light takes the object's colour."""
    return (radiance - radiance.mean(-1, keepdim=True)).abs().mean()


def laplacian_energy(verts: Float[Tensor, "V 3"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, ""]:
    """The mean squared distance of the vertices from the mean of their neighbours, in squared units of `verts`."""
    a, b = edges.long().unbind(1)
    total = torch.zeros_like(verts).index_add(0, a, verts.index_select(0, b))
    total = total.index_add(0, b, verts.index_select(0, a))
    one = torch.ones_like(verts[:1, :1]).expand(2 * len(a), 1)
    count = torch.zeros_like(verts[:, :1]).index_add(0, edges.long().reshape(-1), one)
    return (verts - total / count.clamp_min(1)).square().sum(-1).mean()
