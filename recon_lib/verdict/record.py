"""A check of the verdict: what was measured, what is needed, and what follows. The worst status of all checks is the verdict's.

Limits are in words, so that a reader sees the rule beside the value. A value that could not be measured is None, and its check
is a warning.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LEVELS = ("normal", "warning", "failure")
NOT_MEASURED = "not measured"
TOLD = "any"  # the limit of a value that is told and decides nothing


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    value: float | int | None
    limit: str  # what `normal` requires, in words
    unit: str
    status: str  # one of LEVELS

    def describe(self) -> str:
        """The value with its unit; a share in percent."""
        if self.value is None:
            return NOT_MEASURED
        if self._is_share():
            return f"{100 * self.value:.3g} % {self.unit}"
        value = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{value} {self.unit}".rstrip()

    def needs(self) -> str:
        """What `normal` requires, as it is read: like the value."""
        words = self.limit.replace(">=", "≥").replace("<=", "≤")
        return re.sub(r"[\d.]+", lambda number: f"{100 * float(number[0]):g} %", words) if self._is_share() else words

    def _is_share(self) -> bool:
        return self.unit.startswith("of ")


def at_least(name: str, value: float, normal: float, warning: float, unit: str = "") -> Check:
    """A check of a value that should be high: `normal` and `warning` are the least for these levels, less is a failure."""
    status = "normal" if value >= normal else "warning" if value >= warning else "failure"
    return Check(name, value, f">= {normal:g} (warning >= {warning:g})", unit, status)


def at_most(name: str, value: float | None, normal: float, warning: float = float("inf"), unit: str = "") -> Check:
    """A check of a value that should be low: `normal` and `warning` are the most for these levels, more is a failure."""
    words = f"<= {normal:g}" + (f" (warning <= {warning:g})" if warning < float("inf") else "")
    if value is None:
        return Check(name, value, words, unit, "warning")
    status = "normal" if value <= normal else "warning" if value <= warning else "failure"
    return Check(name, value, words, unit, status)


def within(name: str, value: float, normal: tuple[float, float], warning: tuple[float, float], unit: str = "") -> Check:
    """A check of a value that should lie in a range: `normal` and `warning` are least and most for these levels."""
    status = (
        "normal" if normal[0] <= value <= normal[1] else "warning" if warning[0] <= value <= warning[1] else "failure"
    )
    words = f"{normal[0]:g} to {normal[1]:g} (warning {warning[0]:g} to {warning[1]:g})"
    return Check(name, value, words, unit, status)


def above(name: str, value: float, limit: float, unit: str = "") -> Check:
    """A check of a value that must be above `limit`: else it is a failure."""
    return Check(name, value, f"> {limit:g}", unit, "normal" if value > limit else "failure")


def exactly(name: str, value: int | None, limit: int, otherwise: str = "warning", unit: str = "") -> Check:
    """A check of a count: normal if it is exactly `limit`."""
    return Check(name, value, f"{limit}", unit, "normal" if value == limit else otherwise)


def told(name: str, value: float | int | None, unit: str = "") -> Check:
    """A value that is told and decides nothing."""
    return Check(name, value, TOLD, unit, "normal")


def worst(checks: Sequence[Check]) -> str:
    """The worst status of the checks."""
    return LEVELS[max(LEVELS.index(check.status) for check in checks)]


def deciding(checks: Sequence[Check]) -> list[Check]:
    """The checks that are not normal, the gravest first: each of them alone keeps the mesh from being normal."""
    found = [check for check in checks if check.status != LEVELS[0]]
    return sorted(found, key=lambda check: -LEVELS.index(check.status))


def reason(checks: Sequence[Check]) -> str:
    """The sentence that says which checks decided: those of the worst status."""
    status = worst(checks)
    guilty = [
        f"{check.name} is {check.describe()}, needs {check.needs()}"
        for check in deciding(checks)
        if check.status == status
    ]
    deciding_count = sum(check.limit != TOLD for check in checks)
    return f"It is a {status}, because {'; '.join(guilty)}." if guilty else f"All {deciding_count} checks are normal."
