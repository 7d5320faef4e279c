"""Whose folder a run gets, and what becomes of notebooks that somebody edited: another's work is never touched."""

import json

import nbformat
import pytest

from recon_lib import cli
from recon_lib.chain import copies, naming, params, pipeline, run
from recon_lib.stages import REFINE, STAGES


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """A repository with the real notebooks' first cells, two folders named scan, and one with a space."""
    for folder in ("a/scan", "b/scan", "my new scan", "notebooks", "params"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "one.png").write_text(folder)
    for stage in STAGES:
        cell = nbformat.v4.new_code_cell(params.cell(stage, {}), metadata={"tags": ["parameters"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / f"{stage}.ipynb")
    (tmp_path / "params" / "quick.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs"


def asked_for(monkeypatch, *arguments):
    """The folder that the command would run in."""
    found = []

    def note(asked, folder, *rest, **limits):
        found.append(folder)
        return {"stages": {"4_metrics": {"state": "pending"}}}

    monkeypatch.setattr(pipeline, "run", note)
    code = cli.main(["run", "--notebooks", "notebooks", *arguments])
    return found[0] if code == cli.DONE else None


def holds_a_run_over(outputs, name, photos):
    assert cli.main(["new", "--notebooks", "notebooks", name, "--photos", photos]) == cli.DONE
    (outputs / name / "metrics").mkdir()
    (outputs / name / "metrics" / "verdict.json").write_text(json.dumps({"status": "normal"}))


def test_a_second_folder_of_the_same_name_gets_a_run_of_its_own_and_says_so(outputs, monkeypatch, capsys):
    holds_a_run_over(outputs, "scan", "a/scan")
    assert asked_for(monkeypatch, "--photos", "b/scan") == outputs / "scan-2"
    assert "outputs/scan holds another run: this one goes to outputs/scan-2" in capsys.readouterr().err
    assert asked_for(monkeypatch, "--photos", "a/scan") == outputs / "scan"
    holds_a_run_over(outputs, "scan-2", "b/scan")
    assert asked_for(monkeypatch, "--photos", "b/scan") == outputs / "scan-2"


def test_a_run_stays_its_own_when_its_photos_change_and_when_their_folder_moves(outputs, monkeypatch):
    holds_a_run_over(outputs, "scan", "a/scan")
    (outputs.parent / "a" / "scan" / "one.png").write_text("another look")
    assert asked_for(monkeypatch, "--photos", "a/scan") == outputs / "scan"
    (outputs.parent / "a" / "scan" / "one.png").write_text("a/scan")
    (outputs.parent / "a").rename(outputs.parent / "c")
    assert asked_for(monkeypatch, "--photos", "c/scan") == outputs / "scan"


def test_a_folder_with_a_space_gets_a_slug(outputs, monkeypatch):
    assert asked_for(monkeypatch, "--photos", "my new scan") == outputs / "my-new-scan"


@pytest.mark.parametrize(
    ("text", "name"),
    [("a b", "a-b"), (" Müller's Topf (2)", "Müller-s-Topf-2"), ("..", "run"), ("x.", "x"), ("a/b", "a-b")],
)
def test_a_slug_is_a_plain_folder_name(text, name):
    assert naming.slug(text) == name
    naming.check_name(name)


def test_a_name_that_holds_another_run_is_refused_and_force_says_what_goes(outputs, monkeypatch, capsys):
    holds_a_run_over(outputs, "mine", "a/scan")
    assert asked_for(monkeypatch, "--photos", "b/scan", "--name", "mine") is None
    said = capsys.readouterr().err
    assert "mine holds a run over other photos (metrics, with the verdict `normal`)" in said and "--force" in said
    assert (outputs / "mine" / "metrics" / "verdict.json").exists()
    assert asked_for(monkeypatch, "--photos", "b/scan", "--name", "mine", "--force") == outputs / "mine"
    assert "gone: metrics, with the verdict `normal`" in capsys.readouterr().err
    assert not (outputs / "mine").exists()


def test_a_folder_that_is_no_run_is_not_touched(outputs, monkeypatch):
    (outputs / "scan").mkdir(parents=True)
    (outputs / "scan" / "diary.txt").write_text("mine")
    assert asked_for(monkeypatch, "--photos", "a/scan") == outputs / "scan-2"


def test_new_writes_working_copies_with_the_parameters_in_and_one_run_folder(outputs, capsys):
    arguments = ["new", "--notebooks", "notebooks", "mine", "--photos", "a/scan", "--set", f"{REFINE}.steps=60"]
    assert cli.main(arguments) == cli.DONE
    first = {stage: nbformat.read(outputs / "mine" / f"{stage}.ipynb", 4).cells[0].source for stage in STAGES}
    assert all('run_dir = "outputs/mine"' in source for source in first.values())
    assert 'photos = "a/scan"' in first[STAGES[0]] and "\nsteps = 60 " in first[REFINE]
    assert capsys.readouterr().out.count(".ipynb") == 5
    assert run.load(outputs / "mine")["state"] == "pending"


def edit(path, before, after):
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_an_edited_copy_is_set_aside_with_a_word_and_an_untouched_one_is_not(outputs, caplog):
    values = {REFINE: {"steps": 60}}
    pipeline.write_copies(values, outputs / "mine", "outputs/mine", outputs.parent / "notebooks")
    path = outputs / "mine" / f"{REFINE}.ipynb"
    edit(path, "steps = 60 ", "steps = 61 ")
    pipeline.write_copies(values, outputs / "mine", "outputs/mine", outputs.parent / "notebooks")
    kept = outputs / "mine" / f"{REFINE}.edited-1.ipynb"
    assert "steps = 61 " in kept.read_text() and "steps = 60 " in path.read_text()
    assert f"was edited: kept as {kept.name}" in caplog.text
    assert len(list((outputs / "mine").glob("*.ipynb"))) == 6


def test_outputs_and_papermills_own_marks_are_no_edit(outputs):
    pipeline.write_copies({}, outputs / "mine", "outputs/mine", outputs.parent / "notebooks")
    path = outputs / "mine" / f"{REFINE}.ipynb"
    book = nbformat.read(path, 4)
    book.cells[0].outputs.append(nbformat.v4.new_output("stream", text="ran"))
    book.cells.insert(0, nbformat.v4.new_markdown_cell("error", metadata={"tags": ["papermill-error-cell-tag"]}))
    nbformat.write(book, path)
    assert copies.set_aside(outputs / "mine", REFINE) is None and path.exists()


def test_a_default_edited_in_a_template_changes_no_copy(outputs):
    template = outputs.parent / "notebooks" / f"{REFINE}.ipynb"
    edit(template, "steps = 800 ", "steps = 60 ")
    pipeline.write_copies({}, outputs / "mine", "outputs/mine", outputs.parent / "notebooks")
    assert "steps = 800 " in (outputs / "mine" / f"{REFINE}.ipynb").read_text()


def test_a_folder_in_which_a_run_was_killed_before_its_record_was_written_is_free(tmp_path):
    for name in (".lock", ".run.json.123.new"):
        (tmp_path / name).write_text("")
    assert not naming.is_another_run(tmp_path, "/photos", {"a": "1"})
    (tmp_path / ".mine").write_text("")
    assert naming.is_another_run(tmp_path, "/photos", {"a": "1"})
