"""Posed photos as two telephone apps export them: Polycam's raw data and Record3D's frames. Both worlds are ARKit's, y up.

Polycam: `keyframes/` with images/NAME.jpg and cameras/NAME.json, or corrected_images/ and corrected_cameras/, which go
before; t_00 … t_23 are the first three rows of camera-to-world with OpenGL axes, fx fy cx cy and the size are pixels.
Record3D: `metadata.json` beside rgb/0.jpg, rgb/1.jpg, …; `poses` has QX QY QZ QW TX TY TZ, camera-to-world with OpenGL axes,
per frame, `K` the lens by columns.
"""

import posixpath

import numpy as np
from scipy.spatial.transform import Rotation

from recon_lib.photos import folder as folders
from recon_lib.photos import listing, transforms
from recon_lib.photos.findings import Problem, counted, finding, problem
from recon_lib.photos.folder import Folder
from recon_lib.photos.listing import Entry, Lens, Listing
from recon_lib.photos.values import is_number

POLYCAM = {"corrected_cameras": "corrected_images", "cameras": "images"}
RECORD3D = ("rgb", "rgbd", "images", "")  # folders of the frames


def polycam_place(folder: Folder) -> str | None:
    """The folder of Polycam's cameras; None if there is none."""
    with_json = {posixpath.dirname(n) for n in folder.labels if n.endswith(".json")}
    for cameras, images in POLYCAM.items():
        for place in sorted(with_json):
            beside = posixpath.join(posixpath.dirname(place), images)
            if posixpath.basename(place) == cameras and beside in folder.folders:
                return place
    return None


def read_polycam(folder: Folder, place: str, max_bytes: float) -> Listing:
    """Lists the photos of Polycam's cameras in `place`. Problems are returned."""
    sources = tuple(n for n in folder.labels if posixpath.dirname(n) == place and n.endswith(".json"))
    base = posixpath.join(posixpath.dirname(place), POLYCAM[posixpath.basename(place)])
    entries, problems = [], []
    for label in sources:
        data, wrong = transforms.parse(folder, label, max_bytes)
        problems += wrong
        if data is None:
            continue
        keys = [f"t_{row}{column}" for row in range(3) for column in range(4)]
        needed = [*keys, "fx", "fy", "cx", "cy", "width", "height"]
        if bad := [key for key in needed if not is_number(data.get(key))]:
            problems.append(problem(label, bad[0], data.get(bad[0], "no such key"), "a number"))
            continue
        T = np.vstack([np.array([data[key] for key in keys], float).reshape(3, 4), [0, 0, 0, 1]])
        lens = Lens(float(data["fx"]), float(data["fy"]), float(data["cx"]), float(data["cy"]))
        name = posixpath.splitext(posixpath.basename(label))[0]
        entries.append(Entry(name, T, lens, (int(data["width"]), int(data["height"]))))
    return _listed(folder, entries, base, problems, f"Polycam's {place}/", sources)


def record3d_source(folder: Folder, max_bytes: float) -> str | None:
    """The label of Record3D's metadata; None if there is none."""
    for label in folder.labels:
        if posixpath.basename(label) in ("metadata.json", "metadata"):
            data, _ = transforms.parse(folder, label, max_bytes)
            known = data is not None and "poses" in data and "K" in data
            frames = posixpath.join(posixpath.dirname(label), "rgb")
            if known or _numbered(folder, frames):  # beside numbered frames it is theirs also when it is damaged
                return label
    return None


def read_record3d(folder: Folder, label: str, max_bytes: float) -> Listing:
    """Lists the frames of Record3D's metadata. Problems are returned."""
    data, problems = transforms.parse(folder, label, max_bytes)
    if data is None:
        return Listing((), tuple(problems), (), None, "", sources=(label,))
    place = posixpath.dirname(label)
    poses, K = data.get("poses"), data.get("K")
    rows = isinstance(poses, list) and all(
        isinstance(p, list) and len(p) == 7 and all(map(is_number, p)) for p in poses
    )
    if not rows or not (isinstance(K, list) and len(K) == 9 and all(map(is_number, K))):
        problems = [problem(label, "poses, K", "other values", "7 numbers per frame, and 9 for the lens")]
        return Listing((), tuple(problems), (), None, "", sources=(label,))
    size = (int(data["w"]), int(data["h"])) if is_number(data.get("w")) and is_number(data.get("h")) else None
    lens = Lens(float(K[0]), float(K[4]), float(K[6]), float(K[7]))
    images = {base: _numbered(folder, posixpath.join(place, base).rstrip("/")) for base in RECORD3D}
    base = max(images, key=lambda name: len(images[name]))
    entries = []
    for number, pose in enumerate(poses):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_quat(pose[:4]).as_matrix() if any(pose[:4]) else np.zeros((3, 3))
        T[:3, 3] = pose[4:]
        name = images[base].get(number, str(number))
        entries.append(Entry(name, T, lens, size))
    base = posixpath.join(place, base).rstrip("/")
    return _listed(folder, entries, base, problems, f"Record3D's {label}", (label,))


def _numbered(folder: Folder, place: str) -> dict[int, str]:
    """The images in `place` whose names are numbers, by number."""
    names = [posixpath.basename(n) for n in folder.labels if posixpath.dirname(n) == place and folders.is_image(n)]
    return {int(folders.stem(name)): name for name in names if folders.stem(name).isdecimal()}


def _listed(
    folder: Folder, entries: list[Entry], base: str, problems: list[Problem], source: str, sources: tuple[str, ...]
) -> Listing:
    photos, missing, wrong = listing.gather(folder, entries, base)
    said = (finding("cameras", f"{counted(len(photos), 'posed photo')} from {source}"),)
    up = np.array([0.0, 1.0, 0.0])
    return Listing(
        tuple(photos), (*problems, *wrong), said, up, "y, ARKit's", True, missing=tuple(missing), sources=sources
    )
