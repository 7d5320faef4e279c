"""Tables: rows of values, shown as text in a terminal and as HTML in a notebook and in the report."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recon_lib.verdict.record import TOLD, Check

SCORES = {  # of verdict.json, and what a reader calls them
    "psnr_db": "PSNR in the mask, dB",
    "ssim": "SSIM in the mask",
    "psnr_inside_db": "PSNR inside, 5 px from the outline, dB",
    "psnr_rim_db": "PSNR of the rim, dB",
    "psnr_full_db": "PSNR of the full frame on white, dB",
    "ssim_full": "SSIM of the full frame on white",
    "mask_iou": "overlap of true and rendered mask (IoU)",
    "flip": "FLIP in the mask, 0 is the same",
}
CHECKS = {  # of a mesh (surface.checks.MeshChecks), and what they should be
    "open_edges": ("open edges", 0),
    "non_manifold_edges": ("non-manifold edges", 0),
    "non_manifold_vertices": ("non-manifold vertices", 0),
    "flipped_edges": ("inconsistently wound edges", 0),
    "bodies": ("bodies", 1),
    "degenerate_faces": ("degenerate faces", 0),
    "non_finite_vertices": ("non-finite vertices", 0),
}
DISTANCES = {  # of verdict.json's `reference`
    "aligned_by": "aligned by",
    "accuracy": "mean distance from mesh to truth, units",
    "completeness": "mean distance from truth to mesh, units",
    "chamfer_percent": "Chamfer: mean of the two, not squared, % of the truth's diagonal",
    "noise_percent": "change of Chamfer with other sample points, % of the diagonal",
    "f_score_half_percent": "F-score at 0.5 % of the diagonal",
    "f_score_1_percent": "F-score at 1 %",
    "f_score_2_percent": "F-score at 2 %",
    "normal_consistency": "normal consistency, mean |cos|",
    "volume_iou": "overlap of the volumes (IoU)",
}
SOURCES = {  # of a coarse mesh's surface (coarse.sources), and what they mean
    "stereo": "several photos agree on its depth",
    "hull": "it lies where the silhouettes end: the photos agree on no depth there",
    "generated": "a network made it",
    "unseen": "no photo sees it, or only edge-on: it is a guess",
}


class Label(str):
    """A cell that HTML shows as a coloured label: a status or a state, which is also its CSS class."""


@dataclass(frozen=True)
class Table:
    rows: list[tuple]
    header: tuple[str, ...] = ()

    def text(self) -> str:
        rows = [self.header, *self.rows] if self.header else self.rows
        lines = [[_shown(cell) for cell in row] for row in rows]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        joined = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in joined)

    def html(self) -> str:
        head = f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in self.header)}</tr>" if self.header else ""
        return f"<table>{head}{''.join('<tr>' + ''.join(map(_cell, row)) + '</tr>' for row in self.rows)}</table>"

    def _repr_html_(self) -> str:
        return self.html()

    def __repr__(self) -> str:
        return self.text()


def verdict(judged: dict[str, Any]) -> Table:
    """The one table of a verdict: the status, then every check that can decide it. `judged` is verdict.json's content."""
    rows = [("verdict", f"{judged['view_count']} {judged['views']}", "all checks normal", Label(judged["status"]))]
    rows += [
        (check.name, check.describe(), check.needs(), Label(check.status))
        for check in _checks(judged)
        if check.limit != TOLD
    ]
    return Table(rows, ("check", "value", "normal needs", "status"))


def measures(judged: dict[str, Any]) -> Table:
    """What was measured of the mesh and is neither good nor bad."""
    rows = [(check.name, check.describe()) for check in _checks(judged) if check.limit == TOLD]
    return Table(rows, ("measure", "value"))


def levels(judged: dict[str, Any]) -> Table:
    """The scores with their intervals, between the ceiling and the floors of the same photos."""
    beside = {f"used photos ({judged['used_count']})": judged["used"], "moved 3 px": judged["floors"].get("moved")}
    beside |= {"flat silhouette": judged["floors"].get("silhouette"), "blank": judged["floors"].get("blank")}
    shown = {name: scores for name, scores in beside.items() if scores}
    rows = []
    for key, name in SCORES.items():
        low, high = judged["intervals"][key]
        rows.append((name, judged[key], f"{low:.4g} to {high:.4g}", *(scores[key] for scores in shown.values())))
    return Table(rows, ("mean over views", judged["views"], "95 % interval", *shown))


def against(found: dict[str, Any]) -> Table:
    """The mesh against the true surface; `found` is verdict.json's `reference`."""
    rows = [
        (name, found[key] if found[key] is not None else "not measured: one of the two is not closed")
        for key, name in DISTANCES.items()
    ]
    return Table(rows, ("measure", "value"))


def statuses(limits: dict[str, float]) -> Table:
    """What each status means; `limits` are those of verdict.json."""
    rows = [
        ("normal", f"PSNR is at least {limits['psnr_normal_db']:g} dB and SSIM at least {limits['ssim_normal']:g} on held-out "
                   "views, and every other check is normal: the mesh is closed, manifold, one body, and lies on its photos."),
        ("warning", f"PSNR is at least {limits['psnr_warning_db']:g} dB and SSIM at least {limits['ssim_warning']:g}, but "
                    "something that normal needs is missing."),
        ("failure", f"PSNR is below {limits['psnr_warning_db']:g} dB, SSIM is below {limits['ssim_warning']:g}, a flat "
                    "silhouette scores as well, the mesh lies beside its photos, or it is broken."),
    ]  # fmt: skip
    return Table([(Label(status), meaning) for status, meaning in rows])


def gain(judged: dict[str, Any]) -> Table:
    """The final mesh beside the coarse one, means over the views; a negative gain means that refinement did not help."""
    coarse = judged["coarse"]
    if coarse is None:
        return Table([(name, judged[key]) for key, name in SCORES.items()], ("mean over views", "final mesh"))
    rows = [(name, coarse[key], judged[key], f"{judged[key] - coarse[key]:+.3g}") for key, name in SCORES.items()]
    return Table(rows, ("mean over views", "coarse mesh", "final mesh", "gain"))


def views(scores: dict[str, Any]) -> Table:
    """The scores of every view by itself; `scores` maps its name to a `verdict.images.Score`."""
    rows = [(name, *(getattr(score, key) for key in SCORES)) for name, score in scores.items()]
    return Table(rows, ("view", *SCORES.values()))


def mesh_checks(found: Any) -> Table:
    """Is the mesh a solid? `found` is a `surface.checks.MeshChecks`."""
    rows = [
        (name, value, wanted, Label("normal" if value == wanted else "warning"))
        for (name, wanted), value in zip(CHECKS.values(), found, strict=True)
    ]
    return Table(rows, ("check", "value", "normal needs", "status"))


def sources(shares: dict[str, float]) -> Table:
    """Where the surface comes from; `shares` are of its area, by source."""
    rows = [(name, f"{share:.1%}", SOURCES[name]) for name, share in shares.items()]
    return Table(rows, ("surface", "share of its area", "meaning"))


def facts(found: dict[str, Any]) -> Table:
    """Names and values."""
    return Table(list(found.items()))


def columns(rows: Sequence[tuple], header: tuple[str, ...]) -> str:
    return Table(list(rows), header).text()


def _checks(judged: dict[str, Any]) -> list[Check]:
    return [Check(**check) for check in judged["checks"]]


def _cell(value: Any) -> str:
    shown = html.escape(_shown(value))
    if isinstance(value, Label):
        return f'<td><span class="status {html.escape(value)}">{shown}</span></td>'
    kind = ' class="number"' if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"<td{kind}>{shown}</td>"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
