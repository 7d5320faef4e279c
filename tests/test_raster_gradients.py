"""Gradients of the reference against central differences, in float64, which only the reference has.

The kernels run as plain Python here: at these sizes that takes less time than compiling them for float64.
"""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from recon_lib.raster import attributes, coverage, cpu, edges, sampling

HEIGHT, WIDTH = 6, 7
# Two faces; the second one comes from behind the camera.
POS = torch.tensor(
    [[[-0.9, -0.7, 0.1, 1.0], [0.7, -1.1, 0.3, 1.4], [-0.3, 1.1, 0.2, 1.2],
      [0.4, 0.9, -0.5, 1.7], [0.3, -0.9, -0.1, -0.4], [2.3, 1.3, 0.4, 2.1]]], dtype=torch.float64,
).repeat(2, 1, 1)  # fmt: skip
POS[1, :, :2] = 0.9 * POS[1, :, :2].flip(-1)
FACES = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32)


@pytest.fixture(autouse=True)
def plain_python(monkeypatch):
    for module in (attributes, coverage, edges, sampling):
        for name, kernel in vars(module).copy().items():
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(module, name, kernel.py_func)


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    rast, db = cpu.rasterize(POS, FACES, (HEIGHT, WIDTH))
    counts = torch.stack([(rast[..., 3] == f).sum((1, 2)) for f in range(3)])
    assert (counts > 3).all(), counts  # empty and every face, in every view
    return rast, db


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape)).requires_grad_()


def test_weights_and_their_pixel_derivatives_by_position():
    drawn()
    pos = POS.clone().requires_grad_()

    def weights(pos):
        rast, db = cpu.rasterize(pos, FACES, (HEIGHT, WIDTH))
        return rast[..., :2], db

    assert gradcheck(weights, pos)
    assert gradcheck(lambda pos: cpu.rasterize(pos, FACES, (HEIGHT, WIDTH), grad_db=False)[0][..., :2], pos)


def test_depth_and_id_carry_no_gradient():
    pos = POS.clone().requires_grad_()
    rast, _ = cpu.rasterize(pos, FACES, (HEIGHT, WIDTH))
    rast[..., 2:].square().sum().backward()
    assert (pos.grad == 0).all()


@pytest.mark.parametrize("views", [1, 2])
def test_interpolated_attributes_by_attribute_and_weight(views):
    rast, db = drawn()
    uv, da = rast[..., :2].clone().requires_grad_(), db.clone().requires_grad_()

    def values(attr, uv, da):
        return cpu.interpolate(attr, torch.cat([uv, rast[..., 2:]], -1), FACES, da, (2, -3))

    assert gradcheck(values, (random(0, views, 6, 3), uv, da))


@pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero"])
@pytest.mark.parametrize("textures", [1, 2])
def test_bilinear_lookup_by_texel_and_coordinate(textures, boundary):
    uv = (2 * random(1, 2, 2, 3, 2).detach() + 0.5).requires_grad_()
    assert gradcheck(lambda tex, uv: cpu.texture(tex, uv, boundary_mode=boundary), (random(0, textures, 3, 5, 2), uv))


@pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero"])
@pytest.mark.parametrize("textures", [1, 2])
def test_trilinear_lookup_by_texel_coordinate_footprint_and_bias(textures, boundary):
    tex, uv = random(0, textures, 8, 4, 2), (random(1, 2, 2, 3, 2).detach() + 0.5).requires_grad_()
    da, bias = (0.3 * random(2, 2, 2, 3, 4).detach()).requires_grad_(), random(3, 2, 2, 3)

    def lookup(tex, uv, da=None, bias=None):
        return cpu.texture(tex, uv, da, bias, None, "linear-mipmap-linear", boundary)

    assert gradcheck(lookup, (tex, uv, da, bias))
    bias = (1.2 + 0.5 * bias.detach()).requires_grad_()
    assert gradcheck(lambda tex, uv, bias: lookup(tex, uv, None, bias), (tex, uv, bias))
    levels = torch.autograd.grad(lookup(tex, uv, None, bias).sum(), bias)[0]
    assert 0 < (levels == 0).sum() < 6  # some beyond the pyramid's ends, most inside


def test_lookup_in_one_level_of_a_pyramid_by_texel_and_coordinate():
    tex, uv, bias = random(0, 1, 8, 4, 2), random(1, 1, 3, 4, 2), 1.2 + random(3, 1, 3, 4).detach()
    assert gradcheck(lambda tex, uv: cpu.texture(tex, uv, None, bias, filter_mode="linear-mipmap-nearest"), (tex, uv))


def test_antialiased_colour_by_colour():
    rast, _ = drawn()
    colour = random(0, 2, HEIGHT, WIDTH, 3)
    assert not torch.equal(cpu.antialias(colour, rast, POS, FACES), colour)
    assert gradcheck(lambda colour: cpu.antialias(colour, rast, POS, FACES), colour)
