"""In what a rendering differs from its photo: in its place, or in its tone. Each measure is blind to the other.

The place is the centroid of the mask. The tone is one exponent for all views: the rendering's sRGB values to this power have
the photo's mean. It is 1 where the brightness is right, about 2.2 where colours were encoded twice (washed out) and about 0.45
where they were not encoded at all (too dark). A mean is blind to blur and to texture that is a little out of place.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from scipy import ndimage, optimize

from recon_lib.verdict.images import RIM, Comparison

MOST_EXPONENT = 8.0  # and one over it the least
NOWHERE = 1e3  # pixels; the offset of a rendering that shows nothing


def offset_pixels(view: Comparison) -> Float[np.ndarray, "2"]:
    """From the photo's mask to the rendering's, x right and y down, pixels of the compared pictures."""
    if not view.rendered_mask.any():
        return np.full(2, NOWHERE)
    true, rendered = (np.argwhere(mask).mean(0) for mask in (view.true_mask, view.rendered_mask))
    return (rendered - true)[::-1]


def exponent(views: Iterable[Comparison]) -> float:
    """The tone's exponent, from the pixels farther than RIM inside both masks; 1 where there is none."""
    photos, rendered = [], []
    for view in views:
        inside = ndimage.binary_erosion(view.true_mask & view.rendered_mask, iterations=RIM)
        photos.append(view.photo[inside].ravel())
        rendered.append(view.rendered[inside].ravel().clip(1e-3, 1))
    photo, dark = np.concatenate(photos), np.concatenate(rendered)
    if len(photo) == 0:
        return 1.0
    wanted = photo.mean()
    # In the exponent's logarithm, because too bright and too dark by one factor then lie as far from 0.
    low, high = -np.log(MOST_EXPONENT), np.log(MOST_EXPONENT)
    if (dark ** np.exp(high)).mean() >= wanted:
        return MOST_EXPONENT
    if (dark ** np.exp(low)).mean() <= wanted:
        return 1 / MOST_EXPONENT
    return float(np.exp(optimize.brentq(lambda x: (dark ** np.exp(x)).mean() - wanted, low, high)))
