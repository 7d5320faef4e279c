"""A new run that shares another run's first stages and goes its own way from there."""

import shutil
from pathlib import Path
from typing import Any

from recon_lib import files
from recon_lib.chain import copies, lock, naming, pipeline
from recon_lib.chain import run as records
from recon_lib.stages import FINISHED, OUTPUTS, STAGES


def fork(source: Path, start: str, name: str, changes: dict[str, dict[str, Any]]) -> Path:
    """Copies the stages before `start` into the new run folder `name` beside `source`, which `job.resume` then runs.

    `changes` are parameters (stage to name to value) in which the new run differs. Raises ValueError for a name that is taken
    or not a folder's name, for bad parameters, and for a run whose stages before `start` are not all finished.
    """
    naming.check_name(name)
    target = source.parent / name
    content = records.load(source)
    if "job" not in content:
        raise ValueError(f"{source}: it was never run as a whole, so it cannot be forked")
    if target.exists():
        raise ValueError(f"name: {target} is there already; needed another name")
    shared = STAGES[: STAGES.index(start)]
    for stage in shared:
        if stage in content["job"]["stages"] and content["stages"][stage]["state"] not in FINISHED:
            raise ValueError(
                f"{source}: a fork from {start} needs {stage}, which is {content['stages'][stage]['state']}"
            )
    too_early = [stage for stage in changes if stage in shared]
    if too_early:
        raise ValueError(f"--set: {', '.join(too_early)} comes before {start}; fork from there instead")
    asked = content["job"]["params"]
    asked = asked | {stage: asked.get(stage, {}) | values for stage, values in changes.items()}
    pipeline.validate(asked)
    temporary = source.parent / f".{name}.new"
    shutil.rmtree(temporary, ignore_errors=True)
    with lock.held(source, "recon fork"):  # nobody changes it meanwhile
        temporary.mkdir()
        for stage in shared:
            if (source / OUTPUTS[stage]).exists():
                shutil.copytree(source / OUTPUTS[stage], temporary / OUTPUTS[stage])
                shutil.copy2(source / f"{stage}.ipynb", temporary)
                copies.note_written(temporary, stage)
    stages = {stage: content["stages"][stage] if stage in shared else {"state": "pending"} for stage in STAGES}
    job = content["job"] | {"params": asked, "force": False}
    files.write_json(temporary / "run.json", records.new(target) | {
        "stages": stages, "job": job, "inputs": content.get("inputs", {}), "photos": content.get("photos"),
        "forked_from": source.name,
    })  # fmt: skip
    files.replace_folder(temporary, target)
    return target
