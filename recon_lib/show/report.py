"""`report.html`: one page that holds all it shows and opens without a network, from whatever a run folder has.

First what decides (`first_screen`), contents, checks and the mesh; then each executed notebook without its code: sentences,
figures, tables, and the error where there is one; then times and versions. Cells tagged `only-live` are left out: they speak
of what only a running notebook has, or show what the page has elsewhere.
"""

import html
import json
import re
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from traitlets.config import Config

from recon_lib import files
from recon_lib.camera import CANONICAL_VIEWS
from recon_lib.photos import scene
from recon_lib.show import first_screen, provenance, tables
from recon_lib.show.page import banner, document, figure, label, picture, portable
from recon_lib.show.tables import Label, Table
from recon_lib.stages import COARSE, STAGES

LEFT_OUT = {"parameters", "injected-parameters", "only-live", "papermill-error-cell-tag"}
STILL = 180  # pixels along a side
NOTEBOOK = {"exclude_input": True, "exclude_input_prompt": True, "exclude_output_prompt": True}


def write(run_dir: Path, defaults: dict[str, dict[str, Any]] | None = None) -> Path:
    """Writes the page beside run.json and returns its path; `defaults` are those of each stage's parameters."""
    record = json.loads((run_dir / "run.json").read_text())
    verdict = files.read_json(run_dir / "metrics" / "verdict.json")
    sections = {
        "checks": ("The checks", _checks(verdict) if verdict else ""),
        "mesh": ("The mesh", _pictures(run_dir) + _unit(run_dir)),
        **{name: (_heading(name, record), _stage(run_dir, name, record)) for name in STAGES},
        "provenance": ("Provenance", provenance.section(run_dir, record, defaults or {})),
        "run": ("The run", _appendix(run_dir, record)),
    }
    shown = {key: section for key, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{key}">{key if key in STAGES else title}</a>' for key, (title, _) in shown.items())
    body = "".join(f'<h2 id="{key}">{title}</h2>{content}' for key, (title, content) in shown.items())
    bound = provenance.summary(run_dir, record)
    first = first_screen.head(run_dir, record, verdict) + (banner(bound) if bound else "")
    status = verdict["status"] if verdict else record.get("state", "")
    target = run_dir / "report.html"
    files.write_text(
        target, document(f"{run_dir.name}: {status}", f"{first}<nav><b>Contents</b> &nbsp; {links}</nav>{body}")
    )
    return target


def _checks(verdict: dict[str, Any]) -> str:
    """What decided; what a score is worth; what is neither good nor bad."""
    if "version" not in verdict:
        return (
            f"{tables.verdict(verdict).html()}<p>This verdict has an earlier form. Run stage 4 again for the rest.</p>"
        )
    lpips = verdict["lpips_absent"] or f"LPIPS of the compared pictures (AlexNet): {verdict['lpips']:.3f}"
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in verdict["notes"])
    worth = (
        "Between the ceiling, photos that the mesh was made of, and the floors of the same photos: the photo itself moved by 3 "
        "pixels, the true silhouette in one colour, and nothing."
    )
    return (
        f"{tables.verdict(verdict).html()}{notes}<h3>What the scores are worth</h3><p>{worth}</p>"
        f"{tables.levels(verdict).html()}<p><small>{html.escape(lpips)}.</small></p>{_reference(verdict)}"
        f"<details><summary>what was measured and is neither good nor bad</summary>{tables.measures(verdict).html()}</details>"
    )


def _reference(verdict: dict[str, Any]) -> str:
    if not verdict["reference"]:
        return ""
    return f"<h3>Against the true surface</h3>{tables.against(verdict['reference']).html()}"


def _pictures(run_dir: Path) -> str:
    folder = run_dir / "preview"
    paths = {name: folder / f"{name}.png" for name in CANONICAL_VIEWS}
    stills = "".join(picture(path, STILL, name) for name, path in paths.items() if path.exists())
    turntable, viewer = folder / "turntable.webp", folder / "viewer.html"
    turn = figure(turntable.read_bytes(), "webp", "one turn", "turn") if turntable.exists() else ""
    page = ""
    if viewer.exists():
        page = (
            "<p>Drag to turn the mesh, scroll to come closer. This copy has fewer triangles than the file.</p>"
            f'<iframe srcdoc="{html.escape(viewer.read_text())}" width="100%" height="480" title="the mesh" '
            'style="border:1px solid #dde2e8"></iframe>'
        )
    return f'<div class="pictures stills">{stills}{turn}</div>{page}' if stills or turn or page else ""


def _unit(run_dir: Path) -> str:
    metres = scene.metres_per_unit(run_dir)
    return f"<p>One unit of the mesh files is {metres:.6g} m, by a known length.</p>" if metres else ""


def _heading(name: str, record: dict[str, Any]) -> str:
    entry = record["stages"].get(name, {"state": "pending"})
    maker = f": made by {first_screen.backend(entry)}" if name == COARSE and "backend" in entry else ""
    seconds = f" <small>{entry['seconds']:.1f} s</small>" if "seconds" in entry else ""
    return f"{name}{maker} {label(entry['state'])}{seconds}"


def _stage(run_dir: Path, name: str, record: dict[str, Any]) -> str:
    entry = record["stages"].get(name, {"state": "pending"})
    notebook = run_dir / f"{name}.ipynb"
    error = f"<p><b>{html.escape(portable(entry['error'], run_dir))}</b></p>" if entry.get("error") else ""
    reason = f"<p>{_code(html.escape(portable(entry['reason'], run_dir)))}.</p>" if entry.get("reason") else ""
    body = ""
    if notebook.exists() and entry["state"] != "pending":
        body = (
            f'<details open class="notebook"><summary>what was done</summary>{_notebook(notebook, run_dir)}</details>'
        )
    asked = [(key, portable(value, run_dir) if isinstance(value, str) else value)
             for key, value in entry.get("parameters", {}).items()]  # fmt: skip
    parameters = Table(asked, ("parameter", "value in effect")).html()
    folded = f"<details><summary>parameters</summary>{parameters}</details>" if asked else ""
    return f"{error}{reason}{_changed(entry)}{body}{folded}" or "<p>This stage has not run.</p>"


def _code(text: str) -> str:
    """What stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _changed(entry: dict[str, Any]) -> str:
    rows = [(change["step"], change["name"], change["value"]) for change in entry.get("rates_changed", [])]
    table = Table(rows, ("from step", "rate", "new value")).html()
    return f"<p>While the fit ran, a person changed its rates:</p>{table}" if rows else ""


def _notebook(path: Path, run_dir: Path) -> str:
    """Sentences and outputs. The `parameters` cells go: they show the defaults, the table shows what was in effect."""
    book = nbformat.read(path, as_version=4)
    book.cells = [cell for cell in book.cells if not LEFT_OUT & set(cell.metadata.get("tags", []))]
    broken = [any(output.output_type == "error" for output in cell.get("outputs", [])) for cell in book.cells]
    if any(broken):  # sentences after that speak of what was never made
        book.cells = book.cells[: broken.index(True) + 1]
    for cell in book.cells:
        for output in cell.get("outputs", []):
            _clean(output, run_dir)
    config = Config({"TemplateExporter": NOTEBOOK})
    return HTMLExporter(template_name="basic", config=config).from_notebook_node(book)[0]


def _clean(output: nbformat.NotebookNode, run_dir: Path) -> None:
    """Takes what one computer alone knows out of a cell's output: live widgets, and where folders lie."""
    data = output.get("data", {})
    if "image/png" in data:
        data.pop("application/vnd.jupyter.widget-view+json", None)
    for key in [key for key in data if key.startswith("text/")]:
        data[key] = portable(data[key], run_dir)
    for key in ("text", "evalue"):
        if key in output:
            output[key] = portable(output[key].strip("\n"), run_dir)
    if "traceback" in output:
        output["traceback"] = [portable(line, run_dir) for line in output["traceback"]]


def _appendix(run_dir: Path, record: dict[str, Any]) -> str:
    rows = [
        (
            name,
            Label(entry["state"]),
            f"{entry['seconds']:.1f} s" if "seconds" in entry else "",
            f"{entry['peak_memory_mb']:.0f} MB" if "peak_memory_mb" in entry else "",
        )
        for name, entry in record["stages"].items()
    ]
    rest = {k: v for k, v in record.items() if k not in ("stages", "inputs", "parameters", "versions")}
    shown = html.escape(portable(json.dumps(rest, indent=1), run_dir))
    return (
        Table(rows, ("stage", "state", "time", "peak memory")).html()
        + f"<details><summary>run.json, without the stages</summary><pre>{shown}</pre></details>"
    )
