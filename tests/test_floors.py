"""Floors, offset, tone and intervals, each against a closed form."""

import numpy as np
import pytest
from test_diagnosis import SIZE, comparison, disc, texture, views

from recon_lib.verdict import floors, intervals, misfit
from recon_lib.verdict.images import Score


def test_the_silhouettes_psnr_is_the_photos_variance_and_the_blanks_its_distance_from_white():
    one = {"a": comparison(texture(), texture())}
    inside = texture()[disc()]
    found = floors.of(one)
    assert found["silhouette"].psnr_db == pytest.approx(-10 * np.log10(inside.var(0).mean()))
    assert found["blank"].psnr_db == pytest.approx(-10 * np.log10(((1 - inside) ** 2).mean()))
    assert found["silhouette"].mask_iou == 1 and found["blank"].mask_iou == 0


def test_the_moved_photo_is_the_photo_three_pixels_to_the_right():
    found = floors.of({"a": comparison(texture(), texture())})["moved"]
    mask, moved = disc(), np.roll(disc(), 3, axis=1)
    assert found.mask_iou == pytest.approx((mask & moved).sum() / (mask | moved).sum())
    photo = np.where(mask[..., None], texture(), 1.0)
    expected = ((photo - np.roll(photo, 3, axis=1)) ** 2)[mask | moved].mean()
    assert found.psnr_db == pytest.approx(-10 * np.log10(expected))


def test_of_many_views_eight_give_the_floors_and_the_same_eight_are_compared_with_them():
    dark = views(lambda i: comparison(texture(i), texture(i) * (1 if i % 2 else 0.5)), 15)
    chosen = [list(dark)[i] for i in range(0, 15, 2)]
    assert floors.mean_of_same(dark).psnr_db == pytest.approx(np.mean([dark[name].score.psnr_db for name in chosen]))
    few = floors.of({name: dark[name] for name in chosen})
    assert floors.of(dark)["silhouette"] == pytest.approx(few["silhouette"])


def test_the_offset_is_by_how_much_the_rendering_lies_aside():
    one = comparison(texture(), texture(), disc(), np.roll(disc(), (2, -4), axis=(0, 1)))
    assert misfit.offset_pixels(one) == pytest.approx([-4, 2])
    nothing = comparison(texture(), texture(), disc(), np.zeros((SIZE, SIZE), bool))
    assert np.linalg.norm(misfit.offset_pixels(nothing)) > 100


@pytest.mark.parametrize("power", [0.45, 1.0, 2.2])
def test_the_tones_exponent_is_the_power_between_rendering_and_photo(power):
    made = [comparison(texture(i) ** power, texture(i)) for i in range(3)]
    assert misfit.exponent(made) == pytest.approx(power, rel=1e-3)


def test_the_tone_does_not_see_blur_and_ends_at_its_bounds():
    flat = np.full((SIZE, SIZE, 3), texture()[disc()].mean())
    assert misfit.exponent([comparison(texture(), flat)]) == pytest.approx(1, abs=0.05)
    white, black = np.ones((SIZE, SIZE, 3)), np.full((SIZE, SIZE, 3), 1e-4)
    assert misfit.exponent([comparison(texture(), white)]) == misfit.MOST_EXPONENT
    assert misfit.exponent([comparison(texture() + 0.3, black)]) == 1 / misfit.MOST_EXPONENT
    assert misfit.exponent([comparison(texture(), texture(), disc(3))]) == 1.0  # no pixel is far enough inside


def test_the_bootstrap_interval_is_that_of_the_normal_distribution_for_many_views():
    values = np.random.default_rng(0).normal(30, 2, 200)
    low, high = intervals.of_means([Score(value, *[0.5] * 7) for value in values])["psnr_db"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_the_interval_of_one_view_is_its_value():
    assert intervals.of_means([Score(30.0, *[0.5] * 7)])["psnr_db"] == (30.0, 30.0)
