"""Notebooks as files: the templates that ship, and the copies in run folders that people edit and batch runs execute.

A copy has its values in the `parameters` cell itself, so that who edits that cell changes what runs. The hash of what was
written into a run folder is kept in its `.notebooks.json`; a copy that no longer has that hash was edited by somebody, and is
set aside under another name before anything takes its place.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import nbformat

from recon_lib import files
from recon_lib.chain import params

WRITTEN = ".notebooks.json"

log = logging.getLogger(__name__)


def with_parameters(template: Path, stage: str, values: dict[str, Any]) -> nbformat.NotebookNode:
    """The template with these values in its `parameters` cell. Raises ValueError for a notebook without such a cell."""
    book = nbformat.read(template, 4)
    _parameters_cell(book, template).source = params.cell(stage, values)
    return book


def sources(path: Path) -> list[list[str]]:
    """Kind and source of each cell but the `parameters` cell, which never decides what a batch run does."""
    book = nbformat.read(path, 4)
    own = _parameters_cell(book, path)
    return [[cell.cell_type, cell.source] for cell in book.cells if cell is not own]


def note_written(folder: Path, stage: str) -> None:
    """Remembers the notebook of that stage in a run folder as ours."""
    known = files.read_json(folder / WRITTEN) or {}
    files.write_json(folder / WRITTEN, known | {stage: _hash(folder / f"{stage}.ipynb")})


def set_aside(folder: Path, stage: str) -> Path | None:
    """Gives an edited copy in a run folder another name, says so, and returns it; None where there is nothing to save."""
    path = folder / f"{stage}.ipynb"
    if not path.exists() or (files.read_json(folder / WRITTEN) or {}).get(stage) in (None, _hash(path)):
        return None
    number = next(i for i in range(1, 10**6) if not (folder / f"{stage}.edited-{i}.ipynb").exists())
    kept = path.rename(folder / f"{stage}.edited-{number}.ipynb")
    log.warning("%s was edited: kept as %s", path, kept.name)
    return kept


def _parameters_cell(book: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    for cell in book.cells:
        if params.TAG in cell.metadata.get("tags", []):
            return cell
    raise ValueError(f"{path}: no cell is tagged `{params.TAG}`, needed one")


def _is_papermills(cell: dict[str, Any]) -> bool:
    """Whether papermill put the cell there to point at an error."""
    return "papermill-error-cell-tag" in cell["metadata"].get("tags", [])


def _hash(path: Path) -> str | None:
    """Of what stands in the cells, not of what they gave; None for a file that is no notebook any more."""
    try:
        cells = json.loads(path.read_text())["cells"]
        content = [[cell["cell_type"], "".join(cell["source"])] for cell in cells if not _is_papermills(cell)]
    except (ValueError, KeyError, TypeError):
        return None
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
