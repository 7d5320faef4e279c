"""Decodes one image file to pixels: uint8 H W 4, straight alpha, sRGB, row 0 at the top.

It reads PNG, JPEG, WebP and AVIF, and HEIC where pillow-heif is installed, recognised by content, never by the extension.
16-bit values become value / 257, rounded. An embedded RGB colour profile other than sRGB is applied; gain maps are ignored.
A mask is grey, H W uint8; the object is where it is > 127. A turn is an EXIF orientation, 1 to 8. A bad file raises a
ValueError with lines `field: got X, needed Y`, without the file's name. Conversions that were made are returned as a tuple
of keys of NOTES.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageChops, ImageCms, ImageFile, features

# What Pillow raises on damaged files, found by flipping bytes: it has no common class for that.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, MemoryError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError, ImageCms.PyCMSError,
)  # fmt: skip
NOTES = {
    "exif": "turned upright by their EXIF orientation",
    "16bit": "converted from 16 to 8 bits",
    "grey": "grey, spread to RGB",
    "palette": "expanded from a palette",
    "cmyk": "converted from CMYK",
    "profile": "converted from their embedded colour profile to sRGB",
    "profile unused": "with a colour profile that is not RGB and was not applied",
    "multi-picture": "multi-picture JPEGs, of which the first picture was used",
}
# EXIF orientation -> how the stored rows and columns become upright
UPRIGHT = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}
# A 16-bit PNG's raw mode -> the mode, and raw mode, under which Pillow keeps the low bytes that it drops otherwise
LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


def read_rgba(
    path: Path, turn: int, size: tuple[int, int] | None = None
) -> tuple[UInt8[np.ndarray, "H W 4"], tuple[str, ...]]:
    """The photo, shrunk to `size` (width, height of the stored pixels) if given, then turned; and the conversions made.

    Raises ValueError for a damaged file.
    """
    with report_damage("pixels"):
        rgba, notes = _decode(path.read_bytes(), size)
        if size is not None and rgba.shape[1::-1] != size:
            rgba = _shrink(rgba, size)
    if turn in UPRIGHT:
        notes = (*notes, "exif")
    return np.array(turned(rgba, turn), order="C"), notes  # a copy: Pillow's arrays are read-only


def read_mask(path: Path, turn: int, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "H W"]:
    """The mask's grey values, resized to `size` if given, then turned; 0 where the file is transparent.

    Raises ValueError for a damaged file.
    """
    with report_damage("pixels"):
        alpha = _decode_grey(path, size)
    if size is not None and alpha.shape[::-1] != size:
        grows = size[0] > alpha.shape[1]
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR if grows else cv2.INTER_AREA)
    return np.array(turned(alpha, turn), order="C")


def _decode_grey(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    with open_image(path) as image:
        # The usual mask needs no detour over four channels, of which a dozen megapixels take much memory.
        if image.mode in ("1", "L") and not image.info.keys() & {"transparency", "icc_profile"}:
            return np.asarray(image.convert("L"))
    rgba, _ = _decode(path.read_bytes(), size)
    if (rgba[..., 0] == rgba[..., 1]).all() and (rgba[..., 0] == rgba[..., 2]).all():
        grey = rgba[..., 0]
    else:
        grey = np.asarray(Image.fromarray(rgba[..., :3]).convert("L"))
    if (rgba[..., 3] == 255).all():
        return grey
    return ((grey.astype(np.uint16) * rgba[..., 3] + 127) // 255).astype(np.uint8)


def turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """The pixels, rows and columns in the first two axes, after a turn."""
    return UPRIGHT[turn](pixels) if turn in UPRIGHT else pixels


def _shrink(rgba: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area means; where some pixels are transparent, colours are weighed by alpha."""
    if (rgba[..., 3] == 255).all():
        return cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
    weighed = np.asarray(Image.fromarray(rgba).convert("RGBa"))
    small = cv2.resize(weighed, size, interpolation=cv2.INTER_AREA)
    return np.asarray(Image.frombytes("RGBa", size, small.tobytes()).convert("RGBA"))


def check_mask(alpha: UInt8[np.ndarray, "H W"]) -> None:
    """Raises ValueError for a mask that is all object or all background."""
    if not (alpha > 127).any():
        raise ValueError(f"mask: got no pixel above 127 (largest {alpha.max()}), needed the object in white")
    if (alpha > 127).all():
        raise ValueError("mask: got no background pixel, needed the object in white on black")


def _decode(data: bytes, size: tuple[int, int] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels as stored. A JPEG may come at half, a quarter or an eighth of its size where that is no less than `size`."""
    with open_image(io.BytesIO(data)) as file:
        image: Image.Image = file
        if size is not None and file.format == "JPEG" and file.width % 8 == 0 and file.height % 8 == 0:
            file.draft(None, size)
        notes = ["multi-picture"] if file.format == "MPO" else []
        raw_mode = file.tile[0].args if file.format == "PNG" and file.tile else None
        if isinstance(raw_mode, str) and raw_mode.endswith(";16B"):
            notes += ["16bit", "grey"] if raw_mode in ("I;16B", "LA;16B") else ["16bit"]
            rgba = _round_to_eight_bits(data, file, raw_mode)
        else:
            if image.mode == "CMYK":
                notes.append("cmyk")
                # Pillow takes every CMYK JPEG for an inverted one; only Adobe's are, and those carry its marker.
                image.load()
                image = image if "adobe" in image.info else ImageChops.invert(image)
            notes += {"1": ["grey"], "L": ["grey"], "LA": ["grey"], "P": ["palette"]}.get(image.mode, [])
            rgba = np.asarray(image.convert("RGB").convert("RGBA") if image.mode == "CMYK" else image.convert("RGBA"))
        profile = image.info.get("icc_profile")
    if profile:
        rgba, note = _to_srgb(rgba, profile)
        notes += note
    return rgba, tuple(notes)


def _round_to_eight_bits(data: bytes, image: ImageFile.ImageFile, raw_mode: str) -> np.ndarray:
    """A 16-bit PNG, rounded to 8 bits. Pillow keeps only the high bytes, so the low bytes are decoded separately."""
    if raw_mode == "I;16B":
        deep = np.asarray(image).astype(np.uint32)[..., None]
    elif raw_mode == "LA;16B":
        # Four bytes per pixel, which mode RGBA passes through unchanged: grey high, grey low, alpha high, alpha low.
        image.tile = [image.tile[0]._replace(args="RGBA")]
        four = np.asarray(image).astype(np.uint32)
        deep = four[..., ::2] * 256 + four[..., 1::2]
    else:
        with open_image(io.BytesIO(data)) as low:
            low.tile = [low.tile[0]._replace(args=LOW_BYTES[raw_mode])]
            deep = np.asarray(image).astype(np.uint32) * 256 + np.asarray(low)
    key = image.info.get("transparency")
    eight = ((deep + 128) // 257).astype(np.uint8)
    if deep.shape[-1] in (1, 3):
        opaque = np.ones(deep.shape[:2], bool) if key is None else (deep != np.array(key)).any(-1)
        eight = np.concatenate([eight, np.where(opaque, 255, 0).astype(np.uint8)[..., None]], -1)
    return eight if eight.shape[-1] == 4 else np.concatenate([eight[..., :1]] * 3 + [eight[..., 1:]], -1)


def _to_srgb(rgba: np.ndarray, profile: bytes) -> tuple[np.ndarray, list[str]]:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != "RGB":
        return rgba, ["profile unused"]
    if "srgb" in ImageCms.getProfileDescription(source).lower():
        return rgba, []
    colours = ImageCms.profileToProfile(
        Image.fromarray(np.ascontiguousarray(rgba[..., :3])), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    return np.dstack([np.asarray(colours), rgba[..., 3]]), ["profile"]


@contextmanager
def open_image(source: Path | io.BytesIO) -> Iterator[ImageFile.ImageFile | None]:
    """Yields Pillow's image, or None if the content is of no known format; closes it at the end of the `with` block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large sizes and odd EXIF; what matters is refused elsewhere
        try:
            image = Image.open(source, formats=_formats())
        except Image.UnidentifiedImageError:
            yield None
            return
        with image:
            yield image


@lru_cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that this installation reads."""
    found = ["PNG", "JPEG", "WEBP"]
    if features.check("avif"):
        found.append("AVIF")
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        found.append("HEIF")
    return tuple(found)


@contextmanager
def report_damage(field: str) -> Iterator[None]:
    """Raises what goes wrong with a damaged file within the `with` block as a ValueError about `field`."""
    try:
        yield
    except Image.DecompressionBombError as e:
        raise ValueError(f"pixels: got {e}, needed fewer") from e
    except DAMAGE as e:
        if isinstance(e, ValueError) and ": got " in str(e):  # already one of this module's own errors
            raise
        raise ValueError(f"{field}: got a damaged file ({type(e).__name__}: {e}), needed a whole one") from e
