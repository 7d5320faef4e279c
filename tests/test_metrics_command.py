"""`recon metrics`: any mesh by the verdict's rule, with the file's frame found or told."""

import json
from dataclasses import replace

import jsonschema
import known_bad
import numpy as np
import pytest
import torch
import trimesh
import verdicts

from recon_lib import camera, cli, files, frames
from recon_lib.photos import scene
from recon_lib.surface import meshio


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run's folder with small photos of the sample, and a good mesh of it that stage 3 might have written."""
    folder = tmp_path_factory.mktemp("run")
    good = known_bad.good(*known_bad.sample()[:2], 0)
    scene.save(good.photos, folder / "scene")
    (folder / "refined").mkdir()
    manifest = meshio.save(good.mesh, folder / "refined", good.photos.up)
    used = good.photos.subset(~good.photos.held_out)
    files.write_json(folder / "refined" / "refined.json", manifest | scene.provenance(used))
    return folder


def metrics(capsys, *arguments) -> tuple[int, str]:
    code = cli.main(["metrics", *map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_a_runs_own_mesh_stands_where_its_manifest_says(made, tmp_path, capsys):
    code, said = metrics(capsys, made / "refined" / "mesh.glb", "--scene", made, "--out", tmp_path / "new")
    assert code == 0 and "It is a" not in said and "checks are normal." in said, said
    written = json.loads((tmp_path / "new" / "verdict.json").read_text())
    jsonschema.validate(written, verdicts.SCHEMA)
    assert written["mesh"] == "mesh.glb" and (tmp_path / "new" / "observed.png").exists()


def test_a_copy_elsewhere_needs_to_be_told_that_it_stands_y_up(made, tmp_path, capsys):
    """In a world whose up is z, while the file stands y up, as every GLB does."""
    photos, up = scene.load(made / "scene"), np.array([0.0, 0, 1])
    T_new_world = torch.from_numpy(np.linalg.inv(frames.up_to_y(up))).float()
    scene.save(replace(photos, cameras=camera.moved(photos.cameras, T_new_world), up=up), tmp_path / "run" / "scene")
    copy = tmp_path / "peer.glb"
    copy.write_bytes((made / "refined" / "mesh.glb").read_bytes())
    asked = "--scene", tmp_path / "run", "--json"
    found = [json.loads(metrics(capsys, copy, *asked, *more)[1])["psnr_db"] for more in ((), ("--y-up",))]
    assert found[0] < 15 and found[1] > 25


def test_a_mesh_with_colours_at_its_vertices_is_measured_as_far_as_it_goes(made, tmp_path, capsys):
    body = trimesh.load_mesh(made / "refined" / "mesh.ply", process=False)
    body.export(tmp_path / "vertex.ply")
    found = json.loads(metrics(capsys, tmp_path / "vertex.ply", "--scene", made, "--json")[1])
    assert found["psnr_db"] > 18 and "no texture is measured" in found["notes"][0]
    assert not any(check["name"].startswith("texture") for check in found["checks"])
    assert "open edges" in {check["name"] for check in found["checks"]}


def test_with_a_reference_the_distance_is_told(made, tmp_path, capsys):
    truth = made / "refined" / "mesh.ply"
    found = json.loads(metrics(capsys, truth, "--scene", made, "--json", "--reference", truth)[1])["reference"]
    assert found["chamfer_percent"] == pytest.approx(0, abs=1e-4) and found["volume_iou"] == 1.0


def test_what_cannot_be_measured_is_refused_in_one_line(made, tmp_path, capsys):
    (tmp_path / "empty.obj").write_text("")
    for arguments, says in (
        ((tmp_path / "empty.obj", "--scene", made), "empty.obj: "),
        ((made / "refined" / "mesh.glb", "--scene", tmp_path / "none"), "no such folder"),
        ((made / "refined" / "mesh.glb", "--scene", made, "--out", made), "is not empty, needed a new folder"),
        ((made / "refined" / "mesh.glb", "--scene", made, "--reference", "none.ply"), "none.ply: no such file"),
    ):
        code, said = metrics(capsys, *arguments)
        assert code == 2 and says in said and said.count("\n") == 1, said
