"""A folder of photos, or a .zip archive of one, unpacked for as long as it is read.

What an archive may hold is bounded: its number of files, their sizes as written, not as claimed. No path leads out of it, and
links in it are not followed.
"""

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from recon_lib.photos.folder import Folder, is_hidden, open_folder

MOST_ENTRIES = 20_000
CHUNK = 1 << 20
DAMAGE = (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, zlib.error)


@contextmanager
def opened(path: Path, max_bytes: float) -> Iterator[Folder]:
    """The files of a folder, or of a .zip unpacked into a temporary folder that is deleted at the end of the `with` block.

    Raises ValueError for what is neither, for an archive larger than `max_bytes`, and for one with a path that leaves it.
    """
    if not path.is_file():
        yield open_folder(path)
        return
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: got a file, needed the folder of the photos, or a .zip archive of it")
    with tempfile.TemporaryDirectory(prefix="recon-") as temporary:
        _unpack(path, Path(temporary), max_bytes)
        yield open_folder(Path(temporary), follows_links=False)


def _unpack(path: Path, target: Path, max_bytes: float) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MOST_ENTRIES:
                raise ValueError(f"{path}: files: got {len(entries)}, needed at most {MOST_ENTRIES}")
            left = max_bytes
            for entry in entries:
                parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
                if any(part in ("..", "/") or ":" in part or "\0" in part for part in parts) or not parts:
                    raise ValueError(
                        f"{path}: {entry.filename}: path: got one that leaves the archive, needed one inside it"
                    )
                if any(is_hidden(part) for part in parts) or (entry.external_attr >> 16) & 0o170000 == 0o120000:
                    continue  # a link in an archive is not a photo
                place = target.joinpath(*parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                left -= _copy(archive, entry, place, left, path, max_bytes)
    except DAMAGE as e:
        raise ValueError(
            f"{path}: archive: got one that cannot be unpacked ({e}), needed a whole .zip without a password"
        ) from e


def _copy(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path, left: float, path: Path, max_bytes: float
) -> int:
    """Unpacks one file and returns its size; what an archive claims of sizes may be wrong, so bytes are counted."""
    written = 0
    with archive.open(entry) as source, place.open("wb") as out:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > left:
                raise ValueError(
                    f"{path}: bytes: got more than {max_bytes / 1e6:g} MB unpacked, needed at most that (max_total_mb)"
                )
            out.write(chunk)
    return written
