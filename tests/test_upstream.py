"""The adapter against the real ReconViaGen code with a checkpoint of a toy's size: on the CPU, and the same on a GPU."""

import dataclasses
import importlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_reconviagen as tiny
import torch

from recon_lib import camera, render
from recon_lib import mesh as meshes
from recon_lib.chain import params
from recon_lib.coarse import reconstruct
from recon_lib.coarse.config import AlignConfig, BackendConfig, CameraFitConfig, GeneratedConfig, HullConfig
from recon_lib.coarse.reconviagen import sample, upstream
from recon_lib.coarse.reconviagen.outcomes import Outcome
from recon_lib.photos import ingest, scene
from recon_lib.progress import silent
from recon_lib.raster import cpu
from recon_lib.stages import MODES
from recon_lib.surface import checks, meshio
from recon_lib.weights import store

ROOT = os.environ.get("RECONVIAGEN_ROOT", "")
pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(not ROOT, reason="RECONVIAGEN_ROOT is not set: no ReconViaGen checkout to test against"),
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HOME = Path(__file__).parents[1]
QUICK = sample.SampleConfig(ss_steps=2, slat_steps=2, seed=1)
SHAPE = HullConfig(resolution=64, faces=3000)
# A block has so many symmetries that most rotations are near one that fits, so few starts are enough.
FEW_STARTS = AlignConfig(starts=100, kept=4, finalists=2, search_steps=30, final_steps=30)
FEW_ROUNDS = CameraFitConfig(mask_steps=60, rounds=1, size=96, texture_size=256)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[Path, Path]:
    """A checkout and weights."""
    folder = tmp_path_factory.mktemp("tiny")
    root = tiny.checkout(Path(ROOT).resolve(), folder / "checkout")
    return root, tiny.weights(root, folder / "weights", DEVICE)


@pytest.fixture(scope="module")
def loaded(places) -> upstream.Loaded:
    return upstream.load(*places, DEVICE)


@pytest.fixture
def ready(places, monkeypatch):
    """As a stage finds it."""
    monkeypatch.setenv("RECONVIAGEN_ROOT", str(places[0]))
    monkeypatch.setenv("RECON_WEIGHTS", str(places[1]))
    return places


def photos(count: int, size: int = 96) -> tuple[np.ndarray, ...]:
    """Discs of noise on transparency."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - size / 2
    images = generator.integers(0, 255, (count, size, size, 4), np.uint8)
    images[..., 3] = 255 * (x**2 + y**2 < (size / 3) ** 2)
    return tuple(images)


def sampled(loaded, count: int = 2, config: sample.SampleConfig = QUICK, said: list | None = None) -> sample.Sampled:
    names = tuple(f"p{i}" for i in range(count))
    progress = (silent) if said is None else (lambda share, what: said.append((share, what)))
    return sample.sample(loaded, photos(count), names, config, progress)


def generated(photographed: scene.Scene, **checked) -> reconstruct.Coarse:
    """The coarse mesh by ReconViaGen; `checked` sets fields of GeneratedConfig."""
    return reconstruct.reconstruct(
        photographed, BackendConfig(backend="reconviagen", device=DEVICE), SHAPE, QUICK, GeneratedConfig(**checked),
        alignment=FEW_STARTS, camera_fitting=FEW_ROUNDS,
    )  # fmt: skip


def looks(mesh, eyes: torch.Tensor, T_world_mesh: torch.Tensor, width: int = 160) -> scene.Scene:
    """Posed photos of a mesh brought into some world."""
    target, up = torch.zeros_like(eyes), torch.tensor([[0.0, 0, 1]]).expand_as(eyes)
    f = 1.6 * width
    cameras = camera.Cameras(
        camera.look_at(eyes, target, up), torch.tensor([[f, f, width / 2, width / 2]]).repeat(len(eyes), 1),
        torch.tensor([[width, width]]).repeat(len(eyes), 1),
    )  # fmt: skip
    cameras = camera.moved(cameras, T_world_mesh)
    world = dataclasses.replace(mesh, verts=mesh.verts @ T_world_mesh[:3, :3].T + T_world_mesh[:3, 3])
    uvs = torch.zeros(3, 2)
    painted = dataclasses.replace(
        world,
        uvs=uvs,
        uv_faces=torch.tensor([[0, 1, 2]]).int().expand_as(mesh.faces),
        texture=torch.full((2, 2, 3), 0.5),
    )
    alpha = render.render(painted, cameras, cpu)[..., 3:].numpy()
    images = np.concatenate([np.full((*alpha.shape[:3], 3), 128), alpha * 255 + 0.5], -1).astype(np.uint8)
    names = tuple(f"v{i}" for i in range(len(eyes)))
    return scene.Scene(names, tuple(images), cameras, np.zeros(len(eyes), bool), np.array([0.0, 0, 1]))


def test_the_checkout_is_the_pinned_commit(loaded):
    assert loaded.provenance["commit"] == upstream.COMMIT
    assert loaded.has_guidance_rescale and loaded.provenance["attention"]


def test_nothing_is_loaded_that_the_way_to_a_mesh_does_not_need(loaded):
    assert "slat_decoder_gs" not in loaded.pipeline.models and not hasattr(loaded.pipeline, "birefnet_model")
    assert not hasattr(loaded.pipeline.VGGT_model, "depth_head")


@pytest.mark.parametrize("count", [1, 2, 8])
def test_photos_become_a_closed_mesh_in_the_canonical_frame(loaded, count):
    said = []
    found = sampled(loaded, count, said=said)
    assert found.voxels == 6**3 and found.vggt[0].shape == (count, 3, 4)
    assert checks.check_mesh(*meshes.weld(found.mesh.verts, found.mesh.faces))._replace(bodies=0) == (0,) * 7
    # A block of 6 of 8 voxels around the origin, and its surface close to theirs.
    torch.testing.assert_close(found.mesh.verts.abs().max(0).values, torch.full((3,), 0.375), rtol=0, atol=0.02)
    assert meshes.volume(found.mesh.verts, found.mesh.faces) == pytest.approx(0.75**3, rel=0.05)
    assert {what for _, what in said} >= {"sparse structure, step 2", "slat, step 2"} and said[-1][0] == 1.0


def test_the_same_seed_gives_the_same_mesh(loaded):
    first, second, other = (sampled(loaded, 2, dataclasses.replace(QUICK, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first.mesh.verts, second.mesh.verts) and torch.equal(first.mesh.faces, second.mesh.faces)
    assert torch.equal(first.vggt[0], second.vggt[0]) and not torch.equal(first.mesh.verts, other.mesh.verts)


@pytest.mark.parametrize(("name", "bias"), [("empty structure", -2.0), ("full structure", 1.0)])
def test_a_structure_that_is_no_object_is_named(loaded, name, bias):
    decoder = loaded.pipeline.models["sparse_structure_decoder"]
    before = decoder.out_layer[2].bias[0].item()
    try:
        tiny.set_structure(decoder, bias)
        with pytest.raises(Outcome) as caught:
            sampled(loaded)
    finally:
        tiny.set_structure(decoder, before)
    assert caught.value.name == name


def test_too_many_voxels_stop_before_the_expensive_half(loaded, monkeypatch):
    monkeypatch.setattr(sample, "MOST_VOXELS", 215)
    said = []
    with pytest.raises(Outcome, match="too many voxels: got 216, need at most 215"):
        sampled(loaded, said=said)
    assert not any("slat" in what for _, what in said)


def test_no_photo_and_a_photo_without_a_mask_are_named(loaded):
    with pytest.raises(Outcome, match="too few photos"):
        sample.sample(loaded, (), (), QUICK)
    with pytest.raises(Outcome, match="photo without a mask: p1"):
        sample.sample(loaded, (*photos(1), np.full((9, 9, 4), 255, np.uint8)), ("p0", "p1"), QUICK)


@pytest.fixture
def copied(places, tmp_path) -> Path:
    return Path(shutil.copytree(places[1], tmp_path / "weights"))


DECODER = Path(upstream.TRELLIS) / "ckpts" / "sparse_structure_decoder.safetensors"


def test_missing_truncated_and_changed_weights_name_the_file_and_both_hashes(ready, copied, monkeypatch):
    monkeypatch.setenv("RECON_WEIGHTS", str(copied))
    if DEVICE == "cpu":
        assert upstream.require(DEVICE) == ready[0]
    content = (copied / DECODER).read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    for damaged, words in ((content[:-1], "truncated"), (changed, "sha256 [0-9a-f]{64}, needed [0-9a-f]{64}")):
        (copied / DECODER).write_bytes(damaged)
        with pytest.raises(store.WeightsError, match=f"{DECODER.name}.*{words}"):
            store.check(copied)
    (copied / DECODER).unlink()
    with pytest.raises(store.WeightsError, match=f"{DECODER.name}: missing"):
        store.check(copied)


def test_weights_of_another_network_are_refused_which_upstream_would_load_in_silence(places, copied):
    from safetensors.torch import load_file, save_file

    state = load_file(copied / DECODER)
    renamed = {(f"other.{key}" if "out_layer" in key else key): value for key, value in state.items()}
    save_file(renamed, copied / DECODER)
    with pytest.raises(Outcome, match=r"weights: .*another revision: 4 keys missing \(out_layer.*4 unknown"):
        upstream.load(places[0], copied, DEVICE)


def test_posed_photos_get_a_mesh_in_their_world(ready, loaded):
    """The toy's mesh is known, so photos of it can be made; its symmetries leave the overlap as the measure."""
    known = sampled(loaded).mesh
    generator = torch.Generator().manual_seed(0)
    eyes = 3 * torch.nn.functional.normalize(torch.randn(6, 3, generator=generator), dim=-1)
    T_world_mesh = torch.eye(4)
    T_world_mesh[:3, :3] = 1.7 * torch.linalg.matrix_exp(torch.tensor([[0, -0.4, 0.2], [0.4, 0, 0.1], [-0.2, -0.1, 0]]))
    T_world_mesh[:3, 3] = torch.tensor([4.0, -2, 1])
    posed = looks(known, eyes, T_world_mesh)
    made = generated(posed)
    assert made.backend == "reconviagen" and made.bodies == (1, 1.0, 0) and made.cameras is None
    assert np.mean(list(made.iou.values())) >= 0.95
    centre = (made.mesh.verts.max(0).values + made.mesh.verts.min(0).values) / 2
    torch.testing.assert_close(centre, T_world_mesh[:3, 3], rtol=0, atol=0.05)
    scale = np.linalg.det(np.array(made.provenance["T_world_mesh"])[:3, :3]) ** (1 / 3)
    assert scale == pytest.approx(1.7, rel=0.03)  # 3000 faces cut the block's edges, which a larger one makes up for
    assert made.provenance["weights"] == {need.id: "tiny" for need in store.NEEDED}


def test_a_mesh_that_does_not_fit_the_photos_is_refused(ready, loaded):
    known = sampled(loaded).mesh
    long = dataclasses.replace(known, verts=known.verts * torch.tensor([0.2, 0.2, 1.0]))
    posed = looks(long, torch.tensor([[3.0, 0, 0.5], [0, 3.0, 0.5], [-2, 2, 0.5]]), torch.eye(4))
    with pytest.raises(Outcome, match=r"misaligned: its silhouettes overlap the masks by 0\.\d+ on average, need 0.9"):
        generated(posed, least_iou=0.9)


def test_photos_without_cameras_get_them_in_the_mesh_s_frame(ready, loaded, monkeypatch):
    """VGGT's answer is set to the truth but for a few degrees, a focal length and a world of its own."""
    known = sampled(loaded).mesh
    generator = torch.Generator().manual_seed(2)
    eyes = torch.tensor(
        [[3.0, 0, 1], [2, 2, -1], [0, 3, 1], [-2, 2, 0], [-3, 0, -1], [-2, -2, 1], [0, -3, 0], [2, -2, 1]]
    )
    posed = looks(known, eyes, torch.eye(4))
    wrong = 0.04 * torch.randn(len(eyes), 3, generator=generator)
    turn = torch.linalg.matrix_exp(torch.stack([torch.linalg.cross(w.expand(3, 3), torch.eye(3)).T for w in wrong]))
    in_vggt = camera.moved(posed.cameras, 0.4 * torch.eye(4) + torch.diag(torch.tensor([0, 0, 0, 0.6])))
    T_cv_world = camera.invert_rigid(camera.from_opencv(in_vggt.T_world_cam))
    T_cv_world[:, :3, :3] = turn @ T_cv_world[:, :3, :3]
    crop_fov = 2 * np.arctan(0.5 * 96 / (1.6 * 160))  # close to what a crop sees
    quaternion = importlib.import_module("vggt.utils.rotation").mat_to_quat(T_cv_world[:, :3, :3])
    known_cameras = torch.cat([T_cv_world[:, :3, 3], quaternion, torch.full((len(eyes), 2), crop_fov)], -1)
    head = upstream.load(*ready, DEVICE)
    head.pipeline.VGGT_model.camera_head.known[: len(eyes)] = known_cameras.to(head.pipeline.device)
    monkeypatch.setattr(upstream, "load", lambda *asked: head)
    unposed = dataclasses.replace(posed, cameras=None)
    made = generated(unposed)
    assert made.cameras is not None and np.mean(list(made.iou.values())) >= 0.95
    assert np.mean(made.provenance["vggt"]["iou"]) < np.mean(list(made.iou.values()))


@pytest.fixture
def few(tmp_path) -> Path:
    """Each fourth photo of the sample, one of ten held out."""
    whole = ingest.read(HOME / "samples" / "jug", ingest.IngestConfig()).scene
    some = whole.subset(np.arange(len(whole.names)) % 4 == 0)
    held_out = np.arange(len(some.names)) == 5
    scene.save(dataclasses.replace(some, held_out=held_out), tmp_path / "few")
    return tmp_path / "few"


def test_the_whole_chain_runs_on_reconviagen_and_then_on_its_mesh_alone(ready, few, tmp_path, monkeypatch):
    """Mode `both`, then `reconviagen` over the same run folder."""
    pytest.importorskip("papermill", reason="the chain needs Jupyter's packages")
    from recon_lib.chain import pipeline

    backend, stages = MODES["both"]
    asked = params.read(HOME / "params" / "ci.yaml") | {"1_ingest": {"photos": str(few)}}
    asked["2_reconviagen"] |= {
        "backend": backend, "device": DEVICE, "ss_steps": 2, "slat_steps": 2, "least_iou": 0.3
    }  # fmt: skip
    monkeypatch.chdir(HOME)
    content = pipeline.run(asked, tmp_path / "run", stages, bar=False)
    assert (
        content["final_mesh"] == "refined/mesh.glb" and content["stages"]["2_reconviagen"]["backend"] == "reconviagen"
    )
    record = json.loads((tmp_path / "run" / "coarse" / "coarse.json").read_text())
    assert record["provenance"]["commit"] == upstream.commit(ready[0]) and len(record["iou"]) == 9
    first = meshio.load_from(tmp_path / "run", "coarse/mesh.glb")
    assert checks.check_mesh(first.verts, first.faces).bodies == 1
    if DEVICE == "cuda":
        memory = content["stages"]["2_reconviagen"]["gpu_memory_mb"]
        assert memory["after"] <= memory["before"] + 1
    backend, stages = MODES["reconviagen"]
    alone = pipeline.run(asked, tmp_path / "run", stages[:-1], bar=False)  # no preview
    assert alone["final_mesh"] == "coarse/mesh.glb" and alone["stages"]["2_reconviagen"]["state"] == "reused"
    assert alone["stages"]["3_nvdiffrec"]["state"] == "pending" and not (tmp_path / "run" / "refined").exists()
    verdict = json.loads((tmp_path / "run" / "metrics" / "verdict.json").read_text())
    assert verdict["mesh"] == "coarse/mesh.glb" and verdict["views"] == "held-out views"
