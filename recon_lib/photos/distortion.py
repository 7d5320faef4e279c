"""Removes lens distortion: a photo through a Brown lens becomes the pinhole photo with the same intrinsics.

The model is OpenCV's: with normalised pinhole coordinates (x right, y down) and r² = x² + y², x_d = x (1 + k1 r² + k2
r⁴) + 2 p1 x y + p2 (r² + 2 x²), and likewise for y. Coefficients are (k1, k2, p1, p2). Pixel centres lie at +0.5. Axes:
N points, H W top row first.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8

Coefficients = tuple[float, float, float, float]
NONE: Coefficients = (0.0, 0.0, 0.0, 0.0)


def distort(
    x: Float[np.ndarray, "H W"], y: Float[np.ndarray, "H W"], coefficients: Coefficients
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Where the lens shows the pinhole points (x, y); all are normalised coordinates."""
    k1, k2, p1, p2 = coefficients
    xy, r2 = x * y, x * x + y * y
    radial = 1 + r2 * (k1 + k2 * r2)
    return (
        x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x),
        y * radial + 2 * p2 * xy + p1 * (r2 + 2 * y * y),
    )


def largest_r2(coefficients: Coefficients) -> float:
    """The r² beyond which the radial polynomial folds back, so that two pinhole points share one pixel; infinity if never."""
    k1, k2 = coefficients[:2]
    # d/dr of r (1 + k1 r² + k2 r⁴) is 1 + 3 k1 s + 5 k2 s² with s = r²
    roots = np.roots([5 * k2, 3 * k1, 1])
    return min((float(root.real) for root in roots if abs(root.imag) < 1e-12 and root.real > 0), default=np.inf)


def undistort(
    rgba: UInt8[np.ndarray, "H W 4"], intrinsics: tuple[float, float, float, float], coefficients: Coefficients
) -> UInt8[np.ndarray, "H W 4"]:
    """The pinhole photo, interpolated bilinearly; alpha is 0 where the lens saw nothing. `intrinsics`: fx fy cx cy, pixels."""
    height, width = rgba.shape[:2]
    fx, fy, cx, cy = intrinsics
    x, y = np.meshgrid(
        ((np.arange(width) + 0.5 - cx) / fx).astype(np.float32),
        ((np.arange(height) + 0.5 - cy) / fy).astype(np.float32),
    )
    x_lens, y_lens = distort(x, y, coefficients)
    # the same place as a fraction of the image, -1 to 1 from edge to edge
    grid = np.stack([(x_lens * fx + cx) * (2 / width) - 1, (y_lens * fy + cy) * (2 / height) - 1], -1)
    seen = (np.abs(grid) <= 1).all(-1) & (x * x + y * y < largest_r2(coefficients))

    # Colours are weighted by alpha; otherwise the black behind a cut-out object would bleed into its rim.
    pixels = rgba.transpose(2, 0, 1).astype(np.float32)
    layers = np.concatenate([pixels[:3] * pixels[3:], pixels])
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(layers)[None], torch.from_numpy(grid)[None], "bilinear", "border", align_corners=False
    )[0].numpy()
    weighed, plain, alpha = sampled[:3], sampled[3:6], sampled[6:]
    colour = np.where(alpha > 0.5, weighed / np.maximum(alpha, 0.5), plain)
    out = np.concatenate([colour, alpha * seen])
    return np.ascontiguousarray(np.rint(out).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
