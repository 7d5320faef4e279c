"""Posed photos from the table that RealityScan (once RealityCapture) exports as internal/external camera parameters, CSV.

Its columns are named in the first line: #name, x, y, alt, heading, pitch, roll, f, px, py, k1 … k4, t1, t2; those from f on
may be absent. The world is z up. At heading, pitch and roll 0 a camera looks down with north at the top; the angles are
degrees. f, px and py are millimetres on a film 36 mm wide, scaled by the photo's longer side; the distortion is Brown's.
"""

import csv
import posixpath

import numpy as np
from scipy.spatial.transform import Rotation

from recon_lib.photos import headers, listing
from recon_lib.photos.distortion import Distortion
from recon_lib.photos.findings import Problem, counted, finding, problem
from recon_lib.photos.folder import Folder
from recon_lib.photos.listing import Entry, Lens, Listing

FILM_MM = 36.0
HEAD = 2048  # bytes in which the file shows what it is
POSE = ("x", "y", "alt", "heading", "pitch", "roll")
OTHER_NAMES = {"yaw": "heading", "z": "alt"}


def sources(folder: Folder) -> list[str]:
    """The CSV files that hold such a table, those at the top first."""

    def is_table(head: bytes) -> bool:
        lines = head.decode("utf-8-sig", errors="replace").splitlines()
        return set(POSE) <= set(_columns(next((line for line in lines if line.startswith("#name")), "")))

    return folder.with_head(".csv", is_table, HEAD)


def read(folder: Folder, label: str, max_bytes: float) -> Listing:
    """Lists the photos of one table. Problems are returned."""
    path = folder.path(label)
    if path.stat().st_size > max_bytes:
        return Listing((), (problem(label, "bytes", path.stat().st_size, f"at most {max_bytes:.0f}"),), (), None, "")
    lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("#name"))
    columns, entries, problems = _columns(lines[start]), [], []
    base = posixpath.dirname(label)
    for number, row in enumerate(csv.reader(lines[start + 1 :]), start=start + 2):
        if not row or row[0].startswith("#"):
            continue
        try:
            values = {name: float(value) for name, value in list(zip(columns, row, strict=False))[1:]}
            entries.append(Entry(row[0], _pose(values), _lens(folder, row[0], base, values), None))
        except (ValueError, KeyError) as e:
            got = f"got {','.join(row)[:80]!r} ({e})"
            problems.append(Problem(label, f"line {number}: {got}, needed numbers for {', '.join(columns[1:])}"))
    photos, missing, wrong = listing.gather(folder, entries, base)
    text = f"{counted(len(photos), 'posed photo')} from RealityScan's {label}"
    up, source = np.array([0.0, 0.0, 1.0]), "z, as in all its exports"
    return Listing(
        tuple(photos), (*problems, *wrong), (finding("cameras", text),), up, source, True,
        missing=tuple(missing), sources=(label,),
    )  # fmt: skip


def _columns(line: str) -> list[str]:
    names = [name.strip().lstrip("#") for name in line.split(",")]
    return [OTHER_NAMES.get(name, name) for name in names]


def _pose(values: dict[str, float]) -> np.ndarray:
    x, y, alt, heading, pitch, roll = (values[name] for name in POSE)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("ZXY", [-heading, pitch, roll], degrees=True).as_matrix()
    T[:3, 3] = x, y, alt
    return T


def _lens(folder: Folder, name: str, base: str, values: dict[str, float]) -> Lens:
    """The lens in pixels, for which the photo's size is read; a lens for no photo where there is none."""
    try:
        _, path = listing.find(folder, name, base)
        width, height = headers.read_header(path, np.inf, np.inf).stored_size
    except ValueError:
        return Lens(fx=1.0)  # `gather` and the headers tell what is wrong with the photo
    scale = max(width, height) / FILM_MM
    cx, cy = width / 2 + values.get("px", 0.0) * scale, height / 2 + values.get("py", 0.0) * scale
    radial = tuple(values.get(f"k{i}", 0.0) for i in (1, 2, 3, 4))
    lens = Distortion(radial, (values.get("t1", 0.0), values.get("t2", 0.0)))
    return Lens(values["f"] * scale, values["f"] * scale, cx, cy, distortion=lens)
