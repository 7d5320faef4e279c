"""What a command line asks for: parameters from a file, a preset, photos and single settings, and the run folder for them."""

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from recon_lib.chain import naming, params, pipeline, reuse
from recon_lib.stages import COARSE, INGEST, MODES, STAGES

MODE_BOTH_TIMEOUT_S = 7200.0  # per stage; ReconViaGen's own stages take minutes


class Asked(NamedTuple):
    """A run as it was asked for: the arguments of `pipeline.run`."""

    params: dict[str, dict[str, Any]]
    folder: Path
    stages: list[str]
    notebooks: Path
    force: bool
    limits: dict[str, Any]  # seconds, by the names that `pipeline.run` gives them


def run_asked(options: argparse.Namespace) -> Asked:
    """What `recon run` and `recon submit` were asked for. Raises ValueError for what cannot be."""
    notebooks = Path(options.notebooks or pipeline.NOTEBOOKS)
    asked, wanted = read(options, notebooks.absolute().parent)
    stages = list(options.stages or STAGES)
    if options.start:
        stages = list(STAGES[STAGES.index(stage_named(options.start)) :])
    limits = {"timeout_s": options.timeout, "soft_limit_s": options.soft_limit}
    if options.mode:
        backend, of_mode = MODES[options.mode]
        asked.setdefault(COARSE, {})["backend"] = backend
        stages = [stage for stage in stages if stage in of_mode]
    if options.mode == "both" and options.timeout is None:
        limits["timeout_s"] = MODE_BOTH_TIMEOUT_S
    folder = choose_run_folder(options, asked, wanted, notebooks)
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    return Asked(asked, folder, stages, notebooks, options.force or bool(options.start), limits)


def stage_named(text: str) -> str:
    """The stage with this name or this number. Raises ValueError for neither."""
    found = [stage for stage in STAGES if text in (stage, stage.split("_")[0])]
    if not found:
        raise ValueError(f"--from: {params.unknown(text, STAGES)}")
    return found[0]


def choose_run_folder(options: argparse.Namespace, asked: dict[str, dict], wanted: str, notebooks: Path) -> Path:
    """The folder that this run may use. A folder that holds another run is replaced only with --name and --force.

    Raises ValueError for a bad --name, and for one that belongs to another run.
    """
    outputs, ingest = notebooks.absolute().parent / "outputs", params.defaults(INGEST) | asked.get(INGEST, {})
    photos = pipeline.photos_folder(ingest, notebooks)
    hashes = reuse.photo_hashes(ingest, notebooks)
    if not options.name:
        name = naming.free_name(outputs, naming.slug(wanted), photos, hashes)
        if name != naming.slug(wanted):
            _say(f"outputs/{naming.slug(wanted)} holds another run: this one goes to outputs/{name}")
        return outputs / name
    naming.check_name(options.name)
    folder = outputs / options.name
    if naming.is_another_run(folder, photos, hashes):
        if not options.force:
            raise ValueError(
                f"name: {folder} holds a run over other photos ({naming.will_go(folder)}); needed another name, or --force "
                "to replace it"
            )
        _say(f"{folder} held a run over other photos; gone: {naming.will_go(folder)}")
        shutil.rmtree(folder)
    return folder


def read(options: argparse.Namespace, home: Path) -> tuple[dict[str, dict], str]:
    """The parameters asked for (stage to name to value), and the name of the run if --name gives none."""
    if not (options.params or options.preset or options.photos):
        raise ValueError("nothing to run: give a parameter file, --preset or --photos")
    path = Path(options.params) if options.params else _find_preset(options.preset or "quick", home / "params")
    asked = params.read(path)
    if options.photos:
        photos = Path(options.photos).resolve()
        inside = photos.is_relative_to(home)
        asked.setdefault(INGEST, {})["photos"] = str(photos.relative_to(home) if inside else photos)
    for item in options.set:
        stage, name, value = parse_setting(item)
        asked.setdefault(stage, {})[name] = value
    of_photos = Path(options.photos or "")
    named = of_photos.stem if of_photos.suffix == ".zip" else of_photos.resolve().name
    return asked, path.stem if options.params or not options.photos else named


def _find_preset(name: str, folder: Path) -> Path:
    there = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in there:
        raise ValueError(f"preset: {params.unknown(name, tuple(there))}")
    return folder / f"{name}.yaml"


def parse_setting(item: str) -> tuple[str, str, Any]:
    """Stage, name and value of `STAGE.NAME=VALUE`. Raises ValueError for another form, and for a value that is not YAML."""
    found = re.fullmatch(r"([^.=]+)\.([^.=]+)=(.*)", item, re.DOTALL)
    if found is None:
        raise ValueError(f"--set: got {item!r}, needed STAGE.NAME=VALUE")
    try:
        return found[1], found[2], yaml.safe_load(found[3])
    except yaml.YAMLError as error:
        raise ValueError(f"--set: got {item!r}, whose value is not YAML") from error


def _say(text: str) -> None:
    print(f"recon: {text}", file=sys.stderr)
