"""The outline of a mask, moved by GrabCut (Rother et al. 2004) to where the photo's colours change, where it moves little.

GrabCut decides in a narrow band around the outline only. A change that goes further than a pixel or two is not the edge that
the mask meant, so it is undone with what changed beside it. A mask is H W uint8, 0 or 255. Axes: H W top row first.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

BAND = 0.012  # half the band's width, as a share of the photo's long side
MOST = 0.15  # of that may the outline move; further moves made good outlines worse
LONG_SIDE, ITERATIONS = 1000, 1  # of GrabCut


def refine(rgba: UInt8[np.ndarray, "H W 4"], alpha: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """The mask with its outline on the photo's edges nearby."""
    if not 0 < (alpha > 127).sum() < alpha.size:
        return alpha
    margin = round(2 * BAND * max(alpha.shape)) + 2
    rows, columns = np.flatnonzero((alpha > 127).any(1)), np.flatnonzero((alpha > 127).any(0))
    box = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
    out = alpha.copy()
    out[box] = _refine(rgba[box], alpha[box], BAND * max(alpha.shape), min(1.0, LONG_SIDE / max(alpha.shape)))
    return out


def _refine(rgba: np.ndarray, alpha: np.ndarray, band: float, scale: float) -> np.ndarray:
    """The same for a part of a photo, decided at a scale; the band is half as wide as given, in the photo's pixels."""
    size = max(8, round(alpha.shape[1] * scale)), max(8, round(alpha.shape[0] * scale))
    bgr = cv2.resize(np.ascontiguousarray(rgba[..., 2::-1]), size, interpolation=cv2.INTER_AREA)
    before = (cv2.resize(np.ascontiguousarray(alpha), size, interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(mask, cv2.DIST_L2, 3) for mask in (before, 1 - before))
    away, band = np.maximum(inside, outside), band * scale
    trimap = np.where(before > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[inside > band], trimap[outside > band] = cv2.GC_FGD, cv2.GC_BGD
    if not (inside > band).any() or not (outside > band).any():
        return alpha  # so thin, or so large, that the band holds one side of it
    cv2.setRNGSeed(0)
    cv2.grabCut(bgr, trimap, None, np.zeros((1, 65)), np.zeros((1, 65)), ITERATIONS, cv2.GC_INIT_WITH_MASK)
    after = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    far = ((after != before) & (away > max(MOST * band, 1.5))).astype(np.uint8)
    reach = 2 * round(band) + 1
    around = cv2.dilate(far, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0
    found: np.ndarray = np.where(around, before, after).astype(np.float32)
    if scale < 1:
        found = cv2.resize(found, alpha.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(found > 0.5, np.uint8(255), np.uint8(0))
