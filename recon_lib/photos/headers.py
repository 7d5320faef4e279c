"""What is known of an image file before its pixels are decoded: type, size, orientation.

A file that is no photo is refused by what it seems to be, with the command that converts it.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from recon_lib.photos.decode import UPRIGHT, open_image, report_damage

NEEDED = "PNG, JPEG, WebP or AVIF"
CONVERT = {  # what to do with a file that cannot be read as it is
    "a HEIC image": "; install pillow-heif, or convert with `heif-convert PHOTO.heic PHOTO.jpg`",
    "an AVIF image": "; convert with `avifdec PHOTO.avif PHOTO.png`",
    "a TIFF": "; convert with `magick PHOTO.tif PHOTO.png`",
    "a video": "; take its frames with `recon frames VIDEO FOLDER`",
}
ORIENTATION_TAG = 0x0112
TEXT_IN_PNG = (b"tEXt", b"zTXt", b"iTXt")
EXIF_IN_PNG = (b"Raw profile type", b"XML:com.adobe.xmp")  # starts of text chunks that may hold an orientation
# first bytes of files that people mistake for photos
SIGNATURES = {
    b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"%PDF": "a PDF",
    b"PK\3\4": "a ZIP archive", b"\0\0\1\0": "an icon", b"8BPS": "a Photoshop file", b"#?RADIANCE": "an HDR image",
    b"v/1\1": "an OpenEXR image", b"version https://git-lfs": "a Git LFS pointer",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What is known of an image file before its pixels are decoded."""

    stored_size: tuple[int, int]  # width height, before EXIF orientation
    orientation: int  # EXIF's 1 to 8
    bytes: int
    has_alpha: bool  # some pixels may be transparent
    is_lossy: bool  # stored as JPEG

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after EXIF orientation."""
        return self.stored_size[::-1] if self.orientation >= 5 else self.stored_size


def read_header(path: Path, max_mb: float, max_megapixels: float) -> Header:
    """Checks type and size before any pixel is decoded.

    Raises ValueError for a file that is too large, empty, damaged, an animation, or of another type.
    """
    length = path.stat().st_size
    if length > max_mb * 1e6:
        raise ValueError(f"bytes: got {length / 1e6:.1f} MB, needed at most {max_mb:g} MB")
    if length == 0:
        raise ValueError(f"type: got an empty file, needed {NEEDED}")
    with report_damage("header"), open_image(path) as image:
        if image is None:
            kind = _kind(path)
            raise ValueError(f"type: got {kind}, needed {NEEDED}{CONVERT.get(kind, '')}")
        width, height = image.size
        if width * height > max_megapixels * 1e6:
            raise ValueError(f"pixels: got {width} x {height}, needed at most {max_megapixels:g} megapixels")
        frames = getattr(image, "n_frames", 1)
        # A multi-picture JPEG is how phones store a photo: the first picture is the photo.
        if frames > 1 and image.format not in ("MPO", "HEIF"):
            raise ValueError(f"frames: got an animation of {frames}, needed a single picture")
        # Pillow decodes a whole PNG to look for EXIF behind its pixels, so that is done only where there is some.
        may_turn = image.format != "PNG" or _png_has_exif(path)
        orientation = image.getexif().get(ORIENTATION_TAG, 1) if may_turn else 1
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        is_lossy = image.format in ("JPEG", "MPO")
    return Header((width, height), orientation if orientation in UPRIGHT else 1, length, has_alpha, is_lossy)


def _png_has_exif(path: Path) -> bool:
    """Whether one of the file's chunks may hold an orientation; the pixels are skipped."""
    with path.open("rb") as file:
        file.seek(8)
        at = 8
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf" or (kind in TEXT_IN_PNG and file.read(32).startswith(EXIF_IN_PNG)):
                return True
            at += length + 12
            file.seek(at)
    return False


def _kind(path: Path) -> str:
    """What a file that is not a photo seems to be, in words."""
    with path.open("rb") as file:
        start = file.read(512)
    for signature, kind in SIGNATURES.items():
        if start.startswith(signature):
            return kind
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        return (
            "a HEIC image" if brand[:2] in (b"he", b"mi", b"ms") else "an AVIF image" if brand == b"avif" else "a video"
        )
    if start.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")):
        return "a damaged header"
    try:
        text = start[:500].decode("utf-8", errors="strict" if len(start) < 500 else "ignore")
    except UnicodeDecodeError:
        return "unknown binary content"
    return "an SVG drawing" if "<svg" in text else "text" if text.isprintable() or "\n" in text else "unknown content"
