"""Plain photos as they should not be: too few, of several cameras, lying on their side, with people in them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from plain_photos import COUNT, best_similarity, boulder, on_grey, save

from recon_lib.photos import ingest
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.search import mapper, sift

MUST = IngestConfig(find_cameras="must", holdout_every=0)
TURNED = 6  # EXIF: the stored photo is to be turned clockwise


@pytest.mark.parametrize("count", [1, 2])
def test_one_photo_and_two_are_too_few_to_find_cameras_and_stay_photos_without(tmp_path, count):
    save(tmp_path, boulder().images[:count])
    with pytest.raises(ValueError, match=f"cameras: got {count} photos?, needed at least 3"):
        ingest.read(tmp_path, MUST)
    left = ingest.read(tmp_path, replace(MUST, find_cameras="auto"))
    assert left.scene.cameras is None and len(left.scene.names) == count


def test_photos_of_two_cameras_some_on_their_side_are_placed_all_the_same(tmp_path):
    for i, rgba in enumerate(boulder().images):
        image = Image.fromarray(on_grey(rgba)[..., :3])
        if i % 2:  # of another camera, which shows less
            image = image.resize((480, 480)).crop((40, 40, 440, 440))
        exif = image.getexif()
        if i % 3 == 0:
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), TURNED
        image.save(tmp_path / f"v{i:02d}.jpg", exif=exif, quality=95)
    found = ingest.read(tmp_path, MUST)
    eyes = found.scene.cameras.T_world_cam[:, :3, 3].double().numpy()
    true = boulder().cameras.T_world_cam[[int(name[1:3]) for name in found.scene.names], :3, 3].double().numpy()
    assert len(eyes) >= 0.9 * COUNT
    scale, R, shift = best_similarity(eyes, true)
    assert np.linalg.norm(scale * eyes @ R.T + shift - true, axis=1).max() < 0.02 * np.linalg.norm(true, axis=1).mean()
    lenses = found.scene.cameras.intrinsics[:, 0] / found.scene.cameras.sizes.max(1).values
    assert len(lenses.mul(100).round().unique()) == 2


def passers(beside: bool) -> tuple[np.ndarray, ...]:
    """The boulder on grey, and in three photos a dark figure beside it or before it."""
    images = [on_grey(image) for image in boulder().images]
    for i, column in ((1, 20), (6, 285), (12, 30)):
        place = column if beside else 160
        width = 14 if beside else 90
        cv2.rectangle(images[i], (place - width, 30), (place + width, 319), (40, 30, 60, 255), -1)
    return tuple(images)


def test_people_beside_the_object_are_cut_off_by_name(tmp_path):
    found = ingest.read(save(tmp_path, passers(beside=True)), MUST)
    assert len(found.scene.names) == COUNT
    for i in (1, 6, 12):
        made, true = found.scene.images[i][..., 3] > 127, boulder().images[i][..., 3] > 127
        assert (made & true).sum() / (made | true).sum() > 0.9
    assert len(found.left_out) == 0


def test_people_before_the_object_are_named_where_no_network_can_tell_them_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"3 files \(v01.png, v06.png, v12.png\): mask: .* background of many colours"):
        ingest.read(save(tmp_path / "photos", passers(beside=False)), MUST)


def test_the_progress_of_many_photos_says_how_many_are_done(tmp_path):
    shots = [mapper.Shot(image, None) for image in boulder().images]
    said: list[tuple[float, str]] = []
    found = sift.match(shots, tmp_path, lambda share, text="": said.append((share, text)))
    assert min(found.features) > 0
    shares = [share for share, text in said if text.startswith("SIFT features")]
    assert shares == [0, 0.5 * 10 / COUNT] and said[1][1] == f"SIFT features of {COUNT} photos, 10 done"
