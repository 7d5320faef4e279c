"""The parameters of stage 1."""

from dataclasses import dataclass

from recon_lib.knobs import knob


@dataclass(frozen=True)
class Source:
    """Where the photos are."""

    photos: str = knob(
        "samples/jug",
        "folder, or .zip of one, with photos and cameras in a form that the README names",
        is_path=True,
    )


@dataclass(frozen=True)
class IngestConfig:
    """Which photos are held out, which way is up, what is searched for in the photos, and how large they may be."""

    holdout_every: int = knob(8, "one photo in this many is held out for the verdict, 0 holds out none", 0, 1000)
    up: str = knob("auto", "world axis that points up", choices=("auto", "x", "y", "z", "-x", "-y", "-z"))
    find_cameras: str = knob(
        "auto",
        "search photos for missing cameras; must refuses where none are found",
        choices=("auto", "must", "never"),
    )
    make_masks: str = knob(
        "auto",
        "masks of photos without: auto by border, else by a network",
        choices=("auto", "network", "box", "never"),
    )
    box_left: float = knob(0.1, "box around the object in all photos, share of the width", 0, 1)
    box_top: float = knob(0.1, "share of the height", 0, 1)
    box_right: float = knob(0.9, "share of the width", 0, 1)
    box_bottom: float = knob(0.9, "share of the height", 0, 1)
    max_side: int = knob(1500, "pixels to which the long side of larger photos is shrunk, 0 for none", 0, 20000)
    max_file_mb: float = knob(20.0, "largest size of one file, in 10^6 bytes", 0.001, 1000)
    max_total_mb: float = knob(4000.0, "largest size of all files together, in 10^6 bytes", 0.001, 100000)
    max_megapixels: float = knob(50.0, "largest size of one image, in 10^6 pixels", 0.001, 1000)
    max_total_megapixels: float = knob(20000.0, "largest size of all images together, in 10^6 pixels", 0.001, 100000)
