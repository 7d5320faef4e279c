"""`recon frames` and `recon export`: from a video to photos, and from a run's scene to other tools."""

import argparse
from pathlib import Path

DONE = 0


def add_frames(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon frames`."""
    command.set_defaults(command=frames)
    command.add_argument("video", metavar="VIDEO", help="an .mp4, .mov or other video")
    command.add_argument("folder", metavar="DIR", help="new folder, in which images/ is made")
    command.add_argument("--count", type=int, default=120, metavar="N", help="most frames to take; default 120")


def add_export(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon export`."""
    command.set_defaults(command=export)
    command.add_argument("run", metavar="RUN", help="the run's folder")
    command.add_argument("folder", metavar="DIR", help="new folder")


def frames(options: argparse.Namespace) -> int:
    """`recon frames`: writes the sharp frames of a video into a new folder."""
    from recon_lib.photos import video

    taken = video.take_frames(Path(options.video), Path(options.folder), options.count)
    print(f"{taken} frames in {options.folder}/images: put masks into masks/, where the background is not plain")
    return DONE


def export(options: argparse.Namespace) -> int:
    """`recon export`: writes a run's photos, masks and cameras as a COLMAP model and transforms.json."""
    from recon_lib.photos import export, scene

    posed = scene.load_posed(Path(options.run))
    export.write(posed, Path(options.folder))
    print(f"{options.folder}: {len(posed.names)} photos and their masks, sparse/0 for COLMAP, and transforms.json")
    return DONE
