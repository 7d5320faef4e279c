"""Reads a folder of photos of one object into a scene. All input is checked here; later stages rely on that.

`forms` says which forms of a folder there are. `survey` finds out everything that needs no pixel, and `views` decodes. Reading
writes nothing. All problems are reported in one ValueError, one line `file: field: got X, needed Y` per problem or kind of
problem; where the survey finds some, no photo is decoded. What was read otherwise than written is a finding (see `findings`).
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from recon_lib.camera import Cameras
from recon_lib.photos import (
    archive,
    boxes,
    cutout,
    decode,
    findings,
    folder,
    listing,
    masks,
    matte,
    poses,
    sizes,
    triage,
    turns,
    up,
    values,
    views,
)
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.findings import Problem, finding, problem
from recon_lib.photos.scene import Scene
from recon_lib.photos.search import locate, settle
from recon_lib.photos.search.locate import LeftOut, Located
from recon_lib.photos.search.register import NotFoundError
from recon_lib.photos.survey import Survey, survey
from recon_lib.progress import Progress, part, silent

CONVERSIONS = decode.NOTES | {
    folder.CASE: "found under a name in other letters (capitals, composed accents)",
    folder.EXTENSION: "found with another extension than the cameras name",
    folder.ROOT: "found by the end of a path that starts elsewhere",
    folder.LINK: "that are links to files elsewhere, which were followed",
    masks.NAMED: "masked by the files that mask_path names",
    masks.IN_FOLDER: "masked by files in masks/",
    masks.BESIDE: "masked by files NAME_mask beside them",
    masks.OWN: "masked by their own alpha",
    cutout.BORDER: "without masks, before a plain background: what differs from the border's colour was taken for the object",
    cutout.BOX: "without masks: GrabCut took out the object inside the box",
    cutout.NETWORK: "without masks, before clutter: a network took out the main thing",
    **{kind: f"with a mask that {name} made" for name, kind in cutout.WHOSE.items()},
    cutout.EMPTY: "in which the network found nothing that stands out",
    cutout.DOUBTFUL: "with masks of which the network itself was in doubt, or that reach the photo's border: look at them",
    "mask_scaled": "with masks of another size, which were scaled to the photo's",
    matte.INVERTED: "with inverted masks (white all along the border): the black was taken for the object",
    matte.HARDENED: "with soft masks: the outline was put at half, as beyond it the colours are the background's",
    matte.STRETCHED: "with masks of two dark values: the larger was taken for the object",
    matte.UNVEILED: "with masks stored as JPEG: near black was made black, near white white",
    turns.BY_SIZE: "with an EXIF orientation that was not applied, as their cameras have the size of the stored pixels",
    turns.BY_HULL: "with an EXIF orientation that sizes do not show: they lie as the silhouettes and edges agree best",
    turns.BY_HABIT: "with an EXIF orientation that neither sizes nor silhouettes show: they lie by the habit of such files",
    sizes.SCALED: "of another size than their cameras: shrunk after those were found, so the intrinsics were scaled",
    sizes.CROPPED: "of another size than their cameras: cropped on the right and below, so the intrinsics were kept",
    values.R8: "with a k4, taken for the factor of r⁸ (nerfstudio, Metashape) and not for OpenCV's divisor",
    "shrunk": "shrunk to max_side",
    "undistorted": "freed of lens distortion",
    "cut": "seen by a fisheye lens in which half of the object lies outside of the pinhole photo",
    poses.ROUNDED: "with a rotation made orthonormal, which it was but for rounding",
    poses.SCALED: "with a scale in the rotation, which was taken out",
    poses.HOMOGENEOUS: "with a pose that was divided by its last number",
}


# Kinds of findings for which something was guessed, and for which something was left out; all others are read as written.
GUESSED = {
    "layout", "up", "disagreement", "mended", "mask_scaled", folder.CASE, folder.EXTENSION, folder.ROOT, matte.INVERTED,
    matte.STRETCHED, cutout.BORDER, cutout.BOX, cutout.NETWORK, cutout.DOUBTFUL, values.R8, turns.BY_SIZE, turns.BY_HULL,
    turns.BY_HABIT, sizes.SCALED, sizes.CROPPED,
}  # fmt: skip
LEFT_OUT = {"ignored", "missing"}


@dataclass(frozen=True, eq=False)
class Ingested:
    """The scene, and what was noticed while reading it."""

    scene: Scene
    findings: list[dict]
    left_out: tuple[LeftOut, ...] = ()  # photos that the scene does without, as their cameras or masks do not fit


def read(path: Path, config: IngestConfig, progress: Progress = silent) -> Ingested:
    """Reads and checks the folder, or the .zip archive of one. Raises one ValueError with a line per problem."""
    check_config(config)
    with archive.opened(Path(path), config.max_total_mb * 1e6) as opened:
        found = survey(opened, config)
        _refuse(path, found.problems)
        decoded, problems = views.decode_all(
            found,
            cutout.maker(config, boxes.read(opened)),
            part(progress, 0.0, 0.2) if found.listed.unposed else progress,
        )
        _refuse(path, problems)
        decoded, mended, problems = _settled(found, decoded)
        _refuse(path, problems)
        unposed = found.listed.unposed
        found, decoded, left_out = _with_cameras(path, found, decoded, config, part(progress, 0.2, 1.0))
    looks = triage.of_photos([view.rgba for view in decoded], [photo.label for photo in found.listed.photos])
    told = _told([view.notes for view in decoded], found)
    scene = _scene(found, decoded)
    scene = replace(scene, cameras_found=unposed and scene.cameras is not None)
    return Ingested(scene, [*found.findings, *mended, *told, *looks], left_out)


def check(path: Path, config: IngestConfig) -> tuple[list[dict], list[str]]:
    """The findings and the lines of the problems that `read` would have, as far as they show without decoding the photos."""
    check_config(config)
    with archive.opened(Path(path), config.max_total_mb * 1e6) as opened:
        found = survey(opened, config)
    inverted = (matte.INVERTED,) if found.inverted else ()
    told = _told([one.notes + (inverted if one.mask else ()) for one in found.planned], found)
    return [*found.findings, *told], findings.lines(found.problems)


def _settled(found: Survey, decoded: list[views.View]) -> tuple[list[views.View], list[dict], list[Problem]]:
    """Photos of given cameras with their masks that were made here, mended by the hull of all; what was mended; and the masks
    with which the hull does not agree."""
    made = np.array([bool(cutout.MADE & {*view.notes}) for view in decoded])
    if found.listed.unposed or not made.any():
        return decoded, [], []
    settled = settle.settle([view.rgba for view in decoded], _scene(found, decoded).cameras, made)
    labels = [planned.photo.label for planned in found.planned]
    problems = [
        problem(labels[i], "mask", f"one made here, but {why}", "one that agrees: give a mask")
        for i, why in settled.why.items()
        if made[i]
    ]
    mended = [label for label, is_mended in zip(labels, settled.mended, strict=True) if is_mended]
    text = (
        f"{findings.counted(len(mended), 'mask')} mended by the silhouettes of the others ({findings.named(mended)}): "
    )
    text += f"agreement {settled.before.mean():.2f} before, {settled.after.mean():.2f} after; look at them"
    out = [
        view._replace(rgba=np.dstack([view.rgba[..., :3], alpha]))
        for view, alpha in zip(decoded, settled.alphas, strict=True)
    ]
    return out, [finding("mended", text, mended)] if mended else [], problems


def _with_cameras(
    path: Path, found: Survey, decoded: list[views.View], config: IngestConfig, progress: Progress
) -> Located:
    """Photos without cameras with those that are found in them. Photos in which none are found stay as they are, with a
    finding that says why; or they are refused, where the config says that cameras must be found."""
    if not found.listed.unposed or config.find_cameras == "never":
        return Located(found, decoded)
    try:
        return locate.locate(found, decoded, config, progress)
    except NotFoundError as error:
        # Without cameras nothing tells whether masks that a network or GrabCut made are right.
        if config.find_cameras == "must" or any(cutout.UNSURE & {*view.notes} for view in decoded):
            raise ValueError(f"{path}: {error}") from error
        why = "; ".join(str(error).splitlines())
        said = [
            finding("cameras", f"{one['text']}; not found ({why})") if one["kind"] == "cameras" else one
            for one in found.findings
        ]
        return Located(replace(found, findings=tuple(said)), decoded)


def verb(kind: str) -> str:
    """What a run does about a finding of this kind: read, guess or leave out."""
    return "guess" if kind in GUESSED else "leave out" if kind in LEFT_OUT else "read"


def _refuse(path: Path, problems: tuple[Problem, ...] | list[Problem]) -> None:
    """Raises one ValueError with all problems, if there are any."""
    if problems:
        count = len(dict.fromkeys(problems))
        raise ValueError("\n".join([f"{path}: {findings.counted(count, 'problem')}", *findings.lines(problems)]))


def _told(notes: list[tuple[str, ...]], found: Survey) -> list[dict]:
    """One finding per conversion, with the photos that needed it."""
    by_note = defaultdict(list)
    for planned, of_photo in zip(found.planned, notes, strict=True):
        for note in of_photo:
            by_note[note].append(planned.photo.label)
    return [
        finding(note, f"{findings.counted(len(files), 'photo')} {CONVERSIONS[note]}", files)
        for note, files in by_note.items()
    ]


def check_config(config: IngestConfig) -> None:
    """Raises ValueError for a knob out of range."""
    if config.up != "auto" and config.up not in up.AXES:
        raise ValueError(f"up: got {config.up!r}, needed auto or one of {', '.join(up.AXES)}")
    if config.holdout_every < 0 or config.holdout_every == 1:
        raise ValueError(f"holdout_every: got {config.holdout_every}, needed 0 (none) or at least 2")
    for knob in ("max_file_mb", "max_total_mb", "max_megapixels", "max_total_megapixels"):
        if not getattr(config, knob) > 0:
            raise ValueError(f"{knob}: got {getattr(config, knob)}, needed a positive number")
    if not (config.box_left < config.box_right and config.box_top < config.box_bottom):
        got = f"{config.box_left:g} to {config.box_right:g} and {config.box_top:g} to {config.box_bottom:g}"
        raise ValueError(f"box_left to box_bottom: got {got}, needed left before right and top before bottom")
    if config.max_side < 0:
        raise ValueError(f"max_side: got {config.max_side}, needed 0 (as they are) or a number of pixels")


def _scene(found: Survey, decoded: list[views.View]) -> Scene:
    listed = found.listed
    cameras = None
    if not listed.unposed:
        T = np.stack([photo.T_world_cam for photo in listed.photos])
        T[:, :3, 3] -= found.offset
        cameras = Cameras(
            torch.from_numpy(T).float(),
            torch.tensor([planned.intrinsics for planned in found.planned], dtype=torch.float32),
            torch.tensor([view.rgba.shape[1::-1] for view in decoded]),
        )
    labels = [photo.label for photo in listed.photos]
    names = listing.names([label.lower() for label in labels] if listed.canonical_rig else labels)
    images = tuple(view.rgba for view in decoded)
    return Scene(names, images, cameras, found.held_out, found.up, listed.canonical_rig, found.offset)
