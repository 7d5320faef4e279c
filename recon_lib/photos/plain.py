"""Reads a folder that has only photos: the six named views, whose cameras are known, or photos without cameras."""

import math
import posixpath

import numpy as np

from recon_lib import camera
from recon_lib.photos import folder as folders
from recon_lib.photos import listing
from recon_lib.photos.findings import Problem, finding, problem
from recon_lib.photos.folder import Folder
from recon_lib.photos.listing import Lens, Listing, PosedPhoto

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv")
PLACES = ("", *folders.IMAGE_FOLDERS)  # where photos without cameras are looked for


def read(folder: Folder, place: str) -> Listing | None:
    """Lists the photos in `place`, or in images/ there; None for a folder without photos."""
    for inner in PLACES:
        here = posixpath.join(place, inner).rstrip("/")
        labels = [n for n in folder.labels if posixpath.dirname(n) == here and folders.is_image(n)]
        stems = {folders.stem(n) for n in labels}
        labels = [n for n in labels if not (folders.is_mask(n) and folders.stem(n)[:-5] in stems)]
        names = {posixpath.basename(folders.stem(n)).lower(): n for n in labels}
        if len(labels) == 6 and set(names) == set(camera.CANONICAL_VIEWS) and inner == "":
            return _canonical(folder, names)
        if labels:
            return _without_cameras(folder, labels, set(names))
    return None


def _canonical(folder: Folder, files: dict[str, str]) -> Listing:
    rig = camera.canonical_six(1)
    lens = Lens(fov_x_radians=2 * math.atan(0.5 / camera.CANONICAL_FOCAL))
    poses = dict(zip(camera.CANONICAL_VIEWS, rig.T_world_cam.double().numpy(), strict=True))
    found, problems = _list(folder, {files[name]: poses[name] for name in poses}, lens)
    note = finding("cameras", "the canonical rig of six views: no poses are given with the photos")
    return Listing(found, problems, (note,), np.array((0.0, 1.0, 0.0)), "y, the rig's", True, canonical_rig=True)


def _without_cameras(folder: Folder, labels: list[str], stems: set[str]) -> Listing:
    found, problems = _list(folder, dict.fromkeys(labels), None)
    text = "none are given with the photos: searched for in the photos, else for backend reconviagen of stage 2 to find"
    if some := stems & set(camera.CANONICAL_VIEWS):
        text += f"; {', '.join(sorted(some))} alone are not the rig of six"
    up = np.array((0.0, 0.0, 1.0))
    source = "z, the frame of the mesh to come"
    return Listing(found, problems, (finding("cameras", text),), up, source, True, unposed=True)


def _list(
    folder: Folder, poses: dict[str, np.ndarray | None], lens: Lens | None
) -> tuple[tuple[PosedPhoto, ...], tuple[Problem, ...]]:
    found, problems = [], []
    for label, pose in poses.items():
        try:
            photo, path = listing.find(folder, label)
        except ValueError:
            problems.append(problem(label, "path", "a link out of the folder", "a file in the folder"))
            continue
        held = None if pose is None else False
        found.append(PosedPhoto(label, path, pose, lens, None, held, notes=photo.notes))
    return tuple(found), tuple(problems)
