"""Which photos a search places, whether that is enough, and why the others are not placed."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recon_lib.photos.search import focal, mapper
from recon_lib.photos.search.mapper import Matched, Model, Shot
from recon_lib.progress import Progress, part

LEAST_PHOTOS = 3  # fewer are not searched
LEAST_SHARE = 0.8  # of the photos must be placed
LEAST_MEAN, LEAST_EACH = 50, 15  # observations: on average, and of a photo that counts as placed
FEW_FEATURES = 50  # a photo with fewer where they are looked for shows too little texture

Matcher = Callable[[list[Shot], Path, Progress], Matched]
log = logging.getLogger(__name__)


class NotFoundError(ValueError):
    """The cameras were not found; the text says what is wrong with which photos."""


class Registered(NamedTuple):
    """The model that was found, and what is wrong with each photo that is not in it."""

    model: Model
    left_out: dict[int, str]  # by photo


def register(shots: list[Shot], names: list[str], match: Matcher, progress: Progress) -> Registered:
    """Places the photos by matches. Raises NotFoundError where too few are placed, or none of them firmly."""
    with tempfile.TemporaryDirectory() as folder:
        matched = match(shots, Path(folder), part(progress, 0.0, 0.8))
        model = _best(matched, [shot.focal for shot in shots], part(progress, 0.8, 1.0))
    firm = {i: one for i, one in model.placed.items() if one.observations >= LEAST_EACH}
    model = model._replace(placed=firm)
    left_out = {i: _reason(i, matched, model) for i in range(len(shots)) if i not in firm}
    _check(model, left_out, names)
    return Registered(model, left_out)


def _best(matched: Matched, by_exif: list[float | None], progress: Progress) -> Model:
    """The largest model over the starts; the first start under which all photos are placed ends the search."""
    starts = focal.STARTS if None in by_exif else (None,)
    best = Model({}, 0.0)
    for i, start in enumerate(starts):
        progress(i / len(starts), "placing the photos" + (f" from a focal length of {start:g} sides" if start else ""))
        found = mapper.place(matched, start)
        log.info("%d photos placed from focal length %s", len(found.placed), start)
        if found.size > best.size and all(focal.is_plausible(one.focal) for one in found.placed.values()):
            best = found
        if len(best.placed) == len(by_exif):
            break
    return best


def _reason(photo: int, matched: Matched, model: Model) -> str:
    features, partners = matched.features[photo], matched.partners[photo]
    if features < FEW_FEATURES:
        return f"{features} features, needed {FEW_FEATURES}: blurred, dark or without texture"
    if not partners:
        return "no photo that shows the same part of the object"
    placed = {other: count for other, count in partners.items() if other in model.placed}
    if not placed:
        return "matches with photos only that are not placed themselves"
    return f"{max(placed.values())} matches at most with a placed photo, which do not fix a camera: photos between the two help"


def _check(model: Model, left_out: dict[int, str], names: list[str]) -> None:
    count, observed = len(model.placed), [one.observations for one in model.placed.values()]
    if count >= max(LEAST_PHOTOS, LEAST_SHARE * len(names)) and np.mean(observed) >= LEAST_MEAN:
        return
    got = f"{count} of {len(names)} photos placed"
    got += f" by {np.mean(observed):.0f} observations each" if count else ""
    lines = [f"cameras: got {got}, needed {LEAST_SHARE:.0%} of them by {LEAST_MEAN} observations each on average"]
    lines += [f"{names[i]}: {why}" for i, why in left_out.items()]
    raise NotFoundError("\n".join(lines))
