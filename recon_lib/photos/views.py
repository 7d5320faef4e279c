"""Decodes the photos of a survey in parallel: masked, turned, shrunk, and freed of lens distortion."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from recon_lib.photos import cutout, decode, masks, matte
from recon_lib.photos.findings import Problem, of_error
from recon_lib.photos.survey import Planned, Survey
from recon_lib.photos.undistort import undistort
from recon_lib.progress import Progress


class View(NamedTuple):
    """One photo as the scene holds it."""

    rgba: UInt8[np.ndarray, "H W 4"]  # straight alpha, sRGB
    notes: tuple[str, ...]  # keys of ingest.CONVERSIONS


def decode_all(found: Survey, make: cutout.Maker | None, progress: Progress) -> tuple[list[View], list[Problem]]:
    """The photos that can be read, in order, and the problems; `make` makes the masks of photos without."""
    views: list[View] = []
    problems: list[Problem] = []
    for done, (planned, outcome) in enumerate(_in_parallel(found, make), start=1):
        if isinstance(outcome, ValueError):
            problems += of_error(planned.photo.label, outcome)
        else:
            views.append(outcome)
        progress(done / len(found.planned), planned.photo.label)
    return views, problems


def _in_parallel(found: Survey, make: cutout.Maker | None) -> Iterator[tuple[Planned, View | ValueError]]:
    def outcome(planned: Planned) -> View | ValueError:
        try:
            return _read(found, planned, make)
        except ValueError as e:
            return e

    # A few photos at a time, so that no more than those are held at full size.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from zip(found.planned, pool.map(outcome, found.planned), strict=True)


def _read(found: Survey, planned: Planned, make: cutout.Maker | None) -> View:
    turn, shrunk = planned.lying.photo, planned.stored
    rgba, notes = decode.read_rgba(planned.photo.path, turn, shrunk)
    if planned.mask is not None:
        height, width = rgba.shape[:2]
        size = (height, width) if planned.lying.mask >= 5 else (width, height)
        alpha = decode.read_mask(found.folder.path(planned.mask), planned.lying.mask, size)
    elif (rgba[..., 3] == 255).all():
        if make is None:
            raise ValueError("mask: got neither transparency nor a mask file, needed one of them")
        made = make(rgba, planned.photo.label)
        rgba = np.dstack([rgba[..., :3], made.alpha])
        alpha, notes = made.alpha, (*notes, *made.notes)
        planned = planned._replace(notes=tuple(note for note in planned.notes if note != masks.OWN))
    else:
        alpha = rgba[..., 3]
    stretched = alpha if planned.mask is None else matte.stretch(alpha)
    notes += () if stretched is alpha else (matte.STRETCHED,)
    alpha = stretched
    if cutout.EMPTY in notes:  # the hull of the others decides what becomes of the photo
        return View(rgba, (*planned.notes, *notes))
    decode.check_mask(alpha)
    alpha, cleaned = matte.clean(alpha, found.inverted and planned.mask is not None, planned.mask_lossy)
    decode.check_mask(alpha)
    if planned.mask is not None or cleaned:
        rgba[..., 3] = alpha
    notes = (*planned.notes, *notes, *cleaned)
    lens = planned.photo.lens
    if lens is None or lens.distortion.is_none:
        return View(rgba, notes)
    before = int((rgba[..., 3] > 127).sum())
    rgba = undistort(rgba, planned.intrinsics, lens.distortion)
    after = int((rgba[..., 3] > 127).sum())
    # The object may lie completely where the lens saw nothing, or where a pinhole camera of this focal length does not reach.
    if not after:
        raise ValueError(f"distortion: got {lens.distortion}, needed a lens that keeps the object in the photo")
    return View(rgba, (*notes, "cut") if lens.distortion.fisheye and after < 0.5 * before else notes)
