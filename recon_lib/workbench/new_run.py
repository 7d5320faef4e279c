"""The upper left part of the workbench: choose photos, name the run, choose what is done, and start it."""

import html
from collections.abc import Callable
from pathlib import Path

import ipywidgets

from recon_lib.stages import MODES
from recon_lib.workbench import runs
from recon_lib.workbench.drop_zone import DropZone
from recon_lib.workbench.uploads import Uploads

PRESETS = ("quick", "standard", "fine", "photos")
WIDE = {"width": "98%"}


class NewRun:
    """Widgets that make a run; `started(name)` is called when one is in the queue."""

    def __init__(self, home: Path, started: Callable[[str], None]):
        self.home, self.started = home, started
        self.uploads = Uploads(home / "outputs")
        self.drop = DropZone(self.uploads, self._taken)
        self.photos = ipywidgets.Combobox(
            options=runs.photo_sources(home), placeholder="a folder or .zip: type, or choose", ensure_option=False,
            layout=WIDE, description="photos",
        )  # fmt: skip
        self.name = ipywidgets.Text(placeholder="once, for the run's folder", description="name", layout=WIDE)
        self.mode = ipywidgets.Dropdown(options=[("auto: what fits these photos", runs.AUTO), *((m, m) for m in MODES)])
        self.preset = ipywidgets.Dropdown(
            options=[p for p in PRESETS if (home / "params" / f"{p}.yaml").exists()] or [""], description="preset"
        )
        self.mode.description, self.mode.layout, self.preset.layout = "mode", WIDE, WIDE
        self.check = ipywidgets.Button(description="check photos", icon="search")
        self.run = ipywidgets.Button(description="Run", icon="play", button_style="primary")
        self.doctor = ipywidgets.Button(description="this machine", icon="stethoscope")
        for button, press in ((self.check, self._check), (self.run, self._run), (self.doctor, self._examine)):
            button.layout.width = "auto"
            button.on_click(lambda _, press=press: self._press(press))
        self.says = ipywidgets.HTML()
        self.photos.observe(lambda change: self._suggest(change["new"]), "value")
        buttons = ipywidgets.HBox([self.run, self.check, self.doctor])
        self.widget = ipywidgets.VBox(
            [self.drop, self.photos, self.name, self.mode, self.preset, buttons, self.says], layout=WIDE
        )

    def photos_folder(self) -> Path | None:
        """The folder of photos that is named; None if none is."""
        return self.home / Path(self.photos.value.strip()).expanduser() if self.photos.value.strip() else None

    def _taken(self) -> None:
        source = self.uploads.source()
        if source is not None:
            self.photos.options = runs.photo_sources(self.home)
            self.photos.value = str(source.relative_to(self.home))

    def _suggest(self, photos: str) -> None:
        from recon_lib.chain import naming

        if photos and not self.name.value:
            self.name.value = naming.slug(Path(photos).stem if photos.endswith(".zip") else Path(photos).name)

    def _press(self, what: Callable[[], None]) -> None:
        """Does what a button is for; while it works, none can be pressed again."""
        buttons = (self.check, self.run, self.doctor)
        for button in buttons:
            button.disabled = True
        try:
            what()
        except (ValueError, OSError) as error:
            self._say(str(error), bad=True)
        finally:
            for button in buttons:
                button.disabled = False

    def _check(self) -> None:
        self._say("reading…")
        code, text = runs.command(self.home, "check", str(self.home / Path(self.photos.value.strip()).expanduser()))
        self._say(text, bad=code != 0)

    def _examine(self) -> None:
        self._say("looking…")
        self.says.value = runs.machine(self.home)

    def _run(self) -> None:
        name = runs.start(self.home, self.photos.value, self.name.value, self.mode.value, self.preset.value)
        self._say(f"{name} is in the queue; it goes on without this page.")
        self.uploads = self.drop.uploads = Uploads(self.home / "outputs")
        self.started(name)

    def _say(self, text: str, bad: bool = False) -> None:
        colour = "#a33" if bad else "#333"
        style = (
            f"color: {colour}; white-space: pre; font-size: 11px; line-height: 1.35; max-height: 220px; overflow: auto"
        )
        self.says.value = f"<pre style='{style}'>{html.escape(text)}</pre>"
