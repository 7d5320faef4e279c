"""Lists of photos: which files there are and what is known of their cameras, before any pixel is read.

Poses are `T_world_cam` with OpenGL axes (see `camera`); intrinsics are in pixels with pixel centres at +0.5. A problem is one
line `file: field: got X, needed Y`. Readers return problems instead of raising them, so that one error can name all bad files.
"""

import os
from collections import Counter
from dataclasses import dataclass
from math import tan
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon_lib.photos.distortion import NONE, Coefficients

RIGID_TOLERANCE = 1e-3  # largest difference of RᵀR from the identity that is corrected; more is refused
ROUNDING = 1e-6  # a smaller difference of RᵀR from the identity is left alone, so float32 poses stay bit for bit


@dataclass(frozen=True)
class Lens:
    """The intrinsics that the input gives, in pixels or radians; `intrinsics` derives the others from the image's size."""

    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    fov_x_radians: float | None = None
    fov_y_radians: float | None = None
    distortion: Coefficients = NONE


@dataclass(frozen=True, eq=False)
class PosedPhoto:
    """One photo as the input lists it."""

    label: str  # path inside the photos folder, '/' between its parts
    path: Path
    T_world_cam: Float[np.ndarray, "4 4"] | None  # None, like the lens, for a photo without a camera
    lens: Lens | None
    size: tuple[int, int] | None  # width height for which the lens holds; None: the image's own
    held_out: bool | None  # None: the input gives no split
    pose_corrected: bool = False  # the rotation was not quite orthonormal, and was corrected


class Listing(NamedTuple):
    """All photos of a folder with the problems and findings of reading the list."""

    photos: tuple[PosedPhoto, ...]
    problems: tuple[str, ...]
    findings: tuple[dict, ...]
    up: np.ndarray | None  # unit vector in the world; None: the input does not say
    up_source: str  # where `up` comes from, in words
    canonical_rig: bool = False
    unposed: bool = False  # no photo has a camera
    stored_pixels: bool = False  # the cameras describe the pixels as stored, before EXIF orientation


def problem(file: str, field: str, got: object, needed: str) -> str:
    """One problem as a line `file: field: got X, needed Y`, printable whatever a damaged file holds."""
    line = f"{file}: {field}: got {str(got)[:200]}, needed {needed}"
    return "".join(c if c.isprintable() else "?" for c in line)


def finding(kind: str, text: str, files: tuple[str, ...] | list[str] = ()) -> dict:
    """Something that the user should know about the input; `ingest` describes the form."""
    return {"kind": kind, "text": text, "files": list(files)}


def intrinsics(lens: Lens, width: int, height: int) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) in pixels for an image of this size. Where not given, pixels are square and the centre is the middle."""
    fx = width / 2 / tan(lens.fov_x_radians / 2) if lens.fx is None else lens.fx
    fy = lens.fy
    if fy is None:
        fy = fx if lens.fov_y_radians is None else height / 2 / tan(lens.fov_y_radians / 2)
    return fx, fy, width / 2 if lens.cx is None else lens.cx, height / 2 if lens.cy is None else lens.cy


def rigid(T: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The pose, with its rotation made orthonormal if it deviates a little.

    Raises ValueError, whose text completes "got …", if it deviates by more, is mirrored or is not finite.
    """
    # `Cameras` holds float32, and products of its values must stay finite, too.
    if not np.isfinite(T).all() or np.abs(T).max() > 1e15:
        raise ValueError("a value that is not finite")
    if not np.allclose(T[3], [0, 0, 0, 1], rtol=0, atol=1e-6):
        raise ValueError(f"last row {T[3].tolist()}")
    R = T[:3, :3]
    deviation = np.abs(R.T @ R - np.eye(3)).max()
    if deviation > RIGID_TOLERANCE:
        raise ValueError(f"a rotation {deviation:.3g} away from orthonormal")
    if np.linalg.det(R) < 0:
        raise ValueError("a mirrored rotation, determinant -1")
    out = T.copy()
    if deviation > ROUNDING:
        u, _, vt = np.linalg.svd(R)
        out[:3, :3] = u @ vt
    return out


def inside(root: Path, label: str) -> Path | None:
    """The real path of `label` in `root` (a real path); None if it lies outside the folder, also through a link."""
    try:
        real = Path(os.path.realpath(root / label))
    except (OSError, ValueError):  # null bytes, lone surrogates, names too long
        return None
    return real if real.is_relative_to(root) and real != root else None


def is_file(path: Path) -> bool:
    """`Path.is_file`, but False for a name that is too long for the file system."""
    try:
        return path.is_file()
    except OSError:
        return False


def duplicates(listed: tuple[PosedPhoto, ...]) -> list[str]:
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
