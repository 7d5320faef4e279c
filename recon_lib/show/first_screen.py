"""What a reviewer sees first: the verdict and the sentence that decided, what is wrong with the record, the worst view."""

import csv
import html
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recon_lib.show import tables
from recon_lib.show.page import banner, label, moment, picture, portable
from recon_lib.stages import COARSE, FINISHED, REFINE, STAGES
from recon_lib.verdict.config import Limits
from recon_lib.verdict.images import ERROR_SHOWN

BACKENDS = {"hull": "the visual hull", "reconviagen": "ReconViaGen", "stereo": "stereo matching inside the visual hull"}
SHOWN = 340  # pixels along a side of the worst view's pictures


def head(run_dir: Path, record: dict[str, Any], verdict: dict[str, Any] | None) -> str:
    """Everything above the contents."""
    says = _no_verdict(record) if verdict is None else _verdict(verdict)
    return (
        f"<h1>{html.escape(run_dir.name)}</h1><p><small>{_made(record)}</small></p>"
        f"{banners(run_dir, record)}{says}{_worst(run_dir, verdict)}"
        f'<div class="{"beside" if verdict else ""}"><div>{_gain(verdict)}</div><div>{_legend(verdict)}</div></div>'
    )


def banners(run_dir: Path, record: dict[str, Any]) -> str:
    """One for each thing that a reader must know before believing the page."""
    states = {stage: entry["state"] for stage, entry in record["stages"].items()}
    found = []
    if stale := [stage for stage in STAGES if states.get(stage) == "stale"]:
        found.append(banner(_stale(record["stages"], stale)))
    for state, verb in (("failed", "failed"), ("interrupted", "was interrupted")):
        stopped = [stage for stage in STAGES if states.get(stage) == state]
        if stopped or record.get("state") == state:
            found.append(banner(_stopped(run_dir, record, stopped, verb), state))
    for stage in STAGES:
        for name, reason in record["stages"].get(stage, {}).get("not_written", {}).items():
            why = html.escape(portable(str(reason), run_dir))
            found.append(banner(f"<b>{html.escape(name)}</b> of stage {stage} could not be written: {why}."))
    if limit := record.get("over_soft_limit_s"):
        found.append(
            banner(f"The run passed its soft limit of {limit:g} s: refinement ended early and kept its best state.")
        )
    return "".join(found)


def backend(entry: dict[str, Any]) -> str:
    """Who made the coarse mesh, from stage 2's entry in run.json."""
    name = entry["backend"]
    return html.escape(f"{BACKENDS.get(name, name)} ({name})")


def _stale(stages: dict[str, Any], stale: list[str]) -> str:
    since = stages[stale[0]].get("started", "")
    anew = [stage for stage in STAGES[: STAGES.index(stale[0])] if stages[stage].get("started", "") > since]
    what = f"stage {', '.join(anew)} was" if anew else "a stage before them was"
    about = "an earlier mesh" if anew and anew[-1] in (COARSE, REFINE) else "an earlier scene or mesh"
    return (
        f"<b>Results of {', '.join(stale)} are about {about}:</b> {what} made anew afterwards. Run <code>recon run</code> "
        "again before you trust them."
    )


def _stopped(run_dir: Path, record: dict[str, Any], stopped: list[str], verb: str) -> str:
    """Where and why a run ended early."""
    where = f"in stage {', '.join(stopped)}" if stopped else "between two stages"
    error = str(record.get("error") or next((record["stages"][stage].get("error") for stage in stopped), "") or "")
    for stage in stopped:
        error = error.removeprefix(f"{stage}: ")
    cause = html.escape(portable(error, run_dir)) or "no reason is on record"
    return (
        f"<b>The run {verb} {where}:</b> {cause}. This page shows what there was until then. Once the cause is gone, run "
        "<code>recon run</code> again."
    )


def _made(record: dict[str, Any]) -> str:
    """When, where and by whom the mesh was made."""
    begun, ended = record.get("started") or record.get("created"), record.get("ended")
    when = [f"Started {moment(begun)} UTC" if begun else "", f"ended {moment(ended)} UTC" if ended else ""]
    device = [f"on device {html.escape(record['device'])}"] if record.get("device") else []
    sentence = ", ".join([*filter(None, when), *device])
    coarse = record["stages"].get(COARSE, {})
    mesh = record.get("final_mesh")
    if not mesh or "backend" not in coarse:
        return f"{sentence}."
    refined = "then refined" if mesh.startswith("refined/") else "not refined"
    return f"{sentence}. The mesh, <code>{html.escape(mesh)}</code>, was made by {backend(coarse)}, {refined}."


def _no_verdict(record: dict[str, Any]) -> str:
    missing = ", ".join(f"{name} ({s['state']})" for name, s in record["stages"].items() if s["state"] not in FINISHED)
    reason = html.escape(f"Not finished: {missing}" if missing else "The run is not finished")
    return f'<p class="verdict">{label(record.get("state", "failed"))} No verdict. {reason}.</p>'


def _verdict(verdict: dict[str, Any]) -> str:
    reason = html.escape(verdict.get("reason", ""))
    causes = "".join(
        f"<p><b>{html.escape(cause['says'])}</b> {html.escape(cause['remedy'])}</p>"
        for cause in verdict.get("diagnosis", [])
    )
    return f'<p class="verdict">{label(verdict["status"])} {reason}</p>{causes}'


def _worst(run_dir: Path, verdict: dict[str, Any] | None) -> str:
    """The view with the least PSNR: photo, rendering and error, all of the box in which they were compared."""
    scores = run_dir / "metrics" / "views.csv"
    if verdict is None or not scores.exists():
        return ""
    with scores.open(newline="") as file:
        rows = list(csv.DictReader(file))
    row = min(rows, key=lambda view: float(view["psnr_db"]))
    name = row["view"]
    captions = {
        "photos": "photo",
        "renders": "rendering of the mesh",
        "errors": f"where they differ: black not at all, yellow by {ERROR_SHOWN:g} of 1 or more",
    }
    shown = [(run_dir / "metrics" / folder / f"{name}.png", caption) for folder, caption in captions.items()]
    if not all(path.exists() for path, _ in shown):
        return ""
    pictures = "".join(picture(path, SHOWN, caption) for path, caption in shown)
    return (
        f"<h3>The worst of {len(rows)} {verdict['views']}: {html.escape(name)} <small>PSNR {float(row['psnr_db']):.2f} dB, "
        f'SSIM {float(row["ssim"]):.3f} in the mask</small></h3><div class="pictures three">{pictures}</div>'
    )


def _gain(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return ""
    scored = {"coarse": None, **verdict}
    return f"<h3>{'From coarse to final' if scored['coarse'] else 'Scores'}</h3>{tables.gain(scored).html()}"


def _legend(verdict: dict[str, Any] | None) -> str:
    limits = (verdict or {}).get("limits") or asdict(Limits())
    meaning = tables.statuses(limits).html()
    return (
        f"<h3>What a status means</h3>{meaning}<p><small>PSNR and SSIM say how closely renderings of the mesh "
        "match photos; higher is better. Those inside the object's mask decide. Held-out views are photos that the mesh was "
        "not made of.</small></p>"
    )
