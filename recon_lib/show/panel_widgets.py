"""The panel of a live fit: what a person sees and presses. It asks (`LiveFit.ask`) and shows; the fit decides.

Curves and pictures are drawn between two steps, at most twice a second, and rarer where drawing would take more than SHARE of
the time. Under the panel stands a picture of it, which a browser shows only where the panel itself is gone: in a notebook that
is opened again.
"""

import html
import time

import ipywidgets
from IPython.display import HTML, display

from recon_lib.photos.scene import Scene
from recon_lib.refine.live import BEST, LiveFit
from recon_lib.show import figures, live_mesh, live_pictures, still
from recon_lib.show.knob_row import KnobRow

REFRESH_SECONDS = 0.5  # least time between two refreshes
SHARE = 0.08  # of the time, at most, goes into drawing
STILL_SECONDS = 10.0  # between two pictures of the panel for those who open the notebook again
RATES = ("lr_vertex", "lr_texture", "lr_material", "lr_light", "smoothness", "glare")
WEIGHTS = ("w_alpha", "w_smooth", "w_white", "w_occlusion", "w_laplacian")
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# After "Run All" the browser looks at the last cell.
INTO_VIEW = """<script>document.querySelector(".recon-panel")?.scrollIntoView({ block: "center" });</script>"""


class PanelWidgets:
    """The widgets of one live fit."""

    def __init__(self, live: LiveFit, photos: Scene):
        self.live, self.photos = live, photos
        self.said, self.drawn, self.drawing_seconds, self.still_drawn = 0.0, 0.0, 0.0, 0.0
        self.drawn_step, self.turn = -1, False
        self.began: tuple[int, float] | None = None  # step and time at the start, for the seconds left
        held = [name for name, out in zip(photos.names, photos.held_out, strict=True) if out]
        self.photo = ipywidgets.Dropdown(
            options=[(f"{name}, held out" if name in held else name, name) for name in photos.names],
            value=live_pictures.first_watched(photos), layout={"width": "200px"},
        )  # fmt: skip
        self.watched = live_pictures.Watched(photos, self.photo.value, live.setup.T_unit_world, live.raster)
        self.photo.observe(lambda change: live.ask(self._watch, change["new"]), "value")
        self.toggle = ipywidgets.Button(description="start", icon="play", button_style="primary")
        self.toggle.on_click(lambda _: live.ask(live.pause if live.running else live.start))
        self.bar = ipywidgets.IntProgress(layout={"width": "180px"})
        self.state, self.says = ipywidgets.HTML(), ipywidgets.HTML()
        self.curve = ipywidgets.Image(format="png", layout={"width": "44%", "object_fit": "contain"})
        self.pictures = ipywidgets.Image(format="jpeg", layout={"width": "55%", "object_fit": "contain"})
        self.rows = {name: self._row(name) for name in (*RATES, *WEIGHTS)}
        batch = live.controls.photos_per_step(live.setup.start.verts.device)
        self.batch = ipywidgets.Dropdown(options=sorted({*BATCHES, batch}), value=batch)
        self.size = ipywidgets.Dropdown(
            options=[("as scheduled", 0), *((f"{n} px", n) for n in live.photo_sizes()[1:])],
            value=live.controls.photo_size,
        )
        for name, widget in (("batch", self.batch), ("photo_size", self.size)):
            widget.layout.width = "130px"
            widget.observe(lambda change, name=name: live.ask(live.change, name, change["new"]), "value")
        self.space = live_mesh.LiveMesh(photos.up)
        self.snapshots = ipywidgets.Dropdown(options=(0,), value=0, layout={"width": "90px"})
        self.more = ipywidgets.BoundedIntText(100, min=1, max=1000000, layout={"width": "80px"})
        self.widget = self._laid_out()
        self.still = None
        live.watcher = self.refresh
        self.refresh()
        self.drawing_seconds = 0.0  # the first drawing loads fonts

    def show(self) -> None:
        """Displays the panel in the cell that runs, and the picture of it; an earlier display stays connected."""
        display(self.widget)
        self.still = display(HTML(self._still().data + INTO_VIEW), display_id=True)

    def refresh(self) -> None:
        """Shows the state now, and draws curve and pictures if it is time."""
        live, now = self.live, time.monotonic()
        if live.running and now - self.said < REFRESH_SECONDS:
            return
        self.said = now
        self._say()
        due = now - self.drawn >= max(REFRESH_SECONDS, self.drawing_seconds / SHARE)
        if (due and live.step != self.drawn_step) or not live.running:
            self._draw()
            self.drawn_step = live.step
            self.drawn = time.monotonic()
            self.drawing_seconds = self.drawn - now
        if self.still is not None and (not live.running or now - self.still_drawn >= STILL_SECONDS):
            self.still.update(self._still())
            self.still_drawn = now

    def _say(self) -> None:
        live = self.live
        total, step = live.controls.steps, live.step
        self.bar.max, self.bar.value = total, step
        on = live.running
        self.toggle.description, self.toggle.icon = ("pause", "pause") if on else ("start", "play")
        if not on:
            self.began = None
        elif self.began is None:
            self.began = step, time.monotonic()
            self.turn = False  # pictures first: the curve has more to show at its turn
        self.state.value = f"<b>step {step} of {total}</b>, {self._word()}"
        self.says.value = f"<span style='color:#a33'>{html.escape(live.says)}</span>" if live.says else self._next()
        if self.snapshots.options != (there := tuple(sorted(live.snapshots))):
            self.snapshots.options, self.snapshots.value = there, there[-1]

    def _word(self) -> str:
        live = self.live
        if live.chosen:
            return f"kept step {live.result.kept.step}, {'the best' if live.chosen == BEST else 'chosen by hand'}"
        if not live.running:
            return "paused" if live.step else "press start"
        first, since = self.began or (live.step, 0.0)
        if live.step <= first:
            return "running"
        left = (live.controls.steps - live.step) * (time.monotonic() - since) / (live.step - first)
        return f"running, {left:.0f} s left; best so far: step {live.state.kept.step}"

    def _next(self) -> str:
        if self.live.chosen:
            return "Now run the cells below: <i>Run ▸ Run Selected Cell and All Below</i>, from this cell on."
        if self.live.running:
            return "Everything below may be changed while it runs. ■ pauses; nothing is lost."
        return "When it looks right: <i>keep best</i>, or <i>keep this</i> step as it is shown."

    def _draw(self) -> None:
        """Draws everything; while the fit runs, pictures and curve in turn, so that each is seen sooner."""
        live = self.live
        self.turn = not self.turn
        if self.turn or not live.running:
            self.pictures.value = live_pictures.sheet(self.watched.pictures(live.state.fit.mesh))
            self.space.update(live.state.fit.mesh)
        if not (self.turn and live.running):
            self.curve.value = figures.history(live.result.history, live.result.validation, tall=True).png()

    def _still(self) -> HTML:
        return still.still(
            "recon-panel", f"The panel: {self.state.value}", bytes(self.pictures.value), bytes(self.curve.value)
        )

    def _watch(self, name: str) -> None:
        self.watched = live_pictures.Watched(self.photos, name, self.live.setup.T_unit_world, self.live.raster)
        self._draw()

    def _row(self, name: str) -> KnobRow:
        knob = self.live.knobs[name]

        def changed(name: str, value: float) -> None:
            self.live.ask(self._change, name, value)

        return KnobRow(name, self.live.value(name), float(knob.low), float(knob.high), knob.help, changed)

    def _change(self, name: str, value: float) -> None:
        try:
            self.live.change(name, value)
        finally:
            self.rows[name].show(self.live.value(name))

    def _laid_out(self) -> ipywidgets.VBox:
        live = self.live

        def button(text: str, icon: str, what, style: str = "") -> ipywidgets.Button:
            made = ipywidgets.Button(description=text, icon=icon, button_style=style, layout={"width": "auto"})
            made.on_click(lambda _: live.ask(what))
            return made

        self.toggle.layout.width = "84px"
        top = [self.toggle, button("one step", "step-forward", live.one_step), button("keep best", "star", live.keep_best),
               button("keep this", "check", live.keep_this), self.bar, self.state]  # fmt: skip
        sizes = ipywidgets.HBox(
            [ipywidgets.Label("photos per step"), self.batch, ipywidgets.Label("photo size"), self.size]
        )
        rates, weights = ([self.rows[name].widget for name in names] for names in (RATES, WEIGHTS))
        columns = [ipywidgets.VBox(rates), ipywidgets.VBox([*weights, sizes])]
        knob_columns = ipywidgets.HBox(columns, layout={"grid_gap": "24px"})
        watched = ipywidgets.Label("watched photo", layout={"margin": "2px 2px 2px 16px"})
        more = [button("snapshot", "camera", live.take_snapshot), self.snapshots,
                button("return to it", "undo", lambda: live.return_to(self.snapshots.value)),
                button("extend by", "plus", lambda: live.extend(self.more.value)), self.more, ipywidgets.Label("steps"),
                watched, self.photo, self.space.toggle]  # fmt: skip
        flow = {"flex_flow": "row wrap", "align_items": "center"}
        made = ipywidgets.VBox([
            ipywidgets.HBox(top, layout=flow), self.says, ipywidgets.HBox([self.pictures, self.curve]),
            knob_columns, ipywidgets.HBox(more, layout=flow), self.space.widget,
        ])  # fmt: skip
        made.add_class("recon-panel")
        return made
