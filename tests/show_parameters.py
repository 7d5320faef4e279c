"""`python tests/show_parameters.py`: writes the notebooks' `parameters` cells anew from the configs."""

import json
from pathlib import Path

from recon_lib.chain import params
from recon_lib.stages import STAGES

if __name__ == "__main__":
    for stage in STAGES:
        path = Path(__file__).parents[1] / "notebooks" / f"{stage}.ipynb"
        book = json.loads(path.read_text())
        for cell in book["cells"]:
            if params.TAG in cell["metadata"].get("tags", []):
                cell["source"] = params.cell(stage, {}).splitlines(keepends=True)
        path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n")
