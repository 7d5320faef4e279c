"""The GGX microfacet lobe (Walter et al. 2007), and the share of uniform light that it reflects: the split sum's table.

The share is F0 * scale + bias; scale and bias are functions of n.v and roughness (Karis 2013, equations 7 and 8).
"""

import torch
from jaxtyping import Float
from torch import Tensor

TABLE_SIZE = 64  # entries per axis
SAMPLES = 512  # directions per table entry
MIN_ALPHA = 1e-4


def distribution(n_dot_h: Float[Tensor, "*S"], alpha: float | Float[Tensor, "*#S"]) -> Float[Tensor, "*S"]:
    """D(h) of half vectors, per steradian; the integral of D(h) n.h over the half sphere is one."""
    a2 = alpha * alpha
    return a2 / (torch.pi * (n_dot_h.square() * (a2 - 1) + 1).square())


def visibility(
    n_dot_l: Float[Tensor, "*#S"], n_dot_v: Float[Tensor, "*#S"], alpha: Float[Tensor, "*#S"]
) -> Float[Tensor, "*S"]:
    """Height-correlated Smith masking and shadowing, divided by 4 n.l n.v (Heitz 2014, equation 99)."""
    a2 = alpha * alpha
    left = n_dot_v * (n_dot_l.square() * (1 - a2) + a2).sqrt()
    right = n_dot_l * (n_dot_v.square() * (1 - a2) + a2).sqrt()
    return 0.5 / (left + right)


def half_vectors(alpha: Float[Tensor, "*S"], count: int) -> Float[Tensor, "*S K 3"]:
    """`count` half vectors around +z with density D(h) n.h, at the points of Hammersley's sequence."""
    index = torch.arange(count, device=alpha.device)
    share, bit = torch.zeros(count, device=alpha.device), 0.5
    for k in range(count.bit_length()):  # the radical inverse in base 2
        share = share + bit * ((index >> k) & 1)
        bit /= 2
    angle = (index + 0.5) * (2 * torch.pi / count)
    a2 = alpha.square()[..., None]
    cos = ((1 - share) / (1 + (a2 - 1) * share)).sqrt()
    sin = (1 - cos * cos).clamp_min(0).sqrt()
    return torch.stack([sin * angle.cos(), sin * angle.sin(), cos], -1)


def split_sum_table(device: str | torch.device = "cpu") -> Float[Tensor, "R V 2"]:
    """The table of (scale, bias), by importance sampling. Rows are roughness, columns n.v, both at texel centres, 0 to 1."""
    centre = (torch.arange(TABLE_SIZE, device=device) + 0.5) / TABLE_SIZE
    roughness, n_dot_v = torch.meshgrid(centre, centre, indexing="ij")
    alpha = roughness.square()
    h = half_vectors(alpha, SAMPLES)
    view = torch.stack([(1 - n_dot_v.square()).sqrt(), torch.zeros_like(n_dot_v), n_dot_v], -1)
    v_dot_h = (view[..., None, :] * h).sum(-1).clamp_min(0)
    n_dot_l = (2 * v_dot_h * h[..., 2] - n_dot_v[..., None]).clamp_min(0)
    # f cos / pdf, with pdf = D n.h / (4 v.h)
    weight = 4 * visibility(n_dot_l, n_dot_v[..., None], alpha[..., None]) * n_dot_l * v_dot_h / h[..., 2]
    weight = torch.where(n_dot_l > 0, weight, 0)
    fresnel = (1 - v_dot_h).pow(5)
    return torch.stack([(weight * (1 - fresnel)).mean(-1), (weight * fresnel).mean(-1)], -1)
