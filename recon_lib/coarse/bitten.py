"""Masks that lack parts of the object: a bitten mask carves a tunnel through the hull, and the other photos know better.

Masks are suspected where rays through them miss the hull, because then some mask denies what this one shows, and where few of
them have holes. A suspected hull bounds the search for depths only where two masks agree. Points that several photos then agree
on, and that few masks deny, show what a mask lacks. Axes: H W pixels, B photos, P points.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from recon_lib import camera
from recon_lib.camera import Cameras

MISSED = 0.001  # of a mask's pixels; fewer that miss the hull, or that are holes, are noise
AROUND = np.ones((7, 7), np.uint8)  # pixels nearer to the outline are not asked
DENIED_BY = 0.25  # of the photos in which a point lies; a point that more masks deny is wrong itself
WIDE = 3.0  # pixels of the depth maps; a narrower gap beside the mask is the noise of its outline
ENCLOSED = 0.7  # of the border of a part that is missing; one that stands out of the outline is a wrong depth
AGAIN = 2.0  # pixels of the depth maps between two points of one surface, at most


def suspected(masks: Bool[np.ndarray, "B H W"], reached: Bool[np.ndarray, "B H W"]) -> bool:
    """Whether masks may lack parts; `reached` are the pixels whose rays meet the hull that the masks make."""
    missed, holes = [], []
    for mask, meets in zip(masks, reached, strict=True):
        missed.append((cv2.erode(mask.astype(np.uint8), AROUND) * ~meets).sum() / mask.sum())
        holes.append((ndimage.binary_fill_holes(mask) & ~mask).sum() / mask.sum())
    return bool(np.mean(missed) > MISSED or (max(holes) > MISSED and np.median(holes) < MISSED / 10))


class Mended(NamedTuple):
    alphas: list[Float32[np.ndarray, "H W"]]
    added: list[float]  # by photo, what was missing as a share of the mask; 0 for a mask that was left alone


def mend(
    alphas: list[Float32[np.ndarray, "H W"]], cameras: Cameras, points: Float[np.ndarray, "P 3"], pixel: float
) -> Mended:
    """The masks with those parts added that the agreed `points` (world) show and that lie within the mask.

    `pixel` is the size of the depth maps' pixels in pixels of the photos.
    """
    outside, places = [], []
    looked, denied = np.zeros(len(points), int), np.zeros(len(points), int)
    p_world = torch.from_numpy(points).to(cameras.T_world_cam)
    for view, alpha in enumerate(alphas):
        far = cv2.distanceTransform((alpha <= 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        xy, depth = camera.project(cameras[[view]], p_world)
        at, height, width = np.floor(xy[0].double().numpy()).astype(int), *alpha.shape
        seen = (depth[0].numpy() > 0) & (at >= 0).all(1) & (at < (width, height)).all(1)
        rows, columns = at[:, 1].clip(0, height - 1), at[:, 0].clip(0, width - 1)
        looked += seen
        denied += seen & (far[rows, columns] > pixel)
        outside.append(far)
        places.append((seen, rows, columns))
    known = denied <= DENIED_BY * looked
    mended, added = [], []
    for alpha, far, (seen, rows, columns) in zip(alphas, outside, places, strict=True):
        shown = np.zeros(alpha.shape, np.uint8)
        shown[rows[seen & known], columns[seen & known]] = 1
        gap = _closed(shown, AGAIN * pixel) & (alpha <= 0.5)
        lacking = _bites(gap, alpha > 0.5, far, WIDE * pixel)
        mended.append(np.where(lacking, np.float32(1), alpha))
        added.append(float(lacking.sum() / max((alpha > 0.5).sum(), 1)))
    return Mended(mended, added)


def remarks(names: tuple[str, ...], added: list[float]) -> tuple[str, ...]:
    """One sentence if a mask was mended; `names` are the photos'."""
    mended = [name for name, share in zip(names, added, strict=True) if share]
    if not mended:
        return ()
    worst = int(np.argmax(added))
    return (
        f"{len(mended)} of {len(names)} masks lack parts that other photos agree on, at most {added[worst]:.1%} of a mask "
        f"({names[worst]}); they were carved as if they had them.",
    )


def _closed(shown: np.ndarray, reach: float) -> Bool[np.ndarray, "H W"]:
    size = 2 * int(np.ceil(reach)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.morphologyEx(shown, cv2.MORPH_CLOSE, disc) > 0


def _bites(
    gap: Bool[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"], far: np.ndarray, wide: float
) -> Bool[np.ndarray, "H W"]:
    """Those parts of the gap that the mask encloses on most sides and that reach farther than `wide` pixels from it."""
    _, names = cv2.connectedComponents(gap.astype(np.uint8), connectivity=8)
    count = names.max() + 1
    reach = ndimage.maximum(far, names, np.arange(count))
    around = cv2.dilate(names.astype(np.float32), np.ones((3, 3), np.uint8)).astype(int)
    border = (names == 0) & (around > 0)
    sides = np.bincount(around[border], minlength=count)
    enclosed = np.bincount(around[border & mask], minlength=count) > ENCLOSED * np.maximum(sides, 1)
    found = (reach > wide) & enclosed
    found[0] = False
    return found[names]
