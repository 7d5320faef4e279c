"""Finds the cameras of decoded photos and puts them, and masks that agree with them, into the survey as if they had been given.

The photos that are left out are taken from the survey; those that stay are freed of the distortion that was found.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from recon_lib.photos import splits, triage
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.findings import counted, finding, named
from recon_lib.photos.listing import Lens
from recon_lib.photos.search import focal, ladder, world
from recon_lib.photos.search.ladder import Found
from recon_lib.photos.survey import Survey
from recon_lib.photos.views import View
from recon_lib.progress import Progress

UNLIKE = 0.08  # a view whose agreement is less than the median by this is named
REPLACED = {"cameras", "photos", "split", "up"}  # kinds of findings that are said anew


class LeftOut(NamedTuple):
    """A photo that the scene does without."""

    label: str
    rgba: UInt8[np.ndarray, "H W 4"]  # with the mask that it was given or that was made
    why: str


class Located(NamedTuple):
    """The survey and the photos that have cameras now."""

    found: Survey
    decoded: list[View]
    left_out: tuple[LeftOut, ...] = ()


def locate(found: Survey, decoded: list[View], config: IngestConfig, progress: Progress) -> Located:
    """Raises NotFoundError, with a line per photo that failed, where no cameras are found that masks and photos agree with."""
    names = [photo.label for photo in found.listed.photos]
    by_exif = [focal.of_exif(one.photo.path) for one in found.planned]
    cameras = ladder.climb(decoded, by_exif, names, progress)
    settled = cameras.settled
    place = world.upright(cameras.T_world_cam[settled.kept], settled.body)
    T = world.move(cameras.T_world_cam, place)
    kept = np.flatnonzero(settled.kept).tolist()
    photos, planned, views = [], [], []
    for k in kept:
        one, lens, view = found.planned[cameras.chosen[k]], cameras.intrinsics[k], cameras.views[k]
        photos.append(replace(one.photo, T_world_cam=T[k], lens=Lens(*lens)))
        planned.append(one._replace(photo=photos[-1], intrinsics=lens))
        views.append(View(np.dstack([view.rgba[..., :3], settled.alphas[k]]), view.notes))
    listed = found.listed._replace(photos=tuple(photos), unposed=False, up=np.array((0.0, 0.0, 1.0)))
    split = splits.choose(listed, config.holdout_every)
    held = [photo.label for photo, out in zip(photos, split.held_out, strict=True) if out]
    said = [
        *_say(cameras, names),
        finding(
            "split",
            f"{len(held)} of {len(photos)} photos held out: {split.rule}; their cameras were found with all",
            held,
        ),
        finding("up", f"up is z, to which the world was turned: {place.up_source}"),
        *triage.coverage(T[kept], [photo.label for photo in photos]),
    ]
    rest = [one for one in found.findings if one["kind"] not in REPLACED]
    new = replace(
        found, listed=listed, planned=tuple(planned), held_out=split.held_out, up=listed.up, findings=(*said, *rest)
    )
    dropped = tuple(LeftOut(names[i], decoded[i].rgba, why) for i, why in _left_out(cameras).items())
    return Located(new, views, dropped)


def _left_out(cameras: Found) -> dict[int, str]:
    """The photos that have no camera or contradict the others, and why."""
    return cameras.left_out | {cameras.chosen[k]: why for k, why in cameras.settled.why.items()}


def _say(cameras: Found, names: list[str]) -> list[dict]:
    placed, settled = cameras.model.placed, cameras.settled
    chosen = [names[i] for i in cameras.chosen]
    observed = [one.observations for one in placed.values()]
    sides = sorted({round(one.focal, 2) for one in placed.values()})
    lengths = ", ".join(f"{side:g}" for side in sides)
    text = f"found in the photos, from {cameras.way}: {len(placed)} of {len(names)} placed, "
    text += f"{np.mean(observed):.0f} observations each ({min(observed)} at least), {cameras.model.reprojection_px:.2f} pixels "
    text += f"off, focal length {lengths} of the long side; the world's scale is unknown: the object's radius is 1"
    said = [finding("cameras", text)]
    if cameras.tried:
        said.append(finding("tried", f"other ways failed before ({'; '.join(cameras.tried)})"))
    after = settled.after[settled.kept]
    text = (
        f"masks agree with the silhouettes of their hull by {settled.before.mean():.2f}, {after.mean():.2f} in the end "
    )
    said.append(finding("agreement", f"{text}({after.min():.2f} at least)"))
    if (mended := settled.mended & settled.kept).any():
        labels = [name for name, is_mended in zip(chosen, mended, strict=True) if is_mended]
        text = f"{counted(len(labels), 'mask')} mended by the silhouettes of the others ({named(labels)}): look at them"
        said.append(finding("mended", text, labels))
    left_out = _left_out(cameras)
    if left_out:
        reasons = "; ".join(f"{names[i]}: {why}" for i, why in left_out.items())
        text = f"{counted(len(left_out), 'photo')} left out, as cameras and masks do not fit ({reasons})"
        said.append(finding("missing", text, [names[i] for i in left_out]))
    odd = settled.kept & (settled.after < np.median(after) - UNLIKE)
    if odd.any():
        labels = [name for name, is_odd in zip(chosen, odd, strict=True) if is_odd]
        text = f"{counted(len(labels), 'mask')} agreeing less with the hull than the others ({named(labels)}): look at them"
        said.append(finding("disagreement", text, labels))
    used = [name for i, name in enumerate(names) if i not in left_out]
    said.append(finding("photos", f"{counted(len(used), 'photo')} used", used))
    return said
