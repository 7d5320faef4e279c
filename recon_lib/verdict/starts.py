"""Which of two coarse meshes is the better start: judged by what refinement makes of each, on photos kept from both.

Before refinement the hull can look better than stereo and lose afterwards, so a short fit of each decides.
"""

from dataclasses import replace

import torch

from recon_lib.coarse import reconstruct
from recon_lib.coarse.config import BackendConfig, HullConfig
from recon_lib.coarse.reconstruct import Coarse
from recon_lib.photos.scene import Scene
from recon_lib.progress import Progress, part, silent
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import headless, refine
from recon_lib.refine.config import FitConfig
from recon_lib.surface import simplify

STEPS, PHOTO_SIZE, TEXTURE_SIZE, LIGHT_SIZE = 60, 128, 256, 16  # of the short fit; pixels, texels
LARGEST = (
    HullConfig()
)  # grid and faces of the meshes that it compares, at most: finer ones take minutes and decide the same


def keep_better(
    made: Coarse,
    scene: Scene,
    backend: BackendConfig,
    shape: HullConfig,
    raster: Rasteriser,
    progress: Progress = silent,
) -> Coarse:
    """What `auto` made by stereo, or the hull where a short fit of both says so; any other mesh as it is.

    `scene` is the one that it was made of, without the held-out photos.
    """
    if backend.backend != "auto" or made.backend != "stereo":
        return made
    tried = replace(shape, resolution=min(shape.resolution, LARGEST.resolution), faces=min(shape.faces, LARGEST.faces))
    reason = f"`auto` kept the visual hull. {made.reason}"
    carved = reconstruct.make_hull(scene, tried, reason, part(progress, 0.0, 0.2))
    scores = {
        start.backend: score(start, scene, raster, part(progress, first, first + 0.4))
        for start, first in ((made, 0.2), (carved, 0.6))
    }
    said = (
        f"After a short refinement of both, stereo explains the photos kept from it with {scores['stereo']:.2f} dB, the hull "
        f"with {scores['hull']:.2f} dB (the mean of PSNR and of SSIM in dB)."
    )
    better = made
    if scores["stereo"] < scores["hull"]:
        better = carved if tried == shape else reconstruct.make_hull(scene, shape, reason)
    return replace(
        better,
        remarks=(*better.remarks, said),
        provenance=better.provenance | {"short_fits_quality_db": scores},
        stereo=made.stereo,
    )


def score(start: Coarse, scene: Scene, raster: Rasteriser, progress: Progress) -> float:
    """The quality (dB, `projection.Explained`) on the validation photos after a short fit; minus infinity without any."""
    mesh = simplify.decimate(start.mesh, LARGEST.faces)
    setup = refine.prepare(
        scene.images, scene.cameras, mesh, PHOTO_SIZE, raster, TEXTURE_SIZE, LIGHT_SIZE, part(progress, 0.0, 0.3)
    )
    if setup.validation is None:
        return -torch.inf
    steps = refine.run(setup, FitConfig(steps=STEPS, scales=1), raster)
    return headless.run_to_end(steps, STEPS, part(progress, 0.3, 1.0)).kept.quality_db
