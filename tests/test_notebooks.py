"""The notebooks tell and the library does; nbval executes copies of them, see the Makefile."""

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from recon_lib.chain import params
from recon_lib.coarse import hull
from recon_lib.photos import ingest
from recon_lib.refine import fit

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
PRESETS = sorted((Path(__file__).parents[1] / "params").glob("*.yaml"))


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def test_there_is_one_notebook_a_stage():
    assert [p.stem for p in NOTEBOOKS] == list(params.STAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_are_short_hold_no_logic_and_stand_under_a_sentence(path):
    before = None
    for cell in cells(path):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            assert source.count("\n") < (20 if "parameters" in cell["metadata"].get("tags", []) else 15)
            assert not re.search(r"^\s*(def|class|try|while|!|%)", source, re.M), source
            assert before == "markdown" or source.startswith("fitted = await"), source
        before = cell["cell_type"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_parameter_has_a_help_and_every_number_a_range(path):
    for name, parameter in params.defaults(path).items():
        assert parameter.help, name
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
            assert parameter.low is not None and parameter.low <= parameter.default <= parameter.high, name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_parameter_is_used_outside_its_cell(path):
    code = "\n".join(
        "".join(c["source"])
        for c in cells(path)
        if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", [])
    )
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    assert set(params.defaults(path)) <= names


@pytest.mark.parametrize(
    ("stage", "config"),
    [("1_ingest", ingest.IngestConfig), ("2_reconviagen", hull.HullConfig), ("3_nvdiffrec", fit.FitConfig)],
)
def test_a_knob_has_one_default(stage, config):
    shown = params.defaults(Path(__file__).parents[1] / "notebooks" / f"{stage}.ipynb")
    both = [field for field in fields(config) if field.name in shown]
    assert both and {f.name: f.default for f in both} == {f.name: shown[f.name].default for f in both}


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_parameter_file_is_accepted(path):
    for stage, values in yaml.safe_load(path.read_text()).items():
        params.check(Path(__file__).parents[1] / "notebooks" / f"{stage}.ipynb", values or {})
