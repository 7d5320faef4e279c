"""Which way is up: what the file of the cameras claims, and what the cameras themselves say.

People hold a camera level, so its right axis lies in the horizontal plane whatever it looks at. Up is the direction that is
most orthogonal to all right axes. The mean of the cameras' up axes only tells which end of it is up: it leans towards the
object where the photos were taken from above and not all around.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon_lib.photos.findings import Problem, finding, problem
from recon_lib.photos.listing import Listing

AXES = {
    "x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0), "-y": (0.0, -1.0, 0.0), "-z": (0.0, 0.0, -1.0),
}  # fmt: skip
MEASURED = "level for the cameras, the direction most orthogonal to their right axes"
DISAGREES = 20.0  # degrees between the file's claim and the cameras' own from which this is a finding
FLAT = 0.1  # a second singular value below this share says that all right axes are nearly parallel
THICK = 0.5  # a third above this share of the second says that they lie in no common plane
LEVEL = (0.4, 0.2)  # cosines, one a round: photos with a right axis further out of the plane had the camera turned
BETWEEN = 0.1  # with more than this share of photos between the two, cameras were held anyhow
MOST = 60  # cameras of which all pairs are tried


class Own(NamedTuple):
    """The cameras' own up, and whether their right axes determine it: they span one plane, and no more."""

    up: np.ndarray  # unit vector in the world
    is_sure: bool


def of_cameras(T: Float[np.ndarray, "B 4 4"]) -> Own | None:
    """The cameras' own up; None where they have none in common."""
    if len(T) == 0:
        return None
    rights, ups = T[:, :3, 0], T[:, :3, 1]
    mean = ups.mean(0)
    if np.linalg.norm(mean) < 1e-3:
        return None
    up, is_sure = _most_agreed(rights, mean), False
    for tolerance in LEVEL:
        level = np.abs(rights @ up) < tolerance
        if level.sum() < max(1, len(T) / 2):
            return None
        up, is_sure = _most_orthogonal(rights[level], mean)
    off = np.abs(rights @ up)
    is_sure &= bool(((off > LEVEL[1]) & (off < LEVEL[0])).mean() <= BETWEEN)
    agreement = (ups @ up).mean()
    return None if abs(agreement) < 1e-3 else Own(up * np.sign(agreement), is_sure)


def degrees(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> float:
    """The angle between two unit vectors."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def _most_agreed(rights: np.ndarray, mean_up: np.ndarray) -> np.ndarray:
    """Of the directions across two right axes the one to which most others are orthogonal, for all as good as they can be."""
    few = rights[np.unique(np.linspace(0, len(rights) - 1, min(len(rights), MOST)).round().astype(int))]
    first, second = np.triu_indices(len(few), 1)
    across = np.cross(few[first], few[second])
    lengths = np.linalg.norm(across, axis=1)
    across = across[lengths > 0.02] / lengths[lengths > 0.02, None]
    if not len(across):
        return _most_orthogonal(rights, mean_up)[0]
    cost = np.minimum((across @ few.T) ** 2, LEVEL[1] ** 2).sum(1)
    return across[cost.argmin()]


def _most_orthogonal(rights: np.ndarray, mean_up: np.ndarray) -> tuple[np.ndarray, bool]:
    """The direction of the least sum of squared cosines to the right axes, and True; where they do not span one plane, the
    direction nearest the mean up that is across most of them, and False."""
    _, sizes, axes = np.linalg.svd(rights, full_matrices=True)
    if len(rights) > 1 and sizes[1] >= FLAT * sizes[0] and (len(rights) == 2 or sizes[2] <= THICK * sizes[1]):
        return axes[2], len(rights) > 2
    across = mean_up - axes[0] * (axes[0] @ mean_up)
    return across / max(np.linalg.norm(across), 1e-12), False


class Choice(NamedTuple):
    """The direction that is up, what is said of it, and what is wrong with it."""

    up: np.ndarray  # unit vector in the world
    findings: list[dict]
    problems: list[Problem]


def choose(listed: Listing, T: Float[np.ndarray, "B 4 4"], asked: str) -> Choice:
    """Up as asked for, else as the input itself says, else the convention's unless the cameras say clearly otherwise."""
    own = None if listed.canonical_rig else of_cameras(T)
    if asked != "auto":
        direction, source = np.array(AXES[asked]), f"{asked}, as asked for"
        if listed.unposed and asked != "z":
            return Choice(direction, [], [problem("up", "config", asked, "auto or z, as the frame is the mesh's")])
        if listed.canonical_rig and asked != "y":
            return Choice(
                direction, [], [problem("up", "config", asked, "auto or y, as the six views are named for y up")]
            )
    elif listed.up is None and own is None:
        wrong = problem("up", "config", "auto, and cameras of no common up", "an axis by name")
        return Choice(np.array(AXES["z"]), [], [wrong] if listed.photos else [])
    elif listed.up is None:
        direction, source = own.up, listed.up_source
    elif own is not None and own.is_sure and not listed.up_is_firm and degrees(own.up, listed.up) > DISAGREES:
        off = degrees(own.up, listed.up)
        source = f"{MEASURED}; {listed.up_source}, would be {off:.0f} degrees off: check the sheet, or set up"
        return Choice(own.up, [_finding(own.up, source)], [])
    else:
        direction, source = listed.up, listed.up_source
    compared = own is not None and own.is_sure and not (listed.up is None and asked == "auto")
    off = degrees(own.up, direction) if compared else 0.0
    said = [_finding(direction, f"{source}; {off:.1f} degrees from the cameras' own" if compared else source)]
    if off > DISAGREES:
        level = np.round(own.up, 4).tolist()
        text = f"up is {off:.0f} degrees from {level}, which is level for the cameras: check the sheet, or set up"
        said.append(finding("disagreement", text))
    return Choice(direction, said, [])


def _finding(up: np.ndarray, source: str) -> dict:
    return finding("up", f"up is {np.round(up, 4).tolist()}: {source}")
