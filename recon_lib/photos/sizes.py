"""Intrinsics of photos that were shrunk or cropped after their cameras were found: they follow where that is unambiguous.

Sizes are (width, height) in pixels; intrinsics are (fx, fy, cx, cy), pixels from the photo's top-left corner.
"""

from typing import NamedTuple

Size = tuple[int, int]
Intrinsics = tuple[float, float, float, float]
CENTRED = 0.03  # a principal point this near the middle, in photo widths, fits the photo
TELLING = 0.2  # of the share cut off: the principal point must lie this much nearer one middle than the other
LEAST_CUT, MOST_CUT = 0.005, 0.1  # less does not matter, and more is not taken for a crop that only the middle shows
ASPECT = 1.0  # pixels by which a side of a shrunk photo may differ from the exact ratio
SAME, FAR_OFF = 0.03, 1.4  # a principal point this far along the diagonal is the middle of a larger photo
SCALED, CROPPED = "size_scaled", "size_cropped"  # `ingest` says them in words


class Followed(NamedTuple):
    """Intrinsics for the photo as it is, and what was done to them."""

    intrinsics: Intrinsics
    notes: tuple[str, ...]


def by(size: Size) -> str:
    """The size in words."""
    return f"{size[0]} x {size[1]} pixels"


def follow(intrinsics: Intrinsics, of: Size, photo: Size, all_alike: bool) -> Followed:
    """The intrinsics `of` one size for a `photo` of another; `all_alike`: no photo of this camera has the camera's own size.

    A photo of the same aspect was shrunk, unless its principal point lies nearer the middle uncorrected: then a strip was
    cut off right and below. Raises ValueError where neither fits.
    """
    if of == photo:
        return Followed(intrinsics, ())
    fx, fy, cx, cy = intrinsics
    wrong = f"size: got {by(photo)}, needed {by(of)} as its intrinsics"
    if not all_alike:
        raise ValueError(wrong)
    sx, sy = photo[0] / of[0], photo[1] / of[1]
    scalable = abs(sx * of[1] - photo[1]) <= ASPECT or abs(sy * of[0] - photo[0]) <= ASPECT
    off_if_scaled = max(abs(cx / of[0] - 0.5), abs(cy / of[1] - 0.5))
    off_if_cropped = max(abs(cx / photo[0] - 0.5), abs(cy / photo[1] - 0.5))
    # Cutting a share off moves the middle by half of it, so the principal point tells which of the two it was.
    cut = 1 - min(sx, sy)
    nearer = off_if_scaled - off_if_cropped
    if max(sx, sy) <= 1 and off_if_cropped <= CENTRED and nearer > TELLING * cut:
        return Followed(intrinsics, (CROPPED,))
    if scalable and (nearer < -TELLING * cut or not LEAST_CUT < cut < MOST_CUT):
        return Followed((fx * sx, fy * sy, cx * sx, cy * sy), (SCALED,))
    raise ValueError(f"{wrong}; nor does the principal point ({cx:g}, {cy:g}) tell how the photo was shrunk or cropped")


def check_principal_point(intrinsics: Intrinsics, photo: Size, is_given: bool) -> None:
    """Raises ValueError for a principal point outside the photo.

    Unless the camera's size `is_given`, also for one in the middle of a larger photo of the same shape.
    """
    _, _, cx, cy = intrinsics
    scale = cx * 2 / photo[0]
    alike = abs(cy * 2 / photo[1] / scale - 1) < SAME if scale else False
    if 0 < cx < photo[0] and 0 < cy < photo[1] and (is_given or not (alike and scale > FAR_OFF)):
        return
    hint = ""
    if scale > 1 and alike:
        hint = f"; the camera seems to be one of about {2 * cx:.0f} x {2 * cy:.0f} pixels: give it as w and h"
    raise ValueError(f"cx, cy: got ({cx:g}, {cy:g}) for {by(photo)}, needed a point near the photo's middle{hint}")
