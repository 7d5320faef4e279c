"""The command line: it parses arguments, calls the library and prints the results.

Exit codes: 0 the run is done, whatever its verdict; 1 a stage failed, or `doctor` found that something is missing for the
purpose asked for; 2 the parameters or inputs are refused; 130 interrupted. Errors go to stderr, one line per problem, without a
traceback. Each command imports its modules only when it runs, because `doctor` has to run where a package is missing.
"""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from recon_lib.chain import commands as commands_of_chain
from recon_lib.photos import commands as commands_of_photos
from recon_lib.show import commands as commands_of_show
from recon_lib.stages import FINISHED, INGEST, METRICS
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
    from recon_lib.chain import asked, pipeline

    wanted = asked.run_asked(options)
    rest = wanted.stages, wanted.notebooks, wanted.force
    return _finish_run(wanted.folder, lambda: pipeline.run(wanted.params, wanted.folder, *rest, **wanted.limits))


def resume(options: argparse.Namespace) -> int:
    """`recon resume`: runs again what was asked of a run; what it has finished stays."""
    from recon_lib.chain import commands, job

    folder = commands.run_folder(options)
    return _finish_run(folder, lambda: job.resume(folder))


def _finish_run(folder: Path, start: Callable[[], dict[str, Any]]) -> int:
    from recon_lib.chain import pipeline
    from recon_lib.show import tables

    try:
        content = start()
    except pipeline.StageError as error:
        return _say(str(error), FAILED)
    if content["stages"][METRICS]["state"] in FINISHED:
        print(tables.verdict(json.loads((folder / "metrics" / "verdict.json").read_text())).text())
    print(f"report: {folder / 'report.html'}")
    return DONE


def new(options: argparse.Namespace) -> int:
    """`recon new`: makes a run folder with working copies of the notebooks and prints their paths."""
    from recon_lib.chain import asked, pipeline

    notebooks = Path(options.notebooks or pipeline.NOTEBOOKS)
    wanted, _ = asked.read(options, notebooks.absolute().parent)
    folder = asked.choose_run_folder(options, wanted, options.name, notebooks)
    for copy in pipeline.new(wanted, folder, notebooks):
        print(copy)
    return DONE


def report(options: argparse.Namespace) -> int:
    """`recon report`: writes report.html again from what the run folder holds."""
    from recon_lib.chain import commands, pipeline, run

    folder = commands.run_folder(options)
    run.load(folder)  # marks a run whose process has died as interrupted, so that the report says so
    pipeline.write_report(folder.absolute())
    print(f"report: {folder.absolute() / 'report.html'}")
    return DONE


def check(options: argparse.Namespace) -> int:
    """`recon check`: prints what a run would read, guess, leave out and refuse of a folder of photos; it writes nothing."""
    from recon_lib.chain import asked, params
    from recon_lib.photos import ingest
    from recon_lib.show import tables

    wanted = {}
    for item in options.set:
        stage, name, value = asked.parse_setting(item)
        if stage != INGEST:
            raise ValueError(f"--set: got {stage}, needed {INGEST}, as nothing else is checked")
        wanted[name] = value
    config = ingest.IngestConfig(**params.check(INGEST, wanted))
    found, problems = ingest.check(Path(options.photos), config)
    rows = [(ingest.verb(finding["kind"]), finding["text"]) for finding in found]
    print(tables.Table(rows, ("a run would", "what")).text())
    if problems:
        return _say("\n".join([f"{options.photos}: a run would refuse this", *problems]), REFUSED)
    print("No photo was decoded: damage inside a file, soft masks and colour profiles show when a run reads them.")
    return DONE


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
    running = commands.add_parser("run", help="run the notebooks over one set of photos")
    running.set_defaults(command=run)
    commands_of_chain.add_run(running)
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
    commands_of_chain.add_named(reporting)
    commands_of_chain.add_submit(commands.add_parser("submit", help="put a run into the queue and return at once"))
    commands_of_chain.add_status(commands.add_parser("status", help="what runs do now"))
    commands_of_chain.add_cancel(commands.add_parser("cancel", help="cancel a run, in two steps"))
    resuming = commands.add_parser("resume", help="run again what was asked of a run; what it has finished stays")
    resuming.set_defaults(command=resume)
    commands_of_chain.add_named(resuming)
    commands_of_chain.add_batch(
        commands.add_parser("batch", help="run many objects, on this machine or a Dask cluster")
    )
    commands_of_chain.add_sweep(commands.add_parser("sweep", help="run one object with a grid of parameters"))
    commands_of_chain.add_fork(commands.add_parser("fork", help="a new run that shares the first stages of another"))
    commands_of_show.add_metrics(
        commands.add_parser("metrics", help="judge any mesh file by the photos of a run or a folder")
    )
    commands_of_chain.add_compare(commands.add_parser("compare", help="runs side by side, the best first"))
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


def _add_new(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=new, params=None)
    command.add_argument("name", metavar="NAME", help="run folder, outputs/NAME")
    commands_of_chain.add_asked(command, command)
    command.add_argument("--force", action="store_true", help="replace a run over other photos in NAME")


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
