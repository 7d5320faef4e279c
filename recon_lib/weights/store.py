"""The weights that ReconViaGen needs, and those that plain photos may use: what, where, and whether they are the pinned ones.

The folder is `RECON_WEIGHTS`, or `weights/` in the repository. Its `weights.json`, the lock, holds for each row of a table the
revision, whether a person chose it, and for each file (by its path in the folder) size in bytes and sha256. Only complete files
whose hashes were compared enter the lock, so it can be copied to another machine to pin them. `.verified.json` holds each
file's hash with the size and time that the file had then; `check` hashes a file again only if one of these has changed. Only
`fetch` uses the network.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recon_lib import files
from recon_lib.progress import Progress, silent
from recon_lib.weights.download import digest

LOCK, STAMPS = "weights.json", ".verified.json"
HUB, CODE, FILE = "hub", "code", "file"


class WeightsError(ValueError):
    """Weights that are missing or wrong: one line per problem (file, found, needed), and a last line with the remedy."""


@dataclass(frozen=True)
class Need:
    """One row: a repository of the Hugging Face hub (`HF_ENDPOINT` names a mirror), a GitHub archive, or one file."""

    id: str
    kind: str  # HUB, CODE or FILE
    url: str
    target: str  # path in the folder
    purpose: str
    size_gb: float  # of the download, 10^9 bytes
    licence: str
    revision: str | None  # commit, or sha256:… of the one file; None: the commit of `main` at the first download


# The commits of the two hub repositories are taken from public projects that name them: the first from several independent
# projects, the second from one. A commit identifies its content, so a wrong commit can only be refused by the hub. The
# publisher of the checkpoint does not state its hash; many people who downloaded it state this same one.
NEEDED = (
    Need(
        "Stable-X/trellis-vggt-v0-2", HUB, "Stable-X/trellis-vggt-v0-2", "Stable-X/trellis-vggt-v0-2",
        "ReconViaGen's own networks: structure, latents, mesh decoder", 3.23,
        "No licence known for this repository, its card was not seen. The TRELLIS weights it builds on are MIT; it needs "
        "VGGT's features, whose weights are non-commercial: take it as such.",
        "647659a5ad5fbf67e22793e7b5e2cee4b30c5d13",
    ),
    Need(
        "Stable-X/vggt-object-v0-1", HUB, "Stable-X/vggt-object-v0-1", "Stable-X/vggt-object-v0-1",
        "cameras and features of the photos", 5.03,
        "No licence known for this repository, its card was not seen; it is VGGT-1B tuned, whose licence is non-commercial.",
        "aac569c280b52ccda1c84a81cd0e27e947bc2cf5",
    ),
    Need(
        "facebookresearch/dinov2", CODE, "https://github.com/facebookresearch/dinov2/archive/{revision}.tar.gz",
        "torchhub/facebookresearch_dinov2_main", "code of the image encoder", 0.003, "Apache-2.0.",
        "b8931f7bf91576930313be2c6d6af376033b35f0",
    ),
    Need(
        "dinov2_vitl14_reg4_pretrain.pth", FILE,
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth",
        "torchhub/checkpoints/dinov2_vitl14_reg4_pretrain.pth", "image encoder", 1.218, "Apache-2.0.",
        "sha256:36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51",
    ),
)  # fmt: skip

_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_XFEAT = "https://github.com/verlab/accelerated_features/raw/main/weights"
# Of plain photos: networks that mask them, and learned features. Each is one file, and its hash says which.
PHOTOS = (
    Need(
        "u2net.onnx", FILE, f"{_REMBG}/u2net.onnx", "photos/u2net.onnx", "masks of photos that come without (U²-Net)", 0.176,
        "Apache-2.0, by the word of U²-Net's author; converted by rembg (MIT).",
        "sha256:8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
    ),
    Need(
        "xfeat.pt", FILE, f"{_XFEAT}/xfeat.pt", "photos/xfeat.pt", "features where SIFT finds too few (XFeat)", 0.006,
        "Apache-2.0.", "sha256:0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
    ),
    Need(
        "xfeat-lighterglue.pt", FILE, f"{_XFEAT}/xfeat-lighterglue.pt", "photos/xfeat-lighterglue.pt",
        "their matches (LighterGlue)", 0.011, "Apache-2.0.",
        "sha256:766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
    ),
    Need(
        "aliked-n16rot.pth", FILE, "https://github.com/Shiaoming/ALIKED/raw/main/models/aliked-n16rot.pth",
        "photos/aliked-n16rot.pth", "features where XFeat finds too few (ALIKED)", 0.003, "BSD-3-Clause.",
        "sha256:ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332",
    ),
    Need(
        "aliked_lightglue.pth", FILE, "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/aliked_lightglue.pth",
        "photos/aliked_lightglue.pth", "their matches (LightGlue)", 0.048, "Apache-2.0.",
        "sha256:d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
    ),
)  # fmt: skip
ISNET = (
    Need(
        "isnet.onnx", FILE, f"{_REMBG}/isnet-general-use.onnx", "photos/isnet.onnx", "finer masks of photos (ISNet)", 0.179,
        "Unclear: the code is Apache-2.0, no licence is stated for the weights, and the data set that they were trained on is "
        "for non-commercial use. Therefore it is fetched only when it is named.",
        "sha256:60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
    ),
)  # fmt: skip
WHATS = ("reconviagen", "photos", "isnet")


def table(what: str) -> tuple[Need, ...]:
    """The rows that one of WHATS names."""
    return {"reconviagen": NEEDED, "photos": PHOTOS, "isnet": ISNET}[what]


def folder() -> Path:
    """The folder of the weights; it need not exist."""
    named = os.environ.get("RECON_WEIGHTS")
    return Path(named).expanduser() if named else Path(__file__).parents[2] / "weights"


def check(folder: Path, hashing: bool = True) -> None:
    """Quickly compares presence, sizes and revisions with the lock, and the hashes of files that changed since the last time.

    Without `hashing` no file is find_hash. Raises WeightsError.
    """
    stamps = read_stamps(folder)
    problems, hashes = _compare(folder, read_lock(folder), stamps, hashing=hashing)
    if hashing:
        write_stamps(folder, stamps, hashes)
    _raise(folder, problems)


def verify(folder: Path, progress: Progress = silent, what: str = "reconviagen") -> None:
    """Hashes every file of one of WHATS and compares it with the lock. Raises WeightsError."""
    problems, hashes = _compare(folder, read_lock(folder), {}, progress, needs=table(what))
    write_stamps(folder, read_stamps(folder), hashes)
    _raise(folder, problems, "" if what == WHATS[0] else f" {what}")


def check_file(folder: Path, target: str, rows: tuple[Need, ...]) -> None:
    """Raises WeightsError where the one file of a row has another content than the pinned one, lock or no lock."""
    (need,) = [row for row in rows if row.target == target]
    found = f"sha256:{digest(folder / target)}"
    if found != need.revision:
        raise WeightsError(f"{folder / target}: got {found}, needed {need.revision}; {_mend(folder, ' photos')}")


def provenance(folder: Path) -> dict[str, str]:
    """The revision of each row in the lock, by id. Raises WeightsError if there is no lock."""
    return {id: entry["revision"] for id, entry in read_lock(folder).items()}


def whole(folder: Path, need: Need, entry: dict[str, Any]) -> bool:
    """Whether `check` would find no problem in this row."""
    return not _compare(folder, {need.id: entry}, read_stamps(folder), needs=(need,))[0]


def read_lock(folder: Path) -> dict[str, dict[str, Any]]:
    """The lock: id to entry. Raises WeightsError if it is missing or not of that form."""
    path = folder / LOCK
    if not path.exists():
        raise WeightsError(f"{path}: missing, so no weights were fetched to this folder\n{_mend(folder)}")
    lock = _read(path)
    try:
        _ = [(f["size"], f["sha256"], e["revision"], e["chosen"]) for e in lock.values() for f in e["files"].values()]
    except (AttributeError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a lock ({error!r}); delete it, and {_mend(folder)}") from error
    return lock


def write_lock(folder: Path, lock: dict[str, dict[str, Any]]) -> None:
    """Writes the lock."""
    files.write_json(folder / LOCK, lock)


def read_stamps(folder: Path) -> dict[str, dict[str, Any]]:
    """The stamps in `.verified.json`: path in the folder to size, time and hash; empty if there is no such file."""
    return _read(folder / STAMPS) if (folder / STAMPS).exists() else {}


def write_stamps(folder: Path, stamps: dict[str, dict[str, Any]], hashes: dict[str, str]) -> None:
    """Adds `hashes` of the files as they are now to the stamps. In a folder that cannot be written, nothing is stored."""
    now = stamps | {name: _stamp(folder / name) | {"sha256": sha256} for name, sha256 in hashes.items()}
    if now != read_stamps(folder) and os.access(folder, os.W_OK):
        files.write_json(folder / STAMPS, now)


def find_hash(
    folder: Path, name: str, stamps: dict[str, dict[str, Any]], read: Callable[[int], None] = lambda count: None
) -> str:
    """The sha256 of the file `name`: that of its stamp if the file has not changed since, else it is computed."""
    stamp = stamps.get(name, {})
    if stamp == _stamp(folder / name) | {"sha256": stamp.get("sha256")}:
        return stamp["sha256"]
    return digest(folder / name, "sha256", read)


def _compare(
    folder: Path,
    lock: dict[str, dict[str, Any]],
    stamps: dict[str, dict[str, Any]],
    progress: Progress = silent,
    hashing: bool = True,
    needs: tuple[Need, ...] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """The problems, one line each, and the hashes of the files that are there with their full size."""
    problems, hashes = [], {}
    wanted: dict[str, dict[str, Any]] = {}
    for need in NEEDED if needs is None else needs:
        entry = lock.get(need.id)
        if entry is None:
            problems.append(f"{folder / need.target}: missing: {need.id} was not fetched")
        elif need.revision not in (None, entry["revision"]) and not entry["chosen"]:
            problems.append(f"{folder / need.target}: another revision: {entry['revision']}, needed {need.revision}")
        else:
            wanted |= entry["files"]
    total, done = sum(file["size"] for file in wanted.values()), 0
    for name, file in wanted.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing, needed {file['size']} bytes")
        elif path.stat().st_size != file["size"]:
            problems.append(f"{path}: truncated or changed: {path.stat().st_size} bytes, needed {file['size']}")
        elif hashing:
            hashes[name] = find_hash(folder, name, stamps, partial(_share, progress, done, total, path.name))
            if hashes[name] != file["sha256"]:
                problems.append(f"{path}: damaged or changed: sha256 {hashes[name]}, needed {file['sha256']}")
        done += file["size"]
    return problems, hashes


def _share(progress: Progress, done: int, total: int, what: str, count: int) -> None:
    progress((done + count) / total, what)


def _raise(folder: Path, problems: list[str], what: str = "") -> None:
    if problems:
        raise WeightsError("\n".join([*problems, _mend(folder, what)]))


def _mend(folder: Path, what: str = "") -> str:
    return f"to mend it: recon weights fetch{what} --folder {folder}"


def _stamp(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path}: not JSON ({error}); delete it, and {_mend(path.parent)}") from error
