"""How far a mean over few views can be believed: percentile bootstrap over the views (Efron 1979), 95 %.

The views are resampled, not the pixels: pixels of one view are not independent.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from recon_lib.verdict.images import Score

CONFIDENCE, RESAMPLES = 0.95, 2000


def of_means(scores: Sequence[Score], seed: int = 0) -> dict[str, tuple[float, float]]:
    """The interval of each score's mean, by its name; of a single view it has no width."""
    table = np.array(scores)
    if len(table) < 2:
        return {name: (value, value) for name, value in zip(Score._fields, table[0].tolist(), strict=True)}
    found = stats.bootstrap(
        (table,), np.mean, axis=0, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return {
        name: (float(low), float(high)) for name, low, high in zip(Score._fields, found.low, found.high, strict=True)
    }
