"""Downloads files over HTTP: a download continues where an earlier one stopped, and only a complete file gets its name.

The bytes received so far lie beside the target as `.NAME.KEY.part`. KEY identifies the content, so that a part is never
continued with bytes of another content. Sizes are bytes; hashes are hex digits: sha256, or git's sha1 of a blob.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import recon_lib

ATTEMPTS = 4  # attempts in a row without a new byte, after which it gives up
PAUSE_S = 1.0  # after the first failed attempt; it doubles each time
TIMEOUT_S = 30.0  # without an answer from the server
BLOCK = 2**20  # bytes read at once
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP status codes after which it tries again
NEXT = "run it again: it goes on where it stopped"

log = logging.getLogger(__name__)


class DownloadError(ValueError):
    """A download failed; the message says why and what to do next."""


@dataclass(frozen=True)
class Remote:
    """One file on a server. Size and hashes are None if the server does not state them."""

    url: str
    path: Path  # where the download goes
    key: str  # identifies the content
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None


class _TokenStays(HTTPRedirectHandler):
    """Sends the token along when a redirect stays on the same host, and never to another host."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl).netloc == urlsplit(req.full_url).netloc:
            new.unredirected_hdrs |= {k: v for k, v in req.unredirected_hdrs.items() if k == "Authorization"}
        return new


def read_json(url: str, token: str | None = None) -> dict[str, Any]:
    """The JSON object at the URL. Raises DownloadError."""

    def ask() -> bytes:
        with _open(url, 0, token) as response:
            return response.read()

    try:
        return json.loads(_insist(url, ask, lambda: False))
    except json.JSONDecodeError as error:
        raise DownloadError(f"{url}: the answer is not JSON; a proxy or a sign-in page may stand in between") from error


def download(remote: Remote, received: Callable[[int], None], token: str | None = None) -> None:
    """Downloads the file to `remote.path`; `received` is called with the number of bytes there so far.

    Raises DownloadError for an unreachable server, a refusal, and content of another size or hash.
    """
    part = part_of(remote)
    part.parent.mkdir(parents=True, exist_ok=True)
    before = [-1]

    def came() -> bool:
        before.append(_size(part))
        return before[-1] > before[-2]

    _insist(remote.url, lambda: _append(remote, part, received, token), came)
    try:
        check_content(part, remote)
    except DownloadError:
        part.unlink()
        raise
    os.replace(part, remote.path)


def part_of(remote: Remote) -> Path:
    """Where the bytes received so far lie."""
    return remote.path.with_name(f".{remote.path.name}.{remote.key[:12]}.part")


def received(remote: Remote) -> int:
    """The number of bytes that an earlier download has received."""
    return _size(part_of(remote))


def check_content(path: Path, remote: Remote) -> None:
    """Compares size and hash with those that the server stated. Raises DownloadError if they differ."""
    if remote.size is not None and _size(path) != remote.size:
        raise DownloadError(
            f"{remote.path}: {_size(path)} bytes came from {remote.url}, needed {remote.size}; run it again"
        )
    for needed, kind in ((remote.sha256, "sha256"), (remote.git_sha1, "git_sha1")):
        if needed and (found := digest(path, kind)) != needed:
            raise DownloadError(
                f"{remote.path}: {kind} {found} came from {remote.url}, needed {needed}; it was dropped: run it again, and if "
                "that does not help, what the server holds is not what was asked for"
            )


def digest(path: Path, kind: str = "sha256", read: Callable[[int], None] = lambda count: None) -> str:
    """The file's hash in hex digits; `kind` is sha256 or git_sha1. `read` is called with the number of bytes read so far."""
    whole = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {_size(path)}\0".encode())
    count = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            whole.update(block)
            count += len(block)
            read(count)
    return whole.hexdigest()


def _open(url: str, offset: int, token: str | None) -> HTTPResponse:
    request = Request(url, headers={"User-Agent": f"recon_lib/{recon_lib.__version__}"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return build_opener(_TokenStays).open(request, timeout=TIMEOUT_S)


def _append(remote: Remote, part: Path, received: Callable[[int], None], token: str | None) -> None:
    have = _size(part)
    if have and have == remote.size:
        return
    try:
        response = _open(remote.url, have, token)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return
        part.unlink()
        raise ConnectionError(f"{have} bytes were there of a shorter file") from error
    with response:
        if response.status != 206:
            have = 0  # the server cannot continue in the middle and sends everything again
        length = response.headers["Content-Length"]
        total = remote.size if length is None else have + int(length)
        with part.open("ab" if have else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                have += len(block)
                received(have)
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")


def _insist(url: str, ask: Callable[[], Any], came: Callable[[], bool]) -> Any:
    """Calls `ask` again after errors that may pass by themselves; `came` says whether new bytes came since the last call.

    Raises DownloadError for other errors, and after ATTEMPTS failures in a row without new bytes.
    """
    failures = 0
    came()
    while True:
        try:
            return ask()
        except HTTPError as error:
            if error.code not in BUSY:
                raise DownloadError(_refusal(error, url)) from error
            reason: Exception = error
        except (URLError, HTTPException, ConnectionError, TimeoutError, SSLError) as error:
            reason = error
        failures = 1 if came() else failures + 1
        if failures >= ATTEMPTS:
            raise DownloadError(
                f"{url}: {reason}; check the network and {NEXT}; or copy the folder from another machine"
            ) from reason
        log.info("%s: %s; again", url, reason)
        time.sleep(PAUSE_S * 2 ** (failures - 1))


def _refusal(error: HTTPError, url: str) -> str:
    said = error.headers.get("X-Error-Message") or error.reason
    if error.code in (401, 403):
        # To users who are not signed in, the hub also answers 401 for repositories that do not exist.
        return (
            f"{url}: {error.code} {said}: it is gated, private or gone; sign in to the site in a browser, accept the terms "
            "there if it has any, put a token with read access in HF_TOKEN and run it again"
        )
    if error.code == 404:
        return f"{url}: 404 {said}: no such file, repository or revision; name another: recon weights fetch --revision ID=main"
    return f"{url}: {error.code} {said}; run it again later"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
