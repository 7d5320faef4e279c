"""Small valid folders of photos for the tests of ingest, each test spoils one thing; and what ingest says of it."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from recon_lib import camera
from recon_lib.photos.ingest import IngestConfig, read

CONFIG = IngestConfig()
SIX = tuple(camera.CANONICAL_VIEWS)


def disc(width: int = 32, height: int = 32, seed: int = 0) -> np.ndarray:
    """Noise under the alpha of a centred disc."""
    rgba = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    y, x = np.mgrid[:height, :width] + 0.5
    rgba[..., 3] = 255 * (np.hypot(x - width / 2, y - height / 2) < 0.4 * min(width, height))
    return rgba


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def poses(count: int) -> list:
    """On a circle around the origin, z up, looking level at the z axis: float32 values, as `scene` saves them."""
    out = []
    for angle in np.arange(count) * 0.4:
        s, c = np.sin(angle), np.cos(angle)
        out.append([[c, 0, s, 4 * s], [s, 0, -c, -4 * c], [0, 1, 0, 0.5], [0, 0, 0, 1]])
    return np.array(out, np.float32).tolist()


def ngp(folder: Path, count: int = 3, suffix: str = ".png", **top) -> dict:
    """instant-ngp form; returns what transforms.json holds."""
    for i in range(count):
        save(folder / "images" / f"v{i}{suffix}", disc(seed=i))
    frames = [{"file_path": f"images/v{i}{suffix}", "transform_matrix": pose} for i, pose in enumerate(poses(count))]
    data = {"fl_x": 40.0, "fl_y": 41.0, "cx": 15.0, "cy": 17.0, "w": 32, "h": 32, **top, "frames": frames}
    write(folder, data)
    return data


def write(folder: Path, data: dict, name: str = "transforms.json") -> None:
    (folder / name).write_text(json.dumps(data))


def nerf(folder: Path, counts: dict[str, int], angle: float = 0.69) -> None:
    """NeRF-synthetic form: the same stems in train/, test/ and val/."""
    for part, count in counts.items():
        frames = []
        for i, pose in enumerate(poses(count)):
            save(folder / part / f"r_{i}.png", disc(seed=i))
            frames.append({"file_path": f"./{part}/r_{i}", "transform_matrix": pose})
        write(folder, {"camera_angle_x": angle, "frames": frames}, f"transforms_{part}.json")


def six(folder: Path, width: int = 32) -> None:
    for i, name in enumerate(SIX):
        save(folder / f"{name}.png", disc(width, width, seed=i))


def colmap_model(
    folder: Path,
    model: str,
    parameters: list[float],
    end: str = "bin",
    count: int = 3,
    size: tuple[int, int] = (32, 32),
) -> pycolmap.Reconstruction:
    """Cameras on a half circle, tilted, looking roughly at the origin; photos in images/ are the caller's."""
    reconstruction = pycolmap.Reconstruction()
    reconstruction.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model=model, width=size[0], height=size[1], params=parameters)
    )
    for i in range(count):
        turn = pycolmap.Rotation3d(np.array([0.3, 0.2 + 0.9 * i, 0.1]))
        image = pycolmap.Image(name=f"v{i}.png", camera_id=1, image_id=i + 1)
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(turn, np.array([0.1, -0.2, 4 + 0.1 * i])))
    reconstruction.add_point3D(np.zeros(3), pycolmap.Track(), np.zeros(3, np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    (reconstruction.write_binary if end == "bin" else reconstruction.write_text)(str(folder))
    return reconstruction


def png16(path: Path, values: np.ndarray, transparent: tuple[int, ...] = ()) -> Path:
    """A 16-bit PNG written by hand: grey, grey+alpha, RGB or RGBA by the last axis."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    key = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + key
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def complaint(folder, config: IngestConfig = CONFIG) -> str:
    """The error's text, every line of it in the form that is promised."""
    with pytest.raises(ValueError) as caught:
        read(folder, config)
    lines = str(caught.value).splitlines()
    for line in lines[1:]:
        assert line.startswith("  ") or re.match(r".+: .+: got .*, needed .+", line), line
    return str(caught.value)


def line_about(message: str, *words: str) -> bool:
    return any(all(word in line for word in words) for line in message.splitlines()[1:])
