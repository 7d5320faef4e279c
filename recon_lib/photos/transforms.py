"""Posed photos from `transforms*.json`: NeRF-synthetic, instant-ngp, nerfstudio, and the files that `scene` writes.

NeRF-synthetic: `transforms_train.json`, with the photos of `transforms_test.json` held out; those of `transforms_val.json`
are held out if there is no test file, and not read otherwise. instant-ngp: one `transforms.json` with lens and size per
frame or, for frames without them, at the top level. nerfstudio adds `mask_path` per frame and lists of `train_filenames`,
`val_filenames`, `test_filenames`; photos of the last two are held out. `scene` adds `held_out` per frame, and `up`, `offset`
and `canonical_rig` at the top level. Poses are camera-to-world with OpenGL axes. Up is z by convention unless the file gives
it.
"""

import json
import posixpath

import numpy as np

from recon_lib.photos import listing, values
from recon_lib.photos.findings import Problem, counted, finding, named, problem
from recon_lib.photos.folder import Folder
from recon_lib.photos.listing import Listing, PosedPhoto
from recon_lib.photos.values import Tables, describe

COLMAP_MARKS = ("colmap_im_id", "applied_transform", "ply_file_path")  # keys of files that were made from COLMAP's
LISTS = ("train_filenames", "val_filenames", "test_filenames")


def is_source(label: str) -> bool:
    """Whether the file's name is one of `transforms*.json`."""
    name = posixpath.basename(label)
    return name.startswith("transforms") and name.endswith(".json")


def read(folder: Folder, place: str, max_bytes: float) -> Listing:
    """Lists the photos of the files in `place`, a folder in the folder. Problems are returned."""
    names = [n for n in folder.labels if is_source(n) and posixpath.dirname(n) == place]
    files, problems = _choose_files(names)
    photos, missing, findings, canonical, from_colmap = [], [], [], False, False
    up, up_source, firm = np.array([0.0, 0.0, 1.0]), "z, the convention of transforms.json", False
    for name, held_out in files:
        data, unreadable = parse(folder, name, max_bytes)
        problems += unreadable
        if data is None:
            continue
        more, without, wrong = _read_frames(folder, name, data, held_out)
        photos += more
        missing += without
        problems += wrong
        # Train and test share one world, so the first file that gives `up` gives it for both.
        given = values.read_up(name, data, problems)
        if given is not None and not firm:
            up, up_source, firm = given, f"as given in {name}", True
        if data.get("orientation_override") == "none" and not firm:
            up_source, firm = f"z, as {name} says that its world is level (orientation_override)", True
        if "applied_transform" in data:
            text = f"{name} has an applied_transform: its poses have it already, and are taken as written"
            findings.append(finding("applied_transform", text))
        canonical = canonical or values.read_flag(name, data, "canonical_rig", problems)
        frames = data.get("frames") if isinstance(data.get("frames"), list) else []
        marked = [table for table in (data, *frames) if isinstance(table, dict) and table.keys() & set(COLMAP_MARKS)]
        from_colmap = from_colmap or bool(marked)
        findings.append(finding("cameras", f"{counted(len(more), 'posed photo')} from {name}"))
        if unlisted := len(frames) - len(more) - len(without):
            text = f"{counted(unlisted, 'frame')} of {name} left out: in none of its lists {', '.join(LISTS)}"
            findings += [finding("ignored", text)] if not wrong else []
    if unread := [name for name in names if name not in dict(files)]:
        findings.append(
            finding("ignored", f"{counted(len(unread), 'file')} of cameras not read ({named(unread)})", unread)
        )
    unique = tuple(dict.fromkeys(problems))
    return Listing(
        tuple(photos), unique, tuple(findings), up, up_source, firm, canonical, False, from_colmap, tuple(missing)
    )


def _choose_files(names: list[str]) -> tuple[list[tuple[str, bool | None]], list[Problem]]:
    """The files to read, each with `held_out` of its frames (None: the frames say it themselves), and the problems."""
    place = posixpath.dirname(names[0])
    whole, train, test, val = (
        posixpath.join(place, f"transforms{part}.json") for part in ("", "_train", "_test", "_val")
    )
    if whole in names and train in names:
        return [], [problem(whole, "form", f"{train} beside it", "only one of the two")]
    if whole in names:
        return [(whole, None)], []
    if train not in names:
        return [], [problem(", ".join(names), "form", "no training views", f"{train} or {whole}")]
    held = [name for name in (test, val) if name in names][:1]
    return ([(train, False), (held[0], True)] if held else [(train, None)]), []


def parse(folder: Folder, name: str, max_bytes: float) -> tuple[dict | None, list[Problem]]:
    """The content of a JSON file that holds an object; None with a problem otherwise."""
    path = folder.path(name)
    if path is None:
        return None, [problem(name, "path", "a link that leaves the folder", "a file in the folder")]
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


def _read_frames(
    folder: Folder, name: str, data: dict, held_out: bool | None
) -> tuple[list[PosedPhoto], list[Problem], list[Problem]]:
    """The photos, the frames without a photo, and the problems."""
    frames = data.get("frames")
    if "frames" not in data:
        return [], [], [problem(name, "frames", f"only the keys {sorted(data)}", "the missing key frames")]
    if not isinstance(frames, list) or not frames:
        return [], [], [problem(name, "frames", describe(frames), "a list of at least one frame")]
    # If one frame has the key held_out, the input gives the split for all.
    if held_out is None and any(isinstance(f, dict) and "held_out" in f for f in frames):
        held_out = False
    photos, missing = [], []
    problems: list[Problem] = []
    lists = [values.read_names(name, data, key, problems) for key in LISTS]
    base = posixpath.dirname(name)
    # A frame with a bad pose or lens stays listed with a simple one, so that faults of the photo itself are reported, too.
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict):
            problems.append(problem(name, f"frames[{i}]", describe(frame), "an object"))
            continue
        given = frame.get("file_path")
        if not isinstance(given, str) or not given:
            got = "no such key" if "file_path" not in frame else describe(given)
            problems.append(problem(name, f"frames[{i}] file_path", got, "the photo's path in the folder"))
            continue
        if any(lists):
            listed_in = [one is not None and given in one for one in lists]
            if not any(listed_in):
                continue
            held_out = not listed_in[0]
        label = posixpath.normpath(posixpath.join(base, given.replace("\\", "/")))
        try:
            found, path = listing.find(folder, given, base)
        except ValueError as e:
            missing.append(Problem(label, f"file_path: {e}"))
            continue
        tables = Tables(found.label, frame, name, data)
        pose, notes = values.read_pose(tables, problems)
        lens, size = values.read_lens(tables, problems), values.read_size(tables, problems)
        held = values.read_flag(found.label, frame, "held_out", problems) or held_out
        pose = np.eye(4) if pose is None else pose
        notes += (values.R8,) if any(lens.distortion.radial[3:]) and not lens.distortion.fisheye else ()
        mask = _find_mask(folder, found.label, frame, base, problems)
        photos.append(PosedPhoto(found.label, path, pose, lens, size, held, mask, (*found.notes, *notes)))
    return photos, missing, problems


def _find_mask(folder: Folder, label: str, frame: dict, base: str, problems: list[Problem]) -> str | None:
    given = frame.get("mask_path")
    if given is None:
        return None
    if not isinstance(given, str) or not given:
        problems.append(problem(label, "mask_path", describe(given), "the mask's path in the folder"))
        return None
    try:
        return listing.find(folder, given, base)[0].label
    except ValueError as e:
        problems.append(Problem(label, f"mask_path: {e}"))
        return None
