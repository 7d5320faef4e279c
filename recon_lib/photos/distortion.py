"""Lens distortion: where a lens shows a point that a pinhole camera of the same intrinsics shows elsewhere.

Points are normalised pinhole coordinates (x right, y down), r² = x² + y². A Brown lens is OpenCV's: with
q = (1 + k1 r² + k2 r⁴ + …) / (1 + k4 r² + k5 r⁴ + k6 r⁶), x_d = x q + 2 p1 x y + p2 (r² + 2 x²), and likewise for y; the upper
polynomial may have any degree. A fisheye lens is OpenCV's too: x_d = x θ (1 + k1 θ² + k2 θ⁴ + …) / r with θ = atan r. Pixel
centres lie at +0.5. Axes: N points, H W top row first.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

DIRECTIONS, STEPS = 64, 256  # of the search for a fold, around the principal point and outwards


@dataclass(frozen=True)
class Distortion:
    """The coefficients of a lens."""

    radial: tuple[float, ...] = ()  # k1, k2, k3, … of r², r⁴, r⁶, …; of θ², θ⁴, … for a fisheye lens
    tangential: tuple[float, float] = (0.0, 0.0)  # p1, p2
    denominator: tuple[float, ...] = ()  # OpenCV's k4, k5, k6
    fisheye: bool = False

    @property
    def is_none(self) -> bool:
        """Whether the lens is a pinhole."""
        return not self.fisheye and not any((*self.radial, *self.tangential, *self.denominator))


NONE = Distortion()


def distort(
    x: Float[np.ndarray, "H W"], y: Float[np.ndarray, "H W"], lens: Distortion
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Where the lens shows the pinhole points (x, y); all are normalised coordinates."""
    xy, r2 = x * y, x * x + y * y
    if lens.fisheye:
        r = np.sqrt(r2)
        angle = np.arctan(r)
        factor = np.where(r > 1e-8, angle / np.maximum(r, 1e-8), 1) * _polynomial(angle * angle, lens.radial)
        return x * factor, y * factor
    radial = _polynomial(r2, lens.radial)
    if any(lens.denominator):
        radial = radial / _polynomial(r2, lens.denominator)
    p1, p2 = lens.tangential
    return (
        x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x),
        y * radial + 2 * p2 * xy + p1 * (r2 + 2 * y * y),
    )


def largest_r2(lens: Distortion) -> float:
    """The r² beyond which the radial polynomial folds back, so that two pinhole points share one pixel; infinity if never."""
    above = np.poly1d([*lens.radial[::-1], 1.0])
    below = np.poly1d([*lens.denominator[::-1], 1.0])
    s = np.poly1d([1.0, 0.0])
    # d/dr of r N(s) / D(s), with s = r², has the sign of (N + 2 s N') D - 2 s N D'
    slope = (above + 2 * s * above.deriv()) * below - 2 * s * above * below.deriv()
    roots = [*np.roots(slope.coeffs), *np.roots(below.coeffs)]
    least = min((float(root.real) for root in roots if abs(root.imag) < 1e-12 and root.real > 0), default=np.inf)
    if not lens.fisheye:
        return least
    return float(np.tan(np.sqrt(least)) ** 2) if np.sqrt(least) < np.pi / 2 else np.inf


def folds(lens: Distortion, intrinsics: tuple[float, float, float, float], width: int, height: int) -> bool:
    """Whether the lens shows two pinhole points at one place in the largest ellipse that fits into the photo."""
    fx, fy, cx, cy = intrinsics
    reach = np.hypot(max(cx, width - cx) / fx, max(cy, height - cy) / fy)
    r = np.linspace(0, 3 * reach, STEPS + 1)[1:, None]
    turn = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    u, v = distort(r * np.cos(turn), r * np.sin(turn), lens)
    outwards = np.gradient(u, axis=0), np.gradient(v, axis=0)
    around = np.roll(u, -1, 1) - np.roll(u, 1, 1), np.roll(v, -1, 1) - np.roll(v, 1, 1)
    folded = outwards[0] * around[1] - outwards[1] * around[0] <= 0
    column = np.abs(u * fx + cx - width / 2) / (width / 2)
    row = np.abs(v * fy + cy - height / 2) / (height / 2)
    inside = np.hypot(column, row) < 1
    before = np.cumsum(~inside, axis=0) == 0  # the ray has not left the ellipse yet
    return bool((folded & before).any())


def _polynomial(s: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """1 + k1 s + k2 s² + …"""
    total = 0.0 * s if not coefficients else coefficients[-1] + 0.0 * s
    for k in coefficients[-2::-1]:
        total = k + s * total
    return 1 + s * total
