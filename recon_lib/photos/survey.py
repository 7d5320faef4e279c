"""What a run would read of a folder, found out without decoding its photos: names, headers, masks, sizes, turns, up and split.

Everything that can be wrong with the input is found here, but for what only pixels show. A few masks are decoded, small, to see
whether they show the object or the background.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recon_lib.photos import (
    decode,
    distortion,
    forms,
    headers,
    listing,
    masks,
    matte,
    poses,
    silhouettes,
    sizes,
    splits,
    turns,
    up,
)
from recon_lib.photos.config import IngestConfig
from recon_lib.photos.findings import Problem, counted, finding, named, of_error, problem
from recon_lib.photos.folder import Folder
from recon_lib.photos.headers import Header
from recon_lib.photos.listing import Listing, PosedPhoto
from recon_lib.photos.sizes import Size
from recon_lib.photos.turns import Lying, Turnable

MOST_MASKS = 12  # are decoded to see whether they are inverted
ONE_BODY = 0.85  # agreement of silhouettes that are those of one body


class Planned(NamedTuple):
    """One photo, and how it is to be decoded."""

    photo: PosedPhoto
    lying: Lying
    mask: str | None
    stored: Size | None  # size of the stored pixels to shrink to; None: as they are
    size: Size  # of the turned, shrunk photo
    mask_lossy: bool
    intrinsics: sizes.Intrinsics | None  # fx fy cx cy of the turned, shrunk photo
    notes: tuple[str, ...]  # keys of ingest.CONVERSIONS


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found; with problems, `planned` is incomplete."""

    folder: Folder
    listed: Listing
    planned: tuple[Planned, ...]
    held_out: np.ndarray  # bool per photo
    up: np.ndarray  # unit vector in the world
    offset: np.ndarray  # was subtracted from the cameras' positions
    inverted: bool  # the masks show the background in white
    problems: tuple[Problem, ...]
    findings: tuple[dict, ...]


def survey(folder: Folder, config: IngestConfig) -> Survey:
    """Finds the form of the folder, and everything about its photos that needs no pixel."""
    listed = forms.read(folder, config.max_total_mb * 1e6)
    problems = [*listed.problems, *listing.check_missing(listed)]
    mask_of, unclear = masks.find(folder, listed.photos)
    problems += [*unclear, *listing.duplicates(listed.photos)]
    found_headers, wrong = _read_headers(folder, listed, mask_of, config)
    problems += wrong
    planned, wrong = _plan(folder, listed, mask_of, found_headers, config)
    problems += wrong
    T = np.stack([photo.T_world_cam for photo in listed.photos]) if _posed(listed) else np.zeros((0, 4, 4))
    direction, up_findings, wrong = up.choose(listed, T, config.up)
    problems += wrong
    split = splits.choose(listed, config.holdout_every)
    # If some photos could not be listed, a complaint about their number would mislead.
    problems += [] if problems else split.problems
    offset = poses.far_offset(T) if len(T) else np.zeros(3)
    inverted = not problems and _inverted(folder, planned)
    found = [*listed.findings, *_missing(listed)]
    labels = [photo.label for photo in listed.photos]
    if labels:
        held = [label for label, out in zip(labels, split.held_out, strict=True) if out]
        found.append(finding("photos", f"{counted(len(labels), 'photo')} used", labels))
        found.append(finding("split", f"{len(held)} of {len(labels)} photos held out: {split.rule}", held))
        found += up_findings
    if offset.any():
        place = ", ".join(f"{value:.0f}" for value in offset)
        found.append(
            finding("offset", f"coordinates far from the origin: ({place}) was taken off, and is kept for exports")
        )
    found += _ignored(folder, listed, mask_of)
    unique = tuple(dict.fromkeys(problems))
    return Survey(folder, listed, tuple(planned), split.held_out, direction, offset, inverted, unique, tuple(found))


def _posed(listed: Listing) -> bool:
    return bool(listed.photos) and not listed.unposed


def _missing(listed: Listing) -> list[dict]:
    if not listed.missing:
        return []
    files = [one.file for one in listed.missing]
    all_of = len(listed.missing) + len(listed.photos)
    text = f"{len(files)} of {all_of} cameras left out, as they have no photo ({named(files)})"
    return [finding("missing", text, files)]


def _read_headers(
    folder: Folder, listed: Listing, mask_of: dict[str, tuple[str, str]], config: IngestConfig
) -> tuple[dict[str, Header], list[Problem]]:
    """The headers of photos and masks by label, as far as they can be read, and the problems."""
    found, problems = {}, []
    of_masks = {mask: folder.path(mask) for mask, _ in mask_of.values()}
    for label, path in ({photo.label: photo.path for photo in listed.photos} | of_masks).items():
        try:
            found[label] = headers.read_header(path, config.max_file_mb, config.max_megapixels)
        except ValueError as e:
            problems += of_error(label, e)
    for field, total, limit, unit in (
        ("bytes", sum(h.bytes for h in found.values()) / 1e6, config.max_total_mb, "MB"),
        (
            "pixels",
            sum(math.prod(h.stored_size) for h in found.values()) / 1e6,
            config.max_total_megapixels,
            "megapixels",
        ),
    ):
        if total > limit:
            problems.append(problem("all files", field, f"{total:.1f} {unit}", f"at most {limit:g} {unit} in all"))
    of_photos = [found[photo.label] for photo in listed.photos if photo.label in found]
    if listed.canonical_rig and len(of_photos) == len(listed.photos):
        width = Counter(h.upright_size[0] for h in of_photos).most_common(1)[0][0]
        for photo, h in zip(listed.photos, of_photos, strict=True):
            if h.upright_size != (width, width):
                needed = f"{sizes.by((width, width))}: the six are square and of one size"
                problems.append(problem(photo.label, "size", sizes.by(h.upright_size), needed))
    return found, problems


def _plan(
    folder: Folder, listed: Listing, mask_of: dict[str, tuple[str, str]], header_of: dict[str, Header],
    config: IngestConfig,
) -> tuple[list[Planned], list[Problem]]:  # fmt: skip
    problems = []
    turnable = []
    for photo in listed.photos:
        mask = mask_of.get(photo.label, (None,))[0]
        header = header_of.get(photo.label)
        if header is None or (mask is not None and mask not in header_of):
            continue
        if mask is None and not header.has_alpha and config.make_masks == "never":
            problems.append(problem(photo.label, "mask", f"neither {masks.TRIED}", "one of them"))
            continue
        path = None if mask is None else folder.path(mask)
        turnable.append(Turnable(photo, header, path, None if mask is None else header_of[mask]))
    try:
        lyings = turns.decide(turnable, listed.stored_pixels)
    except ValueError:  # a damaged file among those that were looked at; decoding names it
        lyings = [Lying(1, 1, "") for _ in turnable]
    used = [_size(view.header.stored_size, lying.photo) for view, lying in zip(turnable, lyings, strict=True)]
    exact = {view.photo.size for view, size in zip(turnable, used, strict=True) if view.photo.size == size}
    planned = []
    for view, lying, size in zip(turnable, lyings, used, strict=True):
        mask, where = mask_of.get(view.photo.label, (None, masks.OWN if view.header.has_alpha else masks.NONE))
        try:
            k, notes = _intrinsics(view, size, exact)
            _check_mask_size(view, lying, mask, size)
        except ValueError as e:
            problems += of_error(view.photo.label, e)
            continue
        told = [lying.told] if lying.told and (lying.told != turns.BY_SIZE or lying.photo == 1) else []
        notes = (*view.photo.notes, *([where] if where else []), *notes, *told)
        stored, small = _shrunk(view.header.stored_size, config.max_side), _shrunk(size, config.max_side)
        if k is not None and small != size:
            sx, sy = small[0] / size[0], small[1] / size[1]
            k = (k[0] * sx, k[1] * sy, k[2] * sx, k[3] * sy)
        if mask is not None and _size(view.mask_header.stored_size, lying.mask) != size:
            notes += ("mask_scaled",)
        notes += ("shrunk",) if small != size else ()
        lens = view.photo.lens
        notes += () if lens is None or lens.distortion.is_none else ("undistorted",)
        lossy = view.mask_header is not None and view.mask_header.is_lossy
        planned.append(Planned(view.photo, lying, mask, stored if small != size else None, small, lossy, k, notes))
    return planned, problems


def _intrinsics(view: Turnable, size: Size, exact: set[Size | None]) -> tuple[sizes.Intrinsics | None, tuple[str, ...]]:
    photo = view.photo
    if photo.lens is None:
        return None, ()
    given = photo.size or size
    k, notes = sizes.follow(listing.intrinsics(photo.lens, *given), given, size, given not in exact)
    sizes.check_principal_point(k, size, photo.size is not None)
    if not photo.lens.distortion.is_none and distortion.folds(photo.lens.distortion, k, *size):
        lens = photo.lens.distortion
        raise ValueError(
            f"distortion: got {lens.radial} and {lens.tangential} for k1 k2 … and p1 p2, which fold the photo over inside the "
            "frame, needed a lens that shows every point once: calibrate again"
        )
    return k, notes


def _check_mask_size(view: Turnable, lying: Lying, mask: str | None, size: Size) -> None:
    if mask is None:
        return
    got = _size(view.mask_header.stored_size, lying.mask)
    if abs(got[0] * size[1] - got[1] * size[0]) > max(*got, *size):
        raise ValueError(f"mask: got {sizes.by(got)} in {mask}, needed {sizes.by(size)} as the photo")


def _size(stored: Size, turn: int) -> Size:
    return stored[::-1] if turn >= 5 else stored


def _shrunk(size: Size, max_side: int) -> Size:
    if not 0 < max_side < max(size):
        return size
    scale = max_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _inverted(folder: Folder, planned: list[Planned]) -> bool:
    """Whether the masks look inverted and, where there are cameras, one body can have all the silhouettes in black."""
    masked = [one for one in planned if one.mask is not None]
    few = masked[:: max(1, len(masked) // MOST_MASKS)]
    try:
        alphas = [decode.read_mask(folder.path(one.mask), one.lying.mask) for one in few]
    except ValueError:  # decoding names the damaged file
        return False
    if not few or not matte.is_inverted(alphas):
        return False
    if few[0].intrinsics is None:
        return True
    black = [silhouettes.small(255 - alpha) for alpha in alphas]
    poses_of, k = [one.photo.T_world_cam for one in few], [one.intrinsics for one in few]
    cameras = silhouettes.small_cameras(poses_of, k, [one.size for one in few], black)
    return silhouettes.agreement(black, cameras) > ONE_BODY


def _ignored(folder: Folder, listed: Listing, mask_of: dict[str, tuple[str, str]]) -> list[dict]:
    read = {photo.label for photo in listed.photos} | {mask for mask, _ in mask_of.values()}
    rest = [label for label in folder.labels if label not in read and not forms.is_source(label)]
    rest = [label for label in rest if label not in listed.sources]
    kinds = defaultdict(list)
    for label in rest:
        kinds[", as no camera names them" if forms.looks_like_photo(label, listed) else ""].append(label)
    found = []
    for why, names in kinds.items():
        text = f"{counted(len(names), 'file')} not used{why} ({named(names)})"
        found.append(finding("ignored", text, names))
    if folder.hidden:
        found.append(finding("ignored", f"{counted(len(folder.hidden), 'hidden file')} not looked at", folder.hidden))
    return found
