"""Finds the mask file that belongs to each photo.

In this order: the file that the input names (nerfstudio's `mask_path`); in a folder masks/ or mask/ the photo's path or
name, where the image extension replaces the photo's own or, as in COLMAP, follows it; and beside the photo NAME_mask or
NAME.mask. So the mask of `images/a/b.jpg` may be `masks/images/a/b.png`, `masks/a/b.jpg.png`, `masks/b.png`,
`images/a/b_mask.png` and so on.
"""

from collections import defaultdict
from pathlib import PurePosixPath

from recon_lib.photos import folder as folders
from recon_lib.photos.findings import Problem, problem
from recon_lib.photos.folder import IMAGE_FOLDERS, MASK_FOLDERS, Folder
from recon_lib.photos.listing import PosedPhoto

TRIED = "transparency nor a mask_path, a file in masks/ (NAME.png, NAME.jpg.png) or NAME_mask.png beside it"
# where a mask was found; `ingest` says it in words
NAMED, IN_FOLDER, BESIDE, OWN, NONE = "mask_named", "mask_files", "mask_beside", "alpha", ""


def find(folder: Folder, listed: tuple[PosedPhoto, ...]) -> tuple[dict[str, tuple[str, str]], list[Problem]]:
    """The mask of each photo that has one: its label and where it was found; and the problems."""
    in_folder, beside, users = defaultdict(list), defaultdict(list), defaultdict(list)
    out: dict[str, tuple[str, str]] = {}
    problems = []
    for label in folder.labels:
        if not folders.is_image(label):
            continue
        parts = label.split("/")
        at = next((i for i, part in enumerate(parts[:-1]) if part.casefold() in MASK_FOLDERS), None)
        stem = folders.stem(label)
        if at is not None:
            in_folder[folders.key("/".join(stem.split("/")[at + 1 :]))].append(label)
        elif of_photo := folders.MASK_SUFFIX.fullmatch(stem):
            beside[folders.key(of_photo[1])].append(label)
    for photo in listed:
        where, found = NAMED, [photo.mask] if photo.mask else []
        if not found:
            keys = [folders.key(key) for key in _keys(PurePosixPath(photo.label))]
            where, found = IN_FOLDER, next((in_folder[key] for key in keys if key in in_folder), [])
        if not found:
            own = (photo.label, folders.stem(photo.label))
            where, found = BESIDE, next((beside[folders.key(key)] for key in own if folders.key(key) in beside), [])
        if len(found) > 1:
            problems.append(problem(photo.label, "mask", ", ".join(found), "one mask file"))
        elif found and folder.path(found[0]) is None:
            problems.append(problem(found[0], "path", "a link that leaves the folder", "a file in the folder"))
        elif found:
            out[photo.label] = found[0], where
            users[found[0]].append(photo.label)
    for mask, labels in users.items():
        if len(set(labels)) > 1:
            problems.append(problem(mask, "mask", f"one file for {', '.join(labels)}", "a mask for each"))
    return out, problems


def _keys(label: PurePosixPath) -> list[str]:
    """The photo's path, its path from the folder of the images, and its name; each with its extension and without."""
    parts = label.parts
    at = next((i for i, part in enumerate(parts[:-1]) if part.casefold() in IMAGE_FOLDERS), None)
    inner = [PurePosixPath(*parts[at + 1 :])] if at is not None else []
    paths = [label, *inner, PurePosixPath(label.name)]
    return [key for path in paths for key in (str(path), folders.stem(str(path)))]
