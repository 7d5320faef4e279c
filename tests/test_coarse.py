"""Which backend makes the coarse mesh, why it was chosen, and what is reported about the mesh."""

import re

import numpy as np
import pytest
import torch

from recon_lib.coarse import config, hull, reconstruct
from recon_lib.coarse.bodies import Bodies
from recon_lib.coarse.hull import HullConfig
from recon_lib.coarse.reconviagen import upstream
from recon_lib.coarse.reconviagen.outcomes import Outcome
from recon_lib.mesh import Mesh, icosphere
from recon_lib.photos.scene import Scene
from recon_lib.progress import silent

PINNED = {"commit": upstream.COMMIT, "commit_is_the_pinned_one": True, "runner_up": None}


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def able(monkeypatch, tmp_path):
    monkeypatch.setattr(upstream, "require", lambda device: tmp_path)


def of(count: int) -> Scene:
    names = tuple(f"p{i}" for i in range(count))
    return Scene(names, (np.zeros((4, 4, 4), np.uint8),) * count, None, np.zeros(count, bool), np.array([0.0, 0, 1]))


def test_auto_takes_stereo_where_reconviagen_cannot_run_and_says_what_it_lacks(no_gpu):
    assert reconstruct.choose("auto", "auto", True, 12) == (
        "stereo",
        "`auto` chose stereo, as ReconViaGen cannot run here: "
        "no GPU: torch sees none; run on a machine with an NVIDIA GPU of 16 GB or more, or choose backend hull",
    )
    assert reconstruct.choose("auto", "auto", True, 9)[0] == "hull"


def test_auto_takes_reconviagen_where_it_can_run_and_photos_are_few(able):
    assert (
        reconstruct.choose("auto", "auto", True, 15)[0]
        == reconstruct.choose("auto", "auto", False, 40)[0]
        == "reconviagen"
    )
    assert reconstruct.choose("auto", "auto", True, 16)[0] == "stereo"


def test_a_named_backend_never_becomes_another(no_gpu):
    with pytest.raises(Outcome, match="no GPU"):
        reconstruct.choose("reconviagen", "auto", True, 40)
    assert reconstruct.choose("hull", "auto", True, 40)[0] == "hull"
    assert reconstruct.choose("stereo", "auto", True, 2)[0] == "stereo"


@pytest.mark.parametrize("backend", ["hull", "stereo", "auto"])
def test_photos_without_cameras_are_refused_where_nothing_finds_them(no_gpu, backend):
    with pytest.raises(ValueError, match=rf"backend {backend}: got photos without cameras.*transforms.json"):
        reconstruct.choose(backend, "auto", False, 40)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="got 'magic', need auto or one of"):
        reconstruct.choose("magic", "auto", True, 40)


def test_a_hull_is_one_body_and_has_nothing_to_remark(jug, no_gpu):
    used = jug.subset(~jug.held_out)
    made = reconstruct.reconstruct(
        used,
        config.BackendConfig(backend="hull"),
        HullConfig(32, 1000),
        config.SampleConfig(),
        config.GeneratedConfig(),
    )
    assert made.backend == "hull" and made.bodies == (1, 1.0, 0) and made.remarks == () and made.iou == {}
    carved = hull.visual_hull([i[..., 3] / np.float32(255) for i in used.images], used.cameras, HullConfig(32, 1000))
    assert torch.equal(made.mesh.verts, carved.verts)


@pytest.mark.parametrize(
    ("photos", "found", "changed", "said"),
    [
        (1, Bodies(1, 1.0, 0), {}, "One photo"),
        (4, Bodies(900, 0.31, 0), {}, "only 31% of the surface"),
        (4, Bodies(1, 1.0, 0), {"commit": "abc", "commit_is_the_pinned_one": False}, "is at abc, not at"),
        (
            4,
            Bodies(1, 1.0, 0),
            {"runner_up": {"iou": 0.895, "radians": np.pi}},
            r"Turned by 180 degrees .*0.895 beside 0.900",
        ),
    ],
)
def test_what_a_reader_should_know_is_said(photos, found, changed, said):
    remarks = reconstruct._remarks(of(photos), found, np.full(photos, 0.9), PINNED | changed)
    assert len(remarks) == 1 and re.search(said, remarks[0])


def test_nothing_is_said_where_nothing_is_to_be_said():
    second = {"runner_up": {"iou": 0.6, "radians": 1.0}}
    assert reconstruct._remarks(of(2), Bodies(3, 0.9, 1), np.full(2, 0.9), PINNED | second) == ()


def test_an_open_mesh_is_refused_as_it_is_and_closed_when_cleaned():
    ball = icosphere(3)
    opened = Mesh(0.4 * ball.verts, ball.faces[8:])
    with pytest.raises(Outcome, match=r"invalid mesh: .*open_edges=\d.*clean to true"):
        reconstruct._close(opened, HullConfig(32, 2000), False, silent)
    closed = reconstruct._close(opened, HullConfig(32, 2000), True, silent)
    assert 0 < len(closed.faces) <= 2000


def test_the_overlap_names_the_worst_view_and_breaks_no_pair_of_name_and_number():
    iou = {f"photo_{i:02}": 0.9 + i / 500 for i in range(30)}
    made = reconstruct.Coarse(icosphere(0), None, Bodies(1, 1.0, 0), iou, "reconviagen", "cuda", "", (), {})
    first, *rest = made.overlap().splitlines()
    assert first == "mean 0.929, worst 0.900 (photo_00)" and len(rest) > 2
    pairs = [pair for line in rest for pair in line.split("   ")]
    assert pairs == [f"{name}\N{NO-BREAK SPACE}{value:.3f}" for name, value in iou.items()]
