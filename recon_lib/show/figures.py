"""Figures of the notebooks and the report, from values; none is shown or saved here."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from PIL import Image

from recon_lib import camera, frames
from recon_lib.mesh import Mesh
from recon_lib.photos import framing
from recon_lib.photos.scene import Scene
from recon_lib.photos.search.locate import LeftOut
from recon_lib.refine import history as fit_history
from recon_lib.surface import simplify
from recon_lib.verdict.images import ERROR_SHOWN, Comparison

HELD_OUT_COLOUR, USED_COLOUR, LEFT_OUT_COLOUR = "tab:orange", "tab:blue", "tab:red"
THUMBNAIL = 128  # pixels
MOST_DRAWN_FACES = 4000  # of the object beside the cameras
MOST_TEXELS = 30_000  # of all photos on their frusta together
DEEPEST = 0.4  # share of the way to the object that a frustum is drawn
GRID = 28  # points a side that look for the object in the masks
CURVES = ("#0072B2", "#E69F00", "#CC79A7", "#009E73")  # told apart by the colour-blind (Okabe and Ito 2008)
TO_PATH = TextToPath()


class Picture(Figure):
    """A figure that a notebook shows as PNG, made without pyplot.

    pyplot's list of open figures is shared by all threads of a kernel, and a widget's message flushes it.
    """

    def png(self, dpi: int = 80) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


def contact_sheet(scene: Scene, columns: int = 8) -> Picture:
    """Every photo on white; held-out ones carry an orange frame."""
    pictures = dict(zip(scene.names, map(_thumbnail, scene.images), strict=True))
    figure, axes = _grid(pictures, columns, 1.35, 9.0)
    for axis in np.array(axes)[scene.held_out]:
        axis.spines[:].set(color=HELD_OUT_COLOUR, linewidth=2)
    return figure


def left_out(photos: Sequence[LeftOut], columns: int = 4) -> Picture | None:
    """Photos that the scene does without, crossed, each under its name and the reason; None where there are none."""
    if not photos:
        return None
    figure, axes = _grid({f"{one.label}: {one.why}": _thumbnail(one.rgba) for one in photos}, columns, 2.4, 8.0)
    for axis in axes:
        for ends in ((0, 1), (1, 0)):
            axis.plot((0, 1), ends, color=LEFT_OUT_COLOUR, linewidth=2, transform=axis.transAxes)
    return figure


def sheet(pictures: dict[str, np.ndarray], columns: int = 3) -> Picture:
    """The pictures, each under its name."""
    return _grid(pictures, columns, 2.6, 9.0)[0]


def _grid(pictures: dict[str, np.ndarray], columns: int, cell: float, size: float) -> tuple[Picture, list[Axes]]:
    """Cells of one width, inches; a row is as high as its tallest picture and its longest name, in points, need."""
    columns = min(columns, len(pictures))
    titles = [_folded(name, 0.9 * 72 * cell, size) for name in pictures]
    tall = [cell * picture.shape[0] / picture.shape[1] for picture in pictures.values()]
    texts = [1.4 * size / 72 * (title.count("\n") + 1) + 0.15 for title in titles]
    starts = range(0, len(pictures), columns)
    heights = [max(tall[i : i + columns]) + max(texts[i : i + columns]) for i in starts]
    figure = Picture(figsize=(cell * columns, sum(heights)), layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, title, picture in zip(axes, titles, pictures.values(), strict=False):
        axis.imshow(picture)
        axis.axis("on")
        axis.spines[:].set(color="0.85", linewidth=0.5)
        # Constrained layout makes room for a title above the cell, not above a picture in its middle.
        axis.set_anchor("N")
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=size, pad=3, parse_math=False)
    return figure, list(axes[: len(pictures)])


def _folded(name: str, width: float, size: float) -> str:
    """The name in as many lines as its width, in points, asks for, broken between words where that is possible."""
    lines = [""]
    for letter in name:
        longer = lines[-1] + letter
        if lines[-1] and TO_PATH.get_text_width_height_descent(longer, FontProperties(size=size), False)[0] > width:
            whole, space, begun = lines[-1].rpartition(" ")
            lines[-1:] = [whole + space, begun + letter] if whole else [lines[-1], letter]
        else:
            lines[-1] = longer
    return "\n".join(lines)


def cameras(scene: Scene, mesh: Mesh | None = None) -> Picture:
    """Where the photos were taken, each on the frustum of its camera, around the object, all to scale and up upwards.

    The object is the mesh, or where none is given the points that lie inside nearly all masks.
    """
    if scene.cameras is None:
        figure = Picture(figsize=(6, 0.6))
        figure.text(0.02, 0.5, "The photos came without cameras; stage 2 finds them.", va="center")
        return figure
    figure = Picture(figsize=(10, 8.4))
    axis: Any = figure.add_axes((0.02, 0.04, 0.94, 0.9), projection="3d", computed_zorder=True)
    R = _to_z_up(scene.up)
    polygons, faces, edges = _photo_polygons(scene)
    if mesh is None:
        points = _inside_masks(scene) @ R.T
        axis.scatter(*points.T, s=3, color="0.45", linewidths=0, depthshade=False)
    else:
        few = simplify.decimate(mesh, MOST_DRAWN_FACES)
        triangles = few.verts.double().numpy()[few.faces.long().numpy()]
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
        grey = (0.6 + 0.25 * (normals @ R.T) @ np.array([0.3, -0.6, 0.74]))[:, None].repeat(3, 1)
        polygons += list(triangles)
        faces, edges = np.vstack([faces, _opaque(grey)]), np.vstack([edges, _opaque(grey)])
        points = few.verts.double().numpy() @ R.T
    # All with four corners: matplotlib pads shorter ones with memory that was never written, and measures that, too.
    drawn = [polygon[[0, 1, 2, -1]] @ R.T for polygon in polygons]
    axis.add_collection3d(Poly3DCollection(drawn, facecolors=faces, edgecolors=edges, linewidths=0.6))
    _frame(axis, np.concatenate([*drawn, points]))
    axis.set_xlabel("scene units", fontsize=9, labelpad=-2)
    axis.tick_params(labelsize=9, pad=-1)
    kinds = ((USED_COLOUR, "used", ~scene.held_out), (HELD_OUT_COLOUR, "held out", scene.held_out))
    shown = [Line2D([], [], color=colour, label=f"{label} ({n.sum()})") for colour, label, n in kinds if n.any()]
    figure.legend(handles=shown, loc="upper center", ncols=2, fontsize=11, frameon=False)
    return figure


def _photo_polygons(scene: Scene) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Of each view four sides of a frustum, and in it the photo's texels where its mask is: corners, faces', edges' RGBA."""
    T, k = scene.cameras.T_world_cam.double().numpy(), scene.cameras.intrinsics.double().numpy()
    sizes = scene.cameras.sizes.double().numpy()
    polygons, faces, edges = [], [], []
    texels = int(np.clip(np.sqrt(MOST_TEXELS / len(T)), 12, 32))
    for i, depth in enumerate(_depths(T, k, sizes)):
        small = Image.fromarray(scene.images[i])
        small.thumbnail((texels, texels))
        picture = np.asarray(small) / 255
        rows, columns = picture.shape[:2]
        u, v = np.meshgrid(np.linspace(0, sizes[i, 0], columns + 1), np.linspace(0, sizes[i, 1], rows + 1))
        p_cam = np.stack([(u - k[i, 2]) / k[i, 0], (k[i, 3] - v) / k[i, 1], -np.ones_like(u)], -1) * depth
        grid = p_cam @ T[i, :3, :3].T + T[i, :3, 3]
        colour = to_rgb(HELD_OUT_COLOUR if scene.held_out[i] else USED_COLOUR)
        corners = [grid[0, 0], grid[0, -1], grid[-1, -1], grid[-1, 0]]
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            polygons.append(np.array([T[i, :3, 3], a, b]))
            faces.append((*colour, 0.04))
            edges.append((*colour, 0.9))
        for row, column in np.argwhere(picture[..., 3] > 0.5):
            at = ((row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column))
            polygons.append(np.array([grid[corner] for corner in at]))
            faces.append((*picture[row, column, :3], 1.0))
            edges.append((*picture[row, column, :3], 1.0))
    return polygons, np.array(faces), np.array(edges)


def _depths(T: np.ndarray, k: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How deep to draw each frustum: its photo keeps clear of the next camera, and ends before the object."""
    eyes = T[:, :3, 3]
    apart = np.linalg.norm(eyes[:, None] - eyes[None], axis=-1)
    reach = np.linalg.norm(eyes - framing.meeting_point(eyes, -T[:, :3, 2]), axis=1) if len(T) > 1 else np.ones(1)
    apart[apart < 1e-3 * reach.mean()] = np.inf  # itself, and photos from one place
    near = np.median(apart.min(1)) if np.isfinite(apart.min(1)).any() else np.inf
    widest = (sizes / k[:, :2]).max(1)
    return np.minimum(0.5 * near / widest, DEEPEST * reach)


def _inside_masks(scene: Scene) -> np.ndarray:
    """Points of a rough grid that nearly all of the masks cover, in the world; none where masks and cameras contradict."""
    alphas = [image[..., 3] for image in scene.images]  # bytes: hundreds of photos as floats would not fit into memory
    boxes = np.array([framing.mask_box(alpha / 255) for alpha in alphas])
    eyes, rays = framing.mask_rays(boxes, scene.cameras)
    centre, focal = framing.meeting_point(eyes, rays), scene.cameras.intrinsics.double().numpy()[:, :2]
    reach = np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1) / 2 / focal.min(1)
    half = np.median(np.linalg.norm(centre - eyes, axis=1) * reach)
    steps = np.linspace(-half, half, GRID)
    points = centre + np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    pixels, depth = camera.project(scene.cameras, torch.from_numpy(points).to(scene.cameras.T_world_cam))
    misses = np.zeros(len(points))
    for alpha, xy, z in zip(alphas, pixels.numpy(), depth.numpy(), strict=True):
        at = xy[:, ::-1].clip(-1, max(alpha.shape)).astype(int)
        seen = (z > 0) & (at >= 0).all(1) & (at < alpha.shape).all(1)
        misses[seen] += alpha[tuple(at[seen].T)] < 128
    return points[misses <= 0.05 * len(alphas)]


def _opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.ones((len(rgb), 1))], 1)


def _frame(axis: Axes3D, points: np.ndarray) -> None:
    """Limits that hold the points and no more, equal scales."""
    low, high = points.min(0), points.max(0)
    side = (high - low).max() / 12
    low, high = low - side / 4, np.maximum(high, low + side)
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axis.set_box_aspect(high - low, zoom=1.15)
    axis.view_init(elev=22, azim=-60)


def history(rows: list[tuple[int, torch.Tensor]], validation: list[tuple[int, float]], tall: bool = False) -> Picture:
    """Loss against step, from the (step, losses) rows of a fit, and beside it what decides: PSNR on the validation photos.

    A `tall` figure has the second below the first.
    """
    figure = Picture(figsize=(5.4, 5) if tall else (10, 3), layout=None if tall else "constrained")
    axis, decides = figure.subplots(2, 1) if tall else figure.subplots(1, 2)
    if tall:  # a running fit draws this one again and again, and a constrained layout takes half of the time
        figure.subplots_adjust(left=0.19, right=0.98, top=0.95, bottom=0.1, hspace=0.42)
    values = fit_history.table(rows)
    for column, label in ((1, "total"), (2, "colour"), (3, "alpha")):
        line = {"color": CURVES[column - 1]}
        axis.semilogy(values[:, 0], values[:, column], linewidth=0.5, alpha=0.35, **line)
        axis.semilogy(values[:, 0], running_mean(values[:, column]), label=f"{label}, mean of 20", **line)
    axis.set(xlabel="step", ylabel="loss")
    if not rows:
        axis.text(0.5, 0.5, "no step taken yet", ha="center", va="center", transform=axis.transAxes)
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "ncols": 3}  # above the curves, not on them
    axis.legend(fontsize=8, columnspacing=1, handlelength=1.2, frameon=False, **place)
    _validation(decides, validation)
    for part in (axis, decides):
        part.grid(alpha=0.3)
        part.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _validation(axis: Axes, rows: list[tuple[int, float]]) -> None:
    axis.set(xlabel="step", ylabel="PSNR in the mask, dB")
    if not rows:
        axis.text(0.5, 0.5, "too few photos\nfor validation", ha="center", va="center", transform=axis.transAxes)
        return
    steps, scores = zip(*rows, strict=True)
    best = scores.index(max(scores))
    axis.plot(steps, scores, marker=".", color=CURVES[3])
    axis.plot(steps[best], scores[best], "o", color=CURVES[3])
    axis.set_title(f"validation photos; highest at step {steps[best]}: {scores[best]:.2f} dB", fontsize=9)


def comparisons(rows: dict[str, Comparison]) -> Picture:
    """photo | rendering | error for each view."""
    figure = Picture(figsize=(8, 2.7 * len(rows)))
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for (name, row), line in zip(rows.items(), axes, strict=True):
        line[0].imshow(row.photo)
        line[1].imshow(row.rendered.clip(0, 1))
        last = line[2].imshow(row.error, cmap="inferno", vmin=0, vmax=ERROR_SHOWN)
        line[0].set_title(f"{name}: photo", fontsize=9)
        line[1].set_title(f"rendering, {row.score.psnr_db:.1f} dB, SSIM {row.score.ssim:.3f}", fontsize=9)
        line[2].set_title("absolute error", fontsize=9)
        figure.colorbar(last, ax=line[2], fraction=0.046)
        for axis in line:
            axis.set(xticks=[], yticks=[])
    figure.tight_layout(pad=0.4)
    return figure


def _thumbnail(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    white = Image.new("RGBA", small.size, "white")
    return np.asarray(Image.alpha_composite(white, small).convert("RGB"))


def running_mean(values: np.ndarray, window: int = 20) -> np.ndarray:
    """The mean of each value and those before it, `window` at most."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    start = np.maximum(np.arange(len(values)) - window + 1, 0)
    return (total[1:] - total[start]) / (np.arange(len(values)) - start + 1)


def _to_z_up(up: np.ndarray) -> np.ndarray:
    """Rotation that brings `up` to +z, where matplotlib draws upwards."""
    return np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ frames.up_to_y(up)[:3, :3]
