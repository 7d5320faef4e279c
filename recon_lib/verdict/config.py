"""The parameters of stage 4."""

from dataclasses import dataclass

from recon_lib.knobs import knob


@dataclass(frozen=True)
class MetricsConfig:
    """What is scored and shown."""

    score_coarse: bool = knob(True, "also score the coarse mesh, to see how much refinement improved it")
    worst: int = knob(3, "number of views shown, the worst first", 1, 50)
    used_views: int = knob(8, "used photos that are scored beside the held-out ones, evenly chosen", 0, 1000)
    reference: str = knob("", "mesh file of the true surface in the photos' world, if there is one", is_path=True)
    search_s: float = knob(10.0, "seconds after which the search for self-intersections is given up", 0, 3600)


@dataclass(frozen=True)
class Limits:
    """What the verdict needs. Scores are in the mask, means over views."""

    psnr_normal_db: float = knob(25.0, "least PSNR in the mask of a normal mesh, dB", 0, 100)
    psnr_warning_db: float = knob(20.0, "less is a failure, dB", 0, 100)
    ssim_normal: float = knob(0.85, "least SSIM in the mask of a normal mesh", 0, 1)
    ssim_warning: float = knob(0.75, "less is a failure", 0, 1)
    least_iou: float = knob(0.95, "least overlap of true and rendered mask of a normal mesh", 0, 1)
    most_offset: float = knob(1.0, "pixels, most by which renderings lie beside their photos", 0, 1000)
    most_unseen: float = knob(0.25, "largest share of the surface that no used photo shows", 0, 1)
