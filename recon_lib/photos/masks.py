"""Finds the file in `masks/` that belongs to each photo.

It is `masks/<path>` or `masks/<name>` of the photo, in that order. Its image extension replaces the photo's own or, as in
COLMAP, follows it. So the mask of `images/a/b.jpg` may be `masks/images/a/b.png`, `masks/a/b.jpg.png`, `masks/b.png` and so on.
"""

from collections import defaultdict
from pathlib import Path, PurePosixPath

from recon_lib.photos import decode
from recon_lib.photos.listing import PosedPhoto, inside, problem


def find(root: Path, listed: tuple[PosedPhoto, ...]) -> tuple[dict[str, str], list[str]]:
    """The mask of each photo that has one (both are paths in `root`), and the problems."""
    by_key, users, out, problems = defaultdict(list), defaultdict(list), {}, []
    for path in sorted((root / "masks").rglob("*")):
        if path.suffix.lower() in decode.SUFFIXES and not path.name.startswith("."):
            key = path.relative_to(root / "masks").with_suffix("").as_posix()
            by_key[key].append(path.relative_to(root).as_posix())
    for photo in listed:
        found = next((by_key[key] for key in _keys(PurePosixPath(photo.label)) if key in by_key), [])
        if len(found) > 1:
            problems.append(problem(photo.label, "mask", ", ".join(found), "one mask file"))
        elif found and inside(root, found[0]) is None:
            problems.append(problem(found[0], "path", "a link that leaves the folder", "a file in the folder"))
        elif found:
            out[photo.label] = found[0]
            users[found[0]].append(photo.label)
    for mask, labels in users.items():
        if len(set(labels)) > 1:
            problems.append(problem(mask, "mask", f"one file for {', '.join(labels)}", "a mask for each"))
    return out, problems


def _keys(label: PurePosixPath) -> list[str]:
    in_images = [label.relative_to("images")] if label.is_relative_to("images") else []
    paths = [label, *in_images, PurePosixPath(label.name)]
    return [key for path in paths for key in (str(path), str(path.with_suffix("")))]
