"""How scores and measures become a verdict, and what is written of it; which bad meshes are caught is in test_known_bad."""

import csv
import json
from dataclasses import replace

import captures
import jsonschema
import numpy as np
import pytest
import verdicts
from PIL import Image

from recon_lib.photos import scene
from recon_lib.raster import cpu
from recon_lib.surface import meshio
from recon_lib.verdict import examine, judge, record, results
from recon_lib.verdict.config import Limits, MetricsConfig
from recon_lib.verdict.diagnosis import Cause
from recon_lib.verdict.judge import Evidence


@pytest.fixture(scope="module")
def few(jug) -> scene.Scene:
    """Four of the held-out photos, and eight used ones."""
    chosen = np.zeros(len(jug.names), bool)
    chosen[np.flatnonzero(jug.held_out)[::2]] = True
    chosen[np.flatnonzero(~jug.held_out)[::4]] = True
    return jug.subset(chosen)


@pytest.fixture(scope="module")
def scored(painted_jug, few) -> judge.Scored:
    return judge.score(painted_jug, few, cpu, set())


def statuses(result: dict) -> dict:
    return {check["name"]: check["status"] for check in result["checks"]}


def with_scores(scored: judge.Scored, psnr: float, ssim: float) -> judge.Scored:
    views = {n: v._replace(score=v.score._replace(psnr_db=psnr, ssim=ssim)) for n, v in scored.views.items()}
    return replace(scored, views=views)


def test_a_good_mesh_is_normal(scored):
    result = judge.judge(scored, "m", Evidence())
    assert result["status"] == "normal", statuses(result)
    assert result["views"] == judge.HELD_OUT and result["view_count"] == 4 and result["decided_by"] == []


def test_scores_on_used_views_are_labelled_and_at_most_a_warning(painted_jug, few):
    none = replace(few.subset(few.held_out), held_out=np.zeros(4, bool))
    result = judge.judge(judge.score(painted_jug, none, cpu, set()), "m", Evidence())
    assert (result["status"], result["views"], result["decided_by"]) == ("warning", "used views", ["scored on"])
    assert judge.score_used(painted_jug, none, cpu, 8) == {}


@pytest.mark.parametrize(
    ("psnr", "ssim", "expected"),
    [
        (25.0, 0.85, "normal"),
        (24.9, 0.9, "warning"),
        (30.0, 0.84, "warning"),
        (19.9, 0.9, "failure"),
        (30.0, 0.7, "failure"),
    ],
)
def test_both_scores_must_pass_for_a_level(scored, psnr, ssim, expected):
    assert judge.judge(with_scores(scored, psnr, ssim), "m", Evidence())["status"] == expected


def test_the_limits_are_those_that_are_asked_for(scored):
    strict = Limits(psnr_normal_db=60.0, psnr_warning_db=59.0)
    found = judge.judge(scored, "m", Evidence(), strict)
    assert found["decided_by"] == ["PSNR in the mask"] and found["limits"]["psnr_normal_db"] == 60.0


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (record.at_least("a", 3.0, 3.0, 2.0), "normal"),
        (record.at_least("a", 1.9, 3.0, 2.0), "failure"),
        (record.at_most("a", 2.5, 2.0, 3.0), "warning"),
        (record.at_most("a", 3.5, 2.0, 3.0), "failure"),
        (record.at_most("a", None, 2.0), "warning"),
        (record.above("a", 0.0, 0.0), "failure"),
        (record.above("a", 0.1, 0.0), "normal"),
        (record.exactly("a", 2, 1), "warning"),
        (record.exactly("a", None, 0), "warning"),
        (record.within("a", 0.7, (0.8, 1.25), (0.5, 2.0)), "warning"),
        (record.within("a", 2.1, (0.8, 1.25), (0.5, 2.0)), "failure"),
        (record.told("a", 1e9), "normal"),
    ],
)
def test_a_check_has_the_status_of_its_value(check, expected):
    assert check.status == expected


def test_the_reason_names_the_worst_checks_and_decided_by_all_that_are_not_normal():
    checks = [
        record.at_least("PSNR in the mask", 19.0, 25.0, 20.0, "dB"),
        record.exactly("bodies", 2, 1),
        record.told("genus", 3),
    ]
    assert record.reason(checks) == "It is a failure, because PSNR in the mask is 19 dB, needs ≥ 25 (warning ≥ 20)."
    assert [check.name for check in record.deciding(checks[::-1])] == ["PSNR in the mask", "bodies"]
    assert record.reason(checks[2:]) == "All 0 checks are normal."


def test_a_held_out_photo_that_the_mesh_was_made_of_is_refused_by_name(painted_jug, few):
    held = few.subset(few.held_out)
    second = list(scene.digests(held).values())[1]
    with pytest.raises(ValueError, match=f"held out: got {held.names[1]}, which the mesh was made of"):
        judge.score(painted_jug, few, cpu, {second, "another"})


def test_a_cause_is_written_and_read_out_and_decides_nothing(scored):
    cause = Cause("light", "The light turned.", "Move the camera.", 0.5)
    plain, with_cause = (judge.judge(scored, "m", Evidence(causes=causes)) for causes in ((), (cause,)))
    assert with_cause["diagnosis"] == [
        {"kind": "light", "says": "The light turned.", "remedy": "Move the camera.", "strength": 0.5}
    ]
    assert with_cause | {"diagnosis": []} == plain
    assert judge.reading(with_cause) == f"{judge.reading(plain)} The light turned. Move the camera."


def test_what_is_written_is_what_was_judged_and_keeps_to_the_schema(painted_jug, few, tmp_path):
    meshio.save(painted_jug, tmp_path, few.up)
    mesh = meshio.load(tmp_path / "mesh.glb")
    truth = str(tmp_path / "mesh.ply")
    asked = MetricsConfig(used_views=2, reference=truth)
    photos = captures.shrunk(few, 128)
    judged, found, evidence = examine.examine(mesh, "mesh.glb", photos, cpu, set(), asked, Limits())
    results.save(tmp_path, judged, found)
    results.save_maps(tmp_path, mesh, evidence, cpu)
    written = json.loads((tmp_path / "verdict.json").read_text())
    jsonschema.validate(written, verdicts.SCHEMA)
    assert written["reference"]["chamfer_percent"] < 0.01 and written["used_count"] == 2
    rows = list(csv.DictReader((tmp_path / "views.csv").open()))
    assert sum(float(r["psnr_db"]) for r in rows) / len(rows) == pytest.approx(written["psnr_db"])
    sizes = [
        {path.name: Image.open(path).size for path in (tmp_path / folder).glob("*.png")}
        for folder in ("photos", "renders", "errors")
    ]
    assert len(sizes[0]) == 4 and sizes[0] == sizes[1] == sizes[2]
    for name in ("observed", "error", "deviation"):
        assert Image.open(tmp_path / f"{name}.png").size == mesh.texture.shape[1::-1]


@pytest.mark.parametrize(
    "change", [{"status": "fine"}, {"psnr_db": None}, {"checks": []}, {"more": 1}, {"diagnosis": [{}]}]
)
def test_the_schema_refuses_what_is_no_verdict(change):
    jsonschema.validate(verdicts.verdict(), verdicts.SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(verdicts.verdict(**change), verdicts.SCHEMA)


def test_a_share_is_read_in_percent_and_so_is_its_limit():
    unseen = record.at_most("unseen", 0.3812, 0.25, unit="of the area, 90% of it on the back")
    assert record.reason([unseen]) == (
        "It is a warning, because unseen is 38.1 % of the area, 90% of it on the back, needs ≤ 25 %."
    )
    assert (unseen.value, unseen.limit) == (0.3812, "<= 0.25")
    tone = record.within("tone", 0.7, (0.8, 1.25), (0.5, 2.0))
    assert (tone.describe(), tone.needs()) == ("0.7", "0.8 to 1.25 (warning 0.5 to 2)")
    assert record.at_most("offset", None, 1.0, 2.0, "pixels").describe() == "not measured"
