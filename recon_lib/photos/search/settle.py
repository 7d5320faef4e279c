"""Cameras and masks brought to agree: views that contradict the others are left out, masks that were made here are mended.

The hull judges, masks that it can mend are mended by the views that agree, and it judges again. What then still disagrees is
left out. An empty mask says nothing and is left out at once. Axes: B views, H W pixels.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from recon_lib.camera import Cameras
from recon_lib.photos.search import judge, repair

ROUNDS = 2  # of mending


class Settled(NamedTuple):
    """Which views agree in the end, with which masks, and why the others do not."""

    alphas: list[UInt8[np.ndarray, "_ _"]]  # mended, or as they were
    before: Float[np.ndarray, " B"]  # agreement of each mask with the silhouette of the hull of all; 0 of an empty one
    after: Float[np.ndarray, " B"]  # the same after mending, with the hull of those that are kept
    kept: Bool[np.ndarray, " B"]
    mended: Bool[np.ndarray, " B"]
    why: dict[int, str]  # what is wrong with each view that is left out
    body: Float[np.ndarray, "N 3"]  # points of the body in the world

    @property
    def is_enough(self) -> bool:
        """Whether enough views are left, and make a body."""
        return judge.is_enough(self.kept) and len(self.body) > 0


def settle(rgbas: list[UInt8[np.ndarray, "_ _ 4"]], cameras: Cameras, made: Bool[np.ndarray, " B"]) -> Settled:
    """Judges and mends; only masks that were made here may be mended."""
    alphas = [rgba[..., 3] for rgba in rgbas]
    there = np.array([(alpha > 127).any() for alpha in alphas])
    index = np.flatnonzero(there).tolist()
    why = {i: "its mask is empty: no object was found in the photo" for i in np.flatnonzero(~there).tolist()}
    if len(index) < 2:
        none = np.zeros(len(rgbas))
        return Settled(alphas, none, none, none > 0, none > 0, why, np.zeros((0, 3)))
    shown, mended = cameras[index], np.zeros(len(rgbas), bool)
    judged = first = judge.judge([alphas[i] for i in index], shown)
    compared: list[repair.Compared] = []
    for _ in range(ROUNDS):
        if not judged.is_enough:
            break
        outlines = judge.silhouettes_of([alphas[i] for i in index], shown, judged.kept)
        compared = [repair.compare(alphas[i], outline) for i, outline in zip(index, outlines, strict=True)]
        flagged = [k for k, one in enumerate(compared) if made[index[k]] and one.is_flagged(bool(judged.kept[k]))]
        if not flagged:
            break
        for k in flagged:
            i = index[k]
            alphas[i] = repair.mend(np.dstack([rgbas[i][..., :3], alphas[i]]), outlines[k], compared[k])
            mended[i] = True
        judged = judge.judge([alphas[i] for i in index], shown)
    kept = there.copy()
    kept[index] = judged.kept
    for k in np.flatnonzero(~judged.kept).tolist():
        said = compared[k].says if compared else "the hull of all contradicts it"
        why[index[k]] = f"{said}: the hull agrees with its mask by {judged.after[k]:.2f}, needed {judge.LEVELS[-1][1]}"
    return Settled(alphas, _spread(first.before, there), _spread(judged.after, there), kept, mended, why, judged.body)


def _spread(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    out = np.zeros(len(there))
    out[there] = values
    return out
