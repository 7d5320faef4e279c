"""Posed photos from `transforms*.json` in three forms: NeRF-synthetic, instant-ngp, and the files that `scene` writes.

NeRF-synthetic: `transforms_train.json`, with the photos of `transforms_test.json` held out; those of `transforms_val.json` are
held out if there is no test file, and not read otherwise. instant-ngp: one `transforms.json` with lens and size per frame or,
for frames without them, at the top level. `scene` adds `held_out` per frame, and `up` and `canonical_rig` at the top level.
Poses are camera-to-world with OpenGL axes; up is z unless the file says otherwise. Distortion is OpenCV's k1 k2 p1 p2.
"""

import json
import math
import posixpath
from pathlib import Path, PureWindowsPath

import numpy as np

from recon_lib.photos.listing import Lens, Listing, PosedPhoto, finding, inside, is_file, problem, rigid

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".PNG", ".JPG", ".JPEG", ".WEBP")
# keys that mean another camera model; each is refused by name
OTHER_MODELS = (
    "is_fisheye",
    "ftheta_p0",
    "ftheta_p1",
    "latlong",
    "equirectangular",
    "orthographic",
    "k3",
    "k4",
    "k5",
    "k6",
)
PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")


def is_source(name: str) -> bool:
    """Whether the file `name`, a path in the photos folder, is one of `transforms*.json`."""
    return "/" not in name and name.startswith("transforms") and name.endswith(".json")


def read(root: Path, max_bytes: float) -> Listing:
    """Lists the photos. `root` is a real path that holds at least one `transforms*.json`. Problems are returned."""
    names = sorted(path.name for path in root.glob("transforms*.json"))
    files, problems = _choose_files(names)
    photos, findings, canonical = [], [], False
    up, up_source = None, "z, the convention of transforms.json"
    for name, held_out in files:
        data, unreadable = _parse(root, name, max_bytes)
        problems += unreadable
        if data is None:
            continue
        more, wrong = _read_frames(root, name, data, held_out)
        photos += more
        problems += wrong
        # Train and test share one world, so the first file that gives `up` gives it for both.
        if up is None and (up := _read_up(name, data, problems)) is not None:
            up_source = f"as given in {name}"
        canonical = canonical or _read_flag(name, data, "canonical_rig", problems)
        findings.append(finding("cameras", f"{len(more)} posed photos from {name}"))
    if unread := [name for name in names if name not in dict(files)]:
        findings.append(finding("ignored", f"{len(unread)} files of cameras not read", unread))
    if up is None:
        up = np.array([0.0, 0.0, 1.0])
    return Listing(tuple(photos), tuple(dict.fromkeys(problems)), tuple(findings), up, up_source, canonical)


def _choose_files(names: list[str]) -> tuple[list[tuple[str, bool | None]], list[str]]:
    """The files to read, each with `held_out` of its frames (None: the frames say it themselves), and the problems."""
    train, test, val = (f"transforms_{part}.json" for part in ("train", "test", "val"))
    if "transforms.json" in names and train in names:
        return [], [problem("transforms.json", "form", f"{train} beside it", "only one of the two")]
    if "transforms.json" in names:
        return [("transforms.json", None)], []
    if train not in names:
        return [], [problem(", ".join(names), "form", "no training views", f"{train} or transforms.json")]
    held = [name for name in (test, val) if name in names][:1]
    return ([(train, False), (held[0], True)] if held else [(train, None)]), []


def _parse(root: Path, name: str, max_bytes: float) -> tuple[dict | None, list[str]]:
    path = inside(root, name)
    if path is None or not is_file(path):
        return None, [problem(name, "path", "a link out of the folder or no file", "a file in the folder")]
    try:
        if path.stat().st_size > max_bytes:
            return None, [problem(name, "bytes", path.stat().st_size, f"at most {max_bytes:.0f}")]
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as e:
        where = f"line {e.lineno} column {e.colno}: {e.msg}"
        return None, [problem(name, "JSON", where, "well-formed JSON")]
    except (OSError, ValueError, RecursionError) as e:  # not UTF-8, a number of 5000 digits, 100 000 brackets
        return None, [problem(name, "JSON", e, "readable, well-formed JSON in UTF-8")]
    if not isinstance(data, dict):
        return None, [problem(name, "JSON", f"a {type(data).__name__}", "an object with the key frames")]
    return data, []


def _read_frames(root: Path, name: str, data: dict, held_out: bool | None) -> tuple[list[PosedPhoto], list[str]]:
    frames = data.get("frames")
    if "frames" not in data:
        return [], [problem(name, "frames", f"only the keys {sorted(data)}", "the missing key frames")]
    if not isinstance(frames, list) or not frames:
        return [], [problem(name, "frames", _describe(frames), "a list of at least one frame")]
    # If one frame has the key held_out, the input gives the split for all.
    if held_out is None and any(isinstance(f, dict) and "held_out" in f for f in frames):
        held_out = False
    photos, problems = [], []
    # A frame with a bad pose or lens stays listed with a simple one, so that faults of the photo itself are reported, too.
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict):
            problems.append(problem(name, f"frames[{i}]", _describe(frame), "an object"))
            continue
        label, path = _find_photo(root, name, i, frame, problems)
        where = label or f"{name} frames[{i}]"
        pose = _read_pose(where, frame, problems)
        lens = _read_lens(where, name, frame, data, problems)
        size = _read_size(where, name, frame, data, problems)
        held = _read_flag(where, frame, "held_out", problems) or held_out
        if path is not None:
            corrected = pose is not None and not np.array_equal(pose, frame["transform_matrix"])
            photos.append(PosedPhoto(label, path, np.eye(4) if pose is None else pose, lens, size, held, corrected))
    return photos, problems


def _find_photo(root: Path, name: str, i: int, frame: dict, problems: list[str]) -> tuple[str | None, Path | None]:
    given = frame.get("file_path")
    if not isinstance(given, str) or not given:
        got = "no such key" if "file_path" not in frame else _describe(given)
        problems.append(problem(name, f"frames[{i}] file_path", got, "the photo's path in the folder"))
        return None, None
    if PureWindowsPath(given).drive or given.startswith(("/", "\\")):
        problems.append(problem(given, f"file_path ({name} frames[{i}])", "an absolute path", "one inside the folder"))
        return None, None
    label = posixpath.normpath(given.replace("\\", "/"))  # instant-ngp on Windows writes backslashes
    found = [f for f in (label, *(label + e for e in EXTENSIONS)) if is_file(root / f)] if "\0" not in label else []
    # On a file system that ignores case, r_0.png and r_0.PNG are one file.
    distinct = {str(inside(root, f)): f for f in reversed(found)}
    if label.startswith("..") or any(inside(root, f) is None for f in (label, *found)):
        problems.append(problem(label, "file_path", "a path that leaves the folder", "one inside the folder"))
    elif not found:
        problems.append(problem(label, "file_path", "no such file", "a photo, its extension may be left out"))
    elif label not in found and len(distinct) > 1:
        problems.append(problem(label, "file_path", f"the files {found}", "the extension, as there are several"))
    else:
        return found[0], inside(root, found[0])
    return label, None


def _read_pose(where: str, frame: dict, problems: list[str]) -> np.ndarray | None:
    needed = "4 rows of 4 finite numbers: rotation and translation, camera to world"
    if "transform_matrix" not in frame:
        problems.append(problem(where, "transform_matrix", "no such key", needed))
        return None
    rows = frame["transform_matrix"]
    if not (isinstance(rows, list) and len(rows) == 4 and all(isinstance(r, list) and len(r) == 4 for r in rows)):
        lengths = (
            [len(r) if isinstance(r, list) else _describe(r) for r in rows]
            if isinstance(rows, list)
            else _describe(rows)
        )
        problems.append(problem(where, "transform_matrix", f"rows of {lengths}", needed))
        return None
    if wrong := [value for row in rows for value in row if not _is_number(value)]:
        problems.append(problem(where, "transform_matrix", _describe(wrong[0]), needed))
        return None
    try:
        return rigid(np.array([[float(value) for value in row] for row in rows]))
    except ValueError as e:
        problems.append(problem(where, "transform_matrix", e, needed))
        return None


def _read_lens(where: str, name: str, frame: dict, data: dict, problems: list[str]) -> Lens:
    before = len(problems)
    for key in OTHER_MODELS:
        value = frame.get(key, data.get(key))
        if value not in (None, False, 0):
            problems.append(
                problem(where if key in frame else name, key, _describe(value), "a pinhole with k1 k2 p1 p2")
            )
    model = frame.get("camera_model", data.get("camera_model"))
    if model is not None and model not in PINHOLE_MODELS:
        problems.append(problem(name, "camera_model", _describe(model), f"one of {', '.join(PINHOLE_MODELS)}"))

    def number(key: str, low: float = -math.inf, high: float = math.inf, needed: str = "a finite number"):
        table, file = (frame, where) if key in frame else (data, name)
        value = table.get(key)
        if key not in table:
            return None
        if not _is_number(value) or not low < value < high:
            problems.append(problem(file, key, _describe(value), needed))
            return None
        return float(value)

    fx, fy = (number(key, 0.0, math.inf, "a positive, finite number of pixels") for key in ("fl_x", "fl_y"))
    fov_x, fov_y = (number(k, 0.0, math.pi, "radians between 0 and pi") for k in ("camera_angle_x", "camera_angle_y"))
    cx, cy = (number(key) for key in ("cx", "cy"))
    k1, k2, p1, p2 = (number(key) or 0.0 for key in ("k1", "k2", "p1", "p2"))
    if not {"fl_x", "camera_angle_x"} & (frame.keys() | data.keys()):
        problems.append(problem(name, "fl_x", "neither fl_x nor camera_angle_x", "one of the two keys"))
    return Lens(fx, fy, cx, cy, fov_x, fov_y, (k1, k2, p1, p2)) if len(problems) == before else Lens(fx=1.0)


def _read_size(where: str, name: str, frame: dict, data: dict, problems: list[str]) -> tuple[int, int] | None:
    given = {}
    for key in ("w", "h"):
        table, file = (frame, where) if key in frame else (data, name)
        if key in table:
            value = table[key]
            if _is_number(value) and 0 < value < 1e9 and value == int(value):
                given[key] = int(value)  # instant-ngp writes 800.0
            else:
                problems.append(problem(file, key, _describe(value), "a positive whole number of pixels"))
    if len(given) == 1:
        problems.append(problem(where, "w, h", f"only {given}", "both or none"))
    return (given["w"], given["h"]) if len(given) == 2 else None


def _read_up(name: str, data: dict, problems: list[str]) -> np.ndarray | None:
    if "up" not in data:
        return None
    up = data["up"]
    if not (isinstance(up, list) and len(up) == 3 and all(_is_number(v) for v in up) and np.linalg.norm(up) > 1e-9):
        problems.append(problem(name, "up", _describe(up), "three finite numbers that give a direction"))
        return None
    up = np.array(up, dtype=float)
    return up / np.linalg.norm(up)


def _read_flag(where: str, table: dict, key: str, problems: list[str]) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        problems.append(problem(where, key, _describe(value), "true or false"))
    return value is True


def _is_number(value: object) -> bool:
    """Whether the value is a finite JSON number; true and false are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e30  # false for NaN too; a float32 still holds it


def _describe(value: object) -> str:
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return json.dumps(value)[:80]
