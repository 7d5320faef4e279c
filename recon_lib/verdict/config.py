"""What can be asked of stage 4."""

from dataclasses import dataclass

from recon_lib.knobs import knob


@dataclass(frozen=True)
class MetricsConfig:
    score_coarse: bool = knob(True, "also score the coarse mesh, to see what refinement is worth")
    worst: int = knob(3, "views shown, worst first", 1, 50)
