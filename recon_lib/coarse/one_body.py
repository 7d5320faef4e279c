"""One body of a field of several: what the grid tore apart is joined, the largest is kept, and what is dropped is told.

Every point of space lies within half a voxel's diagonal of a grid point. So where a neck is too thin for the grid, a path of
grid points leads through it at which the signed distance is below that. Bodies are joined along the cheapest such path; a wider
gap is a real one. Only bodies that the masks need are joined or missed (`phantoms`), and volumes are of what enough views look
at (`visibility`). Axes: X Y Z grid points; distances are world units, negative inside.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int
from scipy import ndimage
from skimage import graph

from recon_lib.camera import Cameras
from recon_lib.coarse import phantoms, visibility
from recon_lib.surface import grid_mesh

UNRESOLVED = 3**0.5 / 2  # voxels: half the diagonal of one
CRUMB = 8  # grid points; a smaller body is not joined
MOST_DROPPED = 0.02  # of the volume
MOSTLY = 0.5  # of a body's points within a voxel of its surface
AROUND = ndimage.generate_binary_structure(3, 1)


class TornApart(ValueError):
    """The object is in several bodies that stand apart, and the largest is too little of it."""


class Kept(NamedTuple):
    """What became of the bodies that enough views look at. Shares are of the volume of all of these."""

    found: int  # bodies that the masks need, of at least CRUMB grid points
    joined: int  # of these, to the one that was kept
    dropped: int  # of these
    dropped_share: float  # crumbs included
    phantoms: int  # bodies that lie behind the others in every photo; all were dropped
    phantom_share: float

    def sentence(self) -> str:
        """The counts in words."""
        said = f"On the grid the object was in {'one body' if self.found == 1 else f'{self.found} bodies'}"
        if self.joined:
            said += f"; {self.joined} of them joined the largest across gaps that the grid cannot resolve"
        if self.dropped_share:
            lost = f"{self.dropped} of them and crumbs were" if self.dropped else "crumbs were"
            said += f"; {lost} dropped, {self.dropped_share:.2%} of the volume that enough photos look at"
        if self.phantoms:
            several = (
                f"{self.phantoms} phantoms of the hull were" if self.phantoms > 1 else "one phantom of the hull was"
            )
            said += f"; {several} dropped, hidden behind the object in every photo, {self.phantom_share:.2%}"
        return f"{said}." if self.dropped_share or self.phantoms else f"{said}; nothing was dropped."

    def remarks(self) -> tuple[str, ...]:
        """The sentence where more than crumbs stood apart."""
        return (self.sentence(),) if self.found > 1 else ()


class Bodies(NamedTuple):
    name_at: Int[np.ndarray, "X Y Z"]  # of the body that each point belongs to, 0 outside
    sizes: Int[np.ndarray, " N"]  # by name, in grid points
    whole: Int[np.ndarray, " M"]  # names of those that are no crumbs, largest first


def bodies_of(inside: Bool[np.ndarray, "X Y Z"], counted: Bool[np.ndarray, "X Y Z"]) -> Bodies:
    """The bodies (connected parts) of `inside`, as large as their points that are `counted`."""
    name_at, count = ndimage.label(inside)
    sizes = np.bincount(name_at[counted & inside], minlength=count + 1)
    return Bodies(name_at, sizes, np.argsort(-sizes, kind="stable")[: (sizes >= CRUMB).sum()])


def keep(
    field: Float32[np.ndarray, "X Y Z"],
    origin: np.ndarray,
    spacing: float,
    cameras: Cameras,
    found: Bool[np.ndarray, "X Y Z"] | None = None,
) -> tuple[Float32[np.ndarray, "X Y Z"], Kept]:
    """The field with one body without hollows, and what became of the others.

    A body is no phantom, either, where most of its surface was `found` by other means than masks. Raises TornApart where more
    than MOST_DROPPED of the volume would be dropped, phantoms aside, and ValueError if nothing is negative.
    """
    counted = visibility.well_seen(field, 0.0, cameras, origin, spacing)
    name_at, sizes, whole = bodies = bodies_of(field < 0, counted)
    real = phantoms.real(name_at, whole, cameras, origin, spacing)
    if found is not None and len(whole):
        surface = np.where(field > -spacing, name_at, 0)
        real |= np.asarray(ndimage.mean(found, surface, whole)) > MOSTLY
    needed, unreal = whole[real], whole[~real]
    joined = _bridged(field, bodies, needed, spacing) if len(needed) > 1 else field
    kept = grid_mesh.keep_largest_body(joined, spacing, counted & ~np.isin(name_at, unreal))
    lost = np.bincount(name_at[kept < 0], minlength=len(sizes)) == 0
    shares = np.where(lost, sizes, 0) / max(sizes.sum(), 1)
    count, dropped, phantom_share = max(len(needed), 1), int(lost[needed].sum()), float(shares[unreal].sum())
    dropped_share = float(np.delete(shares, unreal).sum())
    account = Kept(count, count - dropped - 1, dropped, dropped_share, int(lost[unreal].sum()), phantom_share)
    if account.dropped_share > MOST_DROPPED:
        lost_share = f"{account.dropped_share:.1%} of its volume would be lost, at most {MOST_DROPPED:.0%} may be"
        raise TornApart(
            f"the object is in {account.found} bodies that stand apart: if only the largest is kept, {lost_share}; check that "
            "each mask shows one connected object, or raise resolution"
        )
    return kept, account


def _bridged(field: np.ndarray, bodies: Bodies, needed: np.ndarray, spacing: float) -> np.ndarray:
    """The field with tubes between those `needed` bodies that the grid may have torn apart, of the largest such group."""
    near, groups = ndimage.label(field < UNRESOLVED * spacing)
    group_of = np.zeros(len(bodies.sizes), int)
    group_of[bodies.name_at[field < 0]] = near[field < 0]
    best = np.bincount(group_of[needed], weights=bodies.sizes[needed], minlength=groups + 1).argmax()
    first, *others = [np.argwhere(bodies.name_at == name)[0] for name in needed if group_of[name] == best]
    # Inside a body a step costs next to nothing, so a path leads through other bodies where it can.
    costs = np.where(near == best, np.maximum(field, 0) / spacing + 1e-4, -1.0)
    paths = graph.MCP(costs, fully_connected=False)
    paths.find_costs([first])
    tube = np.zeros(field.shape, bool)
    for place in others:
        tube[tuple(np.transpose(paths.traceback(place)))] = True
    tube = ndimage.binary_dilation(tube & (field >= 0), AROUND)
    return np.where(tube, np.minimum(field, np.float32(-0.25 * spacing)), field)
