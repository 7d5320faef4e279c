"""Never worse than the mesh given, and every strange input handled or refused by name."""

from collections import deque
from dataclasses import replace

import fast_simplification
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from recon_lib import camera, mesh, render
from recon_lib.coarse import hull
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.raster import cpu, select
from recon_lib.refine import fit, refine
from recon_lib.surface import projection
from recon_lib.surface.untangle import Untangled
from recon_lib.verdict import images, surface_distance


def last(steps) -> refine.RefineState:
    return deque(steps, maxlen=1)[0]


def held_out_db(body: mesh.Mesh, scene: Scene) -> float:
    shown = scene.subset(scene.held_out)
    scores = [images.compare(body, shown.images[i], shown.cameras[[i]], cpu).score for i in range(len(shown.names))]
    return images.mean_score(scores).psnr_db


def few(scene: Scene, every: int = 2) -> Scene:
    """Every second photo that is not held out, and all that are."""
    return scene.subset(scene.held_out | (np.arange(len(scene.names)) % every == 0))


def refined(scene: Scene, start: mesh.Mesh, steps: int, **knobs) -> tuple[refine.RefineState, mesh.Mesh, mesh.Mesh]:
    """The last state, and the meshes before and after, both in the world."""
    used = scene.subset(~scene.held_out)
    setup = refine.prepare(used.images, used.cameras, start, 160, cpu, 384, 16)
    careful = {"scales": 1, "lr_vertex": 0.04, "smoothness": 12.0}
    state = last(refine.run(setup, fit.FitConfig(steps=steps, **careful, **knobs), cpu))
    return state, refine.finish(setup, setup.given, cpu).mesh, refine.finish(setup, state.kept.mesh, cpu).mesh


def test_the_true_mesh_does_not_get_worse(jug, true_jug):
    scene = few(jug)
    verts, faces = fast_simplification.simplify(true_jug.verts.numpy(), true_jug.faces.numpy(), target_count=10_000)
    true = mesh.Mesh(torch.from_numpy(verts).float(), torch.from_numpy(faces.astype(np.int32)))
    state, before, after = refined(scene, true, 75)
    assert state.kept.psnr_db >= state.kept.given_psnr_db
    assert held_out_db(after, scene) > held_out_db(before, scene)


def test_a_good_mesh_with_bad_views_does_not_get_worse(jug, painted_jug):
    """Every fifth photo shows the pose of another."""
    scene = few(jug)
    T = scene.cameras.T_world_cam.clone()
    used = np.flatnonzero(~scene.held_out)
    T[used[::5]] = T[np.roll(used[::5], 1)]
    bad = replace(scene, cameras=replace(scene.cameras, T_world_cam=T))
    _, before, after = refined(bad, painted_jug, 75)
    assert held_out_db(after, scene) >= held_out_db(before, scene) - 0.02


def cut_by_the_frame(scene: Scene) -> Scene:
    """Every second photo without its left 45 %, so that the frame's edge runs through the object."""
    images, cameras = list(scene.images), [scene.cameras[[i]] for i in range(len(scene.names))]
    for i in range(0, len(images), 2):
        height, width = images[i].shape[:2]
        left = round(0.45 * width)
        images[i] = np.ascontiguousarray(images[i][:, left:])
        cameras[i] = camera.cropped(cameras[i], torch.tensor([[left, 0.0, width, height]]), width - left, height)
    rows = [(one.T_world_cam, one.intrinsics, one.sizes) for one in cameras]
    joined = camera.Cameras(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
    return replace(scene, images=tuple(images), cameras=joined)


def test_photos_cut_by_the_frames_edge_grow_no_fins(jug, true_jug):
    scene = few(jug)
    verts, faces = fast_simplification.simplify(true_jug.verts.numpy(), true_jug.faces.numpy(), target_count=10_000)
    true = mesh.Mesh(torch.from_numpy(verts).float(), torch.from_numpy(faces.astype(np.int32)))
    used = cut_by_the_frame(scene.subset(~scene.held_out))
    assert all((image[:, 0, 3] > 127).any() for image in used.images[::2]), "the edge runs through the object"
    state, _, after = refined(replace(used, held_out=np.zeros(len(used.names), bool)), true, 75)
    assert state.kept.step > 0
    far = surface_distance.nearest(after.verts.double().numpy(), true)[0] / (verts.max(0) - verts.min(0)).max()
    assert far.max() < 0.005  # 0.010 where what lies outside of the frame is taken for background


def test_where_every_step_hurts_the_mesh_as_given_comes_back_and_the_report_says_so(jug, painted_jug):
    used = few(jug).subset(~few(jug).held_out)
    setup = refine.prepare(used.images, used.cameras, painted_jug, 96, cpu, 256, 16)
    state = last(refine.run(setup, fit.FitConfig(steps=30, lr_vertex=0.9, lr_texture=0.9, decay=1.0), cpu))
    assert state.kept.step == 0 and state.kept.mesh is setup.given
    assert "Refinement did not help" in refine.gain_sentence(state.kept)
    back = refine.finish(setup, state.kept.mesh, cpu).mesh
    assert torch.allclose(back.verts, painted_jug.verts, atol=1e-5) and back.light is None


@pytest.mark.parametrize(("shift", "taken"), [(0.001, True), (0.2, False)])
def test_untangling_is_taken_where_it_costs_the_photos_little(jug, painted_jug, monkeypatch, shift, taken):
    used = few(jug).subset(~few(jug).held_out)
    setup = refine.prepare(used.images, used.cameras, painted_jug, 96, cpu, 128)
    monkeypatch.setattr(refine.untangle, "untangle", lambda verts, faces: Untangled(verts + shift, 7, 2))
    finished = refine.finish(setup, setup.given, cpu)
    assert finished.crossing == ((7, 2) if taken else (7, 7))
    moved = finished.mesh.verts - refine.placement.transform(setup.given, torch.linalg.inv(setup.T_unit_world)).verts
    assert (moved.abs().max() > 0) == taken


def test_one_photo_in_eight_is_kept_from_the_fit_and_none_of_few(jug):
    photos = crops.crop_photos(jug.images[:17], jug.cameras[:17], 32)
    shown, kept = refine.split_for_validation(photos)
    assert (len(shown.cameras), len(kept.cameras)) == (15, 2)
    everything = torch.cat([shown.rgba, kept.rgba])
    assert torch.equal(everything.sum((1, 2, 3)).sort().values, photos.rgba.sum((1, 2, 3)).sort().values)
    one_less = crops.Photos(photos.rgba[:7], photos.cameras[:7])
    assert refine.split_for_validation(one_less) == (one_less, None)


def sphere_photos(scale: float = 1.0, centre=(0.0, 0.0, 0.0), count: int = 10, size: int = 48, grey: float = 0.5):
    """Photos of a grey ball of radius `scale` at `centre`: (images, cameras)."""
    ball = mesh.icosphere(3)
    views = camera.orbit(count, 0.3, 5.0, 0.5, size)
    T = torch.eye(4) * scale
    T[:3, 3], T[3, 3] = torch.tensor(centre), 1
    painted = replace(ball, uvs=torch.full((1, 2), 0.5), uv_faces=torch.zeros_like(ball.faces),
                      texture=torch.full((2, 2, 3), grey))  # fmt: skip
    rgba = render.photographed(painted, views, cpu)
    straight = torch.cat([render.over_white_srgb(rgba) * (rgba[..., 3:] > 0), rgba[..., 3:]], -1)
    return tuple((image * 255).round().byte().numpy() for image in straight), camera.moved(views, T)


def refined_ball(photos: tuple, start: mesh.Mesh, steps: int = 10) -> mesh.Mesh:
    setup = refine.prepare(*photos, start, 48, cpu, 64, 16)
    return refine.finish(setup, last(refine.run(setup, fit.FitConfig(steps=steps), cpu)).kept.mesh, cpu).mesh


@pytest.mark.parametrize(
    ("scale", "centre"), [(1e-4, (0, 0, 0)), (1e4, (0, 0, 0)), (1.0, (300.0, -200.0, 50.0))], ids=str
)
def test_scale_and_place_of_the_world_do_not_matter(scale, centre):
    images, cameras = sphere_photos(scale, centre)
    alphas = [image[..., 3] / np.float32(255) for image in images]
    carved = hull.visual_hull(alphas, cameras, hull.HullConfig(resolution=32, faces=800))
    body = refined_ball((images, cameras), carved)
    radius = (body.verts - torch.tensor(centre)).norm(dim=-1) / scale
    assert radius.mean().item() == pytest.approx(1, abs=0.03) and radius.std() < 0.05


@pytest.mark.parametrize("count", [1, 7, 300])
def test_one_view_and_three_hundred_are_fitted(count):
    ball = mesh.icosphere(2)
    body = refined_ball(sphere_photos(count=count, size=32), ball, steps=4)
    assert torch.isfinite(body.verts).all() and torch.isfinite(body.texture).all()


def test_black_photos_give_a_black_finite_mesh():
    body = refined_ball(sphere_photos(grey=0.0), mesh.icosphere(2))
    assert torch.isfinite(body.verts).all() and body.texture.max() < 0.2


def test_a_photo_of_4000_pixels_is_cropped_like_its_small_copy():
    (image, *_), cameras = sphere_photos(count=2, size=40)
    large = np.repeat(np.repeat(image, 100, 0), 100, 1)
    boxes = torch.tensor([[0.0, 0, 40, 40]])
    close = crops.crop_photos((large,), camera.cropped(cameras[[0]], boxes, 4000, 4000), 32).rgba
    small = crops.crop_photos((image,), cameras[[0]], 32).rgba
    assert (close - small).abs().mean() < 0.02


def test_a_mesh_without_faces_no_photos_and_lost_vertices_are_refused_by_name():
    images, cameras = sphere_photos(count=2)
    ball = mesh.icosphere(1)
    broken = ball.verts.clone()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="mesh of 0 faces"):
        refine.prepare(images, cameras, replace(ball, faces=ball.faces[:0]), 32, cpu)
    with pytest.raises(ValueError, match="1 non-finite vertices"):
        refine.prepare(images, cameras, replace(ball, verts=broken), 32, cpu)
    with pytest.raises(ValueError, match="got no photos"):
        refine.prepare((), cameras[[]], ball, 32, cpu)


def test_out_of_memory_is_one_line_with_the_largest_batch_that_fits(ball, monkeypatch):
    """On a raster that holds five views."""
    rasterize = cpu.rasterize

    def small(pos, *rest, **options):
        if len(pos) > 5:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return rasterize(pos, *rest, **options)

    images, cameras = sphere_photos(size=32)
    setup = refine.prepare(images, cameras, ball, 32, cpu, 64, 16)
    monkeypatch.setattr(cpu, "rasterize", small)
    with pytest.raises(MemoryError, match=r"batch of 9 photos of 32 pixels: .*; the largest batch that fits is 5$"):
        last(refine.run(setup, fit.FitConfig(steps=2, batch=9), cpu))


@pytest.mark.parametrize(
    ("found", "device", "message"),
    [
        (None, "cuda", "got no CUDA GPU that torch can use, need one"),
        ((3.5, True), "cuda", "Card has 3.5 GB free, need 12 GB"),
        ((3.5, True), "auto", "Card has 3.5 GB free, need 12 GB"),
        ((40.0, False), "auto", "Card without nvdiffrast, need nvdiffrast 0.4"),
        (None, "tpu", "got 'tpu', need auto, cpu or cuda"),
    ],
)
def test_a_device_that_cannot_run_is_refused_with_what_was_found_and_needed(monkeypatch, found, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found is not None)
    if found:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(found[0] * 2**30), 2**36))
        monkeypatch.setattr(select, "find_spec", lambda name: object() if found[1] else None)
    with pytest.raises(ValueError, match=message):
        select.rasteriser(device)
    assert select.any_rasteriser(device) is cpu


def test_without_a_gpu_auto_is_the_cpu_and_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    raster, why = select.rasteriser("auto")
    assert raster is cpu and "torch sees no CUDA GPU" in why
    assert select.rasteriser("cpu")[0] is cpu and select.any_rasteriser("auto") is cpu


def test_ssim_is_scikit_images():
    a, b = torch.rand(2, 1, 40, 56, 3, generator=torch.Generator().manual_seed(0)).clamp(0.2, 1)
    b = (a + 0.3 * (b - 0.5)).clamp(0, 1)
    _, wanted = structural_similarity(a[0].numpy(), b[0].numpy(), data_range=1.0, channel_axis=-1, full=True)
    found = projection.ssim_map(a, b)[0].numpy()
    np.testing.assert_allclose(found[3:-3, 3:-3], wanted.mean(-1)[3:-3, 3:-3], atol=1e-4)


def test_of_two_meshes_with_the_same_psnr_the_sharper_one_has_the_better_quality():
    blurred, sharp = projection.Explained(20.0, 0.5), projection.Explained(20.0, 0.7)
    assert sharp.quality_db > blurred.quality_db == pytest.approx((20 + 3.0103) / 2)
