"""EXIF orientation: whether a camera describes its photo's pixels as stored or turned upright, and how its mask lies.

The sizes decide where a turn exchanges width and height. Where stored and upright sizes are equal (half a turn, square photos),
the turn under which the silhouettes agree with one another decides, and for a photo with a mask file the one that brings its
edges to the mask's outline. Where that is undecided, too, the habit of the program that wrote the cameras decides. A turn is an
EXIF orientation, 1 to 8.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from recon_lib.photos import decode, listing, silhouettes
from recon_lib.photos.decode import turned
from recon_lib.photos.headers import Header
from recon_lib.photos.listing import PosedPhoto

BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # the turn that undoes a turn
# Under one turn the silhouettes must miss less by this share, and by this factor, than under any other.
CLEARER_SHARE, CLEARER_FACTOR = 0.01, 3.0
SHARPER = 1.15  # the photos' edges must be stronger by this factor on the masks' outlines
MOST = 16  # photos that are looked at
EDGES = 256  # pixels of the long side of photos whose edges are looked at
# What told how a photo lies; `ingest` says it in words.
BY_SIZE, BY_HULL, BY_HABIT = "exif_size", "exif_hull", "exif_habit"


class Lying(NamedTuple):
    """How a photo's and its mask's stored pixels are turned to lie as the camera has them."""

    photo: int
    mask: int
    told: str  # "" for a photo without orientation


@dataclass(frozen=True, eq=False)
class Turnable:
    """What is known of a photo and its mask before pixels are looked at."""

    photo: PosedPhoto
    header: Header
    mask: Path | None  # None: the photo's own alpha
    mask_header: Header | None


def decide(views: list[Turnable], stored_pixels: bool) -> list[Lying]:
    """How each photo lies. `stored_pixels`: the program that wrote the cameras is known to ignore EXIF orientation."""
    out, open_ones = [], []
    for i, view in enumerate(views):
        own = view.header.orientation
        equal = view.header.stored_size == view.header.upright_size
        if own == 1 or view.photo.T_world_cam is None or not equal:
            upright = _by_size(view)
            use = own if (not stored_pixels if upright is None else upright) else 1
            told = "" if own == 1 else BY_HABIT if upright is None and view.photo.T_world_cam is not None else BY_SIZE
            out.append(Lying(use, _mask_turn(view, use), told))
        else:
            use = 1 if stored_pixels else own
            out.append(Lying(use, _mask_turn(view, use), BY_HABIT))
            open_ones.append(i)
    if open_ones:
        for i, lying in zip(open_ones, _look(views, out, open_ones), strict=True):
            out[i] = lying
    return out


def _by_size(view: Turnable) -> bool | None:
    """Whether the camera has the upright size (True) or the stored one (False); None where the sizes do not tell."""
    stored, upright = view.header.stored_size, view.header.upright_size
    lens = view.photo.lens
    given = view.photo.size or (None if lens is None or not lens.cx or not lens.cy else (2 * lens.cx, 2 * lens.cy))
    if given is None or stored == upright or min(given) <= 0:
        return None
    aspect = np.log(given[0] / given[1])
    stored_off, upright_off = (abs(np.log(size[0] / size[1]) - aspect) for size in (stored, upright))
    return bool(upright_off < stored_off)


def _mask_turn(view: Turnable, use: int) -> int:
    """The first of the turns, the most usual first, that brings the mask to the photo's size as used."""
    if view.mask_header is None:
        return use
    own, of_mask = view.header.orientation, view.mask_header.orientation
    # A mask with an orientation lies on the upright photo; one without lies on the photo as it is used.
    first = of_mask if use == own or own == 1 else 1
    width, height = _size(view.header.stored_size, use)
    for turn in dict.fromkeys((first, 1, own if use == own else BACK[own], of_mask)):
        w, h = _size(view.mask_header.stored_size, turn)
        if abs(w * height - h * width) <= max(width, height):
            return turn
    return first


def _size(stored: tuple[int, int], turn: int) -> tuple[int, int]:
    return stored[::-1] if turn >= 5 else stored


def _look(views: list[Turnable], lying: list[Lying], open_ones: list[int]) -> list[Lying]:
    """Decides the open ones by the pixels of a few photos, all of them alike."""
    others = [i for i in range(len(views)) if i not in open_ones]
    few = _spread(open_ones, MOST - min(len(others), MOST // 2))
    fixed = _spread(others, MOST - len(few))
    chosen = [*few, *fixed]
    alphas = [_alpha(views[i]) for i in chosen]
    kinds = [_candidates(views[i]) for i in few]
    masks = []
    for k in range(max(map(len, kinds))):
        turns = [kind[min(k, len(kind) - 1)] for kind in kinds] + [lying[i].mask for i in fixed]
        masks.append([turned(silhouettes.small(alpha), turn) for alpha, turn in zip(alphas, turns, strict=True)])
    seen = [views[i] for i in chosen]
    sizes = [view.photo.size or view.header.stored_size for view in seen]
    intrinsics = [listing.intrinsics(view.photo.lens, *size) for view, size in zip(seen, sizes, strict=True)]
    poses = [view.photo.T_world_cam for view in seen]
    cameras = silhouettes.small_cameras(poses, intrinsics, sizes, masks[0])
    best = _clearly_best([silhouettes.agreement(tried, cameras) for tried in masks])
    out = []
    upright = _upright_by_edges([views[i] for i in few], alphas[: len(few)], kinds, best)
    for i in open_ones:
        own, kind = views[i].header.orientation, _candidates(views[i])
        mask = lying[i].mask if best is None else kind[min(best, len(kind) - 1)]
        with_file = lying[i].photo if upright is None else own if upright else 1
        photo = mask if views[i].mask is None else with_file
        out.append(Lying(photo, mask, BY_HABIT if best is None and upright is None else BY_HULL))
    return out


def _candidates(view: Turnable) -> list[int]:
    """The turns under which the mask, or a photo with its own alpha, may lie as the camera has it."""
    own = view.header.orientation
    if view.mask_header is None:
        return [1, own]
    turns = (1, own, BACK[own]) if view.mask_header.orientation == 1 else (1, view.mask_header.orientation)
    return list(dict.fromkeys(turns))


def _clearly_best(scores: list[float]) -> int | None:
    order = np.argsort(scores)[::-1]
    if len(scores) < 2:
        return None
    misses = [1 - scores[i] for i in order[:2]]
    return int(order[0]) if misses[1] > max(misses[0] + CLEARER_SHARE, misses[0] * CLEARER_FACTOR) else None


def _upright_by_edges(
    views: list[Turnable], alphas: list[np.ndarray], kinds: list[list[int]], best: int | None
) -> bool | None:
    """Whether the photos' edges lie on their masks' outlines when the photos are turned; None if that is as good either way."""
    strengths = []
    for view, alpha, kind in zip(views, alphas, kinds, strict=True):
        if view.mask is None:
            continue
        mask_turn = kind[0 if best is None else min(best, len(kind) - 1)]
        rgb = decode.read_rgba(view.photo.path, 1, _fit(view.header.stored_size))[0][..., :3]
        outline = turned(cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_AREA), mask_turn) > 127
        strengths.append([_edge_strength(turned(rgb, turn), outline) for turn in (1, view.header.orientation)])
    if not strengths:
        return None
    stored, upright = np.mean(strengths, axis=0)
    return None if max(stored, upright) < SHARPER * min(stored, upright) else bool(upright > stored)


def _edge_strength(rgb: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]) -> float:
    """The photo's mean gradient along the mask's outline over its mean gradient everywhere."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    near = np.ones((3, 3), np.uint8)
    outline = cv2.dilate(mask.astype(np.uint8), near) != cv2.erode(mask.astype(np.uint8), near)
    return float(gradient[outline].mean() / max(float(gradient.mean()), 1e-6)) if outline.any() else 0.0


def _alpha(view: Turnable) -> np.ndarray:
    """The mask, or the photo's alpha, as stored and small."""
    if view.mask is None:
        return decode.read_rgba(view.photo.path, 1, _fit(view.header.stored_size))[0][..., 3]
    return decode.read_mask(view.mask, 1, _fit(view.mask_header.stored_size))


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    """The size, shrunk to a long side of at most EDGES."""
    scale = min(1.0, EDGES / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _spread(items: list[int], count: int) -> list[int]:
    """At most `count` of the items, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]
