"""The panel without a browser: what its buttons do to the fit."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib import camera, progress, render
from recon_lib.chain.run import Stage
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.progress import silent
from recon_lib.raster import cpu
from recon_lib.refine import fit, headless, refine
from recon_lib.show import panel


@pytest.fixture(scope="module")
def setup(ball):
    views = camera.orbit(8, 0.3, 5.0, 0.5, 48)
    shown, kept = refine.split_for_validation(crops.Photos(render.photographed(ball, views, cpu), views))
    grey = replace(ball, texture=torch.full_like(ball.texture, 0.5))
    return refine.Setup(torch.eye(4), shown, kept, grey, refine.make_lit(grey, 16, cpu))


def shown_panel(setup, monkeypatch, steps: int = 30) -> panel.Panel:
    monkeypatch.setattr(progress, "watched", lambda: True)
    image = np.zeros((48, 48, 4), np.uint8)
    image[10:40, 10:40] = 255
    photos = Scene(("a",), (image,), camera.orbit(1, 0.3, 5.0, 0.5, 48), np.array([True]), np.array([0.0, 1, 0]))
    config = fit.FitConfig(steps=steps)
    return panel.drive(setup, config, fit.Controls(config), cpu, photos, object.__new__(Stage))


def test_the_panel_waits_for_start_and_then_does_the_same_steps_as_the_loop(setup, monkeypatch):
    async def watch():
        shown = shown_panel(setup, monkeypatch)
        await asyncio.sleep(0.3)
        before = len(shown.result.history)
        shown._on_toggle(None)
        return before, await shown.finished()

    before, found = asyncio.run(watch())
    assert before <= 1 and len(found.history) >= 30 and found.error == ""
    config = fit.FitConfig(steps=30)
    loop = headless.run_to_end(refine.run(setup, config, cpu), 30, silent)
    assert torch.equal(found.mesh.verts, loop.mesh.verts) and found.kept.step == loop.kept.step
    assert found.validation == loop.validation and [step for step, _ in loop.validation] == [0, 30]


def test_stop_and_keep_keeps_the_state_that_was_stopped_at_if_it_is_the_best(setup, monkeypatch):
    async def watch():
        shown = shown_panel(setup, monkeypatch, 1000)
        shown._on_toggle(None)
        while not shown.result.history or shown.result.history[-1][0] < 12:
            await asyncio.sleep(0.01)
        shown._on_keep(None)
        return await shown.finished()

    found = asyncio.run(watch())
    assert found.kept.step == found.history[-1][0] < 25
    assert found.kept.psnr_db > found.kept.given_psnr_db


def test_a_run_that_is_overdue_stops_at_once_and_keeps_what_was_best(setup):
    config = fit.FitConfig(steps=30)
    asked = iter([False] * 5 + [True])
    steps = refine.run(setup, config, cpu)
    found = headless.run_to_end(steps, 30, silent, lambda: next(asked))
    assert len(found.history) == 5 and found.error == ""
    assert found.kept.step == 0 and torch.equal(found.mesh.verts, setup.given.verts)


def test_a_rate_changed_while_it_runs_is_in_the_record_with_the_step_that_first_used_it(setup, monkeypatch):
    async def watch():
        shown = shown_panel(setup, monkeypatch)
        shown._on_rate("lr_vertex", 0.02)
        shown._on_rate("lr_vertex", 0.01)
        shown._on_toggle(None)
        while not shown.result.history or shown.result.history[-1][0] < 7:
            await asyncio.sleep(0)
        step = shown.result.history[-1][0]
        shown._on_rate("lr_texture", 0.5)
        return step, await shown.finished()

    step, found = asyncio.run(watch())
    assert found.changes == [
        {"step": 1, "name": "lr_vertex", "value": 0.01},
        {"step": step + 1, "name": "lr_texture", "value": 0.5},
    ]
