"""Losses of nvdiffrec (Munkberg et al. 2022, section 4 and supplement): means over pixels, texels or edges."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib.colour import linear_to_srgb


def log_l1(prediction: Float[Tensor, "*S"], target: Float[Tensor, "*S"], bound: float = 0.0) -> Float[Tensor, ""]:
    """The mean L1 difference after the tone map sRGB(log(x + 1)), which keeps highlights from outweighing everything else.

    With a `bound` b above 0 a difference e counts as e / (1 + e / b), so no pixel counts more than b (Geman & McClure 1985).
    """
    apart = (linear_to_srgb(torch.log1p(prediction)) - linear_to_srgb(torch.log1p(target))).abs()
    return (apart / (1 + apart / bound) if bound else apart).mean()


def squared(prediction: Float[Tensor, "*S"], target: Float[Tensor, "*S"]) -> Float[Tensor, ""]:
    """The mean squared difference."""
    return (prediction - target).square().mean()


def whiteness(radiance: Float[Tensor, "*S 3"]) -> Float[Tensor, ""]:
    """The mean absolute difference of light from its own grey. Without this loss, the light takes the object's colour."""
    return (radiance - radiance.mean(-1, keepdim=True)).abs().mean()


def of_images(
    rgba: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"], only_shown: bool,
    background: Callable[[int], Float[Tensor, "3 _"]], bound: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:  # fmt: skip
    """The colour loss and the alpha loss, both means over all pixels.

    `only_shown` computes only pixels that are not empty in both images; that saves work, but counting them makes a GPU
    synchronise. `background` draws a random colour for each of a number of pixels; `bound` is that of `log_l1`.
    """
    share = 1.0
    if only_shown:
        shown = ((rgba[:, 3] > 0) | (target[:, 3] > 0)).nonzero()[:, 0]
        share = len(shown) / len(rgba)
        rgba, target = rgba.index_select(0, shown), target.index_select(0, shown)
    rgba, target = rgba.T.contiguous(), target.T.contiguous()  # torch sums over planes faster
    behind = background(rgba.shape[1])
    colour = log_l1(_blend_over(rgba, behind), _blend_over(target, behind), bound)
    return share * colour, share * squared(rgba[3], target[3])


def random_colours(generator: torch.Generator) -> Callable[[int], Float[Tensor, "3 _"]]:
    """Draws backgrounds for `of_images` from a generator, on its device."""
    return lambda count: torch.rand(3, count, generator=generator, device=generator.device)


def _blend_over(rgba: Float[Tensor, "4 P"], background: Float[Tensor, "3 P"]) -> Float[Tensor, "3 P"]:
    return rgba[:3] + (1 - rgba[3:]) * background


def laplacian_energy(verts: Float[Tensor, "V 3"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, ""]:
    """The mean squared distance of the vertices from the mean of their neighbours, in squared units of `verts`."""
    a, b = edges.long().unbind(1)
    total = torch.zeros_like(verts).index_add(0, a, verts.index_select(0, b))
    total = total.index_add(0, b, verts.index_select(0, a))
    one = torch.ones_like(verts[:1, :1]).expand(2 * len(a), 1)
    count = torch.zeros_like(verts[:, :1]).index_add(0, edges.long().reshape(-1), one)
    return (verts - total / count.clamp_min(1)).square().sum(-1).mean()
