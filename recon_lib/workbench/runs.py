"""What the workbench does with runs: it starts them as jobs and lists, resumes, forks and deletes them; without any widget.

Runs live in `outputs/` and in processes of their own, so nothing here has to be kept: whoever looks again finds them.
"""

import argparse
import html
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from recon_lib.chain import asked, batch, commands, dispatch, job, lock, status, tickets
from recon_lib.chain import fork as forks
from recon_lib.chain import run as records
from recon_lib.chain.status import Status
from recon_lib.stages import STAGES

AUTO = "auto"  # the mode in which the preset decides who makes the first mesh


class Listed(NamedTuple):
    """One run in the list."""

    name: str
    state: str
    verdict: str  # of stage 4; empty without one
    psnr_db: str
    ssim: str
    age_s: float  # since it was asked for
    status: Status | None  # None if its record is damaged; then `state` says so


def start(home: Path, photos: str, name: str, mode: str, preset: str) -> str:
    """Puts a new run into the queue and sees that somebody serves it; returns its name.

    Raises ValueError for what `recon submit` refuses: photos that are not there, a bad name, one that another run has.
    """
    if not photos.strip():
        raise ValueError("photos: got none, needed a folder, a .zip, or files dropped above")
    if not name.strip():
        raise ValueError("name: got none, needed a name for the run")
    parser = argparse.ArgumentParser()
    commands.add_run(parser)
    line = [f"--photos={home / Path(photos.strip()).expanduser()}", f"--name={name.strip()}", f"--preset={preset}",
            f"--notebooks={home / 'notebooks'}"]  # fmt: skip
    wanted = asked.run_asked(parser.parse_args(line if mode == AUTO else [*line, f"--mode={mode}"]))
    job.submit(wanted.params, wanted.folder, wanted.stages, wanted.notebooks, wanted.force, **wanted.limits)
    dispatch.start(wanted.folder.parent)
    return wanted.folder.name


def resume(folder: Path) -> None:
    """Puts a run into the queue again; what it has finished stays. Raises ValueError for one that was never run as a whole."""
    content = records.load(folder)
    if "job" not in content:
        raise ValueError(f"{folder.name}: it was never run as a whole, so there is nothing to resume")
    wanted = content["job"]
    limits = {name: wanted[name] for name in ("timeout_s", "soft_limit_s")}
    job.submit(wanted["params"], folder, wanted["stages"], Path(wanted["notebooks"]), **limits)
    dispatch.start(folder.parent)


def change(folder: Path, stage: str, name: str, value: Any) -> None:
    """Puts a run into the queue again with one parameter changed. Raises ValueError as `resume` and for a bad value."""
    content = records.load(folder)
    if "job" not in content:
        raise ValueError(f"{folder.name}: it was never run as a whole")
    wanted = content["job"]
    asked_for = wanted["params"] | {stage: wanted["params"].get(stage, {}) | {name: value}}
    job.submit(asked_for, folder, wanted["stages"], Path(wanted["notebooks"]))
    dispatch.start(folder.parent)


def fork(folder: Path, stage: str, name: str) -> str:
    """Makes a run that shares the stages before `stage`, puts it into the queue, and returns its name."""
    made = forks.fork(folder, stage, name.strip(), {})
    resume(made)
    return made.name


def delete(folder: Path) -> None:
    """Deletes a run folder. Raises ValueError for a run that waits or works."""
    if lock.alive(folder) or tickets.find(folder.parent, _queued(folder)) is not None:
        raise ValueError(f"{folder.name}: it waits, works or writes its report; wait for it, or cancel it")
    gone = folder.with_name(f".{folder.name}.deleted")  # so that nobody meets half of it
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)


def listed(outputs: Path) -> list[Listed]:
    """All runs, the latest first."""
    found = [_listed(path.parent) for path in outputs.glob("*/run.json")]
    return sorted(found, key=lambda row: row.age_s)


def photo_sources(home: Path) -> list[str]:
    """What lies at hand to make a run of: uploads, the samples, and the photos of earlier runs; latest uploads first."""
    uploads = sorted((home / "outputs" / "uploads").glob("*"), key=lambda path: -path.stat().st_mtime)
    names = [str(path.relative_to(home)) for path in uploads if path.is_dir()]
    names += [name for name in ("samples/jug", "samples/bird/photos", "samples/jug_six") if (home / name).is_dir()]
    for path in sorted((home / "outputs").glob("*/run.json")):
        photos = (_content(path) or {}).get("photos")
        if photos:
            inside = Path(photos).is_relative_to(home.resolve())
            names.append(str(Path(photos).relative_to(home.resolve())) if inside else photos)
    return list(dict.fromkeys(names))


def command(home: Path, *words: str) -> tuple[int, str]:
    """Runs a `recon` command in a process of its own, which keeps its libraries out of this one: exit code, and its output."""
    line = [sys.executable, "-m", "recon_lib.cli", *words]
    done = subprocess.run(line, cwd=home, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def machine(home: Path) -> str:
    """What this machine has and lacks, as HTML: what is missing first, with the command that mends it."""
    code, text = command(home, "doctor", "--json")
    if code not in (0, 1):
        return f"<pre>{html.escape(text)}</pre>"
    found = sorted(json.loads(text), key=lambda row: row["state"] == "ok")
    lines = [f"<tr><td>{html.escape(row['name'])}</td><td>{html.escape(row['state'])}</td>"
             f"<td>{html.escape(row['found'])}{html.escape('; ' + row['mend'] if row['mend'] else '')}</td></tr>"
             for row in found]  # fmt: skip
    style = "max-height: 220px; overflow: auto; font-size: 11px; line-height: 1.3"
    return f"<div style='{style}'><table>{''.join(lines)}</table></div>"


def age(seconds: float) -> str:
    """A duration in words: 40 s, 5 min, 3 h, 2 days."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= (2 if unit == "days" else 1) * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _listed(folder: Path) -> Listed:
    try:
        now = status.read(folder)
        verdict, psnr, ssim = batch.scores(folder)
        return Listed(folder.name, now.state, verdict, psnr, ssim, _age_s(folder), now)
    except (ValueError, KeyError, OSError):
        return Listed(folder.name, "damaged", "", "", "", _age_s(folder), None)


def _age_s(folder: Path) -> float:
    created = (_content(folder / "run.json") or {}).get("created")
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(created))).total_seconds()
    except (ValueError, TypeError):
        return time.time() - folder.stat().st_mtime


def _content(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _queued(folder: Path) -> int | None:
    return (_content(folder / "run.json") or {}).get("queued")


def stage_of(now: Status) -> str:
    """Where a run is, in words."""
    number = STAGES.index(now.stage) + 1 if now.stage in STAGES else 0
    return f"stage {number} of {len(STAGES)}, {now.stage[2:]}" if number else "not begun"
