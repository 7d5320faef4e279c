"""Image losses of nvdiffrec (Munkberg et al. 2022, section 4): means over pixels and channels of linear light."""

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib.colour import linear_to_srgb


def log_l1(prediction: Float[Tensor, "*S"], target: Float[Tensor, "*S"]) -> Float[Tensor, ""]:
    """L1 after the tone map sRGB(log(x + 1)), which keeps highlights from outweighing the rest."""
    return (linear_to_srgb(torch.log1p(prediction)) - linear_to_srgb(torch.log1p(target))).abs().mean()


def squared(prediction: Float[Tensor, "*S"], target: Float[Tensor, "*S"]) -> Float[Tensor, ""]:
    return (prediction - target).square().mean()
