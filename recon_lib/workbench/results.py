"""What a run has to show so far: the pictures of its executed notebooks, which are saved after every cell, and its verdict."""

import base64
import html
import json
from pathlib import Path
from typing import Any, NamedTuple

from recon_lib import files
from recon_lib.show import tables
from recon_lib.stages import COARSE, INGEST, LIVE, METRICS, PREVIEW, REFINE

PICTURES = {  # stage -> (id of the cell, what its picture shows)
    INGEST: (
        ("1-09", "The photos; an orange frame marks one that is held out for the verdict"),
        ("left-out", "Photos that are left out, crossed, and why"),
    ),
    COARSE: (("2-11", "The coarse mesh"),),
    REFINE: (("3-10", "The fit: loss, and what decides"), ("3-12", "The refined mesh")),
    METRICS: (("4-13", "The worst held-out views: photo, rendering, where they differ"),),
    PREVIEW: (("5-05", "The final mesh from six sides"),),
}


class Result(NamedTuple):
    """One picture with its caption."""

    caption: str
    png: bytes


def pictures(folder: Path) -> list[Result]:
    """The pictures that are there now, the latest stage first."""
    found = []
    for stage, wanted in reversed(PICTURES.items()):
        outputs = _outputs(folder / f"{stage}.ipynb")
        found += [Result(caption, outputs[cell]) for cell, caption in reversed(wanted) if cell in outputs]
    return found


def changed(folder: Path) -> tuple[float, ...]:
    """Numbers that change when there may be something new to show."""
    names = (*(f"{stage}.ipynb" for stage in PICTURES), "metrics/verdict.json", "scene/findings.json", "run.json")
    return tuple((folder / name).stat().st_mtime if (folder / name).exists() else 0.0 for name in names)


def live(folder: Path) -> bytes:
    """The latest pictures of the refinement that runs in the folder, as JPEG; empty if none does."""
    try:
        return (folder / LIVE).read_bytes()
    except FileNotFoundError:
        return b""


def verdict(folder: Path) -> str:
    """The verdict as an HTML table; empty without one."""
    judged = files.read_json(folder / "metrics" / "verdict.json")
    return tables.verdict(judged).html() if judged else ""


def rejected(folder: Path) -> list[str]:
    """What ingest left out or guessed, as sentences."""
    found = files.read_json(folder / "scene" / "findings.json")
    return [str(one["text"]) for one in found] if isinstance(found, list) else []


def viewer(folder: Path, height: int = 420) -> str:
    """The run's offline viewer as a frame; empty where stage 5 has not written one."""
    path = folder / "preview" / "viewer.html"
    if not path.exists():
        return ""
    page = html.escape(path.read_text(), quote=True)
    return f'<iframe srcdoc="{page}" style="width: 100%; height: {height}px; border: 1px solid #ccc"></iframe>'


def _outputs(path: Path) -> dict[str, bytes]:
    """The first PNG of each cell, by the cell's id."""
    try:
        cells: list[dict[str, Any]] = json.loads(path.read_bytes())["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found: dict[str, bytes] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                found.setdefault(cell.get("id", ""), base64.b64decode(output["data"]["image/png"]))
    return found
