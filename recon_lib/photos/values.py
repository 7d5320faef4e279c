"""Values of a `transforms.json`: each is checked, and what is wrong is a problem with the file and the key."""

import json
import math
from typing import Any, NamedTuple

import numpy as np

from recon_lib.photos import poses
from recon_lib.photos.distortion import Distortion
from recon_lib.photos.findings import Problem, problem
from recon_lib.photos.lenses import UNDISTORT
from recon_lib.photos.listing import Lens

# keys that mean another camera model; each is refused by name
OTHER_MODELS = ("ftheta_p0", "ftheta_p1", "latlong", "equirectangular", "orthographic", "k5", "k6")
PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE", "perspective")
FISHEYE_MODELS = ("OPENCV_FISHEYE",)
R8 = "lens_k4"  # a photo whose lens has a k4; `ingest` says it in words
OF_LENS = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")


class Tables(NamedTuple):
    """Where a frame's values stand: in the frame itself, else at the top level of its file."""

    where: str  # the photo, for problems
    frame: dict
    name: str  # the file
    top: dict

    def find(self, key: str) -> tuple[Any, str]:
        """The value, None if neither has it, and what it is named after."""
        table, file = (self.frame, self.where) if key in self.frame else (self.top, self.name)
        return table.get(key), file


def read_pose(tables: Tables, problems: list[Problem]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The frame's pose and what was done to it; None, with a problem, if it is not rigid."""
    where, frame = tables.where, tables.frame
    needed = "4 rows of 4 finite numbers: rotation and translation, camera to world"
    if "transform_matrix" not in frame:
        problems.append(problem(where, "transform_matrix", "no such key", needed))
        return None, ()
    rows = frame["transform_matrix"]
    if not (isinstance(rows, list) and len(rows) == 4 and all(isinstance(r, list) and len(r) == 4 for r in rows)):
        lengths = (
            [len(r) if isinstance(r, list) else describe(r) for r in rows] if isinstance(rows, list) else describe(rows)
        )
        problems.append(problem(where, "transform_matrix", f"rows of {lengths}", needed))
        return None, ()
    if wrong := [value for row in rows for value in row if not is_number(value)]:
        problems.append(problem(where, "transform_matrix", describe(wrong[0]), needed))
        return None, ()
    try:
        return poses.rigid(np.array([[float(value) for value in row] for row in rows]))
    except ValueError as e:
        problems.append(problem(where, "transform_matrix", e, needed))
        return None, ()


def read_lens(tables: Tables, problems: list[Problem]) -> Lens:
    """The frame's lens. A focal length or angle of the frame itself goes before any at the top level."""
    before = len(problems)
    frame, top = tables.frame, tables.top
    for key in OTHER_MODELS:
        value, file = tables.find(key)
        if value not in (None, False, 0):
            needed = f"0: a pinhole with k1 … k4 p1 p2, or OPENCV_FISHEYE{UNDISTORT}"
            problems.append(problem(file, key, describe(value), needed))
    model, _ = tables.find("camera_model")
    flag, of_flag = tables.find("is_fisheye")
    if flag not in (None, True, False):
        problems.append(problem(of_flag, "is_fisheye", describe(flag), "true or false"))
    fisheye = model in FISHEYE_MODELS or flag is True
    if model is not None and model not in PINHOLE_MODELS and not fisheye:
        known = ", ".join((*PINHOLE_MODELS[:5], *FISHEYE_MODELS))
        problems.append(problem(tables.name, "camera_model", describe(model), f"one of {known}{UNDISTORT}"))
    own = bool(frame.keys() & set(OF_LENS))  # then the top level's focal length is another lens's

    def number(key: str, low: float = -math.inf, high: float = math.inf, needed: str = "a finite number"):
        value, file = tables.find(key)
        if key in OF_LENS and own and key not in frame:
            return None
        if key not in frame and key not in top:
            return None
        if not is_number(value) or not low < value < high:
            problems.append(problem(file, key, describe(value), needed))
            return None
        return float(value)

    fx, fy = (number(key, 0.0, math.inf, "a positive, finite number of pixels") for key in ("fl_x", "fl_y"))
    fov_x, fov_y = (number(k, 0.0, math.pi, "radians between 0 and pi") for k in ("camera_angle_x", "camera_angle_y"))
    cx, cy = (number(key) for key in ("cx", "cy"))
    k1, k2, k3, k4, p1, p2 = (number(key) or 0.0 for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if not {"fl_x", "camera_angle_x"} & (frame.keys() | top.keys()):
        problems.append(problem(tables.name, "fl_x", "neither fl_x nor camera_angle_x", "one of the two keys"))
    if len(problems) > before:
        return Lens(fx=1.0)
    # In these files k4 is r⁸'s, as nerfstudio and Metashape have it; OpenCV's k4, a divisor, comes with k5 and k6.
    lens = Distortion((k1, k2, k3, k4), (0.0, 0.0) if fisheye else (p1, p2), fisheye=fisheye)
    return Lens(fx, fy, cx, cy, fov_x, fov_y, lens)


def read_size(tables: Tables, problems: list[Problem]) -> tuple[int, int] | None:
    """Width and height for which the lens holds; None if not given."""
    given = {}
    for key in ("w", "h"):
        value, file = tables.find(key)
        if key in tables.frame or key in tables.top:
            if is_number(value) and 0 < value < 1e9 and value == int(value):
                given[key] = int(value)  # instant-ngp writes 800.0
            else:
                problems.append(problem(file, key, describe(value), "a positive whole number of pixels"))
    if len(given) == 1:
        problems.append(problem(tables.where, "w, h", f"only {given}", "both or none"))
    return (given["w"], given["h"]) if len(given) == 2 else None


def read_up(name: str, data: dict, problems: list[Problem]) -> np.ndarray | None:
    """The direction that the file itself gives, a unit vector; None if it gives none."""
    if "up" not in data:
        return None
    up = data["up"]
    if not (isinstance(up, list) and len(up) == 3 and all(is_number(v) for v in up) and np.linalg.norm(up) > 1e-9):
        problems.append(problem(name, "up", describe(up), "three finite numbers that give a direction"))
        return None
    up = np.array(up, dtype=float)
    return up / np.linalg.norm(up)


def read_flag(where: str, table: dict, key: str, problems: list[Problem]) -> bool:
    """A value that is true or false; absent is false."""
    value = table.get(key, False)
    if not isinstance(value, bool):
        problems.append(problem(where, key, describe(value), "true or false"))
    return value is True


def read_names(name: str, data: dict, key: str, problems: list[Problem]) -> list[str] | None:
    """A list of paths; None if absent."""
    names = data.get(key)
    if key in data and not (isinstance(names, list) and all(isinstance(one, str) for one in names)):
        problems.append(problem(name, key, describe(names), "a list of paths"))
        return None
    return names


def is_number(value: object) -> bool:
    """Whether the value is a finite JSON number; true and false are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e30  # false for NaN too; a float32 still holds it


def describe(value: object) -> str:
    """The value as a problem shows it."""
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return json.dumps(value)[:80]
