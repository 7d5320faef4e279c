"""Real and rendered captures through the product's stages 2 to 4, from photos in memory to the score of the exported mesh.

Their folder is named by RECON_DATA and is not part of the project. Scores are in the mask of held-out photos. What OpenMVS
scores on the same photos is its release 2.3 with the same scorer, as the issue that asked for these rows has it.
"""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import captures

from recon_lib import knobs
from recon_lib.chain import params
from recon_lib.coarse import reconstruct
from recon_lib.coarse.config import BackendConfig, GeneratedConfig, HullConfig, SampleConfig
from recon_lib.photos.scene import Scene
from recon_lib.raster import cpu, select
from recon_lib.refine import headless, refine
from recon_lib.refine.config import FitConfig, SetupConfig
from recon_lib.surface import meshio
from recon_lib.verdict import judge, starts
from recon_lib.verdict.images import Score


class Capture(NamedTuple):
    folder: str
    used: int  # photos to use, 0 for all
    width: int  # pixels, 0 for the photos' own
    reference: str  # PSNR in dB and SSIM


CAPTURES = {
    "DTU 37, 17 photos of 800 x 600": Capture("dtu37", 0, 0, ">= 16.4 / .60; hull 15.0 / .40"),
    "temple, 14 photos of 640 x 480": Capture("temple", 0, 0, ">= 4 dB over the hull"),
    "lego, 24 photos of 400 x 400": Capture("lego", 24, 400, ">= 18.0 / .58; OpenMVS 15.5 / .566; hull 16.9 / .45"),
    "lego, 48 photos of 800 x 800": Capture("lego", 48, 0, ">= 17.3 / .55, fine 20 / .70; hull 14.3 / .39"),
    "lego, 88 photos of 800 x 800": Capture("lego", 0, 0, "fine on a GPU: full frame >= 29.1 in 120 s (nvdiffrec)"),
    "Spot, 24 photos of 256 x 256": Capture("spot", 24, 256, ">= 27.1 / .942; OpenMVS 15.5 / .79"),
}
PRESETS = ("quick", "standard", "fine")  # params/*.yaml


def preset_configs(preset: str) -> tuple[HullConfig, SetupConfig, FitConfig]:
    """The parameters of stages 2 and 3 in the preset's file, and defaults for all others."""
    asked = params.read(Path(__file__).parents[1] / "params" / f"{preset}.yaml")

    def config(kind: type, stage: str):
        return kind(**{n: v for n, v in asked.get(stage, {}).items() if n in knobs.parameters(kind)})

    return config(HullConfig, "2_reconviagen"), config(SetupConfig, "3_nvdiffrec"), config(FitConfig, "3_nvdiffrec")


def rows(preset: str, device: str, asked: str = "", backend: str = "auto") -> list[dict]:
    """One capture after another; `asked` is a part of the names of those that are wanted."""
    found = []
    for name, capture in CAPTURES.items():
        if asked not in name:
            continue
        if not (captures.FOLDER / capture.folder).exists():
            print(f"skipped: {name} is not there; name the folder of captures in RECON_DATA")
            continue
        scene = captures.read(capture.folder, capture.used, capture.width)
        score, seconds, made = run(scene, preset, device, backend)
        title = f"{name}, {preset}, {made} start"
        found += [
            {"name": f"{title}: PSNR", "value": score.psnr_db, "unit": "dB", "reference": capture.reference},
            {"name": f"{title}: SSIM", "value": score.ssim, "unit": "", "reference": ""},
            {"name": f"{title}: inside", "value": score.psnr_inside_db, "unit": "dB", "reference": ""},
            {"name": f"{title}: rim", "value": score.psnr_rim_db, "unit": "dB", "reference": ""},
            {"name": f"{title}: full frame", "value": score.psnr_full_db, "unit": "dB", "reference": ""},
        ]
        found += [{"name": f"{title}: {what}", "value": s, "unit": "s", "reference": ""} for what, s in seconds.items()]
        for row in found[-5 - len(seconds) :]:
            print(f"{row['name']}: {row['value']:.4g} {row['unit']}", flush=True)
    return found


def run(scene: Scene, preset: str, device: str, backend: str) -> tuple[Score, dict[str, float], str]:
    """The mean score, the seconds of each stage, and the start that was chosen."""
    shape, setup_config, config = preset_configs(preset)
    used = scene.subset(~scene.held_out)
    raster, _ = select.rasteriser(device)
    began = time.perf_counter()
    asked = BackendConfig(backend=backend)
    made = reconstruct.reconstruct(used, asked, shape, SampleConfig(), GeneratedConfig())
    made = starts.keep_better(made, used, asked, shape, raster)
    coarse_s = time.perf_counter() - began
    size, light = setup_config.photo_size, setup_config.light_size
    setup = refine.prepare(used.images, used.cameras, made.mesh, size, raster, light_size=light)
    fitted = headless.run_to_end(refine.run(setup, config, raster), config.steps, lambda share, what: None)
    finished = refine.finish(setup, fitted.mesh, raster)
    refined_s = time.perf_counter() - began - coarse_s
    with tempfile.TemporaryDirectory() as folder:
        files = meshio.save(finished.mesh, Path(folder), scene.up)["files"]
        read = meshio.load(
            Path(folder) / "mesh.glb", files["mesh.glb"]["T_world_file"], Path(folder) / "light.hdr", light
        )
    scored = judge.score(read, scene, cpu, set())
    return scored.mean, {"coarse mesh": coarse_s, "refinement": refined_s}, made.backend
