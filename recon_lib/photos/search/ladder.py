"""Ways to find the cameras of photos, tried one after the other until one gives cameras and masks that agree.

SIFT comes first; learned features follow where their weights are. Each is tried all over the photos, where a table that lies
still helps, and inside the masks, as on a turntable the background contradicts the object. Masks that people give are believed,
so features are looked for inside of them only; those that a network or GrabCut makes may have bitten the object, so all of the
photo comes first. A way is enough if `register` finds enough photos placed and `settle` enough of these in agreement. Where two
kinds of features find the same cameras and the masks contradict them, the masks are wrong, and no other way is tried.
"""

import logging
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from recon_lib.camera import Cameras
from recon_lib.photos import cutout, triage
from recon_lib.photos.distortion import Distortion
from recon_lib.photos.findings import counted
from recon_lib.photos.search import judge, learned, register, sift
from recon_lib.photos.search.mapper import Model, Placed, Shot
from recon_lib.photos.search.register import Matcher, NotFoundError
from recon_lib.photos.search.settle import Settled, settle
from recon_lib.photos.undistort import undistort
from recon_lib.photos.views import View
from recon_lib.progress import Progress, part

ALL_OVER, INSIDE = "all over them", "inside the masks"
SAME = 0.02  # of the cameras' mean distance from their middle; two ways that differ by less found the same cameras

log = logging.getLogger(__name__)


class MasksContradictError(NotFoundError):
    """The photos were placed, but too few of their masks agree with one body."""

    def __init__(self, text: str, features: str, placed: dict[int, Placed]):
        super().__init__(text)
        self.features, self.placed = features, placed


class Found(NamedTuple):
    """The cameras of the chosen photos and what the hull says of them."""

    way: str  # which features, and where they were looked for
    model: Model
    left_out: dict[int, str]  # photos that were not placed, and why
    chosen: list[int]  # the photos that were placed
    views: list[View]  # of the chosen, without distortion
    T_world_cam: Float[np.ndarray, "B 4 4"]
    intrinsics: list[tuple[float, float, float, float]]  # pixels
    settled: Settled
    tried: tuple[str, ...]  # ways that failed before, and why


def climb(decoded: list[View], focals: list[float | None], names: list[str], progress: Progress) -> Found:
    """The cameras by the first way that is enough. Raises NotFoundError, with what each way found, where none is."""
    if len(names) < register.LEAST_PHOTOS:
        raise NotFoundError(
            f"cameras: got {counted(len(names), 'photo')}, needed at least {register.LEAST_PHOTOS} to find them"
        )
    same = triage.repeated(
        [cv2.cvtColor(np.ascontiguousarray(view.rgba[..., :3]), cv2.COLOR_RGB2GRAY) for view in decoded]
    )
    if (different := int((~same).sum())) < register.LEAST_PHOTOS:
        raise NotFoundError(
            f"cameras: got {counted(different, 'photo')} and the same {int(same.sum())} times more, needed at least "
            f"{register.LEAST_PHOTOS} different ones, from places around the object"
        )
    unsure = [bool(cutout.UNSURE & {*view.notes}) for view in decoded]
    regions = (ALL_OVER, INSIDE) if any(unsure) else (INSIDE,)
    ways = [(name, matcher, where) for name, matcher in _matchers() for where in regions]
    failed: list[str] = []
    contradicted: list[MasksContradictError] = []
    for i, (name, matcher, where) in enumerate(ways):
        shots = [
            Shot(_opaque(view.rgba) if where == ALL_OVER else view.rgba, focal)
            for view, focal in zip(decoded, focals, strict=True)
        ]
        step = part(progress, i / len(ways), (i + 1) / len(ways))
        try:
            found = _try(name, where, shots, decoded, names, matcher, step)
        except NotFoundError as error:
            failed.append(f"by {name} features {where}: {error}")
            log.info("%s", failed[-1])
            if isinstance(error, MasksContradictError):
                others = {one.features for one in contradicted if _are_same(one.placed, error.placed)} - {name}
                if others:
                    raise NotFoundError("\n".join([*failed, _masks_are_wrong(name, *others)])) from error
                contradicted.append(error)
            continue
        return found._replace(tried=tuple(one.splitlines()[0] for one in failed))
    if lack := learned.lacks():
        failed.append(f"learned features were not tried: {lack}")
    raise NotFoundError("\n".join(failed))


def _matchers() -> list[tuple[str, Matcher]]:
    return [("SIFT", sift.match), *learned.matchers()]


def _are_same(first: dict[int, Placed], second: dict[int, Placed]) -> bool:
    """Whether a similarity brings the cameras that both have to the same places."""
    both = sorted(first.keys() & second.keys())
    if len(both) < register.LEAST_SHARE * max(len(first), len(second)):
        return False
    places = [np.stack([one[i].T_world_cam[:3, 3] for i in both]) for one in (first, second)]
    a, b = (centres - centres.mean(0) for centres in places)
    a, b = (centres / np.sqrt(np.square(centres).sum(1).mean()) for centres in (a, b))
    turn, _ = Rotation.align_vectors(b, a)
    return float(np.sqrt(np.square(turn.apply(a) - b).sum(1).mean())) < SAME


def _masks_are_wrong(*features: str) -> str:
    return (
        f"{' and '.join(features)} features found the same cameras, so the masks are wrong: give masks, in masks/ or as alpha, "
        "or boxes for GrabCut (make_masks: box)"
    )


def _try(
    name: str,
    where: str,
    shots: list[Shot],
    decoded: list[View],
    names: list[str],
    matcher: Matcher,
    progress: Progress,
) -> Found:
    """Raises NotFoundError."""
    model, left_out = register.register(shots, names, matcher, part(progress, 0.0, 0.8))
    chosen = sorted(model.placed)
    progress(0.8, f"comparing {len(chosen)} masks with their hull")
    views = [_undistorted(decoded[i], model.placed[i]) for i in chosen]
    T = np.stack([model.placed[i].T_world_cam for i in chosen])
    lenses = [_intrinsics(model.placed[i], view) for i, view in zip(chosen, views, strict=True)]
    sizes = torch.tensor([view.rgba.shape[1::-1] for view in views])
    cameras = Cameras(torch.from_numpy(T).float(), torch.tensor(lenses, dtype=torch.float32), sizes)
    made = np.array([bool(cutout.MADE & {*view.notes}) for view in views])
    settled = settle([view.rgba for view in views], cameras, made)
    if not (settled.is_enough and settled.kept.sum() >= judge.LEAST_SHARE * len(names)):
        raise MasksContradictError(_too_few(settled, [names[i] for i in chosen]), name, model.placed)
    return Found(f"{name} features {where}", model, left_out, chosen, views, T, lenses, settled, ())


def _too_few(settled: Settled, names: list[str]) -> str:
    needed = f"{judge.LEAST_SHARE:.0%} of all, and {judge.LEAST_COUNT} at least"
    lines = [
        f"cameras: got {settled.kept.sum()} of {len(names)} placed photos whose masks agree with one body, needed {needed}"
    ]
    lines += [f"{names[i]}: {why}" for i, why in settled.why.items()]
    return "\n".join(lines)


def _opaque(rgba: np.ndarray) -> np.ndarray:
    return np.dstack([rgba[..., :3], np.full(rgba.shape[:2], 255, np.uint8)])


def _undistorted(view: View, camera: Placed) -> View:
    if camera.radial == 0:
        return view
    rgba = undistort(view.rgba, _intrinsics(camera, view), Distortion((camera.radial, 0.0)))
    return View(rgba, (*view.notes, "undistorted"))


def _intrinsics(camera: Placed, view: View) -> tuple[float, float, float, float]:
    height, width = view.rgba.shape[:2]
    pixels = camera.focal * max(width, height)
    return pixels, pixels, width / 2, height / 2
