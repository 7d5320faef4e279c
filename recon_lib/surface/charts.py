"""Cuts a mesh into charts of low distortion (xatlas), and packs charts into one atlas.

Cutting takes a second per 20,000 faces of one core, and xatlas keeps Python's lock meanwhile. So a mesh can be cut in pieces,
each in a process of its own that only imports numpy and xatlas: this file is also that program, arrays in and arrays out. The
processes wait for the next mesh, and end with the one that started them, whose pipe they read.
Axes: V vertices, F faces, T texture coordinates.
"""

import atexit
import io
import subprocess
import sys
import threading
from contextlib import suppress
from subprocess import PIPE, Popen
from typing import IO, Any, NamedTuple

import numpy as np
import xatlas

SWEEPS = 4  # of Lloyd's algorithm, which divides a mesh into pieces
PATIENCE_S = 1.0  # for a process that is told to end; one that still cuts is killed
FINE = 1024  # texels along a side of a piece while it is cut: xatlas rounds a chart's extent to texels


class Charts(NamedTuple):
    """Charts of one piece of a mesh, laid out anywhere in the plane but to scale: lengths are those on the mesh."""

    uvs: np.ndarray  # T 2
    uv_faces: np.ndarray  # F 3


class Atlas(NamedTuple):
    """Packed charts: texture coordinates of 0 to 1 over `width` x `height` texels."""

    uvs: np.ndarray  # T 2
    uv_faces: np.ndarray  # F 3, in the order of the pieces
    width: int
    height: int
    charts: int


def cut_and_pack(verts: np.ndarray, faces: np.ndarray, most_area: float, texels_per_unit: float, padding: int) -> Atlas:
    """The charts of a mesh, none of more than about `most_area`, in one atlas of the size that they need."""
    options = xatlas.ChartOptions()
    options.max_chart_area = most_area
    atlas = xatlas.Atlas()
    atlas.add_mesh(verts, faces.astype(np.uint32))
    atlas.generate(options, _layout(texels_per_unit, padding))
    _, uv_faces, uvs = atlas[0]
    return Atlas(uvs, uv_faces, atlas.width, atlas.height, atlas.chart_count)


def cut(verts: np.ndarray, faces: np.ndarray, most_area: float) -> Charts:
    """The charts of a mesh, none of more than about `most_area`."""
    sides = verts[faces[:, 1:]] - verts[faces[:, :1]]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2
    texels_per_unit = float(FINE / np.sqrt(area))
    atlas = cut_and_pack(verts, faces, most_area, texels_per_unit, 0)
    size = np.array([atlas.width, atlas.height], np.float32)
    return Charts(atlas.uvs * size / np.float32(texels_per_unit), atlas.uv_faces)


def start_cutters(count: int) -> None:
    """Starts as many processes as are missing for `count` pieces, and does not wait for them."""
    with _using:
        _start(count)


def cut_in_pieces(
    verts: np.ndarray, faces: np.ndarray, most_area: float, count: int
) -> list[tuple[np.ndarray, Charts]]:
    """`count` pieces of a mesh, each the numbers of its faces and its charts. All are cut at the same time.

    Raises RuntimeError, with what the process said, if one fails.
    """
    numbers, found = pieces(verts, faces, count), []
    with _using:
        _start(len(numbers))
        try:
            for process, number in zip(_cutters, numbers, strict=False):
                used, corners = np.unique(faces[number], return_inverse=True)
                given = {"verts": verts[used], "faces": corners.reshape(-1, 3), "most_area": np.array(most_area)}
                _send(process.stdin, **given)
            for process, number in zip(_cutters, numbers, strict=False):
                arrays = _receive(process.stdout)
                found.append((number, Charts(arrays["uvs"], arrays["uv_faces"])))
        except (BrokenPipeError, EOFError) as error:
            raise RuntimeError(_end_cutters()) from error
        except BaseException:
            _end_cutters()  # some still hold answers that nobody waits for
            raise
    return found


_cutters: list[Popen[bytes]] = []
_using = threading.Lock()


def _start(count: int) -> None:
    _cutters[:] = [process for process in _cutters if process.poll() is None]
    for _ in range(count - len(_cutters)):
        # A session of its own: to interrupt a notebook's kernel would end it otherwise.
        line = [sys.executable, "-P", __file__]
        _cutters.append(Popen(line, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True))


@atexit.register
def _end_cutters() -> str:
    """Ends all processes; returns what the first that had failed said."""
    failed = []
    for process in _cutters:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None  # so that `communicate` leaves it alone
    for process in _cutters:
        try:
            _, said = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            if process.returncode:
                failed.append(f"{process.returncode}: {said.decode().strip()}")
    _cutters.clear()
    return f"unwrapping: a process ended with {failed[0] if failed else '0'}"


def _send(to: IO[bytes], **arrays: Any) -> None:
    """Writes arrays and, before them, how many bytes they are."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    to.write(packed.tell().to_bytes(8, "little") + packed.getvalue())
    to.flush()


def _receive(source: IO[bytes]) -> dict[str, np.ndarray]:
    """Reads what `_send` wrote. Raises EOFError where the other side has ended."""
    length = source.read(8)
    if len(length) < 8:
        raise EOFError
    with np.load(io.BytesIO(source.read(int.from_bytes(length, "little")))) as arrays:
        return dict(arrays)


def pieces(verts: np.ndarray, faces: np.ndarray, count: int) -> list[np.ndarray]:
    """The numbers of the faces of `count` compact pieces of about equal extent (Lloyd), fewer if there are too few faces."""
    centre = verts[faces].mean(1)
    chosen, far = [0], np.full(len(centre), np.inf, centre.dtype)
    for _ in range(count - 1):  # each next one is the farthest from all before
        far = np.minimum(far, np.square(centre - centre[chosen[-1]]).sum(1))
        chosen.append(int(far.argmax()))
    middle = centre[chosen]
    for _ in range(SWEEPS):
        owner = np.square(centre[:, None] - middle).sum(-1).argmin(1)
        owned = [np.flatnonzero(owner == k) for k in range(len(middle))]
        owned = [piece for piece in owned if len(piece)]
        middle = np.stack([centre[piece].mean(0) for piece in owned])
    return owned


def pack(charts: list[Charts], texels_per_unit: float, padding: int) -> Atlas:
    """All charts in one atlas of the size that they need, `padding` texels apart."""
    atlas = xatlas.Atlas()
    for piece in charts:
        atlas.add_uv_mesh(np.ascontiguousarray(piece.uvs), piece.uv_faces.astype(np.uint32))
    atlas.generate(xatlas.ChartOptions(), _layout(texels_per_unit, padding))
    packed = [atlas[k] for k in range(len(charts))]
    starts = np.cumsum([0] + [len(uvs) for _, _, uvs in packed[:-1]])
    uv_faces = [corners.astype(np.int64) + start for (_, corners, _), start in zip(packed, starts, strict=True)]
    return Atlas(
        np.concatenate([uvs for _, _, uvs in packed]), np.concatenate(uv_faces), atlas.width, atlas.height,
        atlas.chart_count,
    )  # fmt: skip


def _layout(texels_per_unit: float, padding: int) -> xatlas.PackOptions:
    options = xatlas.PackOptions()
    options.padding, options.texels_per_unit, options.create_image = padding, texels_per_unit, False
    return options


def _serve(given: IO[bytes], found: IO[bytes]) -> None:
    while True:
        try:
            arrays = _receive(given)
        except EOFError:
            return
        charts = cut(arrays["verts"], arrays["faces"], float(arrays["most_area"]))
        _send(found, uvs=charts.uvs, uv_faces=charts.uv_faces)


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
