"""What pictures that reconstruct nothing score against the same photos: without these, nobody knows what a score is worth.

`blank` is white. `silhouette` is the true mask in the mean colour of its photo: the best flat picture that there is. `moved` is
the photo itself, 3 pixels to the right: sharp and true in colour, yet not in its place.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from recon_lib.verdict import images
from recon_lib.verdict.images import Comparison, Score

BLANK, SILHOUETTE, MOVED = "blank", "silhouette", "moved"
MOVED_PIXELS = 3  # of the compared pictures
MOST_VIEWS = 8  # that are scored so, evenly chosen: a floor need not be known exactly


def of(views: Mapping[str, Comparison]) -> dict[str, Score]:
    """The mean scores of each picture, by its name, over at most MOST_VIEWS of the views."""
    found: dict[str, list[Score]] = {BLANK: [], SILHOUETTE: [], MOVED: []}
    for view in _chosen(views):
        for name, (picture, mask) in _pictures(view.photo, view.true_mask).items():
            found[name].append(images.score(view.photo, picture, view.true_mask, mask, view.around))
    return {name: images.mean_score(scores) for name, scores in found.items()}


def mean_of_same(views: Mapping[str, Comparison]) -> Score:
    """The mesh's own mean over the views that `of` takes."""
    return images.mean_score([view.score for view in _chosen(views)])


def _chosen(views: Mapping[str, Comparison]) -> list[Comparison]:
    given = list(views.values())
    return [
        given[i] for i in np.unique(np.linspace(0, len(given) - 1, min(MOST_VIEWS, len(given))).round().astype(int))
    ]


def _pictures(
    photo: Float[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]
) -> dict[str, tuple[Float[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]]:
    """Each picture with its mask."""
    flat, moved, moved_mask = np.ones_like(photo), np.ones_like(photo), np.zeros_like(mask)
    flat[mask] = photo[mask].mean(0)
    moved[:, MOVED_PIXELS:], moved_mask[:, MOVED_PIXELS:] = photo[:, :-MOVED_PIXELS], mask[:, :-MOVED_PIXELS]
    return {
        BLANK: (np.ones_like(photo), np.zeros_like(mask)),
        SILHOUETTE: (flat, mask),
        MOVED: (moved, moved_mask),
    }
