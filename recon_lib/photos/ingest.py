"""Reads a folder of photos of one object into a scene. All input is checked here; later stages rely on that.

There are four forms of a folder, recognised by its content; the first that fits is used: `transforms*.json` (see `transforms`),
a COLMAP model (see `colmap`), exactly six square images named front, back, right, left, top, bottom (`camera.canonical_six`),
and photos without cameras (see `plain`). Masks are files in `masks/` (see `masks`), or else the photos' alpha.

Reading writes nothing. All problems are reported in one ValueError, one line `file: field: got X, needed Y` per problem. A
finding is {"kind": one word, "text": a sentence, "files": the photos that it is about}.
"""

import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from recon_lib.camera import Cameras
from recon_lib.photos import colmap, decode, distortion, listing, masks, plain, transforms
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.listing import Listing, PosedPhoto, finding, problem
from recon_lib.photos.scene import Scene
from recon_lib.progress import Progress, silent

UPS = {
    "x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0), "-y": (0.0, -1.0, 0.0), "-z": (0.0, 0.0, -1.0),
}  # fmt: skip
LEAST_TO_HOLD_OUT = 10  # with fewer photos than this, none is held out


CONVERSIONS = decode.NOTES | {
    "mask_files": "masked by files in masks/",
    "alpha": "masked by their own alpha",
    "undistorted": "freed of lens distortion",
    "pose": "with a rotation made orthonormal, which it was but for rounding",
}


@dataclass(frozen=True, eq=False)
class Ingested:
    """The scene, and what was noticed while reading it."""

    scene: Scene
    findings: list[dict]


class View(NamedTuple):
    """One photo, decoded, masked and freed of distortion."""

    rgba: np.ndarray  # H W 4 uint8, straight alpha, sRGB
    intrinsics: tuple[float, float, float, float] | None  # fx fy cx cy, pixels
    notes: tuple[str, ...]  # keys of CONVERSIONS


def read(folder: Path, config: IngestConfig, progress: Progress = silent) -> Ingested:
    """Reads and checks the folder. Raises one ValueError with a line per problem."""
    _check(config)
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: got no such folder, needed the folder of the photos")
    root = Path(os.path.realpath(folder))
    listed = _list_photos(root, config.max_total_mb * 1e6)
    mask_of, unclear = masks.find(root, listed.photos)
    problems = [*listed.problems, *unclear, *listing.duplicates(listed.photos)]
    headers, mask_headers, wrong = _read_headers(root, listed, mask_of, config)
    problems += wrong

    views, notes, undecodable = _decode(root, listed, mask_of, headers, mask_headers, progress)
    problems += undecodable
    up, up_source, wrong = _choose_up(listed, config)
    held_out, split_source, unsplit = _split(listed, config)
    # If some photos could not be listed, a complaint about their number would mislead.
    problems += wrong + ([] if problems else unsplit)
    if problems:
        unique = list(dict.fromkeys(problems))
        raise ValueError(f"{folder}: {len(unique)} problem{'s' * (len(unique) > 1)}\n" + "\n".join(unique))

    labels = [photo.label for photo in listed.photos]
    held = [label for label, out in zip(labels, held_out, strict=True) if out]
    findings = [
        *listed.findings,
        finding("photos", f"{len(labels)} photos used", labels),
        finding("split", f"{len(held)} of {len(labels)} photos held out: {split_source}", held),
        finding("up", f"up is {np.round(up, 4).tolist()}: {up_source}"),
        *(finding(note, f"{len(files)} photos {CONVERSIONS[note]}", files) for note, files in notes.items()),
        *_find_ignored(root, listed.photos, mask_of),
    ]
    return Ingested(_scene(listed, views, held_out, up), findings)


def _decode(
    root: Path, listed: Listing, mask_of: dict[str, str], headers: list[decode.Header | None],
    mask_headers: dict[str, decode.Header], progress: Progress,
) -> tuple[list[View], dict[str, list[str]], list[str]]:  # fmt: skip
    """The photos that can be read, the labels of the photos by the conversion that they needed, and the problems."""
    views: list[View] = []
    notes, problems = defaultdict(list), []
    for i, (photo, header) in enumerate(zip(listed.photos, headers, strict=True)):
        mask = mask_of.get(photo.label)
        if header is not None and (mask is None or mask in mask_headers):
            try:
                view = _read_view(root, photo, header, mask, mask_headers.get(mask), listed.stored_pixels)
                views.append(view)
                for note in view.notes:
                    notes[note].append(photo.label)
            except ValueError as e:
                problems += [f"{photo.label}: {line}" for line in str(e).splitlines()]
        progress((i + 1) / len(headers), photo.label)
    return views, notes, problems


def _scene(listed: Listing, views: list[View], held_out: np.ndarray, up: np.ndarray) -> Scene:
    cameras = None
    if not listed.unposed:
        cameras = Cameras(
            torch.from_numpy(np.stack([photo.T_world_cam for photo in listed.photos])).float(),
            torch.tensor([view.intrinsics for view in views], dtype=torch.float32),
            torch.tensor([view.rgba.shape[1::-1] for view in views]),
        )
    labels = [photo.label for photo in listed.photos]
    names = listing.names([label.lower() for label in labels] if listed.canonical_rig else labels)
    return Scene(names, tuple(view.rgba for view in views), cameras, held_out, up, listed.canonical_rig)


def _check(config: IngestConfig) -> None:
    if config.up != "auto" and config.up not in UPS:
        raise ValueError(f"up: got {config.up!r}, needed auto or one of {', '.join(UPS)}")
    if config.holdout_every < 0 or config.holdout_every == 1:
        raise ValueError(f"holdout_every: got {config.holdout_every}, needed 0 (none) or at least 2")
    for knob in ("max_file_mb", "max_total_mb", "max_megapixels", "max_total_megapixels"):
        if not getattr(config, knob) > 0:
            raise ValueError(f"{knob}: got {getattr(config, knob)}, needed a positive number")


def _list_photos(root: Path, max_bytes: float) -> Listing:
    if any(root.glob("transforms*.json")):
        return transforms.read(root, max_bytes)
    if (model := colmap.find(root)) is not None:
        return colmap.read(root, model, max_bytes)
    return plain.read(root)


def _read_headers(
    root: Path, listed: Listing, mask_of: dict[str, str], config: IngestConfig
) -> tuple[list[decode.Header | None], dict[str, decode.Header], list[str]]:
    """The photos' headers (None for a photo that must not be decoded), the masks' headers by path, and the problems."""
    problems: list[str] = []

    def header(label: str, path: Path) -> decode.Header | None:
        try:
            return decode.read_header(path, config.max_file_mb, config.max_megapixels)
        except ValueError as e:
            problems.append(f"{label}: {e}")
            return None

    of_photos = [header(photo.label, photo.path) for photo in listed.photos]
    of_masks = {label: header(label, root / label) for label in dict.fromkeys(mask_of.values())}
    of_masks = {label: found for label, found in of_masks.items() if found is not None}
    found = [*filter(None, of_photos), *of_masks.values()]
    for field, total, limit, unit in (
        ("bytes", sum(h.bytes for h in found) / 1e6, config.max_total_mb, "MB"),
        ("pixels", sum(math.prod(h.stored_size) for h in found) / 1e6, config.max_total_megapixels, "megapixels"),
    ):
        if total > limit:
            problems.append(problem("all files", field, f"{total:.1f} {unit}", f"at most {limit:g} {unit} in all"))
            of_photos = [None] * len(of_photos)
    if listed.canonical_rig and None not in of_photos:
        width = Counter(h.upright_size[0] for h in of_photos).most_common(1)[0][0]
        for photo, h in zip(listed.photos, of_photos, strict=True):
            if h.upright_size != (width, width):
                needed = f"{_by((width, width))}: the six are square and of one size"
                problems.append(problem(photo.label, "size", _by(h.upright_size), needed))
    return of_photos, of_masks, problems


def _read_view(
    root: Path,
    photo: PosedPhoto,
    header: decode.Header,
    mask: str | None,
    mask_header: decode.Header | None,
    stored_pixels: bool,
) -> View:
    # A camera for stored pixels has the upright size only if the photo was turned before the camera was made.
    upright = not stored_pixels or (photo.size != header.stored_size and photo.size == header.upright_size)
    rgba, notes = decode.read_rgba(photo.path, header.orientation if upright else 1)
    size = rgba.shape[1::-1]
    if photo.size not in (None, size):
        raise ValueError(f"size: got {_by(size)}, needed {_by(photo.size)} as its intrinsics")
    if mask is not None:
        alpha = decode.read_mask(root / mask, mask_header.orientation)
        if alpha.shape != rgba.shape[:2]:
            raise ValueError(f"mask: got {_by(alpha.shape[::-1])} in {mask}, needed {_by(size)} as the photo")
        rgba = np.dstack([rgba[..., :3], alpha])
    elif (rgba[..., 3] == 255).all():
        raise ValueError("mask: got neither transparency nor a file in masks/, needed one of them")
    decode.check_mask(rgba[..., 3])
    if photo.lens is None:
        return View(rgba, None, (*notes, "alpha" if mask is None else "mask_files"))
    notes += ("alpha" if mask is None else "mask_files", *(["pose"] if photo.pose_corrected else []))
    intrinsics = listing.intrinsics(photo.lens, *size)
    if photo.lens.distortion != distortion.NONE:
        rgba = distortion.undistort(rgba, intrinsics, photo.lens.distortion)
        notes += ("undistorted",)
        # The object may lie completely where the lens saw nothing.
        if not (rgba[..., 3] > 127).any():
            raise ValueError(
                f"k1 k2 p1 p2: got {photo.lens.distortion}, needed a lens that keeps the object in the image"
            )
    return View(rgba, intrinsics, notes)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def _choose_up(listed: Listing, config: IngestConfig) -> tuple[np.ndarray, str, list[str]]:
    if config.up != "auto":
        up = np.array(UPS[config.up])
        if listed.unposed and config.up != "z":
            return up, "", [problem("up", "config", config.up, "auto or z, as the frame is the mesh's")]
        if listed.canonical_rig and config.up != "y":
            return up, "", [problem("up", "config", config.up, "auto or y, as the six views are named for y up")]
        return up, f"{config.up}, as asked for", []
    if listed.up is None:
        if not listed.photos:
            return np.array(UPS["z"]), "", []
        return np.array(UPS["z"]), "", [problem("up", "config", "auto, and cameras of no common up", "an axis by name")]
    return listed.up, listed.up_source, []


def _split(listed: Listing, config: IngestConfig) -> tuple[np.ndarray, str, list[str]]:
    count = len(listed.photos)
    held_out = np.zeros(count, bool)
    if listed.canonical_rig:
        rule = "the canonical six are all used"
    elif listed.unposed:
        rule = "without cameras, all are used to find them"
    elif any(photo.held_out is not None for photo in listed.photos):
        held_out = np.array([bool(photo.held_out) for photo in listed.photos])
        rule = "as given by the data"
    elif count < LEAST_TO_HOLD_OUT:
        rule = f"of fewer than {LEAST_TO_HOLD_OUT} all are used"
    elif config.holdout_every == 0:
        rule = "holdout_every is 0"
    else:
        every = config.holdout_every
        held_out = np.arange(count) % every == every - 1  # so that the first photo is used
        rule = f"the last of every {every}, in order"
    used = count - int(held_out.sum())
    if count < (1 if listed.unposed else 2):
        return held_out, rule, [problem("photos", "views", count, "at least 2")]
    if used < 2 and not listed.unposed:
        return (
            held_out,
            rule,
            [problem("photos", "views", f"{used} used and {count - used} held out", "at least 2 used")],
        )
    return held_out, rule, []


def _find_ignored(root: Path, used: tuple[PosedPhoto, ...], mask_of: dict[str, str]) -> list[dict]:
    read = {photo.path for photo in used} | {listing.inside(root, label) for label in mask_of.values()}
    rest = [path for path in sorted(root.rglob("*")) if path.is_file() and Path(os.path.realpath(path)) not in read]
    names = [path.relative_to(root).as_posix() for path in rest]
    names = [n for n in names if not transforms.is_source(n) and not colmap.is_source(n)]
    return [finding("ignored", f"{len(names)} files not used", names)] if names else []
