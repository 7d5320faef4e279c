"""`recon submit`, `status`, `cancel`, `fork`, `batch`, `sweep`: runs that go on by themselves; `compare`: what came of them."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from recon_lib.stages import MODES

DONE, FAILED = 0, 1


def add_run(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon run`, which `recon submit` has, too."""
    source = command.add_mutually_exclusive_group()
    source.add_argument("params", nargs="?", metavar="PARAMS.yaml", help="parameter file")
    add_asked(command, source)
    command.add_argument("--name", help="run folder, outputs/NAME; default: the parameter file's or the photos' name")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--stages", nargs="+", metavar="STAGE", help="run only these stages")
    which.add_argument(
        "--from",
        dest="start",
        metavar="STAGE",
        help="run this stage and all after it again, on what is there before it",
    )
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
    command.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="fail a stage that takes longer; default: 6 hours, 2 in mode both",
    )


def add_asked(command: argparse.ArgumentParser, source: argparse._ActionsContainer) -> None:
    """Adds the options from which a command takes its parameters."""
    source.add_argument("--preset", metavar="NAME", help="params/NAME.yaml; default: quick if only --photos is given")
    command.add_argument("--photos", metavar="DIR", help="folder of photos, instead of the one in the parameter file")
    command.add_argument(
        "--set", action="append", default=[], metavar="STAGE.NAME=VALUE", help="set one parameter; VALUE is YAML"
    )
    command.add_argument("--notebooks", metavar="DIR", help="folder of the stages' notebooks")


def add_named(command: argparse.ArgumentParser) -> None:
    """The arguments of a command about one run."""
    command.add_argument("run", metavar="RUN", help="the run's name, or its folder")
    _add_notebooks(command)


def add_submit(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon submit`: those of `recon run`, and its place in the queue."""
    add_run(command)
    command.set_defaults(command=submit)
    command.add_argument("--after", metavar="RUN", help="start only when this run is done")
    command.add_argument("--cores", type=int, metavar="N", help="processor cores per run without a GPU; default 4")


def add_status(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon status`."""
    command.set_defaults(command=show_status)
    command.add_argument("run", nargs="?", metavar="RUN", help="one run; default: all")
    command.add_argument("--json", action="store_true", help="print JSON")
    _add_notebooks(command)


def add_cancel(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon cancel`."""
    command.set_defaults(command=cancel)
    add_named(command)
    command.add_argument("--yes", action="store_true", help="confirm at once")


def add_fork(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon fork`."""
    command.set_defaults(command=fork)
    add_named(command)
    command.add_argument("--from", dest="start", required=True, metavar="STAGE", help="the first stage to run again")
    command.add_argument("--name", required=True, help="the new run folder, outputs/NAME")
    command.add_argument(
        "--set", action="append", default=[], metavar="STAGE.NAME=VALUE", help="set one parameter; VALUE is YAML"
    )


def add_batch(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon batch`."""
    command.set_defaults(command=run_batch)
    command.add_argument("batch", metavar="BATCH.yaml", help="file of runs, see params/batch.yaml")
    _add_cluster(command)


def add_sweep(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon sweep`."""
    command.set_defaults(command=run_sweep)
    command.add_argument("params", metavar="PARAMS.yaml", help="parameter file of all runs")
    command.add_argument(
        "--grid", action="append", required=True, metavar="STAGE.NAME=VALUE,VALUE", help="the values of one parameter"
    )
    command.add_argument("--name", help="first part of the runs' names; default: the parameter file's")
    _add_cluster(command)


def add_compare(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon compare`."""
    command.set_defaults(command=compare)
    command.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or their names in outputs/")
    command.add_argument("--out", metavar="FILE", help="the executed notebook; default outputs/6_compare.ipynb")
    _add_notebooks(command)


def _add_cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cores", type=int, metavar="N", help="processor cores per run without a GPU; default 4")
    command.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler of yours; default: a cluster here")
    _add_notebooks(command)


def _add_notebooks(command: argparse.ArgumentParser) -> None:
    command.add_argument("--notebooks", metavar="DIR", help="folder of the stages' notebooks, beside which outputs/ is")


def outputs_folder(options: argparse.Namespace) -> Path:
    """The folder of all runs."""
    from recon_lib.chain import pipeline

    return Path(options.notebooks or pipeline.NOTEBOOKS).absolute().parent / "outputs"


def run_folder(options: argparse.Namespace) -> Path:
    """The folder of the run that the command line names, by its name or as a path."""
    named = Path(options.run)
    return named.absolute() if named.is_dir() else outputs_folder(options) / named


def submit(options: argparse.Namespace) -> int:
    """`recon submit`: puts a run into the queue, sees that somebody serves it, and prints the run's name."""
    from recon_lib.chain import asked, dispatch, job

    wanted = asked.run_asked(options)
    rest = wanted.stages, wanted.notebooks, wanted.force, options.after
    job.submit(wanted.params, wanted.folder, *rest, **wanted.limits)
    dispatch.start(wanted.folder.parent, options.cores)
    print(wanted.folder.name)
    return DONE


def show_status(options: argparse.Namespace) -> int:
    """`recon status`: prints one run or all of them, as a table or as JSON."""
    from recon_lib.chain import status
    from recon_lib.show import tables

    found = [status.read(run_folder(options))] if options.run else status.read_all(outputs_folder(options))
    if options.json:
        print(json.dumps(asdict(found[0]) if options.run else [asdict(row) for row in found], indent=1))
        return DONE
    rows = [
        (
            row.run,
            row.state,
            row.stage,
            f"{row.percent:.0f} %",
            " ".join(filter(None, (row.model, row.what if row.error is None else row.error))),
            "" if row.seconds_left is None else f"{row.seconds_left:.0f} s",
            f"alive, {row.heartbeat_s:.0f} s ago" if row.alive else f"after {row.after}" if row.after else "",
        )
        for row in found
    ]
    print(tables.Table(rows, ("run", "state", "stage", "done", "what", "left", "process")).text())
    return DONE


def cancel(options: argparse.Namespace) -> int:
    """`recon cancel`: the first call asks, a second one within an hour or --yes confirms."""
    from recon_lib.chain import job

    if job.cancel_run(run_folder(options), options.yes):
        print(
            f"{options.run}: it stops now; what it has finished stays, and `recon resume {options.run}` goes on from there"
        )
    else:
        print(f"{options.run}: to stop it, confirm within an hour: recon cancel {options.run} --yes")
    return DONE


def run_batch(options: argparse.Namespace) -> int:
    """`recon batch`: runs over many objects."""
    from recon_lib.chain import batch

    path = Path(options.batch)
    return _work_off(options, batch.read(path, _home(options)), path.stem)


def run_sweep(options: argparse.Namespace) -> int:
    """`recon sweep`: runs over a grid of parameters."""
    from recon_lib.chain import batch

    path = Path(options.params)
    name = options.name or path.stem
    return _work_off(options, batch.sweep(path, name, options.grid), name)


def _home(options: argparse.Namespace) -> Path:
    return outputs_folder(options).parent


def _work_off(options: argparse.Namespace, wanted: dict[str, dict], name: str) -> int:
    """Runs them all, prints their verdicts, and writes the notebook that compares those that are done."""
    from recon_lib.chain import batch, comparing, dispatch, naming
    from recon_lib.show import tables

    outputs = outputs_folder(options)
    batch.submit(wanted, outputs, _home(options) / "notebooks")
    dispatch.start(outputs, options.cores, options.scheduler)
    rows = []
    for rows in batch.watch(outputs, list(wanted)):
        print("; ".join(f"{row.run} {row.state} {row.stage} {row.percent:.0f} %" for row in rows), file=sys.stderr)
    scores = [batch.scores(outputs / row.run) for row in rows]
    cells = [(row.run, row.state, *score, row.error or "") for row, score in zip(rows, scores, strict=True)]
    print(tables.Table(cells, ("run", "state", "verdict", "PSNR", "SSIM", "cause")).text())
    done = [outputs / row.run for row in rows if row.state == "done"]
    if done:
        out = outputs / f"{comparing.NAME}-{naming.slug(name)}.ipynb"
        print(f"comparison: {comparing.execute(done, out, _home(options) / 'notebooks')}")
    return DONE if all(row.state == "done" for row in rows) else FAILED


def fork(options: argparse.Namespace) -> int:
    """`recon fork`: copies a run up to a stage into a new run folder; nothing runs yet."""
    from recon_lib.chain import asked, fork

    folder = run_folder(options)
    changes: dict[str, dict] = {}
    for item in options.set:
        stage, name, value = asked.parse_setting(item)
        changes.setdefault(stage, {})[name] = value
    made = fork.fork(folder, asked.stage_named(options.start), options.name, changes)
    print(f"{made}: to run it, recon resume {made.name}")
    return DONE


def compare(options: argparse.Namespace) -> int:
    """`recon compare`: prints the runs, the best first, and executes 6_compare over them."""
    from recon_lib.chain import comparing
    from recon_lib.show import comparison

    outputs = outputs_folder(options)
    folders = [Path(run).absolute() if Path(run).is_dir() else outputs / run for run in options.runs]
    runs = comparison.compare(folders)
    print(comparison.table(runs).text())
    print(comparison.reading(runs))
    out = Path(options.out).absolute() if options.out else outputs / f"{comparing.NAME}.ipynb"
    print(f"notebook: {comparing.execute(folders, out, outputs.parent / 'notebooks')}")
    return DONE
