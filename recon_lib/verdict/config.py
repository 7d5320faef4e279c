"""The parameters of stage 4."""

from dataclasses import dataclass

from recon_lib.knobs import knob

LEAST_PSNR_DB = (25.0, 20.0)  # of normal and of warning, in the mask
LEAST_SSIM = (0.85, 0.75)


@dataclass(frozen=True)
class MetricsConfig:
    """What is scored and shown."""

    score_coarse: bool = knob(True, "also score the coarse mesh, to see how much refinement improved it")
    worst: int = knob(3, "number of views shown, the worst first", 1, 50)
