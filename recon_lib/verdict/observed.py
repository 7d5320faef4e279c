"""Which part of a mesh's surface photos show, and which part is invented; and where the mesh differs from its photos.

A photo sees a face that it shows at less than 80 degrees from its normal (`coarse.visibility`). Only photos that the mesh was
made of count: what only a held-out photo shows is a guess of the mesh. Sides are those of the canonical views, up upwards; a
face belongs to the side to which its normal is nearest. Axes: F faces, H W texels.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from recon_lib import camera, frames, render
from recon_lib.camera import Cameras
from recon_lib.coarse import visibility
from recon_lib.mesh import Mesh, face_areas, face_normals
from recon_lib.progress import Progress, silent
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import uv
from recon_lib.verdict.images import ERROR_SHOWN, Comparison

MOST_PIXELS = 1024  # along a side of the pictures in which faces are looked for
# The classes by number of photos, in colours by Okabe and Ito.
COLOURS = {"no photo": "#D55E00", "1 photo": "#F0E442", "2 photos": "#56B4E9", "3 photos or more": "#0072B2"}
CLASSES = tuple(COLOURS)
UNKNOWN = "#999999"  # of the error, where no compared photo shows the face
SIDES = tuple(camera.CANONICAL_VIEWS)
SLANTED_DEGREES = 60  # a face whose best photo looks at it from farther beside its normal is told
WRONG = 0.1  # sRGB; a face of more error is told


class Observed(NamedTuple):
    """What photos say about each face of a mesh."""

    photos: Int[np.ndarray, " F"]  # that see it
    angle_degrees: Float[np.ndarray, " F"]  # from its normal to the photo that sees it best; NaN where none does
    error: Float[
        np.ndarray, " F"
    ]  # mean absolute difference in the compared photos, sRGB, 0 to 1; NaN where none shows it
    area: Float[np.ndarray, " F"]
    side: Int[np.ndarray, " F"]  # index into SIDES

    def shares(self) -> dict[str, float]:
        """Of the surface's area, by class; their sum is 1."""
        total = np.bincount(np.minimum(self.photos, 3), weights=self.area, minlength=len(CLASSES)) / self.area.sum()
        return dict(zip(CLASSES, total.tolist(), strict=True))

    def unseen_side(self) -> tuple[str, float]:
        """The side with most of the unseen area, and its share of that area; ("", 0) where photos show all."""
        unseen = self.photos == 0
        if not self.area[unseen].sum() > 0:
            return "", 0.0
        by_side = np.bincount(self.side[unseen], weights=self.area[unseen], minlength=len(SIDES))
        return SIDES[by_side.argmax()], float(by_side.max() / by_side.sum())

    def slanted(self) -> float:
        """Share of the area that photos see, but all of them at more than SLANTED_DEGREES from its normal."""
        return float(self.area[self.angle_degrees > SLANTED_DEGREES].sum() / self.area.sum())

    def wrong(self) -> float | None:
        """Share of the area that compared photos show whose error is above WRONG; None where they show none."""
        known = np.isfinite(self.error)
        if not self.area[known].sum() > 0:
            return None
        return float(self.area[self.error > WRONG].sum() / self.area[known].sum())

    def record(self) -> dict:
        """What verdict.json says of it."""
        seen = np.isfinite(self.angle_degrees)
        side, share = self.unseen_side()
        mean = np.average(self.angle_degrees[seen], weights=self.area[seen]) if seen.any() else None
        return {
            "shares": self.shares(),
            "mean_angle_degrees": None if mean is None else float(mean),
            "unseen_side": side,
            "unseen_side_share": share,
        }


def observe(
    mesh: Mesh, used: Cameras, compared: Iterable[Comparison], up: np.ndarray, raster: Rasteriser,
    progress: Progress = silent,
) -> Observed:  # fmt: skip
    """Looks at every face from the cameras of the used photos, and collects the errors of the compared views on it."""
    size = int(np.clip(np.sqrt(8 * len(mesh.faces)), visibility.SIZE, MOST_PIXELS))
    photos, best = np.zeros(len(mesh.faces), np.int64), np.full(len(mesh.faces), -1.0)
    for i, cosine in enumerate(visibility.facing(mesh, used, size)):
        photos += cosine > visibility.EDGE_ON
        best = np.maximum(best, cosine)
        progress((i + 1) / len(used), "what photos show")
    best = np.where(photos > 0, best, np.nan)
    turned = face_normals(mesh.verts, mesh.faces).double().numpy() @ frames.up_to_y(up)[:3, :3].T
    towards = np.array([direction for direction, _ in camera.CANONICAL_VIEWS.values()])
    return Observed(
        photos, np.degrees(np.arccos(best.clip(-1, 1))), _errors(mesh, compared, raster),
        np.nan_to_num(face_areas(mesh.verts, mesh.faces).double().numpy()), (turned @ towards.T).argmax(1),
    )  # fmt: skip


def _errors(mesh: Mesh, compared: Iterable[Comparison], raster: Rasteriser) -> Float[np.ndarray, " F"]:
    total, pixels = np.zeros(len(mesh.faces) + 1), np.zeros(len(mesh.faces) + 1)
    for view in compared:
        seen = render.views(view.view, mesh.verts)
        pos = render.clip_positions(mesh.verts, seen)
        rast, _ = raster.rasterize(pos, mesh.faces, (seen.height, seen.width), grad_db=False)
        face = rast[0, ..., 3].long().numpy().ravel()
        total += np.bincount(face, weights=view.error.ravel(), minlength=len(total))
        pixels += np.bincount(face, minlength=len(total))
    return np.where(pixels > 0, total / np.maximum(pixels, 1), np.nan)[1:]


def colours_of_photos(found: Observed) -> UInt8[np.ndarray, "F 3"]:
    """The colour of each face's class."""
    table = (np.array([to_rgb(colour) for colour in COLOURS.values()]) * 255).round().astype(np.uint8)
    return table[np.minimum(found.photos, 3)]


def colours_of_angle(found: Observed) -> UInt8[np.ndarray, "F 3"]:
    """The colour of each face's angle to its best photo: yellow for 0, dark violet edge-on, grey where no photo sees it."""
    return _with_unknown("viridis", 1 - found.angle_degrees / visibility.EDGE_ON_DEGREES)


def colours_of_error(found: Observed) -> UInt8[np.ndarray, "F 3"]:
    """The colour of each face's error: as in the error pictures, and grey where it is unknown."""
    return _with_unknown("inferno", found.error / ERROR_SHOWN)


def _with_unknown(colormap: str, values: Float[np.ndarray, " F"]) -> UInt8[np.ndarray, "F 3"]:
    """Colours of values from 0 to 1; those that are NaN are grey."""
    known = np.isfinite(values)
    shown = colormaps[colormap](np.where(known, values, 0).clip(0, 1))[:, :3]
    shown[~known] = to_rgb(UNKNOWN)
    return (shown * 255).round().astype(np.uint8)


def in_texture(mesh: Mesh, of_face: UInt8[np.ndarray, "F 3"], raster: Rasteriser) -> UInt8[np.ndarray, "H W 3"]:
    """A picture in the mesh's texture coordinates in which each texel has the colour of its face."""
    shape = mesh.texture.shape[0], mesh.texture.shape[1]
    face = uv.atlas_raster(mesh.uvs, mesh.uv_faces, shape, raster)[0, ..., 3].long()
    texels = torch.from_numpy(of_face).float()[(face - 1).clamp_min(0)]
    return uv.dilate(texels, face > 0).byte().numpy()
