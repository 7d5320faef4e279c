"""`texture` of cube maps: values against a slow lookup in float64 that finds neighbours by projecting positions in space."""

from itertools import pairwise, product

import numba
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from recon_lib.raster import cpu, cubes, sampling

# The table of the OpenGL specification: major axis and its sign, then sc and tc of a direction (x, y, z).
OPENGL = (
    (0, 1, lambda x, y, z: (-z, -y)),
    (0, -1, lambda x, y, z: (z, -y)),
    (1, 1, lambda x, y, z: (x, z)),
    (1, -1, lambda x, y, z: (x, -z)),
    (2, 1, lambda x, y, z: (x, -y)),
    (2, -1, lambda x, y, z: (-x, -y)),
)
CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))
EDGES = np.array([c for c in product((-1.0, 0.0, 1.0), repeat=3) if np.abs(c).sum() == 2])
TRILINEAR = {"filter_mode": "linear-mipmap-linear", "boundary_mode": "cube"}


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def looked_up(raster, cube, directions, bias=None, mip=None, **kwargs) -> np.ndarray:
    """One cube at P directions."""
    level = (
        None if bias is None else torch.tensor(np.broadcast_to(np.float32(bias), len(directions)).copy())[None, None]
    )
    at = torch.tensor(directions.astype(np.float32))[None, None]
    mips = None if mip is None else [torch.tensor(m)[None] for m in mip]
    options = {"boundary_mode": "cube"} | kwargs
    return raster.texture(torch.tensor(cube)[None], at, None, level, mips, **options)[0, 0].cpu().numpy()


def projected(d: np.ndarray) -> tuple[int, float, float]:
    """Face and (s, t) from 0 to 1."""
    axis = int(np.abs(d).argmax())
    face = next(f for f, (major, sign, _) in enumerate(OPENGL) if major == axis and sign * d[axis] > 0)
    sc, tc = OPENGL[face][2](*d)
    return face, (sc / abs(d[axis]) + 1) / 2, (tc / abs(d[axis]) + 1) / 2


def position(face: int, s: float, t: float) -> np.ndarray:
    """The point of the face's plane with these coordinates; found by solving, so that the table stands in one place."""
    axis, sign, table = OPENGL[face]
    basis = np.array([table(*unit) for unit in np.eye(3)]).T  # rows sc and tc
    return sign * np.eye(3)[axis] + (2 * s - 1) * basis[0] + (2 * t - 1) * basis[1]


def texel_at(cube: np.ndarray, d: np.ndarray) -> np.ndarray:
    face, s, t = projected(d)
    return cube[face, min(int(t * cube.shape[1]), cube.shape[1] - 1), min(int(s * cube.shape[1]), cube.shape[1] - 1)]


def slow_bilinear(cube: np.ndarray, directions: np.ndarray) -> np.ndarray:
    size, out = cube.shape[1], []
    for d in directions.astype(np.float64):
        face, s, t = projected(d)
        x, y, value = s * size - 0.5, t * size - 0.5, 0
        for j, i in product((np.floor(y), np.floor(y) + 1), (np.floor(x), np.floor(x) + 1)):
            at = position(face, (i + 0.5) / size, (j + 0.5) / size)
            texels = [texel_at(cube, at)]
            if (np.abs(at) > 1 - 1e-9).all():  # beyond a corner, whose texels lie a little along each axis
                corner = np.sign(at)
                texels = [texel_at(cube, corner * (1 + 1e-3 * unit)) for unit in np.eye(3)]
            value = value + (1 - abs(x - i)) * (1 - abs(y - j)) * np.mean(texels, axis=0)
        out.append(value)
    return np.array(out)


def texel_centres(size: int) -> np.ndarray:
    """6 S S 3 unit vectors."""
    at = (np.arange(size) + 0.5) / size
    d = np.array([[[position(face, s, t) for s in at] for t in at] for face in range(6)])
    return d / np.linalg.norm(d, axis=-1, keepdims=True)


def halved(cube: np.ndarray) -> np.ndarray:
    return (cube[:, ::2, ::2] + cube[:, 1::2, ::2] + cube[:, ::2, 1::2] + cube[:, 1::2, 1::2]) / 4


def everywhere(seed: int) -> np.ndarray:
    """Directions all round, close to all edges and close to all corners."""
    edges, corners = np.repeat(EDGES, 8, 0), np.repeat(CORNERS, 8, 0)
    close = np.concatenate([edges + (edges == 0) * numbers(seed, len(edges), 3), corners])
    return np.concatenate([numbers(seed, 300, 3), close + 0.15 * numbers(seed, len(close), 3)])


def away_from_corners(d: np.ndarray) -> np.ndarray:
    """The smallest component made smaller: in a cube of 2 x 2 texels or more no lookup reaches round a corner any more."""
    return np.where(np.abs(d) == np.abs(d).min(-1, keepdims=True), np.float32(0.4) * d, d)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_texel_centres_return_the_texels(raster, mode, size):
    cube = numbers(0, 6, size, size, 2)
    got = looked_up(raster, cube, 3 * texel_centres(size).reshape(-1, 3), filter_mode=mode)
    np.testing.assert_allclose(got.reshape(cube.shape), cube, atol=2e-6)


def test_the_axes_look_at_the_faces_middles_in_opengl_s_order_and_orientation(raster):
    """Written out by hand: each face is brighter to its right (s) by 1 and downwards (t) by 10, faces by 100."""
    cube = (100 * np.arange(6)[:, None, None] + 10 * np.arange(2)[:, None] + np.arange(2)).astype(np.float32)[..., None]
    at = {
        (9, 1, -1): 1, (9, -1, 1): 10, (-9, 1, 1): 101, (-9, -1, -1): 110, (1, 9, -1): 201, (-1, 9, 1): 210,
        (1, -9, 1): 301, (-1, -9, -1): 310, (1, 1, 9): 401, (-1, -1, 9): 410, (-1, 1, -9): 501, (1, -1, -9): 510,
    }  # fmt: skip
    got = looked_up(raster, cube, np.float32(list(at)), filter_mode="nearest")[:, 0]
    np.testing.assert_array_equal(got, list(at.values()))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_values_equal_the_slow_lookup_whatever_the_length_of_the_direction(raster, size):
    cube, d = numbers(0, 6, size, size, 3), everywhere(1)
    np.testing.assert_array_equal(looked_up(raster, cube, d, filter_mode="nearest"), [texel_at(cube, at) for at in d])
    for length in (1, 1e-30, 1e30):
        np.testing.assert_allclose(looked_up(raster, cube, length * d), slow_bilinear(cube, d), atol=1e-5)


def test_the_gradient_to_a_direction_is_the_slope_of_the_slow_lookup(raster):
    cube, d, along = numbers(0, 6, 4, 4, 2), everywhere(1).astype(np.float32), numbers(2, 460, 3).astype(np.float64)
    at = torch.tensor(d)[None, None].requires_grad_()
    raster.texture(torch.tensor(cube)[None], at, boundary_mode="cube").sum().backward()
    ends = [slow_bilinear(cube, d + step * along).sum(-1) for step in (-1e-6, 1e-6)]
    got = (at.grad[0, 0].cpu().numpy() * along).sum(-1)
    np.testing.assert_allclose(got, (ends[1] - ends[0]) / 2e-6, rtol=1e-3, atol=1e-3)


def test_values_are_continuous_across_edges_and_corners(raster):
    mips = [numbers(k, 6, 8 >> k, 8 >> k, 3) for k in range(4)]
    along = EDGES[:, None] + (EDGES[:, None] == 0) * np.linspace(-0.99, 0.99, 9)[None, :, None]
    ends = np.concatenate([along.reshape(-1, 3), np.repeat(CORNERS, 9, 0)])
    step = 1e-4 * numbers(9, 20, len(ends), 3)
    faces = {tuple(sorted({projected(d)[0] for d in end})) for end in (ends + step).transpose(1, 0, 2)}
    assert {len(f) for f in faces} == {2, 3} and len(faces) == 12 + 8  # every edge and corner, from all its sides
    for bias in (None, 0.0, 0.6, 1.5, 2.0, 2.7, 3.0):
        kwargs = {} if bias is None else TRILINEAR | {"bias": bias, "mip": mips[1:]}
        values = np.array([looked_up(raster, mips[0], ends + s, **kwargs) for s in step])
        assert np.ptp(values, axis=0).max() < 8 * 3e-4


def test_a_corner_is_the_mean_of_its_three_texels(raster):
    cube = numbers(0, 6, 4, 4, 3)
    expected = [np.mean([texel_at(cube, c * (1 + 1e-3 * unit)) for unit in np.eye(3)], axis=0) for c in CORNERS]
    np.testing.assert_allclose(looked_up(raster, cube, CORNERS), expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_constant_cube_is_constant(raster, size):
    cube, d = np.full((6, size, size, 2), 0.7, np.float32), np.concatenate([everywhere(1), EDGES, CORNERS])
    for kwargs in ({"filter_mode": "nearest"}, {}, TRILINEAR | {"bias": 1.3}):
        np.testing.assert_allclose(looked_up(raster, cube, d, **kwargs), 0.7, rtol=1e-6)


def test_a_linear_function_of_direction_is_reproduced_better_at_higher_resolution(raster):
    d, slope = numbers(1, 20000, 3), np.array([[1.0, 0.3], [-0.5, 0.8], [0.7, -0.2]])
    exact = d / np.linalg.norm(d, axis=-1, keepdims=True) @ slope
    linear = [(texel_centres(size) @ slope).astype(np.float32) for size in (8, 16, 32)]
    errors = [np.abs(looked_up(raster, cube, d) - exact) for cube in linear]
    # Second order inside faces, first order in the half texel along an edge, where the slope breaks.
    assert errors[0].max() < 0.1
    for coarse, fine in pairwise(errors):
        assert coarse.max() / fine.max() > 1.8 and coarse.mean() / fine.mean() > 3.2


@pytest.mark.parametrize("mode", ["linear-mipmap-linear", "linear-mipmap-nearest"])
def test_a_whole_level_by_bias_equals_the_lookup_in_the_box_downsampled_cube(raster, mode):
    cube, d = numbers(0, 6, 8, 8, 3), everywhere(1)
    pyramid = [cube, level := halved(cube), level := halved(level), level := halved(level)]
    for bias, expected in zip((-2, 0, 1, 2, 3, 9), (0, 0, 1, 2, 3, 3), strict=True):
        got = looked_up(raster, cube, d, bias, filter_mode=mode)
        np.testing.assert_allclose(got, looked_up(raster, pyramid[expected], d), atol=1e-6)
    last = looked_up(raster, cube, d, 9, filter_mode=mode, max_mip_level=1)
    np.testing.assert_allclose(last, looked_up(raster, pyramid[1], d), atol=1e-6)


def test_between_two_levels_the_values_are_blended_or_the_lower_one_s(raster):
    cube, d = numbers(0, 6, 8, 8, 3), everywhere(1)
    ends = [looked_up(raster, cube, d, k, **TRILINEAR) for k in (1, 2)]
    np.testing.assert_allclose(looked_up(raster, cube, d, 1.3, **TRILINEAR), 0.7 * ends[0] + 0.3 * ends[1], atol=1e-6)
    for bias, expected in ((1.05, ends[0]), (1.95, ends[0]), (2.05, ends[1])):
        got = looked_up(raster, cube, d, bias, filter_mode="linear-mipmap-nearest")
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["linear-mipmap-linear", "linear-mipmap-nearest"])
def test_given_levels_are_used_in_place_of_means(raster, mode):
    mips, d = [numbers(k, 6, 8 >> k, 8 >> k, 3) for k in range(3)], everywhere(1)
    for k, expected in enumerate(mips):
        got = looked_up(raster, mips[0], d, k, mips[1:], filter_mode=mode)
        np.testing.assert_allclose(got, looked_up(raster, expected, d), atol=1e-6)
    bias, own = 3 * numbers(2, len(d)) + 1, [level := halved(mips[0]), level := halved(level), halved(level)]
    expected = looked_up(raster, mips[0], d, bias, filter_mode=mode)
    np.testing.assert_allclose(looked_up(raster, mips[0], d, bias, own, filter_mode=mode), expected, atol=1e-6)


def test_gradients_stay_with_given_levels_and_those_of_means_are_the_base_s(raster):
    d, level = torch.tensor(everywhere(1).astype(np.float32))[None, None], 1.5 + 2 * torch.tensor(numbers(2, 1, 1, 460))
    base = torch.zeros(1, 6, 4, 4, 1, requires_grad=True)
    raster.texture(base, d, None, level, **TRILINEAR).sum().backward()
    mips = [torch.zeros(1, 6, 4 >> k, 4 >> k, 1, requires_grad=True) for k in range(3)]
    raster.texture(mips[0], d, None, level, mips[1:], **TRILINEAR).sum().backward()
    spread = [m.grad.repeat_interleave(1 << k, 2).repeat_interleave(1 << k, 3) / 4**k for k, m in enumerate(mips)]
    torch.testing.assert_close(base.grad, sum(spread), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", ["corners", "elsewhere"])
def test_each_view_reads_its_own_cube_or_all_the_same(raster, where):
    mips, d = [numbers(k, 3, 6, 4 >> k, 4 >> k, 2) for k in range(2)], numbers(5, 3, 2, 11, 3)
    d = away_from_corners(d) if where == "elsewhere" else d
    bias = numbers(6, 3, 2, 11) + 0.5

    def views(chosen):
        base, *rest = [torch.tensor(m[chosen]).requires_grad_() for m in mips]
        out = raster.texture(base, torch.tensor(d), None, torch.tensor(bias), rest, **TRILINEAR)
        out.sum().backward()
        return out.detach().cpu().numpy(), [m.grad.cpu().numpy() for m in (base, *rest)]

    (own, grads), (same, grads_same) = views([0, 1, 2]), views([1])
    for n in range(3):
        at = d[n].reshape(-1, 3), bias[n].reshape(-1)
        for got, m in ((own, n), (same, 1)):
            expected = looked_up(raster, mips[0][m], *at, [mips[1][m]], **TRILINEAR)
            np.testing.assert_allclose(got[n].reshape(-1, 2), expected, atol=1e-6)
    for k in range(2):
        np.testing.assert_allclose(grads[k].sum(0), grads_same[k][0], atol=1e-5)


EACH_FILTER = pytest.mark.parametrize(
    "kwargs", [{"filter_mode": "nearest"}, {}, TRILINEAR], ids=["nearest", "linear", "trilinear"]
)


def assert_bad_directions_give_nothing(raster, bad: list, kwargs: dict) -> None:
    """Before good ones, whose weights add up to 1 each."""
    good = away_from_corners(numbers(1, 5, 3))
    d = torch.tensor(np.concatenate([np.float32(bad), good]))[None, None].requires_grad_()
    cube = torch.tensor(numbers(0, 1, 6, 4, 4, 3) + 5).requires_grad_()
    bias = torch.full((1, 1, len(bad) + 5), 0.5, requires_grad=True) if kwargs == TRILINEAR else None
    out = raster.texture(cube, d, None, bias, **({"boundary_mode": "cube"} | kwargs))
    assert (out[0, 0, : len(bad)] == 0).all() and (out[0, 0, len(bad) :] > 3).all()
    out.sum().backward()
    assert cube.grad.sum().item() == pytest.approx(5 * 3, rel=1e-5)
    assert d.grad is None if kwargs == {"filter_mode": "nearest"} else (d.grad[0, 0, : len(bad)] == 0).all()
    if bias is not None:
        assert (bias.grad[0, 0, : len(bad)] == 0).all() and (bias.grad[0, 0, len(bad) :] != 0).all()


@EACH_FILTER
def test_no_direction_gives_zero_and_no_gradient(raster, kwargs):
    bad = [[0, 0, 0], [np.nan, 1, 1], [1, np.nan, 2], [1, 1, np.nan]]
    assert_bad_directions_give_nothing(raster, bad, kwargs)


@EACH_FILTER
def test_an_infinite_direction_gives_zero_and_no_gradient(raster, kwargs):
    assert_bad_directions_give_nothing(raster, [[np.inf, 1, 0], [0, -np.inf, np.inf]], kwargs)


def test_no_pixels_give_no_values_and_no_gradient(raster):
    cube, d = torch.ones(1, 6, 4, 4, 3, requires_grad=True), torch.zeros(1, 1, 0, 3, requires_grad=True)
    out = raster.texture(cube, d, None, torch.zeros(1, 1, 0), **TRILINEAR)
    out.sum().backward()
    assert out.shape == (1, 1, 0, 3) and d.grad.shape == d.shape and (cube.grad == 0).all()


def test_a_footprint_is_an_error(raster):
    with pytest.raises(ValueError, match="uv_da with boundary 'cube'"):
        raster.texture(torch.ones(1, 6, 4, 4, 3), torch.ones(1, 2, 2, 3), torch.ones(1, 2, 2, 4), **TRILINEAR)
    with pytest.raises(ValueError, match="without uv_da and mip_level_bias"):
        raster.texture(torch.ones(1, 6, 4, 4, 3), torch.ones(1, 2, 2, 3), **TRILINEAR)


@pytest.fixture
def plain_python(monkeypatch):
    """At these sizes that takes less time than compiling for float64."""
    for module in (cubes, sampling):
        for name, kernel in vars(module).copy().items():
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(module, name, kernel.py_func)


@pytest.mark.parametrize("mode", ["linear", "linear-mipmap-nearest", "linear-mipmap-linear"])
@pytest.mark.parametrize("views", [1, 2])
def test_gradients_equal_central_differences(plain_python, mode, views):
    close = np.array([[1.0, 0.93, 0.95], [-0.94, 1.0, -0.9], [0.2, -0.93, -1.0]])  # to two corners and an edge
    d = torch.tensor(1.7 * np.stack([close, numbers(1, 3, 3)])[:, None]).requires_grad_()
    base, *mips = [torch.tensor(numbers(k, views, 6, 4 >> k, 4 >> k, 2)).double().requires_grad_() for k in range(3)]
    bias = torch.tensor([[[0.3, 1.6, 0.8]], [[1.2, -0.4, 2.3]]], dtype=torch.float64)
    bias.requires_grad_(mode == "linear-mipmap-linear")

    def lookup(tex, d, bias, *mip):
        return cpu.texture(tex, d, None, bias, list(mip) or None, filter_mode=mode, boundary_mode="cube")

    assert gradcheck(lookup, (base, d, bias))
    assert mode == "linear" or gradcheck(lookup, (base, d, bias, *mips))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba has one thread on this machine")
@pytest.mark.parametrize("size", [16, 64])
def test_one_thread_and_two_give_the_same_bits(size):
    """The large cube has more texels than pixels and is summed in one go."""
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, 2, 2, 2, 2):
            numba.set_num_threads(threads)
            inputs = [torch.tensor(numbers(0, 1, 96, 96, 3)), torch.tensor(2 * numbers(1, 1, 96, 96) + 1.5)]
            inputs += [torch.tensor(numbers(k, 1, 6, size >> k, size >> k, 3)) for k in range(4)]
            d, bias, base, *mips = [x.requires_grad_() for x in inputs]
            out = cpu.texture(base, d, None, bias, mips, **TRILINEAR)
            (out * torch.tensor(numbers(7, *out.shape))).sum().backward()
            results.append([out, *(x.grad for x in inputs)])
    finally:
        numba.set_num_threads(before)
    assert all(value.abs().max() > 0 for value in results[0])
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))
