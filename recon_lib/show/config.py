"""What can be asked of stage 5."""

from dataclasses import dataclass

from recon_lib.knobs import knob


@dataclass(frozen=True)
class PreviewConfig:
    size: int = knob(512, "pixels along a side of a still", 64, 2048)
    turntable_frames: int = knob(36, "pictures of one turn", 4, 360)
    turntable_size: int = knob(320, "pixels along a side", 64, 1024)
    viewer_faces: int = knob(6000, "triangles of the viewer's decimated copy, at most", 100, 200000)
