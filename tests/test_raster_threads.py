"""The reference gives the same bits whatever the number of threads, and every time."""

from collections.abc import Callable, Iterator

import numba
import numpy as np
import pytest
import torch

from recon_lib import camera, mesh
from recon_lib.raster import cpu

needs_two_threads = pytest.mark.skipif(
    numba.config.NUMBA_NUM_THREADS < 2, reason="numba has one thread on this machine"
)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = numba.get_num_threads(), torch.get_num_threads()

    def use(count: int) -> None:
        numba.set_num_threads(count)
        torch.set_num_threads(count)

    yield use
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).random(shape).astype(np.float32))


@pytest.fixture(scope="module")
def fine_ball() -> mesh.Mesh:
    return mesh.icosphere(5)


def chain(ball: mesh.Mesh) -> dict[str, torch.Tensor]:
    """Two views of 20480 faces through all four operations and back, with a texture that wraps and is no power of two."""
    T_clip_world = camera.projection(camera.orbit(2, 0.4, 3.0, 0.75, 192), 1.0, 5.0)
    verts = (ball.verts + 0.01 * random(0, *ball.verts.shape)).requires_grad_()
    tex = random(1, 1, 88, 40, 3).requires_grad_()
    pos = verts @ T_clip_world[:, :, :3].mT + T_clip_world[:, None, :, 3]
    pos.retain_grad()
    rast, db = cpu.rasterize(pos, ball.faces, (192, 192))
    attr = (2.5 * verts[None, :, :2]).clone()
    attr.retain_grad()
    uv, da = cpu.interpolate(attr, rast, ball.faces, db, (0, 1))
    colour = cpu.texture(tex, uv, da, filter_mode="linear-mipmap-linear", max_mip_level=3)
    colour = colour * (1 + 0.2 * mesh.face_normals(verts, ball.faces)[(rast[..., 3].long() - 1).clamp_min(0)].detach())
    out = cpu.antialias(colour, rast, pos, ball.faces)
    (out * random(2, *out.shape)).sum().backward()
    values = {"rast": rast, "db": db, "uv": uv, "da": da, "colour": colour, "out": out}
    return values | {"grad pos": pos.grad, "grad attr": attr.grad, "grad tex": tex.grad, "grad verts": verts.grad}


def assert_same_bits(one: dict, two: dict) -> None:
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@needs_two_threads
def test_one_thread_and_two_give_the_same_bits_and_so_does_every_run(threads, fine_ball):
    threads(1)
    one = chain(fine_ball)
    assert all(value.abs().max() > 0 for value in one.values())
    threads(2)
    for _ in range(4):
        assert_same_bits(one, chain(fine_ball))


@needs_two_threads
@pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero"])
@pytest.mark.parametrize("height", [8, 24, 40])
def test_texels_at_the_border_have_one_owner(threads, height, boundary):
    """Everything falls on the first and last rows, where two threads could add to one texel at a time."""
    uv = random(0, 1, 128, 128, 2) * torch.tensor([0.05, 0.02]) - torch.tensor(
        [0, 0.01 if boundary == "wrap" else -0.99]
    )
    grad = random(1, 1, 128, 128, 3)
    results = []
    for count in (1, 2, 2, 2, 2):
        threads(count)
        tex = torch.zeros(1, height, 40, 3, requires_grad=True)
        cpu.texture(tex, uv, boundary_mode=boundary).backward(grad)
        results.append({"tex": tex.grad})
    for result in results[1:]:
        assert_same_bits(results[0], result)


@needs_two_threads
def test_the_gradient_of_normals_is_the_same_every_time(threads, fine_ball):
    results = []
    for count in (1, 2, 2, 2, 2):
        threads(count)
        verts = fine_ball.verts.clone().requires_grad_()
        faces, corners = (f(verts, fine_ball.faces) for f in (mesh.face_normals, mesh.vertex_normals))
        ((faces * random(0, *faces.shape)).sum() + (corners * random(1, *corners.shape)).sum()).backward()
        results.append({"verts": verts.grad, "corners": corners})
    for result in results[1:]:
        assert_same_bits(results[0], result)
