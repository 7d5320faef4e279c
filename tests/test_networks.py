"""Masks by a network and learned features: what is done with them, tested without weights, and with them where they are."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from plain_photos import COUNT, DISTANCE, best_similarity, boulder, on_grey

from recon_lib import camera
from recon_lib.photos import cutout, network, outline
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.search import focal, ladder, learned, mapper, register
from recon_lib.photos.search.mapper import Shot
from recon_lib.photos.search.register import NotFoundError
from recon_lib.photos.search.settle import settle
from recon_lib.photos.views import View
from recon_lib.progress import silent
from recon_lib.weights import store
from recon_lib.weights.store import WeightsError

PHOTOS = Path(__file__).parents[1] / "samples" / "bird" / "photos"


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 127) & (b > 127)).sum() / ((a > 127) | (b > 127)).sum())


def on_clutter(rgba: np.ndarray) -> np.ndarray:
    """The photo before many colours, opaque."""
    tiles = np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    behind = cv2.resize(tiles, rgba.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    alpha = rgba[..., 3:] / 255
    rgb = (rgba[..., :3] * alpha + behind * (1 - alpha)).round().astype(np.uint8)
    return np.dstack([rgb, np.full(rgba.shape[:2], 255, np.uint8)])


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """A network whose matte is a given picture."""
    mattes = []
    monkeypatch.setattr(network, "find", lambda folder: network.NETWORKS[0])
    monkeypatch.setattr(network, "load", lambda found, folder: lambda rgb: mattes[0])
    return mattes


def test_a_plain_border_goes_before_the_network_and_clutter_does_not(pretend):
    image = boulder().images[0]
    pretend.append(image[..., 3].astype(np.float32) / 255)
    make = cutout.maker(IngestConfig(), {})
    assert make(on_grey(image), "a.png").notes == (cutout.BORDER,)
    made = make(on_clutter(image), "a.png")
    assert made.notes == (cutout.NETWORK, cutout.WHOSE["ISNet"]) and iou(made.alpha, image[..., 3]) > 0.97
    with pytest.raises(ValueError, match="background of many colours"):
        cutout.by_border(on_clutter(image))


def test_a_network_in_doubt_and_one_that_finds_nothing_are_said():
    rgba = on_clutter(boulder().images[0])
    sure = boulder().images[0][..., 3].astype(np.float32) / 255
    assert cutout.by_matte(rgba, sure).notes == (cutout.NETWORK,)
    assert cutout.by_matte(rgba, sure * 0.8).notes == (cutout.NETWORK, cutout.DOUBTFUL)
    cut = sure.copy()
    cut[:, :40] = 1
    assert cutout.DOUBTFUL in cutout.by_matte(rgba, cut).notes
    nothing = cutout.by_matte(rgba, sure * 0.2)
    assert nothing.notes == (cutout.NETWORK, cutout.EMPTY) and not nothing.alpha.any()


def test_the_outline_moves_to_an_edge_a_pixel_away_and_not_further():
    disc = np.zeros((1000, 1000), np.uint8)
    cv2.circle(disc, (500, 500), 300, 255, -1)
    rgb = np.where(disc[..., None] > 0, (200, 60, 50), (50, 60, 200)) + np.random.default_rng(0).normal(
        0, 8, (1000, 1000, 3)
    )
    rgba = np.dstack([rgb.clip(0, 255).astype(np.uint8), np.full(disc.shape, 255, np.uint8)])
    near, far = (cv2.erode(disc, np.ones((size, size), np.uint8)) for size in (3, 21))
    assert iou(outline.refine(rgba, near), disc) > iou(near, disc)
    assert iou(outline.refine(rgba, far), far) > 0.995


def test_a_network_is_only_taken_from_a_file_that_is_known(tmp_path):
    assert network.find(tmp_path) is None
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "u2net.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"u2net.onnx: got sha256 .*recon weights fetch photos"):
        network.find(tmp_path)


def test_a_network_that_is_asked_for_and_missing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="make_masks: got network, but no network"):
        cutout.maker(IngestConfig(make_masks="network"), {})


def test_the_files_that_may_be_fetched_are_the_files_that_are_taken():
    pinned = {need.target: need.revision.removeprefix("sha256:") for need in (*store.PHOTOS, *store.ISNET)}
    for one in network.NETWORKS:
        assert pinned[one.file] in one.sha256
    assert {learned.XFEAT, learned.LIGHTERGLUE, learned.ALIKED, learned.LIGHTGLUE} < set(pinned)


def test_features_from_elsewhere_place_the_cameras():
    """Points on the boulder, as each camera sees them, in the place of a network's features."""
    cameras, shots = boulder().cameras, [Shot(image, None) for image in boulder().images]
    points = boulder().mesh.verts
    xy, _ = camera.project(cameras, points)
    towards = cameras.T_world_cam[:, None, :3, 3] - points
    seen = (torch.einsum("bnd,nd->bn", towards, points) > 0.3 * towards.norm(dim=-1)).numpy()

    def match(shots, folder, progress):
        keypoints = [xy[i].numpy().astype(np.float32) for i in range(len(shots))]
        both = {
            (i, j): np.repeat(np.flatnonzero(seen[i] & seen[j])[:, None], 2, 1).astype(np.uint32)
            for i in range(len(shots))
            for j in range(i + 1, len(shots))
        }
        pairs = {pair: found for pair, found in both.items() if len(found) > 15}
        return mapper.put_in(folder, mapper.write_photos(shots, folder), keypoints, pairs)

    found = register.register(shots, [str(i) for i in range(len(shots))], match, silent)
    T = np.stack([found.model.placed[i].T_world_cam for i in range(len(shots))])
    true = cameras.T_world_cam.double().numpy()
    scale, R, shift = best_similarity(T[:, :3, 3], true[:, :3, 3])
    assert np.linalg.norm(scale * T[:, :3, 3] @ R.T + shift - true[:, :3, 3], axis=1).max() < 0.002 * DISTANCE


def test_each_photo_is_matched_with_those_most_like_it():
    draw = torch.Generator().manual_seed(0)
    groups = [torch.randn(50, 64, generator=draw) for _ in range(2)]
    photos = [groups[i // 20] + 0.1 * torch.randn(50, 64, generator=draw) for i in range(40)]
    pairs = learned.choose_pairs(photos)
    assert all((i < 20) == (j < 20) for i, j in pairs) and len(pairs) < 40 * learned.PARTNERS
    assert len(learned.choose_pairs(photos[:5])) == 10


def test_the_ladder_climbs_only_when_a_way_fails_and_says_what_failed(monkeypatch):
    views = [View(image, ()) for image in boulder().images]
    names, calls = [f"{i}.png" for i in range(len(views))], []

    def fails(shots, folder, progress):
        calls.append("fails")
        raise NotFoundError("cameras: got nothing")

    sift = ladder._matchers()[0][1]
    monkeypatch.setattr(ladder, "_matchers", lambda: [("Poor", fails), ("SIFT", sift), ("Late", fails)])
    found = ladder.climb(views, [None] * len(views), names, silent)
    assert calls == ["fails"] and found.way == "SIFT features inside the masks"
    assert found.tried == ("by Poor features inside the masks: cameras: got nothing",)
    monkeypatch.setattr(ladder, "_matchers", lambda: [("Poor", fails)])
    monkeypatch.setattr(learned, "lacks", lambda: "no kornia")
    with pytest.raises(NotFoundError, match=r"(?s)by Poor features.*got nothing.*not tried: no kornia"):
        ladder.climb(views, [None] * len(views), names, silent)


def test_the_ladder_ends_where_two_kinds_of_features_find_the_same_cameras(monkeypatch):
    """The masks are wrong then, and say so; features that only fail do not end it."""
    views, names = [View(image, ()) for image in boulder().images], [f"{i}.png" for i in range(COUNT)]
    contradicted = settle([view.rgba for view in views], boulder().cameras, np.zeros(COUNT, bool))
    contradicted = contradicted._replace(kept=np.zeros(COUNT, bool), why={2: "its mask lacks a part of the object"})
    monkeypatch.setattr(ladder, "settle", lambda *given: contradicted)
    sift, calls = ladder._matchers()[0][1], []

    def late(shots, folder, progress):
        calls.append("late")
        raise NotFoundError("cameras: got nothing")

    monkeypatch.setattr(ladder, "_matchers", lambda: [("SIFT", sift), ("Other", sift), ("Late", late)])
    with pytest.raises(
        NotFoundError, match=r"(?s)Other and SIFT features found the same cameras, so the masks are wrong"
    ):
        ladder.climb(views, [None] * COUNT, names, silent)
    assert not calls
    monkeypatch.setattr(ladder, "_matchers", lambda: [("SIFT", sift), ("Late", late)])
    with pytest.raises(NotFoundError, match=r"(?s)0 of 16 placed photos whose masks agree.*2.png: its mask lacks"):
        ladder.climb(views, [None] * COUNT, names, silent)
    assert calls


@pytest.mark.parametrize("name", ["XFeat", "ALIKED"])
def test_learned_features_place_photos_of_the_sample(name):
    """Runs where `recon weights fetch photos` put the files."""
    there = dict(learned.matchers())
    if name not in there:
        pytest.skip(learned.lacks())
    paths = [PHOTOS / f"{i:02d}.jpg" for i in range(6)]
    shots = [Shot(np.asarray(Image.open(path).convert("RGBA")), focal.of_exif(path)) for path in paths]
    found = register.register(shots, [path.name for path in paths], there[name], silent)
    truth = json.loads((PHOTOS.parent / "truth" / "transforms.json").read_text())["frames"]
    true = np.array([frame["transform_matrix"] for frame in truth])[:6]
    T = np.stack([found.model.placed[i].T_world_cam for i in range(6)])
    scale, R, shift = best_similarity(T[:, :3, 3], true[:, :3, 3])
    assert (
        np.linalg.norm(scale * T[:, :3, 3] @ R.T + shift - true[:, :3, 3], axis=1).max() < 0.25
    )  # of 2.15 to the bird: six photos are few


def test_weights_of_other_content_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_WEIGHTS", str(tmp_path))
    (tmp_path / "photos").mkdir()
    (tmp_path / learned.XFEAT).write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"xfeat.pt: got sha256:.*recon weights fetch photos"):
        learned._weights(learned.XFEAT)
