"""`make bench`: the figures that the README quotes, printed beside their references and written to outputs/bench/*.json.

Times are medians of 50, after warming up, of one process with nothing else running. Quality is of the sample, on its
held-out photos and against its true surface.
"""

import json
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh

from recon_lib import camera, fit, hull, ingest, mesh, meshio, render, uv, verdict
from recon_lib.metrics import surface
from recon_lib.raster import cpu

HOME = Path(__file__).parents[1]


def median_ms(work, repeats: int = 50) -> float:
    for _ in range(5):
        work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def bumpy_ball() -> mesh.Mesh:
    """20,480 faces, slightly wavy."""
    ball = mesh.icosphere(5)
    return replace(ball, verts=0.5 * ball.verts * (1 + 0.05 * torch.sin(4.5 * ball.verts).sum(-1, keepdim=True)))


def raster_row(size: int, reference: str) -> dict:
    body = bumpy_ball()
    view = camera.orbit(8, 0.3, 3.4, 0.53, size)[:1]
    topology = mesh.opposite_vertices(body.faces)
    pos = render.clip_positions(body.verts, render.views(view, body.verts))
    attr = body.verts[None].clone()
    coverage = (cpu.rasterize(pos, body.faces, (size, size), grad_db=False)[0][..., 3] > 0).float().mean().item()

    def work():
        moving = pos.clone().requires_grad_(True)
        rast, _ = cpu.rasterize(moving, body.faces, (size, size), grad_db=False)
        out, _ = cpu.interpolate(attr, rast, body.faces)
        cpu.antialias(out, rast, moving, body.faces, topology).sum().backward()

    name = f"rasterise + interpolate + antialias, forward and backward, {size}², 20k faces, {coverage:.0%} covered"
    return {"name": name, "value": median_ms(work), "unit": "ms", "reference": reference}


def fit_row() -> dict:
    body = bumpy_ball()
    body = replace(body, verts=body.verts / body.verts.norm(dim=-1).max())
    uvs, uv_faces, shape = uv.unwrap(body.verts, body.faces, 768)
    body = replace(body, uvs=uvs, uv_faces=uv_faces, texture=torch.rand(*shape, 3))
    views = camera.orbit(8, 0.3, 6.8, 0.53, 256)
    photos = fit.Photos(render.render(body, views, cpu).detach(), views)
    start = replace(body, texture=torch.full_like(body.texture, 0.5))
    steps = fit.fit(photos, start, fit.FitConfig(steps=1000), cpu)
    ms = median_ms(lambda: next(steps))
    coverage = photos.rgba[..., 3].mean().item()
    name = f"fit, one step of two 256² views, 20k faces, {coverage:.0%} covered, texture {shape[1]}²"
    return {"name": name, "value": ms, "unit": "ms", "reference": "<= 25; plain torch operations 60"}


def sample_rows() -> list[dict]:
    photos = ingest.read(HOME / "samples" / "jug", ingest.IngestConfig()).scene
    used = photos.subset(~photos.held_out)
    alphas = [image[..., 3] / np.float32(255) for image in used.images]
    hull.visual_hull(alphas, used.cameras, hull.HullConfig(resolution=32, faces=1000))
    began = time.perf_counter()
    carved = hull.visual_hull(alphas, used.cameras, hull.HullConfig(faces=20000))
    rows = [
        {
            "name": f"visual hull of {len(alphas)} views, 128³, remeshed to {len(carved.faces)} faces",
            "value": time.perf_counter() - began,
            "unit": "s",
            "reference": "<= 8",
        }
    ]
    body = trimesh.load_mesh(HOME / "samples" / "jug" / "true_mesh.ply", process=False)
    truth = mesh.Mesh(torch.tensor(body.vertices).float(), torch.tensor(body.faces).int())
    for name, made in (
        ("hull", HOME / "outputs/demo/coarse/mesh.glb"),
        ("refined", HOME / "outputs/demo/refined/mesh.glb"),
    ):
        if not made.exists():
            print(f"skipped: {name} quality needs outputs/demo; run make demo first")
            continue
        rows += quality_rows(name, made, photos, truth)
    return rows


def quality_rows(name: str, path: Path, photos, truth: mesh.Mesh) -> list[dict]:
    made = meshio.load_from(path.parents[1], str(path.relative_to(path.parents[1])))
    mean = verdict.score(made, photos, cpu).mean
    distance = surface.distance(made, truth)
    return [
        {"name": f"sample, {name}: PSNR in the mask, held out", "value": mean.psnr_db, "unit": "dB", "reference": ">= 22"},
        {"name": f"sample, {name}: SSIM in the mask, held out", "value": mean.ssim, "unit": "", "reference": ">= 0.85"},
        {"name": f"sample, {name}: Chamfer to the true surface", "value": distance.chamfer_percent,
         "unit": "% of diagonal", "reference": "<= 0.5"},
        {"name": f"sample, {name}: F-score at 1 % of the diagonal", "value": distance.f_score_1_percent, "unit": "",
         "reference": ""},
    ]  # fmt: skip


def main() -> None:
    rows = [
        raster_row(256, "<= 5; DRTK's C++ CPU kernels 10.8"),
        raster_row(512, "DRTK's C++ CPU kernels 38"),
        fit_row(),
        *sample_rows(),
    ]
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:{width}}  {row['value']:9.4g} {row['unit']:14} {row['reference']}")
    folder = HOME / "outputs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    (folder / "cpu.json").write_text(json.dumps([row | machine for row in rows], indent=1))


if __name__ == "__main__":
    main()
