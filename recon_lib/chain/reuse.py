"""Whether a stage's result can be reused: only if its key and the hashes of its files are the recorded ones.

The key is a hash of the stage's notebook without its `parameters` cell, the source of the whole library, all parameters of the
stage, and the key of the nearest earlier stage that has one (for 1_ingest: the photos). Where backend or device is `auto`, what
the machine offers is part of it, too.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from recon_lib import files
from recon_lib.chain import copies
from recon_lib.chain import run as records
from recon_lib.photos.folder import open_folder
from recon_lib.stages import FINISHED, OUTPUTS, STAGES

LIBRARY = Path(__file__).parents[1]  # all of recon_lib


def photo_hashes(ingest: dict[str, Any], notebooks: Path) -> dict[str, str]:
    """SHA-256 of each file in the photos folder that the parameters of 1_ingest name, by its path in that folder.

    Files behind links count as what they hold; a .zip is one file. Raises ValueError for a folder that does not exist.
    """
    if "photos" not in ingest:
        return {}
    photos = notebooks.parent / Path(ingest["photos"]).expanduser()
    if photos.is_file():
        return {photos.name: files.sha256(photos)}
    if not photos.is_dir():
        raise ValueError(f"{STAGES[0]}: photos: got {photos}, needed a folder of photos, or a .zip of one")
    folder = open_folder(photos)
    return {label: files.sha256(folder.path(label)) for label in folder.labels}


def key(folder: Path, stage: str, notebooks: Path, values: dict[str, Any], inputs: dict[str, str]) -> str:
    """The stage's key, hex SHA-256; `values` are its parameters, `inputs` the hashes of the photos."""
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
    """The facts by which `auto` chooses, as far as they can be known without torch."""
    return [Path("/dev/nvidiactl").exists(), *map(os.environ.get, ("RECONVIAGEN_ROOT", "RECON_WEIGHTS"))]


def intact(folder: Path, stage: str, entry: dict[str, Any]) -> bool:
    """Whether the stage is finished and its files have the hashes of its entry in run.json."""
    return entry["state"] in FINISHED and entry["outputs"] == files.hashes(folder / OUTPUTS[stage], folder)
