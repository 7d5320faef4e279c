"""The parameters of stage 2. Plain fields are not knobs; they can be set only from Python, in the call of `reconstruct`."""

from dataclasses import dataclass, replace

from recon_lib.knobs import knob

BACKENDS = ("hull", "stereo", "reconviagen")


@dataclass(frozen=True)
class BackendConfig:
    """What makes the coarse mesh, and where it runs."""

    backend: str = knob("auto", "method that makes the coarse mesh", choices=("auto", *BACKENDS))
    device: str = knob(
        "auto",
        "device of stereo and ReconViaGen; for the latter, cpu runs only tiny test networks",
        choices=("auto", "cuda", "cpu"),
    )


@dataclass(frozen=True)
class HullConfig:
    """The grid on which a hull is carved or a generated mesh is cleaned, and the size of the result."""

    resolution: int = knob(128, "grid points along the longest side; stereo's photos and grid grow with it", 16, 512)
    faces: int = knob(12000, "largest number of triangles", 100, 1000000)


@dataclass(frozen=True)
class StereoConfig:
    """Multi-view stereo inside the hull (`stereo/`). `size` and `resolution` are for HullConfig's default (`grown`)."""

    size: int = 400  # pixels along a photo's longer side, at the finer of two scales
    resolution: int = 160  # grid points of the fused surface along its longest side
    bound_resolution: int = 96  # grid points of the hull that bounds the search
    neighbours: int = 6  # photos that each one is compared with
    random_depths: int = 24  # first guesses per pixel, at the coarser scale
    coarse_passes: int = 4
    fine_passes: int = 3
    seed: int = 0

    def grown(self, shape: HullConfig) -> "StereoConfig":
        """With photos and a grid as much finer than the default as the hull's grid is."""
        times = shape.resolution / HullConfig.resolution
        return replace(self, size=2 * round(self.size * times / 2), resolution=round(self.resolution * times))


@dataclass(frozen=True)
class GeneratedConfig:
    """How a generated mesh is cleaned and checked before the next stages use it."""

    clean: bool = knob(True, "turn a generated mesh into one solid without specks and inner shells")
    least_iou: float = knob(0.7, "refuse a mesh whose silhouettes overlap the masks less than this on average", 0, 1)


@dataclass(frozen=True)
class SampleConfig:
    """ReconViaGen's two flow samplers: the structure (which voxels are occupied) and the latents in these voxels.

    The defaults are those of upstream's app.
    """

    ss_steps: int = knob(30, "ReconViaGen, structure: Euler steps", 1, 1000)
    ss_guidance: float = knob(7.5, "structure: strength of classifier-free guidance, 1 is none", 0, 100)
    ss_rescale: float = knob(0.7, "structure: share of the rescaling that undoes guidance's wider spread", 0, 1)
    ss_rescale_t: float = knob(5.0, "structure: larger values spend more steps near the noise", 0.1, 100)
    slat_steps: int = knob(12, "ReconViaGen, latents: Euler steps", 1, 1000)
    slat_guidance: float = knob(7.5, "latents: strength of classifier-free guidance, 1 is none", 0, 100)
    slat_rescale: float = knob(0.5, "latents: as ss_rescale", 0, 1)
    slat_rescale_t: float = knob(3.0, "latents: as ss_rescale_t", 0.1, 100)
    guidance_from: float = knob(0.6, "both samplers: guidance acts from this time to 1, where 1 is pure noise", 0, 1)
    seed: int = knob(0, "seed of ReconViaGen and of the texture's fit", 0, 1000000)


@dataclass(frozen=True)
class TextureConfig:
    """The fit of the coarse mesh's first texture; its shape stays."""

    texture_size: int = knob(640, "largest number of texels along a side of the texture", 64, 8192)
    photo_size: int = knob(320, "pixels along a side of each photo's crop", 32, 4096)
    texture_steps: int = knob(60, "optimiser steps for the texture; the shape stays as it is", 0, 100000)
    seed: int = knob(0, "seed of ReconViaGen and of the texture's fit", 0, 1000000)


@dataclass(frozen=True)
class AlignConfig:
    """The search for a generated mesh's place among posed photos (`align`)."""

    starts: int = 720  # rotations tried, spread evenly
    upright_starts: int = 72  # further rotations with the mesh's z along the world's up, if up is known
    kept: int = 12  # best rotations, which are fitted at the search's size
    finalists: int = 3  # best of these, which are fitted at the final size
    apart: float = 0.3  # least angle between any two rotations kept, radians
    search_size: int = 40  # pixels along a crop's side
    search_faces: int = 600  # largest number of faces
    search_views: int = 8  # largest number of views, chosen as different as possible
    search_steps: int = 50  # optimiser steps
    search_rate: float = 0.05  # radians, log scale and ball radii per step
    final_size: int = 160  # pixels along a crop's side
    final_faces: int = 8000  # largest number of faces
    final_views: int = 24  # largest number of views
    final_steps: int = 60  # optimiser steps
    final_rate: float = 0.015  # radians, log scale and ball radii per step
    decay: float = 0.03  # the rate falls geometrically to this share at the last step
    seed: int = 0  # of the random rotation that turns the whole set of starts


@dataclass(frozen=True)
class CameraFitConfig:
    """The fit of guessed cameras to photos of a known mesh (`camera_fit`)."""

    focal: str = "shared"  # focal scale: one for all views, one for each, or as guessed
    size: int = 128  # pixels along a crop's side
    faces: int = 6000  # largest number of faces
    first_steps: int = 60  # optimiser steps for the one similarity that moves all guesses to the mesh
    mask_steps: int = 150  # optimiser steps against silhouettes
    mask_rate: float = 0.03  # radians, unit radii and logarithms per step
    search_steps: int = 30  # optimiser steps against silhouettes per rotated start, at half the size
    rounds: int = 4  # how often the mesh is painted with the photos' mean colours
    round_steps: int = 25  # optimiser steps against colours and silhouettes per round
    colour_rate: float = 0.004  # radians, unit radii and logarithms per step
    w_colour: float = 1.0  # weight of the colours relative to the silhouettes
    decay: float = 0.05  # the rates fall geometrically to this share at the last step
    texture_size: int = 512  # largest number of texels along the atlas' side
