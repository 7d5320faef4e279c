"""Compares images of a mesh with photos, by the scores that the verdict uses.

Photo and rendering are area means with a long side of at most 512 pixels, composited on white, sRGB, 0 to 1. A mask is alpha >
0.5. The scores that decide are taken inside the union of the true and the rendered mask, because a white background raises
scores: over the whole image, a blank picture already has an SSIM of 0.7. PSNR is in dB for a data range of 1. SSIM is the mean
of scikit-image's default map (7 x 7 uniform window; Wang et al. 2004). Axes: H W pixels.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib import colormaps
from PIL import Image
from scipy import ndimage
from skimage.metrics import structural_similarity

from recon_lib import camera, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh
from recon_lib.photos.resample import area_means
from recon_lib.raster.interface import Rasteriser

LONG_SIDE = 512  # pixels
RIM = 5  # pixels, width of the rim inside the true mask
ERROR_SHOWN = 0.3  # absolute difference that has the brightest colour in error pictures


class Score(NamedTuple):
    """How well one image of the mesh matches its photo."""

    psnr_db: float  # inside the union of the masks
    ssim: float  # inside the union of the masks
    psnr_full_db: float  # over the whole image
    ssim_full: float  # over the whole image
    mask_iou: float  # overlap of the masks, 0 to 1
    psnr_inside_db: float  # farther than RIM pixels inside the true mask: colour and shape, not the outline
    psnr_rim_db: float  # the rest of the union: mostly the outline


class Comparison(NamedTuple):
    """One photo, the mesh's image from the same camera, and how they differ."""

    score: Score
    photo: Float[np.ndarray, "H W 3"]
    rendered: Float[np.ndarray, "H W 3"]
    error: Float[np.ndarray, "H W"]  # mean absolute difference over the channels, 0 outside the mask


def compare(mesh: Mesh, photo: np.ndarray, view: Cameras, raster: Rasteriser) -> Comparison:
    """Renders the mesh from the photo's camera and scores it.

    `photo` is H W 4 uint8, straight alpha, sRGB; `view` holds its one camera; mesh and camera are in the world.
    """
    width, height = view.sizes[0].tolist()
    shrink = min(1.0, LONG_SIDE / max(width, height))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    box = torch.tensor([[0.0, 0.0, width, height]])
    rgba = render.photographed(mesh, camera.cropped(view, box, *size), raster)[0]
    rendered = render.over_white_srgb(rgba).double().numpy()
    true, true_mask = on_white(photo, size)
    mask = true_mask | (rgba[..., 3] > 0.5).numpy()
    return Comparison(score(true, rendered, true_mask, (rgba[..., 3] > 0.5).numpy()), true, rendered,
                      np.abs(true - rendered).mean(-1) * mask)  # fmt: skip


def on_white(photo: np.ndarray, size: tuple[int, int]) -> tuple[Float[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """The photo on white and its mask, both by area means at `size` (width, height); `photo` is H W 4 uint8."""
    alpha = photo[..., 3:] / 255
    planes = np.concatenate([photo[..., :3] / 255 * alpha + 1 - alpha, alpha], -1).astype(np.float32)
    height, width = photo.shape[:2]
    small = area_means(planes, (0.0, 0.0, float(width), float(height)), *size)
    return small[..., :3].astype(np.float64), small[..., 3] > 0.5


def score(
    true: Float[np.ndarray, "H W 3"],
    rendered: Float[np.ndarray, "H W 3"],
    true_mask: Bool[np.ndarray, "H W"],
    rendered_mask: Bool[np.ndarray, "H W"],
) -> Score:
    """The scores of a rendering against the true picture; both are sRGB on white.

    Where the mask is too thin to have an inside, inside and rim are the union.
    """
    union, shared = true_mask | rendered_mask, true_mask & rendered_mask
    ssim_full, ssim_map = structural_similarity(true, rendered, data_range=1.0, channel_axis=-1, full=True)
    squared = (true - rendered) ** 2
    inside = ndimage.binary_erosion(true_mask, iterations=RIM)
    inside, rim = (inside, union & ~inside) if inside.any() else (union, union)
    return Score(
        _psnr(squared[union].mean()), float(ssim_map[union].mean()), _psnr(squared.mean()), float(ssim_full),
        float(shared.sum() / union.sum()), _psnr(squared[inside].mean()), _psnr(squared[rim].mean()),
    )  # fmt: skip


def mean_score(scores: list[Score]) -> Score:
    """The mean of each score over the views."""
    return Score(*np.mean(np.array(scores), axis=0).tolist())


def _psnr(mean_squared_error: float) -> float:
    return float(-10 * np.log10(max(mean_squared_error, 1e-10)))


def error_picture(error: Float[np.ndarray, "H W"]) -> Image.Image:
    """The absolute error as a picture: black for 0, light yellow for `ERROR_SHOWN` and more."""
    return Image.fromarray((colormaps["inferno"]((error / ERROR_SHOWN).clip(0, 1))[..., :3] * 255).astype(np.uint8))
