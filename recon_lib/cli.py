"""The command line: it parses, calls and prints.

Exit codes: 0 the run is done, whatever its verdict; 1 a stage failed; 2 the parameters or inputs will not do; 130
interrupted. An error is told on stderr, without a traceback, a line a problem.
"""

import argparse
import json
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import yaml

from recon_lib import params, pipeline

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
SCORES = ("psnr_db", "ssim", "psnr_full_db", "ssim_full", "mask_iou", "views")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its errors arrive here as exceptions
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return options.command(options)
    except pipeline.StageError as error:
        return _say(str(error), FAILED)
    except ValueError as error:
        return _say(str(error), REFUSED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(options: argparse.Namespace) -> int:
    notebooks = Path(options.notebooks)
    home = notebooks.absolute().parent
    asked, name = _asked(options, home)
    name = options.name or name
    if not re.fullmatch(r"[\w.-]*\w", name):
        raise ValueError(f"name: got {name!r}, needed letters, digits, - _ and . only, with a letter or digit last")
    folder = home / "outputs" / name
    content = pipeline.run(asked, folder, options.stages, notebooks, options.force, timeout_s=options.timeout)
    if content["stages"]["4_metrics"]["state"] in pipeline.FINISHED:
        print(table(json.loads((folder / "metrics" / "verdict.json").read_text())))
    print(f"report: {folder / 'report.html'}")
    return DONE


def table(verdict: dict[str, Any]) -> str:
    rows = [("verdict", verdict["status"], "", "")]
    rows += [(name, _number(verdict[name]), "", "") for name in SCORES]
    rows += [(check["name"], _number(check["value"]), check["limit"], check["status"]) for check in verdict["checks"]]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recon", description="Photos of one object in, a validated textured mesh out."
    )
    command = parser.add_subparsers(required=True).add_parser("run", help="run the notebooks over one set of photos")
    command.set_defaults(command=run)
    source = command.add_mutually_exclusive_group()
    source.add_argument("params", nargs="?", metavar="PARAMS.yaml", help="parameter file")
    source.add_argument("--preset", metavar="NAME", help="params/NAME.yaml; quick if only --photos is given")
    command.add_argument("--photos", metavar="DIR", help="folder of photos, instead of the parameter file's")
    command.add_argument("--name", help="run folder, outputs/NAME; else named after the parameter file or the photos")
    command.add_argument("--stages", nargs="+", default=params.STAGES, metavar="STAGE", help="only these")
    command.add_argument(
        "--set", action="append", default=[], metavar="STAGE.NAME=VALUE", help="one parameter, as YAML"
    )
    command.add_argument("--force", action="store_true", help="reuse nothing")
    command.add_argument("--timeout", type=float, default=pipeline.TIMEOUT_S, metavar="SECONDS", help="for one stage")
    command.add_argument("--notebooks", default=str(pipeline.NOTEBOOKS), metavar="DIR", help="the stages' notebooks")
    return parser


def _asked(options: argparse.Namespace, home: Path) -> tuple[dict[str, dict], str]:
    """The parameters asked for, and the run's name if none is given."""
    if not (options.params or options.preset or options.photos):
        raise ValueError("nothing to run: give a parameter file, --preset or --photos")
    path = Path(options.params) if options.params else _preset(options.preset or "quick", home / "params")
    asked = params.read(path)
    if options.photos:
        photos = Path(options.photos).resolve()
        inside = photos.is_relative_to(home)
        asked.setdefault(params.STAGES[0], {})["photos"] = str(photos.relative_to(home) if inside else photos)
    for item in options.set:
        stage, name, value = _setting(item)
        asked.setdefault(stage, {})[name] = value
    return asked, path.stem if options.params or not options.photos else photos.name


def _preset(name: str, folder: Path) -> Path:
    there = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in there:
        raise ValueError(f"preset: {params.unknown(name, tuple(there))}")
    return folder / f"{name}.yaml"


def _setting(item: str) -> tuple[str, str, Any]:
    found = re.fullmatch(r"([^.=]+)\.([^.=]+)=(.*)", item, re.DOTALL)
    if found is None:
        raise ValueError(f"--set: got {item!r}, needed STAGE.NAME=VALUE")
    try:
        return found[1], found[2], yaml.safe_load(found[3])
    except yaml.YAMLError as error:
        raise ValueError(f"--set: got {item!r}, whose value is not YAML") from error


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say(text: str, code: int) -> int:
    print("\n".join(f"recon: {line}" for line in text.splitlines()), file=sys.stderr)
    return code


def _interrupt(number: int, frame: Any) -> NoReturn:
    # A second signal must not cut the kernel's end short; that takes seconds at most.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
