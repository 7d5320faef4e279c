"""Weights against a small server that speaks the hub's API, ranges and redirects, and drops connections when told to."""

import hashlib
import io
import json
import os
import re
import shutil
import socket
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from recon_lib import cli
from recon_lib.weights import download, fetch, store
from recon_lib.weights.download import DownloadError
from recon_lib.weights.store import WeightsError

TRELLIS, VGGT, CODE, DINO = (need.id for need in store.NEEDED)
FIRST, SECOND, COMMIT = "1" * 40, "2" * 40, "c" * 40
NETWORKS = {
    "pipeline.json": b'{"name": "tiny"}', ".gitattributes": b"*.safetensors filter=lfs",
    "ckpts/slat flow.safetensors": bytes(range(256)) * 4096,
}  # fmt: skip
CAMERAS = {"config.json": b"{}", "model.safetensors": bytes(reversed(range(256))) * 512}
CHECKPOINT = b"checkpoint" * 30000
SOURCE = {"hubconf.py": b"dependencies = []", "dinov2/__init__.py": b"", "dinov2/hub/backbones.py": b"pass"}


class Server(ThreadingHTTPServer):
    """`files` by path; `drop` holds (path, bytes to send before the connection ends), used once each."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.refused, self.drop, self.log = {}, {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.elsewhere = None  # another server, which holds the large files; the small ones are then moved within this

    def repository(self, id: str, commit: str, files: dict[str, bytes]):
        siblings = []
        for name, content in files.items():
            row = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
            if name.endswith(".safetensors"):  # the blob is then the pointer, whose hash says nothing of the content
                row |= {
                    "blobId": "f" * 40,
                    "lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 134},
                }
            siblings.append(row)
            self.files[f"/{id}/resolve/{commit}/{name}"] = content
        listing = json.dumps({"id": id, "sha": commit, "siblings": siblings}).encode()
        self.files |= {f"/api/models/{id}/revision/{revision}": listing for revision in (commit, "main")}

    def requests(self, end: str) -> list[dict[str, str]]:
        return [headers for path, headers in self.log if path.endswith(end)]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, server = unquote(urlsplit(self.path).path), self.server
        server.log.append((path, dict(self.headers)))
        if path in server.refused:
            return self.answer(server.refused[path], b"")
        if path not in server.files:
            return self.answer(404, b"")
        content = server.files[path]
        if server.elsewhere and "/resolve/" in path and len(content) > 1000:
            server.elsewhere.files["/cdn" + path] = content
            return self.answer(302, b"", {"Location": f"{server.elsewhere.url}/cdn{self.path}?signed=1"})
        if server.elsewhere and "/resolve/" in path and not path.startswith("/cache"):
            server.files["/cache" + path] = content
            return self.answer(307, b"", {"Location": f"/cache{self.path}"})
        if (range := self.headers["Range"]) and not path.endswith(".tar.gz"):
            start = int(range.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return self.answer(206, content[start:], headers, path)
        return self.answer(200, content, {}, path)

    def answer(self, code, content, headers=None, path=None):
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: self.server.drop.pop(path, None)])
        self.close_connection = True

    def log_message(self, *rest):
        pass


@pytest.fixture
def servers(monkeypatch):
    both = [Server(), Server()]
    for server in both:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    yield both
    for server in both:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(servers, monkeypatch):
    """The hub, GitHub and the publisher of the checkpoint in one, and a table that asks it."""
    server = servers[0]
    server.repository(TRELLIS, FIRST, NETWORKS)
    server.repository(VGGT, FIRST, CAMERAS)
    server.files |= {f"/{name}.tar.gz": archive(SOURCE, COMMIT) for name in (COMMIT, "main")}
    server.files["/dinov2.pth"] = CHECKPOINT
    rows = dict(zip((TRELLIS, VGGT, CODE, DINO), store.NEEDED, strict=True))
    table = (
        replace(rows[TRELLIS], revision=FIRST),
        replace(rows[VGGT], revision=None),
        replace(rows[CODE], revision=COMMIT, url=f"{server.url}/{{revision}}.tar.gz"),
        replace(rows[DINO], revision=f"sha256:{sha256(CHECKPOINT)}", url=f"{server.url}/dinov2.pth", size_gb=3e-4),
    )
    monkeypatch.setattr(store, "NEEDED", table)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return server


@pytest.fixture
def fetched(server, tmp_path):
    folder = tmp_path / "weights"
    fetch.fetch(folder)
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*rest, **options):
        raise OSError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def archive(files: dict[str, bytes], commit: str) -> bytes:
    """As `git archive` writes it: the commit in a global header, one folder on top."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": commit}) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"dinov2-{commit}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def parts(folder):
    return [path for path in folder.rglob(".*.part")]


def damage(path):
    """One byte changes, the time does not."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# ---- what is fetched


def test_a_fetch_leaves_every_file_where_the_loaders_look_and_a_lock_of_revisions_sizes_and_hashes(fetched):
    for name, content in {
        f"{TRELLIS}/pipeline.json": NETWORKS["pipeline.json"],
        f"{TRELLIS}/ckpts/slat flow.safetensors": NETWORKS["ckpts/slat flow.safetensors"],
        f"{VGGT}/config.json": CAMERAS["config.json"],
        f"{VGGT}/model.safetensors": CAMERAS["model.safetensors"],
        "torchhub/facebookresearch_dinov2_main/hubconf.py": SOURCE["hubconf.py"],
        "torchhub/facebookresearch_dinov2_main/dinov2/hub/backbones.py": SOURCE["dinov2/hub/backbones.py"],
        "torchhub/checkpoints/dinov2_vitl14_reg4_pretrain.pth": CHECKPOINT,
    }.items():
        assert (fetched / name).read_bytes() == content
        locked = [entry["files"][name] for entry in store.read_lock(fetched).values() if name in entry["files"]]
        assert locked == [{"size": len(content), "sha256": sha256(content)}]
    assert store.provenance(fetched) == {
        TRELLIS: FIRST, VGGT: FIRST, CODE: COMMIT, DINO: f"sha256:{sha256(CHECKPOINT)}"
    }  # fmt: skip
    there = {str(path.relative_to(fetched)) for path in fetched.rglob("*") if path.is_file()}
    locked = {name for entry in store.read_lock(fetched).values() for name in entry["files"]}
    assert there == locked | {store.LOCK, store.STAMPS}
    store.check(fetched)
    store.verify(fetched)


def test_a_revision_that_is_not_pinned_is_told_resolved_once_and_kept(server, tmp_path, caplog):
    fetch.fetch(tmp_path)
    assert f"{VGGT}: main is {FIRST} now; this is recorded in weights.json" in caplog.messages
    server.repository(VGGT, SECOND, {"config.json": b"[]"})
    (tmp_path / VGGT / "config.json").unlink()
    assert fetch.fetch(tmp_path) == {VGGT: FIRST}
    assert (tmp_path / VGGT / "config.json").read_bytes() == b"{}"


def test_a_chosen_revision_goes_before_the_tables_and_stays(server, fetched):
    server.repository(TRELLIS, SECOND, {"pipeline.json": b'{"name": "second"}'})
    assert fetch.fetch(fetched, {TRELLIS: SECOND}) == {TRELLIS: SECOND}
    assert not (fetched / TRELLIS / "ckpts" / "slat flow.safetensors").exists()
    store.check(fetched)
    assert fetch.fetch(fetched) == {}
    assert store.provenance(fetched)[TRELLIS] == SECOND
    with pytest.raises(ValueError, match="got 'x/y', needed one of Stable-X"):
        fetch.fetch(fetched, {"x/y": SECOND})


def test_progress_goes_from_nothing_to_all(server, tmp_path):
    shares = []
    fetch.fetch(tmp_path, progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    store.verify(tmp_path, lambda share, what: shares.append(share))
    assert shares[-1] == pytest.approx(1)


# ---- downloads that stop


@pytest.mark.parametrize(
    ("end", "content"), [("slat flow.safetensors", NETWORKS["ckpts/slat flow.safetensors"]), ("dinov2.pth", CHECKPOINT)]
)
def test_a_dropped_connection_goes_on_where_it_stopped(server, tmp_path, end, content):
    path = next(path for path in server.files if path.endswith(end))
    server.drop[path] = 100_000
    fetch.fetch(tmp_path)
    assert [headers.get("Range") for headers in server.requests(end)] == [None, "bytes=100000-"]
    store.verify(tmp_path)
    assert not parts(tmp_path)


def test_a_server_that_cannot_go_on_in_the_middle_sends_all_of_it_again(server, tmp_path):
    server.drop[f"/{COMMIT}.tar.gz"] = 50
    fetch.fetch(tmp_path)
    assert [headers.get("Range") for headers in server.requests(".tar.gz")] == [None, "bytes=50-"]
    store.verify(tmp_path)


def test_a_second_command_goes_on_where_the_first_was_interrupted(server, tmp_path):
    seen = []

    def interrupt(share, what):
        seen.append(share)
        if what.startswith("slat flow.safetensors") and share > 0:
            raise KeyboardInterrupt

    server.drop[f"/{TRELLIS}/resolve/{FIRST}/ckpts/slat flow.safetensors"] = 50_000
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(tmp_path, progress=interrupt)
    assert not (tmp_path / store.LOCK).exists()
    assert [path.stat().st_size for path in parts(tmp_path)] == [50_000]
    fetch.fetch(tmp_path)
    assert server.requests("slat flow.safetensors")[-1]["Range"] == "bytes=50000-"
    assert len(server.requests("pipeline.json")) == 1
    store.verify(tmp_path)


def test_a_part_of_another_revision_is_not_continued(server, tmp_path):
    other = bytes(1_000_000)
    server.repository(TRELLIS, SECOND, {"ckpts/slat flow.safetensors": other})
    path = tmp_path / TRELLIS / "ckpts" / f".slat flow.safetensors.{sha256(other)[:12]}.part"
    path.parent.mkdir(parents=True)
    path.write_bytes(other[:1000])
    fetch.fetch(tmp_path)
    assert "Range" not in server.requests("slat flow.safetensors")[0]


def test_a_part_that_was_whole_is_taken_and_a_longer_one_is_not(server, tmp_path):
    part = tmp_path / "torchhub/checkpoints" / f".dinov2_vitl14_reg4_pretrain.pth.{sha256(CHECKPOINT)[:12]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CHECKPOINT)
    fetch.fetch(tmp_path)
    assert [headers.get("Range") for headers in server.requests("dinov2.pth")] == [f"bytes={len(CHECKPOINT)}-"]
    (part.parent / "dinov2_vitl14_reg4_pretrain.pth").unlink()
    part.write_bytes(CHECKPOINT + b"more")
    fetch.fetch(tmp_path)
    assert "Range" not in server.requests("dinov2.pth")[-1]
    store.verify(tmp_path)


def test_a_server_that_gives_nothing_is_given_up_and_keeps_what_came(server, tmp_path, monkeypatch):
    fetch.fetch(tmp_path)
    (tmp_path / VGGT / "model.safetensors").unlink()
    monkeypatch.setattr(Handler, "answer", lambda *rest: None)
    with pytest.raises(DownloadError, match="check the network and run it again: it goes on where it stopped; or copy"):
        fetch.fetch(tmp_path)
    assert len(server.requests(f"/api/models/{VGGT}/revision/{FIRST}")) == download.ATTEMPTS


def test_a_damaged_download_never_reaches_the_lock(server, tmp_path):
    path = f"/{VGGT}/resolve/{FIRST}/model.safetensors"
    good = server.files[path]
    server.files[path] = bytes(len(good))
    with pytest.raises(DownloadError) as error:
        fetch.fetch(tmp_path)
    assert f"sha256 {sha256(bytes(len(good)))} came from" in str(error.value)
    assert f"needed {sha256(good)}" in str(error.value)
    assert set(store.read_lock(tmp_path)) == {TRELLIS}
    assert not parts(tmp_path)
    server.files |= {path: good, f"/{VGGT}/resolve/{FIRST}/config.json": b"[]"}
    (tmp_path / VGGT / "config.json").unlink()
    with pytest.raises(DownloadError, match=f"git_sha1 {git_sha1(b'[]')} came"):
        fetch.fetch(tmp_path)


def test_a_damaged_archive_and_one_of_another_commit_are_refused(server, tmp_path):
    good = server.files[f"/{COMMIT}.tar.gz"]
    server.files[f"/{COMMIT}.tar.gz"] = good[: len(good) // 2]
    with pytest.raises(DownloadError, match="damaged archive"):
        fetch.fetch(tmp_path)
    server.files[f"/{COMMIT}.tar.gz"] = archive(SOURCE, "d" * 40)
    with pytest.raises(DownloadError, match=f"the archive is of commit '{'d' * 40}', needed {COMMIT}"):
        fetch.fetch(tmp_path)
    server.files[f"/{COMMIT}.tar.gz"] = archive(SOURCE | {"../../out.py": b""}, COMMIT)
    with pytest.raises(DownloadError, match="needed one inside its folder"):
        fetch.fetch(tmp_path)
    assert CODE not in store.read_lock(tmp_path)


def test_a_copied_lock_pins_what_a_server_may_give(server, fetched, tmp_path):
    """Without a hash of its own: the archive's files may not differ from another machine's."""
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(fetched / store.LOCK, new)
    server.files[f"/{COMMIT}.tar.gz"] = archive(SOURCE | {"hubconf.py": b"other"}, COMMIT)
    with pytest.raises(
        DownloadError, match=r"hubconf.py: the server gave sha256 .* weights.json pins .* same revision"
    ):
        fetch.fetch(new)


# ---- what the servers refuse


@pytest.mark.parametrize(
    ("code", "told"),
    [(401, "accept the terms"), (403, "HF_TOKEN"), (404, "no such file, repository or revision"), (410, "410")],
)
def test_a_refusal_comes_before_any_large_download_and_says_what_to_do(server, tmp_path, code, told):
    server.refused[f"/api/models/{VGGT}/revision/main"] = code
    with pytest.raises(DownloadError, match=told):
        fetch.fetch(tmp_path)
    assert not server.requests("pipeline.json")
    assert len(server.requests("/revision/main")) == 1


def test_a_full_disk_is_told_before_and_during_the_download(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=fetch.SPARE + 1000))
    with pytest.raises(
        DownloadError, match=r"1\.0 GB free, needed 1\.0; free some space, or name a folder on another disk"
    ):
        fetch.fetch(tmp_path)
    assert not server.requests("pipeline.json")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    part = tmp_path / VGGT / f".model.safetensors.{sha256(CAMERAS['model.safetensors'])[:12]}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(
        DownloadError, match="No space left on device; free some space and run it again: it goes on where"
    ):
        fetch.fetch(tmp_path)


def test_a_folder_that_cannot_be_written_is_told(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="name another folder with --folder or RECON_WEIGHTS"):
        fetch.fetch(tmp_path / "file")


def test_the_token_goes_to_the_hub_and_nowhere_else(server, servers, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    server.elsewhere = servers[1]
    fetch.fetch(tmp_path)
    assert [headers["Authorization"] for headers in server.requests("pipeline.json")] == 2 * ["Bearer secret"]
    assert server.requests("model.safetensors")[0]["Authorization"] == "Bearer secret"
    assert servers[1].requests("model.safetensors")
    assert not [path for path, headers in servers[1].log if "Authorization" in headers]
    assert not [h for h in server.requests("dinov2.pth") + server.requests(".tar.gz") if "Authorization" in h]


# ---- what is there


def test_verify_names_the_damaged_file_with_both_hashes_and_fetch_mends_it(server, fetched):
    path = fetched / VGGT / "model.safetensors"
    damage(path)
    store.check(fetched)  # neither size nor time changed, so it is not read
    with pytest.raises(WeightsError) as error:
        store.verify(fetched)
    assert str(error.value).splitlines() == [
        f"{path}: damaged or changed: sha256 {sha256(path.read_bytes())}, needed {sha256(CAMERAS['model.safetensors'])}",
        f"to mend it: recon weights fetch --folder {fetched}",
    ]
    with pytest.raises(WeightsError, match="damaged"):
        store.check(fetched)  # knows it from then on
    assert fetch.fetch(fetched) == {VGGT: FIRST}
    store.verify(fetched)


def test_truncated_missing_and_unfetched_files_are_told_all_at_once(fetched):
    os.truncate(fetched / VGGT / "model.safetensors", 1000)
    (fetched / TRELLIS / "pipeline.json").unlink()
    lock = store.read_lock(fetched)
    del lock[DINO]
    store.write_lock(fetched, lock)
    for look in (store.check, store.verify):
        with pytest.raises(WeightsError) as error:
            look(fetched)
        lines = str(error.value).splitlines()
        assert len(lines) == 4
        assert lines[0] == f"{fetched}/torchhub/checkpoints/{DINO}: missing: {DINO} was not fetched"
        assert lines[1] == f"{fetched}/{TRELLIS}/pipeline.json: missing, needed 16 bytes"
        assert lines[2] == f"{fetched}/{VGGT}/model.safetensors: truncated or changed: 1000 bytes, needed 131072"


def test_another_revision_than_the_tables_is_told_unless_it_was_chosen(fetched, monkeypatch):
    table = tuple(replace(need, revision=SECOND) if need.id == TRELLIS else need for need in store.NEEDED)
    monkeypatch.setattr(store, "NEEDED", table)
    with pytest.raises(WeightsError, match=f"another revision: {FIRST}, needed {SECOND}"):
        store.check(fetched)


def test_check_reads_only_files_whose_size_or_time_changed(fetched, monkeypatch):
    read = []

    def counted(path, *rest):
        read.append(path.name)
        return download.digest(path, *rest)

    monkeypatch.setattr(store, "digest", counted)
    store.check(fetched)
    assert read == []
    os.utime(fetched / VGGT / "config.json")
    store.check(fetched)
    store.check(fetched)
    assert read == ["config.json"]
    store.verify(fetched)
    assert len(read) > 5


def test_a_copied_folder_works_without_the_network(fetched, tmp_path, no_network):
    copy = tmp_path / "copy"
    shutil.copytree(fetched, copy, copy_function=shutil.copyfile)
    store.check(copy)
    store.verify(copy)
    assert fetch.fetch(copy) == {}
    assert store.provenance(copy) == store.provenance(fetched)


def test_an_empty_folder_names_the_command(tmp_path):
    with pytest.raises(WeightsError, match=f"recon weights fetch --folder {tmp_path}"):
        store.check(tmp_path)


def test_the_folder_is_the_environments_or_the_repositorys(monkeypatch, tmp_path):
    monkeypatch.setenv("RECON_WEIGHTS", str(tmp_path))
    assert store.folder() == tmp_path
    monkeypatch.delenv("RECON_WEIGHTS")
    assert store.folder().parent.joinpath("pyproject.toml").exists()


def test_the_real_table_pins_every_row():
    for need in (*store.NEEDED, *store.PHOTOS, *store.ISNET):
        assert Path(need.target).parts
        assert need.licence.endswith(".")
        pattern = r"sha256:[0-9a-f]{64}" if need.kind == store.FILE else r"[0-9a-f]{40}"
        assert re.fullmatch(pattern, need.revision)


# ---- the command


def test_the_command_lists_fetches_and_verifies(server, tmp_path, capsys):
    folder = ["--folder", str(tmp_path / "w")]
    assert cli.main(["weights", "list", *folder]) == 0
    out = capsys.readouterr().out
    assert all(need.id in out and need.licence in out for need in store.NEEDED)
    assert out.count("not fetched") == 4 + len(store.PHOTOS) + len(store.ISNET)
    assert cli.main(["weights", "verify", *folder]) == 2
    assert f"to mend it: recon weights fetch --folder {tmp_path}/w" in capsys.readouterr().err
    assert cli.main(["weights", "fetch", *folder, "--revision", f"{VGGT}={FIRST}"]) == 0
    out = capsys.readouterr().out
    assert out.index("non-commercial") < out.index(f"fetched {VGGT} {FIRST}")
    assert cli.main(["weights", "verify", *folder]) == 0
    assert "ok" in capsys.readouterr().out
    assert cli.main(["weights", "list", *folder]) == 0
    assert capsys.readouterr().out.count("not fetched") == len(store.PHOTOS) + len(store.ISNET)
    assert cli.main(["weights", "fetch", *folder, "--revision", "x"]) == 2
    assert "got 'x', needed ID=REVISION" in capsys.readouterr().err


def test_what_plain_photos_use_is_fetched_by_its_name_and_says_the_licence(server, tmp_path, monkeypatch, capsys):
    server.files["/u2net.onnx"] = CHECKPOINT
    row = replace(
        store.PHOTOS[0], revision=f"sha256:{sha256(CHECKPOINT)}", url=f"{server.url}/u2net.onnx", size_gb=3e-4
    )
    monkeypatch.setattr(store, "PHOTOS", (row,))
    folder = ["--folder", str(tmp_path)]
    assert cli.main(["weights", "fetch", "photos", *folder]) == 0
    out = capsys.readouterr().out
    assert out.index("Apache-2.0") < out.index("fetched u2net.onnx") and "Unclear" not in out
    assert (tmp_path / "photos" / "u2net.onnx").read_bytes() == CHECKPOINT
    assert cli.main(["weights", "verify", "photos", *folder]) == 0
    assert cli.main(["weights", "verify", *folder]) == 2  # ReconViaGen's are not there


def test_the_command_takes_the_environments_folder(fetched, monkeypatch, capsys):
    monkeypatch.setenv("RECON_WEIGHTS", str(fetched))
    assert cli.main(["weights", "verify"]) == 0
    assert str(fetched) in capsys.readouterr().out
