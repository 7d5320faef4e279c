"""Metres per world unit from a known length between two marked points, and the errors of wrong marks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from recon_lib import cli, files
from recon_lib.camera import orbit, project
from recon_lib.photos import scale, scene
from recon_lib.photos.scale import Mark
from recon_lib.show import report
from recon_lib.surface import meshio

ENDS = torch.tensor([[0.3, -0.2, 0.1], [-0.25, 0.35, 0.2]])
METRES = 0.12
UNITS = float((0.55**2 + 0.55**2 + 0.1**2) ** 0.5)  # between the ends, by Pythagoras


@pytest.fixture
def ring():
    """Four photos without content, from all around."""
    cameras = orbit(4, 0.3, 3.0, 0.6, 400)
    blank = tuple(np.zeros((400, 400, 4), np.uint8) for _ in range(4))
    names = ("a", "b", "c", "d")
    return scene.Scene(names, blank, cameras, np.zeros(4, bool), np.array([0.0, 1.0, 0.0]))


@pytest.fixture
def marks(ring):
    """Both ends in photos a, b and d, to a hundredth of a pixel."""
    seen, _ = project(ring.cameras, ENDS)
    return [[Mark(ring.names[i], *(round(v, 2) for v in seen[i, end].tolist())) for i in (0, 1, 3)] for end in (0, 1)]


def test_a_known_length_gives_metres_per_unit(ring, marks):
    found = scale.measure(ring, marks, METRES)
    assert found.metres_per_unit == pytest.approx(METRES / UNITS, rel=1e-3)
    assert found.error_px < 0.02
    two = scale.measure(ring, [end[:2] for end in marks], METRES)
    assert two.metres_per_unit == pytest.approx(METRES / UNITS, rel=1e-3)


def test_the_error_that_is_told_is_that_of_the_wrong_mark(ring, marks):
    marks[1][2] = marks[1][2]._replace(x=marks[1][2].x + 4)
    assert 1 < scale.measure(ring, marks, METRES).error_px < 4
    marks[1][2] = marks[1][2]._replace(x=marks[1][2].x + 16)
    with pytest.raises(ValueError, match=r"the mark is \d+\.\d pixels from"):
        scale.measure(ring, marks, METRES)


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_that_is_none_is_refused(ring, marks, length):
    with pytest.raises(ValueError, match=r"--length: got .*needed metres above 0"):
        scale.measure(ring, marks, length)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([Mark("z.jpg", 10, 10), Mark("a", 10, 10)], "no photo 'z.jpg' in the scene, needed one of a, b, c, d"),
        ([Mark("a", 401, 10), Mark("b", 10, 10)], "a: got 401,10, outside the photo's 400 x 400"),
        ([Mark("a", float("nan"), 10), Mark("b", 10, 10)], "a: got nan,10, outside"),
        ([Mark("a", 10, 10)], "needed two photos or more"),
        ([Mark("a", 10, 10), Mark("a.png", 12, 10)], "needed two photos or more, each once"),
        ([Mark("a", 200, 0), Mark("c", 200, 0)], "parallel within"),
    ],
)
def test_wrong_marks_are_named(ring, marks, wrong, said):
    with pytest.raises(ValueError, match=said):
        scale.measure(ring, [marks[0], wrong], METRES)


def test_a_scene_without_cameras_and_a_single_point_are_refused(ring, marks):
    with pytest.raises(ValueError, match="no cameras"):
        scale.measure(replace(ring, cameras=None), marks, METRES)
    with pytest.raises(ValueError, match="got 1 points"):
        scale.measure(ring, marks[:1], METRES)
    with pytest.raises(ValueError, match="both points are the same"):
        scale.measure(ring, [marks[0], marks[0]], METRES)


def test_the_command_writes_what_the_scene_reads_until_its_cameras_change(ring, marks, tmp_path, capsys):
    scene.save(ring, tmp_path / "scene")
    before = (tmp_path / "scene" / "transforms.json").read_bytes()
    assert scene.load(tmp_path / "scene").metres_per_unit is None
    points = [part for end in marks for part in ("--point", *(f"{m.photo}.jpg:{m.x},{m.y}" for m in end))]
    assert cli.main(["scale", str(tmp_path), *points, "--length", str(METRES)]) == cli.DONE
    assert "1 unit of the world and of the mesh files is 0.1530" in capsys.readouterr().out
    assert scene.load(tmp_path / "scene").metres_per_unit == pytest.approx(METRES / UNITS, rel=1e-3)
    assert (tmp_path / "scene" / "transforms.json").read_bytes() == before
    assert cli.main(["scale", str(tmp_path), "--point", "a:1", "--length", "1"]) == cli.REFUSED
    assert "needed PHOTO:x,y" in capsys.readouterr().err
    (tmp_path / "scene" / "transforms.json").write_bytes(before + b"\n")
    assert scene.load(tmp_path / "scene").metres_per_unit is None


def test_the_report_tells_the_unit_in_metres_only_if_it_is_known(ring, tmp_path):
    scene.save(ring, tmp_path / "scene")
    files.write_json(tmp_path / "run.json", {"name": "ring", "state": "pending", "stages": {}})
    assert " m, by a known length" not in report.write(tmp_path).read_text()
    scale.save(tmp_path, scale.Scale(0.25, 0.1))
    assert "One unit of the mesh files is 0.25 m, by a known length" in report.write(tmp_path).read_text()


def test_the_mesh_is_written_in_metres_beside_the_runs_own(ball, tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "transforms.json").write_text("{}")
    assert scale.save(tmp_path, scale.Scale(0.25, 0.1)) is None
    (tmp_path / "refined").mkdir()
    meshio.save(ball, tmp_path / "refined", np.array([0.0, 0.0, 1.0]))
    own = tmp_path / "refined" / "mesh.glb"
    before = own.read_bytes()
    made = scale.save(tmp_path, scale.Scale(0.25, 0.1))
    assert made == tmp_path / "mesh_in_metres.glb" and own.read_bytes() == before
    small, large = (trimesh.load_scene(path) for path in (made, own))
    assert small.extents == pytest.approx(0.25 * large.extents, rel=1e-6)
