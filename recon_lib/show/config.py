"""The parameters of stage 5."""

from dataclasses import dataclass

from recon_lib.knobs import knob


@dataclass(frozen=True)
class PreviewConfig:
    """Sizes of the pictures and of the viewer's mesh."""

    size: int = knob(512, "pixels along a side of each still", 64, 2048)
    turntable_frames: int = knob(36, "pictures per turn of the turntable", 4, 360)
    turntable_size: int = knob(320, "pixels along a side of the turntable's pictures", 64, 1024)
    viewer_faces: int = knob(6000, "largest number of triangles in the viewer's decimated copy", 100, 200000)
