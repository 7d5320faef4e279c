"""Runs beside one another: scores and time, the parameters in which they differ, one view of each, and their curves.

The best is first: by status, then by PSNR in the mask. A run without a verdict comes last. Scores are comparable only where the
same photos judged: that is said where they differ.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recon_lib import files
from recon_lib.show.figures import Picture, running_mean
from recon_lib.show.tables import Label, Table
from recon_lib.verdict.record import LEVELS

WORSE = (*LEVELS, "")  # "": no verdict
SHOWN = 6  # runs of which a view is drawn, the best ones
LINES = ("validation_psnr_db", "colour")  # of history.csv: what decides, and what is fitted


@dataclass(frozen=True)
class Run:
    """What is compared of one run."""

    name: str
    folder: Path
    record: dict[str, Any]  # run.json
    verdict: dict[str, Any] | None  # metrics/verdict.json
    views: dict[str, float]  # PSNR in the mask of each view, dB

    @property
    def seconds(self) -> float:
        """Of all stages together, as far as they are known."""
        return sum(entry.get("seconds", 0.0) for entry in self.record["stages"].values())

    @property
    def status(self) -> str:
        return self.verdict["status"] if self.verdict else ""


def compare(folders: Sequence[Path]) -> list[Run]:
    """The runs, the best first. Raises ValueError, one line per folder, for those that hold no run or an old verdict."""
    problems = [
        f"{folder}: no run.json, needed a run's folder" for folder in folders if not (folder / "run.json").exists()
    ]
    if problems or not folders:
        raise ValueError("\n".join(problems) or "no runs, needed one or more")
    runs = [_read(folder) for folder in folders]
    old = [str(run.folder) for run in runs if run.verdict and "version" not in run.verdict]
    if old:
        raise ValueError(
            "\n".join(f"{folder}: got a verdict of an earlier form, needed stage 4 run again" for folder in old)
        )
    return sorted(runs, key=lambda run: (WORSE.index(run.status), -(run.verdict or {}).get("psnr_db", 0.0)))


def _read(folder: Path) -> Run:
    record = json.loads((folder / "run.json").read_text())
    path = folder / "metrics" / "views.csv"
    views = {}
    if path.exists():
        with path.open(newline="") as file:
            views = {row["view"]: float(row["psnr_db"]) for row in csv.DictReader(file)}
    return Run(folder.name, folder, record, files.read_json(folder / "metrics" / "verdict.json"), views)


def table(runs: Sequence[Run]) -> Table:
    """A row per run."""
    rows = []
    for run in runs:
        found = run.verdict or {}
        scores = [found.get(name, "") for name in ("psnr_db", "ssim", "flip", "mask_iou")]
        low, high = found.get("intervals", {}).get("psnr_db", (None, None))
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        why = ", ".join(found.get("decided_by", ())) or run.record.get("error") or ""
        status = Label(run.status) if run.status else Label(run.record.get("state", "pending"))
        rows.append((run.name, status, scores[0], interval, *scores[1:], f"{run.seconds:.0f} s", why))
    header = ("run", "status", "PSNR, dB", "95 %", "SSIM", "FLIP", "IoU", "time", "decided by")
    return Table(rows, header)


def differences(runs: Sequence[Run]) -> Table:
    """The parameters that are not the same in all runs."""
    names = {(stage, name) for run in runs for stage, values in _parameters(run).items() for name in values}
    rows = []
    for stage, name in sorted(names):
        values = [_parameters(run).get(stage, {}).get(name, "") for run in runs]
        if any(value != values[0] for value in values):
            rows.append((f"{stage}.{name}", *map(str, values)))
    return Table(rows, ("parameter", *(run.name for run in runs)))


def _parameters(run: Run) -> dict[str, dict[str, Any]]:
    of_stages = {stage: entry.get("parameters", {}) for stage, entry in run.record["stages"].items()}
    return {stage: run.record.get("parameters", {}).get(stage, {}) | values for stage, values in of_stages.items()}


def scatter(runs: Sequence[Run]) -> Picture:
    """Quality against time: PSNR with its interval over the seconds of all stages."""
    figure = Picture(figsize=(7.6, 3.6), layout="constrained")
    axis = figure.subplots()
    for i, run in enumerate(run for run in runs if run.verdict):
        low, high = run.verdict["intervals"]["psnr_db"]
        psnr = run.verdict["psnr_db"]
        axis.errorbar(
            run.seconds, psnr, [[max(psnr - low, 0)], [max(high - psnr, 0)]], fmt="o", color=f"C{i % 10}", capsize=3
        )
        axis.annotate(run.name, (run.seconds, psnr), (6, 4), textcoords="offset points", fontsize=9, parse_math=False)
    axis.set(xlabel="seconds, all stages", ylabel="PSNR in the mask, dB (95 %)")
    axis.margins(0.15)
    axis.grid(alpha=0.3)
    return figure


def common_view(runs: Sequence[Run]) -> str:
    """The view that all runs with a verdict have and the best of them explains worst; "" if there is none."""
    judged = [run for run in runs if run.views]
    shared = set.intersection(*(set(run.views) for run in judged)) if judged else set()
    return min(shared, key=lambda name: (judged[0].views[name], name)) if shared else ""


def side_by_side(runs: Sequence[Run]) -> Picture:
    """One photo, and below it each run's rendering and error from its camera; of at most SHOWN runs, the best ones."""
    name, judged = common_view(runs), [run for run in runs if run.views][:SHOWN]
    if not name:
        figure = Picture(figsize=(6, 0.6))
        figure.text(0.02, 0.5, "No view was scored in all of these runs.", va="center")
        return figure
    figure = Picture(figsize=(2.3 * (1 + len(judged)), 4.4), layout="constrained")
    axes = figure.subplots(2, 1 + len(judged), squeeze=False)
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
    axes[0, 0].imshow(Image.open(judged[0].folder / "metrics" / "photos" / f"{name}.png"))
    axes[0, 0].set_title(f"{name}: photo", fontsize=9, parse_math=False)
    axes[1, 0].axis("off")
    for (above, below), run in zip(axes.T[1:], judged, strict=True):
        above.imshow(Image.open(run.folder / "metrics" / "renders" / f"{name}.png"))
        below.imshow(Image.open(run.folder / "metrics" / "errors" / f"{name}.png"))
        above.set_title(f"{run.name}: {run.views[name]:.1f} dB", fontsize=9, parse_math=False)
    return figure


def curves(runs: Sequence[Run]) -> Picture:
    """PSNR on the validation photos, which decides what is kept, and the colour loss, of every run over its steps."""
    figure = Picture(figsize=(9.6, 3.4), layout="constrained")
    axes = figure.subplots(1, len(LINES))
    for i, run in enumerate(runs):
        path = run.folder / "refined" / "history.csv"
        if not path.exists():
            continue
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for axis, column in zip(axes, LINES, strict=True):
            points = np.array([(float(row["step"]), float(row[column])) for row in rows if row.get(column)]).reshape(
                -1, 2
            )
            mean = points[:, 1] if column == LINES[0] else running_mean(points[:, 1])
            axis.plot(points[:, 0], mean, label=run.name, color=f"C{i % 10}", marker="." if column == LINES[0] else "")
    axes[0].set(xlabel="step", ylabel="PSNR on validation photos, dB")
    axes[1].set(xlabel="step", ylabel="colour loss, mean of 20 steps", yscale="log")
    if axes[1].lines:
        axes[1].legend(fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure


def reading(runs: Sequence[Run]) -> str:
    """Sentences for the notebook's Reading: which run is best, by how much, and whether that can be told."""
    judged = [run for run in runs if run.verdict]
    if not judged:
        return "None of these runs has a verdict yet."
    best = judged[0]
    said = [f"{best.name}: {best.status}, {best.verdict['psnr_db']:.2f} dB in {best.seconds:.0f} s."]
    inputs = [run.record.get("inputs") for run in judged]
    if any(given != inputs[0] for given in inputs) or len({tuple(sorted(run.views)) for run in judged}) > 1:
        said.append("The runs were not judged by the same photos, so their scores cannot be compared.")
    elif len(judged) > 1:
        second = judged[1]
        gap = best.verdict["psnr_db"] - second.verdict["psnr_db"]
        spread = _spread(best, second)
        clear = "more" if gap > spread else "no more"
        said.append(
            f"It is {gap:.2f} dB better than {second.name}, view by view, which is {clear} than chance explains "
            f"(twice the standard error of the difference is {spread:.2f} dB)."
        )
    fastest = min(judged, key=lambda run: run.seconds)
    if fastest is not best:
        said.append(f"The fastest is {fastest.name}: {fastest.seconds:.0f} s, {fastest.verdict['psnr_db']:.2f} dB.")
    return " ".join(said)


def _spread(a: Run, b: Run) -> float:
    """Twice the standard error of the mean difference over the shared views."""
    difference = np.array([a.views[name] - b.views[name] for name in a.views])
    return float(2 * difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
