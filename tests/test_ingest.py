"""The four forms of a folder, the split, up, masks and names."""

import hashlib
import json
import time

import numpy as np
import pytest
import torch
from ingest_folders import SIX, colmap_model, disc, nerf, ngp, poses, save, six, write
from PIL import Image

from recon_lib import camera
from recon_lib.photos import scene
from recon_lib.photos.ingest import IngestConfig, read

CONFIG = IngestConfig()


def kinds(findings: list[dict]) -> dict[str, dict]:
    return {finding["kind"]: finding for finding in findings}


def test_instant_ngp_photos_arrive_unchanged_with_their_cameras(tmp_path):
    ngp(tmp_path)
    got = read(tmp_path, CONFIG).scene
    assert got.names == ("v0", "v1", "v2")
    for i, image in enumerate(got.images):
        np.testing.assert_array_equal(image, disc(seed=i))
    assert got.cameras.intrinsics.tolist() == [[40, 41, 15, 17]] * 3
    assert got.cameras.sizes.tolist() == [[32, 32]] * 3
    torch.testing.assert_close(got.cameras.T_world_cam, torch.tensor(poses(3)), rtol=0, atol=0)
    assert got.up.tolist() == [0, 0, 1] and not got.held_out.any() and not got.canonical_rig


def test_a_frame_s_own_lens_and_size_win_over_the_top_level(tmp_path):
    data = ngp(tmp_path)
    save(tmp_path / "images" / "v1.png", disc(40, 24))
    data["frames"][1] |= {"fl_x": 50.0, "fl_y": 51, "cx": 20, "cy": 12, "w": 40.0, "h": 24}
    write(tmp_path, data)
    got = read(tmp_path, CONFIG).scene
    assert got.cameras.intrinsics[1].tolist() == [50, 51, 20, 12] and got.cameras.sizes[1].tolist() == [40, 24]
    assert got.images[1].shape == (24, 40, 4)


def test_nerf_synthetic_test_views_are_held_out_and_equal_stems_get_their_folder_as_name(tmp_path):
    nerf(tmp_path, {"train": 3, "test": 2, "val": 2})
    got = read(tmp_path, CONFIG)
    assert got.scene.names == ("train_r_0", "train_r_1", "train_r_2", "test_r_0", "test_r_1")
    assert got.scene.held_out.tolist() == [False] * 3 + [True] * 2
    f = 16 / np.tan(0.69 / 2)
    np.testing.assert_allclose(got.scene.cameras.intrinsics, [[f, f, 16, 16]] * 5, rtol=1e-6)
    assert any("transforms_val.json" in finding["files"] for finding in got.findings)


def test_val_views_are_held_out_where_there_are_no_test_views(tmp_path):
    nerf(tmp_path, {"train": 3, "val": 2})
    assert read(tmp_path, CONFIG).scene.held_out.tolist() == [False] * 3 + [True] * 2


@pytest.mark.parametrize("end", ["bin", "txt"])
@pytest.mark.parametrize("place", [".", "sparse", "sparse/0", "colmap/sparse/0"])
def test_colmap_points_project_to_the_pixels_that_pycolmap_finds(tmp_path, end, place):
    reconstruction = colmap_model(tmp_path / place, "PINHOLE", [40, 41, 15, 17], end)
    for i in range(3):
        save(tmp_path / "images" / f"v{i}.png", disc(seed=i))
    got = read(tmp_path, CONFIG).scene
    points = np.random.default_rng(0).normal(0, 0.5, (20, 3))
    xy, depth = camera.project(got.cameras, torch.from_numpy(points).float())
    for i, name in enumerate(got.names):
        image = reconstruction.find_image_with_name(f"{name}.png")
        expected = [image.project_point(point) for point in points]
        np.testing.assert_allclose(xy[i], np.array(expected), atol=1e-3)
    assert (depth > 0).all() and len(got.names) == 3


def test_colmap_up_is_the_direction_most_orthogonal_to_the_right_axes(tmp_path):
    reconstruction = colmap_model(tmp_path, "SIMPLE_PINHOLE", [40, 16, 16])
    for i in range(3):
        save(tmp_path / f"v{i}.png", disc(seed=i))
    # Right in a photo is +x for COLMAP, up is -y; the rotation's inverse takes them to the world.
    turns = [image.cam_from_world().rotation.inverse() for image in reconstruction.images.values()]
    rights = np.array([turn * np.array([1.0, 0, 0]) for turn in turns])
    up = np.linalg.eigh(rights.T @ rights)[1][:, 0]
    up *= np.sign(up @ np.mean([turn * np.array([0, -1.0, 0]) for turn in turns], axis=0))
    np.testing.assert_allclose(read(tmp_path, CONFIG).scene.up, up, atol=1e-6)


def test_six_named_views_get_the_canonical_rig(tmp_path):
    six(tmp_path, 40)
    (tmp_path / "front.png").rename(tmp_path / "FRONT.PNG")
    got = read(tmp_path, CONFIG).scene
    assert got.names == SIX and got.canonical_rig and not got.held_out.any()
    assert got.up.tolist() == [0, 1, 0]
    rig = camera.canonical_six(40)
    torch.testing.assert_close(got.cameras.T_world_cam, rig.T_world_cam)
    torch.testing.assert_close(got.cameras.intrinsics, rig.intrinsics)
    np.testing.assert_array_equal(got.images[0], disc(40, 40, seed=0))


def test_a_saved_scene_reads_back_as_the_same_scene(tmp_path):
    ngp(tmp_path / "photos", 16, up=[0, 3, 4])
    first = read(tmp_path / "photos", CONFIG).scene
    scene.save(first, tmp_path / "scene")
    (tmp_path / "scene" / "findings.json").write_text("[]")
    again = read(tmp_path / "scene", IngestConfig(holdout_every=3)).scene
    assert again.names == first.names and again.held_out.tolist() == first.held_out.tolist()
    np.testing.assert_allclose(first.up, [0, 0.6, 0.8])
    np.testing.assert_array_equal(again.up, first.up)
    assert torch.equal(again.cameras.T_world_cam, first.cameras.T_world_cam)
    assert torch.equal(again.cameras.intrinsics, first.cameras.intrinsics)
    assert all(map(np.array_equal, again.images, first.images))


@pytest.mark.parametrize("where", [".", "images"])
def test_photos_without_cameras_are_all_used_and_keep_their_masks(tmp_path, where):
    for i in range(12):
        save(tmp_path / where / f"p{i:02}.png", disc(40 + i, 32, seed=i))
    got = read(tmp_path, CONFIG)
    assert got.scene.cameras is None and len(got.scene.names) == 12 and not got.scene.held_out.any()
    assert got.scene.up.tolist() == [0, 0, 1]
    assert "reconviagen" in kinds(got.findings)["cameras"]["text"]
    scene.save(got.scene, tmp_path / "scene")
    again = scene.load(tmp_path / "scene")
    assert again.cameras is None and again.names == got.scene.names
    np.testing.assert_array_equal(again.images[3], disc(43, 32, seed=3))
    with pytest.raises(ValueError, match=r"coarse.json: no cameras.*2_reconviagen"):
        scene.load_posed(tmp_path)


def test_one_photo_without_a_camera_is_enough_and_some_of_the_six_are_not_the_rig(tmp_path):
    save(tmp_path / "front.png", disc())
    got = read(tmp_path, CONFIG)
    assert got.scene.names == ("front",) and got.scene.cameras is None
    assert "front alone are not the rig" in kinds(got.findings)["cameras"]["text"]


def test_cameras_that_stage_2_found_are_the_scene_s(tmp_path):
    save(tmp_path / "in" / "a.png", disc())
    save(tmp_path / "in" / "b.png", disc(seed=1))
    scene.save(read(tmp_path / "in", CONFIG).scene, tmp_path / "scene")
    found = camera.canonical_six(32)[[0, 3]]
    (tmp_path / "coarse").mkdir()
    (tmp_path / "coarse" / "coarse.json").write_text(json.dumps({"cameras": scene.camera_json(found)}))
    posed = scene.load_posed(tmp_path)
    torch.testing.assert_close(posed.cameras.T_world_cam, found.T_world_cam)
    torch.testing.assert_close(posed.cameras.intrinsics, found.intrinsics)
    assert posed.cameras.sizes.tolist() == found.sizes.tolist() and posed.names == ("a", "b")


def test_cameras_that_came_with_the_photos_stay(tmp_path):
    ngp(tmp_path / "in")
    given = read(tmp_path / "in", CONFIG).scene
    scene.save(given, tmp_path / "scene")
    (tmp_path / "coarse").mkdir()
    (tmp_path / "coarse" / "coarse.json").write_text(json.dumps({"cameras": None}))
    torch.testing.assert_close(scene.load_posed(tmp_path).cameras.T_world_cam, given.cameras.T_world_cam)


def test_a_saved_canonical_rig_reads_back_as_one(tmp_path):
    six(tmp_path / "photos")
    scene.save(read(tmp_path / "photos", CONFIG).scene, tmp_path / "scene")
    again = read(tmp_path / "scene", CONFIG).scene
    assert again.canonical_rig and again.up.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("count", "every", "held"), [(9, 8, []), (10, 8, [7]), (16, 8, [7, 15]), (12, 5, [4, 9]), (12, 0, [])]
)
def test_the_last_of_every_eight_is_held_out_but_none_of_fewer_than_ten(tmp_path, count, every, held):
    ngp(tmp_path, count)
    got = read(tmp_path, IngestConfig(holdout_every=every))
    assert np.flatnonzero(got.scene.held_out).tolist() == held
    assert kinds(got.findings)["split"]["files"] == [f"images/v{i}.png" for i in held]


def test_a_split_in_the_data_wins_over_the_rule(tmp_path):
    data = ngp(tmp_path, 12)
    data["frames"][0]["held_out"] = True
    write(tmp_path, data)
    assert np.flatnonzero(read(tmp_path, CONFIG).scene.held_out).tolist() == [0]
    data["frames"][0]["held_out"] = False
    write(tmp_path, data)
    assert not read(tmp_path, CONFIG).scene.held_out.any()


@pytest.mark.parametrize(("up", "vector"), [("x", [1, 0, 0]), ("-y", [0, -1, 0]), ("z", [0, 0, 1])])
def test_up_as_asked_for_wins_over_the_data(tmp_path, up, vector):
    ngp(tmp_path, up=[0, 1, 0])
    assert read(tmp_path, IngestConfig(up=up)).scene.up.tolist() == vector


@pytest.mark.parametrize("mask", ["v1.png", "v1.jpg.png", "images/v1.webp", "images/v1.jpg.png"])
def test_a_mask_file_wins_over_alpha_and_keeps_its_grey_values(tmp_path, mask):
    ngp(tmp_path, suffix=".png")
    data = ngp(tmp_path)
    save(tmp_path / "images" / "v1.jpg", disc(seed=1)[..., :3], quality=95)
    data["frames"][1]["file_path"] = "images/v1.jpg"
    write(tmp_path, data)
    soft = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    save(tmp_path / "masks" / mask, soft, **({"lossless": True} if mask.endswith("webp") else {}))
    save(tmp_path / "masks" / "v0.png", soft)
    got = read(tmp_path, CONFIG)
    np.testing.assert_array_equal(got.scene.images[0][..., 3], soft)
    np.testing.assert_array_equal(got.scene.images[1][..., 3], soft)
    np.testing.assert_array_equal(got.scene.images[0][..., :3], disc(seed=0)[..., :3])
    assert kinds(got.findings)["mask_files"]["files"] == ["images/v0.png", "images/v1.jpg"]
    assert kinds(got.findings)["alpha"]["files"] == ["images/v2.png"]


def test_a_nearly_rigid_pose_is_made_rigid_and_said_so(tmp_path):
    data = ngp(tmp_path)
    exact = np.array(data["frames"][1]["transform_matrix"])
    bent = exact.copy()
    bent[:3, :3] *= 1 + 2e-4
    data["frames"][1]["transform_matrix"] = bent.tolist()
    write(tmp_path, data)
    got = read(tmp_path, CONFIG)
    np.testing.assert_allclose(got.scene.cameras.T_world_cam[1], exact, atol=1e-6)
    assert kinds(got.findings)["pose"]["files"] == ["images/v1.png"]


def test_cameras_all_at_one_place_are_no_error(tmp_path):
    data = ngp(tmp_path)
    for frame in data["frames"]:
        frame["transform_matrix"] = data["frames"][0]["transform_matrix"]
    write(tmp_path, data)
    assert len(read(tmp_path, CONFIG).scene.names) == 3


def test_backslashes_and_missing_extensions_in_file_paths_are_understood(tmp_path):
    data = ngp(tmp_path, suffix=".png")
    for i, frame in enumerate(data["frames"]):
        frame["file_path"] = f".\\images\\v{i}"
    write(tmp_path, data)
    assert read(tmp_path, CONFIG).scene.names == ("v0", "v1", "v2")


def test_reading_leaves_the_folder_as_it_was_and_reports_what_it_did_not_use(tmp_path):
    ngp(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")

    def state():
        return {
            p: (p.stat().st_mtime_ns, p.is_file() and hashlib.sha256(p.read_bytes()).hexdigest())
            for p in tmp_path.rglob("*")
        }

    before = state()
    got = read(tmp_path, CONFIG)
    assert state() == before
    assert kinds(got.findings)["ignored"]["files"] == ["notes.txt"]
    assert kinds(got.findings)["photos"]["files"] == ["images/v0.png", "images/v1.png", "images/v2.png"]


def test_progress_rises_to_one_photo_by_photo(tmp_path):
    ngp(tmp_path, 4)
    calls = []
    read(tmp_path, CONFIG, lambda fraction, label: calls.append((fraction, label)))
    assert calls == [((i + 1) / 4, f"images/v{i}.png") for i in range(4)]


def test_forty_photos_of_512_pixels_are_read_in_two_seconds(tmp_path):
    data = ngp(tmp_path, 40, w=512, h=512)
    smooth = np.asarray(Image.fromarray(disc()).resize((512, 512), Image.Resampling.BICUBIC))
    first = save(tmp_path / "images" / "v0.png", smooth)
    for frame in data["frames"][1:]:
        (tmp_path / frame["file_path"]).write_bytes(first.read_bytes())
    start = time.process_time()
    read(tmp_path, CONFIG)
    assert time.process_time() - start < 2


def test_a_colmap_photo_without_a_pose_is_not_used(tmp_path):
    reconstruction = colmap_model(tmp_path / "sparse", "PINHOLE", [40, 41, 15, 17], count=4)
    reconstruction.deregister_frame(reconstruction.find_image_with_name("v3.png").frame_id)
    reconstruction.write_binary(str(tmp_path / "sparse"))
    for i in range(4):
        save(tmp_path / "images" / f"v{i}.png", disc(seed=i))
    got = read(tmp_path, CONFIG)
    assert got.scene.names == ("v0", "v1", "v2")
    assert "images/v3.png" in kinds(got.findings)["ignored"]["files"]
