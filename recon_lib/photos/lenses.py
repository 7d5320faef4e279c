"""COLMAP's camera models as lenses, and what to do with those that are not read."""

from collections.abc import Callable

import numpy as np

from recon_lib.photos.distortion import Distortion
from recon_lib.photos.listing import Lens

UNDISTORT = (
    "; undistort first: `colmap image_undistorter --image_path images --input_path sparse/0 --output_path undistorted`"
)

# COLMAP's parameters, in its order -> the lens
MODELS: dict[str, Callable[..., Lens]] = {
    "SIMPLE_PINHOLE": lambda f, cx, cy: Lens(f, f, cx, cy),
    "PINHOLE": lambda fx, fy, cx, cy: Lens(fx, fy, cx, cy),
    "SIMPLE_RADIAL": lambda f, cx, cy, k: Lens(f, f, cx, cy, distortion=Distortion((k, 0.0))),
    "RADIAL": lambda f, cx, cy, k1, k2: Lens(f, f, cx, cy, distortion=Distortion((k1, k2))),
    "OPENCV": lambda fx, fy, cx, cy, k1, k2, p1, p2: Lens(fx, fy, cx, cy, distortion=Distortion((k1, k2), (p1, p2))),
    "FULL_OPENCV": lambda fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, k5, k6: Lens(
        fx, fy, cx, cy, distortion=Distortion((k1, k2, k3), (p1, p2), (k4, k5, k6))
    ),
    "SIMPLE_FISHEYE": lambda f, cx, cy: Lens(f, f, cx, cy, distortion=Distortion(fisheye=True)),
    "FISHEYE": lambda fx, fy, cx, cy: Lens(fx, fy, cx, cy, distortion=Distortion(fisheye=True)),
    "SIMPLE_RADIAL_FISHEYE": lambda f, cx, cy, k: Lens(f, f, cx, cy, distortion=Distortion((k,), fisheye=True)),
    "RADIAL_FISHEYE": lambda f, cx, cy, k1, k2: Lens(f, f, cx, cy, distortion=Distortion((k1, k2), fisheye=True)),
    "OPENCV_FISHEYE": lambda fx, fy, cx, cy, *k: Lens(fx, fy, cx, cy, distortion=Distortion(k, fisheye=True)),
}

# Fisheye models with tangential and thin-prism terms: where those stand, which must be 0, and where the radial ones stand.
WITH_PRISM = {"THIN_PRISM_FISHEYE": (6, 7, 10, 11), "RAD_TAN_THIN_PRISM_FISHEYE": (10, 11, 12, 13, 14, 15)}
RADIAL_OF = {"THIN_PRISM_FISHEYE": (4, 5, 8, 9), "RAD_TAN_THIN_PRISM_FISHEYE": (4, 5, 6, 7, 8, 9)}


def of_colmap(model: str, parameters: tuple[float, ...]) -> Lens:
    """The lens. Raises ValueError, "field: got X, needed Y", for another model and for impossible numbers."""
    if not np.isfinite(parameters).all() or max(map(abs, parameters)) > 1e30:
        raise ValueError(f"camera: got parameters {list(parameters)}, needed finite ones and a positive focal length")
    if model in WITH_PRISM and not any(parameters[i] for i in WITH_PRISM[model]):
        lens = MODELS["OPENCV_FISHEYE"](*parameters[:4], *(parameters[i] for i in RADIAL_OF[model]))
    elif model in MODELS:
        lens = MODELS[model](*parameters)
    else:
        raise ValueError(f"camera model: got {model}, needed one of {', '.join(MODELS)}{UNDISTORT}")
    if min(lens.fx, lens.fy) <= 0:
        raise ValueError(f"camera: got parameters {list(parameters)}, needed finite ones and a positive focal length")
    return lens
