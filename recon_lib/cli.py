"""The command line: it parses arguments, calls the library and prints the results.

Exit codes: 0 the run is done, whatever its verdict; 1 a stage failed, or `doctor` found that something is missing for the
purpose asked for; 2 the parameters or inputs are refused; 130 interrupted. Errors go to stderr, one line per problem, without a
traceback. Each command imports its modules only when it runs, because `doctor` has to run where a package is missing.
"""

import argparse
import json
import logging
import re
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from recon_lib.photos import commands as commands_of_photos
from recon_lib.stages import COARSE, FINISHED, INGEST, METRICS, MODES, STAGES
from recon_lib.weights import commands as commands_of_weights

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a closed terminal ends a run as Ctrl-C does


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; `arguments` are those of the command line unless given."""
    options = _parser().parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its errors arrive here as exceptions
    before = {number: signal.signal(number, _interrupt) for number in STOPPING}
    try:
        return options.command(options)
    except ValueError as error:
        return _say(str(error), REFUSED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(options: argparse.Namespace) -> int:
    """`recon run`: runs the chain, then prints the verdict and the report's path."""
    from recon_lib.chain import params, pipeline
    from recon_lib.show import tables

    notebooks = Path(options.notebooks or pipeline.NOTEBOOKS)
    asked, wanted = _read_asked(options, notebooks.absolute().parent)
    stages = options.stages or STAGES
    if options.mode:
        backend, of_mode = MODES[options.mode]
        asked.setdefault(COARSE, {})["backend"] = backend
        stages = [stage for stage in stages if stage in of_mode]
    folder = _choose_run_folder(options, asked, wanted, notebooks, params.defaults(INGEST))
    limits = {"timeout_s": options.timeout, "soft_limit_s": options.soft_limit}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    try:
        content = pipeline.run(asked, folder, stages, notebooks, options.force, **limits)
    except pipeline.StageError as error:
        return _say(str(error), FAILED)
    if content["stages"][METRICS]["state"] in FINISHED:
        print(tables.verdict(json.loads((folder / "metrics" / "verdict.json").read_text())).text())
    print(f"report: {folder / 'report.html'}")
    return DONE


def new(options: argparse.Namespace) -> int:
    """`recon new`: makes a run folder with working copies of the notebooks and prints their paths."""
    from recon_lib.chain import params, pipeline

    notebooks = Path(options.notebooks or pipeline.NOTEBOOKS)
    asked, _ = _read_asked(options, notebooks.absolute().parent)
    folder = _choose_run_folder(options, asked, options.name, notebooks, params.defaults(INGEST))
    for copy in pipeline.new(asked, folder, notebooks):
        print(copy)
    return DONE


def report(options: argparse.Namespace) -> int:
    """`recon report`: writes report.html again from what the run folder holds."""
    from recon_lib.chain import pipeline, run

    named = Path(options.run)
    folder = named if named.is_dir() else pipeline.NOTEBOOKS.parent / "outputs" / named
    run.load(folder)  # marks a run whose process has died as interrupted, so that the report says so
    pipeline.write_report(folder.absolute())
    print(f"report: {folder.absolute() / 'report.html'}")
    return DONE


def check(options: argparse.Namespace) -> int:
    """`recon check`: prints what a run would read, guess, leave out and refuse of a folder of photos; it writes nothing."""
    from recon_lib.chain import params
    from recon_lib.photos import ingest
    from recon_lib.show import tables

    asked = {}
    for item in options.set:
        stage, name, value = _parse_setting(item)
        if stage != INGEST:
            raise ValueError(f"--set: got {stage}, needed {INGEST}, as nothing else is checked")
        asked[name] = value
    config = ingest.IngestConfig(**params.check(INGEST, asked))
    found, problems = ingest.check(Path(options.photos), config)
    rows = [(ingest.verb(finding["kind"]), finding["text"]) for finding in found]
    print(tables.Table(rows, ("a run would", "what")).text())
    if problems:
        return _say("\n".join([f"{options.photos}: a run would refuse this", *problems]), REFUSED)
    print("No photo was decoded: damage inside a file, soft masks and colour profiles show when a run reads them.")
    return DONE


def _choose_run_folder(
    options: argparse.Namespace, asked: dict[str, dict], wanted: str, notebooks: Path, ingest: dict[str, Any]
) -> Path:
    """The folder that this run may use. A folder that holds another run is replaced only with --name and --force.

    Raises ValueError for a bad --name, and for one that belongs to another run.
    """
    from recon_lib.chain import naming, pipeline, reuse

    outputs, ingest = notebooks.absolute().parent / "outputs", ingest | asked.get(INGEST, {})
    photos = pipeline.photos_folder(ingest, notebooks)
    hashes = reuse.photo_hashes(ingest, notebooks)
    if not options.name:
        name = naming.free_name(outputs, naming.slug(wanted), photos, hashes)
        if name != naming.slug(wanted):
            _say(f"outputs/{naming.slug(wanted)} holds another run: this one goes to outputs/{name}", DONE)
        return outputs / name
    naming.check_name(options.name)
    folder = outputs / options.name
    if naming.is_another_run(folder, photos, hashes):
        if not options.force:
            raise ValueError(
                f"name: {folder} holds a run over other photos ({naming.will_go(folder)}); needed another name, or --force "
                "to replace it"
            )
        _say(f"{folder} held a run over other photos; gone: {naming.will_go(folder)}", DONE)
        shutil.rmtree(folder)
    return folder


def examine(options: argparse.Namespace) -> int:
    """`recon doctor`: prints what this machine has and lacks, with the command that repairs each lack."""
    from recon_lib.machine import doctor
    from recon_lib.show import tables

    found = doctor.examine()
    if options.json:
        print(json.dumps([asdict(row) for row in found], indent=1))
    else:
        rows = [(row.name, row.state, row.needed, row.found) for row in found]
        print(tables.Table(rows, ("check", "state", "needed", "found")).text())
        for row in found:
            if row.mend:
                print(f"to mend {row.name}: {row.mend}")
    return DONE if doctor.passes(found, options.purpose) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recon", description="Photos of one object in, a validated textured mesh out."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run the notebooks over one set of photos"))
    _add_new(commands.add_parser("new", help="make a run folder with notebooks that you can open and change"))
    checking = commands.add_parser("check", help="print what a run would read, guess and refuse of a folder of photos")
    checking.set_defaults(command=check)
    checking.add_argument("photos", metavar="DIR", help="folder of photos, or a .zip of one")
    checking.add_argument(
        "--set", action="append", default=[], metavar=f"{INGEST}.NAME=VALUE", help="set one parameter; VALUE is YAML"
    )
    commands_of_photos.add_frames(commands.add_parser("frames", help="take the sharp frames of a video as photos"))
    commands_of_photos.add_export(
        commands.add_parser("export", help="write a run's photos, masks and cameras for COLMAP and other tools")
    )
    commands_of_photos.add_scale(commands.add_parser("scale", help="tell a run's size in metres from one known length"))
    reporting = commands.add_parser("report", help="write a run's report.html again from its folder")
    reporting.set_defaults(command=report)
    reporting.add_argument("run", metavar="RUN", help="the run's name, or its folder")
    commands_of_weights.add_arguments(
        commands.add_parser("weights", help="list, download or check the weights of ReconViaGen and of plain photos")
    )
    examining = commands.add_parser("doctor", help="check what this machine has and lacks, and how to repair it")
    examining.set_defaults(command=examine)
    examining.add_argument("--json", action="store_true", help="print JSON: rows of name, state, found, needed, mend")
    purposes = ("cpu", "gpu", "reconviagen")
    examining.add_argument(
        "--for", dest="purpose", choices=purposes, help="exit with 1 if anything for this is missing; default cpu"
    )
    return parser


def _add_run(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=run)
    source = command.add_mutually_exclusive_group()
    source.add_argument("params", nargs="?", metavar="PARAMS.yaml", help="parameter file")
    _add_asked(command, source)
    command.add_argument("--name", help="run folder, outputs/NAME; default: the parameter file's or the photos' name")
    command.add_argument("--stages", nargs="+", metavar="STAGE", help="run only these stages")
    command.add_argument(
        "--force", action="store_true", help="run every stage again; replace a run over other photos in --name"
    )
    command.add_argument(
        "--mode", choices=tuple(MODES),
        help="ReconViaGen and refinement, ReconViaGen alone, or a refined visual hull; default: as the parameters say",
    )  # fmt: skip
    command.add_argument(
        "--soft-limit", type=float, metavar="SECONDS", help="after this long, refinement stops and keeps its best mesh"
    )
    command.add_argument("--timeout", type=float, metavar="SECONDS", help="fail a stage that takes longer")


def _add_new(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=new, params=None)
    command.add_argument("name", metavar="NAME", help="run folder, outputs/NAME")
    _add_asked(command, command)
    command.add_argument("--force", action="store_true", help="replace a run over other photos in NAME")


def _add_asked(command: argparse.ArgumentParser, source: argparse._ActionsContainer) -> None:
    """Adds the options from which a command takes its parameters."""
    source.add_argument("--preset", metavar="NAME", help="params/NAME.yaml; default: quick if only --photos is given")
    command.add_argument("--photos", metavar="DIR", help="folder of photos, instead of the one in the parameter file")
    command.add_argument(
        "--set", action="append", default=[], metavar="STAGE.NAME=VALUE", help="set one parameter; VALUE is YAML"
    )
    command.add_argument("--notebooks", metavar="DIR", help="folder of the stages' notebooks")


def _read_asked(options: argparse.Namespace, home: Path) -> tuple[dict[str, dict], str]:
    """The parameters asked for (stage to name to value), and the name of the run if --name gives none."""
    from recon_lib.chain import params

    if not (options.params or options.preset or options.photos):
        raise ValueError("nothing to run: give a parameter file, --preset or --photos")
    path = Path(options.params) if options.params else _find_preset(options.preset or "quick", home / "params")
    asked = params.read(path)
    if options.photos:
        photos = Path(options.photos).resolve()
        inside = photos.is_relative_to(home)
        asked.setdefault(INGEST, {})["photos"] = str(photos.relative_to(home) if inside else photos)
    for item in options.set:
        stage, name, value = _parse_setting(item)
        asked.setdefault(stage, {})[name] = value
    of_photos = Path(options.photos or "")
    named = of_photos.stem if of_photos.suffix == ".zip" else of_photos.resolve().name
    return asked, path.stem if options.params or not options.photos else named


def _find_preset(name: str, folder: Path) -> Path:
    from recon_lib.chain import params

    there = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in there:
        raise ValueError(f"preset: {params.unknown(name, tuple(there))}")
    return folder / f"{name}.yaml"


def _parse_setting(item: str) -> tuple[str, str, Any]:
    import yaml

    found = re.fullmatch(r"([^.=]+)\.([^.=]+)=(.*)", item, re.DOTALL)
    if found is None:
        raise ValueError(f"--set: got {item!r}, needed STAGE.NAME=VALUE")
    try:
        return found[1], found[2], yaml.safe_load(found[3])
    except yaml.YAMLError as error:
        raise ValueError(f"--set: got {item!r}, whose value is not YAML") from error


def _say(text: str, code: int) -> int:
    print("\n".join(f"recon: {line}" for line in text.splitlines()), file=sys.stderr)
    return code


def _interrupt(number: int, frame: Any) -> NoReturn:
    # A second signal must not cut the kernel's end short; that takes seconds at most.
    for signal_number in STOPPING:
        signal.signal(signal_number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
