"""Finds the cameras of decoded photos, lets the hull judge them, and puts both into the survey as if they had been given.

The photos that are left out are taken from the survey; those that stay are freed of the distortion that was found.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from recon_lib.camera import Cameras
from recon_lib.photos import cutout, splits, triage
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.distortion import Distortion
from recon_lib.photos.findings import counted, finding, named
from recon_lib.photos.listing import Lens
from recon_lib.photos.search import focal, judge, register, world
from recon_lib.photos.search.judge import Judged
from recon_lib.photos.search.register import NotFoundError
from recon_lib.photos.search.sift import Placed, Shot
from recon_lib.photos.survey import Survey
from recon_lib.photos.undistort import undistort
from recon_lib.photos.views import View
from recon_lib.progress import Progress

UNLIKE = 0.08  # a view whose agreement is less than the median by this is named
REPLACED = {"cameras", "photos", "split", "up"}  # kinds of findings that are said anew


class Located(NamedTuple):
    """The survey and the photos that have cameras now."""

    found: Survey
    decoded: list[View]


def locate(found: Survey, decoded: list[View], config: IngestConfig, progress: Progress) -> Located:
    """Raises NotFoundError, with a line per photo that failed, where no cameras are found that masks and photos agree with."""
    names = [photo.label for photo in found.listed.photos]
    shots = [
        Shot(_shown(view), focal.of_exif(one.photo.path)) for one, view in zip(found.planned, decoded, strict=True)
    ]
    model, left_out = register.register(shots, names, progress)
    chosen = sorted(model.placed)
    views = [_undistorted(decoded[i], model.placed[i]) for i in chosen]
    T = np.stack([model.placed[i].T_world_cam for i in chosen])
    lenses = [_intrinsics(model.placed[i], view) for i, view in zip(chosen, views, strict=True)]
    judged = judge.judge([view.rgba[..., 3] for view in views], _cameras(T, lenses, views))
    _check(judged, [names[i] for i in chosen])
    place = world.upright(T[judged.kept], judged.body)
    T = world.move(T, place)
    kept = [k for k in range(len(chosen)) if judged.kept[k]]
    dropped = {chosen[k]: f"its mask or camera contradicts the others: the hull agrees with it by {judged.after[k]:.2f}"
               for k in range(len(chosen)) if not judged.kept[k]}  # fmt: skip
    photos, planned = [], []
    for k in kept:
        one = found.planned[chosen[k]]
        photo = replace(one.photo, T_world_cam=T[k], lens=Lens(*lenses[k]))
        photos.append(photo)
        planned.append(one._replace(photo=photo, intrinsics=lenses[k]))
    listed = found.listed._replace(photos=tuple(photos), unposed=False, up=np.array((0.0, 0.0, 1.0)))
    split = splits.choose(listed, config.holdout_every)
    where = "all over them" if any(cutout.BOX in view.notes for view in decoded) else "inside the masks"
    said = _say(
        where, model.reprojection_px, model.placed, judged, [names[i] for i in chosen], left_out | dropped, names
    )
    held = [photo.label for photo, out in zip(photos, split.held_out, strict=True) if out]
    said += [
        finding(
            "split",
            f"{len(held)} of {len(photos)} photos held out: {split.rule}; their cameras were found with all",
            held,
        ),
        finding("up", f"up is z, to which the world was turned: {place.up_source}"),
        *triage.coverage(T[kept]),
    ]
    rest = [one for one in found.findings if one["kind"] not in REPLACED]
    new = replace(
        found, listed=listed, planned=tuple(planned), held_out=split.held_out, up=listed.up, findings=(*said, *rest)
    )
    return Located(new, [views[k] for k in kept])


def _shown(view: View) -> np.ndarray:
    """The photo as features are looked for: all of it where GrabCut made the mask, which may have bitten the object."""
    if cutout.BOX not in view.notes:
        return view.rgba
    return np.dstack([view.rgba[..., :3], np.full(view.rgba.shape[:2], 255, np.uint8)])


def _undistorted(view: View, camera: Placed) -> View:
    if camera.radial == 0:
        return view
    rgba = undistort(view.rgba, _intrinsics(camera, view), Distortion((camera.radial, 0.0)))
    return View(rgba, (*view.notes, "undistorted"))


def _intrinsics(camera: Placed, view: View) -> tuple[float, float, float, float]:
    height, width = view.rgba.shape[:2]
    pixels = camera.focal * max(width, height)
    return pixels, pixels, width / 2, height / 2


def _cameras(T: np.ndarray, lenses: list[tuple[float, float, float, float]], views: list[View]) -> Cameras:
    sizes = [view.rgba.shape[1::-1] for view in views]
    return Cameras(torch.from_numpy(T).float(), torch.tensor(lenses, dtype=torch.float32), torch.tensor(sizes))


def _check(judged: Judged, names: list[str]) -> None:
    if judged.is_enough and len(judged.body):
        return
    needed = f"{judge.LEAST_SHARE:.0%} of them, and {judge.LEAST_COUNT} at least"
    lines = [
        f"cameras: got {judged.kept.sum()} of {len(names)} placed photos whose masks agree with one body, needed {needed}"
    ]
    lines += [f"{name}: the hull of all agrees with its mask by {value:.2f}, needed {judge.LEVELS[-1][1]}"
              for name, value, kept in zip(names, judged.before, judged.kept, strict=True) if not kept]  # fmt: skip
    raise NotFoundError("\n".join(lines))


def _say(
    where: str, reprojection_px: float, placed: dict[int, Placed], judged: Judged, chosen: list[str],
    left_out: dict[int, str], names: list[str],
) -> list[dict]:  # fmt: skip
    observed = [one.observations for one in placed.values()]
    sides = sorted({round(one.focal, 2) for one in placed.values()})
    text = (
        f"found in the photos, from features {where}: {len(placed)} of {len(names)} placed, "
        f"{np.mean(observed):.0f} observations each ({min(observed)} at least), {reprojection_px:.2f} pixels off, focal length "
        f"{', '.join(f'{side:g}' for side in sides)} of the long side; the world's scale is unknown: the object's radius is 1"
    )
    after = judged.after[judged.kept]
    hull = (
        f"masks agree with the silhouettes of their hull by {judged.before.mean():.2f}, {after.mean():.2f} without those left "
        f"out ({after.min():.2f} at least)"
    )
    said = [finding("cameras", text), finding("agreement", hull)]
    if left_out:
        reasons = "; ".join(f"{names[i]}: {why}" for i, why in left_out.items())
        count = counted(len(left_out), "photo")
        said.append(
            finding("missing", f"{count} left out, as no camera was found ({reasons})", [names[i] for i in left_out])
        )
    odd = judged.kept & (judged.after < np.median(after) - UNLIKE)
    if odd.any():
        labels = [name for name, is_odd in zip(chosen, odd, strict=True) if is_odd]
        text = f"{counted(len(labels), 'mask')} agreeing less with the hull than the others ({named(labels)}): look at them"
        said.append(finding("disagreement", text, labels))
    used = len(names) - len(left_out)
    said.append(
        finding("photos", f"{counted(used, 'photo')} used", [n for i, n in enumerate(names) if i not in left_out])
    )
    return said
