"""A damaged file gives a scene or a ValueError that names it, and nothing else, however it is damaged."""

import os
import random

import folder_kinds
import pytest
from ingest_folders import colmap_model, disc, ngp, png16, save, write
from PIL import Image

from recon_lib.photos.ingest import IngestConfig, read

SEEDS = range(500 if os.environ.get("RECON_LONG") == "1" else 20)


def damaged(data: bytes, seed: int) -> bytes:
    """A third of the seeds each: cut off, bytes changed, bits flipped in the first 200 bytes, where headers are."""
    chance = random.Random(seed)
    out = bytearray(data)
    if seed % 3 == 0:
        return bytes(out[: chance.randrange(len(out))])
    reach = len(out) if seed % 3 == 1 else min(200, len(out))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(reach)
        out[at] = chance.randrange(256) if seed % 3 == 1 else out[at] ^ 1 << chance.randrange(8)
    return bytes(out)


def outcome(folder) -> str:
    try:
        got = read(folder, IngestConfig(max_megapixels=1.0))
    except ValueError as e:
        return str(e)
    assert got.scene.cameras is None or got.scene.cameras.T_world_cam.isfinite().all()
    return ""


def exif_and_profile() -> dict:
    from PIL import ImageCms

    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}


@pytest.mark.parametrize("kind", ["PNG", "PNG16", "palette", "JPEG", "CMYK", "WEBP"])
def test_a_damaged_photo_gives_a_scene_or_a_valueerror_that_names_it(tmp_path, kind):
    data = ngp(tmp_path)
    path = tmp_path / "images" / "x.png"
    rgb = Image.fromarray(disc()[..., :3])
    if kind == "PNG16":
        png16(path, disc().astype(int) * 257)
    elif kind == "palette":
        rgb.quantize(16).save(path, transparency=0)
    elif kind == "CMYK":
        rgb.convert("CMYK").save(path, "JPEG")
    else:
        (rgb if kind == "JPEG" else Image.fromarray(disc())).save(path, kind, **exif_and_profile())
    if kind in ("JPEG", "CMYK"):
        save(tmp_path / "masks" / "x.png", disc()[..., 3])
    data["frames"][1]["file_path"] = "images/x.png"
    write(tmp_path, data)
    assert outcome(tmp_path) == ""
    whole, refused = path.read_bytes(), 0
    for seed in SEEDS:
        path.write_bytes(damaged(whole, seed))
        message = outcome(tmp_path)
        assert message == "" or "images/x.png: " in message, (seed, message)
        refused += message != ""
    assert refused > len(SEEDS) / 4


def test_a_damaged_transforms_json_gives_a_scene_or_a_valueerror(tmp_path):
    write(tmp_path, ngp(tmp_path, k1=0.01, up=[0, 0, 1]))
    path = tmp_path / "transforms.json"
    whole, refused = path.read_bytes(), 0
    for seed in SEEDS:
        path.write_bytes(damaged(whole, seed))
        refused += outcome(tmp_path) != ""
    assert refused > len(SEEDS) / 4


@pytest.mark.parametrize("end", ["bin", "txt"])
@pytest.mark.parametrize("part", ["cameras", "images"])
def test_a_damaged_colmap_model_gives_a_scene_or_a_valueerror(tmp_path, part, end):
    colmap_model(tmp_path, "OPENCV", [40, 40, 16, 16, 0.01, 0, 0, 0], end)
    for i in range(3):
        save(tmp_path / f"v{i}.png", disc(seed=i))
    assert outcome(tmp_path) == ""
    path = tmp_path / f"{part}.{end}"
    whole, refused = path.read_bytes(), 0
    for seed in SEEDS:
        path.write_bytes(damaged(whole, seed))
        message = outcome(tmp_path)
        # A third of the seeds cut the file off, which a binary one must never survive: pycolmap would read on.
        assert message != "" or end == "txt" or seed % 3, seed
        refused += message != ""
    assert refused > 0


@pytest.mark.parametrize("end", ["bin", "txt"])
@pytest.mark.parametrize("part", ["points3D", "rigs", "frames"])
def test_the_other_files_of_a_colmap_model_are_not_needed(tmp_path, part, end):
    colmap_model(tmp_path, "OPENCV", [40, 40, 16, 16, 0.01, 0, 0, 0], end)
    for i in range(3):
        save(tmp_path / f"v{i}.png", disc(seed=i))
    path = tmp_path / f"{part}.{end}"
    path.write_bytes(damaged(path.read_bytes(), 0))
    assert outcome(tmp_path) == ""
    path.unlink()
    assert outcome(tmp_path) == ""


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("metashape", "cameras.xml"), ("realityscan", "cameras.csv"), ("record3d", "metadata.json"),
        ("polycam", "keyframes/corrected_cameras/train_003.json"), ("zipped", "photos.zip"),
    ],
)  # fmt: skip
def test_a_damaged_export_or_archive_gives_a_scene_or_a_valueerror(tmp_path, kind, file):
    folder = tmp_path / "photos.zip" if kind == "zipped" else tmp_path / "photos"
    if kind != "zipped":
        folder.mkdir()
    getattr(folder_kinds, kind)(folder)
    path = folder if kind == "zipped" else folder / file
    assert outcome(folder) == ""
    whole, refused = path.read_bytes(), 0
    for seed in SEEDS:
        path.write_bytes(damaged(whole, seed))
        refused += outcome(folder) != ""
    assert refused > 0
