"""Pictures of a finished mesh: the six canonical views, a sheet of them, and a turntable.

All are sRGB on white, H W 3 uint8, with y up. Meshes must stand upright in the sphere of radius 0.5
(`surface.placement.stand_upright`).
"""

from collections.abc import Iterator
from math import radians
from pathlib import Path

import numpy as np
from PIL import Image

from recon_lib import camera, colour, render
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh
from recon_lib.raster.interface import Rasteriser
from recon_lib.shading import cubemap
from recon_lib.surface import meshio

TURNTABLE_ELEVATION_RADIANS = radians(20)
TURNTABLE_FOV_RADIANS = radians(26)
TURN_MILLISECONDS = 3600  # duration of one turn of the turntable
LIGHT_HEIGHT = 128  # height in pixels of the light's picture


def canonical(mesh: Mesh, width: int, raster: Rasteriser) -> dict[str, np.ndarray]:
    """The six canonical views by name, square, `width` pixels wide."""
    pictures = _pictures(mesh, camera.canonical_six(width), raster)
    return dict(zip(camera.CANONICAL_VIEWS, pictures, strict=True))


def turntable(mesh: Mesh, frames: int, width: int, raster: Rasteriser) -> Iterator[np.ndarray]:
    """The pictures of one full turn, `frames` square ones, `width` pixels wide."""
    distance = camera.CANONICAL_DISTANCE
    return _pictures(
        mesh, camera.orbit(frames, TURNTABLE_ELEVATION_RADIANS, distance, TURNTABLE_FOV_RADIANS, width), raster
    )


def material(mesh: Mesh, raster: Rasteriser) -> dict[str, np.ndarray]:
    """Pictures of the mesh's textures and of its light, which is latitude-longitude and scaled so that its maximum is white."""
    pictures = {"colour" if mesh.light is None else "base colour": np.asarray(meshio.texture_image(mesh))}
    if mesh.light is None:
        return pictures
    grey = (mesh.material.occlusion_roughness_metallic * 255).round().byte().numpy()
    pictures |= {name: grey[..., [i] * 3] for i, name in enumerate(("occlusion", "roughness", "metallic"))}
    offset = (mesh.material.normal_offset * 0.5 + 0.5).clamp(0, 1)
    to = cubemap.latlong_directions(LIGHT_HEIGHT)
    light = raster.texture(mesh.light[None], to[None], boundary_mode="cube")[0]
    shown = colour.linear_to_srgb(light / light.max().clamp_min(1e-6))
    return pictures | {n: (t * 255).round().byte().numpy() for n, t in (("normal offset", offset), ("light", shown))}


def sheet(pictures: dict[str, np.ndarray], columns: int = 3) -> np.ndarray:
    """Pictures of one size side by side, row after row; their number must be a multiple of `columns`."""
    rows = [list(pictures.values())[i : i + columns] for i in range(0, len(pictures), columns)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def save(folder: Path, pictures: dict[str, np.ndarray], frames: list[np.ndarray]) -> None:
    """Writes `<name>.png` for each picture, sheet.png with all of them, and turntable.webp: one turn in TURN_MILLISECONDS."""
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    Image.fromarray(sheet(pictures)).save(folder / "sheet.png")
    first, *rest = [Image.fromarray(frame) for frame in frames]
    pause = TURN_MILLISECONDS // len(frames)
    first.save(folder / "turntable.webp", save_all=True, append_images=rest, duration=pause, loop=0, quality=85)


def _pictures(mesh: Mesh, cameras: Cameras, raster: Rasteriser) -> Iterator[np.ndarray]:
    for i in range(len(cameras)):
        rgb = render.over_white_srgb(render.photographed(mesh, cameras[[i]], raster))[0]
        yield (rgb * 255).round().byte().numpy()


def reading(mesh: Mesh, folder: Path) -> str:
    """Sentences for the notebook's Reading: the mesh's proportions, and the files in `folder`."""
    width, height, depth = (mesh.verts.max(0).values - mesh.verts.min(0).values).tolist()
    longest = max(width, height, depth)
    size = " : ".join(f"{side / longest:.2f}" for side in (width, height, depth))
    written = ", ".join(sorted(path.name for path in folder.iterdir()))
    return f"width : height : depth are as {size}. Written: {written}."
