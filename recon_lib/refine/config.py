"""The parameters of stage 3. Plain fields are not knobs; they can be set only from Python."""

from dataclasses import dataclass

from recon_lib.knobs import knob

BATCH = {"cpu": 2, "cuda": 8}  # photos per step where none are asked for; a GPU is as fast with 8 as with 2


@dataclass(frozen=True)
class SetupConfig:
    """Where and on what the fit works."""

    device: str = knob("auto", "device of the fit", choices=("auto", "cpu", "cuda"))
    topology: str = knob(
        "mesh",
        "mesh keeps the coarse faces, dmtet or flexicubes find new ones",
        choices=("mesh", "dmtet", "flexicubes"),
    )
    photo_size: int = knob(512, "pixels along a side of each photo's crop, never more than the photos have", 32, 4096)
    light_size: int = knob(16, "texels along a side of the light's cube map", choices=(16, 32, 64, 128))


@dataclass(frozen=True)
class FitConfig:
    """The fit of a mesh with fixed faces: rates, weights of the losses, and schedule."""

    steps: int = knob(800, "optimiser steps", 1, 1000000)
    scales: int = knob(2, "scales of one fit, coarse to fine; each doubles photo size and texels", 1, 4)
    batch: int = knob(0, "photos per step, 0 takes 2 on the CPU and 8 on a GPU", 0, 64)
    lr_vertex: float = knob(
        0.06, "vertex rate, radii per step of 2 photos, grows with the root of batch, 0 keeps the shape", 0, 1
    )
    lr_texture: float = knob(0.01, "rate of linear base colour per step, 0 keeps it", 0, 1)
    lr_material: float = knob(0.01, "rate of occlusion, roughness, metallic and normal offset per step", 0, 1)
    lr_light: float = knob(0.1, "rate of the light per step, as a share of the first light's mean", 0, 10)
    smoothness: float = knob(6.0, "lambda of large steps, larger is smoother", 0, 10000)
    glare: float = knob(
        0.0,
        "for a glossy object: difference of colours (0 to 1) beyond which a pixel counts little more; 0 for none",
        0,
        1,
    )
    w_alpha: float = knob(1.0, "weight of the silhouette loss", 0, 1000)
    w_smooth: float = knob(0.03, "weight against differences between neighbouring texels", 0, 1000)
    correct: str = knob(
        "auto",
        "corrected per photo; auto: both for cameras that were found",
        choices=("auto", "none", "exposure", "cameras", "both"),
    )
    w_white: float = knob(0.005, "weight against coloured light", 0, 1000)
    decay: float = knob(0.1, "share to which the rates fall geometrically by the last step", 0.0001, 1)
    seed: int = knob(0, "seed of the order of photos and of their backgrounds", 0, 1000000)
    w_occlusion: float = 0.001  # weight against occlusion
    w_laplacian: float = 0.0  # weight of the Laplacian energy at the start, fades to 0 by the last step
    warmup: int = 10  # steps over which the rates rise from 0, at the start of each scale


@dataclass(frozen=True)
class IsosurfaceConfig:
    """The search for new faces by an isosurface (`new_faces`)."""

    kind: str = "dmtet"  # or flexicubes
    grid: int = knob(48, "grid cells per side for dmtet and flexicubes", 8, 256)
    batch: int = knob(0, "photos per step, 0 takes 2 on the CPU and 8 on a GPU", 0, 64)
    light_size: int = knob(16, "texels along a side of the light's cube map", choices=(16, 32, 64, 128))
    seed: int = knob(0, "seed of the order of photos and of their backgrounds", 0, 1000000)
    steps: int = 300  # optimiser steps
    lr_sdf: float = 0.5  # grid cells per step, where the gradient is largest
    lr_grid: float = 0.01  # raw parameters of the points' offsets and the cubes' weights, per step
    lr_material: float = 0.03  # base colour and material per step
    lr_light: float = 0.1  # share of the first light per step
    w_alpha: float = 1.0  # weight of the silhouette loss
    w_sdf: float = 0.02  # weight against sign changes; it falls to a twentieth within the first quarter
    w_deviation: float = 0.01  # weight against uneven cells of FlexiCubes
    w_smooth: float = 0.03  # weight against differences of material close by
    w_white: float = 0.005  # weight against coloured light
    decay: float = 0.1  # the rates fall to this share at the last step
