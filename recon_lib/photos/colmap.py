"""Posed photos from a COLMAP model: `.bin` or `.txt`, wherever in the folder it lies.

COLMAP's poses are world-to-camera with OpenCV axes, and its pixel centres lie at +0.5; `read` converts them to the conventions
of `camera`. COLMAP ignores EXIF orientation, so its cameras describe the pixels as stored. It says nothing of up.
"""

import posixpath
import re
from typing import NamedTuple

import numpy as np
import torch

from recon_lib.camera import from_opencv
from recon_lib.photos import colmap_files, lenses, listing, poses
from recon_lib.photos.findings import Problem, counted, finding, named, of_error, problem
from recon_lib.photos.folder import Folder
from recon_lib.photos.listing import Listing, PosedPhoto
from recon_lib.photos.up import MEASURED

USUAL = ("", "sparse", "sparse/0", "colmap/sparse/0")  # places where a model is looked for first
PHOTOS = ("images", "input", "photos", "")  # where the photos are, from a folder above the model
PARTS = re.compile(r"(cameras|images|points3D|rigs|frames)\.(bin|txt)")


class Model(NamedTuple):
    """A model that may be read."""

    place: str  # label of its folder, "" for the photos folder itself
    end: str  # bin or txt
    bytes: int  # of its images file, by which models are compared


def is_source(label: str) -> bool:
    """Whether the file is part of a COLMAP model."""
    return bool(PARTS.fullmatch(posixpath.basename(label)))


def models(folder: Folder) -> list[Model]:
    """All models in the folder, the one to read first: at a usual place, else the largest."""
    found = []
    for place in folder.folders:
        for end in ("bin", "txt"):
            cameras, images = (posixpath.join(place, f"{part}.{end}") for part in ("cameras", "images"))
            if folder.has(cameras) or folder.has(images):
                size = folder.path(images).stat().st_size if folder.has(images) and folder.path(images) else 0
                found.append(Model(place, end, size))
                break
    largest = {_group(model): max(m.bytes for m in found if _group(m) == _group(model)) for model in found}

    def rank(model: Model) -> tuple:
        group = _group(model)
        usual = model.place if group == model.place else f"{group}/0"
        at = USUAL.index(usual) if usual in USUAL else len(USUAL)
        return at, model.bytes < largest[group], len(model.place), model.place

    return sorted(found, key=rank)


def _group(model: Model) -> str:
    """Models 0, 1, 2 … of one folder are parts of one reconstruction."""
    head, tail = posixpath.split(model.place)
    return head if tail.isdecimal() else model.place


def read(folder: Folder, candidates: list[Model], max_bytes: float) -> Listing:
    """Lists the photos of the first of the models, which `models` returned."""
    model = candidates[0]
    sources = [posixpath.join(model.place, f"{part}.{model.end}") for part in ("cameras", "images")]
    cameras, images = {}, []
    problems: list[Problem] = []
    contents = [_content(folder, label, max_bytes, problems) for label in sources]
    for label, content in zip(sources, contents, strict=True):
        try:
            if content is not None and "cameras" in posixpath.basename(label):
                cameras = colmap_files.read_cameras(content, model.end == "txt")
            elif content is not None:
                images = colmap_files.read_images(content, model.end == "txt")
        except ValueError as e:
            problems += of_error(label, e)
    if problems:
        return Listing((), tuple(problems), (), None, "", stored_pixels=True)
    if not images:
        problems.append(problem(sources[1], "images", "no image with a pose", "at least 2"))
    images = sorted(images, key=lambda image: image.name)
    base = _base(folder, model, [image.name for image in images])
    photos, missing = [], []
    for image in images:
        label = posixpath.join(base, image.name.replace("\\", "/"))
        try:
            found, path = listing.find(folder, image.name, base)
        except ValueError as e:
            missing.append(Problem(label, f"path: {e}"))
            continue
        try:
            lens, size = _lens(image, cameras)
            T_world_cam, notes = _pose(image)
        except ValueError as e:
            problems += of_error(found.label, e)
            continue
        photos.append(PosedPhoto(found.label, path, T_world_cam, lens, size, None, notes=(*found.notes, *notes)))
    where = posixpath.join(model.place, f"*.{model.end}")
    findings = [finding("cameras", f"{counted(len(photos), 'posed photo')} from the COLMAP model {where}")]
    if base not in ("", "images"):
        findings.append(finding("cameras", f"the photos of the COLMAP model are in {base}/"))
    if len(candidates) > 1:
        others = [posixpath.join(m.place, f"*.{m.end}") for m in candidates[1:]]
        findings.append(
            finding("ignored", f"{counted(len(others), 'other COLMAP model')} not read ({named(others)})", others)
        )
    return Listing(
        tuple(photos), tuple(problems), tuple(findings), None, MEASURED, stored_pixels=True, missing=tuple(missing)
    )


def _content(folder: Folder, label: str, max_bytes: float, problems: list[Problem]) -> bytes | None:
    path = folder.path(label) if folder.has(label) else None
    if path is None:
        problems.append(
            problem(label, "path", "no such file in the folder", "cameras and images, both .bin or both .txt")
        )
        return None
    if path.stat().st_size > max_bytes:
        problems.append(problem(label, "bytes", path.stat().st_size, f"at most {max_bytes:.0f}"))
        return None
    return path.read_bytes()


def _base(folder: Folder, model: Model, names: list[str]) -> str:
    """The folder from which the names lead to most of the photos, looked for from the model upwards."""
    above, place = [model.place], model.place
    while place:
        place = posixpath.dirname(place)
        above.append(place)
    usual = ("input", "images", "photos", "") if "distorted" in model.place else PHOTOS
    bases = [posixpath.join(place, name).rstrip("/") for place in reversed(above) for name in usual]
    bases = [base for base in dict.fromkeys(bases) if base in folder.folders]
    few = names[:: max(1, len(names) // 20)]
    stems = {base: sum(_is_there(folder, base, name) for name in few) for base in bases}
    # A usual place wins a tie, so that an empty folder is complained about by its usual name.
    return max(bases, key=lambda base: stems[base]) if bases else ""


def _is_there(folder: Folder, base: str, name: str) -> bool:
    try:
        found, _ = listing.find(folder, name, base)
    except ValueError:
        return False
    return found.label.startswith(f"{base}/" if base else "")


def _lens(image: colmap_files.Posed, cameras: dict[int, colmap_files.Camera]) -> tuple[listing.Lens, tuple[int, int]]:
    camera = cameras.get(image.camera_id)
    if camera is None:
        raise ValueError(f"camera: got the id {image.camera_id}, needed one of the {len(cameras)} in the cameras file")
    if not all(0 < side < 1e6 for side in camera.size):
        raise ValueError(f"camera: got a size of {camera.size}, needed two positive numbers of pixels")
    return lenses.of_colmap(camera.model, camera.parameters), camera.size


def _pose(image: colmap_files.Posed) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        T_cv_world, notes = poses.rigid(image.T_cv_world)
        T_world_cv, _ = poses.rigid(np.linalg.inv(T_cv_world))
    except ValueError as e:
        raise ValueError(f"pose: got {e}, needed a finite rotation and translation") from e
    return from_opencv(torch.from_numpy(T_world_cv)).numpy(), notes
