"""Photos that help little, told from their pixels, and the side of the object that none of them shows.

Axes: B views, H W pixels, top row first.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from recon_lib.photos.findings import counted, finding, named

SIDE = 256  # pixels of the long side of the object's box, at which photos are compared
BLURRED = 0.2  # sharpness below this share of the median is a finding
DARK, BRIGHT, CLIPPED = 8, 247, 0.3  # values, and the share of the object that is beyond them
ALIKE = 2.0  # mean difference of grey values of photos that are the same
SMALL = 0.01  # share of the photo that the object should have
WIDE = 60.0  # degrees of azimuth without a photo that are a finding
TALL = 40.0  # degrees of elevation between the lowest and the highest without a photo that are a finding
NEAR = 0.01  # of the distance to the object, between two cameras that see almost the same
LOW, HIGH = 15.0, 45.0  # degrees of elevation between which most photos should be


def of_photos(photos: list[UInt8[np.ndarray, "_ _ 4"]], labels: list[str]) -> list[dict]:
    """Findings about photos that are blurred, badly exposed, twice the same, or show the object small; none is left out."""
    small = [_object(rgba) for rgba in photos]
    sharp = np.array([_sharpness(grey, inside) for grey, inside in small])
    said = []
    tiny = np.array([(rgba[..., 3] > 127).mean() < SMALL for rgba in photos])
    blurred = ~tiny & (sharp < BLURRED * np.median(sharp))
    clipped = np.array([max((g[m] <= DARK).mean(), (g[m] >= BRIGHT).mean()) > CLIPPED for g, m in small])
    twice = repeated([grey for grey, _ in small])
    for kind, flags, text in (
        ("blurred", blurred, "much less sharp than the others: leave out, or take again"),
        ("exposure", clipped, "with much of the object black or white: take again with other exposure"),
        ("twice", twice, "the same as an earlier one, which adds nothing"),
        ("small", tiny, f"with the object in less than {SMALL:.0%} of the frame: go nearer"),
    ):
        if flags.any():
            files = [label for label, flag in zip(labels, flags, strict=True) if flag]
            said.append(finding(kind, f"{counted(len(files), 'photo')} {text} ({named(files)})", files))
    return said


def repeated(greys: list[UInt8[np.ndarray, "_ _"]]) -> Bool[np.ndarray, " B"]:
    """Which pictures are the same as an earlier one."""
    thumbs = [cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) for grey in greys]
    nearest = [
        min((np.abs(one - other).mean() for other in thumbs[:i]), default=np.inf) for i, one in enumerate(thumbs)
    ]
    return np.array(nearest) < ALIKE


def coverage(T_world_cam: Float[np.ndarray, "B 4 4"], labels: list[str]) -> list[dict]:
    """Where photos stand around an object at the origin, z up, and what to photograph next."""
    eyes = T_world_cam[:, :3, 3]
    azimuth = np.sort(np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])))
    elevation = np.sort(np.degrees(np.arctan2(eyes[:, 2], np.linalg.norm(eyes[:, :2], axis=1))))
    gaps, steps = np.diff([*azimuth, azimuth[0] + 360]), np.diff(elevation)
    gap, height, step = float(gaps.max()), float(np.median(elevation)), float(steps.max(initial=0.0))
    text = f"photos stand {elevation[0]:.0f} to {elevation[-1]:.0f} degrees above the object's middle; the widest gap around "
    text += f"it is {gap:.0f} degrees, the widest in height {step:.0f} degrees"
    if gap > WIDE:
        more = counted(int(np.ceil(gap / 20)) - 1, "photo")
        text += f"; photograph that side next: {more} from about {height:.0f} degrees up, one every 20 degrees"
    elif step > TALL:
        middle = elevation[steps.argmax()] + step / 2
        text += f"; photograph it next from about {middle:.0f} degrees up, all around"
    elif height < LOW:
        text += f"; photograph it from {HIGH:.0f} degrees up next, for its upper side"
    return [finding("coverage", text), *_near_others(T_world_cam, labels)]


def _near_others(T_world_cam: Float[np.ndarray, "B 4 4"], labels: list[str]) -> list[dict]:
    """A finding about photos from almost the same place as an earlier one."""
    eyes = T_world_cam[:, :3, 3]
    distance = np.linalg.norm(eyes, axis=1)
    apart = np.linalg.norm(eyes[:, None] - eyes, axis=-1) / distance
    near = np.tril(apart < NEAR, -1).any(1)
    files = [label for label, flag in zip(labels, near, strict=True) if flag]
    text = f"{counted(len(files), 'photo')} from almost the same place as an earlier one, which add little ({named(files)})"
    return [finding("near", text, files)] if files else []


def _object(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The grey object in its box, and where it is in it, at the size at which photos are compared."""
    inside = rgba[..., 3] > 127
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    grey = cv2.cvtColor(np.ascontiguousarray(rgba[box][..., :3]), cv2.COLOR_RGB2GRAY)
    scale = SIDE / max(grey.shape)
    size = max(2, round(grey.shape[1] * scale)), max(2, round(grey.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    mask = cv2.resize(inside[box].astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
    return cv2.resize(grey, size, interpolation=how), mask


def _sharpness(grey: np.ndarray, inside: np.ndarray) -> float:
    """The variance of the Laplacian over that of the grey values, inside the object, so that contrast does not count."""
    core = cv2.erode(inside.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    core = core if core.any() else inside
    return float(cv2.Laplacian(grey, cv2.CV_32F)[core].var() / max(float(grey[core].var()), 1.0))
