"""Compares images of a mesh with photos, by the scores that the verdict uses.

Photo and rendering are area means over the cells of a box around the object (`box`), in which its true mask is at most 512
pixels long; composited on white, sRGB, 0 to 1. A mask is alpha > 0.5. The scores that decide are taken inside the union of the
true and the rendered mask, because a white background raises scores: over the whole image, a blank picture already has an SSIM
of 0.7. Scores of the full frame are those of the whole photo at the same scale, whose part outside of the box is taken as white
in both pictures: there no error is, and SSIM is 1. PSNR is in dB for a data range of 1. SSIM is the mean of scikit-image's
default map (7 x 7 uniform window; Wang et al. 2004). FLIP is the mean over the union of the map of what eyes see when they flip
between two pictures, at 67 pixels per degree (Andersson et al. 2020); 0 is the same. Axes: H W pixels.
"""

from typing import NamedTuple

import flip_evaluator
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
from recon_lib.verdict import box
from recon_lib.verdict.box import Box

RIM = 5  # pixels, width of the rim inside the true mask
ERROR_SHOWN = 0.3  # absolute difference that has the brightest colour in error pictures


class Score(NamedTuple):
    """How well one image of the mesh matches its photo."""

    psnr_db: float  # inside the union of the masks
    ssim: float  # inside the union of the masks
    psnr_full_db: float  # over the whole photo
    ssim_full: float  # over the whole photo
    mask_iou: float  # overlap of the masks, 0 to 1
    psnr_inside_db: float  # farther than RIM pixels inside the true mask: colour and shape, not the outline
    psnr_rim_db: float  # the rest of the union: mostly the outline
    flip: float  # inside the union of the masks, 0 (the same) to 1


class Comparison(NamedTuple):
    """One photo, the mesh's image from the same camera, and how they differ."""

    score: Score
    photo: Float[np.ndarray, "H W 3"]
    rendered: Float[np.ndarray, "H W 3"]
    error: Float[np.ndarray, "H W"]  # mean absolute difference over the channels, 0 outside the mask
    true_mask: Bool[np.ndarray, "H W"]
    rendered_mask: Bool[np.ndarray, "H W"]
    around: float  # pixels of the photo outside of these pictures, all white
    view: Cameras  # the photo's camera, cut to these pictures


def compare(
    mesh: Mesh, photo: np.ndarray, view: Cameras, raster: Rasteriser, topology: object | None = None
) -> Comparison:
    """Renders the mesh from the photo's camera and scores it in the box around the object.

    `photo` is H W 4 uint8, straight alpha, sRGB; `view` holds its one camera; mesh and camera are in the world.
    `topology` is `raster.topology` of the mesh's faces, which takes longest for a large mesh.
    """
    scored = box.around(photo, mesh, view)
    edges = torch.tensor([scored.edges()])
    cut = camera.cropped(view, edges, scored.width, scored.height)
    rgba = render.photographed(mesh, cut, raster, topology=topology)[0]
    rendered, rendered_mask = render.over_white_srgb(rgba).double().numpy(), (rgba[..., 3] > 0.5).numpy()
    true, true_mask = on_white(photo, scored)
    around = photo[..., 0].size / scored.cell**2 - true_mask.size
    found = score(true, rendered, true_mask, rendered_mask, around)
    error = np.abs(true - rendered).mean(-1) * (true_mask | rendered_mask)
    return Comparison(found, true, rendered, error, true_mask, rendered_mask, around, cut)


def on_white(photo: np.ndarray, cells: Box) -> tuple[Float[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """The photo on white and its mask, both by area means over the cells; `photo` is H W 4 uint8."""
    left, top, right, bottom = cells.edges()
    x, y = int(left), int(top)
    part = photo[y : int(np.ceil(bottom)), x : int(np.ceil(right))]
    alpha = part[..., 3:] / 255
    planes = np.concatenate([part[..., :3] / 255 * alpha + 1 - alpha, alpha], -1).astype(np.float32)
    small = area_means(planes, (left - x, top - y, right - x, bottom - y), cells.width, cells.height)
    return small[..., :3].astype(np.float64), small[..., 3] > 0.5


def score(
    true: Float[np.ndarray, "H W 3"],
    rendered: Float[np.ndarray, "H W 3"],
    true_mask: Bool[np.ndarray, "H W"],
    rendered_mask: Bool[np.ndarray, "H W"],
    around: float = 0.0,
) -> Score:
    """The scores of a rendering against the true picture; both are sRGB on white.

    `around` is how many pixels of the photo lie around these pictures, all white. Where the mask is too thin to have an inside,
    inside and rim are the union.
    """
    union, shared = true_mask | rendered_mask, true_mask & rendered_mask
    _, ssim_map = structural_similarity(true, rendered, data_range=1.0, channel_axis=-1, full=True)
    flip_map = _flip(true, rendered)
    squared, dissimilar, frame = (true - rendered) ** 2, 1 - ssim_map, true_mask.size + around
    inside = ndimage.binary_erosion(true_mask, iterations=RIM)
    inside, rim = (inside, union & ~inside) if inside.any() else (union, union)
    return Score(
        _psnr(squared[union].mean()), float(ssim_map[union].mean()),
        _psnr(squared.mean(-1).sum() / frame), float(1 - dissimilar.mean(-1).sum() / frame),
        float(shared.sum() / union.sum()), _psnr(squared[inside].mean()), _psnr(squared[rim].mean()),
        float(flip_map[union].mean()),
    )  # fmt: skip


def _flip(true: Float[np.ndarray, "H W 3"], rendered: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    pictures = (picture.clip(0, 1).astype(np.float32) for picture in (true, rendered))
    return flip_evaluator.evaluate(*pictures, "LDR", applyMagma=False, computeMeanError=False)[0][..., 0]


def mean_score(scores: list[Score]) -> Score:
    """The mean of each score over the views."""
    return Score(*np.mean(np.array(scores), axis=0).tolist())


def _psnr(mean_squared_error: float) -> float:
    return float(-10 * np.log10(max(mean_squared_error, 1e-10)))


def picture(srgb: Float[np.ndarray, "H W 3"]) -> Image.Image:
    """A photo or a rendering as a picture of 8 bits."""
    return Image.fromarray((srgb.clip(0, 1) * 255).round().astype(np.uint8))


def error_picture(error: Float[np.ndarray, "H W"]) -> Image.Image:
    """The absolute error as a picture: black for 0, light yellow for `ERROR_SHOWN` and more."""
    return Image.fromarray((colormaps["inferno"]((error / ERROR_SHOWN).clip(0, 1))[..., :3] * 255).astype(np.uint8))
