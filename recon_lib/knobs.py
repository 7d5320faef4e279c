"""Knobs: the config fields that a person may set, each with its default, help and range in one place.

A stage's config is a frozen dataclass. A field made by `knob` is a parameter of the stage's notebook, of parameter files and of
`--set`. A plain field can be set only from Python. Config modules import nothing heavy, so that the chain can check a run
without torch.
"""

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Parameter:
    """One knob as the chain, the notebooks and the help texts see it."""

    name: str
    default: bool | int | float | str
    help: str
    low: float | int = -math.inf  # inclusive
    high: float | int = math.inf
    choices: tuple = ()
    is_path: bool = False  # any text is allowed

    @property
    def limits(self) -> str:
        """The allowed values as help texts show them: {a, b} or [low, high]; empty for true or false and for paths."""
        if self.choices:
            return f"{{{', '.join(map(str, self.choices))}}}"
        return f"[{_plain(self.low)}, {_plain(self.high)}]" if math.isfinite(self.low) else ""


def knob(
    default: Any,
    help: str,
    low: float | int = -math.inf,
    high: float | int = math.inf,
    choices: tuple = (),
    is_path: bool = False,
) -> Any:
    """A dataclass field that is a parameter. Text needs `choices` or `is_path`; a number needs choices or a finite range."""
    kind = type(default)
    assert kind in KINDS and "=" not in help, "papermill does not see a parameter whose comment holds an equals sign"
    assert kind is not str or choices or is_path, "text needs choices"
    assert kind not in (int, float) or choices or (math.isfinite(low) and math.isfinite(high)), "a number needs a range"
    return field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices, "is_path": is_path}
    )


def parameters(config: type) -> dict[str, Parameter]:
    """The knobs of a config class, in its order."""
    return {f.name: Parameter(f.name, default=f.default, **f.metadata) for f in fields(config) if _is_knob(f)}  # type: ignore[arg-type]


def _is_knob(f: Field) -> bool:
    return "help" in f.metadata


def _plain(number: float | int) -> str:
    return f"{number:.0f}" if number == int(number) else f"{number:g}"
