"""Parameters: what each stage declares, whether given values are allowed, and the `parameters` cell that shows them.

Defaults are written in the config dataclasses only (`knobs`). The notebooks' cells show the same values; a test checks that.
A parameter file is YAML, one run per file, and maps notebook to name to value. All problems are reported in one ValueError, one
line `notebook: name: got X, needed Y` per problem.
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
from recon_lib.verdict.config import Limits, MetricsConfig

TAG = "parameters"  # papermill's
RUN_DIR = Parameter("run_dir", "outputs/demo", "run folder", is_path=True)
CONFIGS: dict[str, tuple[type, ...]] = {
    INGEST: (Source, IngestConfig),
    COARSE: (BackendConfig, HullConfig, GeneratedConfig, SampleConfig, TextureConfig),
    REFINE: (SetupConfig, FitConfig, IsosurfaceConfig),
    METRICS: (MetricsConfig, Limits),
    PREVIEW: (PreviewConfig,),
}


def declared(stage: str) -> dict[str, Parameter]:
    """The stage's parameters without `run_dir`. Two configs may share one, such as a seed, if they declare it alike."""
    found: dict[str, Parameter] = {}
    for config in CONFIGS[stage]:
        for name, parameter in knobs.parameters(config).items():
            assert found.setdefault(name, parameter) == parameter, f"{stage}: two meanings of {name}"
    return found


def defaults(stage: str) -> dict[str, Any]:
    """The default of each parameter of the stage, by name."""
    return {name: parameter.default for name, parameter in declared(stage).items()}


def cell(stage: str, values: dict[str, Any]) -> str:
    """The source of the stage's `parameters` cell: `run_dir` first, the given values, and defaults for all others."""
    lines = []
    for parameter in (RUN_DIR, *declared(stage).values()):
        help = f"{parameter.help} {parameter.limits}".rstrip()
        lines.append(f"{parameter.name} = {_literal(values.get(parameter.name, parameter.default))}  # {help}")
    return "\n".join(lines)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The content of a parameter file: stage to name to value, without defaults and not yet checked (`check`).

    Raises ValueError for a file that is absent, is not YAML of that form, or names an unknown stage.
    """
    content = load_yaml(path)
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(v, dict | None) for v in content.values()):
        raise ValueError(f"{path}: needed `notebook: {{name: value}}` for notebooks of {', '.join(STAGES)}")
    problems = [f"{path}: {unknown(str(name), STAGES)}" for name in content if name not in STAGES]
    if problems:
        raise ValueError("\n".join(problems))
    return {stage: values or {} for stage, values in content.items()}


def load_yaml(path: Path) -> Any:
    """The content of a YAML file of plain values. Raises ValueError for one that is absent, not text or not YAML."""
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such parameter file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not YAML that can be read: nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def check(stage: str, values: dict[str, Any]) -> dict[str, Any]:
    """The given values, with whole numbers made floats where a float is declared.

    Raises one ValueError with a line per problem: unknown names, wrong types, values out of range.
    """
    known = declared(stage)
    problems = [unknown(str(name), tuple(known)) for name in values if name not in known]
    problems += [
        f"{name}: got {_describe(value)}, needed {wanted}"
        for name, value in values.items()
        if name in known and (wanted := _needed(known[name], value))
    ]
    if problems:
        raise ValueError("\n".join(f"{stage}: {problem}" for problem in problems))
    return {name: type(known[name].default)(value) for name, value in values.items()}


def unknown(name: str, known: tuple[str, ...]) -> str:
    """The message for an unknown name: the known name nearest to it, or all known names."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")


def _literal(value: Any) -> str:
    """The value as Python source, text in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _needed(parameter: Parameter, value: Any) -> str | None:
    """What is needed instead of the value; None if the value is allowed."""
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


def _describe(value: Any) -> str:
    return "nothing (null)" if value is None else f"{value!r} ({type(value).__name__})"
