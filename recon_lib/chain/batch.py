"""Many runs at once: a file of objects or a grid of parameters becomes runs in the queue, watched until all have ended.

A batch file is YAML and maps the name of each run to what it is made of: `params`, a parameter file; `photos`, a folder instead
of the one in that file; and under the stages' names the parameters in which this run differs. Paths start at the repository.
"""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from recon_lib.chain import asked, job, naming, params, pipeline, reuse, status
from recon_lib.stages import INGEST, STAGES

TRIES = 3  # how often a run may fail before it is set aside
POLL_S = 0.5
TELL_S = 10.0  # least time between two tellings while no state changes


def read(path: Path, home: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The runs of a batch file: name to parameters (stage to name to value).

    Raises ValueError, one line per problem, for a file that is absent or of another form, and for bad names and parameters.
    """
    content = params.load_yaml(path)
    if not isinstance(content, dict) or not content or not all(isinstance(run, dict) for run in content.values()):
        raise ValueError(f"{path}: needed `name: {{params: FILE, photos: DIR, STAGE: {{name: value}}}}` for each run")
    runs, problems = {}, []
    for name, wanted in content.items():
        try:
            runs[str(name)] = _read_run(str(name), wanted, home)
        except ValueError as error:
            problems += [f"{name}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ValueError("\n".join(problems))
    return runs


def sweep(path: Path, name: str, grid: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """A run per combination of the grid's values, named after them; `grid` has items `STAGE.NAME=VALUE,VALUE`.

    Raises ValueError for a bad item, and for combinations that would have the same name.
    """
    axes = []
    for item in grid:
        stage, parameter, values = asked.parse_setting(item)
        values = [yaml.safe_load(value) for value in values.split(",")] if isinstance(values, str) else [values]
        axes.append([(stage, parameter, value) for value in values])
    runs: dict[str, dict] = {}
    for combination in itertools.product(*axes):
        wanted = params.read(path)
        for stage, parameter, value in combination:
            wanted[stage] = wanted.get(stage, {}) | {parameter: value}
        pipeline.validate(wanted)
        label = naming.slug("-".join([name, *(f"{parameter}-{value}" for _, parameter, value in combination)]))
        if label in runs:
            raise ValueError(f"--grid: two combinations are called {label}; needed values that differ")
        runs[label] = wanted
    return runs


def submit(runs: dict[str, dict[str, dict[str, Any]]], outputs: Path, notebooks: Path) -> None:
    """Puts all runs into the queue. Raises ValueError, before any is in it, for a folder that holds a run over other photos."""
    for name, wanted in runs.items():
        ingest = params.defaults(INGEST) | wanted.get(INGEST, {})
        hashes = reuse.photo_hashes(ingest, notebooks)
        if naming.is_another_run(outputs / name, pipeline.photos_folder(ingest, notebooks), hashes):
            raise ValueError(f"{name}: {outputs / name} holds a run over other photos; needed another name")
    for name, wanted in runs.items():
        job.submit(wanted, outputs / name, list(STAGES), notebooks, tries=TRIES)


def watch(outputs: Path, names: list[str]) -> Iterator[list[status.Status]]:
    """Yields the status of all runs when one changes its state, every TELL_S seconds, and a last time when all have ended."""
    before, told = None, -TELL_S
    while True:
        rows = [status.read(outputs / name) for name in names]
        states = [row.state for row in rows]
        ended = not any(row.in_queue or row.alive for row in rows)
        if ended or states != before or time.monotonic() >= told + TELL_S:
            yield rows
            before, told = states, time.monotonic()
        if ended:
            return
        time.sleep(POLL_S)


def scores(folder: Path) -> tuple[str, str, str]:
    """Verdict, PSNR (dB) and SSIM of a run as text; empty where there is no verdict."""
    path = folder / "metrics" / "verdict.json"
    if not path.exists():
        return "", "", ""
    found = json.loads(path.read_text())
    return found["status"], f"{found['psnr_db']:.1f} dB", f"{found['ssim']:.3f}"


def _read_run(name: str, wanted: dict[str, Any], home: Path) -> dict[str, dict[str, Any]]:
    naming.check_name(name)
    unknown = [key for key in wanted if key not in (*STAGES, "params", "photos")]
    if unknown:
        raise ValueError("\n".join(params.unknown(str(key), (*STAGES, "params", "photos")) for key in unknown))
    found = params.read(home / str(wanted["params"])) if "params" in wanted else {}
    for stage in STAGES:
        changed = wanted.get(stage) or {}
        if not isinstance(changed, dict):
            raise ValueError(f"{stage}: got {changed!r}, needed `name: value`")
        found[stage] = found.get(stage, {}) | changed
    if "photos" in wanted:
        found[INGEST]["photos"] = wanted["photos"]
    pipeline.validate(found)
    return found
