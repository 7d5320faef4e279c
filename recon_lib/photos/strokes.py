"""A mask from what a person draws on one photo: a box around the object, and strokes on it and beside it (Rother et al. 2004).

Places are shares of the photo's width and height, 0 to 1, from its top-left corner. Axes: H W top row first.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from recon_lib.photos.boxes import Box

LONG_SIDE, ITERATIONS = 640, 5  # of GrabCut
THICK = 0.012  # of a stroke, as a share of the long side


class Stroke(NamedTuple):
    """A line that a person drew."""

    on_object: bool  # else beside it
    points: list[tuple[float, float]]  # x, y


def mask(rgb: UInt8[np.ndarray, "H W 3"], box: Box | None, strokes: list[Stroke]) -> UInt8[np.ndarray, "H W"]:
    """The object's mask, 0 or 255. Later strokes win over earlier ones, and strokes win over the box.

    Raises ValueError where nothing says what the object is, and where nothing of the photo is left.
    """
    if box is None and not any(stroke.on_object for stroke in strokes):
        raise ValueError("mask: got neither a box around the object nor a stroke on it, needed one of them")
    height, width = rgb.shape[:2]
    shrink = min(1.0, LONG_SIDE / max(height, width))
    small = cv2.resize(rgb, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else rgb
    h, w = small.shape[:2]
    label = np.full((h, w), cv2.GC_PR_BGD if box is None else cv2.GC_BGD, np.uint8)
    if box is not None:
        left, top, right, bottom = box
        label[round(top * h) : max(round(bottom * h), 1), round(left * w) : max(round(right * w), 1)] = cv2.GC_PR_FGD
    for stroke in strokes:
        line = np.array([[x * w, y * h] for x, y in stroke.points]).round().astype(np.int32)
        cv2.polylines(
            label, [line], False, cv2.GC_FGD if stroke.on_object else cv2.GC_BGD, max(1, round(THICK * max(h, w)))
        )
    known = np.isin(label, (cv2.GC_BGD, cv2.GC_PR_BGD))
    if known.all() or not known.any():
        raise ValueError("mask: got all of the photo or nothing of it as object, needed some background beside it")
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), label, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    found = np.isin(label, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * 255
    if not found.any():
        raise ValueError("mask: nothing is left; draw a stroke on the object")
    return np.where(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR) > 127, 255, 0).astype(np.uint8)
