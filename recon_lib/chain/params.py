"""Parameters: what each stage declares, what may be asked of it, and the `parameters` cell that shows them.

The configs' dataclasses are the only place of a default (`knobs`). A notebook's cell shows the same, and a test holds the two
equal. A parameter file is YAML, one run per file, and maps notebook to name to value. Every problem is a line
`notebook: name: got X, needed Y` of one ValueError.
"""

import difflib
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from recon_lib import knobs
from recon_lib.coarse.config import BackendConfig, GeneratedConfig, HullConfig, SampleConfig, TextureConfig
from recon_lib.knobs import KINDS, Parameter
from recon_lib.photos.config import IngestConfig, Source
from recon_lib.refine.config import FitConfig, IsosurfaceConfig, SetupConfig
from recon_lib.show.config import PreviewConfig
from recon_lib.stages import COARSE, INGEST, METRICS, PREVIEW, REFINE, STAGES
from recon_lib.verdict.config import MetricsConfig

TAG = "parameters"  # papermill's
RUN_DIR = Parameter("run_dir", "outputs/demo", "run folder", is_path=True)
CONFIGS: dict[str, tuple[type, ...]] = {
    INGEST: (Source, IngestConfig),
    COARSE: (BackendConfig, HullConfig, GeneratedConfig, SampleConfig, TextureConfig),
    REFINE: (SetupConfig, FitConfig, IsosurfaceConfig),
    METRICS: (MetricsConfig,),
    PREVIEW: (PreviewConfig,),
}


def declared(stage: str) -> dict[str, Parameter]:
    """The stage's parameters, without `run_dir`. Configs may share one, a seed for example, if they mean the same by it."""
    found: dict[str, Parameter] = {}
    for config in CONFIGS[stage]:
        for name, parameter in knobs.parameters(config).items():
            assert found.setdefault(name, parameter) == parameter, f"{stage}: two meanings of {name}"
    return found


def defaults(stage: str) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in declared(stage).items()}


def cell(stage: str, values: dict[str, Any]) -> str:
    """The source of the stage's `parameters` cell, with these values and defaults for the rest; `run_dir` stands first."""
    lines = []
    for parameter in (RUN_DIR, *declared(stage).values()):
        help = f"{parameter.help} {parameter.limits}".rstrip()
        lines.append(f"{parameter.name} = {_literal(values.get(parameter.name, parameter.default))}  # {help}")
    return "\n".join(lines)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """A parameter file; the notebooks that it leaves out keep their defaults."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such parameter file") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(v, dict | None) for v in content.values()):
        raise ValueError(f"{path}: needed `notebook: {{name: value}}` for notebooks of {', '.join(STAGES)}")
    problems = [f"{path}: {unknown(name, STAGES)}" for name in content if name not in STAGES]
    if problems:
        raise ValueError("\n".join(problems))
    return {stage: values or {} for stage, values in content.items()}


def check(stage: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values, whole numbers made floats where a float is declared; every problem in one ValueError."""
    known = declared(stage)
    problems = [unknown(str(name), tuple(known)) for name in values if name not in known]
    problems += [
        f"{name}: got {_shown(value)}, needed {wanted}"
        for name, value in values.items()
        if name in known and (wanted := _needed(known[name], value))
    ]
    if problems:
        raise ValueError("\n".join(f"{stage}: {problem}" for problem in problems))
    return {name: type(known[name].default)(value) for name, value in values.items()}


def unknown(name: str, known: tuple[str, ...]) -> str:
    """One line that names the nearest thing found."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")


def _literal(value: Any) -> str:
    """Python source; JSON's quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _needed(parameter: Parameter, value: Any) -> str | None:
    """What was needed instead of the value; None when it will do."""
    kind: type[Any] = type(parameter.default)
    if type(value) is not kind and not (kind is float and type(value) is int):
        return KINDS[kind] + _hint(kind, value)
    if kind in (int, float) and not math.isfinite(value):
        return "a finite number"
    if kind in (int, float) and not parameter.low <= value <= parameter.high:
        return f"{parameter.low:g} to {parameter.high:g}"
    if parameter.choices and value not in parameter.choices:
        return f"one of {', '.join(map(str, parameter.choices))}"
    return None


def _hint(kind: type, value: Any) -> str:
    if kind is str and value is not None:
        return ": put it in quotes"
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return f": write {value.lower()} without quotes"
    if kind not in (int, float) or not isinstance(value, str):
        return ""
    try:
        number = Decimal(value)
    except ArithmeticError:
        return ""
    return f": YAML reads {value} as text: write {number:f}"


def _shown(value: Any) -> str:
    return "nothing (null)" if value is None else f"{value!r} ({type(value).__name__})"
