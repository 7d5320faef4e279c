"""Gloss moves over a surface with the eye, so no texture explains it; a fit must not dent the surface instead."""

from collections import deque
from dataclasses import replace

import speckles
import torch

from recon_lib import camera, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Material
from recon_lib.photos.crops import Photos
from recon_lib.raster import cpu
from recon_lib.refine import corrections, losses, refine, scales
from recon_lib.refine.config import FitConfig


def glossy(ball):
    """The ball as smooth plastic under an even light with two lamps, 40 times as bright."""
    lit = refine.make_lit(ball, 16, cpu)
    values, light = lit.material.values.clone(), lit.light.clone()
    values[..., 1] = 0.15  # roughness
    light[2, 4:9, 4:9] *= 40
    light[0, 2:6, 8:12] *= 40
    return replace(lit, material=Material(values), light=light)


def dents(photos, start, glare):
    """How far the fitted ball's vertices lie from its true radius, 1."""
    steps = scales.fit_scales(
        photos, start, FitConfig(steps=100, scales=1, glare=glare), cpu, asked=corrections.NOTHING
    )
    return (deque(steps, maxlen=1)[0].mesh.verts.norm(dim=-1) - 1).abs()


def test_a_bound_against_glare_halves_the_dents_in_a_glossy_surface():
    ball = speckles.ball(128, 5, 0.5)
    rings = [camera.orbit(5, elevation, 3.5, 0.7, 72) for elevation in (-0.3, 0.4)]
    joined = [torch.cat([getattr(ring, name) for ring in rings]) for name in ("T_world_cam", "intrinsics", "sizes")]
    cameras = Cameras(*joined)
    matt, shiny = render.render(ball, cameras, cpu), render.render(glossy(ball), cameras, cpu)
    shown = matt[..., 3] > 0.5
    assert (shiny[..., :3].amax(-1) > 2 * matt[..., :3].amax(-1))[shown].float().mean() > 0.02  # there are highlights
    photos = Photos(shiny, cameras)
    assert dents(photos, ball, 0.1).quantile(0.95) < 0.6 * dents(photos, ball, 0.0).quantile(0.95)


def test_no_pixel_counts_more_than_the_bound_and_small_differences_count_as_before():
    dark, bright = torch.zeros(3), torch.full((3,), 1e6)
    assert 0.18 < losses.log_l1(bright, dark, 0.2) < 0.2 < losses.log_l1(bright, dark)
    near = 0.5 + 1e-4 * torch.rand(3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(losses.log_l1(near, dark + 0.5, 0.2), losses.log_l1(near, dark + 0.5), rtol=1e-3)
