"""Masks that were made here, mended by the hull of the others: what no other shows is cut off, what they show is put back.

The hull's silhouette in a photo is larger than the object's, by what no photo carves away. So a mask that reaches beyond it is
wrong there, and is cut. A mask that lacks much of it may be right; it is mended only where it agrees with the hull badly, and
GrabCut (Rother et al. 2004) then decides by colour what lacks, outside of the core of the silhouette. It takes nothing away
that mask and silhouette both have: colours of the object that are like the background's would be bitten out. And it adds no
piece whose colours are nearer to the background beside it than to the mask's: photos from one side make a hull far too large.

A mask is H W uint8, 0 or 255; a silhouette is small, and is compared at the mask's size. Axes: H W top row first.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy.spatial import cKDTree

THICK = 0.009  # of the silhouette's longer side; a piece of a mask is thick from twice this
BEYOND = 0.005  # of the silhouette's area; a mask with so much outside of it, in thick pieces, is cut; less is a thin true part
# If the mask is wrong, what lacks on one side is at most so much of what lacks on the other. If the camera is wrong, mask and
# silhouette both reach beyond each other.
ONE_SIDED = 0.46
LEAST = 0.35  # of the silhouette must lie in the mask
MARGIN = 0.006  # of the silhouette's longer side; by this a silhouette is uncertain
CORE = 0.05  # the same, for what is surely object
LONG_SIDE, ITERATIONS = 480, 3  # of GrabCut
BESIDE = 0.08  # of the silhouette's longer side; so near a piece its colours are compared
ALIKE, SAMPLES = 5, 4000  # nearest colours that are compared with, of so many on each side


class Compared(NamedTuple):
    """A mask beside the silhouette of the hull."""

    agreement: float  # intersection over union
    held: float  # share of the silhouette that the mask holds
    within: float  # share of the mask that lies in the silhouette
    beyond: float  # area of thick pieces of the mask outside of the silhouette, as a share of the silhouette's

    @property
    def says(self) -> str:
        """What is wrong, in words."""
        if not self._is_one_sided:
            return "its camera, or its whole mask, contradicts the others"
        return (
            "its mask has something beside the object" if self.lacks_little else "its mask lacks a part of the object"
        )

    @property
    def lacks_little(self) -> bool:
        """Whether the mask reaches further beyond the silhouette than the silhouette beyond the mask."""
        return self.held >= self.within

    @property
    def _is_one_sided(self) -> bool:
        less, more = sorted((1 - self.held, 1 - self.within))
        return less <= ONE_SIDED * more and self.held >= LEAST

    def is_flagged(self, agrees: bool) -> bool:
        """Whether the mask is to be mended, of a view that agrees with the others or does not."""
        return self.beyond > BEYOND if agrees else self._is_one_sided


def compare(alpha: UInt8[np.ndarray, "H W"], silhouette: Bool[np.ndarray, "_ _"]) -> Compared:
    """Compares them at the silhouette's size."""
    mask = cv2.resize(np.ascontiguousarray(alpha), silhouette.shape[::-1], interpolation=cv2.INTER_AREA) > 127
    both, area = (mask & silhouette).sum(), max(int(silhouette.sum()), 1)
    radius = max(1, round(MARGIN * _side(silhouette)))
    outside = (mask & ~(cv2.dilate(silhouette.astype(np.uint8), _disc(radius)) > 0)).astype(np.uint8)
    thick = cv2.morphologyEx(outside, cv2.MORPH_OPEN, _disc(max(1, round(THICK * _side(silhouette))))).sum()
    either, own = max(int((mask | silhouette).sum()), 1), max(int(mask.sum()), 1)
    return Compared(float(both / either), float(both / area), float(both / own), float(thick / area))


def mend(
    rgba: UInt8[np.ndarray, "H W 4"], silhouette: Bool[np.ndarray, "_ _"], compared: Compared
) -> UInt8[np.ndarray, "H W"]:
    """The photo's alpha, cut by the silhouette, and filled up where it lacks much."""
    size = rgba.shape[1::-1]
    shown = cv2.resize(silhouette.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
    reach = max(1, round(MARGIN * _side(shown)))
    bound = cv2.dilate(shown.astype(np.uint8), _disc(reach)) > 0
    # The margin is for right outlines. Beside what is cut off there is none, and the silhouette itself is the better guess.
    cut = ((rgba[..., 3] > 127) & ~bound).astype(np.uint8)
    beside = cv2.dilate(cut, _disc(2 * reach)) > 0
    alpha = np.where(bound & (shown | ~beside), rgba[..., 3], np.uint8(0))
    return alpha if compared.lacks_little else _filled(rgba, alpha, shown, bound)


def _filled(rgba: np.ndarray, alpha: np.ndarray, shown: np.ndarray, bound: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    """The mask and what GrabCut takes for the object of the rest of the silhouette."""
    agreed = (alpha > 127) & shown
    scale = min(1.0, LONG_SIDE / max(alpha.shape))
    size = max(8, round(alpha.shape[1] * scale)), max(8, round(alpha.shape[0] * scale))
    bgr = cv2.resize(np.ascontiguousarray(rgba[..., 2::-1]), size, interpolation=cv2.INTER_AREA)
    mask, shown, bound = (
        cv2.resize(one.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0 for one in (alpha > 127, shown, bound)
    )
    core = cv2.erode(shown.astype(np.uint8), _disc(max(1, round(CORE * _side(shown))))) > 0
    trimap = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[~bound], trimap[core] = cv2.GC_BGD, cv2.GC_FGD
    if not core.any() or bound.all():
        return alpha
    cv2.setRNGSeed(0)
    cv2.grabCut(bgr, trimap, None, np.zeros((1, 65)), np.zeros((1, 65)), ITERATIONS, cv2.GC_INIT_WITH_MASK)
    added = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)) & ~mask
    lab = cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB).astype(np.float32)
    added = _like_the_object(lab, added, mask, ~bound, round(BESIDE * _side(shown)))
    inside = (mask | added).astype(np.float32)
    found = cv2.resize(inside, alpha.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return np.where(found | agreed, np.uint8(255), np.uint8(0))


def _like_the_object(
    lab: Float32[np.ndarray, "H W 3"], added: Bool[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"],
    outside: Bool[np.ndarray, "H W"], beside: int,
) -> Bool[np.ndarray, "H W"]:  # fmt: skip
    """Those pieces of what was added whose colours, in the median, are nearer to the mask's than to those outside."""
    count, pieces = cv2.connectedComponents(added.astype(np.uint8))
    out = np.zeros_like(added)
    for piece in (pieces == number for number in range(1, count)):
        near = cv2.dilate(piece.astype(np.uint8), _disc(beside)) > 0
        sides = [lab[near & side] for side in (mask, outside)]
        if min(map(len, sides)) < ALIKE:
            continue
        trees = [cKDTree(colours[:: 1 + len(colours) // SAMPLES]) for colours in sides]
        to_object, to_outside = (np.median(tree.query(lab[piece], ALIKE)[0]) for tree in trees)
        if to_object < to_outside:
            out |= piece
    return out


def _side(mask: np.ndarray) -> int:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(max(np.ptp(rows), np.ptp(columns))) + 1 if len(rows) else 1


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
