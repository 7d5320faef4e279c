"""`texture`: values against sums over all texels, weighted by each texel's tent, in float64."""

import numpy as np
import pytest
import torch

from recon_lib.raster import checks

BOUNDARIES = ["wrap", "clamp", "zero"]


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def texel(tex: np.ndarray, i: int, j: int, boundary: str) -> np.ndarray:
    height, width = tex.shape[:2]
    if boundary == "wrap":
        return tex[j % height, i % width]
    if boundary == "clamp":
        return tex[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
    return tex[j, i] if 0 <= i < width and 0 <= j < height else np.zeros(tex.shape[2])


def slow_bilinear(tex: np.ndarray, uv: np.ndarray, boundary: str) -> np.ndarray:
    out = np.zeros((*uv.shape[:2], tex.shape[2]))
    for at in np.ndindex(uv.shape[:2]):
        x, y = uv[at] * [tex.shape[1], tex.shape[0]] - 0.5
        for j in range(int(y) - 2, int(y) + 4):
            for i in range(int(x) - 2, int(x) + 4):
                out[at] += max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j)) * texel(tex, i, j, boundary)
    return out


def halved(tex: np.ndarray) -> np.ndarray:
    return torch.nn.functional.avg_pool2d(torch.tensor(tex).permute(2, 0, 1), 2).permute(1, 2, 0).cpu().numpy()


def looked_up(raster, tex, uv, *args, **kwargs):
    """One view of one texture."""
    extra = [None if a is None else torch.tensor(a)[None] for a in args]
    return raster.texture(torch.tensor(tex)[None], torch.tensor(uv)[None], *extra, **kwargs)[0].cpu().numpy()


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("size", [(7, 12), (16, 3), (1, 1)])
def test_bilinear_values_equal_the_slow_sum(raster, boundary, size):
    tex, uv = numbers(0, *size, 3), 2 * numbers(1, 9, 11, 2) + 0.5
    got = looked_up(raster, tex, uv, boundary_mode=boundary)
    np.testing.assert_allclose(got, slow_bilinear(tex, uv.astype(np.float64), boundary), atol=2e-5)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_nearest_is_the_texel_that_holds_the_point(raster, boundary):
    tex, uv = numbers(0, 5, 8, 3), 2 * numbers(1, 9, 11, 2) + 0.5
    got = looked_up(raster, tex, uv, filter_mode="nearest", boundary_mode=boundary)
    for at in np.ndindex(uv.shape[:2]):
        i, j = np.floor(uv[at] * [8, 5]).astype(int)
        np.testing.assert_array_equal(got[at], texel(tex, i, j, boundary))


def test_texel_centres_return_the_texels(raster):
    tex = numbers(0, 4, 6, 2)
    uv = np.stack(np.meshgrid((np.arange(6) + 0.5) / 6, (np.arange(4) + 0.5) / 4), -1).astype(np.float32)
    np.testing.assert_allclose(looked_up(raster, tex, uv), tex, atol=1e-6)


def test_the_border_blends_with_the_other_side_itself_or_nothing(raster):
    tex = np.float32([[[3.0], [8.0], [5.0]]])
    expected = {"wrap": (3 + 5) / 2, "clamp": 3.0, "zero": 3 / 2}
    for boundary, value in expected.items():
        for u in (0.0, 1.0) if boundary == "wrap" else (0.0,):
            assert looked_up(raster, tex, np.float32([[[u, 0.5]]]), boundary_mode=boundary)[0, 0, 0] == pytest.approx(
                value
            )


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_each_view_reads_its_own_texture_or_all_the_same(raster, boundary):
    tex, uv = numbers(0, 3, 4, 6, 2), torch.tensor(numbers(1, 3, 5, 7, 2))
    own = raster.texture(torch.tensor(tex), uv, boundary_mode=boundary)
    same = raster.texture(torch.tensor(tex[1:2]), uv, boundary_mode=boundary)
    for n in range(3):
        np.testing.assert_array_equal(
            own[n].cpu(), looked_up(raster, tex[n], uv[n].cpu().numpy(), boundary_mode=boundary)
        )
        np.testing.assert_array_equal(
            same[n].cpu(), looked_up(raster, tex[1], uv[n].cpu().numpy(), boundary_mode=boundary)
        )


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_whole_level_by_bias_equals_the_lookup_in_the_box_downsampled_texture(raster, boundary):
    level, uv = numbers(0, 16, 8, 3), numbers(1, 9, 11, 2)
    pyramid = [level, level := halved(level), level := halved(level), level := halved(level)]
    for mode in ("linear-mipmap-linear", "linear-mipmap-nearest"):
        for lod, expected in enumerate(pyramid):
            bias = np.full((9, 11), lod, np.float32)
            got = looked_up(raster, pyramid[0], uv, None, bias, filter_mode=mode, boundary_mode=boundary)
            np.testing.assert_allclose(got, looked_up(raster, expected, uv, boundary_mode=boundary), atol=1e-5)


def test_the_last_level_is_the_mean_and_levels_beyond_the_ends_are_the_ends(raster):
    tex, uv = numbers(0, 4, 16, 3), numbers(1, 3, 3, 2)
    for lod, expected in ((-7.0, looked_up(raster, tex, uv)), (4.0, tex.mean((0, 1))), (99.0, tex.mean((0, 1)))):
        bias = np.full((3, 3), lod, np.float32)
        got = looked_up(raster, tex, uv, None, bias, filter_mode="linear-mipmap-linear")
        np.testing.assert_allclose(got, np.broadcast_to(expected, got.shape), atol=1e-6)


def test_the_level_is_log2_of_the_footprint_s_longer_axis_in_texels(raster):
    tex, uv = numbers(0, 64, 32, 3), numbers(1, 6, 7, 2)
    da = 0.15 * numbers(2, 6, 7, 4)  # du/dX du/dY dv/dX dv/dY
    texels = da.reshape(6, 7, 2, 2) * np.float32([32, 64])[:, None]
    level = np.log2(np.linalg.norm(texels, ord=2, axis=(-2, -1)))
    assert 0.3 < level.min() < 2 and 3 < level.max() < 5
    by_bias = {}
    for mode in ("linear-mipmap-linear", "linear-mipmap-nearest"):
        by_bias[mode] = looked_up(raster, tex, uv, None, level.astype(np.float32), filter_mode=mode)
        got = looked_up(raster, tex, uv, da, filter_mode=mode)
        np.testing.assert_allclose(got, by_bias[mode], atol=1e-4)
    lower = np.floor(level).astype(np.float32)
    ends = [looked_up(raster, tex, uv, None, lower + k, filter_mode="linear-mipmap-linear") for k in (0, 1)]
    weight = (level - lower)[..., None]
    np.testing.assert_allclose(by_bias["linear-mipmap-linear"], (1 - weight) * ends[0] + weight * ends[1], atol=1e-5)
    np.testing.assert_allclose(by_bias["linear-mipmap-nearest"], ends[0], atol=1e-5)


def test_twice_the_footprint_is_one_level_up(raster):
    tex, uv, da = numbers(0, 64, 64, 3), numbers(1, 6, 7, 2), 0.1 * numbers(2, 6, 7, 4)
    one = np.ones((6, 7), np.float32)
    up = looked_up(raster, tex, uv, 2 * da, filter_mode="linear-mipmap-linear")
    np.testing.assert_allclose(up, looked_up(raster, tex, uv, da, one, filter_mode="linear-mipmap-linear"), atol=1e-5)


def test_odd_sizes_have_no_mip_levels_below_them(raster):
    uv, bias = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2)
    for size, level in (((6, 4), 1), ((8, 7), 0)):
        tex = torch.ones(1, *size, 3)
        with pytest.raises(ValueError, match=f"max_mip_level <= {level}"):
            raster.texture(tex, uv, None, bias, filter_mode="linear-mipmap-linear")
        given = raster.texture(tex, uv, None, bias, filter_mode="linear-mipmap-linear", max_mip_level=level)
        assert (given == 1).all()


def test_mip_levels_stop_at_the_given_one(raster):
    tex, uv = numbers(0, 16, 16, 3), numbers(1, 3, 3, 2)
    high = np.full((3, 3), 9, np.float32)
    got = looked_up(raster, tex, uv, None, high, filter_mode="linear-mipmap-linear", max_mip_level=2)
    np.testing.assert_allclose(got, looked_up(raster, halved(halved(tex)), uv), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"filter_mode": "cubic"}, "filter 'cubic'"),
        ({"boundary_mode": "mirror"}, "boundary 'mirror'"),
        ({"filter_mode": "linear-mipmap-linear"}, "without uv_da and mip_level_bias"),
    ],
)
def test_an_unknown_mode_or_a_missing_footprint_is_an_error(raster, given, message):
    with pytest.raises(ValueError, match=message):
        raster.texture(torch.ones(1, 4, 4, 3), torch.zeros(1, 2, 2, 2), **given)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("mode", ["linear-mipmap-linear", "linear-mipmap-nearest"])
def test_given_levels_are_used_in_place_of_means(raster, mode, boundary):
    mips, uv = [numbers(k, 16 >> k, max(4 >> k, 1), 3) for k in range(4)], numbers(5, 9, 11, 2)
    options = {"filter_mode": mode, "boundary_mode": boundary}
    rest = [torch.tensor(m)[None] for m in mips[1:]]
    for k, expected in enumerate(mips):
        got = looked_up(raster, mips[0], uv, None, np.full((9, 11), k, np.float32), mip=rest, **options)
        np.testing.assert_allclose(got, looked_up(raster, expected, uv, boundary_mode=boundary), atol=1e-5)
    da, own = (
        0.2 * numbers(6, 9, 11, 4),
        [torch.tensor(level := halved(mips[0]))[None], torch.tensor(halved(level))[None]],
    )
    expected = looked_up(raster, mips[0], uv, da, max_mip_level=2, **options)
    np.testing.assert_allclose(looked_up(raster, mips[0], uv, da, mip=own, **options), expected, atol=1e-6)
    one = looked_up(raster, mips[0], uv, da, mip=rest, max_mip_level=1, **options)
    np.testing.assert_allclose(one, looked_up(raster, mips[0], uv, da, mip=rest[:1], **options), atol=1e-6)
    none = looked_up(raster, mips[0], uv, da, mip=[], **options)
    np.testing.assert_allclose(none, looked_up(raster, mips[0], uv, boundary_mode=boundary), atol=1e-6)


def test_the_gradient_of_given_levels_stays_with_the_levels(raster):
    uv, weights = torch.tensor(numbers(1, 1, 9, 11, 2)), torch.tensor(numbers(2, 1, 9, 11, 2))
    mips = [torch.tensor(numbers(k, 1, 8 >> k, 4 >> k, 2)).requires_grad_() for k in range(3)]
    for level in (0.0, 1.0, 1.25, 2.0):
        grads = torch.autograd.grad(
            raster.texture(mips[0], uv, None, torch.full((1, 9, 11), level), mips[1:], "linear-mipmap-linear"),
            mips, weights,
        )  # fmt: skip
        for k, tex in enumerate(mips):
            alone = torch.autograd.grad(raster.texture(tex, uv), tex, weights)[0]
            torch.testing.assert_close(grads[k], max(0, 1 - abs(level - k)) * alone)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([(4, 2), (2, 2)], r"mip level 2 is \(1, 2, 2, 3\), need \(1, 2, 1, 3\)"),
        ([(4, 4)], r"mip level 1 is \(1, 4, 4, 3\), need \(1, 4, 2, 3\)"),
        ([(4, 2), (2, 1), (1, 1), (1, 1)], "4 mip levels below 4 x 8, need at most 3"),
    ],
)
def test_given_levels_of_other_sizes_are_an_error(raster, sizes, message):
    mips, bias = [torch.ones(1, *size, 3) for size in sizes], torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match=message):
        raster.texture(torch.ones(1, 8, 4, 3), torch.ones(1, 2, 2, 2), None, bias, mips, "linear-mipmap-linear")


def test_given_levels_without_a_mip_mapped_filter_or_below_an_odd_size_are_an_error(raster):
    uv, bias, mips = torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2), [torch.ones(1, 3, 2, 3)]
    with pytest.raises(ValueError, match="mip with filter 'linear'"):
        raster.texture(torch.ones(1, 6, 4, 3), uv, None, bias, mips)
    with pytest.raises(ValueError, match="level 0 is 4 x 7, need even sizes"):
        raster.texture(torch.ones(1, 7, 4, 3), uv, None, bias, mips, "linear-mipmap-linear")


def test_a_level_that_is_no_number_counts_as_0(raster):
    tex, uv, bias = numbers(0, 8, 8, 3), numbers(1, 3, 3, 2), np.full((3, 3), np.nan, np.float32)
    for mode in ("linear-mipmap-linear", "linear-mipmap-nearest"):
        got = looked_up(raster, tex, uv, None, bias, filter_mode=mode)
        np.testing.assert_allclose(got, looked_up(raster, tex, uv), atol=1e-6)


def test_two_textures_or_attributes_for_three_views_are_refused(raster):
    """The kernels would read beyond the arrays."""
    with pytest.raises(ValueError, match="2 textures for 3 views, need 1 or 3"):
        raster.texture(torch.ones(2, 4, 4, 3), torch.zeros(3, 2, 2, 2))
    with pytest.raises(ValueError, match="2 textures for 3 views, need 1 or 3"):
        raster.texture(torch.ones(2, 6, 4, 4, 3), torch.zeros(3, 2, 2, 3), boundary_mode="cube")
    with pytest.raises(ValueError, match="attributes of 2 views for 3 views, need 1 or 3"):
        raster.interpolate(torch.ones(2, 3, 1), torch.zeros(3, 2, 2, 4), torch.zeros(1, 3, dtype=torch.int32))


@pytest.mark.parametrize(
    ("tex", "uv", "boundary"),
    [
        ((1, 4, 4, 3), (1, 2, 2, 3), "wrap"),
        ((1, 6, 4, 4, 3), (1, 2, 2, 2), "cube"),
        ((1, 4, 4, 3), (1, 2, 2, 3), "cube"),
        ((1, 5, 4, 4, 3), (1, 2, 2, 3), "cube"),
        ((1, 6, 4, 8, 3), (1, 2, 2, 3), "cube"),
    ],
)
def test_a_texture_that_does_not_fit_its_coordinates_or_is_no_cube_is_refused(tex, uv, boundary):
    """Asked of `checks` itself: in the test run the annotations of `texture` refuse some of these before it."""
    with pytest.raises(ValueError, match=rf"got \({tex[0]}, {tex[1]}, .*, need a (texture|cube map)"):
        checks.texture(torch.ones(*tex), torch.zeros(*uv), None, None, None, "linear", boundary, None)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_gradient_to_a_texel_is_the_sum_of_its_weights(raster, boundary):
    tex = torch.tensor(numbers(0, 1, 12, 6, 1)).requires_grad_()
    uv = numbers(1, 20, 21, 2)
    raster.texture(tex, torch.tensor(uv)[None], boundary_mode=boundary).sum().backward()
    each = np.eye(72, dtype=np.float32).reshape(12, 6, 72)  # channel k is 1 at texel k
    expected = slow_bilinear(each, uv.astype(np.float64), boundary).sum((0, 1)).reshape(12, 6)
    np.testing.assert_allclose(tex.grad[0, ..., 0].cpu(), expected, rtol=1e-4, atol=1e-4)
