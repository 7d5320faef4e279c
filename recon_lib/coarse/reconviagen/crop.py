"""Crops photos as upstream takes them, with the object centred in a black square, and converts the crops' cameras back.

A crop is the square around the mask. Unlike upstream's, it is not clamped at the photo's border, so that the object is always
centred; colours are multiplied by alpha. A view's box (x0, y0, x1, y1 in the photo's pixels, may leave the photo) defines the
mapping: crop pixel = (photo pixel - (x0, y0)) * size / (x1 - x0). Axes: B views.
"""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon_lib.camera import Cameras, from_opencv, invert_rigid
from recon_lib.coarse.reconviagen.outcomes import Outcome

EXTENT = 1.1  # side of the square divided by the mask's longer side, as upstream has it


def crop(image: np.ndarray, name: str, size: int) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """The crop, RGB of `size` x `size` pixels, and its box; `image` is H W 4 uint8 with straight alpha.

    Raises Outcome for a photo that is all object or all background; `name` is the photo's, for the message.
    """
    alpha = image[..., 3]
    rows, columns = np.nonzero(alpha > 127)
    if len(rows) == 0 or (alpha > 127).all():
        raise Outcome("photo without a mask", f"{name} is {'all object' if len(rows) else 'all background'}")
    low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
    half = EXTENT * (high - low).max() / 2
    x0, y0, x1, y1 = (float(x) for x in (*((low + high) / 2 - half), *((low + high) / 2 + half)))
    black = Image.fromarray((image[..., :3] * (alpha[..., None] / np.float32(255)) + 0.5).astype(np.uint8))
    # Pixels beyond the photo are black. PIL's transform does not average, so the photo is brought near the size first.
    shrink = max(1, int((x1 - x0) / size))
    near = black.reduce(shrink) if shrink > 1 else black
    a, b, c = (x1 - x0) / size / shrink, x0 / shrink, y0 / shrink
    affine, smooth = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return near.transform((size, size), affine, (a, 0, b, 0, a, c), smooth), (x0, y0, x1, y1)


def uncrop(
    T_cv_world: Float[Tensor, "B 3 4"], K: Float[Tensor, "B 3 3"], boxes: list[tuple], size: int, photo_sizes: Tensor
) -> Cameras:
    """Cameras of the whole photos from the crops' cameras: OpenCV world-to-camera poses and intrinsics in crop pixels.

    `size` is the crops' side in pixels, `photo_sizes` (B 2) the photos' widths and heights. Raises Outcome for cameras that are
    not finite or have no positive focal length.
    """
    T = torch.eye(4, dtype=torch.float64).repeat(len(T_cv_world), 1, 1)
    T[:, :3] = T_cv_world.double().cpu()
    focal = K[:, [0, 1], [0, 1]].double().cpu()
    wrong = ~(torch.isfinite(T).all(-1).all(-1) & torch.isfinite(focal).all(-1) & (focal > 0).all(-1))
    if wrong.any():
        raise Outcome(
            "invalid cameras", f"VGGT's cameras {wrong.nonzero()[:, 0].tolist()} are not finite or see nothing"
        )
    T[:, :3, :3] = _nearest_rotation(T[:, :3, :3])
    box = torch.tensor(boxes, dtype=torch.float64)
    scale = (box[:, 2:] - box[:, :2]) / size
    centre = K[:, :2, 2].double().cpu() * scale + box[:, :2]
    T_world_cam = from_opencv(invert_rigid(T))
    return Cameras(T_world_cam.float(), torch.cat([focal * scale, centre], -1).float(), photo_sizes)


def _nearest_rotation(R: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 3 3"]:
    """The nearest rotations by SVD: a network's rotations are orthonormal only to the precision of its numbers."""
    U, _, Vt = torch.linalg.svd(R)
    sign = torch.linalg.det(U @ Vt)
    U = torch.cat([U[..., :2], U[..., 2:] * sign[:, None, None]], -1)
    return U @ Vt
