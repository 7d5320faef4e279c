"""`recon metrics`: any mesh file by the verdict's rule."""

import argparse
import json
from pathlib import Path

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
    config = MetricsConfig(reference=str(Path(options.reference).absolute()) if options.reference else "")
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
