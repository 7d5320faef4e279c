"""Kinds of files that phones and programs write: HEIC, AVIF, Display P3, gain maps, large photos, archives, video."""

import io
import zipfile

import cv2
import numpy as np
import pytest
import torch
from ingest_folders import complaint, disc, line_about, ngp, save, write
from PIL import Image, ImageCms

from recon_lib.photos import decode, video
from recon_lib.photos.ingest import IngestConfig, read

CONFIG = IngestConfig()


def smooth(width: int, height: int) -> np.ndarray:
    """A picture of slow waves under the alpha of a disc."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / 9 + i) * np.cos(y / (7 + i)) for i in range(3)]
    return np.dstack([*waves, disc(width, height)[..., 3]]).astype(np.uint8)


def kinds(got) -> dict[str, dict]:
    return {finding["kind"]: finding for finding in got.findings}


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heic_photos_are_read_where_this_installation_can(tmp_path, kind):
    if kind == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is optional")
        pillow_heif.register_heif_opener()
    data = ngp(tmp_path)
    photo = smooth(32, 32)
    Image.fromarray(photo[..., :3]).save(tmp_path / "images" / "v1.heic", kind, quality=95)
    save(tmp_path / "masks" / "v1.png", photo[..., 3])
    data["frames"][1]["file_path"] = "images/v1.heic"
    write(tmp_path, data)
    image = read(tmp_path, CONFIG).scene.images[1]
    assert np.abs(image[..., :3].astype(int) - photo[..., :3]).mean() < 6


def test_a_heic_photo_that_cannot_be_read_is_refused_with_the_command_that_converts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "find_spec", lambda name: None)
    decode._formats.cache_clear()
    ngp(tmp_path)
    (tmp_path / "images" / "v1.png").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    try:
        assert line_about(complaint(tmp_path), "images/v1.png: type: got a HEIC image", "pillow-heif", "heif-convert")
    finally:
        decode._formats.cache_clear()


def display_p3() -> bytes:
    """An sRGB profile whose primaries are those of Display P3 (columns from Apple's profile, adapted to D50)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data = bytearray(bytes(data).replace("sRGB".encode("utf-16-be"), "P3 D".encode("utf-16-be")))
    columns = {
        b"rXYZ": (0.51512, 0.2412, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.1571, 0.06657, 0.78407),
    }
    for tag, xyz in columns.items():
        at = data.index(tag)
        place = int.from_bytes(data[at + 4 : at + 8], "big") + 8
        data[place : place + 12] = b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in xyz)
    return bytes(data)


def test_display_p3_of_phones_becomes_srgb(tmp_path):
    data = ngp(tmp_path)
    photo = np.full((32, 32, 4), 255, np.uint8)
    photo[..., :3], photo[..., 3] = (180, 90, 60), disc()[..., 3]
    save(tmp_path / "images" / "v1.png", photo, icc_profile=display_p3())
    write(tmp_path, data)
    got = read(tmp_path, CONFIG)
    # Both spaces have the same tone curve; the matrix from linear P3 to linear sRGB is that of CSS Color 4.
    tone = np.array([180, 90, 60]) / 255
    linear = np.where(tone <= 0.04045, tone / 12.92, ((tone + 0.055) / 1.055) ** 2.4)
    M = [[1.22494018, -0.22494018, 0], [-0.04205695, 1.04205695, 0], [-0.01963755, -0.07863605, 1.09827360]]
    srgb = M @ linear
    wanted = 255 * np.where(srgb <= 0.0031308, 12.92 * srgb, 1.055 * srgb.clip(1e-9) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(got.scene.images[1][16, 16, :3], wanted, atol=1.5)
    assert kinds(got)["profile"]["files"] == ["images/v1.png"]


def test_a_gain_map_behind_the_photo_is_ignored(tmp_path):
    data = ngp(tmp_path)
    photo, gain = smooth(32, 32), Image.new("L", (8, 8), 200)
    path = tmp_path / "images" / "v1.jpg"
    Image.fromarray(photo[..., :3]).save(path, "MPO", save_all=True, append_images=[gain.convert("RGB")], quality=97)
    save(tmp_path / "masks" / "v1.png", photo[..., 3])
    data["frames"][1]["file_path"] = "images/v1.jpg"
    write(tmp_path, data)
    got = read(tmp_path, CONFIG)
    assert np.abs(got.scene.images[1][..., :3].astype(int) - photo[..., :3]).mean() < 6
    assert kinds(got)["multi-picture"]["files"] == ["images/v1.jpg"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_photo_is_shrunk_and_its_camera_sees_the_same(tmp_path, kind):
    data = ngp(tmp_path, w=320, h=240, fl_x=300.0, fl_y=310.0, cx=150.0, cy=120.0)
    photo = smooth(320, 240)
    for i in range(3):
        if kind == "PNG":
            save(tmp_path / "images" / f"v{i}.png", photo)
        else:
            Image.fromarray(photo[..., :3]).save(tmp_path / "images" / f"v{i}.png", "JPEG", quality=97)
            save(tmp_path / "masks" / f"v{i}.png", photo[..., 3])
    write(tmp_path, data)
    whole = read(tmp_path, IngestConfig(max_side=0)).scene
    small = read(tmp_path, IngestConfig(max_side=80))
    assert whole.images[0].shape == (240, 320, 4) and small.scene.images[0].shape == (60, 80, 4)
    torch.testing.assert_close(small.scene.cameras.intrinsics, whole.cameras.intrinsics / 4)
    assert len(kinds(small)["shrunk"]["files"]) == 3
    core = photo.reshape(60, 4, 80, 4, 4).astype(float).mean((1, 3))
    inside = core[..., 3] == 255
    assert np.abs(small.scene.images[0][..., :3] - core[..., :3])[inside].mean() < (0.6 if kind == "PNG" else 3)


def test_photos_that_are_not_larger_than_max_side_keep_their_bits(tmp_path):
    ngp(tmp_path)
    got = read(tmp_path, IngestConfig(max_side=32))
    np.testing.assert_array_equal(got.scene.images[2], disc(seed=2))
    assert "shrunk" not in kinds(got)


def archive(path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in content.items():
            out.writestr(name, data)


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "C:\\out.png", "a/../../out.png"])
def test_an_archive_with_a_path_that_leaves_it_is_refused(tmp_path, name):
    path = tmp_path / "a.zip"
    archive(path, {"transforms.json": b"{}", name: b"x"})
    with pytest.raises(ValueError, match="leaves the archive"):
        read(path, CONFIG)
    assert not list(tmp_path.rglob("out.png"))


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(tmp_path):
    archive(tmp_path / "a.zip", {f"{i}.png": bytes(3_000_000) for i in range(3)})
    assert (tmp_path / "a.zip").stat().st_size < 20_000
    with pytest.raises(ValueError, match="more than 5 MB unpacked"):
        read(tmp_path / "a.zip", IngestConfig(max_total_mb=5.0))


def test_a_damaged_archive_and_one_that_is_none_are_refused(tmp_path):
    buffer = io.BytesIO()
    archive(buffer, {"a.png": bytes(range(256)) * 99})
    damaged = bytearray(buffer.getvalue())
    damaged[60] ^= 255
    (tmp_path / "a.zip").write_bytes(damaged)
    (tmp_path / "b.zip").write_bytes(b"no archive")
    for name, words in (("a.zip", "cannot be unpacked"), ("b.zip", "needed the folder of the photos")):
        with pytest.raises(ValueError, match=words):
            read(tmp_path / name, CONFIG)


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    ngp(tmp_path / "in")
    (tmp_path / "in" / "images" / "v1.png").unlink()
    secret = save(tmp_path / "secret.png", disc())
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        for file in (tmp_path / "in").rglob("*.*"):
            out.write(file, file.relative_to(tmp_path / "in"))
        link = zipfile.ZipInfo("images/v1.png")
        link.external_attr = 0o120777 << 16
        out.writestr(link, str(secret))
    with pytest.raises(ValueError, match="no such file"):
        read(path, CONFIG)
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("images/v1.PNG", str(secret))  # the text of a link
    with pytest.raises(ValueError, match="link that leaves the folder"):
        read(path, CONFIG)


def film(path, count: int = 40) -> None:
    """A pattern that moves, blurred in three frames of four and wholly in the middle."""
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20, (160, 120))
    noise = np.random.default_rng(0).integers(0, 256, (120, 320, 3), dtype=np.uint8)
    for i in range(count):
        frame = np.ascontiguousarray(noise[:, 2 * i : 2 * i + 160])
        blurred = i % 4 != 1 or 16 <= i < 24
        out.write(cv2.GaussianBlur(frame, (0, 0), 4) if blurred else frame)
    out.release()


def test_of_a_video_the_sharp_frames_are_taken_and_none_where_all_is_blur(tmp_path):
    film(tmp_path / "a.mp4")
    assert video.take_frames(tmp_path / "a.mp4", tmp_path / "out", 10) == 8
    names = sorted(path.stem for path in (tmp_path / "out" / "images").iterdir())
    assert names == [f"a_{i:06}" for i in (1, 5, 9, 13, 25, 29, 33, 37)]
    with pytest.raises(ValueError, match="needed a new one"):
        video.take_frames(tmp_path / "a.mp4", tmp_path / "out", 10)


def test_a_folder_with_only_a_video_is_told_how_to_make_photos_of_it(tmp_path):
    film(tmp_path / "a.mp4", 4)
    with pytest.raises(ValueError, match="recon frames"):
        read(tmp_path, CONFIG)
    (tmp_path / "a.txt").write_text("no video")
    with pytest.raises(ValueError, match="got 0 frames"):
        video.take_frames(tmp_path / "a.txt", tmp_path / "out", 10)
