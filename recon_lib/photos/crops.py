"""Photos as the fit takes them: crops around the object, all of one square size, in linear light, premultiplied by alpha.

A crop holds area means of the photo's pixels, taken in linear light; its camera sees exactly the same rectangle. The rectangle
is cut at the photo's border, so the crop may be stretched; the camera's two focal lengths account for that. Axes: B photos.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import camera, colour
from recon_lib.camera import Cameras
from recon_lib.photos import framing
from recon_lib.photos.resample import area_means, area_means_on_device
from recon_lib.progress import Progress, silent

MARGIN = 0.1  # margin on each side of the object, as a share of its extent in the photo
MULTIPLE = 8  # of this many pixels is `own_size`, so that crops can be halved three times


@dataclass(frozen=True, eq=False)
class Photos:
    """Crops of photos with their cameras."""

    rgba: Float[Tensor, "B H W 4"]  # premultiplied, linear
    cameras: Cameras


def crop_photos(
    images: tuple[np.ndarray, ...], cameras: Cameras, size: int, progress: Progress = silent, device: str = "cpu"
) -> Photos:
    """Crops `images` (H W 4 uint8, straight alpha, sRGB) to `size` x `size` pixels each, on a torch device.

    On the CPU sums are float64 and in one fixed order; elsewhere they are the device's own.
    """
    boxes = torch.tensor([framing.square_box(image[..., 3] / 255, MARGIN) for image in images])
    on_device = camera.on_device(camera.cropped(cameras, boxes, size, size), device)
    if device != "cpu":
        return Photos(crops_on_device(images, boxes.tolist(), size, device), on_device)
    crops = []
    with ThreadPoolExecutor() as pool:
        for crop in pool.map(_crop, images, boxes.tolist(), [size] * len(images)):
            crops.append(crop)
            progress(len(crops) / len(images), "cropping photos")
    return Photos(torch.stack(crops), on_device)


def crops_on_device(
    images: Sequence[np.ndarray], boxes: list[list[float]], size: int, device: str
) -> Float[Tensor, "B {size} {size} 4"]:
    """The parts of the images in their boxes (left, top, right, bottom), premultiplied and linear."""
    table, out = colour.linear_table().to(device), torch.empty(len(images), size, size, 4, device=device)
    for i, (image, (left, top, right, bottom)) in enumerate(zip(images, boxes, strict=True)):
        x, y = int(left), int(top)
        part = torch.from_numpy(image[y : int(np.ceil(bottom)), x : int(np.ceil(right))]).to(device)
        alpha = part[..., 3:].float() / 255
        rgba = torch.cat([table[part[..., :3].long()] * alpha, alpha], -1)
        out[i] = area_means_on_device(rgba, (left - x, top - y, right - x, bottom - y), size, size)
    return out


def shrink(photos: Photos, times: int) -> Photos:
    """The photos as means over squares of `times` x `times` pixels."""
    if times == 1:
        return photos
    small = torch.nn.functional.avg_pool2d(photos.rgba.permute(0, 3, 1, 2), times).permute(0, 2, 3, 1).contiguous()
    height, width = small.shape[1:3]
    old = photos.cameras.sizes
    whole = torch.cat([torch.zeros_like(old), old], 1).float()
    return Photos(small, camera.cropped(photos.cameras, whole, width, height))


def own_size(images: tuple[np.ndarray, ...]) -> int:
    """Pixels along a side of most crops in the photos themselves, rounded up to a multiple of MULTIPLE."""
    boxes = np.array([framing.square_box(image[..., 3] / 255, MARGIN) for image in images])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    return int(np.ceil(np.median(sides) / MULTIPLE)) * MULTIPLE


def _crop(image: np.ndarray, box: list[float], size: int) -> Tensor:
    left, top, right, bottom = box
    x, y = int(left), int(top)
    part = image[y : int(np.ceil(bottom)), x : int(np.ceil(right))]
    alpha = torch.from_numpy(part[..., 3:].astype(np.float32)) / 255
    rgba = torch.cat([colour.linear_of_bytes(part[..., :3]) * alpha, alpha], -1).numpy()
    return torch.from_numpy(area_means(rgba, (left - x, top - y, right - x, bottom - y), size, size))
