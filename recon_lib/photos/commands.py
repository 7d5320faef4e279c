"""`recon frames`, `recon export`, `recon scale`: photos of a video, a run's scene for other tools, its size in metres."""

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


def add_scale(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon scale`."""
    command.set_defaults(command=scale)
    command.add_argument("run", metavar="RUN", help="the run's folder")
    command.add_argument(
        "--point", dest="points", action="append", nargs="+", required=True, metavar="PHOTO:x,y",
        help="one end of the known length, in two photos or more, in pixels of RUN/scene/images; give it twice",
    )  # fmt: skip
    command.add_argument(
        "--length", type=float, required=True, metavar="METRES", help="distance between the two points"
    )


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


def scale(options: argparse.Namespace) -> int:
    """`recon scale`: measures metres per world unit from a known length and writes them into the run's folder."""
    from recon_lib.photos import scale, scene

    run_dir = Path(options.run)
    points = [[scale.parse(mark) for mark in marks] for marks in options.points]
    found = scale.measure(scene.load(run_dir / "scene"), points, options.length)
    mesh = scale.save(run_dir, found)
    print(
        f"1 unit of the world and of the mesh files is {found.metres_per_unit:.6g} m; the marks are at most "
        f"{found.error_px:.2f} pixels off"
    )
    print("no mesh is there yet to be written in metres" if mesh is None else f"{mesh}: the mesh in metres")
    return DONE
