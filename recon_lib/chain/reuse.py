"""When a stage's result stands: its key and its files are the recorded ones, never because a file exists.

The key hashes the stage's notebook but for its `parameters` cell, the whole library's source, the parameters in force, the
key of the nearest stage before that has one, for 1_ingest the photos, and where backend or device is `auto` what the machine
has.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from recon_lib import files
from recon_lib.chain import copies
from recon_lib.chain import run as records
from recon_lib.stages import FINISHED, OUTPUTS, STAGES

LIBRARY = Path(__file__).parents[1]  # all of recon_lib


def photo_hashes(ingest: dict[str, Any], notebooks: Path) -> dict[str, str]:
    """By the parameters of 1_ingest. Raises ValueError for a folder that is not there."""
    if "photos" not in ingest:
        return {}
    photos = notebooks.parent / Path(ingest["photos"]).expanduser()
    if not photos.is_dir():
        raise ValueError(f"{STAGES[0]}: photos: got {photos}, needed a folder of photos")
    return files.hashes(photos, photos)


def key(folder: Path, stage: str, notebooks: Path, values: dict[str, Any], inputs: dict[str, str]) -> str:
    earlier = [records.load(folder)["stages"][name].get("key") for name in STAGES[: STAGES.index(stage)]]
    before = next((found for found in reversed(earlier) if found), None) if earlier else inputs
    source = copies.sources(notebooks / f"{stage}.ipynb")
    library = {name: digest for name, digest in files.hashes(LIBRARY, LIBRARY).items() if name.endswith(".py")}
    content = [
        source,
        library,
        values,
        before,
        _machine() if "auto" in (values.get("backend"), values.get("device")) else None,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _machine() -> list:
    """What `auto` chooses by, as far as it can be told without torch."""
    return [Path("/dev/nvidiactl").exists(), *map(os.environ.get, ("RECONVIAGEN_ROOT", "RECON_WEIGHTS"))]


def intact(folder: Path, stage: str, entry: dict[str, Any]) -> bool:
    return entry["state"] in FINISHED and entry["outputs"] == files.hashes(folder / OUTPUTS[stage], folder)
