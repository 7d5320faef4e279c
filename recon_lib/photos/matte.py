"""Masks as people have them, made what the fit needs: the object white, its rim sharp, nothing beside it.

A mask is grey, H W uint8; the object is where it is > 127.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

VEIL = 32  # what JPEG adds to black and takes from white beside an edge
PARTIAL = (13, 242)  # grey values between these are neither object nor background
WIDEST_RIM = 4.0  # mean width of the grey rim, pixels; a wider one is soft
RIM_SHARE, RIM_REACH = (
    0.9,
    0.04,
)  # so many of the grey pixels lie this near the outline, in image sides, if a rim is all that is grey
BORDER_SHARE = 0.6  # of the photo's border lies in an inverted mask
# What was done to a mask; `ingest` says it in words.
INVERTED, HARDENED, UNVEILED, STRETCHED = "mask_inverted", "mask_soft", "mask_veil", "mask_dark"


def is_inverted(masks: list[UInt8[np.ndarray, "_ _"]]) -> bool:
    """Whether most of the masks cover the border of their photos all around, and so show the background."""
    return sum(map(_covers_border, masks)) > len(masks) / 2


def stretch(alpha: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """A mask of two dark values, as programs write that number their classes 0 and 1: the larger becomes 255."""
    low, high = int(alpha.min()), int(alpha.max())
    two = low < high <= 127 and ((alpha == low) | (alpha == high)).all()
    return np.where(alpha == high, 255, 0).astype(np.uint8) if two else alpha


def clean(
    alpha: UInt8[np.ndarray, "H W"], inverted: bool, lossy: bool
) -> tuple[UInt8[np.ndarray, "H W"], tuple[str, ...]]:
    """The mask put right, and what was done; `lossy`: it was stored as JPEG."""
    notes: tuple[str, ...] = ()
    if inverted:
        alpha, notes = 255 - alpha, (INVERTED,)
    if lossy and (((alpha > 0) & (alpha < VEIL)) | ((alpha < 255) & (alpha > 255 - VEIL))).any():
        alpha = np.where(alpha < VEIL, 0, np.where(alpha > 255 - VEIL, 255, alpha)).astype(np.uint8)
        notes += (UNVEILED,)
    if is_soft(alpha):
        # Blurring leaves the outline at one half; colours outside it are the background's.
        alpha = np.where(alpha > 127, 255, 0).astype(np.uint8)
        notes += (HARDENED,)
    return alpha, notes


def is_soft(alpha: UInt8[np.ndarray, "H W"]) -> bool:
    """Whether the mask's rim is a ramp of many pixels; a translucent object, grey inside, is not soft."""
    partial = (alpha >= PARTIAL[0]) & (alpha <= PARTIAL[1])
    if not partial.any():
        return False
    inside = (alpha > 127).astype(np.uint8)
    outline = inside - cv2.erode(inside, np.ones((3, 3), np.uint8))
    if partial.sum() <= WIDEST_RIM * max(int(outline.sum()), 1):
        return False
    away = cv2.distanceTransform(1 - outline, cv2.DIST_L2, 3)
    return bool((away[partial] <= max(WIDEST_RIM, RIM_REACH * max(alpha.shape))).mean() >= RIM_SHARE)


def _covers_border(alpha: np.ndarray) -> bool:
    inside = alpha > 127
    sides = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    return bool(all(side.any() for side in sides) and np.concatenate(sides).mean() >= BORDER_SHARE and not inside.all())
