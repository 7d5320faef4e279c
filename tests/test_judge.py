"""The hull as judge: right views agree, and each kind of wrong one is found and named."""

import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from plain_photos import COUNT, DISTANCE, GREY, boulder, on_grey, save

from recon_lib import render
from recon_lib.photos import boxes, cutout, export, ingest
from recon_lib.photos import folder as folders
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.scene import Scene
from recon_lib.photos.search import judge, repair, settle
from recon_lib.raster import cpu

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
    assert iou(made.alpha, masks[0]) > 0.93 and made.notes == (cutout.BOX,)


def test_each_photo_may_have_a_box_of_its_own(tmp_path):
    images = [on_grey(image) for image in boulder(8).images]
    folder = posed_without_masks(tmp_path / "out", tuple(images))
    moved = np.roll(images[3], 60, axis=1)
    (folder / "boxes.csv").write_text("name,left,top,right,bottom\nV03.png,0.3,0.1,1,0.9\n")
    make = cutout.maker(IngestConfig(make_masks="box", box_right=0.5), boxes.read(folders.open_folder(folder)))
    true = np.roll(boulder(8).images[3][..., 3], 60, axis=1)
    assert iou(make(moved, "images/v03.png").alpha, true) > 0.93
    with pytest.raises(ValueError, match="an object that has"):
        make(moved, "images/v04.png")  # the box of all, which cuts the object
    (folder / "boxes.csv").write_text("name,left,top,right,bottom\nv03.png,0.9,0.1,0.3,0.9\nv04.png,a\n")
    with pytest.raises(ValueError, match=r"boxes.csv: line 2: got .*\n.*boxes.csv: line 3: got"):
        ingest.read(folder, IngestConfig(make_masks="box"))


def test_a_border_of_many_colours_is_refused_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_WEIGHTS", str(tmp_path / "none"))
    clutter = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    save(tmp_path, (cv2.resize(clutter, (64, 64), interpolation=cv2.INTER_NEAREST),) * 3)
    with pytest.raises(ValueError, match=r"background of many colours .*set make_masks to box"):
        ingest.read(tmp_path, IngestConfig())


def test_masks_by_grabcut_that_nothing_confirms_are_refused(tmp_path):
    save(tmp_path, tuple(on_grey(image) for image in boulder().images[:2]))
    assert ingest.read(tmp_path, IngestConfig()).scene.cameras is None
    with pytest.raises(ValueError, match=r"got 2 photos, needed at least 3"):
        ingest.read(tmp_path, IngestConfig(make_masks="box"))


def posed_without_masks(folder, images):
    """The boulder's photos on grey with their cameras, as a folder without masks."""
    few = boulder(8)
    posed = Scene(
        tuple(f"v{i:02d}" for i in range(8)), few.images, few.cameras, np.zeros(8, bool), np.array((0.0, 1.0, 0.0))
    )
    export.write(posed, folder)
    shutil.rmtree(folder / "masks")
    text = (folder / "transforms.json").read_text()
    (folder / "transforms.json").write_text(re.sub(r'"mask_path": "[^"]*",', "", text))
    save(folder / "images", images)
    return folder


def test_a_mask_made_for_given_cameras_is_mended_where_the_hull_cuts_it_and_named(tmp_path):
    images = [on_grey(image) for image in boulder(8).images]
    images[2][240:310, 10:310, :3] = 40  # a table's edge
    found = ingest.read(posed_without_masks(tmp_path / "out", tuple(images)), IngestConfig())
    (mended,) = [one for one in found.findings if one["kind"] == "mended"]
    assert mended["files"] == ["images/v02.png"]
    true = boulder(8).images[2][..., 3]
    assert iou(cutout.by_border(images[2]).alpha, true) < 0.8 < 0.93 < iou(found.scene.images[2][..., 3], true)


def test_a_photo_of_something_else_is_refused_by_name(tmp_path):
    images = [on_grey(image) for image in boulder(8).images]
    images[2] = on_grey(np.pad(cv2.resize(boulder(8).images[5], (60, 300)), ((10, 10), (0, 260), (0, 0))))
    with pytest.raises(
        ValueError, match=r"1 problem\n.*v02.png: mask: got one made here, but its camera, or its whole mask"
    ):
        ingest.read(posed_without_masks(tmp_path / "out", tuple(images)), IngestConfig())


def test_two_photos_that_were_swapped_are_left_out():
    """Of the boulder made flat, so that its sides differ."""
    flat = replace(boulder().mesh, verts=boulder().mesh.verts * torch.tensor([1.0, 1.0, 0.4]))
    cameras = boulder().cameras
    masks = [(render.photographed(flat, cameras[[i]], cpu)[0, ..., 3] * 255).byte().numpy() for i in range(COUNT)]
    assert settled(masks, cameras).kept.all()
    masks[2], masks[6] = masks[6], masks[2]
    assert sorted(settled(masks, cameras, made=False).why) == [2, 6]


def settled(alphas, cameras, made=True):
    images = boulder().images
    rgbas = [np.dstack([on_grey(image)[..., :3], alpha]) for image, alpha in zip(images, alphas, strict=True)]
    return settle.settle(rgbas, cameras, np.full(COUNT, made))


def test_right_views_are_left_as_they_are(masks):
    found = settled(masks, boulder().cameras)
    assert found.kept.all() and not found.mended.any() and not found.why
    assert all((a == b).all() for a, b in zip(found.alphas, masks, strict=True))


def test_a_camera_on_the_wrong_side_is_left_out_and_not_mended_by_its_mask(masks):
    T = boulder().cameras.T_world_cam.clone()
    T[BAD] = torch.diag(torch.tensor([-1.0, 1, -1, 1])) @ T[BAD]
    found = settled(masks, replace(boulder().cameras, T_world_cam=T))
    assert not found.mended.any() and list(found.why) == [BAD] and "its camera" in found.why[BAD]


def test_look_alike_sides_that_swapped_several_cameras_are_left_out_by_name(masks):
    T = boulder().cameras.T_world_cam.clone()
    T[[2, BAD, 11]] = torch.diag(torch.tensor([-1.0, 1, -1, 1])) @ T[[2, BAD, 11]]
    found = settled(masks, replace(boulder().cameras, T_world_cam=T))
    assert sorted(found.why) == [2, BAD, 11] and found.is_enough


def test_a_tables_edge_is_cut_off_a_mask_that_was_made_and_told_of_one_that_was_given(masks):
    true = masks[BAD].copy()
    masks[BAD][250:] = 255
    found = settled(masks, boulder().cameras)
    assert np.flatnonzero(found.mended).tolist() == [BAD] and found.kept.all()
    assert iou(masks[BAD], true) < 0.75 and iou(found.alphas[BAD], true) > 0.95
    assert found.after.min() > 0.9 > found.before[BAD]
    given = settled(masks, boulder().cameras, made=False)
    assert not given.mended.any() and "something beside the object" in given.why[BAD]


def test_a_bitten_mask_is_filled_up_and_an_empty_one_is_left_out(masks):
    true = masks[BAD].copy()
    masks[BAD][:, :140] = 0
    masks[7][:] = 0
    found = settled(masks, boulder().cameras)
    assert found.mended[BAD] and found.kept[BAD] and iou(found.alphas[BAD], true) > 0.93
    assert list(found.why) == [7] and "empty" in found.why[7]


def test_mending_takes_nothing_away_that_mask_and_hull_both_have(masks):
    """The object's rim has the background's grey, so GrabCut takes it for background."""
    true = masks[BAD].copy()
    masks[BAD][:, 200:] = 0
    rgba = on_grey(boulder().images[BAD])
    rgba[cv2.erode(true, np.ones((25, 25), np.uint8)) < 128, :3] = GREY
    outlines = judge.silhouettes_of(masks, boulder().cameras, np.arange(COUNT) != BAD)
    compared = repair.compare(masks[BAD], outlines[BAD])
    found = repair.mend(np.dstack([rgba[..., :3], masks[BAD]]), outlines[BAD], compared)
    assert not compared.lacks_little and (found > 127)[:, 200:].any()
    assert ((masks[BAD] > 127) & (true > 127) & (found <= 127)).sum() < 0.01 * (true > 127).sum()


def test_silhouettes_that_masks_are_mended_by_are_as_fine_as_the_photos(masks):
    for outline, mask in zip(judge.silhouettes_of(masks, boulder().cameras, np.ones(COUNT, bool)), masks, strict=True):
        small = cv2.resize(mask, outline.shape[::-1], interpolation=cv2.INTER_AREA)
        assert max(outline.shape) >= 300 and iou(outline.astype(np.uint8) * 255, small) > 0.965


def test_a_hull_that_is_far_too_large_adds_nothing_of_the_background(masks):
    large = cv2.dilate(masks[BAD], np.ones((81, 81), np.uint8)) > 127
    compared = repair.compare(masks[BAD], large)
    rgba = np.dstack([on_grey(boulder().images[BAD])[..., :3], masks[BAD]])
    assert compared.held < 0.75 and iou(repair.mend(rgba, large, compared), masks[BAD]) > 0.98
