"""Files that come from a browser in pieces: bounded, checked as ingest checks them, and put into `outputs/uploads/` when whole.

An image is checked by its content, never by its name; a file that is no image and no archive (cameras, text) is taken as it is.
Nothing that is refused stays on the disk, and what was taken before it stays.
"""

import re
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

from recon_lib.photos import headers

FOLDER = "uploads"  # in outputs/
MOST_FILE_MB = 20.0  # 10^6 bytes, of one file; an archive may be as large as everything
MOST_TOTAL_MB = 200.0  # 10^6 bytes, of all files of one upload
MOST_MEGAPIXELS = 50.0
ARCHIVE = ".zip"
OTHERS = (".json", ".txt", ".bin", ".csv", ".xml")  # what cameras come in


class Uploads:
    """One upload of many files into a folder of its own, which is made when the first file is whole."""

    def __init__(self, outputs: Path):
        self.outputs = outputs
        self.folder: Path | None = None
        self.total = 0  # bytes, of the files that were taken
        self.open: dict[str, Path] = {}  # files that are coming

    def begin(self, name: str, size: int) -> None:
        """Makes room for a file of `size` bytes. Raises ValueError for a name or size that is refused before anything comes."""
        plain = check_name(name)
        most = MOST_TOTAL_MB if plain.lower().endswith(ARCHIVE) else MOST_FILE_MB
        if size > most * 1e6:
            raise ValueError(f"{size / 1e6:.0f} MB, needed at most {most:g} MB")
        if self.total + size > MOST_TOTAL_MB * 1e6:
            raise ValueError(
                f"with it all files are more than {MOST_TOTAL_MB:g} MB; put them into a folder of this machine"
            )
        if self.folder is not None and (self.folder / plain).exists():
            raise ValueError("a file of this name was taken already")
        if self.folder is None:
            self.folder = _new_folder(self.outputs / FOLDER)
        self.open[name] = self.folder / f".{plain}.part"
        self.open[name].write_bytes(b"")

    def piece(self, name: str, data: bytes) -> None:
        """Adds bytes to a file that was begun. Raises ValueError for more of them than allowed and where the disk is full."""
        if name not in self.open:
            raise ValueError("it was not begun")
        path = self.open[name]
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            self._drop(name)
            raise ValueError(f"not stored: {error.strerror or error}; what was taken before stays") from error
        most = MOST_TOTAL_MB if name.lower().endswith(ARCHIVE) else MOST_FILE_MB
        if path.stat().st_size > most * 1e6:
            self._drop(name)
            raise ValueError(f"more than {most:g} MB")

    def end(self, name: str) -> Path:
        """Checks a file that is whole and takes it. Raises ValueError for a file that is not what it has to be."""
        path = self.open[name]
        try:
            _check(path, name)
        except ValueError:
            self._drop(name)
            raise
        self.total += path.stat().st_size
        return self.open.pop(name).rename(path.with_name(check_name(name)))

    def source(self) -> Path | None:
        """What a run would read: the folder, or the archive if that is all that came; None if nothing was taken."""
        if self.folder is None:
            return None
        found = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        if not found:
            return None
        alone = len(found) == 1 and found[0].suffix.lower() == ARCHIVE
        return found[0] if alone else self.folder

    def _drop(self, name: str) -> None:
        self.open.pop(name).unlink(missing_ok=True)


def check_name(name: str) -> str:
    """The file's name as it will be stored. Raises ValueError for one that leads elsewhere or hides the file."""
    plain = unicodedata.normalize("NFC", name)
    if not plain or plain != PurePosixPath(plain).name or plain.startswith(".") or re.search(r"[\\/\0-\x1f]", plain):
        raise ValueError("a name that leads out of the folder or hides the file; rename it")
    return plain


def _check(path: Path, name: str) -> None:
    suffix = Path(name).suffix.lower()
    if suffix == ARCHIVE:
        _check_archive(path)
    elif suffix not in OTHERS:
        headers.read_header(path, MOST_FILE_MB, MOST_MEGAPIXELS)


def _check_archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError("type: got no archive, needed a whole .zip")
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
            if any(part in ("..", "/") or ":" in part for part in parts):
                raise ValueError(f"{entry.filename}: path: got one that leaves the archive, needed one inside it")


def _new_folder(uploads: Path) -> Path:
    for number in range(1, 10**6):
        folder = uploads / f"photos-{number}"
        if not folder.exists():
            folder.mkdir(parents=True)
            return folder
    raise ValueError(f"{uploads}: no name left")
