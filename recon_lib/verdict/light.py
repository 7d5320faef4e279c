"""Whether the light turned with the camera: a turntable under fixed lamps, or a lamp on the camera.

The fit takes the light as fixed in the world. If it was not, the photos' brightness differs from the fitted mesh's by a factor
that depends on where the surface faces as the camera sees it. So the logarithm of photo over rendering is regressed on
spherical harmonics of the normal in the camera's frame, up to second order: the irradiance of distant light has next to
nothing above (Ramamoorthi and Hanrahan 2001). The control is the same regression on the normal in the world's frame, with as
many coefficients. Half of the photos give the coefficients, the other half tells which share of the variance they explain, and
the other way round. A photo's own mean is taken out of everything, because exposures may differ. Axes: P pixels, H W pixels.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from recon_lib import camera, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh, vertex_normals
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.progress import Progress, part, silent
from recon_lib.raster.interface import Rasteriser

SIZE = 128  # pixels along a side of the photos' crops
MOST_PHOTOS, FEWEST_PHOTOS = 24, 6  # evenly chosen of all; fewer do not tell
FEWEST_PIXELS = 1000  # in each half of the photos; fewer do not tell
RIM = 3  # pixels next to the outline that are left out: there, shape decides
LEAST_FACING = 0.3  # cosine between normal and view; below, shape and gloss decide
DARKEST, BRIGHTEST = 0.01, 0.9  # linear values of pixels that count: black has no ratio, and clipped white a wrong one
LARGEST = 1.0  # to which a logarithm is cut, so that a shadow or a highlight weighs no more
SMOOTHED = 4.0  # pixels, standard deviation: a texture that is a few pixels off is noise of that size
LEAST_SHARE = 0.1  # of the variance, that a light which turns explains beyond a fixed one
LEAST_SWING = 0.04  # standard deviation of the logarithm of the light


class Turning(NamedTuple):
    """How much of the difference between photos and mesh each kind of light explains, on photos that did not fit it."""

    turning: float  # share of the variance that a light which turns with the camera explains; below 0: worse than none
    fixed: float  # share that another light fixed in the world explains
    swing: float  # standard deviation of the logarithm of the light that turns
    pixels: int  # that were compared; 0: there were too few, and the other values are 0

    @property
    def is_seen(self) -> bool:
        """Whether the light turned with the camera."""
        return self.turning - max(self.fixed, 0.0) >= LEAST_SHARE and self.swing >= LEAST_SWING

    def sentence(self) -> str:
        """What was found, for the notebook."""
        if not self.pixels:
            return "There are too few photos, or too few pixels neither black nor clipped, to tell whether the light turned."
        shares = (
            f"a light that turns with the camera explains {max(self.turning, 0):.0%} of the difference in brightness between "
            f"photos and mesh, one fixed in the world {max(self.fixed, 0):.0%}; the former varies by {self.swing:.1%}"
        )
        return f"The light {'turned' if self.is_seen else 'did not turn'} with the camera: {shares}."


def compare(mesh: Mesh, used: Scene, raster: Rasteriser, progress: Progress = silent) -> Turning:
    """Compares a light that turns with the camera and one that does not; `used` are photos that the mesh was made of.

    Mesh and cameras are in the world. Where photos or pixels are too few to tell, all values are 0.
    """
    nothing = Turning(0.0, 0.0, 0.0, 0)
    chosen = np.unique(np.linspace(0, len(used.names) - 1, min(MOST_PHOTOS, len(used.names))).round().astype(int))
    if len(chosen) < FEWEST_PHOTOS:
        return nothing
    photos = crops.crop_photos(
        tuple(used.images[i] for i in chosen), used.cameras[chosen], SIZE, part(progress, 0.0, 0.5)
    )
    logs, world, turned = [], [], []
    topology = raster.topology(mesh.faces)
    for i in range(len(chosen)):
        log, normals = _differences(mesh, photos.rgba[i], photos.cameras[[i]], raster, topology)
        R_cam_world = camera.invert_rigid(photos.cameras.T_world_cam[i])[:3, :3].double().numpy()
        logs.append(_without_mean(log))
        world.append(_without_mean(_harmonics(normals)))
        turned.append(_without_mean(_harmonics(normals @ R_cam_world.T)))
        progress(0.5 + 0.5 * (i + 1) / len(chosen), "comparing lights")
    halves = [sum(map(len, logs[half::2])) for half in (0, 1)]
    if min(halves) < FEWEST_PIXELS:
        return nothing
    (turning, swing), (fixed, _) = _explain(logs, turned), _explain(logs, world)
    return Turning(turning, fixed, swing, sum(halves))


def _differences(
    mesh: Mesh, photo: Float[Tensor, "H W 4"], view: Cameras, raster: Rasteriser, topology: object
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P 3"]]:
    """The logarithm of photo over rendering and the unit normals in the world, at the pixels that tell of the light."""
    seen = render.views(view, mesh.verts)
    rast, _ = raster.rasterize(
        render.clip_positions(mesh.verts, seen), mesh.faces, (seen.height, seen.width), grad_db=False
    )
    normals, _ = raster.interpolate(vertex_normals(mesh.verts, mesh.faces)[None], rast, mesh.faces)
    place, _ = raster.interpolate(mesh.verts[None], rast, mesh.faces)
    normals = torch.nn.functional.normalize(normals[0], dim=-1)
    towards = torch.nn.functional.normalize(seen.eye[0] - place[0], dim=-1)
    rendered = render.render(mesh, view, raster, topology)[0]
    counts = _inside((photo[..., 3] > 0.99) & (rendered[..., 3] > 0.99)) & ((normals * towards).sum(-1) > LEAST_FACING)
    for picture in (photo, rendered):
        counts &= (picture[..., :3].amax(-1) < BRIGHTEST) & (picture[..., :3].mean(-1) > DARKEST)
    log = torch.zeros_like(photo[..., 0])
    log[counts] = (photo[..., :3].mean(-1)[counts] / rendered[..., :3].mean(-1)[counts]).log().clamp(-LARGEST, LARGEST)
    smooth = _smoothed(log.double().numpy(), counts.numpy())
    return smooth, normals[counts].double().numpy()


def _smoothed(log: Float[np.ndarray, "H W"], counts: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, " P"]:
    """The means around the pixels that count, over such pixels alone: light varies slowly, misplaced texture does not."""
    total, weight = (ndimage.gaussian_filter(values, SMOOTHED) for values in (log * counts, counts.astype(float)))
    return total[counts] / weight[counts]


def _inside(mask: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    return torch.from_numpy(ndimage.binary_erosion(mask.numpy(), iterations=RIM))


def _harmonics(n: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 8"]:
    """The spherical harmonics of first and second order, but for their factors."""
    x, y, z = n.T
    return np.stack([x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1], 1)


def _without_mean(values: np.ndarray) -> np.ndarray:
    return values - values.mean(0) if len(values) else values


def _explain(logs: list[np.ndarray], harmonics: list[np.ndarray]) -> tuple[float, float]:
    """The share of the variance that harmonics explain on photos that did not give the coefficients, and their deviation."""
    left, total, light, count = 0.0, 0.0, 0.0, 0
    for half in (0, 1):
        fitted, rest = (np.concatenate(values[half::2]) for values in (harmonics, logs))
        coefficients = np.linalg.lstsq(fitted, rest, rcond=None)[0]
        basis, log = (np.concatenate(values[1 - half :: 2]) for values in (harmonics, logs))
        predicted = basis @ coefficients
        left += ((log - predicted) ** 2).sum()
        total += (log**2).sum()
        light += (predicted**2).sum()
        count += len(log)
    return float(1 - left / max(total, 1e-12)), float(np.sqrt(light / max(count, 1)))
