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
ASKED = [2, 5]  # numbers of the photos that are searched


@pytest.fixture(scope="module")
def prepared():
    """Photos of a ball at 96 pixels; the neighbours and maps of two of them, and their bounds inside the hull."""
    cameras = around(9)
    photos = photographed(speckled(mesh.icosphere(4)), camera_far(cameras))
    alphas = [photo[..., 3] / np.float32(255) for photo in photos]
    field, origin, spacing = hull.carve_field(alphas, camera_far(cameras), 32)
    shown = views_.crop_views(photos, camera_far(cameras), 96)
    others = views_.neighbours(shown, np.zeros(3), 6)[ASKED]
    others[1, 3:] = -1  # the second photo has fewer than the first
    M, m = (np.stack(a) for a in zip(*map(views_.homographies, [shown] * 2, ASKED, others), strict=True))
    low, high, surface = views_.hull_bounds(shown, field, origin, spacing)[ASKED].transpose(1, 0, 2, 3)
    return shown, others, M, m, low, high, surface, spacing


def camera_far(cameras):
    """Twice as far away, as the ball has a radius of 1."""
    T = cameras.T_world_cam.clone()
    T[:, :3, 3] *= 2
    return type(cameras)(T, cameras.intrinsics, cameras.sizes)


def searched(kernels, compared, inside, hull, found) -> None:
    """Changes planes and costs, `found`, by a start, some passes, and the comparison with the hull."""
    kernels.start(*compared, *inside, *found, 12, 5)
    for k in range(PASSES):
        for colour in (0, 1):
            kernels.improve(*compared, *inside, *found, colour, np.float32(0.5**k), 2 * k + colour)
    kernels.prefer_hull(*compared, *hull, search.LEAST_GAIN, *found)


def searched_by_numba(prepared) -> tuple[np.ndarray, np.ndarray]:
    """Planes and costs, one photo after another."""
    shown, others, M, m, low, high, surface, spacing = prepared
    plane, cost = np.zeros((*low.shape, 3), np.float32), np.full(low.shape, 2, np.float32)
    for b, i in enumerate(ASKED):
        compared = shown.greys, shown.masks, i, others[b], M[b], m[b]
        hull = search.hull_planes(surface[b]), np.float32(spacing) * surface[b] ** 2
        searched(patchmatch, compared, (low[b], high[b]), hull, (plane[b], cost[b]))
    return plane, cost


def searched_by_torch(prepared, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Planes and costs, both photos at once."""
    shown, others, M, m, low, high, surface, spacing = prepared
    give = lambda a: torch.from_numpy(np.array(a)).to(device)  # noqa: E731
    found = give(np.zeros((*low.shape, 3), np.float32)), give(np.full(low.shape, 2, np.float32))
    compared = (*map(give, (shown.greys, shown.masks, ASKED, others, M, m)),)
    hull = give([search.hull_planes(s) for s in surface]), give(np.float32(spacing) * surface**2)
    searched(patchmatch_torch, compared, (give(low), give(high)), hull, found)
    return found[0].cpu().numpy(), found[1].cpu().numpy()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_both_kernels_find_the_same_planes(prepared, device):
    planes, costs = searched_by_numba(prepared)
    others, other_costs = searched_by_torch(prepared, device)
    asked = prepared[0].masks[ASKED] & (prepared[5] > 0)
    assert (asked.sum((1, 2)) > 2000).all() and costs[asked].mean() < 0.3
    share = np.abs(planes[..., 0] / np.where(asked, others[..., 0], 1) - 1)
    for photo in range(2):
        its = asked[photo]
        assert (np.abs(costs - other_costs)[photo][its] < 1e-3).mean() > 0.99
        assert (share[photo][its] < 1e-3).mean() > 0.99


def test_a_pixel_that_the_hull_does_not_reach_has_no_plane(prepared):
    planes, costs = searched_by_torch(prepared, "cpu")
    outside = ~prepared[0].masks[ASKED]
    assert (planes[outside] == 0).all() and (costs[outside] == patchmatch.WORST).all()
