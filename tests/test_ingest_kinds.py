"""Folders as people have them, one of each kind: read as wanted, with what was guessed named, or refused with the reason."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import folder_kinds
import numpy as np
import pytest
import torch
from folder_kinds import FOCAL, SIDE, TILT, UTM, Z_UP, shots
from scipy.spatial.transform import Rotation

from recon_lib import cli
from recon_lib.camera import Cameras
from recon_lib.photos import silhouettes
from recon_lib.photos.ingest import IngestConfig, check, read

REAL = Path(os.environ.get("RECON_INPUTS", Path(__file__).parents[2] / "shared" / "data" / "inputs"))


@dataclass(frozen=True)
class Wanted:
    """What was wanted for one kind of folder."""

    findings: tuple[str, ...] = ()  # kinds of findings that must be there
    says: str = ""  # in the text of one of them
    world: np.ndarray = field(default_factory=lambda: np.eye(4))  # of the folder, from the shots' world
    rows: int = SIDE
    count: int = 12
    held_out: tuple[str, ...] | None = None
    lossy: bool = False  # the photos are JPEGs on grey
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    real: str = ""  # name of the real folder, where it differs; "-" if there is none
    inner: str = ""  # the part of the real folder to read


JPEG = {"lossy": True}
READ = {
    "angle_per_frame": Wanted(),
    "blue_jug": Wanted(real="blue jug (2)"),
    "case_ext": Wanted(("name_case", "mask_files"), **JPEG),
    "colmap_backslash": Wanted(),
    "colmap_spaces": Wanted(),
    "cropped_5px": Wanted(("size_cropped",)),
    "downscaled_colmap": Wanted(("size_scaled",)),
    "exif180_transforms": Wanted(("exif_hull",), **JPEG),
    "exif180_masks_upright": Wanted(("exif_hull",), real="-", **JPEG),
    "exif90_square": Wanted(("exif_hull",), real="-", **JPEG),
    "exif90_colmap_mask_upright": Wanted(("exif_size",), rows=112, **JPEG),
    "exif90_transforms": Wanted(("exif_size",), rows=112, **JPEG),
    "ext_changed_colmap": Wanted(("name_extension",)),
    "ext_changed_transforms": Wanted(("name_extension",)),
    "full_opencv_zero": Wanted(("undistorted",)),
    "homogeneous_pose": Wanted(("pose_homogeneous",)),
    "k3_transforms": Wanted(("undistorted",)),
    "layout_colmap_text": Wanted(says="colmap_text"),
    "layout_dense": Wanted(says="dense/0/sparse"),
    "layout_input": Wanted(says="input/"),
    "layout_several": Wanted(("ignored",), says="2 other COLMAP models not read", real="-"),
    "links": Wanted(("name_link",), inner="set"),
    "links_as_text": Wanted(("name_link",), real="-"),
    "mask_beside_suffix": Wanted(("mask_beside",), **JPEG),
    "mask_inverted": Wanted(("mask_inverted",), **JPEG),
    "mask_numbered": Wanted(("mask_dark",), real="-", **JPEG),
    "mask_jpeg": Wanted(("mask_veil",), real="-", **JPEG),
    "mask_path": Wanted(("mask_named",), **JPEG),
    "mask_soft": Wanted(("mask_soft",), **JPEG),
    "no_points3d": Wanted(),
    "one_missing": Wanted(("missing",), says="1 of 12 cameras left out", count=11),
    "path_of_other_root": Wanted(("name_root",)),
    "path_absolute": Wanted(("name_root",), real="-"),
    "scaled_pose": Wanted(("pose_scale",)),
    "far_pose": Wanted(("offset",), offset=UTM, real="-"),
    "split_lists": Wanted(held_out=("test_000", "test_007")),
    "up_colmap_arc": Wanted(count=5, world=TILT),
    "up_nerfstudio": Wanted(("applied_transform",), says="would be", world=TILT),
    "up_y_no_key": Wanted(says="90 degrees off", world=np.linalg.inv(Z_UP)),
    "names_decomposed": Wanted(("name_case",), real="-"),
    "colmap_spaces_windows": Wanted(real="-"),
    "hub_cache": Wanted(("name_link",), real="-"),
    "shrunk_copies_only": Wanted(("size_scaled", "name_root"), real="-"),
    "exif90_upright_cameras": Wanted(("exif",), rows=112, real="-", **JPEG),
    "far_colmap": Wanted(("offset",), offset=UTM, real="-"),
    "mask_soft_alpha": Wanted(("mask_soft",), real="-", **JPEG),
    "mask_larger": Wanted(("mask_scaled",), real="-", **JPEG),
    "metashape": Wanted(says="1 camera of cameras.xml left out", real="-"),
    "realityscan": Wanted(says="RealityScan", real="-"),
    "polycam": Wanted(says="keyframes/corrected_cameras", world=np.linalg.inv(Z_UP), real="-"),
    "record3d": Wanted(says="Record3D", world=np.linalg.inv(Z_UP), real="-"),
    "zipped": Wanted(("layout",), real="-"),
}  # fmt: skip
REFUSED = {
    "absurd_k": "fold the photo over inside the frame",
    "downscaled_no_size": "about 512 x 512 pixels: give it as w and h",
    "mirrored_pose": "mirrored rotation",
    "overwrite": "cameras in several folders (one/scan, two/scan)",
    "pose_lines_in_a_row": "second pose in a row",
    "three_missing": "no such file",
}


def make(kind: str, tmp_path: Path) -> Path:
    folder = tmp_path / ("photos.zip" if kind == "zipped" else "photos")
    if kind != "zipped":
        folder.mkdir()
    getattr(folder_kinds, kind)(folder)
    return folder


@pytest.mark.parametrize("kind", READ)
def test_a_folder_of_this_kind_is_read_as_it_was_meant(tmp_path, kind):
    wanted = READ[kind]
    got = read(make(kind, tmp_path), IngestConfig())
    assert_said(got.findings, wanted)
    scene, taken = got.scene, {shot.name: shot for shot in shots(kind == "up_colmap_arc")}
    assert len(scene.names) == wanted.count
    ordered = sorted(taken) if not set(scene.names) <= set(taken) else scene.names
    for i, name in enumerate(scene.names):
        shot = next((taken[n] for n in (name, name.partition("_")[2]) if n in taken), None) or shot_of(name)
        T = wanted.world @ shot.T_world_cam
        T[:3, 3] += wanted.offset
        found = scene.cameras.T_world_cam[i].double().numpy()
        found[:3, 3] += scene.offset
        np.testing.assert_allclose(found, T, atol=1e-5)
        row = (SIDE - wanted.rows) // 2
        np.testing.assert_allclose(scene.cameras.intrinsics[i], [FOCAL, FOCAL, SIDE / 2, wanted.rows / 2], rtol=1e-5)
        true, image = shot.rgba[row : row + wanted.rows].astype(int), scene.images[i].astype(int)
        assert image.shape == true.shape and ordered
        inside, said = true[..., 3] > 127, image[..., 3] > 127
        assert (inside & said).sum() / (inside | said).sum() > (0.97 if "mask_soft" in kind else 0.985)
        if "mask_soft" in kind:  # a rim in which the background shows through would be fitted as the object's colour
            assert set(np.unique(image[..., 3])) == {0, 255}
        if kind == "mask_jpeg":
            assert not ((image[..., 3] > 0) & (image[..., 3] < 32)).any()
        # On its rim a photo on grey shows the background as well, and JPEG blurs.
        core = cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0
        assert np.abs(image - true)[core][:, :3].mean() < (
            4 if wanted.lossy or "undistorted" in wanted.findings else 0.01
        )
    up = wanted.world[:3, :3] @ [0.0, 0, 1]
    assert np.degrees(np.arccos(min(1.0, up @ scene.up))) < 0.1
    if wanted.held_out is not None:
        assert tuple(np.array(scene.names)[scene.held_out]) == wanted.held_out


def test_inverted_masks_of_an_object_cut_by_the_border_are_noticed_and_masks_of_close_ups_are_kept(tmp_path):
    for kind, inverted in (("mask_inverted_object_cut", True), ("mask_overflows", False)):
        (tmp_path / kind).mkdir()
        got = read(make(kind, tmp_path / kind), IngestConfig())
        assert any(finding["kind"] == "mask_inverted" for finding in got.findings) == inverted


def shot_of(name: str):
    """The kinds that rename their photos number them."""
    return shots()[int("".join(letter for letter in name.replace("(402)", "") if letter.isdigit())[-3:])]


def assert_said(findings: list[dict], wanted: Wanted) -> None:
    kinds = {finding["kind"] for finding in findings}
    assert set(wanted.findings) <= kinds, kinds
    assert any(wanted.says in finding["text"] for finding in findings), [finding["text"] for finding in findings]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_of_this_kind_is_refused_in_few_words_with_the_reason(tmp_path, kind):
    folder = make(kind, tmp_path)
    with pytest.raises(ValueError) as caught:
        read(folder, IngestConfig())
    message = str(caught.value).replace(str(folder), "")
    assert REFUSED[kind] in message and len(message) < 1000, message


@pytest.mark.parametrize(
    "kind", [*(k for k in READ if READ[k].real != "-"), "absurd_k", "downscaled_no_size", "overwrite"]
)
def test_a_real_folder_of_this_kind_is_read_or_refused_as_wanted(kind):
    wanted = READ.get(kind)
    folder = REAL / (wanted.real or kind if wanted else kind) / (wanted.inner if wanted else "")
    if not folder.is_dir():
        pytest.skip(f"{folder}: no such folder; RECON_INPUTS names the folder of folders as people have them")
    if wanted is None:
        with pytest.raises(ValueError):
            read(folder, IngestConfig())
        return
    got = read(folder, IngestConfig())
    assert_said(got.findings, wanted)
    assert agreement(got.scene) > 0.98


def agreement(scene) -> float:
    """How well the masks fit the cameras; 1 is best, and masks turned by half a circle give 0.8."""
    masks, rows = [], []
    for image, k in zip(scene.images, scene.cameras.intrinsics.tolist(), strict=True):
        scale = 40 / max(image.shape)
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        masks.append(cv2.resize(image[..., 3], size, interpolation=cv2.INTER_AREA) > 127)
        rows.append([value * scale for value in k])
    sizes = torch.tensor([mask.shape[::-1] for mask in masks])
    return silhouettes.agreement(masks, Cameras(scene.cameras.T_world_cam, torch.tensor(rows), sizes))


def test_a_folder_one_off_is_told_where_the_cameras_are(tmp_path):
    folder = make("no_points3d", tmp_path)
    with pytest.raises(ValueError, match=r"cameras that lie one folder up, in sparse/0"):
        read(folder / "images", IngestConfig())


def test_cameras_of_a_form_that_is_not_read_are_named(tmp_path):
    folder_kinds.cut_outs(tmp_path)
    (tmp_path / "poses_bounds.npy").write_bytes(b"")
    assert any("poses_bounds.npy" in finding["text"] for finding in read(tmp_path, IngestConfig()).findings)


def test_a_broken_link_is_told_as_one(tmp_path):
    folder = make("blue_jug", tmp_path)
    for name in ("train_000", "train_003", "train_007"):
        (folder / "images" / f"{name}.png").unlink()
        (folder / "images" / f"{name}.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match="a link that leads to no such file"):
        read(folder, IngestConfig())


def test_check_says_what_a_run_would_do_and_leaves_the_folder_as_it_was(tmp_path):
    for kind in ("mask_inverted", "three_missing"):
        (tmp_path / kind).mkdir()
        folder = make(kind, tmp_path / kind)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        findings, problems = check(folder, IngestConfig())
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        kinds = {finding["kind"] for finding in findings}
        assert ("mask_inverted" in kinds) == (kind == "mask_inverted") and bool(problems) == (kind == "three_missing")
    assert len(problems) == 1 and "3 files" in problems[0]


@pytest.mark.parametrize(("kind", "code"), [("one_missing", 0), ("zipped", 0), ("downscaled_no_size", 2)])
def test_recon_check_prints_what_is_read_guessed_left_out_and_refused(tmp_path, capsys, kind, code):
    assert cli.main(["check", str(make(kind, tmp_path)), "--set", "1_ingest.holdout_every=0"]) == code
    printed = capsys.readouterr()
    rows = [line.split()[0] for line in printed.out.splitlines()]
    assert "read" in rows and "guess" in rows and ("leave" in rows) == (kind == "one_missing")
    assert ("a run would refuse this" in printed.err) == (code == 2)
    assert ("holdout_every is 0" in printed.out) and len(printed.out.splitlines()) < 14


def test_recon_check_takes_parameters_of_ingest_only(tmp_path, capsys):
    assert cli.main(["check", str(tmp_path), "--set", "3_nvdiffrec.steps=1"]) == 2
    assert "needed 1_ingest" in capsys.readouterr().err


def test_up_of_an_arc_is_far_better_than_the_mean_of_the_cameras_ups():
    ups = np.array([(TILT @ shot.T_world_cam)[:3, 1] for shot in shots(arc=True)])
    mean, true = ups.mean(0) / np.linalg.norm(ups.mean(0)), TILT[:3, 2]
    assert np.degrees(np.arccos(mean @ true)) > 10 and Rotation.from_matrix(TILT[:3, :3]).magnitude() > 0.5
