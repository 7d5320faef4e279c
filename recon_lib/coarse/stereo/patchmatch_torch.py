"""The kernels of `patchmatch` in torch, for a GPU: the same planes, costs, order of updates and random numbers.

Results differ from numba's only where rounding turns a comparison. Each function takes what its namesake takes, as tensors on
one device, and changes `plane` and `cost` in place. Axes: N other photos, P pixels, S samples of a patch.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib.coarse.stereo import patchmatch as reference

FAR = 7  # pixels to the farthest one that is asked for its plane
RADIUS_FALLS, SLOPES = 0.4, 0.2  # of the random changes, from one to the next, and of the slopes beside the depth


class _Seen(NamedTuple):
    """The other photos of one photo, and the maps into them."""

    greys: Float[Tensor, "N 1 H W"]
    masks: Float[Tensor, "N H W"]
    M: Float[Tensor, "N 3 3"]
    m: Float[Tensor, "N 3"]


class _Patches(NamedTuple):
    """The patches around some pixels of the photo."""

    y: Int[Tensor, " P"]
    x: Int[Tensor, " P"]
    weights: Float[Tensor, "P S"]  # bilateral, sum 1
    values: Float[Tensor, "P S"]  # grey values less their weighted mean
    variance: Float[Tensor, " P"]


def start(greys, masks, i, neighbours, M, m, low, high, plane, cost, tries, seed):
    """As `patchmatch.start`."""
    seen = _see(greys, masks, neighbours, M, m)
    cost.fill_(reference.WORST)
    patches = _patches(greys[i], *(masks[i] & (high > 0)).nonzero().unbind(1))
    y, x = patches.y, patches.x
    best_plane = plane[y, x]
    known = best_plane[:, 0] > 0
    best = torch.where(known, _cost(seen, patches, best_plane), 2 * reference.WORST.item())
    best_plane = torch.where(known[:, None], best_plane, torch.zeros_like(best_plane))
    state = _first_state(seed, y, x, low.shape[1])
    for _ in range(tries):
        state = _random(state)
        depth = low[y, x] + _uniform(state) * (high[y, x] - low[y, x])
        flat = torch.stack([depth, torch.zeros_like(depth), torch.zeros_like(depth)], -1)
        best, best_plane = _better(best, best_plane, _cost(seen, patches, flat), flat)
    plane[y, x], cost[y, x] = best_plane, best


def improve(greys, masks, i, neighbours, M, m, low, high, plane, cost, colour, radius, seed):
    """As `patchmatch.improve`."""
    seen = _see(greys, masks, neighbours, M, m)
    rows, columns = (torch.arange(n, device=low.device) for n in low.shape)
    its_turn = (rows[:, None] + columns) % 2 == colour
    patches = _patches(greys[i], *(masks[i] & (high > 0) & its_turn).nonzero().unbind(1))
    y, x = patches.y, patches.x
    least, most = low[y, x], high[y, x]
    best, best_plane = cost[y, x], plane[y, x]
    around = torch.nn.functional.pad(cost, (FAR,) * 4, value=reference.WORST.item())
    steps = torch.arange(1, FAR + 1, 2, device=low.device)
    for down, along in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        yy, xx = y[:, None] + down * steps, x[:, None] + along * steps
        costs = around[yy + FAR, xx + FAR]
        cheapest, which = costs.min(1)
        at_y = yy.gather(1, which[:, None])[:, 0].clamp(0, low.shape[0] - 1)
        at_x = xx.gather(1, which[:, None])[:, 0].clamp(0, low.shape[1] - 1)
        w, wx, wy = plane[at_y, at_x].unbind(-1)
        other = torch.stack([w + wx * (x - at_x) + wy * (y - at_y), wx, wy], -1)
        allowed = (cheapest < reference.WORST.item()) & (other[:, 0] >= least) & (other[:, 0] <= most)
        best, best_plane = _better(best, best_plane, _cost(seen, patches, other), other, allowed)
    state, reach = _first_state(seed, y, x, low.shape[1]), (most - least) * float(radius)
    for _ in range(3):
        changes = []
        for scale in (1.0, SLOPES, SLOPES):
            state = _random(state)
            changes.append((_uniform(state) - 0.5) * reach * scale)
        other = best_plane + torch.stack(changes, -1)
        reach = reach * RADIUS_FALLS
        allowed = (other[:, 0] >= least) & (other[:, 0] <= most)
        best, best_plane = _better(best, best_plane, _cost(seen, patches, other), other, allowed)
    plane[y, x], cost[y, x] = best_plane, best


def prefer_hull(greys, masks, i, neighbours, M, m, surface, reach, least_gain, plane, cost):
    """As `patchmatch.prefer_hull`."""
    seen = _see(greys, masks, neighbours, M, m)
    close = (plane[..., 0] - surface[..., 0]).abs() <= 6 * reach
    asked = masks[i] & (surface[..., 0] > 0) & (cost < reference.WORST.item()) & close
    patches = _patches(greys[i], *asked.nonzero().unbind(1))
    y, x = patches.y, patches.x
    hull = surface[y, x]
    best, best_plane = torch.full_like(hull[:, 0], 2 * reference.WORST.item()), hull
    for k in range(-2, 3):
        other = hull.clone()
        other[:, 0] += 0.5 * k * reach[y, x]
        best, best_plane = _better(best, best_plane, _cost(seen, patches, other), other)
    wins = best - cost[y, x] < float(least_gain)
    plane[y[wins], x[wins]], cost[y[wins], x[wins]] = best_plane[wins], best[wins]


def _see(greys: Tensor, masks: Tensor, neighbours: Tensor, M: Tensor, m: Tensor) -> _Seen:
    there = neighbours >= 0
    return _Seen(greys[neighbours[there]][:, None], masks[neighbours[there]].float(), M[there], m[there])


def _patches(grey: Float[Tensor, "H W"], y: Int[Tensor, " P"], x: Int[Tensor, " P"]) -> _Patches:
    dy, dx = (torch.from_numpy(d).to(grey.device) for d in (reference.DY, reference.DX))
    rows = (y[:, None] + dy.long()).clamp(0, grey.shape[0] - 1)
    columns = (x[:, None] + dx.long()).clamp(0, grey.shape[1] - 1)
    values = grey[rows, columns]
    far = (dx * dx + dy * dy).sqrt() / float(reference.SIGMA_PIXELS)
    weights = torch.exp(-(values - grey[y, x][:, None]).abs() / float(reference.SIGMA_GREY) - far)
    weights = weights / weights.sum(1, keepdim=True)
    values = values - (weights * values).sum(1, keepdim=True)
    return _Patches(y, x, weights, values, (weights * values * values).sum(1))


def _cost(seen: _Seen, patches: _Patches, plane: Float[Tensor, "P 3"]) -> Float[Tensor, " P"]:
    """The mean of 1 - ZNCC over the photos that agree best."""
    M, m = seen.M[..., None], seen.m[..., None]
    height, width = seen.masks.shape[1:]
    px, py = patches.x + 0.5, patches.y + 0.5
    w, wx, wy = plane.unbind(-1)
    qx, qy, qz = (M[:, k, 0] * px + M[:, k, 1] * py + M[:, k, 2] + w * m[:, k] for k in range(3))
    inverse = 1 / qz.clamp_min(1e-9)
    u, v = qx * inverse, qy * inverse
    inside = (qz > 1e-9) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    row, column = v.clamp(0, height - 1).long(), u.clamp(0, width - 1).long()
    shown = seen.masks.flatten(1).gather(1, row * width + column) > 0
    zx, zy = M[:, 2, 0] + wx * m[:, 2], M[:, 2, 1] + wy * m[:, 2]
    ux, uy = (M[:, 0, 0] + wx * m[:, 0] - u * zx) * inverse, (M[:, 0, 1] + wy * m[:, 0] - u * zy) * inverse
    vx, vy = (M[:, 1, 0] + wx * m[:, 1] - v * zx) * inverse, (M[:, 1, 1] + wy * m[:, 1] - v * zy) * inverse
    dy, dx = (torch.from_numpy(d).to(plane) for d in (reference.DY, reference.DX))
    # In the coordinates of grid_sample the first and last pixel's centres are -1 and 1.
    a = torch.addcmul((2 / (width - 1) * (u - 0.5) - 1)[..., None], ux[..., None], 2 / (width - 1) * dx)
    b = torch.addcmul((2 / (height - 1) * (v - 0.5) - 1)[..., None], vx[..., None], 2 / (height - 1) * dx)
    grid = torch.stack(
        [a.addcmul_(uy[..., None], 2 / (width - 1) * dy), b.addcmul_(vy[..., None], 2 / (height - 1) * dy)], -1
    )
    value = torch.nn.functional.grid_sample(seen.greys, grid, padding_mode="border", align_corners=True)[:, 0]
    weighted = patches.weights * value
    total, product = weighted.sum(-1), (weighted * patches.values).sum(-1)
    spread = ((weighted * value).sum(-1) - total * total).clamp_min(0)
    variance = float(reference.VARIANCE)
    costs = 1 - product / ((patches.variance + variance) * (spread + variance)).sqrt()
    worst = reference.WORST.item()
    costs = torch.where(inside & shown, costs, worst).clamp_max(worst)
    missing = costs.new_full((max(0, reference.BEST - len(costs)), costs.shape[1]), worst)
    return torch.cat([costs, missing]).topk(reference.BEST, dim=0, largest=False).values.mean(0)


def _better(
    best: Tensor, best_plane: Tensor, found: Tensor, plane: Tensor, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    wins = found < best if allowed is None else (found < best) & allowed
    return torch.where(wins, found, best), torch.where(wins[:, None], plane, best_plane)


def _first_state(seed: int, y: Tensor, x: Tensor, width: int) -> Int[Tensor, " P"]:
    return (seed * 7919 + (y * width + x + 1) * 2654435761) & 0xFFFFFFFF


def _random(state: Int[Tensor, " P"]) -> Int[Tensor, " P"]:
    """xorshift32 in 64 bits: the next state."""
    state = state ^ (state << 13 & 0xFFFFFFFF)
    state = state ^ (state >> 17)
    return state ^ (state << 5 & 0xFFFFFFFF)


def _uniform(state: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
    return (state >> 8).float() / 16777216
