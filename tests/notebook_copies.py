"""`python tests/notebook_copies.py FOLDER`: the notebooks with CI's tiny parameters, over one run folder, for nbval."""

import shutil
import sys
from pathlib import Path

from recon_lib.chain import comparing, params, pipeline

if __name__ == "__main__":
    home = Path(__file__).parents[1]
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    shutil.copy(home / "notebooks" / "0_workbench.ipynb", folder)
    pipeline.write_copies(params.read(home / "params" / "ci.yaml"), folder, folder / "run", home / "notebooks")
    comparing.write_copy([folder / "run"], folder / f"{comparing.NAME}.ipynb", home / "notebooks")
