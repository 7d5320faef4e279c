"""The two files of a COLMAP model that hold cameras and poses: `cameras` and `images`, `.bin` or `.txt`.

They are read here, and not by pycolmap, because pycolmap cuts a name in a text file at its first space, reads on past the
end of a truncated file, and needs the points as well. Poses are world-to-camera with OpenCV axes.
"""

import struct
from typing import NamedTuple

import numpy as np
import pycolmap
from jaxtyping import Float

COMMENT = ("#",)


class Camera(NamedTuple):
    """One lens, by COLMAP's name of its model."""

    model: str
    size: tuple[int, int]  # width height, pixels
    parameters: tuple[float, ...]


class Posed(NamedTuple):
    """One image with its pose."""

    name: str
    camera_id: int
    T_cv_world: Float[np.ndarray, "4 4"]


def read_cameras(data: bytes, is_text: bool) -> dict[int, Camera]:
    """The cameras by id. Raises ValueError, "field: got X, needed Y", for a damaged file."""
    if is_text:
        return dict(_parse_camera(number, line) for number, line in _lines(data))
    with _Reading("cameras") as reading:
        found = {}
        for _ in range(reading.count(data)):
            identity, model, width, height = reading.take("<IiQQ")
            name = pycolmap.CameraModelId(model).name
            found[identity] = Camera(name, (width, height), reading.take(f"<{_count_parameters(name)}d"))
        reading.end()
    return found


def read_images(data: bytes, is_text: bool) -> list[Posed]:
    """The images. Raises ValueError, "field: got X, needed Y", for a damaged file."""
    if is_text:
        return _parse_images(data)
    with _Reading("images") as reading:
        found = []
        for _ in range(reading.count(data)):
            _, *pose, camera_id = reading.take("<I7dI")
            name = reading.text()
            (points,) = reading.take("<Q")
            reading.skip(24 * points)
            found.append(Posed(name, camera_id, _matrix(pose)))
        reading.end()
    return found


def _parse_camera(number: int, line: str) -> tuple[int, Camera]:
    words = line.split()
    try:
        identity, name, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
        parameters = tuple(map(float, words[4:]))
        count = _count_parameters(name)
    except (ValueError, IndexError, AttributeError) as e:
        raise ValueError(f"line {number}: got {line[:80]!r}, needed CAMERA_ID MODEL WIDTH HEIGHT PARAMS…") from e
    if len(parameters) != count:
        raise ValueError(f"line {number}: got {len(parameters)} parameters of {name}, needed {count}")
    return identity, Camera(name, (width, height), parameters)


def _parse_images(data: bytes) -> list[Posed]:
    """Two lines for each image: pose and name, then its points, which may be none: that line is empty."""
    found: list[Posed] = []
    lines = _lines(data, keep_empty=True)
    at = 0
    while at < len(lines):
        number, line = lines[at]
        if not line.strip():
            at += 1
            continue
        found.append(_parse_pose(number, line))
        at += 1
        if at < len(lines) and _is_pose(lines[at][1]):
            needed = "the line of 2D points after each pose; it may be empty"
            raise ValueError(f"line {lines[at][0]}: got a second pose in a row, needed {needed}")
        at += 1
    return found


def _parse_pose(number: int, line: str) -> Posed:
    words = line.strip().split(maxsplit=9)
    try:
        return Posed(words[9], int(words[8]), _matrix(list(map(float, words[1:8]))))
    except (ValueError, IndexError) as e:
        needed = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
        raise ValueError(f"line {number}: got {line[:80]!r}, needed {needed}") from e


def _is_pose(line: str) -> bool:
    """Whether a line is a pose; points are triples of numbers."""
    words = line.split()
    if len(words) < 10:
        return False
    try:
        list(map(float, words))
    except ValueError:
        return True
    return False


def _lines(data: bytes, keep_empty: bool = False) -> list[tuple[int, str]]:
    """Numbered lines without comments."""
    text = data.decode("utf-8-sig", errors="surrogateescape")
    lines = [(i, line) for i, line in enumerate(text.splitlines(), start=1) if not line.lstrip().startswith(COMMENT)]
    return [(i, line) for i, line in lines if keep_empty or line.strip()]


def _count_parameters(model: str) -> int:
    """Raises AttributeError or ValueError for an unknown model."""
    identity = pycolmap.CameraModelId.__members__.get(model)
    if identity is None or model == "INVALID":
        raise ValueError(model)
    return len(pycolmap.Camera.create_from_model_id(1, identity, 1.0, 2, 2).params)


def _matrix(pose: list[float]) -> np.ndarray:
    """QW QX QY QZ TX TY TZ as a 4 x 4."""
    w, x, y, z, *t = pose
    length = np.sqrt(w * w + x * x + y * y + z * z)
    if not np.isfinite([length, *t]).all() or length < 1e-9:
        raise ValueError("a quaternion of no length")
    # pycolmap takes a quaternion as it is; dividing one of unit length would only change its last bits.
    rotation = pycolmap.Rotation3d(np.array([x, y, z, w]) / (length if abs(length - 1) > 1e-9 else 1.0))
    return np.vstack([pycolmap.Rigid3d(rotation, np.array(t)).matrix(), [0, 0, 0, 1]])


class _Reading:
    """A place in a binary file; within its `with` block whatever goes wrong is a damaged file."""

    def __init__(self, part: str):
        self.part, self.data, self.at = part, b"", 0

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, struct.error | ValueError | OverflowError | MemoryError):
            raise ValueError(
                f"layout: got a truncated or damaged file ({error}), needed a whole COLMAP binary file"
            ) from error

    def count(self, data: bytes) -> int:
        self.data = data
        (number,) = self.take("<Q")
        return min(number, len(data))  # a damaged number ends at the end of the data

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        found = self.data[self.at : end].decode("utf-8", errors="surrogateescape")
        self.at = end + 1
        return found

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise ValueError("cut off")

    def end(self) -> None:
        if self.at != len(self.data):
            raise ValueError(f"{len(self.data) - self.at} bytes too many")
