"""What stage 4 writes: verdict.json, views.csv, the compared pictures, and maps in the mesh's texture coordinates.

The maps are `observed.png`, by how many used photos each face was seen, `angle.png`, how far from its normal by the best of
them, `error.png`, where the compared photos differ from it, and with a reference mesh `deviation.png`, how far from the truth.
"""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image

from recon_lib import files
from recon_lib.mesh import Mesh
from recon_lib.raster.interface import Rasteriser
from recon_lib.verdict import images, observed
from recon_lib.verdict.images import Score
from recon_lib.verdict.judge import Evidence, Scored

FAR = 0.01  # of the truth's diagonal; as far and farther has the brightest colour


def save(folder: Path, judged: dict, scored: Scored) -> None:
    """Writes verdict.json, views.csv, photos/*.png, renders/*.png and errors/*.png into an empty folder."""
    files.write_json(folder / "verdict.json", judged)
    with (folder / "views.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["view", *Score._fields])
        table.writerows([name, *view.score] for name, view in scored.views.items())
    for name in ("photos", "renders", "errors"):
        (folder / name).mkdir()
    for name, view in scored.views.items():
        images.picture(view.photo).save(folder / "photos" / f"{name}.png")
        images.picture(view.rendered).save(folder / "renders" / f"{name}.png")
        images.error_picture(view.error).save(folder / "errors" / f"{name}.png")


def save_maps(folder: Path, mesh: Mesh, evidence: Evidence, raster: Rasteriser) -> None:
    """Writes the maps of what was measured."""
    maps = {}
    if evidence.observed is not None:
        maps["observed"] = observed.colours_of_photos(evidence.observed)
        maps["angle"] = observed.colours_of_angle(evidence.observed)
        maps["error"] = observed.colours_of_error(evidence.observed)
    if evidence.reference is not None:
        maps["deviation"] = _shades(evidence.reference.deviation / (FAR * evidence.reference.diagonal))
    for name, of_face in maps.items():
        Image.fromarray(observed.in_texture(mesh, of_face, raster)).save(folder / f"{name}.png")


def _shades(values: Float[np.ndarray, " F"]) -> UInt8[np.ndarray, "F 3"]:
    """0 to 1 in inferno, as in the error pictures."""
    return (colormaps["inferno"](values.clip(0, 1))[:, :3] * 255).round().astype(np.uint8)
