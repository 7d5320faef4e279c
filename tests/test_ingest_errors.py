"""Every fault of the input is named: the file, the field, what was found, what is needed."""

import os

import numpy as np
import pytest
from ingest_folders import colmap_model, complaint, disc, line_about, nerf, ngp, png16, save, six, write
from PIL import Image

from recon_lib.photos.ingest import IngestConfig, read


def spoil(path, content: bytes) -> None:
    path.write_bytes(content)


FILES = {  # what stands in images/v1.png -> words of the line about it
    "truncated": (lambda p: spoil(p, p.read_bytes()[:-600]), ["damaged"]),
    "cut in the header": (lambda p: spoil(p, p.read_bytes()[:20]), ["damaged"]),
    "truncated JPEG": (
        lambda p: (
            Image.fromarray(disc()[..., :3]).save(p, "JPEG"),
            spoil(p, p.read_bytes()[:-200]),
            save(p.parents[1] / "masks" / "v1.png", disc()[..., 3]),
        ),
        ["damaged"],
    ),
    "text": (lambda p: spoil(p, b"not a picture\n"), ["type", "text"]),
    "empty": (lambda p: spoil(p, b""), ["type", "empty"]),
    "HEIC": (lambda p: spoil(p, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)), ["type", "HEIC"]),
    "SVG": (lambda p: spoil(p, b'<?xml version="1.0"?>\n<svg xmlns="x"/>'), ["type", "SVG"]),
    "GIF": (lambda p: Image.fromarray(disc()[..., 0]).save(p, "GIF"), ["type", "GIF"]),
    "TIFF": (lambda p: Image.fromarray(disc()).save(p, "TIFF"), ["type", "TIFF"]),
    "animation": (
        lambda p: Image.fromarray(disc()).save(p, save_all=True, append_images=[Image.fromarray(disc(seed=9))]),
        ["frames", "animation of 2"],
    ),
    "bytes": (lambda p: spoil(p, p.read_bytes() + bytes(30_000)), ["bytes", "0.0 MB", "0.02 MB"]),
    "pixels": (lambda p: save(p, np.zeros((100, 200, 4), np.uint8)), ["pixels", "200 x 100", "0.01 megapixels"]),
    "bomb": (lambda p: png16(p, np.zeros((1, 1, 1))).write_bytes(bomb()), ["pixels", "exceeds limit"]),
    "no mask": (lambda p: save(p, disc()[..., :3]), ["mask", "neither"]),
    "opaque alpha": (lambda p: save(p, disc() | np.uint8([0, 0, 0, 255])), ["mask", "neither"]),
    "empty mask": (lambda p: save(p, disc() & np.uint8([255, 255, 255, 127])), ["mask", "no pixel above 127"]),
    "full mask": (lambda p: save(p, disc() | np.uint8([0, 0, 0, 128])), ["mask", "no background"]),
    "size": (lambda p: save(p, disc(30, 32)), ["size", "30 x 32", "32 x 32"]),
    "missing": (lambda p: p.unlink(), ["file_path", "no such file"]),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), ["file_path", "no such file"]),
    "a link to a text outside": (
        lambda p: (
            p.unlink(),
            spoil(p.parents[2] / "secret.txt", b"not a picture"),
            p.symlink_to(p.parents[2] / "secret.txt"),
        ),
        ["type", "text"],
    ),
    "a loop of links": (lambda p: (p.unlink(), p.symlink_to(p)), ["file_path", "no such file"]),
}


def bomb() -> bytes:
    """A PNG header that claims 30000 x 30000 pixels."""
    from zlib import crc32

    head = b"IHDR" + (30000).to_bytes(4, "big") * 2 + bytes([8, 6, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + head + crc32(head).to_bytes(4, "big") + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"


@pytest.mark.parametrize("fault", FILES)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, fault):
    folder = tmp_path / "photos"
    ngp(folder)
    make, words = FILES[fault]
    make(folder / "images" / "v1.png")
    message = complaint(folder, IngestConfig(max_file_mb=0.02, max_megapixels=0.01))
    assert line_about(message, "images/v1.png: ", *words), message
    assert "1 problem\n" in message


def test_all_faults_that_need_no_pixel_are_named_at_once_and_those_of_pixels_after_them(tmp_path):
    data = ngp(tmp_path, 6)
    for i, fault in enumerate(("truncated", "text", "size", "full mask")):
        FILES[fault][0](tmp_path / "images" / f"v{i}.png")
    data["frames"][4]["transform_matrix"][0][0] = 9.0
    write(tmp_path, data)
    message = complaint(tmp_path)
    assert "3 problems" in message and all(line_about(message, f"images/v{i}.png: ") for i in (1, 2, 4))
    ngp(tmp_path, 6)
    for i, fault in enumerate(("truncated", "full mask")):
        FILES[fault][0](tmp_path / "images" / f"v{i}.png")
    message = complaint(tmp_path)
    assert "2 problems" in message and all(line_about(message, f"images/v{i}.png: ") for i in (0, 1))


def test_equal_problems_share_a_line_with_their_number(tmp_path):
    ngp(tmp_path, 40)
    for i in range(40):
        save(tmp_path / "images" / f"v{i}.png", disc(seed=i)[..., :3] if i < 30 else disc(20 + i, 32))
    message = complaint(tmp_path, IngestConfig(make_masks="never"))
    assert "40 problems" in message and len(message.splitlines()) < 8 and len(message) < 1200
    assert line_about(message, "30 files (images/v0.png", "masks/", "NAME_mask.png")
    assert line_about(message, "7 more files (images/v33.png", "size: got the like", "32 x 32")


def test_two_frames_of_one_file_are_refused(tmp_path):
    data = ngp(tmp_path)
    data["frames"][2]["file_path"] = "./images/v1"
    write(tmp_path, data)
    assert line_about(complaint(tmp_path), "images/v1.png", "2 frames")


def test_two_photos_that_would_get_one_name_are_refused(tmp_path):
    data = ngp(tmp_path)
    save(tmp_path / "images" / "v1.webp", disc(), lossless=True)
    data["frames"][2]["file_path"] = "images/v1.webp"
    write(tmp_path, data)
    message = complaint(tmp_path)
    assert line_about(message, "images/v1.png: name") and line_about(message, "images/v1.webp: name")


def test_too_much_in_all_is_refused_before_decoding(tmp_path):
    ngp(tmp_path, 4)
    assert line_about(complaint(tmp_path, IngestConfig(max_total_mb=0.01)), "bytes", "0.01 MB in all")
    assert line_about(complaint(tmp_path, IngestConfig(max_total_megapixels=0.003)), "pixels", "in all")


def test_one_view_none_used_and_one_used_are_too_few(tmp_path):
    ngp(tmp_path / "one", 1)
    assert line_about(complaint(tmp_path / "one"), "views", "got 1", "at least 2")
    for used, name in ((0, "none"), (1, "single")):
        data = ngp(tmp_path / name, 3)
        for frame in data["frames"][used:]:
            frame["held_out"] = True
        write(tmp_path / name, data)
        assert line_about(complaint(tmp_path / name), "views", f"{used} used and {3 - used} held out")


def test_a_folder_without_photos_gets_the_four_forms_told(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"(?s)got no photos.*transforms.json.*COLMAP.*six.*without cameras"):
        read(tmp_path, IngestConfig())


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        read(tmp_path / "nothing", IngestConfig())


def test_two_forms_of_transforms_in_one_folder_are_refused(tmp_path):
    nerf(tmp_path, {"train": 2})
    ngp(tmp_path)
    assert line_about(complaint(tmp_path), "transforms.json", "only one of the two")
    os.remove(tmp_path / "transforms.json")
    os.rename(tmp_path / "transforms_train.json", tmp_path / "transforms_test.json")
    assert line_about(complaint(tmp_path), "no training views")


def test_six_views_that_are_not_square_or_unlike_in_size_are_named(tmp_path):
    six(tmp_path)
    save(tmp_path / "left.png", disc(32, 30))
    save(tmp_path / "top.png", disc(16, 16))
    message = complaint(tmp_path)
    assert line_about(message, "left.png: size", "32 x 30", "32 x 32") and line_about(
        message, "top.png: size", "16 x 16"
    )
    assert "2 problems" in message


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("v1.png", disc(30, 32)[..., 3], ["images/v1.png: mask", "30 x 32", "32 x 32"]),
        ("v1.png", np.zeros((32, 32), np.uint8), ["images/v1.png: mask", "no pixel"]),
        ("v1.png", np.full((32, 32), 255, np.uint8), ["images/v1.png: mask", "no background"]),
        ("v1.jpg", None, ["masks/v1.jpg: type", "text"]),
    ],
)
def test_a_bad_mask_file_is_named(tmp_path, name, pixels, words):
    ngp(tmp_path)
    save(tmp_path / "masks" / name, disc()) if pixels is not None else (tmp_path / "masks").mkdir()
    save(tmp_path / "masks" / name, pixels) if pixels is not None else (tmp_path / "masks" / name).write_text("no")
    assert line_about(complaint(tmp_path), *words)


def test_masks_that_are_not_one_to_a_photo_are_refused(tmp_path):
    nerf(tmp_path, {"train": 2, "test": 1})
    save(tmp_path / "masks" / "r_0.png", disc()[..., 3])
    save(tmp_path / "masks" / "r_1.png", disc()[..., 3])
    save(tmp_path / "masks" / "r_1.webp", disc()[..., 3])
    message = complaint(tmp_path)
    assert line_about(message, "masks/r_0.png", "train/r_0.png, test/r_0.png")
    assert line_about(message, "train/r_1.png", "masks/r_1.png, masks/r_1.webp")


@pytest.mark.parametrize(("model", "count"), [("FOV", 5), ("THIN_PRISM_FISHEYE", 12), ("DIVISION", 5), ("EUCM", 6)])
def test_other_camera_models_are_refused_by_name_with_the_command_that_undistorts(tmp_path, model, count):
    colmap_model(tmp_path, model, [40.0, 40.0, 16.0, 16.0, *[0.01] * (count - 4)])
    for i in range(3):
        save(tmp_path / f"v{i}.png", disc())
    message = complaint(tmp_path)
    assert (
        line_about(message, "camera model", model, "OPENCV", "image_undistorter") and message.count("image_undis") == 1
    )


def test_faults_of_a_colmap_folder_are_named(tmp_path):
    colmap_model(tmp_path / "sparse", "PINHOLE", [40, 40, 16, 16])
    for i in range(2):
        save(tmp_path / "images" / f"v{i}.png", disc(32, 32 - 2 * i))
    message = complaint(tmp_path)
    assert line_about(message, "images/v2.png", "no such file") and line_about(message, "images/v1.png: size")
    (tmp_path / "sparse" / "cameras.bin").unlink()
    assert line_about(complaint(tmp_path), "sparse/cameras.bin", "no such file")


def test_cameras_of_no_common_up_need_an_axis_by_name(tmp_path):
    reconstruction = colmap_model(tmp_path, "PINHOLE", [40, 40, 16, 16], count=2)
    first, second = (reconstruction.images[i] for i in (1, 2))
    turned = first.cam_from_world().matrix()
    turned[:2] *= -1  # half a turn about the view: the second camera stands on its head
    second.frame.set_cam_from_world(1, type(first.cam_from_world())(turned))
    reconstruction.write_binary(str(tmp_path))
    for i in range(2):
        save(tmp_path / f"v{i}.png", disc())
    assert line_about(complaint(tmp_path), "up: config: got auto")
    assert read(tmp_path, IngestConfig(up="-y")).scene.up.tolist() == [0, -1, 0]


@pytest.mark.parametrize(
    "knobs",
    [
        {"up": "w"},
        {"holdout_every": 1},
        {"holdout_every": -1},
        {"max_file_mb": 0.0},
        {"max_total_megapixels": float("nan")},
    ],
)
def test_a_knob_out_of_range_is_named(tmp_path, knobs):
    with pytest.raises(ValueError, match=next(iter(knobs))):
        read(tmp_path, IngestConfig(**knobs))


def test_the_six_views_refuse_another_up(tmp_path):
    six(tmp_path)
    assert line_about(complaint(tmp_path, IngestConfig(up="z")), "up", "auto or y")
