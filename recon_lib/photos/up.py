"""Which way is up: what the file of the cameras claims, and what the cameras themselves say.

People hold a camera level, so its right axis lies in the horizontal plane whatever it looks at. Up is the direction that is most
orthogonal to all right axes. The mean of the cameras' up axes only tells which end of it is up: it leans towards the object where
the photos were taken from above and not all around.
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
FLAT = 0.02  # a second singular value below this share says that all right axes are parallel
TILTED = 0.35  # mean squared cosine above which the right axes lie in no common plane
SIDEWAYS = (
    0.7  # photos whose right axis is this far out of the plane were taken with the camera turned; they are left out
)


def of_cameras(T: Float[np.ndarray, "B 4 4"]) -> Float[np.ndarray, "3"] | None:
    """The cameras' own up, a unit vector in the world; None where they have none in common."""
    if len(T) == 0:
        return None
    rights, ups = T[:, :3, 0], T[:, :3, 1]
    mean = ups.mean(0)
    if np.linalg.norm(mean) < 1e-3:
        return None
    up = _most_orthogonal(rights, mean)
    level = np.abs(rights @ up) < SIDEWAYS
    if not level.all() and level.sum() >= max(2, len(T) // 2):
        up = _most_orthogonal(rights[level], mean)
    if np.mean((rights[level] @ up) ** 2) > TILTED:
        return None
    agreement = ups @ up
    if abs(agreement.mean()) < 1e-3:
        return None
    return up * np.sign(agreement.mean())


def degrees(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> float:
    """The angle between two unit vectors."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def _most_orthogonal(rights: np.ndarray, mean_up: np.ndarray) -> np.ndarray:
    """The direction of the least sum of squared cosines to the right axes; where they are all parallel, the one nearest up."""
    _, sizes, axes = np.linalg.svd(rights, full_matrices=True)
    if len(rights) < 2 or sizes[1] < FLAT * sizes[0]:
        across = mean_up - axes[0] * (axes[0] @ mean_up)
        return across / max(np.linalg.norm(across), 1e-12)
    return axes[2]


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
        direction, source = own, listed.up_source
    elif own is not None and not listed.up_is_firm and degrees(own, listed.up) > DISAGREES:
        off = degrees(own, listed.up)
        source = f"{MEASURED}; {listed.up_source}, would be {off:.0f} degrees off: check the sheet, or set up"
        return Choice(own, [_finding(own, source)], [])
    else:
        direction, source = listed.up, listed.up_source
    off = None if own is None or listed.up is None and asked == "auto" else degrees(own, direction)
    said = [_finding(direction, source if off is None else f"{source}; {off:.1f} degrees from the cameras' own")]
    if off is not None and off > DISAGREES:
        text = f"up is {off:.0f} degrees from {np.round(own, 4).tolist()}, which is level for the cameras: check the sheet, or set up"
        said.append(finding("disagreement", text))
    return Choice(direction, said, [])


def _finding(up: np.ndarray, source: str) -> dict:
    return finding("up", f"up is {np.round(up, 4).tolist()}: {source}")
