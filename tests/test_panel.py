"""The live fit and its panel without a browser: what buttons and numbers do to the fit. `test_browser` drives it for real."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recon_lib import camera, progress, render
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.progress import silent
from recon_lib.raster import cpu
from recon_lib.refine import checkpoint, fit, headless, refine
from recon_lib.refine import live as live_fits
from recon_lib.refine.config import FitConfig
from recon_lib.refine.live import LiveFit
from recon_lib.show import live_pictures, panel, panel_widgets
from recon_lib.show.inspector import Inspector
from recon_lib.show.knob_row import KnobRow
from recon_lib.stages import LIVE
from recon_lib.surface import projection

CONFIG = FitConfig(steps=8, batch=1, scales=1, correct="none")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def setup(ball):
    views = camera.orbit(8, 0.3, 5.0, 0.5, 32)
    shown, kept = refine.split_for_validation(crops.Photos(render.photographed(ball, views, cpu), views))
    grey = replace(ball, verts=0.95 * ball.verts, texture=torch.full_like(ball.texture, 0.5))
    return refine.Setup(torch.eye(4), shown, kept, grey, refine.make_lit(grey, 16, cpu))


def driven(setup, tmp_path, drive, config=CONFIG):
    """What `drive`, a coroutine function of a LiveFit, makes of one."""

    async def run():
        live = LiveFit(setup, config, cpu, tmp_path / "c", "it")
        try:
            await asyncio.wait_for(drive(live), PATIENCE_S)
        finally:
            live.close()
        return live

    return asyncio.run(run())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def asked(live, what, *arguments):
    """Asks and waits until it is done."""
    done = asyncio.Event()

    def do():
        done.set()
        what(*arguments)

    live.ask(do)
    await done.wait()
    await asyncio.sleep(0)


def test_no_step_before_start_and_then_the_same_steps_as_the_loop(setup, tmp_path):
    async def drive(live):
        await asyncio.sleep(0.05)
        assert live.step == 0 and live.result.history == []
        live.ask(live.start)
        await until(lambda: live.chosen)

    found = driven(setup, tmp_path, drive).result
    loop = headless.run_to_end(refine.run(setup, CONFIG, cpu), CONFIG.steps, silent)
    assert torch.equal(found.mesh.verts, loop.mesh.verts) and torch.equal(found.mesh.texture, loop.mesh.texture)
    assert found.kept[2:5] == loop.kept[2:5] and found.validation == loop.validation and len(found.history) == 8


def test_keep_this_keeps_the_step_that_is_shown_and_keep_best_the_best(setup, tmp_path, monkeypatch):
    scores = iter([10.0, 20.0, 15.0, 15.0])  # of the given mesh, of step 2, and twice of step 3
    monkeypatch.setattr(projection, "explain", lambda *_: projection.Explained(next(scores), 0.5))

    async def drive(live):
        for _ in range(2):
            await asked(live, live.one_step)
        await asked(live, live.keep_best)
        assert live.result.kept.step == 2 and live.chosen == "best"
        await asked(live, live.one_step)
        shown = fit.snapshot(live.state.fit.mesh)
        await asked(live, live.keep_best)
        assert live.result.kept.step == 2 and not torch.equal(live.result.mesh.texture, shown.texture)
        await asked(live, live.keep_this)
        assert live.result.kept.step == 3 and torch.equal(live.result.mesh.texture, shown.texture)

    live = driven(setup, tmp_path, drive)
    assert live.result.kept.psnr_db < live.state.kept.psnr_db
    assert "chosen by hand" in refine.gain_sentence(live.result.kept)


def test_changes_are_recorded_with_the_step_that_first_used_them_and_refusals_change_nothing(setup, tmp_path):
    async def drive(live):
        await asked(live, live.change, "w_alpha", 0.5)
        await asked(live, live.change, "w_alpha", 0.0)
        await asked(live, live.one_step)
        await asked(live, live.change, "batch", 2)
        await asked(live, live.change, "photo_size", 16)
        await asked(live, live.change, "lr_vertex", 7)
        assert live.says == "lr_vertex: got 7, needed a number in [0, 1]; it stays 0.06"
        await asked(live, live.one_step)

    result = driven(setup, tmp_path, drive).result
    assert result.changes == [
        {"step": 1, "name": "w_alpha", "value": 0.0},
        {"step": 2, "name": "batch", "value": 2},
        {"step": 2, "name": "photo_size", "value": 16},
    ]
    alpha = fit.LOSSES.index("alpha")
    assert all(losses[alpha] > 0 for _, losses in result.history)  # what is shown is not weighted


def test_photos_can_be_made_larger_up_to_what_is_in_them(ball, tmp_path):
    views = camera.orbit(8, 0.3, 5.0, 0.5, 96)
    rgba = render.over_white_srgb(render.photographed(ball, views, cpu))
    alpha = render.photographed(ball, views, cpu)[..., 3:]
    images = tuple((torch.cat([rgba, alpha], -1).clamp(0, 1) * 255).byte().numpy())
    setup = refine.prepare(images, views, ball, 32, cpu, light_size=16)
    own = crops.own_size(images)
    assert own > 64

    async def drive(live):
        assert live.photo_sizes() == (0, 8, 16, 32, 64, own)
        await asked(live, live.one_step)
        for size in (own, 16, 64, 0):
            await asked(live, live.change, "photo_size", size)
            await asked(live, live.one_step)
            assert not live.says
            shown.append(seen[-1])
        await asked(live, live.change, "photo_size", 2 * own)
        assert "photo_size: got" in live.says and live.value("photo_size") == 0

    shown, seen = [], []
    measure = fit.measure

    def measured(mesh, shot, *rest):
        seen.append(shot.target.shape[2])
        return measure(mesh, shot, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "measure", measured)
        result = driven(setup, tmp_path, drive).result
    assert shown == [own, 16, 64, 32]
    assert [(one["step"], one["value"]) for one in result.changes] == [(2, own), (3, 16), (4, 64), (5, 0)]


def test_smoothness_and_every_weight_can_be_changed_while_it_runs(setup, tmp_path):
    values = {"smoothness": 60.0, "glare": 0.2, "w_occlusion": 0.5, "w_laplacian": 3.0, "w_white": 0.5, "w_smooth": 1.0}

    async def drive(live):
        for _ in range(3):
            await asked(live, live.one_step)
        before = live.state.fit.mesh.verts.clone()
        await asked(live, live.take_snapshot)
        for name, value in values.items():
            await asked(live, live.one_step)
            await asked(live, live.change, name, value)
            await asked(live, live.one_step)
            ends[name] = fit.snapshot(live.state.fit.mesh)
            await asked(live, live.change, name, getattr(CONFIG, name))
            await asked(live, live.return_to, 3)
            assert torch.equal(live.state.fit.mesh.verts, before)
        for _ in range(2):
            await asked(live, live.one_step)
        ends[""] = fit.snapshot(live.state.fit.mesh)

    ends = {}
    assert driven(setup, tmp_path, drive).result.changes == []
    for name in values:
        same = [
            torch.equal(getattr(ends[name], part), getattr(ends[""], part)) for part in ("verts", "texture", "light")
        ]
        assert not all(same), f"{name} changes nothing"


def test_a_smoother_fit_keeps_its_shape_when_smoothness_changes_and_a_checkpoint_knows_which_it_had(setup, tmp_path):
    async def drive(live):
        for _ in range(3):
            await asked(live, live.one_step)
        await asked(live, live.change, "lr_vertex", 0.0)
        before = live.state.fit.mesh.verts.clone()
        await asked(live, live.change, "smoothness", 200.0)
        await asked(live, live.one_step)
        assert torch.equal(live.state.fit.mesh.verts, before)
        await asked(live, live.change, "lr_vertex", 1e-6)
        await asked(live, live.one_step)
        torch.testing.assert_close(live.state.fit.mesh.verts, before, rtol=0, atol=1e-4)
        await asked(live, live.change, "smoothness", 1.0)
        live.running = True
        await asked(live, live.pause)  # writes a checkpoint of a state that had 200
        await asked(live, live.one_step)
        ends.append(live.state.fit.mesh.verts.clone())

    async def look(live):
        assert live.step == 5 and live.value("smoothness") == 1.0
        await asked(live, live.one_step)
        ends.append(live.state.fit.mesh.verts.clone())

    ends = []
    driven(setup, tmp_path, drive)
    driven(setup, tmp_path, look)
    assert torch.equal(*ends)


def test_a_fit_goes_back_to_a_snapshot_and_takes_the_same_steps_again(setup, tmp_path):
    async def drive(live):
        await asked(live, live.one_step)
        await asked(live, live.one_step)
        await asked(live, live.take_snapshot)
        live.ask(live.start)
        await until(lambda: live.chosen)
        ends.append((live.result.mesh, live.result.history[-1][1]))
        for _ in range(2):
            await asked(live, live.return_to, 2)
            assert live.step == 2 and len(live.result.history) == 2 and not live.chosen
            live.ask(live.start)
            await until(lambda: live.chosen)
            ends.append((live.result.mesh, live.result.history[-1][1]))
        await asked(live, live.return_to, 0)
        assert live.step == 0 and live.result.history == []

    ends = []
    driven(setup, tmp_path, drive)
    for mesh, losses in ends[1:]:
        assert torch.equal(ends[0][0].verts, mesh.verts) and torch.equal(ends[0][1], losses)


def test_a_fit_is_extended_beyond_its_last_step(setup, tmp_path):
    async def drive(live):
        live.ask(live.start)
        await until(lambda: live.chosen)
        before = live.result.mesh.texture
        await asked(live, live.start)
        assert "step 3 was the last; extend" in live.says
        live.ask(live.extend, 2)
        await until(lambda: live.chosen and live.step == 5)
        assert not torch.equal(live.state.fit.mesh.texture, before)

    result = driven(setup, tmp_path, drive, replace(CONFIG, steps=3)).result
    assert result.changes == [{"step": 4, "name": "steps", "value": 5}] and len(result.history) == 5


def test_a_kernel_that_ends_loses_nothing_that_was_done_before_the_pause(setup, tmp_path):
    async def drive(live):
        await asked(live, live.change, "lr_texture", 0.03)
        live.ask(live.start)
        await until(lambda: live.step >= 2)
        await asked(live, live.pause)
        left.append((live.step, fit.snapshot(live.state.fit.mesh)))

    async def look(live):
        assert live.step == left[0][0] and torch.equal(live.state.fit.mesh.verts, left[0][1].verts)
        assert live.says == f"Goes on from the checkpoint of step {live.step}."
        assert live.controls.lr_texture == 0.03
        await asked(live, live.keep_this)
        live.ask(live.start)
        await until(lambda: live.step > left[0][0])

    left = []
    config = replace(CONFIG, steps=500)
    driven(setup, tmp_path, drive, config)
    driven(setup, tmp_path, look, config)


def test_a_step_that_fails_leaves_the_state_before_it_and_living_buttons(setup, tmp_path):
    async def drive(live):
        await asked(live, live.one_step)
        before = live.state.fit.mesh.verts.clone()
        live.controls.w_alpha = float("nan")
        live.ask(live.start)
        await until(lambda: live.says)
        assert "is not finite" in live.says and "back at step 1" in live.says and not live.running
        assert torch.equal(live.state.fit.mesh.verts, before)
        live.controls.w_alpha = 1.0
        await asked(live, live.one_step)
        assert live.step == 2

    driven(setup, tmp_path, drive)


def test_a_full_disk_pauses_the_fit_with_a_word_and_loses_nothing(setup, tmp_path, monkeypatch):
    def full(*rest):
        raise OSError(28, "No space left on device")

    async def drive(live):
        await asked(live, live.one_step)
        before = live.state.fit.mesh.verts.clone()
        live.running = True
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write", full)
            await asked(live, live.pause)
            await until(lambda: live.says)
        assert "No space left on device" in live.says and not live.running
        assert torch.equal(live.state.fit.mesh.verts, before)
        await asked(live, live.one_step)
        await asked(live, live.keep_this)
        assert live.step == 2 and live.result.kept.step == 2 and not live.says

    driven(setup, tmp_path, drive)


class Folder:
    def __init__(self, path):
        self.path = path

    def folder(self, name):
        return self.path / name

    def progress(self, share, what):
        pass

    def overdue(self):
        return False


def scene_of_one():
    image = np.zeros((48, 48, 4), np.uint8)
    image[10:40, 10:40] = 255
    return Scene(("a",), (image,), camera.orbit(1, 0.3, 5.0, 0.5, 48), np.array([True]), np.array([0.0, 1, 0]))


class Kernel:
    """As much of ipykernel's as the panel touches."""

    def __init__(self):
        self.code, self.sent = "the panel's cell", []

    def get_parent(self):
        return {"content": {"code": self.code}}

    def _send_abort_reply(self, stream, request, idents):
        self.sent.append(request["content"]["code"])


def test_a_request_of_the_panels_cell_that_the_kernel_drops_gets_the_panel(monkeypatch):
    kernel, shown = Kernel(), []
    for name in ("first", "second"):
        panel._show_where_dropped(kernel, lambda name=name: shown.append(name))
    for code in ("print(1)", "the panel's cell", "print(2)"):
        kernel._send_abort_reply(None, {"content": {"code": code}}, None)
    assert shown == ["second"] and kernel.sent == ["print(1)", "the panel's cell", "print(2)"]


def test_the_cell_shows_one_panel_however_often_it_runs_and_returns_what_was_kept(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "watched", lambda: True)
    monkeypatch.setattr(panel, "get_ipython", lambda: SimpleNamespace(kernel=Kernel()))
    shown = []
    monkeypatch.setattr("recon_lib.show.panel_widgets.display", lambda what, **options: shown.append(what))
    photos = scene_of_one()

    async def cells():
        for _ in range(2):
            with pytest.raises(panel.NotYet, match="press start"):
                panel.fitted(setup, CONFIG, cpu, photos, Folder(tmp_path))
        widgets = panel._open[tmp_path / live_fits.NAME]
        assert shown[0] is shown[2] is widgets.widget
        await asked(widgets.live, widgets.live.one_step)
        await asked(widgets.live, widgets.live.keep_this)
        assert "kept step 1, chosen by hand" in widgets.state.value and "cells below" in widgets.says.value
        result = panel.fitted(setup, CONFIG, cpu, photos, Folder(tmp_path))
        with pytest.raises(panel.NotYet):
            panel.fitted(setup, replace(CONFIG, seed=1), cpu, photos, Folder(tmp_path))
        assert panel._open.pop(tmp_path / live_fits.NAME) is not widgets
        return result

    assert asyncio.run(cells()).kept.step == 1


def test_a_running_fit_is_drawn_at_most_twice_a_second_and_a_chosen_snapshot_stays_chosen(setup, monkeypatch, tmp_path):
    monkeypatch.setattr("recon_lib.show.panel_widgets.display", lambda what, **options: None)
    drawn = []
    monkeypatch.setattr(panel_widgets.PanelWidgets, "_draw", lambda self: drawn.append(self.live.step))
    photos = scene_of_one()

    async def run():
        live = LiveFit(setup, replace(CONFIG, steps=30), cpu, tmp_path / "c", "it")
        widgets = panel_widgets.PanelWidgets(live, photos)
        for _ in range(2):
            await asked(live, live.one_step)
            await asked(live, live.take_snapshot)
        widgets.snapshots.value = 1
        before, began = len(drawn), time.monotonic()
        live.ask(live.start)
        await until(lambda: live.chosen)
        live.close()
        return len(drawn) - before, time.monotonic() - began, widgets.snapshots

    count, seconds, snapshots = asyncio.run(run())
    assert count <= 3 + seconds / panel_widgets.REFRESH_SECONDS < 30
    assert snapshots.options == (0, 1, 2) and snapshots.value == 1


class Watching(Folder):
    """A stage that notes at every step whether there are pictures to look at."""

    def __init__(self, path):
        super().__init__(path)
        self.seen = []

    def progress(self, share, what):
        self.seen.append((self.path / LIVE).read_bytes() if (self.path / LIVE).exists() else b"")


def test_a_fit_that_runs_as_a_job_shows_pictures_now_and_then_and_takes_them_away_at_its_end(
    setup, monkeypatch, tmp_path
):
    stage, photos = Watching(tmp_path), scene_of_one()
    monkeypatch.setattr(live_pictures, "FILE_SECONDS", 0.0)
    monkeypatch.setattr(live_pictures, "FILE_SHARE", 100.0)
    found = panel.fitted(setup, CONFIG, cpu, photos, stage)
    assert stage.seen[0].startswith(b"\xff\xd8") and len(set(stage.seen)) == len(stage.seen) == 9
    assert not (tmp_path / LIVE).exists()
    monkeypatch.setattr(live_pictures, "FILE_SECONDS", 1e9)
    (tmp_path / checkpoint.NAME).unlink()
    stage.seen.clear()
    plain = panel.fitted(setup, CONFIG, cpu, photos, stage)
    assert len(set(stage.seen)) == 1 and torch.equal(plain.mesh.texture, found.mesh.texture)
    assert torch.equal(plain.mesh.verts, found.mesh.verts)


def test_a_run_that_is_overdue_stops_at_once_and_keeps_what_was_best(setup):
    asked = iter([False] * 3 + [True])
    found = headless.run_to_end(refine.run(setup, CONFIG, cpu), 8, silent, lambda: next(asked))
    assert len(found.history) == 3 and found.error == ""
    assert found.kept.step == 0 and torch.equal(found.mesh.verts, setup.given.verts)


def test_a_typed_number_is_taken_exactly_zero_is_zero_and_the_handle_only_follows():
    wishes = []
    row = KnobRow("lr", 0.06, 0.0, 1.0, "help", lambda name, value: wishes.append(value))
    row.field.value = 0.0312
    row.field.value = 0.0
    assert wishes == [0.0312, 0.0] and row.field.value == 0.0 and row.slider.value == 0.0
    row.slider.value = 1.0
    assert wishes[2:] == [1.0] and row.field.value == 1.0
    row.show(0.06)
    row.slider.value += 1e-9  # a browser repeats where the handle stands
    row.slider.value -= 1e-9
    assert len(wishes) == 3 and row.field.value == 0.06 and round(row.slider.value, 3) == row.slider.value


def test_a_click_on_a_photo_looks_through_it_each_time_and_the_end_of_an_orbit_does_not(ball):
    view = Inspector(ball, scene_of_one(), cpu)
    (photo,) = view.thumbs.children

    def click(began, ended):
        view.pressed.point, view.clicked.point = began, ended
        view.clicked.object = photo
        found, view.through.value = view.through.value, ""
        return found

    assert [click((1, 2, 3), (1, 2, 3)) for _ in range(2)] == ["a", "a"]
    assert click((1, 2, 3), (1, 2.1, 3)) == ""
    view.cameras_shown.value = False
    assert click((1, 2, 3), (1, 2, 3)) == ""


def test_the_panels_checkpoint_is_no_batch_runs():
    assert live_fits.NAME != checkpoint.NAME
