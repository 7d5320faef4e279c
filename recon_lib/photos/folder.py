"""The files of a folder of photos, and which of them a name in a file of cameras means.

A label is a file's path in the folder, with '/' between its parts. Hidden files and those of operating systems are set aside.
A link is followed when the folder was given by a person, also one that a checkout wrote as text; nothing that lies outside is
read otherwise.
"""

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

# extensions of the files that count as images; some of these formats are then refused by their content
SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".svg",
}  # fmt: skip
MOST_FILES = 200_000
LONGEST_LINK = 512  # bytes of a link written as text
FOREIGN = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
IMAGE_FOLDERS = ("images", "input", "photos", "rgb", "imgs", "image")
MASK_FOLDERS = ("masks", "mask", "mattes", "matte", "segmentation", "segmentations", "images_mask", "images_masks")
MASK_SUFFIX = re.compile(r"(.+)[-_.]mask", re.IGNORECASE)
# How a name was understood that is not a file's label letter by letter; `ingest` says it in words.
CASE, EXTENSION, ROOT, LINK = "name_case", "name_extension", "name_root", "name_link"


class Found(NamedTuple):
    """The file that a name means."""

    label: str
    notes: tuple[str, ...]  # of CASE, EXTENSION, ROOT


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder's files, listed once."""

    root: Path  # a real path
    follows_links: bool
    labels: tuple[str, ...]  # sorted
    hidden: tuple[str, ...]  # set aside
    _real: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def by_key(self) -> dict[str, list[str]]:
        """Labels by what is left of them without case, Unicode's composition and the extension of an image."""
        found = defaultdict(list)
        for label in self.labels:
            found[key(stem(label))].append(label)
        return found

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """The same by the file's name alone, without masks."""
        found = defaultdict(list)
        for label in self.labels:
            if is_image(label) and not is_mask(label):
                found[key(stem(posixpath.basename(label)))].append(label)
        return found

    def with_head(self, extension: str, is_it: Callable[[bytes], bool], head_bytes: int) -> list[str]:
        """The files of an extension, those at the top first, whose first `head_bytes` bytes `is_it` accepts."""
        found = []
        for label in sorted((n for n in self.labels if n.lower().endswith(extension)), key=lambda n: (n.count("/"), n)):
            path = self.path(label)
            if path is not None:
                with path.open("rb") as file:
                    if is_it(file.read(head_bytes)):
                        found.append(label)
        return found

    @cached_property
    def folders(self) -> set[str]:
        """The folders in it that hold files, '' for itself."""
        out = {""}
        for label in self.labels:
            parts = label.split("/")[:-1]
            out |= {"/".join(parts[: i + 1]) for i in range(len(parts))}
        return out

    def has(self, label: str) -> bool:
        """Whether there is a file of this label."""
        return label in self._known

    @cached_property
    def _known(self) -> set[str]:
        return set(self.labels)

    def path(self, label: str) -> Path | None:
        """The real path of a file; None where it lies outside and links are not followed."""
        if label not in self._real:
            real = Path(os.path.realpath(self.root / label))
            self._real[label] = _written_link(real) or real if is_image(label) else real
        real = self._real[label]
        return real if self.follows_links or real.is_relative_to(self.root) else None

    def leads_elsewhere(self, label: str) -> bool:
        """Whether the label is a link to a file outside of the folder, or the text of a link."""
        self.path(label)
        real = self._real[label]
        return not real.is_relative_to(self.root) or real != Path(os.path.realpath(self.root / label))


def open_folder(path: Path, follows_links: bool = True) -> Folder:
    """Lists the files. Raises ValueError for a folder that is not there or that holds too many files."""
    if not path.is_dir():
        raise ValueError(f"{path}: got no such folder, needed the folder of the photos")
    root = Path(os.path.realpath(path))
    labels: list[str] = []
    hidden: list[str] = []
    seen = {str(root)}
    for here, inner, names in os.walk(root, followlinks=follows_links):
        inside = os.path.relpath(here, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        # A link may lead back up, so each real folder is read once.
        kept = {os.path.realpath(os.path.join(here, name)): name for name in sorted(inner) if not is_hidden(name)}
        inner[:] = [name for real, name in kept.items() if real not in seen]
        seen |= kept.keys()
        for name in names:
            (hidden if is_hidden(name) else labels).append(prefix + name)
        if len(labels) > MOST_FILES:
            raise ValueError(f"{path}: files: got more than {MOST_FILES}, needed the folder of the photos alone")
    return Folder(root, follows_links, tuple(sorted(label for label in labels if is_file(root / label))), tuple(hidden))


def _written_link(path: Path) -> Path | None:
    """The file that a link leads to which a checkout without symbolic links wrote as text; None for any other file."""
    try:
        if not 0 < path.stat().st_size < LONGEST_LINK:
            return None
        target = Path(os.path.realpath(path.parent / path.read_text()))
        return target if target.is_file() else None
    except (OSError, ValueError):  # not text, or no path
        return None


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or an operating system's own."""
    return name.startswith(".") or name.casefold() in FOREIGN


def is_image(label: str) -> bool:
    """Whether the extension is that of an image."""
    return posixpath.splitext(label)[1].lower() in SUFFIXES


def is_mask(label: str) -> bool:
    """Whether place or name say that the file is a mask."""
    inner = [part.casefold() for part in label.split("/")[:-1]]
    return any(part in MASK_FOLDERS for part in inner) or bool(MASK_SUFFIX.fullmatch(stem(label)))


def stem(label: str) -> str:
    """The label without the extension of an image."""
    return posixpath.splitext(label)[0] if is_image(label) else label


def key(label: str) -> str:
    """What names have in common that differ in case or in Unicode's composition only."""
    return unicodedata.normalize("NFC", label).casefold()


def is_file(path: Path) -> bool:
    """`Path.is_file`, but False for a name that is too long for the file system or holds a null byte."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_photo(folder: Folder, given: str, base: str = "") -> Found:
    """The photo that `given`, a path from `base`, means.

    It is the file of this path; else the one whose path differs in case, composition or extension; else the one whose whole
    path is the end of the given one, or the reverse. Raises ValueError, "got X, needed Y", where there is none or several.
    """
    plain = given.replace("\\", "/")
    if "\0" in plain:
        raise ValueError(f"got {given!r}, needed the path of a photo")
    outside = plain.startswith("/") or bool(re.match(r"[A-Za-z]:", plain))
    label = posixpath.normpath(posixpath.join(base, plain))
    inside = not outside and not label.startswith("..") and label != "."
    if inside:
        if folder.has(label):
            return Found(label, ())
        appended = [f for f in folder.by_key.get(key(label), ()) if is_image(f) and not is_image(label)]
        alike = [f for f in appended if f.startswith(label)] or _alike(folder, label)
        if len(alike) > 1:
            raise ValueError(f"got the files {alike}, needed the extension, as there are several")
        if alike:
            return Found(alike[0], _difference(label, alike[0]))
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    # A path whose first folder is here belongs to this folder: its photo is missing, and one elsewhere is another photo.
    if parts and (not inside or len(parts) == 1 or posixpath.join(base, parts[0]) not in folder.folders):
        found = _by_tail(folder, parts, base)
        if len(found) > 1:
            raise ValueError(f"got {label}, of which the end fits {', '.join(found[:3])}, needed one file")
        if found:
            return Found(found[0], (ROOT,))
    if outside:
        raise ValueError("got an absolute path, needed one inside the folder")
    if not inside:
        raise ValueError("got a path that leaves the folder, needed one inside the folder")
    broken = "a link that leads to " if os.path.islink(folder.root / label) else ""
    raise ValueError(
        f"got {broken}no such file{_nearest(folder, label)}, needed a photo, its extension may be left out"
    )


def _alike(folder: Folder, label: str) -> list[str]:
    """Photos whose path is the same but for case, composition and extension; those with the extension given come first."""
    found = [f for f in folder.by_key.get(key(stem(label)), ()) if is_image(f)]
    same = [f for f in found if key(f) == key(label)]
    return same or found


def _difference(label: str, found: str) -> tuple[str, ...]:
    if key(found) == key(label) or not is_image(label):
        return () if found.startswith(label) else (CASE,)
    return (EXTENSION,)


def _by_tail(folder: Folder, parts: list[str], base: str) -> list[str]:
    wanted = key(stem("/".join(parts))).split("/")
    near = base + "/" if base else ""
    candidates = folder.by_name.get(wanted[-1], [])
    candidates = [f for f in candidates if f.startswith(near)] or candidates
    out = []
    for label in candidates:
        own = key(stem(label)).split("/")
        bare = own[1:] if re.sub(r"_\d+$", "", own[0]) in IMAGE_FOLDERS else own  # nerfstudio shrinks to images_2, …
        if any(short == long[-len(short) :] for a in (own, bare) for short, long in ((a, wanted), (wanted, a))):
            out.append(label)
    same = [f for f in out if key(f).endswith(key(parts[-1]))]
    return same or out


def _nearest(folder: Folder, label: str) -> str:
    """What is there instead, in words: a file of the same name elsewhere, or of the same stem and another type."""
    name = key(stem(posixpath.basename(label)))
    there = [f for f in folder.labels if key(posixpath.basename(f)).split(".")[0] == name.split(".")[0]]
    there = [f for f in there if not is_mask(f)]
    return f" (nearest: {there[0]})" if there else ""
