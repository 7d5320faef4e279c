"""Pictures of a running fit: one photo beside what the fit makes of it, each under its name. H W 3 uint8, sRGB, on white."""

import io
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from recon_lib import camera, colour, files, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh, vertex_normals
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.verdict.images import ERROR_SHOWN

SIDE = 224  # pixels along a side of each picture
STRIP = 20  # pixels above each picture, for its name
COLUMNS = 3
FILE_SECONDS = 3.0  # least time between two of them
FILE_SHARE = 0.01  # of the time, at most, goes into them


class Watched:
    """One photo of the scene, and its camera in the fit's frame."""

    def __init__(self, photos: Scene, name: str, T_unit_world: torch.Tensor, raster: Rasteriser):
        i = photos.names.index(name)
        view = crops.crop_photos(photos.images[i : i + 1], camera.moved(photos.cameras[[i]], T_unit_world), SIDE)
        self.cameras, self.raster = camera.on_device(view.cameras, raster.DEVICE), raster
        self.photo = _bytes(render.over_white_srgb(view.rgba[0]))

    @torch.no_grad()
    def pictures(self, mesh: Mesh) -> dict[str, np.ndarray]:
        """The photo, the rendering, where they differ, and the surface: normals as the camera sees them, and material."""
        rendering = render.surfaces(mesh, render.views(self.cameras, mesh.verts), self.raster)
        rendered = _bytes(render.over_white_srgb(rendering.rgba[0].cpu()))
        error = np.abs(self.photo / 255.0 - rendered / 255.0).mean(-1)
        shown = {
            "photo": self.photo,
            "rendering": rendered,
            f"error, 0 to {ERROR_SHOWN:g}": _bytes(colormaps["inferno"]((error / ERROR_SHOWN).clip(0, 1))[..., :3]),
            "normals": normals(mesh, self.cameras, self.raster),
        }
        covered = rendering.covered
        shown["base colour"] = _spread(colour.linear_to_srgb(covered.texture.clamp(0, 1)), covered.pixel)
        if covered.material is not None:
            roughness = covered.material.values[:, 1:2].expand(-1, 3)
            shown["roughness, black 0"] = _spread(roughness, covered.pixel)
        return shown


class Reporter:
    """Writes the pictures of a running fit into a file now and then, for those who look at its run from elsewhere."""

    def __init__(self, watched: Watched, path: Path):
        self.watched, self.path = watched, path
        self.written, self.seconds = 0.0, 0.0  # when it was last, and how long that took

    def update(self, step: int, mesh: Mesh) -> None:
        """Writes the file if it is time."""
        began = time.monotonic()
        if began - self.written < max(FILE_SECONDS, self.seconds / FILE_SHARE):
            return
        files.write_bytes(self.path, sheet(self.watched.pictures(mesh), f"step {step}"))
        self.written = time.monotonic()
        self.seconds = self.written - began

    def close(self) -> None:
        """Takes the file away."""
        self.path.unlink(missing_ok=True)


@torch.no_grad()
def normals(mesh: Mesh, cameras: Cameras, raster: Rasteriser) -> np.ndarray:
    """The mesh's smooth normals in the first camera's frame: red right, green up, blue towards the camera."""
    seen = render.views(cameras[[0]], mesh.verts)
    rast, _ = raster.rasterize(
        render.clip_positions(mesh.verts, seen), mesh.faces, (seen.height, seen.width), grad_db=False
    )
    smooth = raster.interpolate(vertex_normals(mesh.verts, mesh.faces)[None], rast, mesh.faces)[0][0]
    n_cam = torch.nn.functional.normalize(smooth @ cameras.T_world_cam[0, :3, :3], dim=-1)
    return _bytes(torch.where(rast[0, ..., 3:] > 0, n_cam * 0.5 + 0.5, 1.0).cpu())


def first_watched(photos: Scene) -> str:
    """The photo that is watched until another is chosen: a held-out one, which the fit does not see."""
    return next((name for name, out in zip(photos.names, photos.held_out, strict=True) if out), photos.names[0])


def sheet(pictures: dict[str, np.ndarray], words: str = "") -> bytes:
    """The pictures in rows of COLUMNS, each under its name, with `words` before the first name, as JPEG."""
    rows = -(-len(pictures) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + STRIP)), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for i, (name, picture) in enumerate(pictures.items()):
        x, y = i % COLUMNS * SIDE, i // COLUMNS * (SIDE + STRIP)
        draw.text((x + 4, y + 2), f"{words}, {name}" if words and i == 0 else name, fill="black", font=font)
        whole.paste(Image.fromarray(picture), (x, y + STRIP))
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _spread(values: torch.Tensor, pixel: torch.Tensor) -> np.ndarray:
    whole = torch.ones(SIDE * SIDE, 3, device=values.device)
    whole[pixel] = values
    return _bytes(whole.reshape(SIDE, SIDE, 3).cpu())


def _bytes(picture: torch.Tensor | np.ndarray) -> np.ndarray:
    """Values 0 to 1 as bytes."""
    return (np.asarray(picture).clip(0, 1) * 255).round().astype(np.uint8)
