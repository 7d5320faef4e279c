"""A fit that was interrupted ends with the same bits as one that was not, and no other fit takes its checkpoint."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from recon_lib import camera, render
from recon_lib import mesh as meshes
from recon_lib.photos import crops
from recon_lib.progress import silent
from recon_lib.raster import cpu
from recon_lib.refine import checkpoint, headless, refine
from recon_lib.refine.config import FitConfig

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def setup(ball):
    views = camera.orbit(9, 0.3, 5.0, 0.5, 48)
    shown, kept = refine.split_for_validation(crops.Photos(render.photographed(ball, views, cpu), views))
    grey = replace(ball, verts=0.95 * ball.verts, texture=torch.full_like(ball.texture, 0.5))
    return refine.Setup(torch.eye(4), shown, kept, grey, refine.make_lit(grey, 16, cpu))


def parts(body):
    return checkpoint._parts(body, meshes.PARTS, "")


def equal(a, b):
    return parts(a).keys() == parts(b).keys() and all(torch.equal(parts(a)[name], parts(b)[name]) for name in parts(a))


def to_end(setup, config, found=None, keep=lambda state, result: None):
    """The last state, and the result, of a fit that begins at what was found, if anything was."""
    states = []
    steps = refine.run(setup, config, cpu, saved=found.saved if found else None)
    result = headless.run_to_end(
        (states.append(state) or state for state in steps),
        config.steps,
        silent,
        result=found and found.result,
        keep=keep,
    )
    return states, result


def interrupted(setup, config, at, path):
    """What a fit finds that was interrupted after step `at` and looks for its checkpoint."""
    name = checkpoint.identity(setup, config)

    def keep(state, result):
        if state.fit.step == at:
            checkpoint.write(path, name, config.steps, state, result)

    to_end(setup, config, keep=keep)
    return checkpoint.find(path, name, config, DEVICE)


SCHEDULES = {
    "two scales and corrected photos": {"scales": 2, "correct": "both"},
    "one scale": {"scales": 1, "correct": "none"},
    "a shape that stays": {"scales": 1, "lr_vertex": 0.0},
    "a fading energy": {"scales": 2, "w_laplacian": 10.0},
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("at", [6, 9])
def test_a_fit_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(setup, tmp_path, schedule, at, monkeypatch):
    monkeypatch.setattr(refine, "VALIDATE_EVERY", 4)
    config = FitConfig(steps=12, batch=2, **schedule)
    through, whole = to_end(setup, config)
    found = interrupted(setup, config, at, tmp_path / "c")
    assert found.sentence == f"Goes on from the checkpoint of step {at}."
    states, rest = to_end(setup, config, found)
    assert [state.fit.step for state in states] == list(range(at + 1, 13))
    if states:
        assert equal(states[-1].fit.mesh, through[-1].fit.mesh)
        ends = [state.fit.inside() for state in (states[-1], through[-1])]
        assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert equal(rest.mesh, whole.mesh) and rest.kept[2:5] == whole.kept[2:5] and rest.validation == whole.validation
    assert [step for step, _ in rest.history] == list(range(1, 13))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rest.history, whole.history, strict=True))


def test_a_fit_without_photos_for_validation_goes_on_too(setup, tmp_path):
    alone = replace(setup, validation=None)
    config = FitConfig(steps=6, scales=1)
    found = interrupted(alone, config, 4, tmp_path / "c")
    assert equal(to_end(alone, config, found)[1].mesh, to_end(alone, config)[1].mesh)


def test_a_checkpoint_is_written_every_hundred_steps_and_at_the_end(setup, tmp_path, monkeypatch):
    assert checkpoint.EVERY == 100
    monkeypatch.setattr(checkpoint, "EVERY", 4)
    written = []
    monkeypatch.setattr(checkpoint, "write", lambda *rest: written.append(rest[3].fit.step))
    config = FitConfig(steps=10)
    to_end(setup, config, keep=checkpoint.Keeper(tmp_path / "c", setup, config).keep)
    assert written == [4, 8, 10]


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ({"scales": 1, "decay": 1.0}, ""),
        ({"scales": 1, "decay": 0.1}, "its rates fall to 0.1 by the last step"),
        ({"scales": 2, "decay": 1.0}, "its 2 scales share out all steps"),
        ({"scales": 1, "decay": 1.0, "w_laplacian": 1.0}, "Laplacian"),
    ],
)
def test_more_steps_go_on_from_the_end_where_the_schedule_allows_and_else_it_is_said_why(
    setup, tmp_path, schedule, why
):
    short, long = (FitConfig(steps=steps, **schedule) for steps in (5, 9))
    path = tmp_path / checkpoint.NAME
    interrupted(setup, short, 5, path)
    checkpoint.close(tmp_path, short)
    found = checkpoint.find(path, checkpoint.identity(setup, long), long, DEVICE)
    if why:
        assert why in found.sentence and found.saved is None and path.stat().st_size < 2000
    else:
        assert equal(to_end(setup, long, found)[1].mesh, to_end(setup, long)[1].mesh)
        fewer = checkpoint.find(path, checkpoint.identity(setup, short), replace(short, steps=4), DEVICE)
        assert fewer.saved is None and "gone to step 5 already" in fewer.sentence


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr_vertex": 0.01}, {"batch": 1}])
def test_another_fit_does_not_take_the_checkpoint(setup, tmp_path, change):
    config = FitConfig(steps=3, scales=1)
    interrupted(setup, config, 2, tmp_path / "c")
    other = replace(config, **change)
    found = checkpoint.find(tmp_path / "c", checkpoint.identity(setup, other), other, DEVICE)
    assert found.saved is None and "of another fit" in found.sentence
    photo = replace(setup, photos=crops.Photos(setup.photos.rgba * 0.99, setup.photos.cameras))
    assert checkpoint.identity(photo, config) != checkpoint.identity(setup, config)


def test_a_damaged_checkpoint_is_said_and_not_used(setup, tmp_path):
    config, path = FitConfig(steps=3, scales=1), tmp_path / "c"
    interrupted(setup, config, 2, path)
    name, good = checkpoint.identity(setup, config), path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) * 2 // 3] ^= 1
    header = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])
    assert len(good) > header["kept.verts"]["data_offsets"][1]
    for bad in (b"", b"{}", good[:-1], good[: len(good) // 2], bytes(flipped), b"\xff" * 100, good + b"0"):
        path.write_bytes(bad)
        found = checkpoint.find(path, name, config, DEVICE)
        assert found.saved is None and "damaged" in found.sentence
    path.write_bytes(good)
    assert checkpoint.find(path, name, config, DEVICE).saved is not None


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_it(setup, tmp_path, monkeypatch):
    config, path = FitConfig(steps=3, scales=1), tmp_path / "c"
    interrupted(setup, config, 2, path)
    before = path.read_bytes()

    def full(tensors, where, about):
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        interrupted(setup, config, 3, path)
    assert path.read_bytes() == before
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["about"])["step"] == 2
