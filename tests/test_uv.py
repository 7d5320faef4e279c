"""Texture atlases: they fit their size, with less padding if need be, or are refused."""

import pytest
import torch

from recon_lib import mesh
from recon_lib.raster import cpu
from recon_lib.surface import uv


def confetti(count: int) -> mesh.Mesh:
    """Small balls side by side: at least two charts each."""
    ball = mesh.icosphere(0)
    shifts = torch.cartesian_prod(torch.arange(count), torch.arange(count), torch.arange(1)).float() * 3
    faces = torch.cat([ball.faces + i * len(ball.verts) for i in range(len(shifts))])
    return mesh.Mesh((ball.verts + shifts[:, None]).reshape(-1, 3), faces)


def test_many_charts_fit_a_small_atlas_with_less_padding():
    """Their padding alone would need 3 times the atlas' area."""
    body = confetti(12)
    uvs, uv_faces, (height, width) = uv.unwrap(body.verts, body.faces, 80)
    assert max(height, width) <= 80 and len(uv_faces) == len(body.faces)
    assert uvs.min() >= 0 and uvs.max() <= 1
    assert uv.covered(uvs, uv_faces, (height, width), cpu).float().mean() > 0.1


def test_an_atlas_too_small_for_its_charts_is_refused():
    body = confetti(12)
    with pytest.raises(ValueError, match=r"texture_size: got 8, too small for the \d+ charts of 2880 faces"):
        uv.unwrap(body.verts, body.faces, 8)
