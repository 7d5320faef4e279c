"""A repository of toy notebooks, for tests of the chain and of its jobs."""

import json

import nbformat
import verdicts
from nbformat.v4 import new_code_cell, new_notebook

from recon_lib.chain import kernels, params
from recon_lib.stages import OUTPUTS, STAGES

BODIES = {"name": "bodies", "value": 2, "limit": "1", "unit": "", "status": "warning"}
VERDICT = verdicts.verdict(status="warning", psnr_db=24.5, view_count=5, checks=[BODIES], decided_by=["bodies"])


def make_home(home):
    """Fills a folder with a toy notebook per stage, one photo and one preset."""
    for folder in ("notebooks", "samples/jug", "params"):
        (home / folder).mkdir(parents=True)
    (home / "samples" / "jug" / "one.png").write_text("1")
    for stage in STAGES:
        toy(home, stage)
    (home / "params" / "quick.yaml").write_text("1_ingest:\n  photos: samples/jug\n")


def toy(home, stage, trouble="", after=""):
    """A notebook that writes its output folder, then does what `trouble` says, then finishes."""
    name, text = ("verdict.json", json.dumps(VERDICT)) if stage == "4_metrics" else ("result.txt", "text")
    sources = [
        params.cell(stage, {}),
        f"""from recon_lib import files
from recon_lib.chain import run
stage = run.begin(run_dir, "{stage}", globals())
with stage.writing("{OUTPUTS[stage]}") as folder:
    files.write_text(folder / "{name}", {text!r})
stage.progress(0.5, "half of it")""",
        trouble,
        "stage.finish({'doubled': 2 * stage.parameters.get('steps', 0)})",
        after,
    ]
    cells = [new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=cells), home / "notebooks" / f"{stage}.ipynb")


def run_in_this_process(monkeypatch) -> list[str]:
    """Notebooks run their cells in this process; gives the list of stages, to which each that runs is added."""
    ran = []

    def execute(copy, **options):
        ran.append(copy.stem)
        monkeypatch.setenv("RECON_BATCH", "1")
        scope = {"__name__": "__main__"}
        try:
            for cell in nbformat.read(copy, 4).cells:
                exec(cell.source, scope)
        finally:
            monkeypatch.delenv("RECON_BATCH")

    monkeypatch.setattr(kernels, "execute", execute)
    return ran
