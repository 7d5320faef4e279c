"""The hull as judge: right views agree, and each kind of wrong one is found and named."""

import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from plain_photos import COUNT, DISTANCE, boulder, on_grey, save

from recon_lib.photos import cutout, export, ingest
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.scene import Scene
from recon_lib.photos.search import judge

BAD = 4  # the view that is spoiled


@pytest.fixture
def masks():
    return [image[..., 3].copy() for image in boulder().images]


def left_out(alphas, cameras) -> list[int]:
    return np.flatnonzero(~judge.judge(alphas, cameras).kept).tolist()


def test_right_views_all_agree_and_the_body_is_the_objects(masks):
    judged = judge.judge(masks, boulder().cameras)
    assert judged.kept.all() and judged.is_enough and judged.after.min() > 0.9
    reach = np.linalg.norm(boulder().mesh.verts.numpy(), axis=1).max()
    assert np.linalg.norm(judged.body, axis=1).max() == pytest.approx(reach, rel=0.2)


def test_a_camera_on_the_wrong_side_is_found(masks):
    T = boulder().cameras.T_world_cam.clone()
    T[BAD] = torch.diag(torch.tensor([-1.0, 1, -1, 1])) @ T[BAD]
    assert left_out(masks, replace(boulder().cameras, T_world_cam=T)) == [BAD]


def test_three_cameras_on_the_wrong_side_are_found(masks):
    T = boulder().cameras.T_world_cam.clone()
    T[[2, BAD, 11]] = torch.diag(torch.tensor([-1.0, 1, -1, 1])) @ T[[2, BAD, 11]]
    assert left_out(masks, replace(boulder().cameras, T_world_cam=T)) == [2, BAD, 11]


def test_a_mask_with_a_tables_edge_is_found(masks):
    masks[BAD][250:] = 255
    assert left_out(masks, boulder().cameras) == [BAD]


def test_a_mask_of_next_to_nothing_is_found(masks):
    masks[BAD][:] = 0
    masks[BAD][10:20, 10:20] = 255
    assert left_out(masks, boulder().cameras) == [BAD]


def test_a_bitten_mask_is_found(masks):
    masks[BAD][:, :160] = 0
    assert left_out(masks, boulder().cameras) == [BAD]


def test_views_that_contradict_each_other_are_not_enough(masks):
    order = np.random.default_rng(0).permutation(COUNT)
    T = torch.eye(4).repeat(COUNT, 1, 1)
    turn = torch.linalg.qr(torch.randn(COUNT, 3, 3, generator=torch.Generator().manual_seed(0)))[0]
    T[:, :3, :3] = turn * torch.linalg.det(turn)[:, None, None]
    T[:, :3, 3] = T[:, :3, 2] * DISTANCE
    flat = [cv2.resize(mask[:, 100:220], (320, 320)) * (i % 2) + mask * (1 - i % 2) for i, mask in enumerate(masks)]
    assert not judge.judge([flat[i] for i in order], replace(boulder().cameras, T_world_cam=T)).is_enough


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 127) & (b > 127)).sum() / ((a > 127) | (b > 127)).sum())


def test_a_plain_border_gives_the_mask(masks):
    for image, mask in zip(boulder().images[:4], masks, strict=False):
        assert iou(cutout.by_border(on_grey(image)).alpha, mask) > 0.95


def test_a_box_gives_the_mask(masks):
    made = cutout.by_box(on_grey(boulder().images[0]), (0.1, 0.1, 0.9, 0.9))
    assert iou(made.alpha, masks[0]) > 0.93 and made.note == cutout.BOX


def test_a_border_of_many_colours_is_refused_and_says_what_to_do(tmp_path):
    clutter = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    save(tmp_path, (cv2.resize(clutter, (64, 64), interpolation=cv2.INTER_NEAREST),) * 3)
    with pytest.raises(ValueError, match=r"background of many colours .*set make_masks to box"):
        ingest.read(tmp_path, IngestConfig())


def test_masks_by_grabcut_that_nothing_confirms_are_refused(tmp_path):
    save(tmp_path, tuple(on_grey(image) for image in boulder().images[:2]))
    assert ingest.read(tmp_path, IngestConfig()).scene.cameras is None
    with pytest.raises(ValueError, match=r"got 2 photos, needed at least 3"):
        ingest.read(tmp_path, IngestConfig(make_masks="box"))


def test_a_mask_made_for_given_cameras_is_refused_where_the_hull_contradicts_it(tmp_path):
    few = boulder(8)
    posed = Scene(
        tuple(f"v{i:02d}" for i in range(8)), few.images, few.cameras, np.zeros(8, bool), np.array((0.0, 1.0, 0.0))
    )
    export.write(posed, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "masks")
    text = (tmp_path / "out" / "transforms.json").read_text()
    (tmp_path / "out" / "transforms.json").write_text(re.sub(r'"mask_path": "[^"]*",', "", text))
    save(tmp_path / "out" / "images", tuple(on_grey(image) for image in few.images))
    assert len(ingest.read(tmp_path / "out", IngestConfig()).scene.names) == 8
    table = on_grey(few.images[2])
    table[240:310, 10:310, :3] = 40
    cv2.imwrite(str(tmp_path / "out" / "images" / "v02.png"), table[..., 2::-1])
    with pytest.raises(ValueError, match=r"v02.png: mask: got one made here with which the hull of all agrees by 0"):
        ingest.read(tmp_path / "out", IngestConfig())
