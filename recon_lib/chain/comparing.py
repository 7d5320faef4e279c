"""Executes the notebook 6_compare over runs. It is no stage: it reads run folders and writes none."""

from collections.abc import Sequence
from pathlib import Path

import nbformat

from recon_lib import files
from recon_lib.chain import kernels

NAME = "6_compare"
TAG = "parameters"  # papermill's
LIMIT_S = 600.0


def execute(folders: Sequence[Path], out: Path, notebooks: Path) -> Path:
    """Executes 6_compare over the runs and returns the notebook, `out`. Raises PapermillExecutionError if a cell fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_copy(folders, out, notebooks)
    kernels.execute(
        out, cwd=notebooks.parent, execution_timeout=LIMIT_S, kernel_env=kernels.environment(),
        kernel_log=out.with_suffix(".log"),
    )  # fmt: skip
    return out


def write_copy(folders: Sequence[Path], out: Path, notebooks: Path) -> None:
    """Writes the notebook with these runs in its parameters cell. Raises ValueError for a path that holds a comma."""
    if held := [str(folder) for folder in folders if "," in str(folder)]:
        raise ValueError(f"{', '.join(held)}: got a comma in the path, needed one without")
    book = nbformat.read(notebooks / f"{NAME}.ipynb", as_version=4)
    for cell in book.cells:
        if TAG in cell.metadata.get("tags", []):
            cell.source = f'runs = "{",".join(map(str, folders))}"  # run folders, separated by commas'
    files.write_text(out, nbformat.writes(book))
