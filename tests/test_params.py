"""What configs declare, what `params.check` lets through, and the cell that shows it, against values written out by hand."""

import ast
import math
import tokenize
from dataclasses import dataclass
from io import StringIO

import pytest

from recon_lib import knobs
from recon_lib.chain import params
from recon_lib.knobs import Parameter, knob
from recon_lib.stages import REFINE


@dataclass(frozen=True)
class ToyConfig:
    steps: int = knob(500, "optimiser steps", 1, 1000)
    lr_vertex: float = knob(0.002, "unit-sphere radii per step", 0, 1)
    backend: str = knob("auto", "who makes the coarse mesh", choices=("auto", "hull", "reconviagen"))
    save: bool = knob(False, "also the steps between")
    light: int = knob(16, "texels", choices=(16, 32))
    warmup: int = 10  # not a parameter


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(params.CONFIGS, REFINE, (ToyConfig,))


def refusal(**values):
    with pytest.raises(ValueError) as caught:
        params.check(REFINE, values)
    return str(caught.value)


def test_a_config_declares_its_knobs_and_no_other_field():
    found = params.declared(REFINE)
    assert list(found) == ["steps", "lr_vertex", "backend", "save", "light"]
    assert found["steps"] == Parameter("steps", 500, "optimiser steps", 1, 1000, ())
    assert found["backend"].choices == ("auto", "hull", "reconviagen")
    assert params.defaults(REFINE)["lr_vertex"] == 0.002


@pytest.mark.parametrize(
    "made",
    [
        lambda: knob("text", "without choices"),
        lambda: knob(1, "without a range"),
        lambda: knob(1.0, "half a range", low=0),
        lambda: knob((1, 2), "a tuple", 0, 3),
        lambda: knob(None, "nothing"),
        lambda: knob(1, "x = 3", 0, 9),
    ],
)
def test_a_knob_that_nothing_could_check_or_papermill_would_misread_is_refused(made):
    with pytest.raises(AssertionError):
        made()


def test_two_configs_may_share_a_parameter_only_if_they_mean_the_same(monkeypatch):
    @dataclass(frozen=True)
    class Other:
        steps: int = knob(300, "optimiser steps", 1, 1000)

    monkeypatch.setitem(params.CONFIGS, REFINE, (ToyConfig, ToyConfig))
    assert list(params.declared(REFINE)) == list(knobs.parameters(ToyConfig))
    monkeypatch.setitem(params.CONFIGS, REFINE, (ToyConfig, Other))
    with pytest.raises(AssertionError, match="two meanings of steps"):
        params.declared(REFINE)


def test_the_cell_is_python_that_assigns_every_parameter_and_papermill_can_read():
    source = params.cell(REFINE, {"steps": 7, "run_dir": 'a "b"'})
    assigned = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}
    assert assigned == {"run_dir": 'a "b"', **params.defaults(REFINE), "steps": 7}
    comments = [t.string for t in tokenize.generate_tokens(StringIO(source).readline) if t.type == tokenize.COMMENT]
    assert comments[1:4] == [
        "# optimiser steps [1, 1000]",
        "# unit-sphere radii per step [0, 1]",
        "# who makes the coarse mesh {auto, hull, reconviagen}",
    ]
    assert len(comments) == len(assigned) and not any("=" in comment for comment in comments)


def test_good_values_pass_unchanged_but_for_whole_numbers_where_floats_are_declared():
    values = {"steps": 1, "lr_vertex": 1, "backend": "hull", "save": True, "light": 32}
    checked = params.check(REFINE, values)
    assert checked == values
    assert isinstance(checked["lr_vertex"], float)
    assert isinstance(checked["steps"], int)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("step", 3, "did you mean steps?"),
        ("colour", 3, "unknown; there are steps"),
        ("warmup", 3, "unknown"),
        ("light", 17, "one of 16, 32"),
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
    ],
)
def test_a_value_that_will_not_do_is_refused_with_what_would(name, value, told):
    text = refusal(**{name: value})
    assert text.startswith(f"3_nvdiffrec: {name}: ")
    assert told in text


def test_all_problems_are_told_at_once():
    assert len(refusal(step=3, steps=0, save=1, backend="auto").splitlines()) == 3


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
