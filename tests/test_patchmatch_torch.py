"""The GPU's kernels of stereo beside the CPU's: the same planes from the same photos, in torch on a CPU and on a GPU."""

import numpy as np
import pytest
import torch
from conftest import needs_cuda
from test_stereo import around, photographed, speckled

from recon_lib import mesh
from recon_lib.coarse import hull
from recon_lib.coarse.stereo import patchmatch, patchmatch_torch, search
from recon_lib.coarse.stereo import views as views_

PASSES = 3


@pytest.fixture(scope="module")
def prepared():
    """Photos of a ball at 96 pixels, one view's neighbours and maps, and its bounds inside the hull."""
    cameras = around(9)
    photos = photographed(speckled(mesh.icosphere(4)), camera_far(cameras))
    alphas = [photo[..., 3] / np.float32(255) for photo in photos]
    field, origin, spacing = hull.carve_field(alphas, camera_far(cameras), 32)
    shown = views_.crop_views(photos, camera_far(cameras), 96)
    others = views_.neighbours(shown, np.zeros(3), 6)[2]
    M, m = views_.homographies(shown, 2, others)
    low, high, surface = views_.hull_bounds(shown, 2, field, origin, spacing)
    return shown, others, M, m, low, high, surface, spacing


def camera_far(cameras):
    """Twice as far away, as the ball has a radius of 1."""
    T = cameras.T_world_cam.clone()
    T[:, :3, 3] *= 2
    return type(cameras)(T, cameras.intrinsics, cameras.sizes)


def searched(kernels, prepared, give) -> tuple[np.ndarray, np.ndarray]:
    """Planes and costs after a start, some passes, and the comparison with the hull."""
    shown, others, M, m, low, high, surface, spacing = prepared
    plane, cost = give(np.zeros((*low.shape, 3), np.float32)), give(np.full(low.shape, 2, np.float32))
    compared = give(shown.greys), give(shown.masks), 2, give(others), give(M), give(m)
    kernels.start(*compared, give(low), give(high), plane, cost, 12, 5)
    for k in range(PASSES):
        for colour in (0, 1):
            kernels.improve(*compared, give(low), give(high), plane, cost, colour, np.float32(0.5**k), 2 * k + colour)
    hull_planes = search.hull_planes(surface)
    kernels.prefer_hull(
        *compared, give(hull_planes), give(np.float32(spacing) * surface**2), search.LEAST_GAIN, plane, cost
    )
    return np.asarray(torch.as_tensor(plane).cpu()), np.asarray(torch.as_tensor(cost).cpu())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_both_kernels_find_the_same_planes(prepared, device):
    planes, costs = searched(patchmatch, prepared, np.copy)
    others, other_costs = searched(patchmatch_torch, prepared, lambda a: torch.from_numpy(a.copy()).to(device))
    asked = prepared[0].masks[2] & (prepared[5] > 0)
    assert asked.sum() > 2000 and costs[asked].mean() < 0.3
    assert (np.abs(costs - other_costs)[asked] < 1e-3).mean() > 0.99
    share = np.abs(planes[..., 0] / np.where(asked, others[..., 0], 1) - 1)[asked]
    assert (share < 1e-3).mean() > 0.99


def test_a_pixel_that_the_hull_does_not_reach_has_no_plane(prepared):
    planes, costs = searched(patchmatch_torch, prepared, lambda a: torch.from_numpy(a.copy()))
    outside = ~prepared[0].masks[2]
    assert (planes[outside] == 0).all() and (costs[outside] == patchmatch.WORST).all()
