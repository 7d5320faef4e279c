"""Files and folders that are never half written: each gets its name only when it is complete.

A file is written under a temporary name in the same folder and then renamed. A folder is filled under a temporary name and then
replaces the earlier one. Relative paths from users start at the repository (`root`).
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any


def root(path: str) -> Path:
    """The path; relative paths start at the nearest folder upwards that has `notebooks/`, else at the current folder."""
    here = Path.cwd()
    home = next((folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir()), here)
    return home / Path(path).expanduser()


def hashes(folder: Path, base: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder, by its path from `base`."""
    return {path.relative_to(base).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes a whole JSON file. Raises ValueError for NaN and infinity, which JSON cannot express."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file, UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file: first under a temporary name beside it, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def replace_folder(temporary: Path, target: Path) -> None:
    """Renames a finished folder to its final name and then deletes the earlier one. Both must lie on one file system.

    Raises OSError where the rename fails; the earlier folder is then back in its place.
    """
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(temporary, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Deletes what writers that were killed left in the folder under temporary names; call it only while nobody writes."""
    for left in (*folder.glob(".*.new"), *folder.glob(".*.old")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None
