"""When a stage's result stands: its key and its files are the recorded ones, never because a file exists.

The key hashes the stage's notebook, the library's source, its parameters, the key of the nearest stage before that has one,
for 1_ingest the photos, and where a parameter is `auto` what the machine has.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from recon_lib import run as files
from recon_lib.params import STAGES

LIBRARY = Path(__file__).parent
OUTPUTS = dict(zip(STAGES, ("scene", "coarse", "refined", "metrics", "preview"), strict=True))
FINISHED = ("done", "reused")


def photo_hashes(ingest: dict[str, Any], notebooks: Path) -> dict[str, str]:
    """By the parameters of 1_ingest. Raises ValueError for a folder that is not there."""
    if "photos" not in ingest:
        return {}
    photos = notebooks.parent / Path(ingest["photos"]).expanduser()
    if not photos.is_dir():
        raise ValueError(f"{STAGES[0]}: photos: got {photos}, needed a folder of photos")
    return hashes(photos, photos)


def hashes(folder: Path, base: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder, by its path from `base`."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(base).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def key(folder: Path, stage: str, notebooks: Path, values: dict[str, Any], inputs: dict[str, str]) -> str:
    earlier = [files.load(folder)["stages"][name].get("key") for name in STAGES[: STAGES.index(stage)]]
    before = next((found for found in reversed(earlier) if found), None) if earlier else inputs
    cells = json.loads((notebooks / f"{stage}.ipynb").read_text())["cells"]
    source = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    library = {name: digest for name, digest in hashes(LIBRARY, LIBRARY).items() if name.endswith(".py")}
    content = [source, library, values, before, _machine() if "auto" in values.values() else None]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _machine() -> list:
    """What `auto` chooses by, as far as it can be told without torch."""
    return [Path("/dev/nvidiactl").exists(), *map(os.environ.get, ("RECONVIAGEN_ROOT", "RECON_WEIGHTS"))]


def intact(folder: Path, stage: str, entry: dict[str, Any]) -> bool:
    return entry["state"] in FINISHED and entry["outputs"] == hashes(folder / OUTPUTS[stage], folder)
