"""What can be asked of stage 3. Plain fields are arguments of the library alone."""

from dataclasses import dataclass

from recon_lib.knobs import knob


@dataclass(frozen=True)
class SetupConfig:
    device: str = knob("auto", "where it runs", choices=("auto", "cpu", "cuda"))
    topology: str = knob(
        "mesh",
        "mesh keeps the coarse faces, dmtet or flexicubes find new ones",
        choices=("mesh", "dmtet", "flexicubes"),
    )
    photo_size: int = knob(256, "pixels along a side of a photo's crop", 32, 4096)
    light_size: int = knob(16, "texels along a side of the light's cube map", choices=(16, 32, 64, 128))


@dataclass(frozen=True)
class FitConfig:
    steps: int = knob(500, "optimiser steps", 1, 1000000)
    batch: int = knob(2, "photos per step", 1, 64)
    lr_vertex: float = knob(0.04, "unit-sphere radii per step, 0 keeps the shape", 0, 1)
    lr_texture: float = knob(0.01, "linear base colour per step, 0 keeps it", 0, 1)
    lr_material: float = knob(0.01, "occlusion, roughness, metallic and normal offset per step", 0, 1)
    lr_light: float = knob(0.1, "radiance per step, share of the first light's mean", 0, 10)
    smoothness: float = knob(12.0, "lambda of the large steps, more is smoother", 0, 10000)
    w_alpha: float = knob(1.0, "weight of the silhouette loss", 0, 1000)
    w_smooth: float = knob(0.03, "weight of differences between neighbouring texels", 0, 1000)
    w_occlusion: float = knob(0.001, "weight of occlusion", 0, 1000)
    w_white: float = knob(0.005, "weight of coloured light", 0, 1000)
    w_laplacian: float = knob(0.0, "weight of the Laplacian energy, on top of smoothness; fades to 0", 0, 1000000)
    decay: float = knob(0.1, "share of the rates that is left at the last step, falling geometrically", 0.0001, 1)
    seed: int = knob(0, "of the order of photos and their backgrounds", 0, 1000000)
    warmup: int = 10  # steps over which the rates rise


@dataclass(frozen=True)
class IsosurfaceConfig:
    """New faces by an isosurface (`new_faces`)."""

    kind: str = "dmtet"  # or flexicubes
    grid: int = knob(48, "cells along a side for dmtet and flexicubes", 8, 256)
    batch: int = knob(2, "photos per step", 1, 64)
    light_size: int = knob(16, "texels along a side of the light's cube map", choices=(16, 32, 64, 128))
    seed: int = knob(0, "of the order of photos and their backgrounds", 0, 1000000)
    steps: int = 300
    lr_sdf: float = 0.5  # grid cells per step, where the photos speak loudest
    lr_grid: float = 0.01  # of the points' and cubes' raw weights
    lr_material: float = 0.03
    lr_light: float = 0.1  # share of the start
    w_alpha: float = 1.0
    w_sdf: float = 0.02  # of sign changes; a twentieth of it after the first quarter
    w_deviation: float = 0.01  # of FlexiCubes' uneven cells
    w_smooth: float = 0.03  # of material
    w_white: float = 0.005  # of coloured light
    decay: float = 0.1  # the rates fall to this share at the last step
