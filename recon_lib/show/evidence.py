"""What a mesh rests on: depth maps, cuts through the hull and what stereo made of it, each triangle's source and photos.

Colours are those that Okabe and Ito chose so that every eye tells them apart. Lengths are scene units.
"""

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from recon_lib import camera, render
from recon_lib.coarse.sources import UNSEEN, Sources
from recon_lib.coarse.stereo.stereo import Fields, StereoMesh
from recon_lib.mesh import Mesh, face_normals
from recon_lib.photos import framing
from recon_lib.raster import cpu
from recon_lib.show.figures import Picture
from recon_lib.surface import placement
from recon_lib.verdict.observed import COLOURS as COLOURS_OF_PHOTOS
from recon_lib.verdict.observed import Observed, colours_of_photos

STEREO_COLOUR, HULL_COLOUR, NETWORK_COLOUR, UNSEEN_COLOUR = "#0072B2", "#E69F00", "#009E73", "#999999"
COLOURS = {"stereo": STEREO_COLOUR, "hull": HULL_COLOUR, "generated": NETWORK_COLOUR, UNSEEN: UNSEEN_COLOUR}
SHOWN = 3  # photos whose depths are drawn
FROM = ("front", "right", "back", "bottom")  # of the canonical views
SIZE = 320  # pixels along a side of these
LARGE, SMALL = 13, 11  # points, so that half the width can still be read
NO_STEREO = "Stereo did not make this mesh, so there are no depths to show."


def depth_maps(found: StereoMesh | None, names: tuple[str, ...]) -> Picture:
    """Photo | depth | how much alike the photos look there, for three photos spread over all; white is unknown."""
    if found is None:
        return _note(NO_STEREO)
    chosen = [round(i * (len(names) - 1) / SHOWN) for i in range(SHOWN)]
    figure = Picture(figsize=(8.4, SHOWN * 2.6), layout="constrained")
    for row, i in zip(figure.subplots(SHOWN, 3), chosen, strict=True):
        left, top, right, bottom = framing.mask_box(found.views.masks[i].astype(float)).astype(int)
        box = i, slice(top, bottom), slice(left, right)
        mask, depth = found.views.masks[box], found.depths[box]
        known = depth > 0
        row[0].imshow(np.where(mask, found.views.greys[box], 1), cmap="gray", vmin=0, vmax=1)
        row[0].set_title(names[i], fontsize=LARGE, parse_math=False)
        low, high = np.quantile(depth[known], (0.01, 0.99)) if known.any() else (0, 1)
        shown = row[1].imshow(np.where(known, depth, np.nan), cmap="viridis_r", vmin=low, vmax=high)
        row[1].set_title(f"depth of {known[mask].mean():.0%}", fontsize=LARGE)
        _scale(figure, row[1], shown, "scene units")
        shown = row[2].imshow(np.where(mask, 1 - found.costs[box], np.nan), cmap="cividis", vmin=0, vmax=1)
        row[2].set_title("confidence", fontsize=LARGE)
        _scale(figure, row[2], shown, "correlation")
        for axis in row:
            axis.set(xticks=[], yticks=[])
    return figure


def _scale(figure: Picture, axis: Axes, shown: AxesImage, unit: str) -> None:
    bar = figure.colorbar(shown, ax=axis, shrink=0.9)
    bar.set_label(unit, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    bar.locator = MaxNLocator(4)


def cuts(found: StereoMesh | None, up: Float[np.ndarray, "3"]) -> Picture:
    """Three cuts through the middle of the object, up upwards: the outline of the hull, and that of stereo's surface in it."""
    if found is None:
        return _note(NO_STEREO)
    figure = Picture(figsize=(8.4, 4.0), layout="constrained")
    for normal, axis in enumerate(figure.subplots(1, 3)):
        _cut(axis, found.fields, normal, up)
    outlines = [
        Line2D([], [], color=HULL_COLOUR, linestyle="--", linewidth=2, label="hull: before"),
        Line2D([], [], color=STEREO_COLOUR, linewidth=2, label="stereo: after"),
    ]
    figure.legend(handles=outlines, loc="outside upper center", ncols=2, fontsize=LARGE, frameon=False)
    return figure


def _cut(axis: Axes, fields: Fields, normal: int, up: np.ndarray) -> None:
    """Draws the plane across world axis `normal` through the middle of what stereo made."""
    across, upwards = sorted((k for k in range(3) if k != normal), key=lambda k: abs(up[k]))
    middle = int(np.argwhere(fields.surface < 0)[:, normal].mean().round())
    # One point more around the grid, positive, so that an outline that the grid cuts is closed there.
    places = [fields.origin[k] + fields.spacing * np.arange(-1, fields.hull.shape[k] + 1) for k in (across, upwards)]
    for field, colour, style in ((fields.hull, HULL_COLOUR, "--"), (fields.surface, STEREO_COLOUR, "-")):
        plane = np.pad(np.take(field, middle, normal), 1, constant_values=fields.spacing)
        # contour asks for rows along its y.
        axis.contour(*places, plane if across > upwards else plane.T, [0.0], colors=colour, linestyles=style)
    at = fields.origin[normal] + middle * fields.spacing
    axis.set_title(f"{'xyz'[normal]} = {at:.2g}", fontsize=LARGE)
    axis.set_xlabel(f"{'xyz'[across]}, scene units", fontsize=LARGE)
    axis.set_ylabel(f"{'xyz'[upwards]}, scene units", fontsize=LARGE)
    axis.set_aspect("equal")
    axis.tick_params(labelsize=SMALL)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    if up[upwards] < 0:
        axis.invert_yaxis()


def sources(mesh: Mesh, found: Sources, up: Float[np.ndarray, "3"]) -> Picture:
    """The mesh from four sides, each triangle in the colour of its source."""
    palette = np.array([to_rgb(COLOURS[name]) for name in found.names])
    legend = {f"{name} {share:.0%}": COLOURS[name] for name, share in found.shares().items()}
    return from_sides(mesh, palette[found.of_face], legend, up)


def observed(mesh: Mesh, found: Observed, up: Float[np.ndarray, "3"]) -> Picture:
    """The mesh from four sides, each triangle in the colour of the number of used photos that see it."""
    legend = {f"{name} {share:.0%}": COLOURS_OF_PHOTOS[name] for name, share in found.shares().items()}
    return from_sides(mesh, colours_of_photos(found) / 255, legend, up)


def from_sides(
    mesh: Mesh, rgb: Float[np.ndarray, "F 3"], legend: dict[str, str], up: Float[np.ndarray, "3"]
) -> Picture:
    """The mesh from four sides, each triangle in its colour (sRGB, 0 to 1); `legend` maps what a colour means to the colour."""
    upright = placement.stand_upright(Mesh(mesh.verts, mesh.faces), up)
    figure = Picture(figsize=(8.4, 2.9), layout="constrained")
    rig, order = camera.canonical_six(SIZE), list(camera.CANONICAL_VIEWS)
    pictures = np.stack([_in_colours(upright, rgb, rig[[order.index(name)]]) for name in FROM])
    left, top, right, bottom = framing.mask_box((pictures < 1).any((0, 3)).astype(float)).astype(int)
    for axis, name, picture in zip(figure.subplots(1, len(FROM)), FROM, pictures, strict=True):
        axis.imshow(picture[top:bottom, left:right])
        axis.set_title(name, fontsize=LARGE)
        axis.axis("off")
    labels = [Patch(color=colour, label=label) for label, colour in legend.items()]
    figure.legend(handles=labels, loc="outside upper center", ncols=len(labels), fontsize=LARGE, frameon=False)
    return figure


def _in_colours(mesh: Mesh, rgb: np.ndarray, view: camera.Cameras) -> np.ndarray:
    """The mesh on white in one colour per face, darker where it turns away."""
    pos = render.clip_positions(mesh.verts, render.views(view, mesh.verts))
    rast, _ = cpu.rasterize(pos, mesh.faces, (SIZE, SIZE), grad_db=False)
    face = rast[0, ..., 3].long().numpy() - 1
    towards = torch.nn.functional.normalize(view.T_world_cam[0, :3, 3] - mesh.verts[mesh.faces.long()].mean(1), dim=-1)
    shade = 0.55 + 0.45 * (face_normals(mesh.verts, mesh.faces) * towards).sum(-1).clamp(0, 1).numpy()
    return np.where(face[..., None] >= 0, (rgb * shade[:, None])[face], 1.0)


def _note(text: str) -> Picture:
    figure = Picture(figsize=(6, 0.6))
    figure.text(0.02, 0.5, text, va="center")
    return figure
