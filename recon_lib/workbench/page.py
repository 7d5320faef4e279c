"""The workbench on one page: new runs and all runs on the left, the chosen run on the right.

The page only shows and asks. Runs are jobs of their own, and all there is to know of them is in their folders, so a page that
is closed, or whose kernel ends, loses nothing: the next one finds them.
"""

import asyncio
import logging
from pathlib import Path

import ipywidgets
from IPython.display import HTML, display

from recon_lib import files, progress
from recon_lib.show import still, tables
from recon_lib.workbench import runs
from recon_lib.workbench.by_hand import ByHand
from recon_lib.workbench.new_run import NewRun
from recon_lib.workbench.run_list import RunList
from recon_lib.workbench.run_view import GOING, RunView

LOOK_S = 1.0  # between two looks at the run folders
STYLE = "<style>.recon-runs select { font-family: monospace; font-size: 11px; }</style>"

log = logging.getLogger(__name__)
_open: "Page | None" = None  # the page of this kernel


class Page:
    """The widgets, and the task that keeps them up to date."""

    def __init__(self, home: Path):
        self.outputs = home / "outputs"
        self.view = RunView(self.outputs)
        self.list = RunList(home, self._chosen)
        self.new = NewRun(home, self.list.choose)
        left = [ipywidgets.HTML(f"{STYLE}<b>New run</b>"), self.new.widget, ipywidgets.HTML("<b>All runs</b>"),
                self.list.widget]  # fmt: skip
        self.hand = ByHand(home, self.new.photos_folder, self.list.folder)
        upper = ipywidgets.HBox([ipywidgets.VBox(left, layout={"width": "40%"}), self.view.widget])
        by_hand = ipywidgets.Accordion([self.hand.widget], titles=("By hand: masks, a known length, the up direction",))
        self.widget = ipywidgets.VBox([upper, by_hand])
        self.widget.add_class("recon-workbench")
        self.refresh()
        going = [row.name for row in self.list.rows if row.state in GOING]
        if going:
            self.list.choose(going[0])
        self.task = asyncio.get_running_loop().create_task(self._follow())

    def refresh(self) -> None:
        """Shows the runs as they are now."""
        rows = runs.listed(self.outputs)
        self.list.show(rows)
        self.list.show_links()
        self.view.show(next((row for row in rows if row.name == self.view.name), None))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.refresh()
            except OSError as error:  # a folder may go while it is read
                log.warning("the list of runs: %s", error)

    def _chosen(self, name: str) -> None:
        self.view.choose(name)
        self.list.show_links()


def show() -> tables.Table | None:
    """Shows the workbench; in a kernel that nobody watches, the table of all runs instead."""
    global _open
    home = files.root("outputs").parent
    (home / "outputs").mkdir(exist_ok=True)
    if not progress.watched():
        rows = [(row.name, row.state, row.verdict, row.psnr_db, row.ssim) for row in runs.listed(home / "outputs")]
        return tables.Table(rows, ("run", "state", "verdict", "PSNR", "SSIM"))
    _open = _open or Page(home)  # two tabs on this notebook share its kernel, and show the same page
    display(_open.widget)
    display(still.still("recon-workbench", "The workbench: run the cell again, and all runs are there."))
    display(HTML("<script>document.querySelector('.recon-workbench')?.scrollIntoView();</script>"))
    return None
