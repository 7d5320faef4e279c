"""The verdict on an exported mesh: `normal`, `warning` or `failure`, the worst of its checks.

PSNR and SSIM are means over views of the scores inside the mask (`metrics.images`). Held-out views decide; scores of views
that were used, for want of others, are labelled so and the verdict is then at most `warning`.
"""

from dataclasses import dataclass

from recon_lib.metrics.checks import Topology
from recon_lib.metrics.images import Score

LEVELS = ("normal", "warning", "failure")
HELD_OUT, USED = "held-out views", "used views"


@dataclass(frozen=True)
class Check:
    name: str
    value: float
    limit: str  # what `normal` needs
    unit: str
    status: str


def check_score(name: str, value: float, normal: float, warning: float, unit: str) -> Check:
    status = "normal" if value >= normal else "warning" if value >= warning else "failure"
    return Check(name, value, f">= {normal:g} (warning >= {warning:g})", unit, status)


def check_count(name: str, value: int, limit: int, otherwise: str = "warning") -> Check:
    return Check(name, value, f"{limit}", "", "normal" if value == limit else otherwise)


def judge(mean: Score, topology: Topology, views: str, view_count: int) -> dict:
    """`views` is HELD_OUT or USED. Returns verdict.json's content."""
    checks = [
        check_score("PSNR in the mask", mean.psnr_db, 25.0, 20.0, "dB"),
        check_score("SSIM in the mask", mean.ssim, 0.85, 0.75, ""),
        Check("scored on", view_count, HELD_OUT, views, "normal" if views == HELD_OUT else "warning"),
        check_count("open edges", topology.open_edges, 0),
        check_count("non-manifold edges", topology.non_manifold_edges, 0),
        check_count("non-manifold vertices", topology.non_manifold_vertices, 0),
        check_count("inconsistently wound edges", topology.flipped_edges, 0),
        check_count("bodies", topology.bodies, 1),
        check_count("degenerate faces", topology.degenerate_faces, 0),
        check_count("non-finite vertices", topology.non_finite_vertices, 0, otherwise="failure"),
    ]
    return {
        "status": LEVELS[max(LEVELS.index(check.status) for check in checks)],
        **mean._asdict(),
        "views": views,
        "view_count": view_count,
        "checks": [vars(check) for check in checks],
    }
