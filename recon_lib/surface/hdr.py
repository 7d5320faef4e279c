"""Environment light in files: linear Radiance HDR images, latitude-longitude (`shading.cubemap` has the orientation)."""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib.raster import cpu
from recon_lib.shading import cubemap

HEIGHT = 256  # height in pixels of the images that are written
CUBE_SIZE = 32  # default texels along a face of the cube maps that images become


def write_light(path: Path, cube: Float[Tensor, "6 S S 3"], R_file_world: Float[Tensor, "3 3"]) -> None:
    """Writes a cube map, given in the world's frame, as an image in the file's frame. Raises OSError if that fails."""
    to_world = cubemap.latlong_directions(HEIGHT) @ R_file_world
    image = cpu.texture(cube[None], to_world[None], boundary_mode="cube")[0]
    if not cv2.imwrite(str(path), np.ascontiguousarray(image.flip(-1).numpy())):
        raise OSError(f"{path}: could not be written")


def read_light(path: Path, R_world_file: Float[Tensor, "3 3"], size: int = CUBE_SIZE) -> Float[Tensor, "6 S S 3"]:
    """Reads a .hdr image as a cube map in the world's frame, `size` texels along a face.

    Raises ValueError for a file that is no such image, is not twice as wide as high, or has negative or non-finite pixels.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if image is None or image.ndim != 3 or image.dtype != np.float32:
        raise ValueError(f"{path}: got no Radiance HDR colour image, need one (.hdr, latitude-longitude)")
    if image.shape[1] != 2 * image.shape[0]:
        raise ValueError(f"{path}: got {image.shape[1]} x {image.shape[0]} pixels, need a width of twice the height")
    light = torch.from_numpy(np.ascontiguousarray(image[..., 2::-1]))
    if not torch.isfinite(light).all() or (light < 0).any():
        raise ValueError(f"{path}: some pixels are negative or not finite, need radiance")
    return cubemap.turned(cubemap.from_latlong(light, size), R_world_file)
