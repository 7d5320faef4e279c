"""Which run folder a run gets: the one that it had before, or a new one. The folder of another run is never touched.

A run is identified by its photos: by the folder that they lie in, or by their hashes if that folder was moved or copied.
"""

import json
import re
import unicodedata
from pathlib import Path

from recon_lib.chain import run as records
from recon_lib.stages import OUTPUTS


def slug(text: str) -> str:
    """A folder name made from any text: letters, digits, - _ and . stay, everything else becomes a dash."""
    plain = unicodedata.normalize("NFC", text)
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.") or "run"


def check_name(name: str) -> None:
    """Raises ValueError for a name that is not a plain folder name."""
    if not re.fullmatch(r"\w[\w.-]*", name) or name.endswith("."):
        raise ValueError(f"name: got {name!r}, needed letters, digits, - _ and . only, with a letter or digit first")


def free_name(outputs: Path, wanted: str, photos: str | None, hashes: dict[str, str]) -> str:
    """The first of `wanted`, `wanted-2`, `wanted-3`, … that is free or belongs to this run; see `is_another_run`."""
    for number in range(1, 10**6):
        name = wanted if number == 1 else f"{wanted}-{number}"
        if not is_another_run(outputs / name, photos, hashes):
            return name
    raise ValueError(f"{outputs}: no name left like {wanted}")


def is_another_run(folder: Path, photos: str | None, hashes: dict[str, str]) -> bool:
    """Whether the folder holds anything but a run over these photos, given as their folder and the hash of each file.

    Raises ValueError for a damaged run.json.
    """
    begun = (".lock", ".run.json.*.new")  # what a run leaves that was killed before its record was written
    if not folder.exists() or all(any(path.match(left) for left in begun) for path in folder.iterdir()):
        return False
    record = folder / "run.json"
    if not record.exists():
        return True
    content = records.read(record)
    if not content.get("inputs"):  # no photos were ever read, so there is nothing to lose
        return False
    return content.get("photos") != photos and content["inputs"] != hashes


def will_go(folder: Path) -> str:
    """The results, in words, that are deleted if another run takes over the folder."""
    results = [name for name in OUTPUTS.values() if (folder / name).exists()]
    verdict = folder / "metrics" / "verdict.json"
    status = f", with the verdict `{json.loads(verdict.read_text())['status']}`" if verdict.exists() else ""
    return f"{', '.join(results) or 'its notebooks and record'}{status}"
