"""Fetches what a weights folder lacks: asks the servers which files there are, downloads them, and writes the lock.

All servers are asked before the first large download, so that a refusal, a missing file or a full disk is reported at once. A
row of a table of `store` enters the lock when all its files are there and agree with what the server stated, and with an
earlier lock of the same revision. Sizes are bytes.
"""

import errno
import gzip
import logging
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from recon_lib import files
from recon_lib.progress import Progress, silent
from recon_lib.weights import download, store
from recon_lib.weights.download import DownloadError, Remote
from recon_lib.weights.store import Need

COMMIT = re.compile(r"[0-9a-f]{40}")
SPARE = 10**9  # bytes that must stay free on the disk

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What to download for one row of a table of `store`."""

    need: Need
    revision: str
    chosen: bool  # whether a person chose the revision, with --revision
    remotes: tuple[Remote, ...]  # all files of the row
    missing: tuple[Remote, ...]  # those that are not there yet

    @property
    def size(self) -> int:
        """The size of the missing files."""
        return sum(self.expected(remote) for remote in self.missing)

    def expected(self, remote: Remote) -> int:
        """The size of a file; the table's estimate if the server does not state it."""
        return int(self.need.size_gb * 1e9) if remote.size is None else remote.size


def fetch(
    folder: Path,
    revisions: Mapping[str, str] | None = None,
    progress: Progress = silent,
    what: str = "reconviagen",
) -> dict[str, str]:
    """Fetches what is missing of one of `store.WHATS`; returns the revisions of the fetched rows by id.

    A complete folder needs no network. The revision of a row is the one in `revisions` (by id), else the one in the lock if a
    person chose it, else the one in its table. Raises ValueError for an unknown id or a bad revision, DownloadError for what
    goes wrong on the way.
    """
    needs = store.table(what)
    chosen = _check_revisions(revisions or {}, needs)
    try:
        return _fetch(folder, needs, chosen, progress)
    except OSError as error:  # from the disk; errors of the network are handled where they arise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "free some space" if full else "mend that, or name another folder with --folder or RECON_WEIGHTS,"
        raise DownloadError(f"{folder}: {error}; {mend} and {download.NEXT}") from error


def _fetch(folder: Path, rows: tuple[Need, ...], chosen: Mapping[str, str], progress: Progress) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = store.read_lock(folder) if (folder / store.LOCK).exists() else {}
    plans = [plan for need in rows if (plan := _plan(folder, need, lock.get(need.id), chosen, progress))]
    _check_room(folder, plans)
    total, done = sum(plan.size for plan in plans), 0
    for plan in plans:
        for remote in plan.missing:
            expected = plan.expected(remote)

            def received(count: int, remote: Remote = remote, done: int = done, expected: int = expected) -> None:
                what = f"{remote.path.name} {count / 1e9:.2f}/{expected / 1e9:.2f} GB"
                progress((done + min(count, expected)) / total, what)

            download.download(remote, received, _token(plan.need))
            done += expected
        before = lock.get(plan.need.id)
        lock[plan.need.id] = _install(folder, plan, before)
        store.write_lock(folder, lock)
    return {plan.need.id: lock[plan.need.id]["revision"] for plan in plans}


def _check_revisions(revisions: Mapping[str, str], rows: tuple[Need, ...]) -> Mapping[str, str]:
    needs = {need.id: need for need in rows}
    for id, revision in revisions.items():
        if id not in needs:
            raise ValueError(f"revision: got {id!r}, needed one of {', '.join(needs)}")
        if needs[id].kind == store.FILE and not re.fullmatch("sha256:[0-9a-f]{64}", revision):
            raise ValueError(f"revision of {id}: got {revision!r}, needed sha256: and 64 hex digits")
    return revisions


def _plan(
    folder: Path,
    need: Need,
    entry: dict[str, Any] | None,
    revisions: Mapping[str, str],
    progress: Progress,
) -> Plan | None:
    """What to download for this row; None if it is complete."""
    revision, chosen = need.revision or "main", False
    if need.id in revisions:
        revision, chosen = revisions[need.id], True
    elif entry and (entry["chosen"] or need.revision is None):
        revision, chosen = entry["revision"], entry["chosen"]
    progress(0.0, f"{need.target}: looking")
    if entry and entry["revision"] == revision and store.whole(folder, need, entry | {"chosen": True}):
        return None
    if need.kind == store.HUB:
        revision, remotes = _list_files(need, revision, folder / need.target)
    elif need.kind == store.CODE:
        archive = (folder / need.target).with_suffix(".tar.gz")
        remotes = (Remote(need.url.format(revision=revision), archive, revision),)
    else:
        sha256 = revision.removeprefix("sha256:")
        remotes = (Remote(need.url, folder / need.target, sha256, sha256=sha256),)
    stamps = store.read_stamps(folder)
    missing = tuple(remote for remote in remotes if not _is_there(folder, remote, stamps))
    return Plan(need, revision, chosen, remotes, missing)


def _list_files(need: Need, revision: str, target: Path) -> tuple[str, tuple[Remote, ...]]:
    """The commit of a revision, and its files. The hub states sha256 for large files and git's sha1 for the others."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{hub}/api/models/{need.url}/revision/{quote(revision, safe='')}?blobs=true"
    answer = download.read_json(url, _token(need))
    commit = answer.get("sha", "")
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision) and commit != revision):
        raise DownloadError(f"{url}: got commit {commit!r}, needed {revision}")
    if commit != revision:
        log.warning("%s: %s is %s now; this is recorded in %s", need.id, revision, commit, store.LOCK)
    remotes = []
    for file in answer["siblings"]:
        name, large = file["rfilename"], file.get("lfs")
        sha256, sha1 = (large["sha256"], None) if large else (None, file.get("blobId"))
        if file.get("size") is None or not (sha256 or sha1):
            raise DownloadError(f"{url}: {name} without size and hash, needed both; use https://huggingface.co itself")
        at = f"{hub}/{need.url}/resolve/{commit}/{quote(name)}"
        remotes.append(Remote(at, target / _check_inside(name), sha256 or sha1, file["size"], sha256, sha1))
    return commit, tuple(remotes)


def _is_there(folder: Path, remote: Remote, stamps: dict[str, dict[str, Any]]) -> bool:
    if not remote.path.is_file() or remote.size not in (None, remote.path.stat().st_size):
        return False
    if remote.sha256:
        return store.find_hash(folder, str(remote.path.relative_to(folder)), stamps) == remote.sha256
    return bool(remote.git_sha1) and download.digest(remote.path, "git_sha1") == remote.git_sha1


def _check_room(folder: Path, plans: list[Plan]) -> None:
    needed = sum(plan.expected(remote) - download.received(remote) for plan in plans for remote in plan.missing)
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE:
        raise DownloadError(
            f"{folder}: {free / 1e9:.1f} GB free, needed {(needed + SPARE) / 1e9:.1f}; free some space, or name a folder on "
            "another disk with --folder or RECON_WEIGHTS"
        )


def _install(folder: Path, plan: Plan, before: dict[str, Any] | None) -> dict[str, Any]:
    """Unpacks an archive, deletes files of an earlier revision, and returns the row's entry for the lock."""
    revision, paths = plan.revision, [remote.path for remote in plan.remotes]
    if plan.need.kind == store.CODE:
        target = folder / plan.need.target
        revision = _unpack(paths[0], target, revision)
        paths = sorted(path for path in target.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    stamps = store.read_stamps(folder)
    known = {remote.path: remote.sha256 for remote in plan.remotes if remote.sha256}
    hashes = {name: known.get(path) or store.find_hash(folder, name, stamps) for name, path in names.items()}
    if before and before["revision"] == revision:
        _compare(folder, before["files"], hashes)
    for name in set(before["files"] if before else ()) - set(names):
        (folder / name).unlink(missing_ok=True)
    store.write_stamps(folder, stamps, hashes)
    entries = {name: {"size": path.stat().st_size, "sha256": hashes[name]} for name, path in names.items()}
    return {"revision": revision, "chosen": plan.chosen, "files": entries}


def _compare(folder: Path, pinned: dict[str, dict[str, Any]], hashes: dict[str, str]) -> None:
    for name, file in pinned.items():
        if hashes.get(name) != file["sha256"]:
            raise DownloadError(
                f"{folder / name}: the server gave sha256 {hashes.get(name)}, {store.LOCK} pins {file['sha256']} for the "
                f"same revision; take the file from the machine that the lock came from, or delete {folder / store.LOCK}"
            )


def _unpack(archive: Path, target: Path, revision: str) -> str:
    """Replaces the target folder by the archive's files; returns the commit that git wrote into the archive."""
    temporary = target.with_name(f".{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            commit = tar.pax_headers.get("comment", "")
            for member in tar:
                if member.isfile():
                    path = temporary / _check_inside(member.name.partition("/")[2])  # without GitHub's top folder
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(tar.extractfile(member).read())
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        archive.unlink()
        raise DownloadError(f"{archive}: damaged archive ({error}); it was dropped: run it again") from error
    archive.unlink()
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision) and commit != revision):
        raise DownloadError(f"{target}: the archive is of commit {commit!r}, needed {revision}")
    if commit != revision:
        log.warning("%s: %s is %s now; this is recorded in %s", target.name, revision, commit, store.LOCK)
    if not (temporary / "hubconf.py").is_file():
        raise DownloadError(f"{target}: got an archive without hubconf.py at commit {commit}, needed one with it")
    files.replace_folder(temporary, target)
    return commit


def _check_inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise DownloadError(f"the server names a file {name!r}, needed one inside its folder")
    return path


def _token(need: Need) -> str | None:
    return os.environ.get("HF_TOKEN") if need.kind == store.HUB else None
