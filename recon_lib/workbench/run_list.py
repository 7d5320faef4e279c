"""The lower left part of the workbench: all runs with state, score and age, and what can be done with the chosen one."""

import html
from collections.abc import Callable
from pathlib import Path

import ipywidgets

from recon_lib.stages import STAGES
from recon_lib.workbench import runs
from recon_lib.workbench.runs import Listed

LINES = 8


class RunList:
    """The list, and buttons for the chosen run; `chosen(name)` is called when another one is chosen."""

    def __init__(self, home: Path, chosen: Callable[[str], None]):
        self.home, self.outputs, self.chosen = home, home / "outputs", chosen
        self.rows: list[Listed] = []
        self.select = ipywidgets.Select(rows=LINES, layout={"width": "98%"})
        self.select.add_class("recon-runs")
        self.select.observe(lambda change: self.chosen(change["new"] or ""), "value")
        self.stage = ipywidgets.Dropdown(options=STAGES[1:], value=STAGES[2], layout={"width": "130px"})
        self.fork_name = ipywidgets.Text(placeholder="name of the fork", layout={"width": "130px"})
        self.sure = ipywidgets.Button(description="really delete", button_style="danger", layout={"width": "auto"})
        self.sure.layout.display = "none"
        self.sure.on_click(lambda _: self._do(self._delete))
        self.links, self.says = ipywidgets.HTML(), ipywidgets.HTML()
        again = [self._button("resume", "redo", self._resume), self._button("report", "file", self._report),
                 self._button("compare all", "balance-scale", self._compare),
                 self._button("delete", "trash", self._ask_delete), self.sure]  # fmt: skip
        fork = [self._button("fork from", "code-fork", self._fork), self.stage, self.fork_name]
        self.widget = ipywidgets.VBox(
            [self.select, self.links, ipywidgets.HBox(again), ipywidgets.HBox(fork), self.says], layout={"width": "98%"}
        )

    def show(self, rows: list[Listed]) -> None:
        """Shows the runs; the chosen one stays chosen."""
        options = [(_line(row), row.name) for row in rows]
        if tuple(self.select.options) != tuple(options):
            before = self.select.value
            names = [row.name for row in rows]
            self.select.options = options
            self.select.value = before if before in names else next(iter(names), None)
        self.rows = rows

    def choose(self, name: str) -> None:
        """Chooses a run."""
        self.show(runs.listed(self.outputs))
        if name in [row.name for row in self.rows]:
            self.select.value = name

    def show_links(self) -> None:
        """Links to what the chosen run has; they open in tabs of their own."""
        name = self.select.value
        folder = self.outputs / (name or "")
        found = []
        if name and (folder / "report.html").exists():
            found.append(_link(f"/files/outputs/{name}/report.html", "report"))
        for stage in STAGES if name else ():
            if (folder / f"{stage}.ipynb").exists():
                found.append(_link(f"/lab/tree/outputs/{name}/{stage}.ipynb", stage))
        words = f"<b>{html.escape(name or '')}</b> open: {' · '.join(found)}" if found else ""
        shown = f"<div style='line-height: 1.4'>{words}</div>" if words else ""
        if self.links.value != shown:
            self.links.value = shown

    def _button(self, text: str, icon: str, what: Callable[[], None]) -> ipywidgets.Button:
        made = ipywidgets.Button(description=text, icon=icon, layout={"width": "auto", "flex": "0 0 auto"})
        made.on_click(lambda _: self._do(what))
        return made

    def _do(self, what: Callable[[], None]) -> None:
        self.sure.layout.display = "none"
        try:
            if not self.select.value:
                raise ValueError("no run is chosen")
            what()
        except (ValueError, OSError) as error:
            self._say(str(error), "#a33")

    def folder(self) -> Path | None:
        """The folder of the chosen run; None if none is chosen."""
        return self.outputs / self.select.value if self.select.value else None

    def _folder(self) -> Path:
        return self.outputs / self.select.value

    def _resume(self) -> None:
        runs.resume(self._folder())
        self._say(f"{self.select.value} is in the queue again.")

    def _report(self) -> None:
        self._say("writing…")
        self._say(runs.command(self.home, "report", str(self._folder()))[1])

    def _compare(self) -> None:
        """Compares all runs that have a verdict, in notebook 6."""
        judged = [str(self.outputs / row.name) for row in self.rows if row.verdict]
        if len(judged) < 2:
            raise ValueError(f"compare: {len(judged)} runs have a verdict, needed 2")
        self._say(f"comparing {len(judged)} runs…")
        code, text = runs.command(self.home, "compare", *judged)
        if code:
            raise ValueError(f"compare: {text.splitlines()[-1]}")
        style = "font-size: 11px; line-height: 1.3; overflow: auto; white-space: pre"
        link = _link("/lab/tree/outputs/6_compare.ipynb", "6_compare")
        self.says.value = f"<pre style='{style}'>{html.escape(text)}</pre>{link}"

    def _fork(self) -> None:
        name = runs.fork(self._folder(), self.stage.value, self.fork_name.value)
        self._say(f"{name} is in the queue.")
        self.choose(name)

    def _ask_delete(self) -> None:
        self.sure.layout.display = ""
        self._say(f"Delete {self.select.value} with all its results?")

    def _delete(self) -> None:
        name = self.select.value
        runs.delete(self._folder())
        self.show(runs.listed(self.outputs))
        self._say(f"{name} is gone.")

    def _say(self, text: str, colour: str = "#333") -> None:
        self.says.value = f"<span style='color: {colour}'>{html.escape(text)}</span>"


def _link(place: str, text: str) -> str:
    style = "color: #1a5fb4; text-decoration: underline"
    return f"<a href='{html.escape(place)}' target='_blank' style='{style}'>{html.escape(text)}</a>"


def _line(row: Listed) -> str:
    score = f"{row.verdict} {row.psnr_db.removesuffix(' dB')}" if row.verdict else ""
    return f"{row.name[:18]:<18} {row.state:<11} {score:<12} {runs.age(row.age_s):>6}".replace(" ", "\u00a0")
