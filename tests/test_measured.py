"""A recorded step reads everything that changes from step to step, and gives what the step as it is gives."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from recon_lib import camera, mesh, render
from recon_lib.raster import cpu
from recon_lib.refine import fit, losses, refine
from recon_lib.refine.measured import Batch, Fixed, Measured, Recorded, measure

SIZE = 48


class Tape:
    """As torch's recording: replays only what it was given at first, into which it copies what it is given now."""

    def __init__(self):
        self.recordings = 0

    def __call__(self, run: Callable, own: tuple) -> Callable:
        assert all(x.is_leaf for x in own)
        self.recordings += 1

        def replay(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with torch.no_grad():
                for mine, x in zip(own, given, strict=True):
                    if mine.data_ptr() != x.data_ptr():
                        mine.copy_(x)
            found = run(*own)
            moved = [x for x in own if x.requires_grad]
            grads = torch.autograd.grad(sum(found[:5]), moved, allow_unused=True)
            for x, grad in zip((x for x in given if x.requires_grad), grads, strict=True):
                x.recorded = grad
            return found

        return replay


def steps(ball: mesh.Mesh, kind: str, w_smooth: float = 1.0) -> tuple[list[Measured], list[torch.Tensor], int]:
    """Five steps in which everything moves, the last two with more slots: losses, gradients of the leaves, recordings."""
    views = camera.orbit(6, 0.3, 5.0, 0.5, SIZE)
    true = replace(ball, texture=ball.texture.flip(0))
    photos = render.photographed(true, views, cpu)
    body = refine.make_lit(ball, 16, cpu)
    body = mesh.map_tensors(body, lambda x: x.clone().requires_grad_(True), ("texture", "material", "light"))
    generator, seen = torch.Generator().manual_seed(0), render.views(views, ball.verts)
    fixed = Fixed(cpu, cpu.topology(ball.faces), 3000, 0.0)
    tape = Tape()
    recorded = Recorded(tape)

    def aside(uv: torch.Tensor) -> torch.Tensor:
        return uv + 0.01 * torch.randn(uv.shape, generator=generator)

    found, grads = [], []
    for k in range(5):
        u = (ball.verts * (1 + 0.02 * k)).requires_grad_()
        body = replace(body, verts=1 * u)  # no leaf, so a recording has its own
        leaves = [body.texture, body.material.values, body.light]
        for x in leaves:
            with torch.no_grad():
                x.mul_(1 - 0.05 * k)  # in place, as the optimiser moves them
        view = fit.select_views(seen, torch.tensor([k, (k + 2) % 6]))
        if k == 3:
            fixed = fixed._replace(room=3500)
        pos, rast = (x.detach().requires_grad_() for x in render.rasterised(body, view, cpu))
        batch = Batch(photos[[k, (k + 2) % 6]], view.eye, pos, rast)
        drawn = aside if w_smooth else None, losses.random_colours(generator)
        if kind == "recorded":
            found.append(recorded(body, batch, fixed, *drawn))
            grads += [x.recorded for x in (*leaves, pos, rast)]
        else:
            found.append(measure(body, batch, fixed, *drawn))
            grads += torch.autograd.grad(sum(found[-1][:5]), [*leaves, pos, rast])
    return found, grads, tape.recordings


@pytest.mark.parametrize("w_smooth", [0.0, 1.0])
def test_a_recording_gives_the_losses_and_gradients_of_each_step_as_it_is(ball, w_smooth):
    (plain, grads, _), (replayed, recorded_grads, recordings) = (steps(ball, k, w_smooth) for k in ("", "recorded"))
    assert recordings == 2  # the second with other slots
    for one, other in zip(plain, replayed, strict=True):
        assert [x.item() for x in one] == [x.item() for x in other]
    assert len({found.colour.item() for found in plain}) == 5
    for grad, other in zip(grads, recorded_grads, strict=True):
        assert grad.abs().max() > 0 and (grad is other or torch.allclose(grad, other, rtol=1e-5, atol=1e-9))
