"""The kernels of `patchmatch` in torch, for a GPU: the same planes, costs, order of updates and random numbers.

Results differ from numba's only where rounding turns a comparison. Each function takes what its namesake takes, of several
photos at once: `photos` (B) are their numbers, and what belongs to a photo has a leading axis B. All are tensors on one device;
`plane` and `cost` are changed in place. Axes: N other photos, P pixels (as many as the photo with most has), S samples of a
patch.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon_lib.coarse.stereo import patchmatch as reference

FAR = 7  # pixels to the farthest one that is asked for its plane
RADIUS_FALLS, SLOPES = 0.4, 0.2  # of the random changes, from one to the next, and of the slopes beside the depth


class _Seen(NamedTuple):
    """The other photos of each photo, and the maps into them."""

    greys: Float[Tensor, "BN 1 H W"]
    masks: Bool[Tensor, "B N HW"]  # all false where there is no such photo
    M: Float[Tensor, "B N 3 3"]
    m: Float[Tensor, "B N 3"]


class _Pixels(NamedTuple):
    """The pixels of each photo that are asked; photos with fewer are filled up with their first pixel."""

    photo: Int[Tensor, "B 1"]
    y: Int[Tensor, "B P"]
    x: Int[Tensor, "B P"]
    real: Bool[Tensor, "B P"]

    def of(self, image: Tensor) -> Tensor:
        """B P ..., the values of B H W ... at the pixels."""
        return image[self.photo, self.y, self.x]

    def set(self, image: Tensor, values: Tensor) -> None:
        photo = self.photo.expand(self.y.shape)[self.real]
        image[photo, self.y[self.real], self.x[self.real]] = values[self.real]


class _Patches(NamedTuple):
    """The patches around the pixels of the photos."""

    at: _Pixels
    weights: Float[Tensor, "B P S"]  # bilateral, sum 1
    values: Float[Tensor, "B P S"]  # grey values less their weighted mean
    variance: Float[Tensor, "B P"]


def start(greys, masks, photos, neighbours, M, m, low, high, plane, cost, tries, seed):
    """As `patchmatch.start`."""
    seen = _see(greys, masks, neighbours, M, m)
    cost.fill_(reference.WORST)
    patches = _patches(greys[photos], _pixels(masks[photos] & (high > 0)))
    at = patches.at
    least, most, best_plane = at.of(low), at.of(high), at.of(plane)
    known = best_plane[..., 0] > 0
    best = torch.where(known, _cost(seen, patches, best_plane), 2 * reference.WORST.item())
    best_plane = torch.where(known[..., None], best_plane, torch.zeros_like(best_plane))
    state = _first_state(seed, at, low.shape[2])
    for _ in range(tries):
        state = _random(state)
        depth = least + _uniform(state) * (most - least)
        flat = torch.stack([depth, torch.zeros_like(depth), torch.zeros_like(depth)], -1)
        best, best_plane = _better(best, best_plane, _cost(seen, patches, flat), flat)
    at.set(plane, best_plane)
    at.set(cost, best)


def improve(greys, masks, photos, neighbours, M, m, low, high, plane, cost, colour, radius, seed):
    """As `patchmatch.improve`."""
    seen = _see(greys, masks, neighbours, M, m)
    height, width = low.shape[1:]
    rows, columns = (torch.arange(n, device=low.device) for n in (height, width))
    its_turn = (rows[:, None] + columns) % 2 == colour
    patches = _patches(greys[photos], _pixels(masks[photos] & (high > 0) & its_turn))
    at = patches.at
    least, most, best, best_plane = at.of(low), at.of(high), at.of(cost), at.of(plane)
    around = torch.nn.functional.pad(cost, (FAR,) * 4, value=reference.WORST.item())
    steps = torch.arange(1, FAR + 1, 2, device=low.device)
    for down, along in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        yy, xx = at.y[..., None] + down * steps, at.x[..., None] + along * steps
        cheapest, which = around[at.photo[..., None], yy + FAR, xx + FAR].min(-1)
        y = yy.gather(-1, which[..., None])[..., 0].clamp(0, height - 1)
        x = xx.gather(-1, which[..., None])[..., 0].clamp(0, width - 1)
        w, wx, wy = plane[at.photo, y, x].unbind(-1)
        other = torch.stack([w + wx * (at.x - x) + wy * (at.y - y), wx, wy], -1)
        allowed = (cheapest < reference.WORST.item()) & (other[..., 0] >= least) & (other[..., 0] <= most)
        best, best_plane = _better(best, best_plane, _cost(seen, patches, other), other, allowed)
    state, reach = _first_state(seed, at, width), (most - least) * float(radius)
    for _ in range(3):
        changes = []
        for scale in (1.0, SLOPES, SLOPES):
            state = _random(state)
            changes.append((_uniform(state) - 0.5) * reach * scale)
        other = best_plane + torch.stack(changes, -1)
        reach = reach * RADIUS_FALLS
        allowed = (other[..., 0] >= least) & (other[..., 0] <= most)
        best, best_plane = _better(best, best_plane, _cost(seen, patches, other), other, allowed)
    at.set(plane, best_plane)
    at.set(cost, best)


def prefer_hull(greys, masks, photos, neighbours, M, m, surface, reach, least_gain, plane, cost):
    """As `patchmatch.prefer_hull`."""
    seen = _see(greys, masks, neighbours, M, m)
    close = (plane[..., 0] - surface[..., 0]).abs() <= 6 * reach
    asked = masks[photos] & (surface[..., 0] > 0) & (cost < reference.WORST.item()) & close
    patches = _patches(greys[photos], _pixels(asked))
    at = patches.at
    best_plane = at.of(surface)
    hull, step = best_plane, 0.5 * at.of(reach)
    best = torch.full_like(step, 2 * reference.WORST.item())
    for k in range(-2, 3):
        other = torch.cat([hull[..., :1] + k * step[..., None], hull[..., 1:]], -1)
        best, best_plane = _better(best, best_plane, _cost(seen, patches, other), other)
    wins = best - at.of(cost) < float(least_gain)
    at.set(plane, torch.where(wins[..., None], best_plane, at.of(plane)))
    at.set(cost, torch.where(wins, best, at.of(cost)))


def _see(greys: Tensor, masks: Tensor, neighbours: Tensor, M: Tensor, m: Tensor) -> _Seen:
    """Without the places where no photo has another."""
    neighbours = neighbours[:, : max(int((neighbours >= 0).sum(1).max()), 1)]
    shown = masks[neighbours] & (neighbours >= 0)[..., None, None]
    count = neighbours.shape[1]
    return _Seen(greys[neighbours].flatten(0, 1)[:, None], shown.flatten(2), M[:, :count], m[:, :count])


def _pixels(asked: Bool[Tensor, "B H W"]) -> _Pixels:
    photo, y, x = asked.nonzero().unbind(1)
    counts = asked.sum((1, 2))
    place = torch.arange(len(photo), device=asked.device) - (counts.cumsum(0) - counts)[photo]
    rows, columns = (y.new_zeros(len(asked), int(counts.max())) for _ in range(2))
    rows[photo, place], columns[photo, place] = y, x
    real = torch.arange(rows.shape[1], device=asked.device) < counts[:, None]
    return _Pixels(torch.arange(len(asked), device=asked.device)[:, None], rows, columns, real)


def _patches(greys: Float[Tensor, "B H W"], at: _Pixels) -> _Patches:
    dy, dx = (torch.from_numpy(d).to(greys.device) for d in (reference.DY, reference.DX))
    rows = (at.y[..., None] + dy.long()).clamp(0, greys.shape[1] - 1)
    columns = (at.x[..., None] + dx.long()).clamp(0, greys.shape[2] - 1)
    values = greys[at.photo[..., None], rows, columns]
    far = (dx * dx + dy * dy).sqrt() / float(reference.SIGMA_PIXELS)
    weights = torch.exp(-(values - at.of(greys)[..., None]).abs() / float(reference.SIGMA_GREY) - far)
    weights = weights / weights.sum(-1, keepdim=True)
    values = values - (weights * values).sum(-1, keepdim=True)
    return _Patches(at, weights, values, (weights * values * values).sum(-1))


def _cost(seen: _Seen, patches: _Patches, plane: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P"]:
    """The mean of 1 - ZNCC over the photos that agree best."""
    M, m = seen.M[..., None], seen.m[..., None]
    height, width = seen.greys.shape[2:]
    px, py = patches.at.x[:, None] + 0.5, patches.at.y[:, None] + 0.5
    w, wx, wy = plane[:, None].unbind(-1)
    qx, qy, qz = (M[:, :, k, 0] * px + M[:, :, k, 1] * py + M[:, :, k, 2] + w * m[:, :, k] for k in range(3))
    inverse = 1 / qz.clamp_min(1e-9)
    u, v = qx * inverse, qy * inverse
    inside = (qz > 1e-9) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    row, column = v.clamp(0, height - 1).long(), u.clamp(0, width - 1).long()
    shown = seen.masks.gather(2, row * width + column)
    zx, zy = M[:, :, 2, 0] + wx * m[:, :, 2], M[:, :, 2, 1] + wy * m[:, :, 2]
    ux, uy = (M[:, :, 0, 0] + wx * m[:, :, 0] - u * zx) * inverse, (M[:, :, 0, 1] + wy * m[:, :, 0] - u * zy) * inverse
    vx, vy = (M[:, :, 1, 0] + wx * m[:, :, 1] - v * zx) * inverse, (M[:, :, 1, 1] + wy * m[:, :, 1] - v * zy) * inverse
    dy, dx = (torch.from_numpy(d).to(plane) for d in (reference.DY, reference.DX))
    # In the coordinates of grid_sample the first and last pixel's centres are -1 and 1.
    a = torch.addcmul((2 / (width - 1) * (u - 0.5) - 1)[..., None], ux[..., None], 2 / (width - 1) * dx)
    b = torch.addcmul((2 / (height - 1) * (v - 0.5) - 1)[..., None], vx[..., None], 2 / (height - 1) * dx)
    grid = torch.stack(
        [a.addcmul_(uy[..., None], 2 / (width - 1) * dy), b.addcmul_(vy[..., None], 2 / (height - 1) * dy)], -1
    )
    sampled = torch.nn.functional.grid_sample(seen.greys, grid.flatten(0, 1), padding_mode="border", align_corners=True)
    value = sampled.view(grid.shape[:-1])
    weighted = patches.weights[:, None] * value
    total, product = weighted.sum(-1), (weighted * patches.values[:, None]).sum(-1)
    spread = ((weighted * value).sum(-1) - total * total).clamp_min(0)
    variance = float(reference.VARIANCE)
    costs = 1 - product / ((patches.variance[:, None] + variance) * (spread + variance)).sqrt()
    worst = reference.WORST.item()
    costs = torch.where(inside & shown, costs, worst).clamp_max(worst)
    missing = costs.new_full((len(costs), max(0, reference.BEST - costs.shape[1]), costs.shape[2]), worst)
    return torch.cat([costs, missing], 1).topk(reference.BEST, dim=1, largest=False).values.mean(1)


def _better(
    best: Tensor, best_plane: Tensor, found: Tensor, plane: Tensor, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    wins = found < best if allowed is None else (found < best) & allowed
    return torch.where(wins, found, best), torch.where(wins[..., None], plane, best_plane)


def _first_state(seed: int, at: _Pixels, width: int) -> Int[Tensor, "B P"]:
    return (seed * 7919 + (at.y * width + at.x + 1) * 2654435761) & 0xFFFFFFFF


def _random(state: Int[Tensor, "B P"]) -> Int[Tensor, "B P"]:
    """xorshift32 in 64 bits: the next state."""
    state = state ^ (state << 13 & 0xFFFFFFFF)
    state = state ^ (state >> 17)
    return state ^ (state << 5 & 0xFFFFFFFF)


def _uniform(state: Int[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    return (state >> 8).float() / 16777216
