"""The history of a fit as a table: the losses of each step, and the validation score of the steps where it was measured."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib.refine import fit


def table(rows: list[tuple[int, Tensor]]) -> Float[np.ndarray, "R C"]:
    """Rows of (step, losses) as one array: the first column is the step, the others are fit.LOSSES."""
    if not rows:
        return np.zeros((0, 1 + len(fit.LOSSES)))
    steps = np.array([step for step, _ in rows], float)
    return np.column_stack([steps, torch.stack([row for _, row in rows]).cpu().double().numpy()])


def csv(rows: list[tuple[int, Tensor]], validation: list[tuple[int, float]]) -> str:
    """The history as CSV, one line per step: step, losses, PSNR on the validation photos (dB; empty if not measured)."""
    scores = dict(validation)
    lines = [",".join(("step", *fit.LOSSES, "validation_psnr_db"))]
    for row in table(rows):
        score = scores.get(int(row[0]))
        lines.append(",".join([f"{value:.7g}" for value in row] + ["" if score is None else f"{score:.6g}"]))
    return "\n".join(lines) + "\n"
