"""The workbench without a browser: uploads, what JupyterLab may change, the list of runs, masks by hand."""

import asyncio
import io
import json
import os
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.sign import NotebookNotary
from PIL import Image
from tornado import web
from traitlets.config import Config

from recon_lib.chain import kernels, lock
from recon_lib.chain import run as records
from recon_lib.photos import strokes
from recon_lib.photos.strokes import Stroke
from recon_lib.workbench import results, runs, uploads
from recon_lib.workbench.contents import WorkbenchContents
from recon_lib.workbench.uploads import Uploads

ROOT = Path(__file__).parents[1]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def put(upload: Uploads, name: str, data: bytes):
    upload.begin(name, len(data))
    for at in range(0, len(data), 50):
        upload.piece(name, data[at : at + 50])
    return upload.end(name)


def stored(outputs):
    return sorted(path.name for path in (outputs / "uploads").rglob("*") if path.is_file())


def test_photos_are_taken_whole_and_two_uploads_do_not_mix(tmp_path):
    first, second = Uploads(tmp_path), Uploads(tmp_path)
    assert first.source() is None
    assert put(first, "a.png", png()).read_bytes() == png()
    put(first, "transforms.json", b"{}")
    put(second, "a.png", png())
    assert first.source() != second.source() and stored(tmp_path) == ["a.png", "a.png", "transforms.json"]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("text.png", b"no picture", "type: got text, needed PNG"),
        ("empty.jpg", b"", "got an empty file"),
        ("../a.png", png(), "leads out of the folder"),
        (".hidden.png", png(), "leads out of the folder or hides"),
        ("a\\b.png", png(), "leads out of the folder"),
        ("no.zip", b"PK not really", "got no archive"),
    ],
)
def test_what_is_refused_is_told_and_leaves_nothing(tmp_path, name, data, why):
    upload = Uploads(tmp_path)
    put(upload, "good.png", png())
    with pytest.raises(ValueError, match=why):
        put(upload, name, data)
    assert stored(tmp_path) == ["good.png"]


def test_an_archive_whose_paths_leave_it_is_refused_and_a_good_one_is_read_as_it_is(tmp_path):
    for inside, good in (("../a.png", False), ("jug/a.png", True)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(inside, png())
        upload = Uploads(tmp_path)
        if good:
            assert put(upload, "jug.zip", buffer.getvalue()) == upload.source()
        else:
            with pytest.raises(ValueError, match="leaves the archive"):
                put(upload, "jug.zip", buffer.getvalue())
            assert upload.source() is None


def test_sizes_are_bounded_by_what_comes_not_by_what_was_said(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_FILE_MB", 0.0002)
    monkeypatch.setattr(uploads, "MOST_TOTAL_MB", 0.0003)
    upload = Uploads(tmp_path)
    with pytest.raises(ValueError, match="needed at most"):
        upload.begin("a.png", 201)
    upload.begin("a.png", 10)
    with pytest.raises(ValueError, match="more than"):
        upload.piece("a.png", bytes(201))
    put(upload, "a.txt", bytes(190))
    with pytest.raises(ValueError, match="all files are more than"):
        upload.begin("b.txt", 190)
    assert stored(tmp_path) == ["a.txt"]


def test_a_full_disk_is_told_and_keeps_what_was_taken(tmp_path):
    upload = Uploads(tmp_path)
    put(upload, "a.png", png())
    upload.begin("b.png", 100)
    upload.open["b.png"].unlink()
    upload.open["b.png"].symlink_to("/dev/full")
    with pytest.raises(ValueError, match="No space left on device; what was taken before stays"):
        upload.piece("b.png", bytes(100_000))
    assert stored(tmp_path) == ["a.png"]


def saved(manager, path, **model):
    return asyncio.run(manager.save({"type": "file", "format": "text", "content": "x", **model}, path))


def test_only_outputs_can_be_changed_and_uploads_there_are_bounded(tmp_path):
    for name in ("notebooks", "outputs/run"):
        (tmp_path / name).mkdir(parents=True)
    template = nbformat.writes(nbformat.v4.new_notebook())
    (tmp_path / "notebooks/1_ingest.ipynb").write_text(template)
    manager = WorkbenchContents(root_dir=str(tmp_path), most_mb=0.0001)
    saved(manager, "outputs/run/a.txt")
    assert (tmp_path / "outputs/run/a.txt").read_text() == "x"
    assert manager.is_writable("outputs/run/a.txt") and not manager.is_writable("notebooks/1_ingest.ipynb")
    forbidden = [
        lambda: saved(manager, "notebooks/1_ingest.ipynb"),
        lambda: saved(manager, "outputs/../notebooks/1_ingest.ipynb"),
        lambda: asyncio.run(manager.delete_file("notebooks/1_ingest.ipynb")),
        lambda: asyncio.run(manager.delete_file("outputs")),
        lambda: asyncio.run(manager.rename_file("outputs/run/a.txt", "notebooks/a.txt")),
        lambda: asyncio.run(manager.new_untitled("notebooks", ext=".ipynb")),
        lambda: asyncio.run(manager.copy("notebooks/1_ingest.ipynb", "notebooks")),
    ]
    for attempt in forbidden:
        with pytest.raises(web.HTTPError) as refused:
            attempt()
        assert refused.value.status_code == 403 and "only files in outputs/" in refused.value.log_message
    asyncio.run(manager.copy("notebooks/1_ingest.ipynb", "outputs/run"))
    assert (tmp_path / "notebooks/1_ingest.ipynb").read_text() == template
    saved(manager, "outputs/b.txt", chunk=1, content="x" * 80)
    with pytest.raises(web.HTTPError, match="413"):
        saved(manager, "outputs/b.txt", chunk=-1, content="x" * 80)
    assert not (tmp_path / "outputs/b.txt").exists()


def configured(name, monkeypatch, user):
    """The settings of JupyterLab that a file makes, for root (user 0) or somebody else."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    config = Config()
    ours = ROOT / ".jupyter" / "jupyter_server_config.py"

    def load(_, path):
        exec(ours.read_text(), {"get_config": lambda: config, "__file__": str(ours)})

    source = (ROOT / name).read_text()
    exec(source, {"get_config": lambda: config, "load_subconfig": load, "__file__": str(ROOT / name)})
    return config


@pytest.mark.parametrize("name", [".jupyter/jupyter_server_config.py", "container/jupyter_server_config.py"])
def test_the_lab_is_local_guarded_bounded_and_root_is_warned(name, monkeypatch, capsys):
    config = configured(name, monkeypatch, 1000)
    assert config.LabApp.default_url == "/lab/tree/notebooks/0_workbench.ipynb" and "allow_root" not in config.ServerApp
    assert config.ServerApp.contents_manager_class.endswith("WorkbenchContents")
    assert config.MappingKernelManager.cull_idle_timeout == 3600 and config.MappingKernelManager.cull_connected
    assert (config.ServerApp.ip == "127.0.0.1") == name.startswith(".jupyter")
    assert "token" not in config.IdentityProvider and not capsys.readouterr().err
    assert configured(name, monkeypatch, 0).ServerApp.allow_root and "runs as root" in capsys.readouterr().err
    news = json.loads((ROOT / ".jupyter/lab/settings/overrides.json").read_text())
    assert news["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def made(outputs, name, created, **content):
    folder = outputs / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(records.new(folder) | {"created": created} | content))
    return folder


def test_the_list_has_every_run_the_latest_first_and_survives_a_damaged_one(tmp_path):
    made(tmp_path, "old", "2020-01-01T00:00:00+00:00", state="done")
    made(tmp_path, "new", "2021-01-01T00:00:00+00:00", state="failed", error="3_nvdiffrec: cause")
    (made(tmp_path, "broken", "2020-01-01T00:00:00+00:00") / "run.json").write_text("{")
    found = runs.listed(tmp_path)
    assert [(row.name, row.state) for row in found] == [("broken", "damaged"), ("new", "failed"), ("old", "done")]
    assert runs.age(39.0) == "39 s" and runs.age(5 * 3600.0) == "5 h" and runs.age(200_000.0) == "2 days"


def test_a_run_that_works_is_not_deleted_and_one_that_rests_is_gone_as_a_whole(tmp_path):
    folder = made(tmp_path, "mine", "2020-01-01T00:00:00+00:00")
    with lock.held(folder, "a test"), pytest.raises(ValueError, match="mine: it waits, works or writes its report"):
        runs.delete(folder)
    runs.delete(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("photos", "name", "why"), [("", "a", "photos: got none"), ("samples/jug", " ", "name: got none")]
)
def test_a_run_without_photos_or_name_is_refused(tmp_path, photos, name, why):
    with pytest.raises(ValueError, match=why):
        runs.start(tmp_path, photos, name, runs.AUTO, "quick")


def test_pictures_of_a_run_come_from_its_executed_notebooks_the_latest_stage_first(tmp_path):
    for stage, cells in (("1_ingest", ("1-09", "left-out")), ("2_reconviagen", ("2-11",))):
        data = {"image/png": "iVBORw0KGgo="}
        output = {"output_type": "display_data", "data": data, "metadata": {}}
        book = {"cells": [*({"id": cell, "outputs": [output]} for cell in cells), {"id": "x"}]}
        (tmp_path / f"{stage}.ipynb").write_text(json.dumps(book))
    (tmp_path / "5_preview.ipynb").write_text('{"cells": [{"id"')  # half written by another program
    found = results.pictures(tmp_path)
    assert ["coarse" in one.caption for one in found] == [True, False, False] and found[0].png.startswith(b"\x89PNG")
    assert "left out, crossed, and why" in found[1].caption


def test_every_picture_that_is_looked_for_is_made_by_a_cell_of_its_notebook():
    for stage, wanted in results.PICTURES.items():
        cells = nbformat.read(ROOT / "notebooks" / f"{stage}.ipynb", 4).cells
        assert {cell for cell, _ in wanted} <= {cell.id for cell in cells if cell.cell_type == "code"}


def test_an_executed_notebook_opens_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[])])
    book.cells[0].outputs = [nbformat.v4.new_output("display_data", {"text/html": "<script>1</script>"})]
    nbformat.write(book, tmp_path / "a.ipynb")
    assert not NotebookNotary(data_dir=str(tmp_path / "data")).check_signature(book)
    kernels.sign(tmp_path / "a.ipynb")
    opened = nbformat.read(tmp_path / "a.ipynb", 4)
    assert NotebookNotary(data_dir=str(tmp_path / "data")).check_signature(opened)


def scribbled():
    rng = np.random.default_rng(0)
    rgb = rng.integers(100, 140, (120, 160, 3)).astype(np.uint8)
    true = np.zeros((120, 160), bool)
    true[30:90, 50:110] = True
    rgb[true] = rng.integers(170, 210, (true.sum(), 3)) * np.array([1, 0.3, 0.2])
    return rgb, true


def test_a_box_or_a_stroke_on_the_object_gives_its_mask():
    rgb, true = scribbled()
    line = Stroke(True, [(0.4, 0.4), (0.6, 0.6)])
    beside = Stroke(False, [(0.05, 0.05), (0.95, 0.05), (0.95, 0.95)])
    for box, drawn in (((0.2, 0.1, 0.8, 0.9), []), (None, [line, beside])):
        found = strokes.mask(rgb, box, drawn) > 127
        assert (found & true).sum() / (found | true).sum() > 0.95


def test_a_stroke_beside_the_object_takes_away_what_the_box_has_too_much():
    rgb, _ = scribbled()
    rgb[100:110, 60:80] = rgb[40, 60]  # another thing of the object's colour, inside the box
    box = (0.2, 0.1, 0.8, 0.95)
    away = [Stroke(False, [(0.38, 0.87), (0.5, 0.87)]), Stroke(False, [(0.38, 0.84), (0.5, 0.91)])]
    with_it, without = (strokes.mask(rgb, box, drawn)[104, 64:76].mean() for drawn in ([], away))
    assert with_it > 200 and without < 60


def test_nothing_drawn_is_no_mask():
    with pytest.raises(ValueError, match="neither a box around the object nor a stroke on it"):
        strokes.mask(np.zeros((20, 20, 3), np.uint8), None, [])
