"""Which photos are held out for the verdict: as the data says, or one in so many, or none."""

from typing import NamedTuple

import numpy as np

from recon_lib.photos.findings import Problem, problem
from recon_lib.photos.listing import Listing

LEAST_TO_HOLD_OUT = 10  # with fewer photos than this, none is held out


class Split(NamedTuple):
    """The split, in words as well, and what is wrong with it."""

    held_out: np.ndarray  # bool per photo
    rule: str
    problems: tuple[Problem, ...]


def choose(listed: Listing, every: int) -> Split:
    """The split of the listed photos; the last of `every` is held out where the data does not say, 0 for none."""
    count = len(listed.photos)
    held_out = np.zeros(count, bool)
    if listed.canonical_rig:
        rule = "the canonical six are all used"
    elif listed.unposed:
        rule = "without cameras, all are used to find them"
    elif any(photo.held_out is not None for photo in listed.photos):
        held_out = np.array([bool(photo.held_out) for photo in listed.photos])
        rule = "as given by the data"
    elif count < LEAST_TO_HOLD_OUT:
        rule = f"of fewer than {LEAST_TO_HOLD_OUT} all are used"
    elif every == 0:
        rule = "holdout_every is 0"
    else:
        held_out = np.arange(count) % every == every - 1  # so that the first photo is used
        rule = f"the last of every {every}, in order"
    used = count - int(held_out.sum())
    if count < (1 if listed.unposed else 2):
        return Split(held_out, rule, (problem("photos", "views", count, "at least 2"),))
    if used < 2 and not listed.unposed:
        got = f"{used} used and {count - used} held out"
        return Split(held_out, rule, (problem("photos", "views", got, "at least 2 used"),))
    return Split(held_out, rule, ())
