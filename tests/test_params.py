"""What a `parameters` cell declares and what `params.check` lets through, against values written out by hand."""

import json
import math

import pytest

from recon_lib.chain import params
from recon_lib.chain.params import Parameter

CELL = """
run_dir = "outputs/demo"  # run folder
steps = 500               # optimiser steps [1, 1000]
lr_vertex = 0.002  # unit-sphere radii a step [0, 1]
backend = "auto"  # who makes the coarse mesh {auto, hull, reconviagen}
save = False  # also the steps between
sizes = [64, 128]  # texels along a side [16, 512]
"""


def notebook(folder, source=CELL, tags=("parameters",)):
    path = folder / "3_nvdiffrec.ipynb"
    cells = [{"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source.splitlines(keepends=True)}]
    path.write_text(json.dumps({"cells": cells}))
    return path


def refusal(folder, **values):
    with pytest.raises(ValueError) as caught:
        params.check(notebook(folder), values)
    return str(caught.value)


def test_a_cell_declares_defaults_help_ranges_and_choices(tmp_path):
    found = params.defaults(notebook(tmp_path))
    assert list(found) == ["run_dir", "steps", "lr_vertex", "backend", "save", "sizes"]
    assert found["run_dir"] == Parameter("run_dir", "outputs/demo", "run folder", -math.inf, math.inf, ())
    assert found["steps"] == Parameter("steps", 500, "optimiser steps", 1.0, 1000.0, ())
    assert found["backend"].choices == ("auto", "hull", "reconviagen")
    assert found["backend"].help == "who makes the coarse mesh"


@pytest.mark.parametrize(
    "line", ["a: int = 3", "a = b = 3", "a = 3  # x = 3 [0, 9]", "a = (1, 2)", "a = None", "print(3)"]
)
def test_a_line_that_papermill_would_misread_is_no_declaration(tmp_path, line):
    with pytest.raises(ValueError, match="line 1"):
        params.defaults(notebook(tmp_path, line))


def test_a_notebook_without_a_tagged_cell_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no cell is tagged"):
        params.defaults(notebook(tmp_path, tags=()))


def test_good_values_pass_unchanged_but_for_whole_numbers_where_floats_are_declared(tmp_path):
    values = {"steps": 1, "lr_vertex": 1, "backend": "hull", "save": True, "sizes": [16, 512]}
    checked = params.check(notebook(tmp_path), values)
    assert checked == values
    assert isinstance(checked["lr_vertex"], float)
    assert isinstance(checked["steps"], int)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("step", 3, "did you mean steps?"),
        ("colour", 3, "unknown; there are run_dir, steps"),
        ("steps", True, "got True (bool), needed a whole number"),
        ("steps", 3.0, "got 3.0 (float), needed a whole number"),
        ("steps", 0, "got 0 (int), needed 1 to 1000"),
        ("steps", 1001, "needed 1 to 1000"),
        ("steps", None, "got nothing (null), needed a whole number"),
        ("lr_vertex", "3e-2", "YAML reads 3e-2 as text: write 0.03"),
        ("lr_vertex", "1e-7", "write 0.0000001"),
        ("lr_vertex", "fast", "got 'fast' (str), needed a number"),
        ("lr_vertex", math.nan, "a finite number"),
        ("lr_vertex", math.inf, "a finite number"),
        ("lr_vertex", 1.0000001, "needed 0 to 1"),
        ("backend", "Hull", "one of auto, hull, reconviagen"),
        ("backend", 7, "needed text: put it in quotes"),
        ("save", "false", "true or false: write false without quotes"),
        ("save", 0, "true or false"),
        ("sizes", (64, 128), "needed a list"),
        ("sizes", 64, "needed a list"),
        ("sizes", [64, 8], "16 to 512, for 8"),
        ("sizes", [64, "128"], "YAML reads 128 as text: write 128, for '128'"),
    ],
)
def test_a_value_that_will_not_do_is_refused_with_what_would(tmp_path, name, value, told):
    text = refusal(tmp_path, **{name: value})
    assert text.startswith(f"3_nvdiffrec: {name}: ")
    assert told in text


def test_all_problems_are_told_at_once(tmp_path):
    assert len(refusal(tmp_path, step=3, steps=0, save=1, backend="auto").splitlines()) == 3


def test_a_file_may_be_partial_and_its_notebooks_must_be_known(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text("3_nvdiffrec:\n  steps: 20\n  lr_vertex: 3e-2\n5_preview:\n")
    assert params.read(path) == {"3_nvdiffrec": {"steps": 20, "lr_vertex": "3e-2"}, "5_preview": {}}
    path.write_text("3_nvdifrec:\n  steps: 20\n")
    with pytest.raises(ValueError, match="3_nvdifrec: unknown; did you mean 3_nvdiffrec"):
        params.read(path)


@pytest.mark.parametrize("text", ["3_nvdiffrec: 5", "- 3_nvdiffrec", "a: [", "steps"])
def test_a_file_of_another_form_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "demo.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^[^\n]*demo\.yaml: [^\n]*$"):
        params.read(path)


def test_an_empty_file_asks_for_the_defaults(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text("")
    assert params.read(path) == {}
