"""What becomes of the pixels: bit depths, colour models, EXIF orientation, masks and lens distortion."""

import io

import numpy as np
import pycolmap
import pytest
from ingest_folders import colmap_model, disc, ngp, png16, save, write
from PIL import Image, ImageCms

from recon_lib.photos.ingest import IngestConfig, read

CONFIG = IngestConfig()
RING = disc()[..., 3]


def read_one(folder, name: str, mask: bool = False):
    """Ingests `images/<name>` as the third view, and gives its pixels."""
    data = ngp(folder)
    data["frames"][2]["file_path"] = f"images/{name}"
    write(folder, data)
    if mask:
        save(folder / "masks" / f"{name}.png", RING)
    return read(folder, CONFIG).scene.images[2]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_become_eight_by_rounding_the_value_over_257(tmp_path, channels):
    deep = np.random.default_rng(channels).integers(0, 65536, (32, 32, channels))
    if channels in (2, 4):
        deep[..., -1] = RING.astype(int) * 257 - (RING > 0) * 100
    png16(tmp_path / "images" / "deep.png", deep)
    got = read_one(tmp_path, "deep.png", mask=channels in (1, 3))
    expected = np.rint(deep / 257).astype(np.uint8)
    np.testing.assert_array_equal(got[..., :3], expected[..., :3] if channels > 2 else expected[..., [0, 0, 0]])
    np.testing.assert_array_equal(got[..., 3], expected[..., -1] if channels in (2, 4) else RING)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_sixteen_bits_is_compared_in_sixteen_bits(tmp_path, channels):
    deep = np.full((32, 32, channels), 1001)  # equal to the key but for the low byte
    deep[:8] = 1000
    png16(tmp_path / "images" / "deep.png", deep, transparent=(1000,) * channels)
    alpha = read_one(tmp_path, "deep.png")[..., 3]
    assert (alpha[:8] == 0).all() and (alpha[8:] == 255).all()


def test_a_palette_keeps_its_colours_and_transparency(tmp_path):
    indices = (RING > 0).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette([1, 2, 3, 200, 100, 50])
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images" / "p.png", transparency=0)
    got = read_one(tmp_path, "p.png")
    assert (got[RING > 0] == [200, 100, 50, 255]).all() and (got[RING == 0][:, 3] == 0).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_is_spread_to_three_equal_channels(tmp_path, mode):
    grey = disc(seed=5)[..., 0] // 128 * 255 if mode == "1" else disc(seed=5)[..., 0]
    image = Image.fromarray(np.dstack([grey, RING]) if mode == "LA" else grey).convert(mode)
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images" / "g.png")
    got = read_one(tmp_path, "g.png", mask=mode != "LA")
    np.testing.assert_array_equal(got, np.dstack([grey, grey, grey, RING]))


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_ink_darkens_whether_or_not_adobe_stored_it_inverted(tmp_path, adobe):
    ink = np.zeros((32, 32, 4), np.uint8)
    ink[...] = (255, 0, 102, 51)  # cyan full, a little yellow and black
    buffer = io.BytesIO()
    # Pillow writes the inverse under Adobe's marker; plain CMYK is the same numbers uninverted, without the marker.
    Image.fromarray(ink if adobe else 255 - ink, mode="CMYK").save(buffer, "JPEG", quality=100)
    data = buffer.getvalue()
    at = data.index(b"\xff\xee")
    assert data[at + 4 : at + 9] == b"Adobe"
    if not adobe:
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "c.jpg").write_bytes(data)
    got = read_one(tmp_path, "c.jpg", mask=True)[16, 16]
    # (1 - ink)(1 - black): red 0, green 204, blue 153·204/255
    np.testing.assert_allclose(got[:3], [0, 204, 122], atol=3)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_the_type_is_told_by_content_not_by_extension(tmp_path, extension):
    (tmp_path / "images").mkdir()
    Image.fromarray(disc()).save(tmp_path / "images" / f"x.{extension}", "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(read_one(tmp_path, f"x.{extension}"), disc())


# Where EXIF puts the stored corner pixel (row 0, column 0) in the upright image, from the standard's table.
CORNER = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
# and the end of the stored top row
SECOND = {1: (0, -1), 2: (0, 0), 3: (-1, 0), 4: (-1, -1), 5: (-1, 0), 6: (-1, -1), 7: (0, -1), 8: (0, 0)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_before_the_size_is_compared(tmp_path, orientation):
    stored = disc(24, 32, seed=3)
    stored[0, 0, :3], stored[0, -1, :3] = (255, 0, 0), (0, 255, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "images" / "e.png", stored, exif=exif)
    data = ngp(tmp_path)
    data["frames"][2] |= {"file_path": "images/e.png"} | dict(
        zip("wh", (24, 32) if orientation < 5 else (32, 24), strict=True)
    )
    write(tmp_path, data)
    got = read(tmp_path, CONFIG)
    image = got.scene.images[2]
    assert image.shape[:2] == ((32, 24) if orientation < 5 else (24, 32))
    assert image[CORNER[orientation]][:3].tolist() == [255, 0, 0]
    assert image[SECOND[orientation]][:3].tolist() == [0, 255, 0]
    assert any(f["kind"] == "exif" for f in got.findings) == (orientation != 1)


def test_a_mask_is_turned_by_its_own_exif_only(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    save(tmp_path / "images" / "e.png", disc(), exif=exif)
    half = np.zeros((32, 32), np.uint8)
    half[:16] = 255
    save(tmp_path / "masks" / "e.png", half)
    data = ngp(tmp_path)
    data["frames"][2]["file_path"] = "images/e.png"
    write(tmp_path, data)
    np.testing.assert_array_equal(read(tmp_path, CONFIG).scene.images[2][..., 3], half)
    save(tmp_path / "masks" / "e.png", half, exif=exif)
    np.testing.assert_array_equal(read(tmp_path, CONFIG).scene.images[2][..., 3], half[::-1])


@pytest.mark.parametrize(("size", "turned"), [((24, 32), False), ((32, 24), True)])
def test_colmap_photos_keep_their_stored_pixels_unless_the_camera_has_the_turned_size(tmp_path, size, turned):
    colmap_model(tmp_path / "sparse", "PINHOLE", [40, 41, 15, 17], size=size)
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(3):
        path = save(tmp_path / "images" / f"v{i}.png", disc(24, 32, seed=i), exif=exif)
    as_colmap_reads = pycolmap.Bitmap.read(str(path), True).to_array()
    got = read(tmp_path, CONFIG).scene.images[2][..., :3]
    np.testing.assert_array_equal(got, np.rot90(as_colmap_reads, -1) if turned else as_colmap_reads)


def test_an_srgb_profile_changes_nothing_and_one_with_red_and_green_exchanged_exchanges_them(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    red, green = other.index(b"rXYZ") + 4, other.index(b"gXYZ") + 4  # where the tag table gives the primaries' places
    swapped = bytearray(other)
    swapped[red : red + 8], swapped[green : green + 8] = other[green : green + 8], other[red : red + 8]
    for name, profile in (("s.png", srgb), ("w.png", bytes(swapped))):
        save(tmp_path / "images" / name, disc(), icc_profile=profile)
    np.testing.assert_array_equal(read_one(tmp_path, "s.png"), disc())
    got = read_one(tmp_path, "w.png").astype(int)
    assert np.abs(got - disc()[..., [1, 0, 2, 3]]).max() <= 1


def ramp(xy: np.ndarray) -> np.ndarray:
    """A picture as a function of normalised pinhole coordinates: smooth, and unlike in x and y."""
    x, y = xy[..., 0], xy[..., 1]
    return np.stack([127 + 200 * x, 127 + 200 * y, 127 + 90 * np.sin(4 * x) * np.cos(3 * y)], -1)


def pixel_rays(width: int, height: int, k: tuple) -> np.ndarray:
    v, u = np.mgrid[:height, :width] + 0.5
    return np.stack([(u - k[2]) / k[0], (v - k[3]) / k[1]], -1)


def through_lens(width: int, height: int, k: tuple, parameters: list[float]) -> np.ndarray:
    """The photo that a distorting camera takes of `ramp`: each pixel's ray from COLMAP's own inverse of the lens."""
    lens = pycolmap.Camera(model="OPENCV", width=width, height=height, params=[*k, *parameters])
    v, u = np.mgrid[:height, :width] + 0.5
    rays = lens.cam_from_img(np.stack([u.ravel(), v.ravel()], -1)).reshape(height, width, 2)
    return np.dstack([np.clip(np.rint(ramp(rays)), 0, 255), np.full((height, width), 255)]).astype(np.uint8)


@pytest.mark.parametrize("source", ["ngp", "OPENCV", "RADIAL", "SIMPLE_RADIAL"])
def test_a_distorted_photo_becomes_the_pinhole_photo_of_the_same_camera(tmp_path, source):
    k = (70.0, 72.0, 50.0, 37.0) if source in ("ngp", "OPENCV") else (70.0, 70.0, 50.0, 37.0)
    given = {"ngp": 4, "OPENCV": 4, "RADIAL": 2, "SIMPLE_RADIAL": 1}[source]
    lens = [-0.15, 0.04, 0.01, -0.02][:given] + [0.0] * (4 - given)
    photo = through_lens(96, 80, k, lens)
    photo[:3, :3, 3] = 0
    for i in range(3):
        save(tmp_path / "images" / f"v{i}.png", photo)
    if source == "ngp":
        top = dict(zip(("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"), (*k, *lens), strict=True))
        data = ngp(
            tmp_path / "other", w=96, h=80, **{key: value for key, value in top.items() if key not in ("w", "h")}
        )
        write(tmp_path, data)
    else:
        short = (k[0], *k[2:]) if given < 4 else k
        colmap_model(tmp_path / "sparse", source, [*short, *lens[:given]], size=(96, 80))
    got = read(tmp_path, CONFIG)
    image = got.scene.images[0]
    inner = image[..., 3] == 255
    assert inner.mean() > 0.9
    expected = np.clip(ramp(pixel_rays(96, 80, k)), 0, 255)
    assert np.abs(image[..., :3] - expected)[inner].max() < 1.6
    assert np.abs(photo[..., :3] - expected)[inner].max() > 8  # the lens matters in this picture
    np.testing.assert_allclose(got.scene.cameras.intrinsics[0], k)
    assert any(f["kind"] == "undistorted" and len(f["files"]) == 3 for f in got.findings)


def test_undistortion_does_not_blend_the_colour_of_transparent_pixels_in(tmp_path):
    photo = np.zeros((32, 32, 4), np.uint8)
    photo[RING > 0] = (200, 100, 50, 255)
    for i in range(3):
        save(tmp_path / "images" / f"v{i}.png", photo)
    write(tmp_path, ngp(tmp_path / "other", k1=0.1))
    image = read(tmp_path, CONFIG).scene.images[0]
    rim = (image[..., 3] > 0) & (image[..., 3] < 255)
    assert rim.any() and (image[rim][:, :3] == [200, 100, 50]).all()
