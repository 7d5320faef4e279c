"""Lists of photos: which files there are and what is known of their cameras, before any pixel is read.

Poses are `T_world_cam` with OpenGL axes (see `camera`); intrinsics are in pixels with pixel centres at +0.5. Readers return
problems (see `findings`) instead of raising them.
"""

import os
from collections import Counter
from dataclasses import dataclass
from math import tan
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon_lib.photos import folder as folders
from recon_lib.photos import poses
from recon_lib.photos.distortion import NONE, Distortion
from recon_lib.photos.findings import Problem, problem
from recon_lib.photos.folder import Folder, Found

LEAST_SHARE, LEAST_COUNT = (
    0.8,
    3,
)  # a folder with a smaller share, or fewer, of the photos that its cameras name is refused


@dataclass(frozen=True)
class Lens:
    """The intrinsics that the input gives, in pixels or radians; `intrinsics` derives the others from the image's size."""

    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    fov_x_radians: float | None = None
    fov_y_radians: float | None = None
    distortion: Distortion = NONE


@dataclass(frozen=True, eq=False)
class PosedPhoto:
    """One photo as the input lists it."""

    label: str  # path inside the photos folder, '/' between its parts
    path: Path
    T_world_cam: Float[np.ndarray, "4 4"] | None  # None, like the lens, for a photo without a camera
    lens: Lens | None
    size: tuple[int, int] | None  # width height for which the lens holds; None: the image's own
    held_out: bool | None  # None: the input gives no split
    mask: str | None = None  # label of the mask that the input names for this photo
    notes: tuple[str, ...] = ()  # how the entry was read otherwise than written: keys of ingest.CONVERSIONS


class Listing(NamedTuple):
    """All photos of a folder with the problems and findings of reading the list."""

    photos: tuple[PosedPhoto, ...]
    problems: tuple[Problem, ...]
    findings: tuple[dict, ...]
    up: np.ndarray | None  # unit vector in the world that the input or a convention gives; None: the cameras must tell
    up_source: str  # where `up` comes from, in words
    up_is_firm: bool = False  # the input itself gives `up`, not a convention
    canonical_rig: bool = False
    unposed: bool = False  # no photo has a camera
    stored_pixels: bool = False  # the cameras describe the pixels as stored, before EXIF orientation
    missing: tuple[Problem, ...] = ()  # cameras without a photo
    sources: tuple[str, ...] = ()  # labels of the files that were read for the list


def find(folder: Folder, given: str, base: str = "") -> tuple[Found, Path]:
    """The photo that `given` means (see `folder.find_photo`) and its real path, which is never outside by accident.

    Raises ValueError, "got X, needed Y".
    """
    found = folders.find_photo(folder, given, base)
    path = folder.path(found.label)
    if path is None:
        raise ValueError("got a link that leaves the folder, needed the file itself: copy the folder with `cp -rL`")
    if folder.leads_elsewhere(found.label):
        found = Found(found.label, (*found.notes, folders.LINK))
    return found, path


class Entry(NamedTuple):
    """One photo as a program's export names it."""

    name: str
    T_world_cam: Float[np.ndarray, "4 4"]
    lens: Lens
    size: tuple[int, int] | None


def gather(folder: Folder, entries: list[Entry], base: str) -> tuple[list[PosedPhoto], list[Problem], list[Problem]]:
    """The photos of the entries, whose names are paths from `base`; the entries without a photo; and the problems."""
    photos, missing, problems = [], [], []
    for entry in entries:
        try:
            found, path = find(folder, entry.name, base)
        except ValueError as e:
            missing.append(Problem(entry.name, f"path: {e}"))
            continue
        try:
            T_world_cam, notes = poses.rigid(entry.T_world_cam)
        except ValueError as e:
            problems.append(problem(found.label, "pose", e, "a rotation and a translation, camera to world"))
            continue
        if wrong := _impossible(entry):
            problems.append(problem(found.label, "camera", wrong, "finite numbers, a positive focal length and size"))
            continue
        notes = (*found.notes, *notes)
        photos.append(PosedPhoto(found.label, path, T_world_cam, entry.lens, entry.size, None, notes=notes))
    return photos, missing, problems


def _impossible(entry: Entry) -> str:
    """What is wrong with the numbers of an entry's camera; empty if nothing is."""
    lens = entry.lens
    values = [
        v for v in (lens.fx, lens.fy, lens.cx, lens.cy, *lens.distortion.radial, *lens.distortion.tangential) if v
    ]
    if not np.isfinite(values).all() or max(map(abs, values), default=0) > 1e30:
        return f"numbers {values}"
    if not lens.fx > 0 or (lens.fy is not None and not lens.fy > 0):
        return f"focal lengths {lens.fx} and {lens.fy}"
    return "" if entry.size is None or min(entry.size) > 0 else f"a size of {entry.size}"


def check_missing(listed: Listing) -> tuple[Problem, ...]:
    """The cameras without a photo as problems, where too few of the photos are left to go on without them."""
    present, all_of = len(listed.photos), len(listed.photos) + len(listed.missing)
    enough = present >= LEAST_COUNT and present >= LEAST_SHARE * all_of
    return () if enough else listed.missing


def intrinsics(lens: Lens, width: int, height: int) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) in pixels for an image of this size. Where not given, pixels are square and the centre is the middle."""
    fx = width / 2 / tan(lens.fov_x_radians / 2) if lens.fx is None else lens.fx
    fy = lens.fy
    if fy is None:
        fy = fx if lens.fov_y_radians is None else height / 2 / tan(lens.fov_y_radians / 2)
    return fx, fy, width / 2 if lens.cx is None else lens.cx, height / 2 if lens.cy is None else lens.cy


def duplicates(listed: tuple[PosedPhoto, ...]) -> list[Problem]:
    """The problems of photos that are listed twice, and of photos whose names (`names`) would clash."""
    files = Counter(photo.path for photo in listed)
    repeated = {photo.path: photo.label for photo in listed if files[photo.path] > 1}
    problems = [
        problem(label, "file_path", f"{files[path]} frames of one file", "one") for path, label in repeated.items()
    ]
    labels = list(dict.fromkeys(photo.label for photo in listed if photo.path not in repeated))
    name_of = dict(zip(labels, names(labels), strict=True))
    count = Counter(name.lower() for name in name_of.values())
    clashing = [label for label, name in name_of.items() if count[name.lower()] > 1]
    return problems + [
        problem(label, "name", f"{name_of[label]} twice", "names unlike each other") for label in clashing
    ]


def names(labels: list[str]) -> tuple[str, ...]:
    """The photos' names: their file names without extension or, if two share one, with their folders in front: train_r_0."""
    paths = [PurePosixPath(label).with_suffix("") for label in labels]
    if len({path.name.lower() for path in paths}) == len(paths):
        return tuple(path.name for path in paths)
    shared = os.path.commonpath([path.parent for path in paths])
    return tuple("_".join(path.relative_to(shared).parts) for path in paths)
