"""Colour.

Colours are linear light inside the library; sRGB (IEC 61966-2-1) is used only in files and in image metrics. Values are 0 to 1.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def linear_to_srgb(rgb_linear: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Encodes linear light as sRGB; differentiable, and not clamped."""
    # The power's slope is infinite at 0; the clamp keeps NaN out of the gradient of the branch not taken.
    curve = 1.055 * rgb_linear.clamp_min(0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(rgb_linear <= 0.0031308, 12.92 * rgb_linear, curve)


def srgb_to_linear(rgb_srgb: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Decodes sRGB to linear light; differentiable, and not clamped."""
    curve = ((rgb_srgb.clamp_min(0.04045) + 0.055) / 1.055).pow(2.4)
    return torch.where(rgb_srgb <= 0.04045, rgb_srgb / 12.92, curve)


def linear_of_bytes(rgb_srgb: np.ndarray) -> Float[Tensor, "..."]:
    """Linear light of 8-bit sRGB (uint8, any shape), from a table: torch's powers round differently with the thread count."""
    return torch.from_numpy(linear_table().numpy().take(rgb_srgb))


def linear_table() -> Float[Tensor, "256"]:
    """Linear light of each value of 8-bit sRGB."""
    return srgb_to_linear(torch.arange(256) / 255)
