"""The files that JupyterLab may change: those in `outputs/`. Everything else of the repository opens, runs, and stays as it is.

An upload into `outputs/` that JupyterLab's file browser sends in pieces may be as large as one photo may be; what a person
refuses or exceeds is told in the sentence that the browser shows.
"""

from pathlib import Path

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado import web
from traitlets import Float

WRITABLE = "outputs"  # the folder, from the server's root
HINT = (
    "The repository's own files stay as they are. A run's own notebooks, to edit and keep, are in outputs/RUN: make them in "
    "0_workbench, or with `recon new`"
)


class WorkbenchContents(AsyncLargeFileManager):
    """The server's contents manager: writes inside `outputs/` only, and nothing larger than `most_mb`."""

    most_mb = Float(200.0, help="largest file that may be uploaded or saved, in 10^6 bytes", config=True)

    def is_writable(self, path: str) -> bool:
        """Whether the browser may change the file or folder; what it may not is shown as read-only."""
        return _inside(path) and super().is_writable(path)

    async def save(self, model: dict, path: str = "") -> dict:
        """Saves a file, or one piece of an upload. Raises HTTP error 403 outside `outputs/`, 413 for too large a file."""
        _require(path)
        content = model.get("content")
        size = len(content) if isinstance(content, str) else 0
        size = size * 3 // 4 if model.get("format") == "base64" else size
        target = Path(self._get_os_path(path))
        if model.get("chunk") not in (None, 1) and target.exists():
            size += target.stat().st_size
        if size > self.most_mb * 1e6:
            if model.get("chunk") not in (None, 1):
                target.unlink(missing_ok=True)
            raise web.HTTPError(413, f"{path}: larger than {self.most_mb:g} MB, the most that may be uploaded")
        return await super().save(model, path)

    async def new_untitled(self, path: str = "", type: str = "", ext: str = "") -> dict:
        """Makes a new file or folder. Raises HTTP error 403 outside `outputs/`."""
        _require(f"{path}/new")
        return await super().new_untitled(path, type, ext)

    async def copy(self, from_path: str, to_path: str | None = None) -> dict:
        """Copies a file; without a target, beside it. Raises HTTP error 403 outside `outputs/`."""
        _require(to_path or from_path)
        return await super().copy(from_path, to_path)

    async def rename_file(self, old_path: str, new_path: str) -> None:
        """Renames a file or folder. Raises HTTP error 403 outside `outputs/`."""
        _require(old_path)
        _require(new_path)
        await super().rename_file(old_path, new_path)

    async def delete_file(self, path: str) -> None:
        """Deletes a file or folder. Raises HTTP error 403 outside `outputs/`."""
        _require(path)
        await super().delete_file(path)

    async def create_checkpoint(self, path: str) -> dict:
        """Keeps a copy beside a file. Raises HTTP error 403 outside `outputs/`."""
        _require(path)
        return await super().create_checkpoint(path)


def _inside(path: str) -> bool:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return parts[:1] == [WRITABLE] and ".." not in parts


def _require(path: str) -> None:
    if not _inside(path) or path.strip("/") == WRITABLE:
        raise web.HTTPError(403, f"{path}: not changed, as only files in {WRITABLE}/ may be. {HINT}.")
