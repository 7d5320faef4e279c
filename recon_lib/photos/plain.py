"""Reads a folder that has only photos: the six named views, whose cameras are known, or photos without cameras."""

import math
from pathlib import Path

import numpy as np

from recon_lib import camera
from recon_lib.photos import decode, listing
from recon_lib.photos.listing import Lens, Listing, PosedPhoto, finding, problem

FORMS = """needed one of
  transforms.json, or transforms_train.json with transforms_test.json, and the photos they name;
  a COLMAP model (cameras, images, points3D; .bin or .txt) in the folder, sparse/, sparse/0/ or colmap/sparse/0/;
  exactly six square images named front, back, right, left, top, bottom;
  photos without cameras, in the folder or in images/, for backend reconviagen to find them"""


def read(root: Path) -> Listing:
    """Lists the photos in `root`, or in `root`/images. Raises ValueError for a folder without photos."""
    for folder in (root, root / "images"):
        paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in decode.SUFFIXES)
        stems = {path.stem.lower() for path in paths}
        if len(paths) == 6 and stems == set(camera.CANONICAL_VIEWS) and folder == root:
            return _canonical(root, {path.stem.lower(): path for path in paths})
        if paths:
            return _without_cameras(root, paths, stems)
    raise ValueError(f"{root}: photos: got no photos, {FORMS}")


def _canonical(root: Path, files: dict[str, Path]) -> Listing:
    rig = camera.canonical_six(1)
    lens = Lens(fov_x_radians=2 * math.atan(0.5 / camera.CANONICAL_FOCAL))
    poses = dict(zip(camera.CANONICAL_VIEWS, rig.T_world_cam.double().numpy(), strict=True))
    found, problems = _list_inside(root, {files[name].name: poses[name] for name in poses}, lens)
    note = finding("cameras", "the canonical rig of six views: no poses are given with the photos")
    return Listing(found, problems, (note,), np.array((0.0, 1.0, 0.0)), "y, the rig's", canonical_rig=True)


def _without_cameras(root: Path, paths: list[Path], stems: set[str]) -> Listing:
    found, problems = _list_inside(root, {path.relative_to(root).as_posix(): None for path in paths}, None)
    text = "none are given with the photos: stage 2 finds them, which takes backend reconviagen"
    if some := stems & set(camera.CANONICAL_VIEWS):
        text += f"; {', '.join(sorted(some))} alone are not the rig of six"
    up = np.array((0.0, 0.0, 1.0))
    return Listing(found, problems, (finding("cameras", text),), up, "z, the frame of the mesh to come", unposed=True)


def _list_inside(
    root: Path, poses: dict[str, np.ndarray | None], lens: Lens | None
) -> tuple[tuple[PosedPhoto, ...], tuple[str, ...]]:
    found, problems = [], []
    for label, pose in poses.items():
        path = listing.inside(root, label)
        if path is None or not listing.is_file(path):
            problems.append(problem(label, "path", "a link out of the folder or no file", "a file in the folder"))
            continue
        found.append(PosedPhoto(label, path, pose, lens, None, None if pose is None else False))
    return tuple(found), tuple(problems)
