"""Runs beside one another: the best first, what differs, one view that all have, and whether a difference can be told."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
import verdicts
from PIL import Image

from recon_lib import cli
from recon_lib.chain import comparing
from recon_lib.show import comparison
from recon_lib.stages import STAGES

HOME = Path(__file__).parents[1]
VIEWS = {"a": 0.5, "b": -2.0, "c": 1.5}  # dB from the run's mean


def run(
    home: Path, name: str, psnr_db: float, status: str = "normal", steps: int = 100, seconds: float = 10.0, views=VIEWS
) -> Path:
    """A run's folder as the chain leaves it, as far as a comparison reads it."""
    folder = home / name
    for picture in ("photos", "renders", "errors"):
        (folder / "metrics" / picture).mkdir(parents=True)
        for view in views:
            Image.new("RGB", (8, 6), (200, 100, 50)).save(folder / "metrics" / picture / f"{view}.png")
    stages = {stage: {"state": "done", "seconds": seconds / len(STAGES), "parameters": {"seed": 0}} for stage in STAGES}
    stages["3_nvdiffrec"]["parameters"] |= {"steps": steps}
    (folder / "run.json").write_text(
        json.dumps({"name": name, "state": "done", "stages": stages, "inputs": {"p": "1"}})
    )
    found = verdicts.verdict(psnr_db=psnr_db, status=status, decided_by=[] if status == "normal" else ["bodies"])
    found["intervals"]["psnr_db"] = [psnr_db - 1, psnr_db + 1]
    (folder / "metrics" / "verdict.json").write_text(json.dumps(found))
    rows = "".join(f"{view},{psnr_db + more}\n" for view, more in views.items())
    (folder / "metrics" / "views.csv").write_text("view,psnr_db\n" + rows)
    (folder / "refined").mkdir()
    history = "".join(f"{i},{1 / i},{0.5 / i},{20 + i if i % 5 == 0 else ''}\n" for i in range(1, 21))
    (folder / "refined" / "history.csv").write_text("step,loss,colour,validation_psnr_db\n" + history)
    return folder


@pytest.fixture
def three(tmp_path) -> list[Path]:
    bad = run(tmp_path, "bad", 31.0, status="warning")
    return [bad, run(tmp_path, "low", 26.0, steps=50, seconds=5.0), run(tmp_path, "best", 29.0)]


def test_the_best_is_first_by_status_and_then_by_psnr(three):
    runs = comparison.compare(three)
    assert [found.name for found in runs] == ["best", "low", "bad"]
    shown = comparison.table(runs)
    assert [row[0] for row in shown.rows] == ["best", "low", "bad"]
    assert (
        shown.rows[0][2:4] == (29.0, "28.00 to 30.00") and shown.rows[2][-1] == "bodies" and shown.rows[1][7] == "5 s"
    )


def test_a_run_without_a_verdict_comes_last_with_its_error(three, tmp_path):
    broken = run(tmp_path, "broken", 40.0)
    (broken / "metrics" / "verdict.json").unlink()
    (broken / "metrics" / "views.csv").unlink()
    record = json.loads((broken / "run.json").read_text()) | {"state": "failed", "error": "no photos"}
    (broken / "run.json").write_text(json.dumps(record))
    rows = comparison.table(comparison.compare([broken, *three])).rows
    assert rows[-1][:3] == ("broken", "failed", "") and rows[-1][-1] == "no photos"


def test_only_parameters_that_differ_are_shown(three):
    shown = comparison.differences(comparison.compare(three))
    assert shown.rows == [("3_nvdiffrec.steps", "100", "50", "100")] and shown.header[1:] == ("best", "low", "bad")


def test_one_view_is_shown_that_all_runs_have_and_the_best_explains_worst(three, tmp_path):
    runs = comparison.compare([*three, run(tmp_path, "few", 27.0, views={"a": 0.0, "c": 0.0})])
    assert comparison.common_view(comparison.compare(three)) == "b" and comparison.common_view(runs) == "a"
    titles = [axis.get_title() for axis in comparison.side_by_side(runs).axes]
    assert titles[0] == "a: photo" and "best: 29.5 dB" in titles and "bad: 31.5 dB" in titles
    other = comparison.compare([three[0], run(tmp_path, "other", 27.0, views={"z": 0.0})])
    assert "No view" in comparison.side_by_side(other).texts[0].get_text()


def test_the_scatter_has_a_point_with_its_interval_for_each_run(three):
    axis = comparison.scatter(comparison.compare(three)).axes[0]
    points = sorted(tuple(map(float, bar[0].get_xydata()[0])) for bar in axis.containers)
    assert points == [(5.0, 26.0), (10.0, 29.0), (10.0, 31.0)]
    assert {text.get_text() for text in axis.texts} == {"best", "low", "bad"}


def test_curves_of_all_runs_lie_over_one_another(three):
    decides, fitted = comparison.curves(comparison.compare(three)).axes
    assert [line.get_label() for line in fitted.lines] == ["best", "low", "bad"]
    assert np.array_equal(decides.lines[0].get_xydata(), [[5, 25], [10, 30], [15, 35], [20, 40]])


def test_the_reading_says_whether_the_difference_can_be_told(three, tmp_path):
    said = comparison.reading(comparison.compare(three[1:]))
    assert (
        "best: normal, 29.00 dB" in said and "3.00 dB better than low" in said and "more than chance explains (" in said
    )
    assert "The fastest is low: 5 s, 26.00 dB." in said
    like = run(tmp_path, "like", 28.9, views={"a": 2.0, "b": -4.0, "c": 2.1})
    assert "no more than chance explains" in comparison.reading(comparison.compare([three[2], like]))
    other = run(tmp_path, "other", 20.0, views={"z": 0.0})
    assert "cannot be compared" in comparison.reading(comparison.compare([three[2], other]))


def test_what_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}/nothing: no run.json"):
        comparison.compare([tmp_path / "nothing"])
    assert cli.main(["compare", str(tmp_path / "nothing")]) == 2


def test_a_verdict_of_an_earlier_form_is_refused_by_name(three):
    path = three[1] / "metrics" / "verdict.json"
    path.write_text(json.dumps({name: value for name, value in verdicts.verdict().items() if name != "version"}))
    with pytest.raises(ValueError, match="low: got a verdict of an earlier form, needed stage 4 run again"):
        comparison.compare(three)


def test_the_notebook_gets_the_runs_in_its_parameters_cell(three, tmp_path):
    out = tmp_path / "6_compare.ipynb"
    comparing.write_copy(three, out, HOME / "notebooks")
    cell = next(c for c in nbformat.read(out, 4).cells if "parameters" in c.metadata.get("tags", []))
    assert cell.source.startswith(f'runs = "{three[0]},{three[1]},{three[2]}"')
    with pytest.raises(ValueError, match="comma"):
        comparing.write_copy([tmp_path / "a,b"], out, HOME / "notebooks")
