"""Every cause is found in a case that was made for it, is not found in a sound one, and the strongest three are told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib.camera import Cameras, orbit
from recon_lib.mesh import icosphere
from recon_lib.verdict import diagnosis, images
from recon_lib.verdict.images import Comparison
from recon_lib.verdict.light import Turning
from recon_lib.verdict.observed import SIDES, Observed

SIZE, CENTRE = 64, 32
RESTING, TURNING = Turning(0.0, 0.0, 0.0, 5000), Turning(0.5, 0.1, 0.2, 5000)
VIEW = orbit(1, 0.0, 4.0, 0.6, SIZE)


def disc(radius: float = 20.0, x: float = CENTRE) -> np.ndarray:
    row, column = np.mgrid[:SIZE, :SIZE] + 0.5
    return np.hypot(row - CENTRE, column - x) < radius


def texture(seed: int = 0) -> np.ndarray:
    return 0.2 + 0.4 * np.random.default_rng(seed).random((SIZE, SIZE, 3))


def comparison(
    photo: np.ndarray, rendered: np.ndarray, mask=None, rendered_mask=None, view: Cameras = VIEW
) -> Comparison:
    """Both colours on white, each inside its mask."""
    mask = disc() if mask is None else mask
    rendered_mask = mask if rendered_mask is None else rendered_mask
    true, shown = np.where(mask[..., None], photo, 1.0), np.where(rendered_mask[..., None], rendered, 1.0)
    score = images.score(true, shown, mask, rendered_mask)
    error = np.abs(true - shown).mean(-1) * (mask | rendered_mask)
    return Comparison(score, true, shown, error, mask, rendered_mask, 0.0, view)


def views(made, count: int = 4) -> dict[str, Comparison]:
    return {f"v{i}": made(i) for i in range(count)}


def noisy(amount: float):
    """Views whose rendering differs from the photo by so much noise."""
    return views(lambda i: comparison(texture(i), texture(i) + amount * (texture(i + 50) - 0.4) / 0.4))


def of_faces(photos: np.ndarray, side: str = "bottom") -> Observed:
    nothing = np.full(len(photos), np.nan)
    return Observed(photos, nothing, nothing, np.ones(len(photos)), np.full(len(photos), SIDES.index(side)))


def kinds(held_out, used=None, light=RESTING, observed=None, fine=None) -> list[str]:
    return [cause.kind for cause in diagnosis.diagnose(held_out, used or {}, light, observed, fine)]


GOOD = noisy(0.05)


def test_a_sound_mesh_has_no_cause():
    assert kinds(GOOD, GOOD, observed=of_faces(np.full(10, 5)), fine=1.0) == []


def test_surface_that_no_photo_shows():
    seen = of_faces(np.array([0] * 62 + [3] * 38))
    cause = diagnosis.diagnose(GOOD, GOOD, RESTING, seen, None)[0]
    assert (
        cause.kind == "surface unseen" and "Cameras see 38% of the surface" in cause.says and "bottom" in cause.remedy
    )
    assert kinds(GOOD, observed=of_faces(np.array([0] * 20 + [3] * 80))) == []


def test_used_photos_that_are_explained_far_better_than_unseen_ones():
    cause = diagnosis.diagnose(noisy(0.8), noisy(0.1), RESTING, None, None)[0]
    seen, unseen = (np.mean([view.score.psnr_db for view in made.values()]) for made in (noisy(0.1), noisy(0.8)))
    assert cause.kind == "overfit" and f"{seen:.1f} dB, unseen ones with {unseen:.1f} dB" in cause.says
    assert kinds(noisy(0.1), noisy(0.1)) == []


def test_a_wrong_shape_inside_a_right_outline():
    both = noisy(0.8)
    cause = diagnosis.diagnose(both, both, RESTING, None, None)[0]
    assert cause.kind == "shape inside the outline" and "overlap by 100%" in cause.says


def test_silhouettes_that_are_wrong_are_named():
    wrong = comparison(texture(), texture(), disc(), disc(x=CENTRE + 6))
    cause = diagnosis.diagnose(GOOD | {"tilted": wrong}, {}, RESTING, None, None)[0]
    assert (
        cause.kind == "silhouettes wrong" and "1 of 5 photos (tilted)" in cause.says and "these photos'" in cause.remedy
    )
    all_ = diagnosis.diagnose(views(lambda i: wrong), {}, RESTING, None, None)[0]
    assert all_.strength == 1.0 and "all cameras" in all_.remedy


def test_error_that_sits_in_glare():
    def shiny(i: int, highlight: float) -> Comparison:
        photo = texture(i)
        photo[disc(8)] = highlight
        return comparison(photo, texture(i))

    cause = diagnosis.diagnose(views(lambda i: shiny(i, 1.0)), {}, RESTING, None, None)[0]
    assert (
        cause.kind == "glare" and cause.strength > 0.9 and cause.says.startswith(f"{cause.strength:.0%} of the error")
    )
    assert kinds(views(lambda i: shiny(i, 0.0))) == []
    white = np.full((SIZE, SIZE, 3), 0.92)
    assert (
        kinds(views(lambda i: comparison(white, white - 0.12 * disc(15, 20 + i)[..., None]))) == []
    )  # a shadow on white


def test_light_that_turns_with_the_camera():
    assert kinds(GOOD, light=TURNING) == ["light turns with the camera"]


def test_a_texture_that_is_coarser_than_the_photos():
    cause = diagnosis.diagnose(GOOD, {}, RESTING, None, 0.25)[0]
    assert cause.kind == "texture coarser than the photos" and "0.25 texels per pixel" in cause.says


def test_texels_per_pixel_are_those_of_a_surface_at_the_middle_of_the_mesh():
    ball = icosphere(2)
    pixels_per_unit = VIEW.intrinsics[0, 0].item() / 4.0
    assert diagnosis.texels_per_pixel(ball, 2 * pixels_per_unit, GOOD) == pytest.approx(2.0, rel=1e-4)
    far = replace(ball, verts=ball.verts - torch.tensor([0.0, 0, 4]))
    assert diagnosis.texels_per_pixel(far, 2 * pixels_per_unit, GOOD) == pytest.approx(4.0, rel=1e-4)


def test_masks_that_are_inverted_silence_every_other_cause():
    inverted = views(lambda i: comparison(texture(i), texture(i), ~disc(), disc()))
    assert kinds(inverted, light=TURNING, fine=0.1) == ["masks inverted"]


def test_three_causes_are_told_at_most_and_the_strongest_first():
    seen = of_faces(np.array([0] * 90 + [3] * 10))
    found = diagnosis.diagnose(noisy(0.8), noisy(0.8), TURNING, seen, 0.3)
    assert [cause.kind for cause in found][:2] == ["surface unseen", "texture coarser than the photos"] and len(
        found
    ) == 3
    assert [cause.strength for cause in found] == sorted((cause.strength for cause in found), reverse=True)
