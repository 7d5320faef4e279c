"""Whatever stands in a parameter file, a record, a mesh or a name: a result or a named error, and no stray file."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon_lib.chain import batch, cancel, naming, params, pipeline, run, status
from recon_lib.mesh import icosphere
from recon_lib.stages import STAGES
from recon_lib.surface import foreign, meshio

INPUTS = 2000 if os.environ.get("RECON_LONG") else 200
many = settings(
    max_examples=INPUTS,
    deadline=None,
    derandomize=True,  # CI looks at the same inputs each time; RECON_LONG looks at ten times as many
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.sampled_from(
    [*STAGES, "steps", "lr_vertex", "photos", "params", "stages", "state", "job", "queued"]
) | st.text(max_size=9)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4))


def refuses_or_returns(work):
    """The result, or None for a ValueError that says something; any other error is a crash."""
    try:
        return work()
    except ValueError as error:
        assert str(error)
        return None


@many
@given(st.text() | st.binary() | trees.map(lambda tree: json.dumps(tree)))
def test_any_parameter_file_is_read_or_refused(tmp_path, content):
    path = tmp_path / "p.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    found = refuses_or_returns(lambda: params.read(path))
    if found is not None:
        refuses_or_returns(lambda: pipeline.validate(found))
    refuses_or_returns(lambda: batch.read(path, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["p.yaml"]


MADE_TO_BREAK = {
    "nested": "[" * 20000,
    "code": "a: !!python/object/apply:os.system ['touch hit']",
    "a circle": "a: &a [*a]",
    "a larger circle": "&a {1_ingest: *a}",
    "zero": "\0",
    "a key that is a list": "1_ingest: {? [a] : 3}",
}


@pytest.mark.parametrize("text", MADE_TO_BREAK.values(), ids=MADE_TO_BREAK)
def test_files_made_to_break_a_reader_are_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "p.yaml"
    path.write_text(text)
    for read in (params.read, lambda path: batch.read(path, tmp_path)):
        found = refuses_or_returns(lambda read=read: read(path))
        if found is not None:
            assert refuses_or_returns(lambda found=found: pipeline.validate(found)) is None
    assert not (tmp_path / "hit").exists()


@pytest.fixture(scope="module")
def whole_glb(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("glb")
    ball = icosphere(1)
    texture = torch.rand(8, 8, 3)
    textured = replace(ball, uvs=ball.verts[:, :2] / 4 + 0.5, uv_faces=ball.faces, texture=texture)
    meshio.save(textured, folder, np.array([0.0, 1.0, 0.0]))
    return (folder / "mesh.glb").read_bytes()


@many
@given(data=st.data())
def test_any_damaged_glb_is_read_or_refused(tmp_path, whole_glb, data):
    damaged = bytearray(whole_glb[: data.draw(st.integers(0, len(whole_glb)) | st.just(len(whole_glb)))])
    for at, byte in data.draw(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8)):
        if damaged:
            damaged[int(at * len(damaged))] = byte
    path = tmp_path / "m.glb"
    path.write_bytes(damaged)
    refuses_or_returns(lambda: foreign.read(path))
    assert [p.name for p in tmp_path.iterdir()] == ["m.glb"]


@many
@given(st.text(max_size=300))
def test_any_name_becomes_a_folder_inside_outputs_or_is_refused(text):
    for name in (naming.slug(text), text):
        if refuses_or_returns(lambda name=name: naming.check_name(name) or name):
            assert Path("/outputs", name).parent == Path("/outputs") and name not in (".", "..") and "\0" not in name


@many
@given(trees)
def test_any_record_is_shown_or_refused(tmp_path, tree):
    folder = tmp_path / "r"
    folder.mkdir(exist_ok=True)
    for name in ("run.json", "progress.json", cancel.NAME):
        (folder / name).write_text(json.dumps(tree))
    assert refuses_or_returns(lambda: run.load(folder)) is None
    assert refuses_or_returns(lambda: status.read(folder)) is None
    whole = run.new(folder) | (tree if isinstance(tree, dict) else {})
    (folder / "run.json").write_text(json.dumps(whole))
    refuses_or_returns(lambda: status.read(folder))


def test_a_parameter_file_with_an_empty_key_is_refused_by_name(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("null: {steps: 3}\n")
    with pytest.raises(ValueError, match="None: unknown"):
        params.read(path)
