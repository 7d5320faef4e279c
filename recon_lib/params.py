"""Parameters: what a notebook's `parameters` cell declares, and what may be asked of it.

A declaration is a line `name = default  # help [low, high]`: the type is the default's, the range is inclusive and goes
for each item of a list; `{a, b}` in its place are the choices. A parameter file is YAML, one run a file, and maps
notebook to name to value. Every problem is a line `notebook: name: got X, needed Y` of one ValueError.
"""

import ast
import difflib
import json
import math
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

STAGES = ("1_ingest", "2_reconviagen", "3_nvdiffrec", "4_metrics", "5_preview")  # the notebooks' names, in order
MODES = {  # by what makes the mesh: stage 2's backend, and the stages
    "both": ("reconviagen", STAGES),
    "reconviagen": ("reconviagen", tuple(stage for stage in STAGES if stage != "3_nvdiffrec")),
    "nvdiffrec": ("hull", STAGES),
}
TAG = "parameters"  # papermill's
LIMITS = re.compile(r"\s*(?:\[\s*([^\[\],]+?)\s*,\s*([^\[\],]+?)\s*\]|\{([^{}]+)\})\s*$")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}


@dataclass(frozen=True)
class Parameter:
    name: str
    default: bool | int | float | str | list
    help: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple = ()


def defaults(notebook: Path) -> dict[str, Parameter]:
    """What the notebook declares, in its order."""
    source = _tagged_source(notebook)
    lines = StringIO(source).readline
    comments = {t.start[0]: t.string for t in tokenize.generate_tokens(lines) if t.type == tokenize.COMMENT}
    declared = {}
    for node in ast.parse(source).body:
        parameter = _declared(node, comments.get(node.lineno, "#").lstrip("# "), f"{notebook}: line {node.lineno}")
        declared[parameter.name] = parameter
    return declared


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


def check(notebook: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The values, whole numbers made floats where a float is declared; every problem in one ValueError."""
    declared = defaults(notebook)
    problems = [unknown(str(name), declared) for name in values if name not in declared]
    problems += [
        f"{name}: got {_shown(value)}, needed {wanted}"
        for name, value in values.items()
        if name in declared
        for wanted in _needed(declared[name], value)
    ]
    if problems:
        raise ValueError("\n".join(f"{notebook.stem}: {problem}" for problem in problems))
    return {name: _converted(declared[name].default, value) for name, value in values.items()}


def unknown(name: str, known: dict | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")


def _tagged_source(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    for cell in cells:
        if TAG in cell["metadata"].get("tags", []):
            return "".join(cell["source"])
    raise ValueError(f"{notebook}: no cell is tagged `{TAG}`")


def _declared(node: ast.stmt, comment: str, where: str) -> Parameter:
    # papermill's own reader does not see a line whose comment holds `=`, and turns a tuple into text.
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if "=" not in comment:
            default = ast.literal_eval(value)
        case _:
            raise ValueError(f"{where}: needed `name = default  # help`, without `=` in the help")
    if type(default) not in KINDS:
        got = type(default).__name__
        raise ValueError(f"{where}: {name}: the default is a {got}, needed one of bool int float str list")
    limits = LIMITS.search(comment)
    if limits is None:
        return Parameter(name, default, comment)
    text, (low, high, choices) = comment[: limits.start()], limits.groups()
    if choices is None:
        return Parameter(name, default, text, float(low), float(high))
    kind = type(default[0] if isinstance(default, list) else default)
    return Parameter(name, default, text, choices=tuple(kind(choice.strip()) for choice in choices.split(",")))


def _needed(parameter: Parameter, value: Any) -> Iterator[str]:
    """What was needed instead of the value; nothing when it will do."""
    if not isinstance(parameter.default, list):
        yield from _needed_item(parameter, type(parameter.default), value)
    elif not isinstance(value, list):
        yield KINDS[list]
    elif parameter.default:
        for item in value:
            for wanted in _needed_item(parameter, type(parameter.default[0]), item):
                yield f"{wanted}, for {item!r}"


def _needed_item(parameter: Parameter, kind: type[Any], value: Any) -> Iterator[str]:
    if type(value) is not kind and not (kind is float and type(value) is int):
        yield KINDS[kind] + _hint(kind, value)
    elif kind in (int, float) and not math.isfinite(value):
        yield "a finite number"
    elif kind in (int, float) and not parameter.low <= value <= parameter.high:
        yield f"{parameter.low:g} to {parameter.high:g}"
    elif parameter.choices and value not in parameter.choices:
        yield f"one of {', '.join(map(str, parameter.choices))}"


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


def _converted(default: Any, value: Any) -> Any:
    if isinstance(default, list) and default:
        return [_converted(default[0], item) for item in value]
    return float(value) if isinstance(default, float) else value
