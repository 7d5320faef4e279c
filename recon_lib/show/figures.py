"""Figures of the notebooks and the report, from values; none is shown or saved here."""

import io

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from recon_lib import frames
from recon_lib.mesh import Mesh
from recon_lib.photos.scene import Scene
from recon_lib.refine import history as fit_history
from recon_lib.verdict.images import ERROR_SHOWN, Comparison

HELD_OUT_COLOUR, USED_COLOUR = "tab:orange", "tab:blue"
THUMBNAIL = 128  # pixels


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
    rows = -(-len(scene.names) // columns)
    figure = Picture(figsize=(1.35 * columns, 1.5 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, name, image, held_out in zip(axes.flat, scene.names, scene.images, scene.held_out, strict=False):
        axis.axis("on")
        axis.imshow(_thumbnail(image))
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, fontsize=7, pad=2)
        for spine in axis.spines.values():
            spine.set(color=HELD_OUT_COLOUR if held_out else "0.85", linewidth=2 if held_out else 0.5)
    figure.tight_layout(pad=0.3)
    return figure


def cameras(scene: Scene, mesh: Mesh | None = None) -> Picture:
    """Where the photos were taken and which way they look, the scene's up axis upwards, the object's points in grey."""
    if scene.cameras is None:
        figure = Picture(figsize=(6, 0.6))
        figure.text(0.02, 0.5, "The photos came without cameras; stage 2 finds them.", va="center")
        return figure
    figure = Picture(figsize=(6, 5))
    axis = figure.add_subplot(projection="3d")
    R = _to_z_up(scene.up)
    T = scene.cameras.T_world_cam.double().numpy()
    eyes = T[:, :3, 3] @ R.T
    looks = -T[:, :3, 2] @ R.T * np.linalg.norm(eyes - eyes.mean(0), axis=1).mean() * 0.2
    for chosen, colour, label in (
        (~scene.held_out, USED_COLOUR, "used"),
        (scene.held_out, HELD_OUT_COLOUR, "held out"),
    ):
        if chosen.any():
            axis.scatter(*eyes[chosen].T, color=colour, s=18, label=f"{label} ({chosen.sum()})")
            axis.quiver(*eyes[chosen].T, *looks[chosen].T, color=colour, linewidth=0.8, arrow_length_ratio=0.2)
    if mesh is not None:
        points = mesh.verts[:: max(1, len(mesh.verts) // 1500)].double().numpy() @ R.T
        axis.scatter(*points.T, s=0.5, color="0.4")
    axis.set_aspect("equal")
    axis.legend(fontsize=8)
    axis.tick_params(labelsize=7)
    return figure


def sheet(pictures: dict[str, np.ndarray], columns: int = 3) -> Picture:
    rows = -(-len(pictures) // columns)
    figure = Picture(figsize=(2.6 * columns, 2.75 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(picture)
        axis.set_title(name, fontsize=9)
    figure.tight_layout(pad=0.3)
    return figure


def history(rows: list[tuple[int, torch.Tensor]], validation: list[tuple[int, float]]) -> Picture:
    """Loss against step, from the (step, losses) rows of a fit, and beside it what decides: PSNR on the validation photos."""
    figure = Picture(figsize=(10, 3), layout="constrained")
    axis, decides = figure.subplots(1, 2)
    values = fit_history.table(rows)
    for column, label in ((1, "total"), (2, "colour"), (3, "alpha")):
        axis.semilogy(values[:, 0], values[:, column], label=label, linewidth=0.5, alpha=0.35, color=f"C{column}")
        axis.semilogy(values[:, 0], _running_mean(values[:, column]), label=f"{label}, mean of 20", color=f"C{column}")
    axis.set(xlabel="step", ylabel="loss")
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[1::2], labels[1::2], fontsize=8)
    axis.grid(alpha=0.3)
    _validation(decides, validation)
    return figure


def _validation(axis: Axes, rows: list[tuple[int, float]]) -> None:
    axis.set(xlabel="step", ylabel="PSNR in the mask, dB", title="validation photos: the best step is kept")
    axis.title.set_fontsize(9)
    axis.grid(alpha=0.3)
    if not rows:
        axis.text(
            0.5, 0.5, "too few photos to keep any\nfor validation", ha="center", va="center", transform=axis.transAxes
        )
        return
    steps, scores = zip(*rows, strict=True)
    best = scores.index(max(scores))
    axis.plot(steps, scores, marker=".", color="tab:green")
    axis.plot(
        steps[best], scores[best], "o", color="tab:green", label=f"kept: step {steps[best]}, {scores[best]:.2f} dB"
    )
    axis.legend(fontsize=8, loc="lower right")


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


def _running_mean(values: np.ndarray, window: int = 20) -> np.ndarray:
    total = np.cumsum(np.concatenate([[0.0], values]))
    start = np.maximum(np.arange(len(values)) - window + 1, 0)
    return (total[1:] - total[start]) / (np.arange(len(values)) - start + 1)


def _to_z_up(up: np.ndarray) -> np.ndarray:
    """Rotation that brings `up` to +z, where matplotlib draws upwards."""
    return np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ frames.up_to_y(up)[:3, :3]
