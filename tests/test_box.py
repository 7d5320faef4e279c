"""The box in which a mesh is scored: how the photo is framed decides no score, and one photo means one resolution."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib import render
from recon_lib.camera import Cameras
from recon_lib.photos import framing
from recon_lib.photos.scene import Scene
from recon_lib.raster import cpu
from recon_lib.surface import placement
from recon_lib.verdict import box, images, judge

BESIDE = {"psnr_full_db", "ssim_full"}  # scores that are meant to depend on the frame


@pytest.fixture(scope="module")
def two(jug) -> Scene:
    """Two held-out photos of the sample."""
    held = jug.subset(jug.held_out)
    return held.subset(np.arange(len(held.names)) % 4 == 1)


def reframed(photos: Scene, left: int, top: int, right: int, bottom: int) -> Scene:
    """The photos with empty pixels added on each side, or pixels cut off where the number is negative."""
    width, height = photos.cameras.sizes[0].tolist()
    added = [(max(0, top), max(0, bottom)), (max(0, left), max(0, right)), (0, 0)]
    cut = slice(max(0, -top), height - max(0, -bottom)), slice(max(0, -left), width - max(0, -right))
    images_ = tuple(np.pad(image[cut], added) for image in photos.images)
    K, sizes = photos.cameras.intrinsics.clone(), photos.cameras.sizes.clone()
    K[:, 2:] += torch.tensor([left, top])
    sizes += torch.tensor([left + right, top + bottom])
    return replace(photos, images=images_, cameras=Cameras(photos.cameras.T_world_cam, K, sizes))


def finer(photos: Scene, times: int) -> Scene:
    """The photos with each pixel repeated, as a sharper camera would have taken them of a blocky object."""
    images_ = tuple(image.repeat(times, 0).repeat(times, 1) for image in photos.images)
    cameras = Cameras(photos.cameras.T_world_cam, photos.cameras.intrinsics * times, photos.cameras.sizes * times)
    return replace(photos, images=images_, cameras=cameras)


def mean(mesh, photos: Scene) -> dict:
    found = judge.score(mesh, photos, cpu, set()).mean._asdict()
    return {name: value for name, value in found.items() if name not in BESIDE}


def borders(photos: Scene) -> list[int]:
    """The empty pixels beside the object that all photos have: left, top, right, bottom."""
    boxes = np.array([framing.mask_box(image[..., 3] / 255) for image in photos.images])
    width, height = photos.cameras.sizes[0].tolist()
    return [int(n) for n in (*boxes[:, :2].min(0), width - boxes[:, 2].max(), height - boxes[:, 3].max())]


@pytest.mark.parametrize("times", [1, 3])  # the object shorter than LONG_SIDE, and longer
def test_the_scores_do_not_depend_on_the_frame(painted_jug, two, times):
    photos = finer(two, times)
    expected = mean(painted_jug, photos)
    spare = [n - 20 for n in borders(photos)]
    for frame in ((700, 300, 900, 500), (-spare[0], 40, 333, -spare[3]), [-n for n in spare]):
        found = mean(painted_jug, reframed(photos, *frame))
        assert found["psnr_db"] == pytest.approx(expected["psnr_db"], abs=0.02), frame
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=0.05 if name.endswith("_db") else 1e-3), (frame, name)


def test_a_finer_photo_of_the_same_object_is_scored_alike(painted_jug, two):
    """Both are compared with the object about as long in pixels, so that only sampling differs."""
    few, many = mean(painted_jug, finer(two, 2)), mean(painted_jug, finer(two, 4))
    assert many["psnr_db"] == pytest.approx(few["psnr_db"], abs=0.1)


def test_every_mesh_is_compared_with_a_photo_at_one_resolution(painted_jug, two):
    """A mesh that reaches far out of the object widens the box, and its cells stay as they are."""
    photos, grown = finer(two, 3), placement.transform(painted_jug, torch.diag(torch.tensor([1.3, 1.3, 1.3, 1.0])))
    boxes = [box.around(photos.images[0], mesh, photos.cameras[[0]]) for mesh in (painted_jug, grown)]
    assert boxes[0].cell == boxes[1].cell > 1
    assert boxes[1].width > boxes[0].width and boxes[1].height > boxes[0].height


def test_the_object_is_never_longer_than_asked_and_never_enlarged(painted_jug, two):
    for times, expected in ((1, False), (3, True)):
        photos = finer(two, times)
        found = box.around(photos.images[0], painted_jug, photos.cameras[[0]])
        low, high = np.split(framing.mask_box(photos.images[0][..., 3] / 255), 2)
        longest = (high - low).max()
        assert (longest > box.LONG_SIDE) == expected
        assert found.cell == pytest.approx(max(1.0, longest / box.LONG_SIDE))


def test_the_full_frame_is_the_whole_photo_though_only_the_box_is_rendered(painted_jug, two):
    """Against every pixel of the photo rendered and compared."""
    found = images.compare(painted_jug, two.images[0], two.cameras[[0]], cpu).score
    whole = box.Box(0.0, 0.0, 1.0, *two.images[0].shape[1::-1])
    true, true_mask = images.on_white(two.images[0], whole)
    rgba = render.photographed(painted_jug, two.cameras[[0]], cpu)[0]
    rendered = render.over_white_srgb(rgba).double().numpy()
    expected = images.score(true, rendered, true_mask, (rgba[..., 3] > 0.5).numpy())
    assert tuple(found) == pytest.approx(tuple(expected), abs=1e-3)


def test_a_mesh_around_the_camera_is_compared_over_the_whole_photo(ball, two):
    T = torch.eye(4)
    T[:3, 3] = two.cameras.T_world_cam[0, :3, 3]
    found = box.around(two.images[0], placement.transform(ball, T), two.cameras[[0]])
    assert (found.left, found.top, found.width, found.height) == (0.0, 0.0, *two.images[0].shape[1::-1])
