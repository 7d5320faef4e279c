"""The right part of the workbench: the chosen run as it goes, how to cancel it, and its results as they come."""

import html
from pathlib import Path

import ipywidgets

from recon_lib.chain import job
from recon_lib.chain.status import Status
from recon_lib.stages import REFINE
from recon_lib.workbench import results, runs
from recon_lib.workbench.runs import Listed

PLACE = {"width": "60%", "max_height": "860px", "overflow": "auto"}  # scrolls on one screen
GOING = ("queued", "running", "cancelling")


class RunView:
    """Progress and results of one run."""

    def __init__(self, outputs: Path):
        self.outputs, self.name = outputs, ""
        self.shown: tuple[float, ...] = ()  # of `results.changed`, when the results were shown
        self.head, self.says, self.error = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.bar = ipywidgets.FloatProgress(max=100, layout=PLACE)
        self.cancel = ipywidgets.Button(description="cancel", icon="stop", layout={"width": "auto"})
        self.sure = ipywidgets.Button(description="yes, stop it", button_style="danger", layout={"width": "auto"})
        self.no = ipywidgets.Button(description="no, go on", layout={"width": "auto"})
        self.cancel.on_click(lambda _: self._ask(True))
        self.no.on_click(lambda _: self._ask(False))
        self.sure.on_click(lambda _: self._cancel())
        self.solid = ipywidgets.ToggleButton(description="3-D", icon="cube", layout={"width": "auto"})
        self.solid.observe(lambda change: self._show_solid(change["new"]), "value")
        self.space, self.verdict, self.notes = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.pictures = ipywidgets.VBox([])
        self.live = ipywidgets.Image(format="jpeg", layout={"max_width": "100%", "object_fit": "contain"})
        self.refining = ipywidgets.VBox([ipywidgets.HTML("<b>The refinement, as it runs</b>"), self.live])
        self.refining.layout.display = "none"
        self._ask(False)
        self.line = ipywidgets.HBox([self.bar, self.cancel, self.sure, self.no, self.solid])
        parts = [self.head, self.line, self.says, self.error, self.space, self.verdict, self.refining, self.pictures,
                 self.notes]  # fmt: skip
        for part in parts:
            part.layout.flex = "0 0 auto"  # so that the place scrolls and nothing in it shrinks
        self.widget = ipywidgets.VBox(parts, layout=PLACE)
        self.widget.add_class("recon-run")

    def choose(self, name: str) -> None:
        """Shows another run."""
        if name != self.name:
            self.name, self.shown = name, ()
            self.solid.value = False
            self._ask(False)

    def show(self, row: Listed | None) -> None:
        """Shows the run as it is now; None if there is no run."""
        self.line.layout.display = "" if row else "none"
        if row is None:
            self.head.value = (
                "<h3>No run yet: choose photos on the left, or <code>samples/jug</code>, and press Run.</h3>"
            )
            return
        now = row.status
        self.head.value = f"<h3 style='margin: 0'>{html.escape(row.name)}: {row.state}</h3>"
        self.bar.value = 100.0 if row.state == "done" else now.percent if row.state in GOING else 0.0
        self.says.value = f"<span>{html.escape(_sentence(now))}</span>" if now else "its record is damaged"
        error = now.error if now and now.error and row.state not in GOING else ""
        self.error.value = (
            f"<pre style='color: #a33; white-space: pre-wrap'>{html.escape(error)}</pre>" if error else ""
        )
        self.cancel.disabled = row.state not in ("queued", "running")
        refines = now is not None and row.state in GOING and now.stage == REFINE
        live = results.live(self.outputs / self.name) if refines else b""
        self.refining.layout.display = "" if live else "none"
        if self.live.value != live:
            self.live.value = live
        self._show_results()

    def _show_results(self) -> None:
        folder = self.outputs / self.name
        found = results.changed(folder)
        if found == self.shown:
            return
        self.shown = found
        judged = results.verdict(folder)
        self.verdict.value = f"<div style='line-height: 1.25; font-size: 12px'>{judged}</div>" if judged else ""
        self.pictures.children = [
            part
            for one in results.pictures(folder)
            for part in (
                ipywidgets.HTML(f"<b>{html.escape(one.caption)}</b>"),
                ipywidgets.Image(value=one.png, layout={"max_width": "100%", "object_fit": "contain"}),
            )
        ]
        told = "".join(f"<li>{html.escape(text)}</li>" for text in results.rejected(folder))
        self.notes.value = f"<b>What was found in the photos</b><ul>{told}</ul>" if told else ""
        self.solid.disabled = not (folder / "preview" / "viewer.html").exists()

    def _ask(self, asking: bool) -> None:
        for button in (self.sure, self.no):
            button.layout.display = "" if asking else "none"
        self.cancel.layout.display = "none" if asking else ""

    def _cancel(self) -> None:
        self._ask(False)
        try:
            job.cancel_run(self.outputs / self.name, confirm=True)
        except (ValueError, OSError) as error:
            self.error.value = f"<span style='color: #a33'>{html.escape(str(error))}</span>"

    def _show_solid(self, wanted: bool) -> None:
        self.space.value = results.viewer(self.outputs / self.name) if wanted else ""


def _sentence(now: Status) -> str:
    """Stage, percent, what runs, seconds left."""
    if now.state == "queued":
        return f"it waits for {now.after}" if now.after else "it waits for its turn"
    if now.state not in GOING:
        return ""
    parts = [f"{runs.stage_of(now)}: {now.percent:.0f} %", now.model, now.what]
    if now.seconds_left is not None:
        parts.append(f"{now.seconds_left:.0f} s left in this stage")
    return ", ".join(filter(None, parts))
