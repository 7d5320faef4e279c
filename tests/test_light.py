"""A light that turned with the camera is seen in what is left between photos and mesh; a fixed one raises no alarm."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_photos import DISTANCE, FOV_RADIANS, boulder

from recon_lib import camera, colour, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Material, Mesh
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.raster import cpu
from recon_lib.refine import fit, refine
from recon_lib.shading import cubemap
from recon_lib.surface import projection
from recon_lib.verdict import diagnosis, light

COUNT, WIDTH, SIZE = 16, 128, 16  # photos; pixels; texels of the light
LAMPS = {
    "beside": (-0.6, 0.6, 0.5),
    "ring": (0.0, 0.0, 1.0),
}  # direction to the lamp, as the camera sees it where it turns


def photographed(lamp: str, turns: bool, roughness: float = 0.6) -> Scene:
    """Two rings of photos around the boulder, under a broad lamp and some light from all around."""
    low, high = (camera.orbit(COUNT // 2, elevation, DISTANCE, FOV_RADIANS, WIDTH) for elevation in (0.2, 0.7))
    cameras = Cameras(*(torch.cat([getattr(ring, name) for ring in (low, high)]) for name in vars(low)))
    towards = torch.nn.functional.normalize(torch.tensor(LAMPS[lamp]), dim=0)
    shining = (cubemap.directions(SIZE) @ towards).clamp_min(0) ** 6
    cube = (0.25 + 2 * shining)[..., None].repeat(1, 1, 1, 3)
    body = boulder().mesh
    material = Material(torch.tensor([1, roughness, 0, 0, 0, 0]).repeat(8, 8, 1))
    images = []
    for i in range(COUNT):
        seen_by = cubemap.turned(cube, cameras.T_world_cam[i, :3, :3]) if turns else cube
        lit = replace(body, texture=0.6 * body.texture + 0.2, material=material, light=seen_by)
        rgba = render.photographed(lit, cameras[[i]], cpu)[0]
        srgb = colour.linear_to_srgb((rgba[..., :3] / rgba[..., 3:].clamp_min(1e-6)).clamp(0, 1))
        images.append((torch.cat([srgb, rgba[..., 3:]], -1) * 255).round().byte().numpy())
    names = tuple(f"v{i:02d}" for i in range(COUNT))
    return Scene(names, tuple(images), cameras, np.zeros(COUNT, bool), np.array((0.0, 1.0, 0.0)))


def painted(photos: Scene) -> Mesh:
    """The true shape with the photos' mean colours."""
    cut = crops.crop_photos(photos.images, photos.cameras, WIDTH)
    return projection.paint(Mesh(boulder().mesh.verts, boulder().mesh.faces), cut, 256, cpu, lambda *_: None)


def fitted(photos: Scene) -> Mesh:
    setup = refine.prepare(photos.images, photos.cameras, painted(photos), WIDTH, cpu, 256, SIZE)
    config = fit.FitConfig(steps=60, scales=1, lr_vertex=0.02, smoothness=12.0)
    kept = deque(refine.run(setup, config, cpu), maxlen=1)[0].kept
    return refine.finish(setup, kept.mesh, cpu).mesh


@pytest.mark.parametrize("lamp", LAMPS)
def test_a_light_that_turns_is_seen_on_a_painted_mesh(lamp):
    photos = photographed(lamp, turns=True)
    found = light.compare(painted(photos), photos, cpu)
    assert found.is_seen and found.turning > 0.6 and found.fixed < 0.2


@pytest.mark.parametrize(("lamp", "roughness"), [("beside", 0.6), ("ring", 0.6), ("beside", 0.3)])
def test_a_light_that_rests_raises_no_alarm(lamp, roughness):
    photos = photographed(lamp, turns=False, roughness=roughness)
    assert not light.compare(painted(photos), photos, cpu).is_seen


@pytest.mark.parametrize("turns", [True, False])
def test_the_fit_does_not_hide_it(turns):
    photos = photographed("beside", turns)
    found = light.compare(fitted(photos), photos, cpu)
    assert found.is_seen == turns, found
    causes = diagnosis.of_light(found)
    assert [cause.kind for cause in causes] == ["light turns with the camera"] * turns
    if turns:
        assert f"explains {found.turning:.0%}" in causes[0].says and "Move the camera around" in causes[0].remedy


def test_a_light_that_turns_is_seen_though_exposures_differ():
    photos = photographed("beside", turns=True)
    exposed = []
    for i, image in enumerate(photos.images):
        darker = image.copy()
        darker[..., :3] = (image[..., :3] * (0.5 + 0.5 * (i % 4) / 3)).round()
        exposed.append(darker)
    unlike = replace(photos, images=tuple(exposed))
    found = light.compare(painted(unlike), unlike, cpu)
    assert found.is_seen and found.turning > 0.4


def test_the_samples_light_rests(jug, painted_jug):
    found = light.compare(painted_jug, jug.subset(~jug.held_out), cpu)
    assert not found.is_seen and "did not turn" in found.sentence()


def test_too_few_photos_and_black_ones_tell_nothing():
    photos = photographed("beside", turns=True)
    mesh = painted(photos)
    few = photos.subset(np.arange(COUNT) < light.FEWEST_PHOTOS - 1)
    black = replace(photos, images=tuple(image * np.array([0, 0, 0, 1], np.uint8) for image in photos.images))
    for nothing in (few, black):
        found = light.compare(mesh, nothing, cpu)
        assert found == (0.0, 0.0, 0.0, 0) and "too few" in found.sentence() and not diagnosis.of_light(found)
