"""`report.html`: one page that holds all it shows and opens without a network, from whatever a run folder has.

Verdict, stills and viewer first; then each executed notebook without its code: sentences, figures, tables, and the error
where there is one; then parameters, times and versions.
"""

import base64
import html
import json
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from traitlets.config import Config

from recon_lib import files
from recon_lib.camera import CANONICAL_VIEWS
from recon_lib.show import tables
from recon_lib.show.tables import Label, Table
from recon_lib.stages import STAGES

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{margin:.2rem 0}h2{border-top:1px solid #dde2e8;padding-top:1.2rem;margin-top:2rem}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #e6e9ee;text-align:left}
td.number{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}
pre{background:#f6f7f9;padding:.6rem;overflow:auto;font-size:12px}
.status{display:inline-block;padding:.1rem .7rem;border-radius:1rem;color:#fff;font-weight:600}
.normal,.done,.reused{background:#1f8a4c}.warning,.running,.interrupted{background:#c77700}
.failure,.failed{background:#c0322b}.pending{background:#7a8594}
details>summary{cursor:pointer;font-weight:600;font-size:1.15rem;margin:.6rem 0}
.anchor-link,.jp-OutputArea-prompt,.jp-InputPrompt,.prompt{display:none}
.stills{display:grid;grid-template-columns:repeat(6,1fr);gap:4px}.stills figure{margin:0;text-align:center;font-size:12px}
"""


def write(run_dir: Path) -> Path:
    """Writes the page beside run.json and returns its path."""
    record = json.loads((run_dir / "run.json").read_text())
    verdict = files.read_json(run_dir / "metrics" / "verdict.json")
    parts = [
        _head(run_dir, record, verdict),
        _pictures(run_dir),
        "".join(_stage(run_dir, name, record) for name in STAGES),
        _appendix(record),
    ]
    title = html.escape(f"{run_dir.name}: {verdict['status'] if verdict else record.get('state', '')}")
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>"
    )
    target = run_dir / "report.html"
    files.write_text(target, text)
    return target


def _head(run_dir: Path, record: dict, verdict: dict | None) -> str:
    if verdict is None:
        failed = [
            f"{name}: {s.get('error', s['state'])}" for name, s in record["stages"].items() if s["state"] != "done"
        ]
        reason = html.escape("; ".join(failed) or "the run is not finished")
        state = record.get("state", "failed")
        return f"<h1>{html.escape(run_dir.name)}</h1><p>{_badge(state)} No verdict: {reason}</p>"
    scores = [
        ("inside the mask (decides)", f"{verdict['psnr_db']:.2f} dB", f"{verdict['ssim']:.3f}"),
        ("full frame on white (decides nothing)", f"{verdict['psnr_full_db']:.2f} dB", f"{verdict['ssim_full']:.3f}"),
    ]
    return (
        f"<h1>{html.escape(run_dir.name)}</h1>"
        f"{_late(record)}"
        f"<p>{_badge(verdict['status'])} on <code>{html.escape(str(verdict.get('mesh', '')))}</code>, "
        f"{verdict['view_count']} {verdict['views']}, mask IoU {verdict['mask_iou']:.4f}</p>"
        + Table(scores, ("mean over views", "PSNR", "SSIM")).html()
        + tables.verdict(verdict).html()
    )


def _late(record: dict) -> str:
    limit = record.get("over_soft_limit_s")
    return (
        f"<p>The run passed its soft limit of {limit:g} s: refinement ended early and kept its best.</p>"
        if limit
        else ""
    )


def _pictures(run_dir: Path) -> str:
    folder = run_dir / "preview"
    stills = [folder / f"{name}.png" for name in CANONICAL_VIEWS]
    found = "".join(f'<figure><img src="{_data(p)}" alt="{p.stem}">{p.stem}</figure>' for p in stills if p.exists())
    viewer = folder / "viewer.html"
    page = ""
    if viewer.exists():
        inside = html.escape(viewer.read_text())
        page = f'<iframe srcdoc="{inside}" width="100%" height="480" style="border:1px solid #dde2e8"></iframe>'
    return f'<h2>The mesh</h2><div class="stills">{found}</div>{page}' if found or page else ""


def _stage(run_dir: Path, name: str, record: dict) -> str:
    entry = record["stages"].get(name, {"state": "pending"})
    body, notebook = "", run_dir / f"{name}.ipynb"
    if notebook.exists() and entry["state"] != "pending":
        body = _notebook_body(notebook)
    seconds = f", {entry['seconds']:.1f} s" if "seconds" in entry else ""
    error = f"<p><b>{html.escape(entry['error'])}</b></p>" if entry.get("error") else ""
    parameters = Table(list(entry.get("parameters", {}).items()), ("parameter", "value in effect")).html()
    return (
        f"<h2>{name} {_badge(entry['state'])}<small>{seconds}</small></h2>{error}"
        f"<details {'open' if body else ''}><summary>what was done</summary>{body}</details>"
        f"<details><summary>parameters</summary>{parameters}</details>"
    )


def _notebook_body(path: Path) -> str:
    """Sentences and outputs. The `parameters` cells go: they show the defaults, the table shows what was in effect."""
    book = nbformat.read(path, as_version=4)
    kept = [c for c in book.cells if not {"parameters", "injected-parameters"} & set(c.metadata.get("tags", []))]
    kept = [c for c in kept if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
    for cell in kept:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"].pop("application/vnd.jupyter.widget-view+json", None)
    book.cells = kept
    exporter = HTMLExporter(
        template_name="basic",
        config=Config(
            {"TemplateExporter": {"exclude_input": True, "exclude_input_prompt": True, "exclude_output_prompt": True}}
        ),
    )
    return exporter.from_notebook_node(book)[0]


def _appendix(record: dict) -> str:
    rows = [
        (name, Label(s["state"]), f"{s.get('seconds', 0):.1f} s", f"{s.get('peak_memory_mb', 0):.0f} MB")
        for name, s in record["stages"].items()
    ]
    rest = {k: v for k, v in record.items() if k not in ("stages", "inputs", "parameters")}
    return (
        "<h2>The run</h2>"
        + Table(rows, ("stage", "state", "time", "peak memory")).html()
        + f"<details><summary>run.json</summary><pre>{html.escape(json.dumps(rest, indent=1))}</pre></details>"
    )


def _badge(status: str) -> str:
    return f'<span class="status {status}">{status}</span>'


def _data(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
