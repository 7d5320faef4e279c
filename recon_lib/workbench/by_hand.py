"""What a person says of photos by drawing on them: masks before a run; a known length and the up direction after it.

Masks go into `masks/` beside the photos, where ingest looks for them, so the photos must be in `outputs/`. Marks of a length or
of up are made in the photos of the chosen run, each point in two photos or more.
"""

import html
import io
from collections.abc import Callable
from pathlib import Path

import ipywidgets
import numpy as np
from PIL import Image

from recon_lib.photos import strokes
from recon_lib.photos.strokes import Stroke
from recon_lib.workbench import runs
from recon_lib.workbench.photo_marks import BACKGROUND, BOX, FIRST, OBJECT, SECOND, PhotoMarks

SHOWN = 760  # pixels along the long side of the photo as it is drawn on
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif")
MASKS, LENGTH, UP = "masks", "known length", "up direction"
TOOLS = {
    MASKS: [("box around it", BOX), ("on the object", OBJECT), ("beside it", BACKGROUND)],
    LENGTH: [("one end", FIRST), ("other end", SECOND)],
    UP: [("a low point", FIRST), ("a point right above it", SECOND)],
}
HINTS = {
    MASKS: "Draw a box around the object, and strokes on it or beside it where the mask is wrong. Save it photo by photo.",
    LENGTH: "Mark both ends of something whose length you know, in two photos or more; type the length and save.",
    UP: "Mark a low point of the object and one right above it, in two photos or more. The run is then done again.",
}
TINT = np.array([40, 120, 255])  # of what is not the object, in a preview


class ByHand:
    """The widgets; `photos()` gives the folder of photos for masks, `run()` the folder of the chosen run or None."""

    def __init__(self, home: Path, photos: Callable[[], Path | None], run: Callable[[], Path | None]):
        self.home, self.photos, self.run = home, photos, run
        self.found: dict[str, Path] = {}  # the photos by name
        self.marks: dict[str, dict] = {}  # what was drawn, by photo
        self.purpose = ipywidgets.ToggleButtons(options=list(TOOLS), style={"button_width": "auto"})
        self.photo = ipywidgets.Dropdown(description="photo", layout={"width": "300px"})
        self.tool = ipywidgets.ToggleButtons(options=TOOLS[MASKS], style={"button_width": "auto"})
        self.canvas = PhotoMarks()
        self.metres = ipywidgets.FloatText(0.1, description="metres", layout={"width": "180px"})
        self.says = ipywidgets.HTML()
        self.purpose.observe(lambda _: self._do(self.load), "value")
        self.photo.observe(lambda _: self._do(self._show), "value")
        self.tool.observe(lambda change: setattr(self.canvas, "tool", change["new"] or BOX), "value")
        self.canvas.observe(lambda change: self.marks.__setitem__(self.photo.value, change["new"]), "marks")
        actions = (("load photos", self.load), ("clear", self._clear), ("preview mask", self._preview),
                   ("save mask", self._save_mask), ("save length", self._save_length),
                   ("use as up", self._use_as_up))  # fmt: skip
        self.hint = ipywidgets.HTML()
        self.buttons = {text: ipywidgets.Button(description=text, layout={"width": "auto"}) for text, _ in actions}
        for text, what in actions:
            self.buttons[text].on_click(lambda _, what=what: self._do(what))
        rows = [[self.purpose], [self.hint], [self.photo, self.tool], [*self.buttons.values(), self.metres]]
        self.widget = ipywidgets.VBox([*(ipywidgets.HBox(row) for row in rows), self.says, self.canvas])
        self.widget.add_class("recon-by-hand")
        self._show_buttons()

    def load(self) -> None:
        """Looks for the photos of the purpose, and forgets what was drawn on others."""
        self._show_buttons()
        folder = self._folder()
        listed = [folder, folder / "images"]
        files = [path for place in listed for path in sorted(place.glob("*")) if path.suffix.lower() in SUFFIXES]
        if not files:
            raise ValueError(f"{folder}: no photos, needed some in it or in images/")
        self.found, self.marks = {path.name: path for path in files}, {}
        self.photo.options = list(self.found)
        self.photo.value = files[0].name
        self._show()

    def _folder(self) -> Path:
        if self.purpose.value == MASKS:
            folder = self.photos()
            if folder is None or not folder.is_dir():
                raise ValueError("photos: name a folder of photos above; an archive has to be unpacked for this")
            return folder
        run = self.run()
        if run is None or not (run / "scene").is_dir():
            raise ValueError("choose a run whose photos were read")
        return run / "scene"

    def _show_buttons(self) -> None:
        purpose = self.purpose.value
        self.tool.options, self.hint.value = TOOLS[purpose], HINTS[purpose]
        wanted = {MASKS: ("preview mask", "save mask"), LENGTH: ("save length",), UP: ("use as up",)}[purpose]
        for text, button in self.buttons.items():
            button.layout.display = "" if text in (*wanted, "load photos", "clear") else "none"
        self.metres.layout.display = "" if purpose == LENGTH else "none"

    def _show(self) -> None:
        if self.photo.value in self.found:
            self.canvas.marks = self.marks.get(self.photo.value, {})
            self.canvas.picture = _jpeg(self._read())

    def _read(self) -> np.ndarray:
        """The chosen photo as H W 3 uint8, upright, small enough to draw on."""
        from PIL import ImageOps

        with Image.open(self.found[self.photo.value]) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
        upright.thumbnail((SHOWN, SHOWN))
        return np.asarray(Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright))[..., :3]

    def _clear(self) -> None:
        self.marks.pop(self.photo.value, None)
        self._show()

    def _mask(self, rgb: np.ndarray) -> np.ndarray:
        drawn = self.canvas.marks
        lines = [Stroke(one["kind"] == OBJECT, [tuple(at) for at in one["points"]]) for one in drawn.get("strokes", [])]
        box = drawn.get("box")
        return strokes.mask(rgb, tuple(box) if box else None, lines)

    def _preview(self) -> None:
        rgb = self._read()
        away = self._mask(rgb)[..., None] == 0
        self.canvas.picture = _jpeg(np.where(away, (0.4 * rgb + 0.6 * TINT), rgb).astype(np.uint8))

    def _save_mask(self) -> None:
        path = self.found[self.photo.value]
        outputs = (self.home / "outputs").resolve()
        if not path.resolve().is_relative_to(outputs):
            raise ValueError(
                f"{path}: masks are only written into outputs/; drop the photos above, which copies them there"
            )
        with Image.open(path) as image:
            size = image.size if image.getexif().get(0x0112, 1) < 5 else image.size[::-1]
        folder = self._folder() / "masks"
        folder.mkdir(exist_ok=True)
        Image.fromarray(self._mask(self._read())).resize(size, Image.Resampling.BILINEAR).point(
            lambda value: 255 if value > 127 else 0
        ).save(folder / f"{path.stem}.png")
        done = len(list(folder.glob("*.png")))
        self._say(f"{folder.name}/{path.stem}.png is written; {done} of {len(self.found)} photos have a mask by hand")

    def _points(self) -> list[list[str]]:
        """For each end the marks in the photos as `recon scale` takes them: PHOTO:x,y in pixels."""
        found: list[list[str]] = [[], []]
        for name, drawn in self.marks.items():
            with Image.open(self.found[name]) as image:
                width, height = image.size
            for end, key in zip(found, (FIRST, SECOND), strict=True):
                if key in drawn.get("points", {}):
                    x, y = drawn["points"][key]
                    end.append(f"{name}:{x * width:.2f},{y * height:.2f}")
        if min(map(len, found)) < 2:
            raise ValueError(
                f"each point has to be marked in two photos or more; marked in {', '.join(map(str, map(len, found)))}"
            )
        return found

    def _save_length(self) -> None:
        first, second = self._points()
        words = ("--point", *first, "--point", *second, f"--length={self.metres.value}")
        code, text = runs.command(self.home, "scale", str(self.run()), *words)
        self._say(text, bad=code != 0)

    def _use_as_up(self) -> None:
        from recon_lib.photos import scale, scene
        from recon_lib.photos.up import AXES

        folder = self.run()
        posed = scene.load(folder / "scene")
        if posed.cameras is None:
            raise ValueError("up: the scene has no cameras")
        low, high = (
            scale.point(posed, posed.cameras, [scale.parse(mark) for mark in marks])[0] for marks in self._points()
        )
        along = (high - low) / np.linalg.norm(high - low)
        axis = max(AXES, key=lambda name: float(along @ np.array(AXES[name])))
        apart = float(np.degrees(np.arccos(np.clip(along @ np.array(AXES[axis]), -1, 1))))
        runs.change(folder, "1_ingest", "up", axis)
        self._say(f"up is the world's {axis}, {apart:.0f}° from what was marked; the run is in the queue again")

    def _do(self, what: Callable[[], None]) -> None:
        try:
            self._say("")
            if what != self.load and self.photo.value not in self.found:
                raise ValueError("no photo is loaded")
            what()
        except (ValueError, OSError) as error:
            self._say(str(error), bad=True)

    def _say(self, text: str, bad: bool = False) -> None:
        self.says.value = f"<span style='color: {'#a33' if bad else '#333'}'>{html.escape(text)}</span>"


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
