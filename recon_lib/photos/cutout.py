"""Masks of photos that come without: by the colour of a plain background, a network, or GrabCut (Rother et al. 2004) in a box.

None is safe in clutter. So what a network or GrabCut makes is judged by the hull of all. A mask that has too much is carved by
the others; one that has too little bites the object. So holes are filled, but for the network's, which knows handles.

A mask is H W uint8, 0 or 255. Colours are compared in CIE Lab with values of 8 bits. Axes: H W top row first.
"""

import posixpath
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from recon_lib.photos import network, outline
from recon_lib.photos.boxes import Box
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.network import Matte
from recon_lib.weights import store

# How a mask was made, and that it is doubtful or empty; `ingest` says it in words.
BORDER, BOX, NETWORK = "mask_border", "mask_box", "mask_network"
DOUBTFUL, EMPTY = "mask_doubtful", "mask_empty"
WHOSE = {known.name: f"mask_of_{known.name}" for known in network.NETWORKS}  # which network made it
UNSURE = frozenset((BOX, NETWORK))  # made in clutter, so that the hull has to confirm them
MADE = UNSURE | {BORDER}  # made here, so that they may be mended
STRIP = 0.02  # of the long side is the width of the border that is looked at
PLAIN = 0.9  # of the border must be like its median colour
TOLERANCE = (10.0, 40.0)  # least and largest distance in Lab of colours that are alike
SPREADS = 5.0  # that distance in median distances of the border's colours
SPECK = 0.02  # parts of the object smaller than this share of the largest are dropped
HOLE = 0.003  # of the object's area; a smaller hole in a network's mask is a dark spot, not a gap to see through
AREA = (0.005, 0.9)  # share of the photo that an object has
LONG_SIDE, ITERATIONS = 480, 6  # of GrabCut
SOFT = 0.15  # of the object's area is unclear to the network: a mask with more is doubtful
TOUCHING = 0.05  # of the photo's border: a mask that covers more is doubtful
TO_DO = (
    f"get a network ({network.FETCH}), put a mask into masks/, photograph on a plain background, or set make_masks to box and "
    "the box around the object"
)


class Made(NamedTuple):
    """A mask and how it was made: keys of ingest.CONVERSIONS."""

    alpha: UInt8[np.ndarray, "H W"]
    notes: tuple[str, ...]


Maker = Callable[[np.ndarray, str], Made]  # of a photo and its label


def maker(config: IngestConfig, box_of: dict[str, Box]) -> Maker | None:
    """What makes masks as the config says; None if it says never. Raises ValueError where the network asked for is missing."""
    if config.make_masks == "never":
        return None
    if config.make_masks == "box":
        of_all = config.box_left, config.box_top, config.box_right, config.box_bottom
        return lambda rgba, label: by_box(rgba, box_of.get(posixpath.basename(label).lower(), of_all))
    by_network = _network_maker()
    if config.make_masks == "network":
        if by_network is None:
            raise ValueError(
                f"make_masks: got network, but no network in {store.folder() / 'photos'}, needed one: {network.FETCH}"
            )
        return by_network
    if by_network is None:
        return lambda rgba, label: by_border(rgba)
    return lambda rgba, label: by_border(rgba) if has_plain_border(rgba) else by_network(rgba, label)


def _network_maker() -> Maker | None:
    """Makes masks by the network that is there. It is loaded for the first photo, and sees one photo at a time."""
    folder, lock, loaded = store.folder(), Lock(), list[Matte]()
    found = network.find(folder)
    if found is None:
        return None

    def make(rgba: np.ndarray, label: str) -> Made:
        with lock:
            if not loaded:
                loaded.append(network.load(found, folder))
            matte = loaded[0](np.ascontiguousarray(rgba[..., :3]))
        made = by_matte(rgba, matte)
        return made._replace(notes=(*made.notes, WHOSE[found.name]))

    return make


def by_matte(rgba: UInt8[np.ndarray, "H W 4"], matte: Float[np.ndarray, "H W"]) -> Made:
    """The object by a network's matte, its outline refined by the photo's colours."""
    if (matte > 0.5).mean() < AREA[0]:
        return Made(np.zeros(matte.shape, np.uint8), (NETWORK, EMPTY))
    alpha = outline.refine(rgba, _whole(matte > 0.5, filled=False))
    inside = alpha > 127
    soft = ((matte > 0.1) & (matte < 0.9)).sum() / inside.sum()
    border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).mean()
    return Made(alpha, (NETWORK, DOUBTFUL) if soft > SOFT or border > TOUCHING else (NETWORK,))


def has_plain_border(rgba: UInt8[np.ndarray, "H W 4"]) -> bool:
    """Whether the photo's border has one even colour, as that of a sweep or a cut-out; a table and a dull wall do not."""
    border = _border(rgba)
    return border.alike >= PLAIN and border.tolerance <= TOLERANCE[0]


class _Border(NamedTuple):
    away: Float[np.ndarray, "H W"]  # distance from the border's median colour
    edge: Bool[np.ndarray, "H W"]
    tolerance: float
    alike: float  # share of the border within the tolerance


def _border(rgba: np.ndarray) -> _Border:
    lab = cv2.cvtColor(np.ascontiguousarray(rgba[..., :3]), cv2.COLOR_RGB2LAB).astype(np.float32)
    width = max(2, round(STRIP * max(lab.shape[:2])))
    edge = np.zeros(lab.shape[:2], bool)
    edge[:width] = edge[-width:] = edge[:, :width] = edge[:, -width:] = True
    away = np.linalg.norm(lab - np.median(lab[edge], axis=0), axis=-1)
    tolerance = float(np.clip(SPREADS * np.median(away[edge]), *TOLERANCE))
    return _Border(away, edge, tolerance, float((away[edge] <= tolerance).mean()))


def by_border(rgba: UInt8[np.ndarray, "H W 4"]) -> Made:
    """The object before a plain background. Raises ValueError where the border has many colours, or nothing stands out."""
    away, edge, tolerance, alike = _border(rgba)
    if alike < PLAIN:
        raise ValueError(
            f"mask: got neither transparency nor a mask file, and a background of many colours ({alike:.0%} of the border is "
            f"alike, {PLAIN:.0%} would be plain), needed a mask: {TO_DO}"
        )
    like = (cv2.GaussianBlur(away, (0, 0), 1.0) <= tolerance).astype(np.uint8)
    _, parts = cv2.connectedComponents(like, connectivity=4)
    outside = np.isin(parts, np.unique(parts[edge & (like > 0)]))
    return Made(_whole(~outside, filled=True), (BORDER,))


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
    return Made(_whole(cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5, filled=True), (BOX,))


def _whole(inside: Bool[np.ndarray, "H W"], filled: bool) -> UInt8[np.ndarray, "H W"]:
    """The large parts, with all their holes filled, or the small ones only.

    Raises ValueError where that is nearly nothing or nearly all of the photo.
    """
    smooth = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(smooth)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas >= SPECK * areas.max(initial=1))
    alpha = np.isin(parts, large).astype(np.uint8) * 255
    most = np.inf if filled else HOLE * (alpha > 0).sum()
    _, gaps, stats, _ = cv2.connectedComponentsWithStats(255 - alpha, connectivity=4)
    beside = {*gaps[0], *gaps[-1], *gaps[:, 0], *gaps[:, -1]}  # what reaches the border is no hole
    holes = [i for i in range(1, len(stats)) if i not in beside and stats[i, cv2.CC_STAT_AREA] < most]
    alpha[np.isin(gaps, holes)] = 255
    share = float((alpha > 0).mean())
    if not AREA[0] <= share <= AREA[1]:
        raise ValueError(
            f"mask: got neither transparency nor a mask file, and an object that has {share:.1%} of the photo, "
            f"needed a mask: {TO_DO}"
        )
    return alpha
