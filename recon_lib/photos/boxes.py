"""A box around the object in each photo: `boxes.csv` beside the photos, lines `NAME,LEFT,TOP,RIGHT,BOTTOM`.

The four are shares of the photo's width and height, 0 to 1. A first line without numbers is a heading. Names are those of the
files, without their folders.
"""

import csv
import posixpath

from recon_lib.photos.folder import Folder

NAME = "boxes.csv"
Box = tuple[float, float, float, float]  # left, top, right, bottom


def is_source(label: str) -> bool:
    """Whether the file is one of boxes."""
    return posixpath.basename(label).lower() == NAME


def read(folder: Folder) -> dict[str, Box]:
    """The boxes by the photos' names in lower case. Raises ValueError, with a line per bad line, for a bad file."""
    found: dict[str, Box] = {}
    problems = []
    for label in filter(is_source, folder.labels):
        for number, row in enumerate(csv.reader(folder.path(label).read_text(errors="replace").splitlines()), start=1):
            try:
                left, top, right, bottom = (float(value) for value in row[1:5])
                if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                    raise ValueError
            except (ValueError, IndexError):
                if row and number > 1:
                    needed = "NAME,LEFT,TOP,RIGHT,BOTTOM in shares of the photo"
                    problems.append(f"{label}: line {number}: got {','.join(row)[:80]!r}, needed {needed}")
                continue
            found[row[0].strip().lower()] = left, top, right, bottom
    if problems:
        raise ValueError("\n".join(problems))
    return found
