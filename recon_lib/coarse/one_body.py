"""One body of a field of several: what the grid tore apart is joined, the largest is kept, and what is dropped is told.

Every point of space lies within half a voxel's diagonal of a grid point. So where a neck is too thin for the grid, a path of
grid points leads through it at which the signed distance is below that. Bodies are joined along the cheapest such path; a wider
gap is a real one. Volumes are those that enough views look at: at least ENOUGH times as many as at the best seen point, which
is half of the views where the object is whole in each. Axes: X Y Z grid points; distances are world units, negative inside.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int
from scipy import ndimage
from skimage import graph

from recon_lib.surface import grid_mesh

UNRESOLVED = 3**0.5 / 2  # voxels: half the diagonal of one
CRUMB = 8  # grid points; a smaller body is not joined
ENOUGH = 0.5  # of the number of views that look at the best seen point
MOST_DROPPED = 0.02  # of the volume
AROUND = ndimage.generate_binary_structure(3, 1)


class TornApart(ValueError):
    """The object is in several bodies that stand apart, and the largest is too little of it."""


class Kept(NamedTuple):
    """What became of the bodies that enough views see."""

    found: int  # bodies of at least CRUMB grid points on the grid
    joined: int  # of these, to the one that was kept
    dropped: int  # of these
    dropped_share: float  # of the volume, crumbs included

    def sentence(self) -> str:
        """The counts in words."""
        count = "one body" if self.found == 1 else f"{self.found} bodies"
        joined = (
            f"; {self.joined} of them joined the largest across gaps that the grid cannot resolve"
            if self.joined
            else ""
        )
        lost = f"{self.dropped} of them and crumbs were" if self.dropped else "crumbs were"
        share = f"{self.dropped_share:.2%} of the volume that enough photos look at"
        dropped = f"; {lost} dropped, {share}" if self.dropped_share else "; nothing was dropped"
        return f"On the grid the object was in {count}{joined}{dropped}."

    def remarks(self) -> tuple[str, ...]:
        """The sentence where more than crumbs stood apart."""
        return (self.sentence(),) if self.found > 1 else ()


def well_seen(seen: Int[np.ndarray, "X Y Z"]) -> np.ndarray:
    """Where enough views look; `seen` is the number of views that look at each grid point, 0 where nobody asks."""
    return seen >= max(1.0, ENOUGH * seen.max())


def keep(
    field: Float32[np.ndarray, "X Y Z"], seen: Int[np.ndarray, "X Y Z"], spacing: float
) -> tuple[Float32[np.ndarray, "X Y Z"], Kept]:
    """The field with one body without hollows, and what became of the others. `seen` is asked where the field is negative.

    Raises TornApart where more than MOST_DROPPED of the volume would be dropped, and ValueError if nothing is negative.
    """
    bodies, count = ndimage.label(field < 0)
    counted = well_seen(seen) & (field < 0)
    sizes = np.bincount(bodies[counted], minlength=count + 1)
    whole = np.flatnonzero(sizes >= CRUMB)
    joined = _bridged(field, bodies, sizes, whole, spacing) if len(whole) > 1 else field
    kept = grid_mesh.keep_largest_body(joined, spacing, counted)
    lost = np.bincount(bodies[kept < 0], minlength=count + 1) == 0
    found, dropped = max(len(whole), 1), int(lost[whole].sum())
    account = Kept(found, found - dropped - 1, dropped, float(sizes[lost].sum() / max(sizes.sum(), 1)))
    if account.dropped_share > MOST_DROPPED:
        lost_share = f"{account.dropped_share:.1%} of its volume would be lost, at most {MOST_DROPPED:.0%} may be"
        raise TornApart(
            f"the object is in {account.found} bodies that stand apart: if only the largest is kept, {lost_share}; check that "
            "each mask shows one connected object, or raise resolution"
        )
    return kept, account


def _bridged(field: np.ndarray, bodies: np.ndarray, sizes: np.ndarray, whole: np.ndarray, spacing: float) -> np.ndarray:
    """The field with tubes between the `whole` bodies of the largest group that the grid may have torn apart.

    `bodies` names each point's body, `sizes` tells each body's.
    """
    near, groups = ndimage.label(field < UNRESOLVED * spacing)
    group_of = np.zeros(len(sizes), int)
    group_of[bodies[bodies > 0]] = near[bodies > 0]
    best = np.bincount(group_of, weights=sizes, minlength=groups + 1).argmax()
    first, *others = [np.argwhere(bodies == name)[0] for name in whole if group_of[name] == best]
    # Inside a body a step costs next to nothing, so a path leads through other bodies where it can.
    costs = np.where(near == best, np.maximum(field, 0) / spacing + 1e-4, -1.0)
    paths = graph.MCP(costs, fully_connected=False)
    paths.find_costs([first])
    tube = np.zeros(field.shape, bool)
    for place in others:
        tube[tuple(np.transpose(paths.traceback(place)))] = True
    tube = ndimage.binary_dilation(tube & (field >= 0), AROUND)
    return np.where(tube, np.minimum(field, np.float32(-0.25 * spacing)), field)
