"""The place in the browser where photos are dropped (`drop_zone.js`), and what Python answers it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from recon_lib.workbench.uploads import MOST_FILE_MB, MOST_TOTAL_MB, Uploads

log = logging.getLogger(__name__)


class DropZone(anywidget.AnyWidget):
    """Takes files into `uploads`; `taken` is called after each."""

    _esm = Path(__file__).with_suffix(".js")
    most_file_mb = traitlets.Float(MOST_FILE_MB).tag(sync=True)
    most_total_mb = traitlets.Float(MOST_TOTAL_MB).tag(sync=True)

    def __init__(self, uploads: Uploads, taken: Callable[[], None]):
        super().__init__()
        self.uploads, self.taken = uploads, taken
        self.on_msg(self._answer)

    def _answer(self, widget: Any, content: dict, buffers: list) -> None:
        name = str(content.get("name"))
        try:
            error = self._do(content.get("kind"), name, content, buffers)
        except OSError as failed:
            log.exception("an upload")
            error = f"not stored: {failed.strerror or failed}"
        self.send({"name": name, "error": error} if error else {"name": name})

    def _do(self, kind: Any, name: str, content: dict, buffers: list) -> str:
        """Does what the browser asks and returns why it cannot be done; empty if it was."""
        try:
            if kind == "begin":
                self.uploads.begin(name, int(content["size"]))
            elif kind == "piece":
                self.uploads.piece(name, bytes(buffers[0]))
            else:
                self.uploads.end(name)
                self.taken()
        except ValueError as error:
            return "; ".join(str(error).splitlines())
        return ""
