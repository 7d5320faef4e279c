"""The hull as judge of cameras and masks: a camera placed wrongly and a wrong mask contradict the silhouettes of the others.

The body is a grid of points, of which those stay that lie inside the masks of most views that see them. A view's agreement is
the intersection over union of its mask and the body's silhouette. Reprojection errors do not show a camera on the wrong side of
an object that looks alike from there; this does. It does not see errors of a few degrees.

Many wrong views are only told apart from right ones by a body that a small majority makes; but that body is too large, so right
views agree with it less. Therefore the majority grows from level to level, and with it the agreement that is asked for.

Masks are small: the object is about `OBJECT` pixels long in them. Axes: B views, N points, H W pixels, top row first.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from recon_lib import camera
from recon_lib.camera import Cameras
from recon_lib.photos import framing, silhouettes

OBJECT = 56  # pixels of the longer side of the object's box in a small mask
POINTS = 56  # points a side of the grid around the object
FINE_OBJECT, FINE_POINTS = (
    320,
    100,
)  # the same for silhouettes that masks are mended by; points near the surface are split
# So many of the views that see a point must have it inside their masks, all but one of them at most; and a view of less
# agreement is left out, the worst first.
LEVELS = ((0.7, 0.55), (0.8, 0.68), (0.9, 0.8))
SEEN = 0.3  # of the views must see a point
UNLIKE = 0.12  # less than the median at the last level, a view is left out as well
WORSE = 0.01  # by so much the agreement of the others may fall where a view is left out
LEAST_SHARE, LEAST_COUNT = 0.6, 4  # of the views must be left
ROUNDS = 5  # of the search for the point that most views look at
AROUND = np.ones((3, 3, 3), bool)
FAR = 3.0  # times the median distance of the rays from that point; rays further off do not count


class Judged(NamedTuple):
    """What the hull says of each view, before the first was left out and after the last."""

    before: Float[np.ndarray, " B"]  # agreement with all
    after: Float[np.ndarray, " B"]  # agreement with the body of those that are left
    kept: Bool[np.ndarray, " B"]
    body: Float[np.ndarray, "N 3"]  # points of the body in the world

    @property
    def is_enough(self) -> bool:
        """Whether enough views are left."""
        return is_enough(self.kept)


class Seen(NamedTuple):
    """A grid of points as the views see it."""

    points: Float[np.ndarray, "N 3"]
    places: list[np.ndarray]  # flat pixel index of each point, -1 outside the photo, by view
    inside: Bool[np.ndarray, "B N"]  # the view sees the point inside its mask
    seen: Bool[np.ndarray, "B N"]  # or surely outside the object


def is_enough(kept: Bool[np.ndarray, " B"]) -> bool:
    """Whether enough of the views are left."""
    return int(kept.sum()) >= max(LEAST_COUNT, LEAST_SHARE * len(kept))


def judge(alphas: list[UInt8[np.ndarray, "_ _"]], cameras: Cameras) -> Judged:
    """Leaves out the view that agrees least until all that are left agree, or too few are left to say which are right.

    A body of a small majority tells many wrong views from right ones; but few views from one side make such a body so much too
    large that right ones are left out. So the judgement starts at each level, and that which leaves most views counts.
    """
    small, cameras = _shrink(alphas, cameras, OBJECT)
    everyone = np.ones(len(small), bool)
    grid = _grid_around(small, cameras, everyone, POINTS)
    before = _agreements(small, grid, everyone, LEVELS[-1][0])
    verdicts = [_leave_out(small, grid, LEVELS[start:]) for start in range(len(LEVELS))]
    kept, after = max(verdicts, key=lambda one: int(one[0].sum()))
    return Judged(before, after, kept, grid.points[_body(grid, kept, LEVELS[-1][0])])


def _leave_out(
    small: list[np.ndarray], grid: Seen, levels: tuple[tuple[float, float], ...]
) -> tuple[Bool[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """Which views are kept, from level to level, and every view's agreement with these."""
    kept = np.ones(len(small), bool)
    for majority, enough in levels:
        after = _agreements(small, grid, kept, majority)
        while after[kept].min() < _bar(after[kept], enough) and kept.sum() > LEAST_COUNT:
            fewer = kept.copy()
            fewer[np.flatnonzero(kept)[after[kept].argmin()]] = False
            then = _agreements(small, grid, fewer, majority)
            if then[fewer].mean() < after[fewer].mean() - WORSE:
                break  # without this view the body only grows, and the others would be left out one by one
            kept, after = fewer, then
    return kept & (after >= LEVELS[-1][1]), after


def silhouettes_of(
    alphas: list[UInt8[np.ndarray, "_ _"]], cameras: Cameras, kept: Bool[np.ndarray, " B"]
) -> list[Bool[np.ndarray, "_ _"]]:
    """What the body of the kept views looks like in each view, left out or not, in a finer grid. No mask may be empty."""
    small, cameras = _shrink(alphas, cameras, FINE_OBJECT)
    grid = _grid_around(small, cameras, kept, FINE_POINTS)
    grid = _see(small, cameras, _split(grid.points, _body(grid, kept, LEVELS[-1][0])))
    body = np.flatnonzero(_body(grid, kept, LEVELS[-1][0]))
    out = []
    for mask, place in zip(small, grid.places, strict=True):
        shown = _shown(mask, place[body]).astype(np.uint8)
        out.append(cv2.morphologyEx(shown, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0)
    return out


def _bar(after: np.ndarray, enough: float) -> float:
    return max(enough, float(np.median(after)) - UNLIKE) if enough == LEVELS[-1][1] else enough


def _shrink(alphas: list[np.ndarray], cameras: Cameras, pixels: int) -> tuple[list[np.ndarray], Cameras]:
    """The masks so small that the object has so many pixels, each by its own factor, and their cameras."""
    small = []
    for alpha in alphas:
        box = framing.mask_box(alpha / np.float32(255))
        scale = min(1.0, pixels / max(box[2:] - box[:2]))
        size = max(2, round(alpha.shape[1] * scale)), max(2, round(alpha.shape[0] * scale))
        small.append(cv2.resize(np.ascontiguousarray(alpha), size, interpolation=cv2.INTER_AREA) > 127)
    poses = list(cameras.T_world_cam.double().numpy())
    intrinsics = [tuple(row) for row in cameras.intrinsics.double().tolist()]
    sizes = [tuple(row) for row in cameras.sizes.tolist()]
    return small, silhouettes.small_cameras(poses, intrinsics, sizes, small)


def _grid_around(small: list[np.ndarray], cameras: Cameras, kept: np.ndarray, count: int) -> Seen:
    """A grid around the body: a first one where the views look, and a finer one around what of the body lies in it."""
    boxes = np.array([framing.mask_box(mask.astype(np.float32)) for mask in small])
    eyes, rays = framing.mask_rays(boxes, cameras)
    near = kept.copy()
    for _ in range(ROUNDS):
        centre = framing.meeting_point(eyes[near], rays[near])
        away = np.linalg.norm(np.cross(centre - eyes, rays), axis=1)
        near = kept & (away <= FAR * max(np.median(away[kept]), 1e-9))
    focal = cameras.intrinsics.double().numpy()[:, :2].min(1)
    half = 1.5 * np.median(
        np.linalg.norm(centre - eyes, axis=1) * np.ptp(boxes.reshape(-1, 2, 2), 1).max(1) / 2 / focal
    )
    first = _look(small, cameras, centre - half, centre + half, POINTS)
    body = first.points[_body(first, kept, LEVELS[0][0])]
    if not len(body):
        return first
    step = 2 * half / (POINTS - 1)
    return _look(small, cameras, body.min(0) - step, body.max(0) + step, count)


def _look(small: list[np.ndarray], cameras: Cameras, low: np.ndarray, high: np.ndarray, count: int) -> Seen:
    """A grid of points, so many along the longest side."""
    step = (high - low).max() / (count - 1)
    axes = [np.arange(a, b + step / 2, step) for a, b in zip(low, high, strict=True)]
    return _see(small, cameras, np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))


def _split(points: Float[np.ndarray, "N 3"], inside: Bool[np.ndarray, " N"]) -> Float[np.ndarray, "M 3"]:
    """Points of half the distance, where the surface of those inside is: all that shows of a body in a silhouette."""
    if not inside.any():
        return points
    low = points.min(0)
    step = np.diff(np.unique(points[:, 2])).max()
    index = ((points - low) / step).round().astype(int) + 1
    body = np.zeros(index.max(0) + 2, bool)
    body[tuple(index[inside].T)] = True
    near = ndimage.binary_dilation(body, AROUND) & ~ndimage.binary_erosion(body, AROUND)
    corners = np.stack(np.meshgrid(*[(-0.25, 0.25)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return (low + (np.argwhere(near)[:, None] - 1 + corners) * step).reshape(-1, 3)


def _see(small: list[np.ndarray], cameras: Cameras, points: Float[np.ndarray, "N 3"]) -> Seen:
    where = torch.from_numpy(points).float()
    places, inside, seen = [], [], []
    for i, mask in enumerate(small):
        xy, depth = camera.project(cameras[[i]], where)
        column, row = xy[0].nan_to_num(-1).clamp(-1, max(mask.shape)).floor().int().numpy().T
        sees = (depth[0].numpy() > 0) & (row >= 0) & (column >= 0) & (row < mask.shape[0]) & (column < mask.shape[1])
        place = np.where(sees, row * mask.shape[1] + column, -1)
        places.append(place)
        # A mask that the photo's border does not cut shows all of the object: what is outside of the photo is outside of it.
        seen.append(sees if _is_cut(mask) else np.ones_like(sees))
        inside.append(sees & mask.ravel()[place])
    return Seen(points, places, np.stack(inside), np.stack(seen))


def _is_cut(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _body(grid: Seen, kept: np.ndarray, majority: float) -> Bool[np.ndarray, " N"]:
    """The points that the majority of the kept views that see them has inside."""
    seen, inside = grid.seen[kept].sum(0), grid.inside[kept].sum(0)
    return (inside >= np.minimum(majority * seen, seen - 1)) & (seen >= max(2, SEEN * kept.sum()))


def _agreements(small: list[np.ndarray], grid: Seen, kept: np.ndarray, majority: float) -> Float[np.ndarray, " B"]:
    body = np.flatnonzero(_body(grid, kept, majority))
    out = []
    for mask, place in zip(small, grid.places, strict=True):
        both = _shown(mask, place[body])
        out.append((both & mask).sum() / max((both | mask).sum(), 1))
    return np.array(out)


def _shown(mask: np.ndarray, place: np.ndarray) -> Bool[np.ndarray, "H W"]:
    """The pixels, in a picture of the mask's size, in which points lie."""
    shown = np.zeros(mask.size + 1, bool)  # the last one is of points outside the photo
    shown[place] = True
    return shown[:-1].reshape(mask.shape)
