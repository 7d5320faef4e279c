"""The verdict on an exported mesh: `normal`, `warning` or `failure`, the worst of its checks.

PSNR and SSIM are means over views of the scores inside the mask (`verdict.images`). They are taken on held-out views. If there
are none, they are taken on the views that the mesh was made from; they are labelled so, and the verdict is at most `warning`.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon_lib.mesh import Mesh
from recon_lib.photos.scene import Scene, digests
from recon_lib.progress import Progress, silent
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import checks
from recon_lib.surface.checks import MeshChecks
from recon_lib.verdict import images, placement
from recon_lib.verdict.config import LEAST_PSNR_DB, LEAST_SSIM
from recon_lib.verdict.diagnosis import Cause
from recon_lib.verdict.images import Comparison, Score

LEVELS = ("normal", "warning", "failure")
MOST_MOVED = 1.0  # pixels of the photo, median; larger corrections say that the cameras are too inexact to judge by
HELD_OUT, USED = "held-out views", "used views"


@dataclass(frozen=True)
class Check:
    """One check of the verdict."""

    name: str
    value: float | int
    limit: str  # what `normal` requires, in words
    unit: str
    status: str  # one of LEVELS


@dataclass(frozen=True, eq=False)
class Scored:
    """A mesh's scores per view, and its mesh checks."""

    views: dict[str, Comparison]
    mesh_checks: MeshChecks
    label: str  # HELD_OUT or USED
    as_placed: Score | None = None  # the mean before held-out cameras that were found in the photos were moved
    moved_pixels: tuple[float, ...] = ()  # by view, how far that moved each photo's content on the object

    @property
    def mean(self) -> Score:
        """The mean of each score over the views."""
        return images.mean_score([view.score for view in self.views.values()])

    @property
    def scores(self) -> dict[str, Score]:
        """The scores by view."""
        return {name: view.score for name, view in self.views.items()}

    def worst_first(self) -> dict[str, Comparison]:
        """The views in ascending order of PSNR in the mask."""
        return dict(sorted(self.views.items(), key=lambda item: item[1].score.psnr_db))


def score(mesh: Mesh, scene: Scene, raster: Rasteriser, seen: set[str], progress: Progress = silent) -> Scored:
    """Scores a mesh in the world, as read back from its file, on the held-out views, or on all views if none is held out.

    `seen` are the hashes of the photos that the mesh was made from (`photos.scene.digests_used`). Raises ValueError if a
    held-out photo is among them.
    """
    held_out = scene.subset(scene.held_out)
    if known := [name for name, digest in digests(held_out).items() if digest in seen]:
        raise ValueError(
            f"held out: got {', '.join(known)}, which the mesh was made of, needed photos that it has never seen; make the "
            "mesh anew (2_reconviagen, 3_nvdiffrec) from the scene as it is now"
        )
    label = HELD_OUT if scene.held_out.any() else USED
    shown = held_out if scene.held_out.any() else scene
    cameras, as_placed, moved_pixels = shown.cameras, None, ()
    if scene.cameras_found and label == HELD_OUT:
        progress(0.0, "moving held-out cameras")
        before = [images.compare(mesh, shown.images[i], cameras[[i]], raster).score for i in range(len(shown.names))]
        cameras, pixels = placement.moved(mesh, shown, raster)
        as_placed, moved_pixels = images.mean_score(before), tuple(pixels.tolist())
    views = {}
    for i, name in enumerate(shown.names):
        views[name] = images.compare(mesh, shown.images[i], cameras[[i]], raster)
        progress((i + 1) / len(shown.names), f"scoring {name}")
    return Scored(views, checks.check_mesh(mesh.verts, mesh.faces), label, as_placed, moved_pixels)


def check_score(name: str, value: float, normal: float, warning: float, unit: str) -> Check:
    """A check of a score: `normal` and `warning` are the least values for these levels, less is a failure."""
    status = "normal" if value >= normal else "warning" if value >= warning else "failure"
    return Check(name, value, f">= {normal:g} (warning >= {warning:g})", unit, status)


def check_count(name: str, value: int, limit: int, otherwise: str = "warning") -> Check:
    """A check of a count: normal if it is exactly `limit`."""
    return Check(name, value, f"{limit}", "", "normal" if value == limit else otherwise)


def judge(scored: Scored, coarse: Scored | None, mesh_name: str, causes: Sequence[Cause] = ()) -> dict:
    """The content of verdict.json: the verdict on the mesh `mesh_name`, the mean scores of the coarse mesh, and the causes."""
    decided = decide(scored.mean, scored.mesh_checks, scored.label, len(scored.views), scored.moved_pixels)
    if scored.as_placed is not None:
        decided |= {"as_placed": scored.as_placed._asdict(), "moved_pixels": scored.moved_pixels}
    diagnosis = [cause._asdict() for cause in causes]
    return decided | {"mesh": mesh_name, "coarse": coarse.mean._asdict() if coarse else None, "diagnosis": diagnosis}


def decide(
    mean: Score, mesh_checks: MeshChecks, views: str, view_count: int, moved_pixels: tuple[float, ...] = ()
) -> dict:
    """The verdict with its reason and its checks, as JSON values; `views` is HELD_OUT or USED.

    `moved_pixels` are those of held-out cameras that were moved before they judged, by view.
    """
    decisive = [
        check_score("PSNR in the mask", mean.psnr_db, *LEAST_PSNR_DB, "dB"),
        check_score("SSIM in the mask", mean.ssim, *LEAST_SSIM, ""),
        Check("scored on", view_count, HELD_OUT, views, "normal" if views == HELD_OUT else "warning"),
        check_count("open edges", mesh_checks.open_edges, 0),
        check_count("non-manifold edges", mesh_checks.non_manifold_edges, 0),
        check_count("non-manifold vertices", mesh_checks.non_manifold_vertices, 0),
        check_count("inconsistently wound edges", mesh_checks.flipped_edges, 0),
        check_count("bodies", mesh_checks.bodies, 1),
        check_count("degenerate faces", mesh_checks.degenerate_faces, 0),
        check_count("non-finite vertices", mesh_checks.non_finite_vertices, 0, otherwise="failure"),
    ]
    if moved_pixels:
        median = float(np.median(moved_pixels))
        status = "normal" if median <= MOST_MOVED else "warning"
        decisive.append(Check("held-out cameras moved", median, f"<= {MOST_MOVED:g}", "pixels in the median", status))
    status = LEVELS[max(LEVELS.index(check.status) for check in decisive)]
    return {
        "status": status,
        "reason": _reason(status, decisive),
        **mean._asdict(),
        "views": views,
        "view_count": view_count,
        "checks": [vars(check) for check in decisive],
    }


def _reason(status: str, decisive: list[Check]) -> str:
    """The sentence that says which checks decided."""
    if status == "normal":
        return f"All {len(decisive)} checks are normal."
    guilty = [
        f"{check.name} is {_describe(check)}, needs {check.limit}" for check in decisive if check.status == status
    ]
    return f"It is a {status}, because {'; '.join(guilty)}."


def _describe(check: Check) -> str:
    value = f"{check.value:.4g}" if isinstance(check.value, float) else str(check.value)
    return f"{value} {check.unit}".rstrip()


def reading(judged: dict) -> str:
    """Sentences for the notebook's Reading: whether the mesh can be trusted, and why."""
    trust = {
        "normal": "It does, as far as these photos show it.",
        "warning": "With care: look at what the reason names.",
        "failure": "It does not.",
    }[judged["status"]]
    unseen = (
        "photos that it has never seen"
        if judged["views"] == HELD_OUT
        else "the photos it was made of, for want of others"
    )
    causes = "".join(f" {cause['says']} {cause['remedy']}" for cause in judged["diagnosis"])
    moved = ""
    if "as_placed" in judged:
        before = judged["as_placed"]
        moved = (
            f" Their cameras were found in the photos, so each was first moved by at most {placement.MOST:g} pixels to fit the "
            f"mesh; before that the scores were {before['psnr_db']:.2f} dB and {before['ssim']:.3f}."
        )
    return f"{trust} {judged['reason']} Measured on {judged['view_count']} {unseen}.{moved}{causes}"


def save(folder: Path, judged: dict, scored: Scored) -> None:
    """Writes verdict.json, views.csv, photos/*.png, renders/*.png and errors/*.png into an empty folder."""
    (folder / "verdict.json").write_text(json.dumps(judged, indent=1))
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
