"""Area means against closed forms and a slow loop, and what PIL's reducing and BOX filters give instead."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from recon_lib.photos.resample import area_means, area_means_on_device

BOXES = [
    ((0.0, 0.0, 30.0, 20.0), 7, 3),
    ((0.4, 0.6, 29.3, 19.7), 10, 9),
    ((3.25, 2.5, 11.75, 19.999), 4, 6),
    ((0.3, 0.2, 6.1, 5.9), 13, 17),
    ((5.0, 1.0, 10.0, 17.0), 20, 2),
    ((12.2, 7.7, 12.9, 7.9), 1, 1),
]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def cells(low: float, high: float, count: int) -> list[tuple[float, float]]:
    size = (high - low) / count
    return [(low + k * size, low + (k + 1) * size) for k in range(count)]


def slow_means(plane: np.ndarray, box: tuple[float, float, float, float], width: int, height: int) -> np.ndarray:
    """Sums every pixel of the continued picture that a cell overlaps."""
    out, edge = np.zeros((height, width)), 3
    for i, (top, bottom) in enumerate(cells(box[1], box[3], height)):
        for j, (left, right) in enumerate(cells(box[0], box[2], width)):
            for y in range(-edge, plane.shape[0] + edge):
                for x in range(-edge, plane.shape[1] + edge):
                    shared = max(0, min(right, x + 1) - max(left, x)) * max(0, min(bottom, y + 1) - max(top, y))
                    value = plane[min(max(y, 0), plane.shape[0] - 1), min(max(x, 0), plane.shape[1] - 1)]
                    out[i, j] += shared * value / (right - left) / (bottom - top)
    return out


@pytest.mark.parametrize(("box", "width", "height"), BOXES)
def test_the_means_equal_the_slow_loop(box, width, height):
    plane = random(20, 30)
    np.testing.assert_allclose(area_means(plane, box, width, height), slow_means(plane, box, width, height), rtol=1e-6)


@pytest.mark.parametrize(("box", "width", "height"), [*BOXES[:3], ((2.0, 1.0, 30.0, 16.0), 4, 3)])
def test_the_means_of_a_product_are_differences_of_its_integral(box, width, height):
    """Pixels hold the integrals of sin(x / 5) (1 + y) over themselves; between pixel borders the integral is linear."""
    along, down = -5 * np.cos(np.arange(31) / 5), np.arange(21) + np.arange(21) ** 2 / 2
    picture = (np.diff(down)[:, None] * np.diff(along)).astype(np.float32)

    def means(integral, low, high, count):
        low, high = np.linspace(low, high, count + 1)[:-1], np.linspace(low, high, count + 1)[1:]
        whole = np.arange(len(integral))
        return (np.interp(high, whole, integral) - np.interp(low, whole, integral)) / (high - low)

    expected = means(down, box[1], box[3], height)[:, None] * means(along, box[0], box[2], width)
    np.testing.assert_allclose(area_means(picture, box, width, height), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factors", [(2, 2), (3, 5), (1, 4)])
def test_whole_factors_give_the_means_of_blocks_of_pixels(factors):
    down, along = factors
    picture = random(6 * down, 4 * along, 3)
    blocks = picture.reshape(6, down, 4, along, 3).astype(np.float64).mean((1, 3))
    np.testing.assert_allclose(area_means(picture, (0.0, 0.0, 4.0 * along, 6.0 * down), 4, 6), blocks, rtol=1e-7)


def test_a_box_of_whole_pixels_at_their_own_size_is_a_copy_of_these():
    picture = random(37, 50, 4)
    assert area_means(picture, (0.0, 0.0, 50.0, 37.0), 50, 37).tobytes() == picture.tobytes()
    assert area_means(picture, (11.0, 5.0, 41.0, 36.0), 30, 31).tobytes() == picture[5:36, 11:41].tobytes()


def test_a_cell_smaller_than_a_pixel_is_that_pixel_or_the_mean_of_those_it_lies_on():
    ramp = np.broadcast_to(np.arange(4, dtype=np.float32), (3, 4)).copy()
    means = area_means(
        ramp, (0.5, 0.0, 3.5, 3.0), 5, 5
    )  # cells are 0.6 pixel wide and begin at 0.5, 1.1, 1.7, 2.3, 2.9
    np.testing.assert_allclose(means, np.broadcast_to([1 / 6, 1, 1.5, 2, 2.0 + 5 / 6], (5, 5)), atol=1e-6)


@pytest.mark.parametrize(("box", "width", "height"), BOXES)
@pytest.mark.parametrize("value", [1.0, 0.1, 1e-30, 12345.678])
def test_a_constant_stays_the_same_constant(box, width, height, value):
    picture = np.full((20, 30, 2), value, np.float32)
    assert (area_means(picture, box, width, height) == np.float32(value)).all()


def test_the_mean_of_the_cells_is_the_mean_of_the_box():
    picture = random(200, 300)
    means = area_means(picture, (10.0, 20.0, 267.0, 193.0), 31, 23)
    assert means.mean(dtype=np.float64) == pytest.approx(picture[20:193, 10:267].mean(dtype=np.float64), rel=1e-7)


def test_channels_do_not_mix_and_one_plane_has_no_channel_axis():
    picture, box = random(40, 30, 4), (1.2, 3.4, 25.6, 37.8)
    each = [area_means(np.ascontiguousarray(picture[..., c]), box, 9, 20) for c in range(4)]
    assert each[0].shape == (20, 9)
    assert (area_means(picture, box, 9, 20) == np.stack(each, -1)).all()


def test_a_view_of_a_larger_array_gives_what_its_copy_gives():
    part = random(40, 60, 4)[3:33, 5:45, 1:]
    assert (
        area_means(part, (0.5, 0.5, 39.0, 29.0), 7, 5) == area_means(part.copy(), (0.5, 0.5, 39.0, 29.0), 7, 5)
    ).all()


def test_one_pixel_is_all_there_is_around_it():
    assert (area_means(np.float32([[0.3]]), (0.0, 0.0, 1.0, 1.0), 4, 3) == np.float32(0.3)).all()


def test_an_empty_box_is_refused():
    with pytest.raises(AssertionError):
        area_means(random(4, 4), (2.0, 0.0, 2.0, 4.0), 2, 2)


def test_a_large_photo_needs_less_memory_than_a_copy_of_itself():
    photo = random(1500, 2000, 4)
    tracemalloc.start()
    area_means(photo, (1.5, 2.5, 1990.0, 1490.0), 256, 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < photo.nbytes


def test_pil_keeps_whole_pixels_where_the_box_cuts_them():
    """Why this module exists: PIL's BOX weighs a pixel by where its centre lies."""
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32) + 0.5, (60, 60)).copy()  # holds its columns' centres
    box = (2.4, 2.4, 56.4, 56.4)
    for size in (18, 54):  # cells of three pixels and of one; the means are the cells' centres
        centres = np.broadcast_to(box[0] + (np.arange(size) + 0.5) * 54 / size, (size, size))
        pil = np.array(Image.fromarray(ramp).resize((size, size), Image.Resampling.BOX, box=box))
        assert np.abs(pil - centres).max() > 0.34
        assert np.abs(area_means(ramp, box, size, size) - centres).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", [*BOXES, ((-2.5, -1.25, 31.5, 22.0), 9, 8)])
def test_on_a_device_the_means_are_the_same(box, dtype):
    picture = random(20, 30, 4)
    found = area_means_on_device(torch.from_numpy(picture).to(dtype), *box)
    np.testing.assert_allclose(found.numpy(), area_means(picture, *box), rtol=1e-5 if dtype == torch.float32 else 2e-7)
