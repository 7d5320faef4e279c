"""The focal length of a photo without a camera: what its EXIF says, and what is tried where it says nothing.

Focal lengths are given as shares of the photo's long side, which shrinking does not change.
"""

from pathlib import Path

from recon_lib.photos.decode import open_image, report_damage

LEAST, MOST = 0.5, 6.0  # a focal length outside of this is refused
STARTS = (1.2, 2.0, 0.8, 3.5)  # tried in this order on the same matches
EXIF, IN_35_MM = 0x8769, 0xA405
DIAGONAL_35_MM = 43.27  # millimetres


def of_exif(path: Path) -> float | None:
    """The focal length by the equivalent for 35 mm film, which compares diagonals; None where EXIF has none that can be."""
    with report_damage("header"), open_image(path) as image:
        if image is None or image.format not in ("JPEG", "MPO", "HEIF"):
            return None
        equivalent = image.getexif().get_ifd(EXIF).get(IN_35_MM, 0)
        long, short = max(image.size), min(image.size)
    try:
        share = float(equivalent) / DIAGONAL_35_MM * (long**2 + short**2) ** 0.5 / long
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return share if is_plausible(share) else None


def is_plausible(share: float) -> bool:
    """Whether a lens that people photograph objects with has this focal length."""
    return LEAST <= share <= MOST
