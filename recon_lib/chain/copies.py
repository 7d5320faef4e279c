"""Notebook files: the templates of the project, and the copies in run folders, which people edit and batch runs execute.

A copy holds its values in the `parameters` cell, so editing that cell changes what runs. `.notebooks.json` in the run folder
keeps the hash of each copy as it was written. A copy with another hash was edited by somebody; it is renamed before a new copy
takes its place.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import nbformat

from recon_lib import files
from recon_lib.chain import params
from recon_lib.stages import STAGES

WRITTEN = ".notebooks.json"

log = logging.getLogger(__name__)


def with_parameters(template: Path, stage: str, values: dict[str, Any]) -> nbformat.NotebookNode:
    """The template with these values in its `parameters` cell. Raises ValueError for a notebook without such a cell."""
    book = nbformat.read(template, 4)
    _parameters_cell(book, template).source = params.cell(stage, values)
    return book


def sources(path: Path) -> list[list[str]]:
    """Type and source of each cell except the `parameters` cell, which a batch run overwrites."""
    book = nbformat.read(path, 4)
    own = _parameters_cell(book, path)
    return [[cell.cell_type, cell.source] for cell in book.cells if cell is not own]


def note_written(folder: Path, stage: str) -> None:
    """Records the hash of the stage's notebook in a run folder, so that a later edit is noticed."""
    known = _written(folder)
    files.write_json(folder / WRITTEN, known | {stage: _hash(folder / f"{stage}.ipynb")})


def set_aside(folder: Path, stage: str) -> Path | None:
    """Renames an edited copy in a run folder, logs a warning, and returns the new path; None if there is no edited copy."""
    path = folder / f"{stage}.ipynb"
    if not path.exists() or _written(folder).get(stage) in (None, _hash(path)):
        return None
    number = next(i for i in range(1, 10**6) if not (folder / f"{stage}.edited-{i}.ipynb").exists())
    kept = path.rename(folder / f"{stage}.edited-{number}.ipynb")
    log.warning("%s was edited: kept as %s", path, kept.name)
    return kept


def _written(folder: Path) -> dict[str, str]:
    """The hashes as they were written. In a damaged file they are "", so that each copy counts as edited and is kept."""
    try:
        found = json.loads((folder / WRITTEN).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    return found if isinstance(found, dict) else dict.fromkeys(STAGES, "")


def _parameters_cell(book: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    for cell in book.cells:
        if params.TAG in cell.metadata.get("tags", []):
            return cell
    raise ValueError(f"{path}: no cell is tagged `{params.TAG}`, needed one")


def _is_papermills(cell: dict[str, Any]) -> bool:
    """Whether papermill inserted the cell to point at an error."""
    return "papermill-error-cell-tag" in cell["metadata"].get("tags", [])


def _hash(path: Path) -> str | None:
    """The hash of the cells' sources without their outputs; None for a file that is not a notebook any more."""
    try:
        cells = json.loads(path.read_text())["cells"]
        content = [[cell["cell_type"], "".join(cell["source"])] for cell in cells if not _is_papermills(cell)]
    except (ValueError, KeyError, TypeError):
        return None
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
