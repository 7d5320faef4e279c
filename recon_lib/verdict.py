"""The verdict on an exported mesh: `normal`, `warning` or `failure`, the worst of its checks.

PSNR and SSIM are means over views of the scores inside the mask (`metrics.images`). Held-out views decide; scores of views
that were used, for want of others, are labelled so and the verdict is then at most `warning`.
"""

import csv
import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from IPython.display import HTML
from PIL import Image

from recon_lib import figures
from recon_lib.mesh import Mesh
from recon_lib.metrics import checks, images
from recon_lib.metrics.checks import Topology
from recon_lib.metrics.images import Comparison, Score
from recon_lib.scene import Scene

LEVELS = ("normal", "warning", "failure")
HELD_OUT, USED = "held-out views", "used views"


@dataclass(frozen=True)
class Check:
    name: str
    value: float | int
    limit: str  # what `normal` needs
    unit: str
    status: str


@dataclass(frozen=True, eq=False)
class Scored:
    views: dict[str, Comparison]
    topology: Topology
    label: str  # HELD_OUT or USED

    @property
    def mean(self) -> Score:
        return images.mean_score([view.score for view in self.views.values()])

    def worst_first(self) -> dict[str, Comparison]:
        return dict(sorted(self.views.items(), key=lambda item: item[1].score.psnr_db))


def score(
    mesh: Mesh, scene: Scene, raster: ModuleType, progress: Callable[[float, str], None] = lambda share, what: None
) -> Scored:
    """Scores a mesh as read back from its file, in the world, on the held-out views; on all where none is held out."""
    label = HELD_OUT if scene.held_out.any() else USED
    shown = scene.subset(scene.held_out) if scene.held_out.any() else scene
    views = {}
    for i, name in enumerate(shown.names):
        views[name] = images.compare(mesh, shown.images[i], shown.cameras[[i]], raster)
        progress((i + 1) / len(shown.names), f"scoring {name}")
    return Scored(views, checks.topology(mesh.verts, mesh.faces), label)


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


def save(folder: Path, judged: dict, scored: Scored, coarse: Scored | None, mesh_name: str) -> None:
    """Writes verdict.json, views.csv, renders/*.png and errors/*.png."""
    extra = {"mesh": mesh_name, "coarse": coarse.mean._asdict() if coarse else None}
    (folder / "verdict.json").write_text(json.dumps(judged | extra, indent=1))
    with (folder / "views.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["view", *Score._fields])
        table.writerows([name, *view.score] for name, view in scored.views.items())
    for name in ("renders", "errors"):
        (folder / name).mkdir()
    for name, view in scored.views.items():
        Image.fromarray((view.rendered.clip(0, 1) * 255).round().astype("uint8")).save(
            folder / "renders" / f"{name}.png"
        )
        figures.error_picture(view.error).save(folder / "errors" / f"{name}.png")


def table(judged: dict) -> HTML:
    """The checks, as a notebook shows them."""
    head = (
        f"<p><b>{judged['status']}</b>, {judged['view_count']} {judged['views']}, mask IoU {judged['mask_iou']:.4f}</p>"
    )
    rows = [(c["name"], f"{_number(c['value'])} {c['unit']}", c["limit"], c["status"]) for c in judged["checks"]]
    return HTML(head + _html(("check", "value", "normal needs", "status"), rows))


def view_table(scored: Scored) -> HTML:
    rows = [(name, *map(_number, view.score)) for name, view in scored.views.items()]
    return HTML(_html(("view", *Score._fields), rows))


def gain_table(scored: Scored, coarse: Scored | None) -> HTML:
    """Final mesh beside the coarse one; a negative gain means that refinement did not help."""
    if coarse is None:
        return HTML("<p>The coarse mesh was not scored.</p>")
    rows = [
        (name, _number(before), _number(after), f"{after - before:+.4g}")
        for name, before, after in zip(Score._fields, coarse.mean, scored.mean, strict=True)
    ]
    return HTML(_html(("mean over views", "coarse mesh", "final mesh", "gain"), rows))


def _html(header: tuple, rows: list[tuple]) -> str:
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(header, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
