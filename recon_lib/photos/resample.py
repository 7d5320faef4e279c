"""Exact area means of a picture over the cells of a grid.

A picture is constant within each pixel: pixel (row i, column j) covers [j, j + 1] x [i, i + 1]. Outside, the border pixels are
repeated, so a constant picture keeps its value to the last bit. A cell's value is the mean over the cell, whether that is
larger or smaller than a pixel: photos are sharp, and interpolating between pixels would blur what is fitted to them.

Products and sums of `area_means` are float64 in one fixed order on one thread. Axes: H W pixels, top row first; C channels.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.sparse import csr_array
from torch import Tensor

BLOCK = 16  # rows of cells per block; only the pixels under one block are held in float64


def area_means(
    planes: Float32[np.ndarray, "H W *C"], box: tuple[float, float, float, float], width: int, height: int
) -> Float32[np.ndarray, "{height} {width} *C"]:
    """Means over `width` x `height` equal cells of `box` (left, top, right, bottom; pixels, fractions and outside allowed)."""
    left, top, right, bottom = box
    assert left < right and top < bottom and width > 0 and height > 0, (box, width, height)
    rows, columns = _weights(planes.shape[0], top, bottom, height), _weights(planes.shape[1], left, right, width)
    out = np.empty((height, width, *planes.shape[2:]), np.float32)
    for start in range(0, height, BLOCK):
        block = rows[start : start + BLOCK]
        first, end = block.indices.min(), block.indices.max() + 1
        under = planes[first:end].astype(np.float64).reshape(end - first, -1)
        means = (block[:, first:end] @ under).reshape(block.shape[0], planes.shape[1], -1)
        means = columns @ np.swapaxes(means, 0, 1).reshape(planes.shape[1], -1)
        out[start : start + BLOCK] = np.swapaxes(means.reshape(width, block.shape[0], *planes.shape[2:]), 0, 1)
    return out


def area_means_on_device(
    planes: Float[Tensor, "H W C"], box: tuple[float, float, float, float], width: int, height: int
) -> Float[Tensor, "{height} {width} C"]:
    """As `area_means`, on the picture's device and in its precision: products with dense matrices, which a GPU is made for."""
    left, top, right, bottom = box
    assert left < right and top < bottom and width > 0 and height > 0, (box, width, height)
    rows = _dense_weights(planes.shape[0], top, bottom, height, planes)
    columns = _dense_weights(planes.shape[1], left, right, width, planes)
    means = rows @ planes.reshape(planes.shape[0], -1)
    return columns @ means.reshape(height, *planes.shape[1:])


def _dense_weights(pixels: int, low: float, high: float, cells: int, like: Tensor) -> Float[Tensor, "{cells} {pixels}"]:
    """`_weights`, made in float64 and as precise as `like`."""
    size, inner = (high - low) / cells, torch.arange(1, pixels, device=like.device, dtype=torch.float64)
    far = inner.new_full((1,), torch.inf)  # a pixel at the border goes on outside
    begin = low + size * torch.arange(cells, device=like.device, dtype=torch.float64)[:, None]
    first, last = torch.cat([-far, inner]), torch.cat([inner, far])
    shared = (torch.minimum(last, begin + size) - torch.maximum(first, begin)).clamp_min(0)
    return (shared / shared.sum(1, keepdim=True)).to(like.dtype)


def _weights(pixels: int, low: float, high: float, cells: int) -> csr_array:
    """The share of each pixel (columns) in the mean of each cell (rows) along one axis; every row sums to 1."""
    size = (high - low) / cells
    begin = low + np.arange(cells) * size
    pixel = np.floor(begin)[:, None] + np.arange(int(np.ceil(size)) + 1)
    shared = np.minimum(pixel + 1, begin[:, None] + size) - np.maximum(pixel, begin[:, None])
    shared = shared.clip(min=0)
    shared /= shared.sum(1, keepdims=True)
    cell, tap = np.nonzero(shared)
    inside = pixel[cell, tap].clip(0, pixels - 1).astype(np.int32)
    return csr_array((shared[cell, tap], (cell, inside)), shape=(cells, pixels))
