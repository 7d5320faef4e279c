"""`recon metrics` and `recon compare`: any mesh by the verdict's rule, and runs beside one another."""

import argparse
import json
from pathlib import Path

from recon_lib import files

DONE = 0


def add_metrics(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon metrics`."""
    command.set_defaults(command=metrics)
    command.add_argument("mesh", metavar="MESH", help="a .glb, .gltf, .obj, .ply, .stl or .off file from any tool")
    command.add_argument(
        "--scene", required=True, metavar="DIR", help="a run's folder, or a folder of photos with cameras and masks"
    )
    command.add_argument(
        "--y-up", action="store_true",
        help="the file stands y up, as GLB files do; default: it stands in the photos' world, unless its run says where",
    )  # fmt: skip
    command.add_argument(
        "--reference", default="", metavar="FILE", help="mesh of the true surface in the photos' world"
    )
    command.add_argument("--out", metavar="DIR", help="new folder for verdict.json, views.csv, pictures and maps")
    command.add_argument("--json", action="store_true", help="print verdict.json instead of tables")


def metrics(options: argparse.Namespace) -> int:
    """`recon metrics`: scores, measures and judges a mesh file on a scene's photos, and prints the verdict."""
    from recon_lib.photos import scene
    from recon_lib.raster import cpu
    from recon_lib.show import tables
    from recon_lib.verdict import examine, placed, results
    from recon_lib.verdict.config import Limits, MetricsConfig

    path, folder, out = Path(options.mesh), Path(options.scene), Path(options.out) if options.out else None
    if out is not None and out.exists() and any(out.iterdir()):
        raise ValueError(f"--out: {out} is not empty, needed a new folder")
    photos = placed.photos_of(folder)
    read = placed.read(path, photos.up, options.y_up)
    seen = (
        scene.digests_used(folder, str(path.resolve().relative_to(folder.resolve())))
        if placed.is_in(path, folder)
        else set()
    )
    config = MetricsConfig(reference=options.reference)
    judged, scored, evidence = examine.examine(
        read.mesh, path.name, photos, cpu, seen, config, Limits(), has_texture=read.has_texture, notes=read.notes
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        results.save(out, judged, scored)
        if read.has_texture:
            results.save_maps(out, read.mesh, evidence, cpu)
    if options.json:
        print(json.dumps(judged, indent=1))
        return DONE
    for table in (tables.verdict(judged), tables.levels(judged), tables.measures(judged)):
        print(table.text(), end="\n\n")
    print("\n".join([judged["reason"], *(f"{c['says']} {c['remedy']}" for c in judged["diagnosis"]), *judged["notes"]]))
    return DONE


def add_compare(command: argparse.ArgumentParser) -> None:
    """The arguments of `recon compare`."""
    command.set_defaults(command=compare)
    command.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or their names in outputs/")
    command.add_argument("--out", metavar="FILE", help="the executed notebook; default outputs/6_compare.ipynb")


def compare(options: argparse.Namespace) -> int:
    """`recon compare`: prints the runs, the best first, and executes 6_compare over them."""
    from recon_lib.show import comparison

    folders = [Path(run) if Path(run).is_dir() else files.root("outputs") / run for run in options.runs]
    compared = comparison.compare(folders)
    print(comparison.table(compared).text())
    out = Path(options.out) if options.out else files.root("outputs") / "6_compare.ipynb"
    print(f"notebook: {comparison.execute(folders, out)}")
    return DONE
