"""Cameras found in plain photos, and what is refused; the photos are a boulder's, whose cameras are known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from ingest_folders import disc
from PIL import Image
from plain_photos import COUNT, DISTANCE, best_similarity, boulder, save

from recon_lib.photos import ingest, triage
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.search import focal, mapper, sift
from recon_lib.progress import silent

MUST = IngestConfig(find_cameras="must", holdout_every=0)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The boulder's photos with a stranger as the last: noise in place of the photo."""
    photos = boulder()
    stranger = photos.images[-1].copy()
    stranger[..., :3] = np.random.default_rng(1).integers(0, 256, (*stranger.shape[:2], 3))
    folder = save(tmp_path_factory.mktemp("boulder"), (*photos.images[:-1], stranger))
    return ingest.read(folder, MUST)


def finding_of(found, kind: str) -> dict:
    return next(one for one in found.findings if one["kind"] == kind)


def test_cameras_are_found_up_to_a_similarity(found):
    true, T = boulder().cameras.T_world_cam.double().numpy()[:-1], found.scene.cameras.T_world_cam.double().numpy()
    assert len(T) == COUNT - 1
    scale, R, shift = best_similarity(T[:, :3, 3], true[:, :3, 3])
    off = np.linalg.norm(scale * T[:, :3, 3] @ R.T + shift - true[:, :3, 3], axis=1)
    assert np.sqrt((off**2).mean()) < 0.004 * DISTANCE
    turned = np.einsum("ij,bjk,blk->bil", R, T[:, :3, :3], true[:, :3, :3])
    assert np.degrees(np.arccos(((np.trace(turned, axis1=1, axis2=2) - 1) / 2).clip(-1, 1))).max() < 0.5
    assert np.degrees(np.arccos(R[:, 2] @ [0, 1, 0])) < 2  # the new world's z is the old one's y, up
    radius = np.linalg.norm(boulder().mesh.verts.numpy(), axis=1).max()
    assert scale == pytest.approx(radius, rel=0.15)


def test_a_stranger_among_the_photos_is_left_out_by_name_and_with_the_reason(found):
    missing = finding_of(found, "missing")
    assert missing["files"] == ["v15.png"] and "no photo that shows the same" in missing["text"]
    assert "scale is unknown" in finding_of(found, "cameras")["text"]


def test_photos_of_different_things_are_refused_and_each_is_named(tmp_path):
    save(tmp_path, tuple(disc(64, 64, seed) for seed in range(4)))
    with pytest.raises(ValueError, match=r"(?s)0 of 4 photos placed.*v00.png: .*v03.png: "):
        ingest.read(tmp_path, MUST)
    left = ingest.read(tmp_path, IngestConfig())
    assert left.scene.cameras is None and "0 of 4 photos placed" in finding_of(left, "cameras")["text"]
    never = ingest.read(tmp_path, replace(MUST, find_cameras="never"))
    assert never.scene.cameras is None and "placed" not in finding_of(never, "cameras")["text"]


def test_one_photo_many_times_is_told_to_be_one(tmp_path):
    save(tmp_path, (boulder().images[0],) * 5)
    with pytest.raises(ValueError, match="got 1 photo and the same 4 times more, needed at least 3 different ones"):
        ingest.read(tmp_path, MUST)


def test_the_focal_length_of_exif_counts_by_the_diagonal(tmp_path):
    photo = Image.fromarray(disc(400, 300)[..., :3])
    exif = photo.getexif()
    for millimetres, share in ((26, 26 / 43.27 * 1.25), (500, None), (0, None)):
        exif.get_ifd(focal.EXIF)[focal.IN_35_MM] = millimetres
        photo.save(tmp_path / "a.jpg", exif=exif)
        assert focal.of_exif(tmp_path / "a.jpg") == (None if share is None else pytest.approx(share))
    photo.save(tmp_path / "b.png")
    assert focal.of_exif(tmp_path / "b.png") is None


def test_blurred_dark_small_and_repeated_photos_are_named():
    images = list(boulder().images[:8])
    images[1] = np.dstack([cv2.GaussianBlur(images[1][..., :3], (0, 0), 4), images[1][..., 3]])
    images[3] = images[2]
    images[5] = np.dstack([images[5][..., :3] // 60, images[5][..., 3]])
    images[6] = cv2.resize(
        np.pad(images[6], ((960, 960), (960, 960), (0, 0))), (320, 320), interpolation=cv2.INTER_AREA
    )
    said = {one["kind"]: one["files"] for one in triage.of_photos(images, [str(i) for i in range(8)])}
    assert said == {"blurred": ["1"], "twice": ["3"], "exposure": ["5"], "small": ["6"]}, said
    assert triage.of_photos(list(boulder().images), [str(i) for i in range(COUNT)]) == []


def test_the_widest_gap_says_what_to_photograph_next():
    T = np.tile(np.eye(4), (5, 1, 1))
    angle = np.radians([0, 30, 60, 90, 120])
    T[:, 0, 3], T[:, 1, 3], T[:, 2, 3] = np.cos(angle), np.sin(angle), np.tan(np.radians(30))
    (said,) = triage.coverage(T, list("abcde"))
    assert "gap around it is 240 degrees" in said["text"] and "11 photos from about 30 degrees up" in said["text"]


def test_the_same_photos_give_the_same_cameras_to_the_last_bit(tmp_path):
    shots = [mapper.Shot(image, None) for image in boulder().images[:6]]
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        found.append(mapper.place(sift.match(shots, tmp_path / name, silent), 1.0))
    first, second = found
    assert len(first.placed) >= 3 and first.placed.keys() == second.placed.keys()
    for photo, one in first.placed.items():
        assert (one.T_world_cam == second.placed[photo].T_world_cam).all() and one.focal == second.placed[photo].focal


def around_at(degrees: list[float], count: int = 12) -> np.ndarray:
    """Cameras on rings at these elevations around the origin, z up, distance 1."""
    angle = 2 * np.pi * np.arange(count) / count
    T = np.tile(np.eye(4), (len(degrees), count, 1, 1))
    for ring, elevation in zip(T, np.radians(degrees), strict=True):
        ring[:, :3, 3] = np.stack(
            [np.cos(elevation) * np.cos(angle), np.cos(elevation) * np.sin(angle), np.full(count, np.sin(elevation))], 1
        )
    return T.reshape(-1, 4, 4)


def test_a_gap_in_height_says_from_where_to_photograph_next():
    names = [str(i) for i in range(24)]
    (said,) = triage.coverage(around_at([10, 70]), names)
    assert "the widest in height 60 degrees; photograph it next from about 40 degrees up, all around" in said["text"]
    (said,) = triage.coverage(around_at([20, 50]), names)
    assert said["text"].endswith("the widest in height 30 degrees")


def test_photos_from_almost_the_same_place_are_named():
    T = around_at([30])
    T[7] = T[3]
    T[7, :3, 3] += 0.004
    _, said = triage.coverage(T, [f"{i}.jpg" for i in range(12)])
    assert said["kind"] == "near" and said["files"] == ["7.jpg"]
