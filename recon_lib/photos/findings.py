"""What is said about the input: problems, which end the reading, and findings, which do not.

A problem is one line `file: field: got X, needed Y`. Readers return problems instead of raising them, so that one error can
name all bad files. A finding is {"kind": one word, "text": a sentence, "files": the photos that it is about}.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

ALIKE = 3  # so many equal problems, or problems of one field that need the same, become one line with a count
NAMED = 3  # so many files of such a line are named


class Problem(NamedTuple):
    """One problem of one file."""

    file: str
    text: str  # field: got X, needed Y

    @property
    def line(self) -> str:
        """The whole line, printable whatever a damaged file holds."""
        return printable(f"{self.file}: {self.text}")


def problem(file: str, field: str, got: object, needed: str) -> Problem:
    """The problem that `field` of `file` is `got`, of which the first 200 letters are told."""
    return Problem(file, f"{field}: got {str(got)[:200]}, needed {needed}")


def of_error(file: str, error: ValueError) -> list[Problem]:
    """The problems in an error whose lines have the form `field: got X, needed Y`."""
    return [Problem(file, line) for line in str(error).splitlines()]


def finding(kind: str, text: str, files: Iterable[str] = ()) -> dict:
    """Something that the user should know about the input."""
    return {"kind": kind, "text": printable(text), "files": [printable(name) for name in files]}


def lines(problems: Iterable[Problem]) -> list[str]:
    """A line for each problem; three or more that are alike share one line, with their number."""
    unique = list(dict.fromkeys(problems))
    equal, similar = defaultdict(list), defaultdict(list)
    for one in unique:
        equal[one.text].append(one)
    for one in unique:
        if len(equal[one.text]) < ALIKE:
            similar[_kind(one)].append(one)
    out = []
    for one in unique:
        same = equal[one.text]
        group = same if len(same) >= ALIKE else similar[_kind(one)]
        if len(group) < ALIKE or (group is not same and len(group) <= 2 * ALIKE):
            out.append(one.line)
        elif one is group[0] and group is same:
            out.append(printable(f"{len(group)} files ({named([p.file for p in group])}): {one.text}"))
        elif group is not same and one in group[:NAMED]:
            out.append(one.line)
        elif group is not same and one is group[NAMED]:
            rest = group[NAMED:]
            field, needed = _kind(one)
            files = named([p.file for p in rest])
            out.append(printable(f"{len(rest)} more files ({files}): {field}: got the like, needed {needed}"))
    return out


def counted(count: int, noun: str) -> str:
    """The number with the noun, which gets an s for all numbers but one."""
    return f"{count} {noun}{'s' * (count != 1)}"


def named(files: list[str]) -> str:
    """The first few of the names, with dots where there are more."""
    return ", ".join(files[:NAMED]) + (", …" if len(files) > NAMED else "")


def printable(text: str) -> str:
    """The text with a question mark for each letter that a terminal cannot show."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _kind(one: Problem) -> tuple[str, str]:
    return one.text.split(": got ", 1)[0], one.text.rsplit(", needed ", 1)[-1]
