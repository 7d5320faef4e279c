"""`make bench`: the figures that the README quotes, printed beside their references and written to outputs/bench/*.json.

Times are medians of 50, after warming up, of one process with nothing else running. Quality is of the sample, on its
held-out photos and against its true surface.
"""

import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import bench_captures
import bench_jobs
import bench_phases
import numpy as np
import spot
import torch
import trimesh

from recon_lib import camera, mesh, render
from recon_lib.coarse import hull
from recon_lib.machine import warm
from recon_lib.photos import crops, ingest
from recon_lib.raster import cpu, select
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import fit, refine
from recon_lib.surface import checks, meshio, uv
from recon_lib.verdict import box, judge, surface_distance
from recon_lib.verdict import images as images_

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
    uvs, uv_faces, shape = uv.unwrap(body.verts, body.faces, 512)
    body = replace(body, uvs=uvs, uv_faces=uv_faces, texture=torch.rand(*shape, 3))
    views = camera.orbit(8, 0.3, 6.8, 0.53, 256)
    photos = crops.Photos(render.render(body, views, cpu).detach(), views)
    start = refine.make_lit(replace(body, texture=torch.full_like(body.texture, 0.5)), 16, cpu)
    steps = fit.fit(photos, start, fit.FitConfig(steps=1000), cpu)
    ms = median_ms(lambda: next(steps))
    coverage = photos.rgba[..., 3].mean().item()
    name = f"fit with material and light, one step of two 256² views, 20k faces, {coverage:.0%} covered, texture {shape[1]}²"
    return {"name": name, "value": ms, "unit": "ms", "reference": "<= 40; unlit plain torch 60"}


@dataclass(frozen=True)
class SpotRun:
    """One reconstruction of Spot from photos in memory to the scored mesh."""

    name: str
    views: int
    width: int  # pixels of the photos
    photo_size: int
    texture_size: int
    light_size: int
    faces: int
    config: fit.FitConfig
    target_db: float  # full frame; when it is passed is told
    look_every: int  # steps between two scores on the way, whose time is not counted


ON_CPU = SpotRun(
    "CPU", 24, 256, 256, 448, 16, 12000, fit.FitConfig(steps=300, scales=1, lr_vertex=0.04, smoothness=12.0), 29.6, 100
)  # fmt: skip
ON_GPU = SpotRun(
    "GPU", 100, 512, 384, 1024, 32, 24000,
    fit.FitConfig(steps=500, scales=1, batch=8, lr_vertex=0.005, lr_light=0.2, smoothness=24.0), 34.69, 10,
)  # fmt: skip


def spot_rows(run: SpotRun, device: str) -> list[dict]:
    """Hull, unwrapping, fit and export are timed, in this order, the first time that this process does them; then a step."""
    with bench_phases.watched() as phases:
        rows, setup, raster = run_spot(run, device)
    what = rows[0]["name"].split(":")[0]
    return rows + bench_phases.rows(what, phases) + bench_phases.step_rows(what, setup, run.config, raster)


def run_spot(run: SpotRun, device: str) -> tuple[list[dict], refine.Setup, Rasteriser]:
    (images, cameras), (unseen, unseen_cameras) = spot.photos("train", run.width), spot.photos("test", run.width)
    chosen = torch.arange(run.views) * (len(images) // run.views)
    images, cameras = tuple(images[i] for i in chosen), cameras[chosen]
    began = time.perf_counter()
    raster, _ = select.rasteriser(device)
    warm.start_warming(raster)
    alphas = [image[..., 3] / np.float32(255) for image in images]
    carved = hull.visual_hull(alphas, cameras, hull.HullConfig(faces=run.faces))
    carved_s = time.perf_counter() - began
    setup = refine.prepare(images, cameras, carved, run.photo_size, raster, run.texture_size, run.light_size)
    prepared_s, passed_s, uncounted_s = time.perf_counter() - began, float("nan"), 0.0
    for state in refine.run(setup, run.config, raster):
        if state.fit.step and state.fit.step % run.look_every == 0 and not passed_s < 1e9:
            now = time.perf_counter()
            shown = full_frame_db(setup, state.fit.mesh, unseen, unseen_cameras, raster)
            uncounted_s += time.perf_counter() - now
            if shown > run.target_db:
                passed_s = time.perf_counter() - began - uncounted_s
    body = refine.finish(setup, state.kept.mesh, raster).mesh
    total_s = time.perf_counter() - began - uncounted_s
    memory = (torch.cuda.mem_get_info()[1] - torch.cuda.mem_get_info()[0]) / 2**30 if raster.DEVICE == "cuda" else 0.0
    with tempfile.TemporaryDirectory() as folder:
        files = meshio.save(body, Path(folder), np.array([0.0, 0.0, 1.0]))["files"]
        T = np.array(files["mesh.glb"]["T_world_file"])
        read = meshio.load(Path(folder) / "mesh.glb", T, Path(folder) / "light.hdr", run.light_size)
    scores = [images_.compare(read, unseen[i], unseen_cameras[[i]], cpu).score for i in range(len(unseen))]
    mean, distance = images_.mean_score(scores), surface_distance.distance(read, spot.true_mesh())
    diagonal = (spot.true_mesh().verts.max(0).values - spot.true_mesh().verts.min(0).values).norm().item()
    topology = checks.check_mesh(read.verts, read.faces)
    upstream = run.name == "GPU"
    what = f"spot, {run.name}, {run.views} views at {run.width}²"
    rows = [
        ("full-frame PSNR of 25 unseen views", mean.psnr_full_db, "dB", ">= 36.5; nvdiffrec 34.7" if upstream else "29.6"),
        ("PSNR in the mask", mean.psnr_db, "dB", ">= 32; nvdiffrec 30.4" if upstream else ">= 26, stretch 28; hull 22.9"),
        ("SSIM in the mask", mean.ssim, "", ">= 0.93; nvdiffrec 0.905" if upstream else ""),
        (f"seconds until {run.target_db} dB", passed_s, "s", "<= 10; nvdiffrec 167 to 218" if upstream else ""),
        ("seconds in all", total_s, "s", "" if upstream else "<= 60"),
        ("of these visual hull", carved_s, "s", ""),
        ("of these crops, unwrapping, projection", prepared_s - carved_s, "s", ""),
        (f"one step of {run.config.batch} photos", 1e3 * (total_s - prepared_s) / run.config.steps, "ms",
         "nvdiffrec 92 to 245" if upstream else ""),
        ("mean point-to-surface distance", 100 * distance.accuracy / diagonal, "% of diagonal",
         "<= 0.12; nvdiffrec 0.18" if upstream else ""),
        ("F-score at 1 %", distance.f_score_1_percent, "", ">= 0.985; nvdiffrec 0.966" if upstream else ""),
        ("bodies", topology.bodies, "", "1; nvdiffrec 4" if upstream else "1"),
        ("faces", len(read.faces), "", "<= 100k" if upstream else ""),
    ]  # fmt: skip
    if upstream:
        rows.append(("GPU memory in use at the end", memory, "GiB", "<= 6; nvdiffrec 8.5"))
    named = [{"name": f"{what}: {n}", "value": float(v), "unit": u, "reference": r} for n, v, u, r in rows]
    return named, setup, raster


@torch.no_grad()
def full_frame_db(setup: refine.Setup, body: mesh.Mesh, unseen, cameras: camera.Cameras, raster: Rasteriser) -> float:
    """Of every fifth unseen view, straight from the fit: to see when a quality is passed."""
    seen = camera.on_device(camera.moved(cameras, setup.T_unit_world), raster.DEVICE)
    total = []
    for i in range(0, len(unseen), 5):
        rgba = render.photographed(body, seen[[i]], raster)[0]
        true, _ = images_.on_white(unseen[i], box.Box(0.0, 0.0, 1.0, *unseen[i].shape[1::-1]))
        difference = render.over_white_srgb(rgba).cpu().double() - torch.from_numpy(true)
        total.append(-10 * torch.log10(difference.square().mean()).item())
    return sum(total) / len(total)


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
        ("coarse", HOME / "outputs/demo/coarse/mesh.glb"),
        ("refined", HOME / "outputs/demo/refined/mesh.glb"),
    ):
        if not made.exists():
            print(f"skipped: {name} quality needs outputs/demo; run make demo first")
            continue
        rows += quality_rows(name, made, photos, truth)
    return rows


def quality_rows(name: str, path: Path, photos, truth: mesh.Mesh) -> list[dict]:
    made = meshio.load_from(path.parents[1], str(path.relative_to(path.parents[1])))
    mean = judge.score(made, photos, cpu, set()).mean
    distance = surface_distance.distance(made, truth)
    rows = [
        ("PSNR in the mask, held out", mean.psnr_db, "dB", ">= 31.4; OpenMVS 26.5"),
        ("SSIM in the mask, held out", mean.ssim, "", ">= 0.95; OpenMVS 0.946"),
        ("PSNR inside, 5 px from the outline", mean.psnr_inside_db, "dB", ">= 33.5; OpenMVS 33.3"),
        ("PSNR of the rim", mean.psnr_rim_db, "dB", "OpenMVS 16.1"),
        ("Chamfer to the true surface", distance.chamfer_percent, "% of diagonal", "<= 0.06; OpenMVS 0.093"),
        ("F-score at 1 % of the diagonal", distance.f_score_1_percent, "", ">= 0.999; OpenMVS 1.000"),
    ]
    return [{"name": f"sample, {name}: {n}", "value": v, "unit": u, "reference": r} for n, v, u, r in rows]


def ratio(row: dict) -> str:
    """The value over the first number of its reference."""
    found = re.search(r"\d+(\.\d+)?", row["reference"])
    return f"{row['value'] / float(found[0]):.2f} x" if found and float(found[0]) else ""


def device_name(on_gpu: bool) -> str:
    """What the figures are of."""
    if on_gpu:
        return torch.cuda.get_device_name()
    named = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    return f"{named[1] if named else platform.machine()}, {os.cpu_count()} cores"


def main(asked: set[str]) -> None:
    """With `--gpu` or `--reconviagen` only what needs one, in a process that has done nothing before.

    With `--cpu` all but the sample.
    With `--captures` the real captures: `--captures --fine` at another preset, `--captures --gpu` on a GPU.
    With `--jobs` what the chain and its queue cost; `--jobs --gpu` compares two GPUs with one.
    """
    rows, on_gpu = [], bool(asked & {"--gpu", "--reconviagen"})
    if "--captures" in asked:
        preset = next((name for name in bench_captures.PRESETS if f"--{name}" in asked), "standard")
        rows += bench_captures.rows(preset, "cuda" if on_gpu else "cpu")
    elif "--jobs" in asked:
        rows += bench_jobs.rows(on_gpu)
    elif "--reconviagen" in asked:
        import bench_reconviagen  # brings upstream's packages

        rows += bench_reconviagen.rows()
    elif not spot.FOLDER.exists():
        print(f"skipped: Spot is not there; name its folder in RECON_SPOT (looked in {spot.FOLDER})")
    else:
        rows += spot_rows(ON_GPU if on_gpu else ON_CPU, "cuda" if on_gpu else "cpu")
    if not asked or "--cpu" in asked:
        rows += [
            raster_row(256, "<= 5; DRTK's C++ CPU kernels 10.8"),
            raster_row(512, "DRTK's C++ CPU kernels 38"),
            fit_row(),
        ]
    if not asked:
        rows += sample_rows()
    width = max((len(row["name"]) for row in rows), default=0)
    print(f"on {device_name(on_gpu)}")
    for row in rows:
        print(f"{row['name']:{width}}  {row['value']:9.4g} {row['unit']:14} {ratio(row):>8}  {row['reference']}")
    folder = HOME / "outputs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    machine |= {"device": device_name(on_gpu)}
    (folder / f"{'-'.join(sorted(name[2:] for name in asked)) or 'cpu'}.json").write_text(
        json.dumps([row | machine for row in rows], indent=1)
    )


if __name__ == "__main__":
    main(set(sys.argv[1:]))
