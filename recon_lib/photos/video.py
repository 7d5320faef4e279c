"""Takes photos out of a video: of each stretch of it the sharpest frame, and none of a stretch that is all blur.

Sharpness is the variance of the Laplacian of the grey frame, shrunk; a moved or unfocused frame has little of it.
"""

from pathlib import Path

import cv2
import numpy as np

SIDE = 480  # pixels of the long side at which sharpness is measured
LEAST_SHARE = 0.3  # of the median sharpness of the stretches' best frames; a frame of less is left out
JPEG_QUALITY = 97


def take_frames(video: Path, folder: Path, count: int) -> int:
    """Writes at most `count` frames into `folder`/images, which must not exist, and returns their number.

    Raises ValueError for a file that is no video, and for a folder that is there.
    """
    target = folder / "images"
    if target.exists():
        raise ValueError(f"{target}: got a folder that is there, needed a new one")
    if count < 3:
        raise ValueError(f"count: got {count}, needed at least 3")
    sharpness = [_sharpness(frame) for frame in _frames(video)]
    if len(sharpness) < 3:
        raise ValueError(f"{video}: video: got {len(sharpness)} frames, needed a video that OpenCV's ffmpeg reads")
    chosen = choose(np.array(sharpness), count)
    target.mkdir(parents=True)
    for number, frame in enumerate(_frames(video)):
        if number in chosen:
            name = f"{video.stem}_{number:06}.jpg"
            cv2.imwrite(str(target / name), frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return len(chosen)


def choose(sharpness: np.ndarray, count: int) -> set[int]:
    """The numbers of the frames to take: the sharpest of each of `count` stretches, without those that are all blur."""
    stretches = np.array_split(np.arange(len(sharpness)), min(count, len(sharpness)))
    best = [int(stretch[sharpness[stretch].argmax()]) for stretch in stretches]
    least = LEAST_SHARE * np.median(sharpness[best])
    return {number for number in best if sharpness[number] >= least}


def _frames(video: Path):
    """Yields the frames, turned upright as the file says."""
    reader = cv2.VideoCapture(str(video))
    try:
        while True:
            there, frame = reader.read()
            if not there:
                return
            yield frame
    finally:
        reader.release()


def _sharpness(frame: np.ndarray) -> float:
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    scale = min(1.0, SIDE / max(grey.shape))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_32F).var())
