"""The start that refinement makes more of is the one that is kept, and a reader is told both scores."""

from dataclasses import replace

import numpy as np
import pytest

from recon_lib.coarse.bodies import Bodies
from recon_lib.coarse.config import BackendConfig, HullConfig
from recon_lib.coarse.reconstruct import Coarse
from recon_lib.mesh import Mesh, icosphere
from recon_lib.progress import silent
from recon_lib.raster import cpu
from recon_lib.verdict import starts


def made(backend: str) -> Coarse:
    return Coarse(icosphere(1), None, Bodies(1, 1.0, 0), {}, backend, "cpu", "why", (), {"method": backend})


@pytest.mark.parametrize(
    ("scores", "expected"),
    [({"stereo": 27.0, "hull": 25.0}, "stereo"), ({"stereo": 23.0, "hull": 25.0}, "hull")],
    ids=["stereo", "hull"],
)
def test_the_better_start_is_kept_and_both_scores_are_told(monkeypatch, jug, scores, expected):
    monkeypatch.setattr(starts, "score", lambda start, *rest: scores[start.backend])
    monkeypatch.setattr(starts.reconstruct, "make_hull", lambda *rest: made("hull"))
    kept = starts.keep_better(made("stereo"), jug, BackendConfig(), HullConfig(), cpu)
    assert kept.backend == expected and kept.provenance["short_fits_quality_db"] == scores
    assert (
        f"stereo explains the photos kept from it with {scores['stereo']:.2f} dB, the hull with 25.00"
        in kept.remarks[-1]
    )


@pytest.mark.parametrize("best", ["stereo", "hull"])
def test_a_finer_hull_is_made_only_where_it_is_kept(monkeypatch, jug, best):
    asked = []
    monkeypatch.setattr(starts, "score", lambda start, *rest: float(start.backend == best))
    monkeypatch.setattr(
        starts.reconstruct, "make_hull", lambda scene, shape, *rest: (asked.append(shape), made("hull"))[1]
    )
    fine, usual = HullConfig(resolution=208, faces=40000), HullConfig()
    assert starts.keep_better(made("stereo"), jug, BackendConfig(), fine, cpu).backend == best
    assert asked == [usual, fine][: 1 + (best == "hull")]


def test_a_named_backend_and_other_meshes_are_kept_without_a_fit(jug):
    named = made("stereo")
    assert starts.keep_better(named, jug, BackendConfig(backend="stereo"), HullConfig(), cpu) is named
    carved = made("hull")
    assert starts.keep_better(carved, jug, BackendConfig(), HullConfig(), cpu) is carved


def test_a_short_fit_scores_the_true_shape_above_a_ball(monkeypatch, jug, jug_hull):
    monkeypatch.setattr(starts, "STEPS", 20)
    used = jug.subset(~jug.held_out)
    used = used.subset(np.arange(len(used.names)) % 2 == 0)
    middle = (jug_hull.verts.max(0).values + jug_hull.verts.min(0).values) / 2
    sphere = icosphere(4)
    ball = Mesh(middle + 0.5 * (jug_hull.verts - middle).norm(dim=-1).max() * sphere.verts, sphere.faces)
    right, wrong = (starts.score(replace(made("stereo"), mesh=mesh), used, cpu, silent) for mesh in (jug_hull, ball))
    assert right > wrong + 2
