"""The part of a photo in which a mesh is scored, so that no score depends on how much of the frame the object fills.

The box holds the object's true mask and the mesh's silhouette, with a margin, as far as the photo reaches. It is divided into
square cells, which become the pixels that are compared: one photo pixel each, or larger where the mask is longer than LONG_SIDE
pixels, so that it is LONG_SIDE cells long then. The cells' size and position come from the true mask alone. So all meshes are
compared with one photo at one resolution, and an empty border around the photo changes nothing. A photo is never enlarged: that
would compare the mesh with pixels that no camera saw. Boxes are in pixels from the photo's top-left corner; x right, y down.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from recon_lib import camera
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh
from recon_lib.photos import framing

LONG_SIDE = 512  # cells along the longer side of the true mask at most
MARGIN = 8  # cells around mask and silhouette: more than the window of SSIM reaches out of them


class Box(NamedTuple):
    """A grid of square cells on a photo."""

    left: float
    top: float
    cell: float  # photo pixels along a side of each cell, at least 1
    width: int  # cells
    height: int

    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels of the photo."""
        return self.left, self.top, self.left + self.cell * self.width, self.top + self.cell * self.height


def around(photo: UInt8[np.ndarray, "H W 4"], mesh: Mesh, view: Cameras) -> Box:
    """The box of one photo, in which some pixel must have an alpha > 0.5; `view` holds its one camera, mesh in the world."""
    true = framing.mask_box(photo[..., 3] / 255)
    cell = max(1.0, (true[2:] - true[:2]).max() / LONG_SIDE)
    frame = np.array([0.0, 0.0, *photo.shape[1::-1]])
    both = np.stack([true, _silhouette_box(mesh, view, frame)])
    low = np.floor((both[:, :2].min(0) - true[:2]) / cell).astype(int) - MARGIN
    high = np.ceil((both[:, 2:].max(0) - true[:2]) / cell).astype(int) + MARGIN
    # Cells that reach out of the photo are left out: what lies there is unknown.
    low = np.maximum(low, np.ceil(-true[:2] / cell).astype(int))
    high = np.minimum(high, np.floor((frame[2:] - true[:2]) / cell).astype(int))
    left, top = (true[:2] + cell * low).tolist()
    width, height = np.maximum(high - low, 1).tolist()
    return Box(left, top, float(cell), width, height)


def _silhouette_box(mesh: Mesh, view: Cameras, frame: np.ndarray) -> np.ndarray:
    """The box of the mesh's vertices in the photo, cut at its frame; the frame if one is behind the camera or none finite."""
    verts = mesh.verts[mesh.faces.long().unique()]
    pixels, depth = camera.project(view, verts[verts.isfinite().all(-1)])
    if depth.numel() == 0 or (depth <= 0).any():
        return frame
    xy = pixels[0].double().numpy().clip(frame[:2], frame[2:])
    return np.concatenate([xy.min(0), xy.max(0)])
