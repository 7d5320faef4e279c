"""The notebooks tell and the library does; nbval executes copies of them, see the Makefile."""

import ast
import json
import math
import re
from pathlib import Path

import pytest
import yaml

from recon_lib import knobs
from recon_lib.chain import params
from recon_lib.stages import STAGES
from recon_lib.workbench import results

WORKBENCH, *NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
PRESETS = sorted((Path(__file__).parents[1] / "params").glob("*.yaml"))


BESIDE = ("6_compare",)  # notebooks that are no stage of a run
OF_STAGES = [path for path in NOTEBOOKS if path.stem in STAGES]


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def test_there_is_one_notebook_a_stage_and_the_workbench_before_them():
    assert [p.stem for p in NOTEBOOKS if p.stem not in BESIDE] == list(STAGES) and WORKBENCH.stem == "0_workbench"


def test_the_workbench_hides_its_code_which_is_short():
    code = [cell for cell in cells(WORKBENCH) if cell["cell_type"] == "code"]
    assert all(cell["metadata"]["jupyter"]["source_hidden"] and len(cell["source"]) < 5 for cell in code)
    assert not any(cell["outputs"] for cell in code)


def test_the_workbench_takes_pictures_from_cells_that_there_are():
    for stage, wanted in results.PICTURES.items():
        ids = {cell["id"] for cell in cells(WORKBENCH.with_stem(stage))}
        assert {cell for cell, _ in wanted} <= ids


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_are_short_hold_no_logic_and_stand_under_a_sentence(path):
    before = None
    for cell in cells(path):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            assert source.count("\n") < (22 if "parameters" in cell["metadata"].get("tags", []) else 15)
            assert not re.search(r"^\s*(def|class|try|while|!|%)", source, re.M), source
            assert before == "markdown", source
        before = cell["cell_type"]


@pytest.mark.parametrize("path", OF_STAGES, ids=lambda p: p.stem)
def test_the_parameters_cell_shows_what_the_configs_hold(path):
    shown = ["".join(c["source"]) for c in cells(path) if "parameters" in c["metadata"].get("tags", [])]
    assert shown == [params.cell(path.stem, {})], "tests/show_parameters.py writes the cells anew"


@pytest.mark.parametrize("stage", STAGES)
def test_text_has_choices_and_numbers_have_a_finite_range_that_holds_the_default(stage):
    for name, parameter in params.declared(stage).items():
        assert parameter.help, name
        default = parameter.default
        if isinstance(default, str):
            assert parameter.is_path or default in parameter.choices, name
        elif not isinstance(default, bool):
            finite = math.isfinite(parameter.low) and math.isfinite(parameter.high)
            assert default in parameter.choices or (finite and parameter.low <= default <= parameter.high), name


@pytest.mark.parametrize("path", OF_STAGES, ids=lambda p: p.stem)
def test_every_parameter_is_used_by_name_or_by_a_config_that_the_notebook_fills(path):
    code = "\n".join("".join(c["source"]) for c in cells(path) if c["cell_type"] == "code")
    tree = ast.parse(code, mode="exec")
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    filled = [c for c in params.CONFIGS[path.stem] if re.search(rf"stage\.config\((\w+\.)?{c.__name__}\)", code)]
    known = names | {name for config in filled for name in knobs.parameters(config)}
    assert set(params.declared(path.stem)) <= known


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_ends_in_a_reading_that_answers_its_title(path):
    texts = [c for c in cells(path) if c["cell_type"] == "markdown"]
    question = re.search(r":\s*(.+\?)", "".join(texts[0]["source"]))[1]
    last = "".join(texts[-1]["source"])
    assert last.startswith("**Reading.**") and question[1:] in last
    assert cells(path)[-1]["cell_type"] == "code" and "reading(" in "".join(cells(path)[-1]["source"])


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_parameter_file_is_accepted(path):
    for stage, values in yaml.safe_load(path.read_text()).items():
        params.check(stage, values or {})
