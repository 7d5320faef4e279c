"""The CPU's kernels for shading and for normals against the torch descriptions, forward and backward."""

import numba
import pytest
import torch

from recon_lib import mesh
from recon_lib.raster import cpu
from recon_lib.shading import environment, normals_cpu, pbr, pbr_cpu

NAMES = ("smooth", "towards", "base colour", "material", "light")


def points(count: int, light_size: int = 16, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Points of every kind: facing the eye and away from it, smooth and rough, at the ends of each range."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    values = torch.cat([uniform(count, 3), 0.3 * normal(count, 3)], -1)
    values[::7, 1], values[1::7, 1], values[2::7, 2], values[3::7, 2] = 0, 1, 0, 1
    light = 0.2 + uniform(6, light_size, light_size, 3)
    tensors = (0.5 * normal(count, 3), 3 * normal(count, 3), uniform(count, 3), values, light)
    return {name: x.to(dtype).requires_grad_() for name, x in zip(NAMES, tensors, strict=True)}


def shaded(kind: str, of: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The radiance and all gradients."""
    *at, cube = of.values()
    exact = environment.operators(cube.shape[1])
    light = environment.prefilter(cube.float(), exact)
    light = environment.Light(*(tuple(y.to(cube) for y in x) if isinstance(x, tuple) else x.to(cube) for x in light))
    out = pbr_cpu.radiance(*at, light) if kind == "kernel" else pbr.radiance(*at, light, cpu)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    weight[::5] = 0
    grads = torch.autograd.grad((out * weight).sum(), list(of.values()))
    return {"radiance": out.detach()} | dict(zip(of, grads, strict=True))


@pytest.mark.parametrize("light_size", [16, 64])
def test_the_kernel_gives_the_radiance_and_the_gradients_of_the_description(light_size):
    of = points(4000, light_size, torch.float64)
    kernel, described = shaded("kernel", of), shaded("described", of)
    for name, value in described.items():
        assert value.abs().max() > 0
        assert (kernel[name] - value).norm() < 1e-6 * value.norm(), name
        assert (kernel[name] - value).abs().max() < 1e-5 * value.abs().max(), name


def test_in_single_precision_it_is_as_near_to_double_precision_as_the_description():
    exact = shaded("described", points(4000, dtype=torch.float64))
    kernel, described = (shaded(kind, points(4000)) for kind in ("kernel", "described"))
    for name, value in exact.items():
        far = [(found[name].double() - value).norm() / value.norm() for found in (kernel, described)]
        assert far[0] < max(2 * far[1], 1e-6), name


def test_its_gradients_are_those_of_finite_differences():
    of = points(60, 16, torch.float64)
    light = environment.of_cube(of["light"].detach().float())
    light = environment.Light(*(tuple(y.double() for y in x) if isinstance(x, tuple) else x.double() for x in light))
    at = [of[name].detach() for name in NAMES[:4]]
    at[3][:, 1] = 0.2 + 0.05 * at[3][:, 1]  # between two levels, where a difference sees one slope
    for k in range(4):
        moved = at[k].clone().requires_grad_()
        out = pbr_cpu.radiance(*at[:k], moved, *at[k + 1 :], light)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        grad = torch.autograd.grad((out * weight).sum(), moved)[0]
        along = torch.randn(moved.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        ends = [
            (pbr_cpu.radiance(*at[:k], at[k] + step * along, *at[k + 1 :], light) * weight).sum(-1)
            for step in (1e-6, -1e-6)
        ]
        # A median over the points, because a place between two texels has two slopes.
        off = ((ends[0] - ends[1]) / 2e-6 - (grad * along).sum(-1)).abs() / (grad * along).sum(-1).abs().clamp_min(1e-3)
        assert off.median() < 1e-5, NAMES[k]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba has one thread on this machine")
def test_one_thread_and_two_give_the_same_bits():
    before, found = numba.get_num_threads(), []
    for count in (1, 2, 2):
        numba.set_num_threads(count)
        found.append(shaded("kernel", points(5000)))
    numba.set_num_threads(before)
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])


def test_points_without_a_finite_normal_do_no_harm():
    of = points(16)
    with torch.no_grad():
        of["smooth"][3], of["smooth"][5], of["towards"][7] = torch.nan, torch.inf, torch.nan
    found = shaded("kernel", of)
    clean = [k for k in range(16) if k not in (3, 5, 7)]
    assert torch.isfinite(found["radiance"][clean]).all()


def test_no_points_have_no_radiance():
    assert shaded("kernel", points(0))["radiance"].shape == (0, 3)


def test_vertex_normals_and_their_gradients_are_those_of_the_description():
    ball, generator = mesh.icosphere(3), torch.Generator().manual_seed(0)
    faces = torch.cat([ball.faces, torch.tensor([[5, 5, 9]], dtype=torch.int32)])  # one has no area
    verts = torch.cat([ball.verts, torch.zeros(1, 3)]).double()  # one has no face
    verts = verts + 0.03 * torch.randn(verts.shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(verts.shape, generator=generator, dtype=torch.float64)
    found = []
    for normals in (normals_cpu.vertex_normals, mesh.vertex_normals):
        moved = verts.clone().requires_grad_()
        out = normals(moved, faces)
        found.append((out.detach(), torch.autograd.grad((out * weight).sum(), moved)[0]))
    for kernel, described in zip(*found, strict=True):
        assert torch.allclose(kernel, described, rtol=1e-10, atol=1e-12)
