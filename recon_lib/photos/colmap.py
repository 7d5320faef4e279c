"""Posed photos from a COLMAP model, read through pycolmap: `.bin` or `.txt`, with or without rigs and frames.

COLMAP's poses are world-to-camera with OpenCV axes, and its pixel centres lie at +0.5; `read` converts them to the conventions
of `camera`. COLMAP ignores EXIF orientation, so its cameras describe the pixels as stored. Up is the mean of the cameras' up
directions.
"""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import torch

from recon_lib.camera import from_opencv
from recon_lib.photos.listing import Lens, Listing, PosedPhoto, finding, inside, is_file, problem, rigid

FOLDERS = (".", "sparse", "sparse/0", "colmap/sparse/0")
PARTS = ("cameras", "images", "points3D")
# COLMAP's parameters, in its order -> fx fy cx cy k1 k2 p1 p2
MODELS: dict[str, Callable[..., tuple[float, ...]]] = {
    "SIMPLE_PINHOLE": lambda f, cx, cy: (f, f, cx, cy, 0, 0, 0, 0),
    "PINHOLE": lambda fx, fy, cx, cy: (fx, fy, cx, cy, 0, 0, 0, 0),
    "SIMPLE_RADIAL": lambda f, cx, cy, k: (f, f, cx, cy, k, 0, 0, 0),
    "RADIAL": lambda f, cx, cy, k1, k2: (f, f, cx, cy, k1, k2, 0, 0),
    "OPENCV": lambda *parameters: parameters,
}


def is_source(name: str) -> bool:
    """Whether the file `name`, a path in the photos folder, is part of a COLMAP model."""
    folder, _, file = ("./" + name).rpartition("/")
    parts = [f"{part}.{end}" for part in (*PARTS, "rigs", "frames") for end in ("bin", "txt")]
    return file in parts and folder.removeprefix("./") in FOLDERS


def find(root: Path) -> str | None:
    """The first folder in `root` that holds at least one main file of a model; None if there is none."""
    for folder in FOLDERS:
        for end in ("bin", "txt"):
            if is_file(root / folder / f"cameras.{end}") or is_file(root / folder / f"images.{end}"):
                return folder
    return None


def read(root: Path, folder: str, max_bytes: float) -> Listing:
    """Lists the photos of the model in `folder`, which `find` returned; `root` is the real path of the photos folder."""
    end = "bin" if is_file(root / folder / "cameras.bin") or is_file(root / folder / "images.bin") else "txt"
    model, problems = _read_model(root, folder, end, max_bytes)
    if model is None:
        return Listing((), tuple(problems), (), None, "", stored_pixels=True)
    photos, problems = [], []
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    base = "images" if (root / "images").is_dir() else "."
    for image in images:
        label = image.name if base == "." else f"{base}/{image.name}"
        path = inside(root, label)
        if path is None:
            problems.append(problem(image.name, "path", "a path that leaves the folder", "one inside the folder"))
        elif not is_file(path):
            problems.append(problem(label, "path", "no such file", "the photo that the COLMAP model names"))
        else:
            try:
                photos.append(_read_photo(label, path, image))
            except ValueError as e:
                problems.append(f"{label}: {e}")
    if not images:
        problems.append(problem(f"{folder}/images.{end}", "images", "no image with a pose", "at least 2"))
    where = f"{folder}/*.{end}" if folder != "." else f"*.{end}"
    findings = [finding("cameras", f"{len(photos)} posed photos from the COLMAP model {where}")]
    if (unposed := len(model.images) - len(images)) > 0:
        findings.append(finding("ignored", f"{unposed} images of the COLMAP model have no pose"))
    # The camera's +y column is its up direction in the world.
    up = np.sum([photo.T_world_cam[:3, 1] for photo in photos], axis=0) if photos else np.zeros(3)
    length = np.linalg.norm(up)
    known = length > 1e-3 * max(len(photos), 1)
    source = "the mean of the cameras' up directions"
    return Listing(
        tuple(photos), tuple(problems), tuple(findings), up / length if known else None, source, stored_pixels=True
    )


def _read_model(
    root: Path, folder: str, end: str, max_bytes: float
) -> tuple[pycolmap.Reconstruction | None, list[str]]:
    problems = []
    for part in PARTS:
        name = f"{folder}/{part}.{end}".removeprefix("./")
        path = inside(root, name)
        if path is None or not is_file(path):
            problems.append(problem(name, "path", "no such file in the folder", f"all of {', '.join(PARTS)}, .{end}"))
        elif path.stat().st_size > max_bytes:
            problems.append(problem(name, "bytes", path.stat().st_size, f"at most {max_bytes:.0f}"))
    for part in (*PARTS, "rigs", "frames") if end == "bin" and not problems else ():
        name = f"{folder}/{part}.bin".removeprefix("./")
        if is_file(root / name) and not is_whole(part, (root / name).read_bytes()):
            problems.append(problem(name, "layout", "a truncated or damaged file", "a whole COLMAP binary file"))
    if problems:
        return None, problems
    try:
        return pycolmap.Reconstruction(str(root / folder)), []
    except (ValueError, IndexError, RuntimeError, KeyError, MemoryError) as e:
        return None, [problem(f"{folder}/{{cameras,images}}.{end}", "model", e, "a COLMAP model that pycolmap reads")]


def is_whole(part: str, data: bytes) -> bool:
    """Whether the record lengths in a binary file add up to its size. pycolmap itself would read on past the end."""
    try:
        (count,) = struct.unpack_from("<Q", data)
        at = 8
        for _ in range(count):
            if at >= len(data):
                return False
            at = RECORD_END[part](data, at)
        return at == len(data)
    except (struct.error, ValueError, OverflowError):
        return False


def _camera_end(data: bytes, at: int) -> int:
    model = pycolmap.CameraModelId(struct.unpack_from("<i", data, at + 4)[0])
    return at + 24 + 8 * len(pycolmap.Camera.create_from_model_id(1, model, 1.0, 2, 2).params)


def _image_end(data: bytes, at: int) -> int:
    at = data.index(b"\0", at + 64) + 1
    return at + 8 + 24 * struct.unpack_from("<Q", data, at)[0]


def _point_end(data: bytes, at: int) -> int:
    return at + 51 + 8 * struct.unpack_from("<Q", data, at + 43)[0]


def _rig_end(data: bytes, at: int) -> int:
    (sensors,) = struct.unpack_from("<I", data, at + 4)
    at += 8 + 8 * (sensors > 0)
    for _ in range(sensors - 1):
        at += 9 + 56 * struct.unpack_from("<?", data, at + 8)[0]
    return at


def _frame_end(data: bytes, at: int) -> int:
    return at + 68 + 16 * struct.unpack_from("<I", data, at + 64)[0]


RECORD_END = {
    "cameras": _camera_end, "images": _image_end, "points3D": _point_end, "rigs": _rig_end, "frames": _frame_end,
}  # fmt: skip


def _read_photo(label: str, path: Path, image: pycolmap.Image) -> PosedPhoto:
    camera = image.camera
    if camera.model_name not in MODELS:
        raise ValueError(f"camera model: got {camera.model_name}, needed one of {', '.join(MODELS)}")
    parameters = tuple(float(value) for value in MODELS[camera.model_name](*camera.params))
    if not np.isfinite(parameters).all() or max(map(abs, parameters)) > 1e30 or min(parameters[:2]) <= 0:
        raise ValueError(
            f"camera: got parameters {list(camera.params)}, needed finite ones and a positive focal length"
        )
    T_cv_world = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
    try:
        T_world_cv = rigid(np.linalg.inv(rigid(T_cv_world)))
    except ValueError as e:
        raise ValueError(f"pose: got {e}, needed a finite rotation and translation") from e
    T_world_cam = from_opencv(torch.from_numpy(T_world_cv)).numpy()
    fx, fy, cx, cy, k1, k2, p1, p2 = parameters
    lens = Lens(fx, fy, cx, cy, distortion=(k1, k2, p1, p2))
    return PosedPhoto(label, path, T_world_cam, lens, (camera.width, camera.height), None)
