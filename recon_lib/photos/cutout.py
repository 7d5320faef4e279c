"""Masks of photos that come without: by the colour of a plain background, or by GrabCut (Rother et al. 2004) from a box.

Neither is safe in clutter. A background that is not plain is refused here, and what GrabCut makes is judged by the hull of all.
A mask that has too much is carved by the others; one that has too little bites the object. So holes are filled.

A mask is H W uint8, 0 or 255. Colours are compared in CIE Lab with values of 8 bits. Axes: H W top row first.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from recon_lib.photos.config import IngestConfig

BORDER, BOX = "mask_border", "mask_box"  # how a mask was made; `ingest` says it in words
STRIP = 0.02  # of the long side is the width of the border that is looked at
PLAIN = 0.9  # of the border must be like its median colour
TOLERANCE = (10.0, 40.0)  # least and largest distance in Lab of colours that are alike
SPREADS = 5.0  # that distance in median distances of the border's colours
SPECK = 0.02  # parts of the object smaller than this share of the largest are dropped
AREA = (0.005, 0.9)  # share of the photo that an object has
LONG_SIDE, ITERATIONS = 480, 6  # of GrabCut
TO_DO = "put it into masks/, photograph on a plain background, or set make_masks to box and the box around the object"


class Made(NamedTuple):
    """A mask and how it was made: a key of ingest.CONVERSIONS."""

    alpha: UInt8[np.ndarray, "H W"]
    note: str


Maker = Callable[[np.ndarray], Made]


def maker(config: IngestConfig) -> Maker | None:
    """What makes masks as the config says; None if it says never."""
    if config.make_masks == "never":
        return None
    if config.make_masks == "auto":
        return by_border
    box = config.box_left, config.box_top, config.box_right, config.box_bottom
    return lambda rgba: by_box(rgba, box)


def by_border(rgba: UInt8[np.ndarray, "H W 4"]) -> Made:
    """The object before a plain background. Raises ValueError where the border has many colours, or nothing stands out."""
    lab = cv2.cvtColor(np.ascontiguousarray(rgba[..., :3]), cv2.COLOR_RGB2LAB).astype(np.float32)
    width = max(2, round(STRIP * max(lab.shape[:2])))
    edge = np.zeros(lab.shape[:2], bool)
    edge[:width] = edge[-width:] = edge[:, :width] = edge[:, -width:] = True
    away = np.linalg.norm(lab - np.median(lab[edge], axis=0), axis=-1)
    tolerance = float(np.clip(SPREADS * np.median(away[edge]), *TOLERANCE))
    alike = float((away[edge] <= tolerance).mean())
    if alike < PLAIN:
        raise ValueError(
            f"mask: got neither transparency nor a mask file, and a background of many colours ({alike:.0%} of the border is "
            f"alike, {PLAIN:.0%} would be plain), needed a mask: {TO_DO}"
        )
    like = (cv2.GaussianBlur(away, (0, 0), 1.0) <= tolerance).astype(np.uint8)
    _, parts = cv2.connectedComponents(like, connectivity=4)
    outside = np.isin(parts, np.unique(parts[edge & (like > 0)]))
    return Made(_whole(~outside), BORDER)


def by_box(rgba: UInt8[np.ndarray, "H W 4"], box: tuple[float, float, float, float]) -> Made:
    """The object inside a box (left, top, right, bottom as shares of the photo) beside which nothing of it lies."""
    height, width = rgba.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(np.ascontiguousarray(rgba[..., 2::-1]), size, interpolation=cv2.INTER_AREA)
    left, top, right, bottom = (round(share * side) for share, side in zip(box, size * 2, strict=True))
    found = np.zeros(size[::-1], np.uint8)
    cv2.setRNGSeed(0)
    rectangle = (
        max(left, 1),
        max(top, 1),
        min(right, size[0] - 1) - max(left, 1),
        min(bottom, size[1] - 1) - max(top, 1),
    )
    cv2.grabCut(small, found, rectangle, np.zeros((1, 65)), np.zeros((1, 65)), ITERATIONS, cv2.GC_INIT_WITH_RECT)
    inside = np.isin(found, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return Made(_whole(cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5), BOX)


def _whole(inside: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """The large parts without holes. Raises ValueError where that is nearly nothing or nearly all of the photo."""
    smooth = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(smooth)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas >= SPECK * areas.max(initial=1))
    alpha = np.isin(parts, large).astype(np.uint8) * 255
    outlines, _ = cv2.findContours(alpha, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(alpha, outlines, -1, 255, cv2.FILLED)
    share = float((alpha > 0).mean())
    if not AREA[0] <= share <= AREA[1]:
        raise ValueError(
            f"mask: got neither transparency nor a mask file, and an object that by its colours has {share:.1%} of the photo, "
            f"needed a mask: {TO_DO}"
        )
    return alpha
