"""What can be asked of stage 1."""

from dataclasses import dataclass

from recon_lib.knobs import knob


@dataclass(frozen=True)
class Source:
    photos: str = knob(
        "samples/jug",
        "folder with transforms*.json, a COLMAP model, the six named images, or photos without cameras",
        is_path=True,
    )


@dataclass(frozen=True)
class IngestConfig:
    holdout_every: int = knob(8, "the last photo of each so many is kept for the verdict, 0 keeps none", 0, 1000)
    up: str = knob("auto", "the world axis that points up", choices=("auto", "x", "y", "z", "-x", "-y", "-z"))
    max_file_mb: float = knob(20.0, "largest file, in 10^6 bytes", 0.001, 1000)
    max_total_mb: float = knob(4000.0, "all files together, in 10^6 bytes", 0.001, 100000)
    max_megapixels: float = knob(50.0, "largest image, in 10^6 pixels", 0.001, 1000)
    max_total_megapixels: float = knob(4000.0, "all images together, in 10^6 pixels", 0.001, 100000)
