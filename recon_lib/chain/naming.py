"""Which run folder a run gets: its own from before, or a new one. Another run's folder is never touched.

A run is known by its photos: the folder they lie in, or their content where the folder was moved or copied.
"""

import json
import re
import unicodedata
from pathlib import Path

from recon_lib.stages import OUTPUTS


def slug(text: str) -> str:
    """A folder name made of a text: letters, digits, - _ and . stay, everything else becomes a dash."""
    plain = unicodedata.normalize("NFC", text)
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.") or "run"


def check_name(name: str) -> None:
    """Raises ValueError for a name that is no plain folder name."""
    if not re.fullmatch(r"\w[\w.-]*", name) or name.endswith("."):
        raise ValueError(f"name: got {name!r}, needed letters, digits, - _ and . only, with a letter or digit first")


def free_name(outputs: Path, wanted: str, photos: str | None, hashes: dict[str, str]) -> str:
    """`wanted` if no other run has it, else `wanted-2` and so on: the first that is free or is this run's own."""
    for number in range(1, 10**6):
        name = wanted if number == 1 else f"{wanted}-{number}"
        if not is_another_run(outputs / name, photos, hashes):
            return name
    raise ValueError(f"{outputs}: no name left like {wanted}")


def is_another_run(folder: Path, photos: str | None, hashes: dict[str, str]) -> bool:
    """Whether the folder holds something that is not of a run over these photos (their folder, and the hash of each file)."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    record = folder / "run.json"
    if not record.exists():
        return True
    content = json.loads(record.read_text())
    if not content.get("inputs"):  # nothing was ever read into it
        return False
    return content.get("photos") != photos and content["inputs"] != hashes


def will_go(folder: Path) -> str:
    """In words, what a run that takes the folder over would delete."""
    results = [name for name in OUTPUTS.values() if (folder / name).exists()]
    verdict = folder / "metrics" / "verdict.json"
    status = f", with the verdict `{json.loads(verdict.read_text())['status']}`" if verdict.exists() else ""
    return f"{', '.join(results) or 'its notebooks and record'}{status}"
