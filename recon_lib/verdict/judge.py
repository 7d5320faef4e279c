"""The verdict on an exported mesh: `normal`, `warning` or `failure`, the worst of its checks.

PSNR and SSIM are means over views of the scores inside the mask (`verdict.images`). They are taken on held-out views. If there
are none, they are taken on the views that the mesh was made from; they are labelled so, and the verdict is at most `warning`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from recon_lib.mesh import Mesh
from recon_lib.photos.scene import Scene, digests
from recon_lib.progress import Progress, silent
from recon_lib.raster.interface import Rasteriser
from recon_lib.verdict import floors, images, intervals, misfit, placement, record
from recon_lib.verdict.config import Limits
from recon_lib.verdict.diagnosis import Cause
from recon_lib.verdict.images import Comparison, Score
from recon_lib.verdict.observed import Observed
from recon_lib.verdict.record import Check
from recon_lib.verdict.reference import Against

MOST_MOVED = 1.0  # pixels of the photo, median; larger corrections say that the cameras are too inexact to judge by
FAILING_IOU, FAILING_OFFSET = 0.1, 2.0  # below the least overlap, and times the most pixels: a failure from there
TONE, FAILING_TONE = (0.8, 1.25), (0.5, 2.0)  # exponents of the brightness (`misfit`)
HELD_OUT, USED = "held-out views", "used views"
VERSION = 1  # of verdict.json's form
DEFAULT = Limits()


@dataclass(frozen=True, eq=False)
class Scored:
    """A mesh's scores per view."""

    views: dict[str, Comparison]
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


@dataclass(frozen=True, eq=False)
class Evidence:
    """What else was measured of a mesh. Absent parts are empty or None; verdict.json says so, and no check is made of them."""

    floors: dict[str, Score] = field(default_factory=dict)  # of the same photos (`verdict.floors`)
    coarse: Score | None = None  # the coarse mesh's means
    used: dict[str, Comparison] = field(default_factory=dict)  # the ceiling: photos that the mesh was made of
    surface: Sequence[Check] = ()  # `rules.of_solid`
    texture: Sequence[Check] = ()  # `rules.of_atlas`
    observed: Observed | None = None
    seen: Sequence[Check] = ()  # `rules.of_observed`
    reference: Against | None = None
    lpips: float | None = None
    lpips_absent: str = ""  # why
    causes: Sequence[Cause] = ()
    notes: Sequence[str] = ()  # what could not be measured of a foreign file


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
    topology = raster.topology(mesh.faces)
    if scene.cameras_found and label == HELD_OUT:
        progress(0.0, "moving held-out cameras")
        before = [
            images.compare(mesh, shown.images[i], cameras[[i]], raster, topology).score for i in range(len(shown.names))
        ]
        cameras, pixels = placement.moved(mesh, shown, raster)
        as_placed, moved_pixels = images.mean_score(before), tuple(pixels.tolist())
    views = {}
    for i, name in enumerate(shown.names):
        views[name] = images.compare(mesh, shown.images[i], cameras[[i]], raster, topology)
        progress((i + 1) / len(shown.names), f"scoring {name}")
    return Scored(views, label, as_placed, moved_pixels)


def score_used(
    mesh: Mesh, scene: Scene, raster: Rasteriser, most: int, progress: Progress = silent
) -> dict[str, Comparison]:
    """How well the photos that the mesh was made of are explained: at most `most`, evenly chosen; none if none is held out."""
    used = scene.subset(~scene.held_out)
    if not scene.held_out.any() or most == 0 or not used.names:
        return {}
    found, topology = {}, raster.topology(mesh.faces)
    for i in np.unique(np.linspace(0, len(used.names) - 1, min(most, len(used.names))).round().astype(int)):
        found[used.names[i]] = images.compare(mesh, used.images[i], used.cameras[[int(i)]], raster, topology)
        progress(len(found) / most, f"scoring {used.names[i]}, which was used")
    return found


def judge(scored: Scored, mesh_name: str, evidence: Evidence, limits: Limits = DEFAULT) -> dict:
    """The content of verdict.json on the mesh `mesh_name`; its form is `verdict.schema.json` in this folder."""
    checks = [*of_scores(scored, evidence, limits), *evidence.seen, *evidence.surface, *evidence.texture]
    status = record.worst(checks)
    mean = scored.mean
    used = images.mean_score([view.score for view in evidence.used.values()]) if evidence.used else None
    placed = {}
    if scored.as_placed is not None:
        placed = {"as_placed": scored.as_placed._asdict(), "moved_pixels": list(scored.moved_pixels)}
    return {
        "version": VERSION,
        "status": status,
        "reason": record.reason(checks),
        "decided_by": [check.name for check in record.deciding(checks)],
        "mesh": mesh_name,
        **mean._asdict(),
        "views": scored.label,
        "view_count": len(scored.views),
        "intervals": {name: list(ends) for name, ends in intervals.of_means(list(scored.scores.values())).items()},
        "floors": {name: floor._asdict() for name, floor in evidence.floors.items()},
        "used": used._asdict() if used else None,
        "used_count": len(evidence.used),
        "coarse": evidence.coarse._asdict() if evidence.coarse else None,
        "lpips": evidence.lpips,
        "lpips_absent": evidence.lpips_absent,
        "limits": asdict(limits),
        "checks": [vars(check) for check in checks],
        "observed": evidence.observed.record() if evidence.observed else None,
        "reference": evidence.reference.record() if evidence.reference else None,
        "diagnosis": [cause._asdict() for cause in evidence.causes],
        "notes": list(evidence.notes),
        **placed,
    }  # fmt: skip


def of_scores(scored: Scored, evidence: Evidence, limits: Limits) -> list[Check]:
    """The checks of the scores and of how the renderings lie on their photos."""
    mean, views = scored.mean, list(scored.views.values())
    offset = float(np.mean([np.linalg.norm(misfit.offset_pixels(view)) for view in views]))
    found = [
        record.at_least("PSNR in the mask", mean.psnr_db, limits.psnr_normal_db, limits.psnr_warning_db, "dB"),
        record.at_least("SSIM in the mask", mean.ssim, limits.ssim_normal, limits.ssim_warning),
    ]
    if floors.SILHOUETTE in evidence.floors:
        flat, same = evidence.floors[floors.SILHOUETTE], floors.mean_of_same(scored.views)
        found += [
            record.above("PSNR above that of a flat silhouette", same.psnr_db - flat.psnr_db, 0.0, "dB"),
            record.above("SSIM above that of a flat silhouette", same.ssim - flat.ssim, 0.0),
        ]
    found += [
        record.at_least("overlap of the masks", mean.mask_iou, limits.least_iou, limits.least_iou - FAILING_IOU),
        record.at_most(
            "offset from the photos", offset, limits.most_offset, FAILING_OFFSET * limits.most_offset, "pixels"
        ),
        record.within("tone against the photos", misfit.exponent(views), TONE, FAILING_TONE),
        Check("scored on", len(views), HELD_OUT, scored.label, "normal" if scored.label == HELD_OUT else "warning"),
    ]
    if scored.moved_pixels:
        median = float(np.median(scored.moved_pixels))
        found.append(record.at_most("held-out cameras moved", median, MOST_MOVED, unit="pixels in the median"))
    return found


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
