"""A photo to draw on, in the browser (`photo_marks.js`)."""

from pathlib import Path

import anywidget
import traitlets

BOX, OBJECT, BACKGROUND, FIRST, SECOND = TOOLS = ("box", "object", "background", "first", "second")


class PhotoMarks(anywidget.AnyWidget):
    """Shows `picture`, a JPEG, and what is drawn on it: `marks` with `box` (left, top, right, bottom), `strokes` and `points`.

    All places are shares of width and height, 0 to 1. `tool` is one of TOOLS.
    """

    _esm = Path(__file__).with_suffix(".js")
    picture = traitlets.Bytes(b"").tag(sync=True)
    tool = traitlets.Enum(TOOLS, BOX).tag(sync=True)
    marks = traitlets.Dict().tag(sync=True)
