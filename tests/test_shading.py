"""Metallic-roughness shading under environment light, against closed forms and Monte Carlo."""

from math import pi

import pytest
import torch

from recon_lib.raster import cpu
from recon_lib.shading import cubemap, environment, ggx, pbr

MIDDLE_SKY = 24  # texels along a side: not a size that prefiltering takes


def sphere_points(count: int, seed: int = 0) -> torch.Tensor:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(points, dim=-1)


def sky(size: int, kind: str) -> torch.Tensor:
    d = cubemap.directions(size)
    if kind == "even":
        return torch.full((6, size, size, 3), 0.7)
    if kind == "linear":
        return 1 + d @ torch.tensor([0.3, 0.5, -0.2])[:, None] * torch.tensor([1.0, 0.5, 0.2])
    sun = (d @ torch.tensor([0.36, 0.8, 0.48])).clamp_min(0).pow(12)[..., None]
    return (
        0.3 + 2 * sun * torch.tensor([1.0, 0.8, 0.6]) + 0.2 * d[..., 1:2].clamp_min(0) * torch.tensor([0.2, 0.5, 1.0])
    )


def look(cube: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    return cpu.texture(cube[None], d[None, None], boundary_mode="cube")[0, 0]


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0])
def test_the_ggx_distribution_integrates_to_one(alpha):
    theta = (torch.arange(200_000, dtype=torch.float64) + 0.5) * (pi / 2 / 200_000)
    total = (ggx.distribution(theta.cos(), alpha) * theta.cos() * theta.sin()).sum() * 2 * pi * (pi / 2 / 200_000)
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0])
def test_half_vectors_fall_with_the_density_that_weighs_them(alpha):
    h = ggx.half_vectors(torch.tensor(alpha), 4096)
    for cosine in (0.3, 0.7, 0.95):
        # Share of half vectors within an angle: integral of D(h) n.h, in closed form.
        share = (1 - cosine**2) / (1 + cosine**2 * (alpha**2 - 1))
        assert (h[:, 2] > cosine).float().mean().item() == pytest.approx(share, abs=2e-3)


def test_no_surface_reflects_more_of_an_even_sky_than_falls_on_it():
    table = ggx.split_sum_table()
    assert (table >= 0).all() and table.sum(-1).max() <= 1.001
    assert table.sum(-1)[2, 40] > 0.97  # a smooth mirror loses next to nothing


@pytest.mark.parametrize("size", [16, 32])
def test_an_even_sky_stays_even_however_rough_the_surface(size):
    light = environment.of_cube(sky(size, "even"))
    for cube in (*light.specular, light.irradiance):
        assert torch.allclose(cube, torch.tensor(0.7), atol=1e-5)


def test_in_a_furnace_nothing_is_brighter_than_the_walls():
    light = environment.of_cube(torch.ones(6, 16, 16, 3))
    generator = torch.Generator().manual_seed(0)
    normal, eye = sphere_points(2000, 1), sphere_points(2000, 2)
    normal = pbr.shading_normals(normal.T, torch.zeros_like(normal).T, eye.T).T
    for metallic in (0.0, 1.0):
        orm = torch.rand(2000, 3, generator=generator)
        orm[:, 0], orm[:, 2] = 1, metallic
        seen = pbr.shade(torch.ones(3, 2000), orm.T, normal.T, eye.T, light, cpu)
        assert seen.max() <= 1.001
        assert seen.min() > (0.3 if metallic else 0.8)
    black = pbr.shade(torch.zeros(3, 2000), (orm * torch.tensor([1.0, 1, 0])).T, normal.T, eye.T, light, cpu)
    frontal = (normal * eye).sum(-1) > 0.7
    assert black.max() <= 1.001 and black[:, frontal].max() < 0.06 and black.min() > 0


def test_irradiance_of_a_linear_sky_is_known():
    light = environment.of_cube(sky(32, "linear"))
    n = sphere_points(500)
    # Over pi: the mean of 1 + a.d over the cosine lobe is 1 + 2/3 a.n.
    wanted = 1 + 2 / 3 * (n @ torch.tensor([0.3, 0.5, -0.2])[:, None]) * torch.tensor([1.0, 0.5, 0.2])
    assert (look(light.irradiance, n) - wanted).abs().max() < 0.012


def monte_carlo(base, roughness, metallic, n, v, radiance, count=40_000):
    """The reflected light of one surface point, the whole integral of glTF's BRDF, cosine-sampled and GGX-sampled."""
    z = torch.tensor([0.0, 0, 1]) if abs(n[2]) < 0.9 else torch.tensor([1.0, 0, 0])
    t = torch.nn.functional.normalize(torch.linalg.cross(z, n), dim=-1)
    frame = torch.stack([t, torch.linalg.cross(n, t), n], -1)
    alpha = torch.tensor(roughness**2)
    h = ggx.half_vectors(alpha, count) @ frame.T
    to = 2 * (h @ v)[:, None] * h - v
    nl, nh, vh, nv = (to @ n).clamp_min(0), h @ n, (h @ v).clamp_min(0), v @ n
    F0 = 0.04 * (1 - metallic) + base * metallic
    fresnel = F0 + (1 - F0) * (1 - vh[:, None]).pow(5)
    weight = (4 * ggx.visibility(nl, nv, alpha) * nl * vh / nh)[:, None]
    specular = torch.where(nl[:, None] > 0, radiance(to) * fresnel * weight, 0).mean(0)
    u = torch.rand(count, 2, generator=torch.Generator().manual_seed(3))
    r, phi = u[:, 0].sqrt(), 2 * pi * u[:, 1]
    to = torch.stack([r * phi.cos(), r * phi.sin(), (1 - u[:, 0]).sqrt()], -1) @ frame.T
    reflected = torch.where(nl > 0, weight[:, 0] * (0.04 + 0.96 * (1 - vh).pow(5)), 0).mean()
    return specular + base * (1 - metallic) * (1 - reflected) * radiance(to).mean(0)


@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("roughness", [0.2, 0.4, 0.7, 1.0])
def test_the_split_sum_is_near_the_integral(roughness, metallic):
    """Bounds are those that the package states."""
    bound = {0.2: 0.04, 0.4: 0.04, 0.7: 0.08, 1.0: 0.13}[roughness] if metallic else 0.03
    cube = sky(64, "sun")
    light = environment.of_cube(sky(32, "sun"))
    base = torch.tensor([0.8, 0.5, 0.3])
    total = 0.0
    normals = sphere_points(24, 5)
    for k, n in enumerate(normals):
        v = torch.nn.functional.normalize(n + 0.9 * sphere_points(24, 6)[k], dim=-1)
        if v @ n < 0.4:
            v = n
        true = monte_carlo(base, roughness, metallic, n, v, lambda d: look(cube, d))
        orm = torch.tensor([[1.0, roughness, metallic]])
        got = pbr.shade(base[:, None], orm.T, n[:, None], v[:, None], light, cpu)[:, 0]
        total += ((got - true).abs() / true).max().item()
    assert total / len(normals) < bound


def test_solid_angles_cover_the_sphere():
    assert 6 * cubemap.solid_angles(MIDDLE_SKY).sum().item() == pytest.approx(4 * pi, rel=1e-6)
    assert cubemap.solid_angles(2)[0, 0].item() == pytest.approx(4 * pi / 24, rel=1e-6)


def test_looking_a_texel_up_by_its_own_direction_finds_it():
    cube = torch.rand(6, MIDDLE_SKY, MIDDLE_SKY, 3, generator=torch.Generator().manual_seed(0))
    d = cubemap.directions(MIDDLE_SKY).reshape(-1, 3)
    assert torch.allclose(look(cube, d), cube.reshape(-1, 3), atol=1e-4)


def test_a_latitude_longitude_image_and_back_is_the_same_sky():
    cube = sky(32, "sun")
    image = look(cube, cubemap.latlong_directions(256).reshape(-1, 3)).reshape(256, 512, 3)
    assert (cubemap.from_latlong(image, 32) - cube).abs().max() < 0.02
    assert image[0].mean(0)[2] > image[-1].mean(0)[2]  # the blue top row is +y
    east = sky(32, "even") + cubemap.directions(32)[..., :1].clamp_min(0)
    image = look(east, cubemap.latlong_directions(64).reshape(-1, 3)).reshape(64, 128, 3)
    assert image[32, :, 0].argmax().item() in (95, 96)  # +x is a quarter of the width right of the middle


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_moves_light_without_loss(axis):
    R = torch.eye(3)
    i, j = [k for k in range(3) if k != axis]
    R[i, i] = R[j, j] = 0
    R[i, j], R[j, i] = -1, 1
    cube = torch.rand(6, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    d = sphere_points(300)
    assert torch.allclose(look(cubemap.turned(cube, R), d @ R.T), look(cube, d), atol=1e-4)
    assert torch.equal(cubemap.turned(cubemap.turned(cube, R), R.T), cube)


@pytest.mark.parametrize("size", [8, 24, 0])
def test_a_size_that_cannot_be_halved_down_is_refused(size):
    with pytest.raises(ValueError, match=f"{size} texels along a side, need a power of two from 16 on"):
        environment.operators(size)


def test_every_input_of_the_shading_has_a_true_gradient():
    """Central differences along random directions, float32."""
    generator = torch.Generator().manual_seed(4)
    count = 400
    eye = sphere_points(count, 1)
    normal = torch.nn.functional.normalize(eye + 0.4 * sphere_points(count, 2), dim=-1)
    base = 0.2 + 0.6 * torch.rand(count, 3, generator=generator)
    orm = 0.2 + 0.6 * torch.rand(count, 3, generator=generator)
    cube = sky(16, "sun")
    weight = torch.randn(count, 3, generator=generator)

    def total(base, orm, normal, cube):
        return (pbr.shade(base.T, orm.T, normal.T, eye.T, environment.of_cube(cube), cpu) * weight.T).double().sum()

    inputs = [base, orm, normal, cube]
    leaves = [x.clone().requires_grad_(True) for x in inputs]
    grads = torch.autograd.grad(total(*leaves), leaves)
    for k, (x, grad) in enumerate(zip(inputs, grads, strict=True)):
        way = torch.randn(x.shape, generator=generator)
        step = 2e-3 if k != 2 else 1e-3
        up, down = ([*inputs[:k], x + s * step * way, *inputs[k + 1 :]] for s in (1, -1))
        slope = (total(*up) - total(*down)) / (2 * step)
        assert (grad * way).double().sum().item() == pytest.approx(slope.item(), rel=0.03, abs=0.05), k
