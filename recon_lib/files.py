"""Files that are never half there: each gets its name when it is whole, folders too.

A text or JSON file is written beside its place and renamed; a folder is filled beside its place and then takes the place of
the one before. Relative paths of users are meant from the repository (`root`).
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any


def root(path: str) -> Path:
    """A relative path is meant from the repository: the nearest folder upwards that has `notebooks/`, else the current one."""
    here = Path.cwd()
    home = next((folder for folder in (here, *here.parents) if (folder / "notebooks").is_dir()), here)
    return home / Path(path).expanduser()


def hashes(folder: Path, base: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder, by its path from `base`."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(base).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def write_json(path: Path, value: Any) -> None:
    """NaN and infinity are refused: JSON has no word for them."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def replace_folder(temporary: Path, target: Path) -> None:
    """Gives a finished folder its name; an earlier one goes only after that. Both lie on one file system."""
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


def read_json(path: Path) -> Any:
    """The file's content; None where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None
