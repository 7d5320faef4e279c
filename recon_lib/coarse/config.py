"""What can be asked of stage 2. Plain fields are arguments of `reconstruct`, for those who tune it from Python."""

from dataclasses import dataclass

from recon_lib.knobs import knob

BACKENDS = ("hull", "stereo", "reconviagen")


@dataclass(frozen=True)
class BackendConfig:
    backend: str = knob("auto", "who makes the coarse mesh", choices=("auto", *BACKENDS))
    device: str = knob(
        "auto",
        "of ReconViaGen: auto and cuda need a GPU, cpu is for networks of a toy's size",
        choices=("auto", "cuda", "cpu"),
    )


@dataclass(frozen=True)
class HullConfig:
    resolution: int = knob(128, "grid points along the longest side, of a hull and of cleaning", 16, 512)
    faces: int = knob(12000, "triangles, at most", 100, 1000000)


@dataclass(frozen=True)
class StereoConfig:
    """Multi-view stereo inside the hull (`stereo/`)."""

    size: int = 400  # pixels along a photo's longer side, at the finer of two scales
    resolution: int = 160  # grid points of the fused surface along its longest side
    bound_resolution: int = 96  # grid points of the hull that bounds the search
    neighbours: int = 6  # photos that each one is compared with
    random_depths: int = 24  # first guesses per pixel, at the coarser scale
    coarse_passes: int = 4
    fine_passes: int = 3
    seed: int = 0


@dataclass(frozen=True)
class GeneratedConfig:
    """What is done to a generated mesh before the next stages use it."""

    clean: bool = knob(True, "make a generated mesh one solid, without confetti and inner shells")
    least_iou: float = knob(0.7, "mean overlap of its silhouettes with the masks, below which it is refused", 0, 1)


@dataclass(frozen=True)
class SampleConfig:
    """ReconViaGen's two flow samplers, the structure (which voxels) and the latents in it; defaults as in upstream's app."""

    ss_steps: int = knob(30, "ReconViaGen, structure: Euler steps", 1, 1000)
    ss_guidance: float = knob(7.5, "structure: classifier-free guidance, 1 is none", 0, 100)
    ss_rescale: float = knob(
        0.7, "structure: share of the guided prediction brought back to the spread of the unguided", 0, 1
    )
    ss_rescale_t: float = knob(5.0, "structure: more spends more steps near the noise", 0.1, 100)
    slat_steps: int = knob(12, "latents: Euler steps", 1, 1000)
    slat_guidance: float = knob(7.5, "latents: classifier-free guidance, 1 is none", 0, 100)
    slat_rescale: float = knob(0.5, "latents: as for the structure", 0, 1)
    slat_rescale_t: float = knob(3.0, "latents: as for the structure", 0.1, 100)
    guidance_from: float = knob(0.6, "both: guidance acts from this time to 1, the noise", 0, 1)
    seed: int = knob(0, "of ReconViaGen, of the optimiser's order and backgrounds", 0, 1000000)


@dataclass(frozen=True)
class TextureConfig:
    """The first texture of the coarse mesh, whose shape stays."""

    texture_size: int = knob(640, "texels along a side, at most", 64, 8192)
    photo_size: int = knob(320, "pixels along a side of a photo's crop", 32, 4096)
    texture_steps: int = knob(150, "optimiser steps on the texture alone, the shape stays", 0, 100000)
    seed: int = knob(0, "of ReconViaGen, of the optimiser's order and backgrounds", 0, 1000000)


@dataclass(frozen=True)
class AlignConfig:
    """The search for a generated mesh's place among posed photos (`align`)."""

    starts: int = 720  # rotations tried, spread evenly
    upright_starts: int = 72  # more, with the mesh's z along the world's up, where that is known
    kept: int = 12  # best rotations, fitted at the search's size
    finalists: int = 3  # best of these, fitted at the final size
    apart: float = 0.3  # radians, at least, between any two rotations kept
    search_size: int = 40  # pixels along a crop's side
    search_faces: int = 600  # at most
    search_views: int = 8  # at most, as different as possible
    search_steps: int = 50  # optimiser steps
    search_rate: float = 0.05  # radians, log scale and ball radii a step
    final_size: int = 160  # pixels along a crop's side
    final_faces: int = 8000  # at most
    final_views: int = 24  # at most
    final_steps: int = 60  # optimiser steps
    final_rate: float = 0.015  # radians, log scale and ball radii a step
    decay: float = 0.03  # the rate falls to this share at the last step, geometrically
    seed: int = 0  # turns the set of rotations


@dataclass(frozen=True)
class CameraFitConfig:
    """The fit of guessed cameras to photos of a known mesh (`camera_fit`)."""

    focal: str = "shared"  # focal scale: one for all views, one for each, or as guessed
    size: int = 128  # pixels along a crop's side
    faces: int = 6000  # at most
    first_steps: int = 60  # optimiser steps of the similarity that brings all guesses to the mesh as one
    mask_steps: int = 150  # optimiser steps against silhouettes
    mask_rate: float = 0.03  # radians, unit radii and logarithms a step
    search_steps: int = 30  # optimiser steps against silhouettes from each turned start, at half the size
    rounds: int = 4  # times that the mesh is given the photos' mean colours
    round_steps: int = 25  # optimiser steps against colours and silhouettes, each time
    colour_rate: float = 0.004  # radians, unit radii and logarithms a step
    w_colour: float = 1.0  # weight of the colours beside the silhouettes
    decay: float = 0.05  # the rates fall to this share at the last step, geometrically
    texture_size: int = 512  # texels along the atlas' side, at most
