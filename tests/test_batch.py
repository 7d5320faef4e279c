"""Many runs on real worker processes: each ends once, whatever happens to workers and to other runs."""

import os
import time

import psutil
import pytest
import yaml
from distributed import Client, LocalCluster
from test_jobs import STEPS, home, long_only, ours, recon, runs, state, wait  # noqa: F401  home is a fixture
from toys import toy

from recon_lib import cli
from recon_lib.chain import batch, comparing, dispatch, job, lock, run, tickets
from recon_lib.stages import STAGES

BY_NAME = f"""
name = stage.run_dir.name
if name == "unlucky":
    files.write_text(stage.folder(f"try-{{len(list(stage.run_dir.glob('try-*')))}}"), "")
    raise ValueError("no luck")
if name == "cancelled" or (name == "killed" and not stage.folder("here").exists()):
{"".join(f"    {line}" for line in STEPS.splitlines(keepends=True))}
"""
TWO = str(max(1, (os.cpu_count() or 1) // 2))  # cores per run, so that two run at once


@long_only
def test_a_batch_survives_a_killed_worker_a_cancelled_run_and_one_that_always_fails(home, capsys):  # noqa: F811
    toy(home, "3_nvdiffrec", BY_NAME)
    names = ["killed", "cancelled", "unlucky", "plain"]
    (home / "b.yaml").write_text(yaml.safe_dump({name: {"params": "params/quick.yaml"} for name in names}))
    outputs = home / "outputs"
    wanted = batch.read(home / "b.yaml", home)
    batch.submit(wanted, outputs, home / "notebooks")
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    with cluster:
        dispatch.start(outputs, scheduler=cluster.scheduler_address)
        wait(lambda: runs(outputs / "killed") and runs(outputs / "cancelled"))
        psutil.Process(lock.holder(outputs / "killed")["pid"]).parent().kill()
        recon(home, "cancel", "cancelled", "--yes")
        assert wait(lambda: state(outputs / "cancelled") == "cancelled") <= 2
        *_, rows = batch.watch(outputs, names)
    assert [row.state for row in rows] == ["done", "cancelled", "failed", "done"]
    assert rows[2].error == "3_nvdiffrec: ValueError: no luck"
    assert len(list((outputs / "unlucky").glob("try-*"))) == batch.TRIES
    first = [entry["state"] for entry in run.load(outputs / "killed")["stages"].values()][:2]
    assert first == ["reused", "reused"]
    assert tickets.numbers(outputs) == []
    wait(lambda: not ours(home))


def gpu_of_worker() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@long_only
def test_each_worker_sees_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    with dispatch.local_cluster(1) as cluster, Client(cluster, set_as_default=False) as client:
        assert sorted(client.run(gpu_of_worker).values()) == ["1", "3"]
        both = [client.submit(time.sleep, 1, resources={"GPU": 1}, pure=False) for _ in range(2)]
        began = time.monotonic()
        client.gather(both)
        assert time.monotonic() - began < 2  # beside each other


@long_only
def test_a_sweep_runs_every_combination_prints_a_table_and_compares_them(home, capsys, monkeypatch):  # noqa: F811
    compared = []
    monkeypatch.setattr(comparing, "execute", lambda folders, out, notebooks: (compared.extend(folders), out)[1])
    arguments = ["sweep", str(home / "params" / "quick.yaml"), "--grid", "3_nvdiffrec.steps=2,3"]
    assert cli.main([*arguments, "--cores", TWO, "--notebooks", str(home / "notebooks")]) == 0
    table = capsys.readouterr().out
    for steps in (2, 3):
        entry = run.load(home / "outputs" / f"quick-steps-{steps}")["stages"]["3_nvdiffrec"]
        assert entry["doubled"] == 2 * steps
        assert f"quick-steps-{steps}" in table
    assert [folder.name for folder in compared] == ["quick-steps-2", "quick-steps-3"]
    assert f"comparison: {home / 'outputs' / '6_compare-quick.ipynb'}" in table
    assert "24.5 dB" in table


def test_a_grid_is_the_product_of_its_values(home):  # noqa: F811
    grid = ["3_nvdiffrec.steps=1,2", "3_nvdiffrec.lr_vertex=0.01,0.02,0.03"]
    found = batch.sweep(home / "params" / "quick.yaml", "s", grid)
    assert len(found) == 6
    assert found["s-steps-2-lr_vertex-0.03"]["3_nvdiffrec"] == {"steps": 2, "lr_vertex": 0.03}
    for bad, why in (
        ("steps=1", "needed STAGE.NAME"),
        ("3_nvdiffrec.steps=0", "needed 1 to"),
        ("3_nvdiffrec.steps=1,1", "two"),
    ):
        with pytest.raises(ValueError, match=why):
            batch.sweep(home / "params" / "quick.yaml", "s", [bad])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "needed `name:"), ("- a", "needed `name:"), ("a: 3", "needed `name:"), ("a: {", "not YAML"),
        ("../a: {}", "got '../a'"), ("a: {3_nvdifrec: {}}", "did you mean 3_nvdiffrec"),
        ("a: {3_nvdiffrec: {steps: 0}}", "needed 1 to"), ("a: {params: absent.yaml}", "no such parameter file"),
        ("a: {3_nvdiffrec: 5}", "needed `name: value`"), ("a: !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)  # fmt: skip
def test_a_bad_batch_file_is_refused_before_anything_is_queued(home, content, why):  # noqa: F811
    (home / "b.yaml").write_text(content)
    with pytest.raises(ValueError, match=why):
        batch.read(home / "b.yaml", home)
    assert not (home / "outputs").exists()


def test_the_batch_of_the_sample_is_one(home):  # noqa: F811
    root = job.pipeline.NOTEBOOKS.parent
    assert set(batch.read(root / "params" / "batches" / "sample.yaml", root)) == {"jug-quick", "jug-more-steps"}


@long_only
def test_two_runs_at_once_are_faster_than_one_after_the_other(home):  # noqa: F811
    toy(home, STAGES[0], "import time; time.sleep(3); files.write_text(stage.folder('ended'), str(time.time()))")
    for name in ("a", "b"):
        job.submit({}, home / "outputs" / name, [STAGES[0]], home / "notebooks")
    dispatch.start(home / "outputs", int(TWO))
    folders = [home / "outputs" / name for name in ("a", "b")]
    wait(lambda: all(state(folder) not in ("queued", "running") for folder in folders))
    times = [float((folder / "ended").read_text()) for folder in folders]
    assert abs(times[0] - times[1]) < 2.5
    assert time.time() > max(times)
