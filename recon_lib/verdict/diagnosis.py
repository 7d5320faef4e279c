"""Why a mesh does not explain its photos better: causes that were measured, each with what to do about it.

A cause decides nothing; the checks of `judge` do. Each has a strength from 0 to 1, the share of the surface, of the photos or
of the error that it is about, and at most MOST are told, the strongest first. Scores are in the mask unless said otherwise.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from recon_lib import camera
from recon_lib.mesh import Mesh
from recon_lib.verdict import images
from recon_lib.verdict.images import RIM, Comparison
from recon_lib.verdict.light import Turning
from recon_lib.verdict.observed import CLASSES, Observed

MOST = 3
HIDDEN = 0.25  # share of the surface that no used photo shows, from which it is a cause
OVERFIT_DB = 6.0  # by which used photos are explained better than unseen ones
LOW_DB = 25.0  # of PSNR inside the outline; above, there is nothing to explain
RIGHT_OUTLINE, WRONG_OUTLINE = 0.95, 0.9  # overlap of the masks
GLARING, BRIGHTER = 0.85, 0.15  # sRGB mean of a photo's pixel in glare, and by how much its rendering is darker there
IN_GLARE = 0.4  # share of the squared error, from which it is a cause
COARSE_TEXELS = 0.6  # texels per pixel of the photos
INVERTED = 0.5  # by how much the overlap with the inverted mask is better


class Cause(NamedTuple):
    """One cause, in sentences for people and with a name for programs."""

    kind: str
    says: str  # what was found, with its number
    remedy: str  # what to do
    strength: float = 1.0  # 0 to 1


def diagnose(
    held_out: Mapping[str, Comparison], used: Mapping[str, Comparison], light: Turning | None,
    observed: Observed | None, texels_per_pixel: float | None,
) -> list[Cause]:  # fmt: skip
    """The causes that were found, the strongest first; `held_out` are the views that were judged, `used` may be empty."""
    found = [
        *_inverted(held_out), *_outlines(held_out), *_overfit(held_out, used), *_shape(held_out, used), *_glare(held_out),
        *([] if light is None else of_light(light)), *([] if observed is None else _hidden(observed)),
        *_coarse_texture(texels_per_pixel),
    ]  # fmt: skip
    if found and found[0].kind == "masks inverted":  # then every other number is about the background
        return found[:1]
    return sorted(found, key=lambda cause: -cause.strength)[:MOST]


def texels_per_pixel(mesh: Mesh, texels_per_unit: float, views: Mapping[str, Comparison]) -> float:
    """How fine the texture is beside the compared pictures, at the middle of the mesh: median over the views."""
    middle = (mesh.verts.max(0).values + mesh.verts.min(0).values)[None] / 2
    found = []
    for view in views.values():
        _, depth = camera.project(view.view, middle)
        found.append(texels_per_unit * depth.item() / view.view.intrinsics[0, 0].item())
    return float(np.median(found))


def _mean(views: Mapping[str, Comparison]) -> images.Score:
    return images.mean_score([view.score for view in views.values()])


def _inverted(views: Mapping[str, Comparison]) -> list[Cause]:
    better = []
    for view in views.values():
        other = ~view.true_mask
        overlap = (other & view.rendered_mask).sum() / max(1, (other | view.rendered_mask).sum())
        better.append(overlap - view.score.mask_iou)
    gain = float(np.median(better))
    if gain < INVERTED:
        return []
    return [
        Cause(
            "masks inverted",
            f"The masks seem inverted: the mesh overlaps with what lies outside of them by {gain:.0%} more.",
            "Invert the masks: white, or opaque, is the object.",
        )
    ]


def _outlines(views: Mapping[str, Comparison]) -> list[Cause]:
    wrong = [name for name, view in views.items() if view.score.mask_iou < WRONG_OUTLINE]
    if not wrong:
        return []
    few = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    what = (
        "Look at these photos' masks and cameras"
        if len(wrong) < len(views) / 2
        else "Look at all cameras, then at the masks"
    )
    return [
        Cause(
            "silhouettes wrong",
            f"The silhouette is wrong in {len(wrong)} of {len(views)} photos ({few}): it overlaps with the mask by less than "
            f"{WRONG_OUTLINE:.0%}.",
            f"{what}: a mask that lacks a part, or a camera that is off, spoils all photos.",
            len(wrong) / len(views),
        )
    ]


def _overfit(held_out: Mapping[str, Comparison], used: Mapping[str, Comparison]) -> list[Cause]:
    if not used:
        return []
    seen, unseen = _mean(used).psnr_db, _mean(held_out).psnr_db
    if seen - unseen < OVERFIT_DB:
        return []
    return [
        Cause(
            "overfit",
            f"Used photos are explained with {seen:.1f} dB, unseen ones with {unseen:.1f} dB: the mesh has learnt its photos, "
            "not the object.",
            "Take more photos, evenly around the object, or allow the mesh less: fewer steps, more smoothness.",
            min(1.0, (seen - unseen) / 15),
        )
    ]


def _shape(held_out: Mapping[str, Comparison], used: Mapping[str, Comparison]) -> list[Cause]:
    both = [_mean(views) for views in (held_out, used) if views]
    if len(both) < 2 or max(score.psnr_inside_db for score in both) >= LOW_DB:
        return []
    if min(score.mask_iou for score in both) < RIGHT_OUTLINE:
        return []
    unseen, seen = both
    return [
        Cause(
            "shape inside the outline",
            f"Inside the outline, unseen photos are explained with {unseen.psnr_inside_db:.1f} dB and used ones with "
            f"{seen.psnr_inside_db:.1f} dB, although the silhouettes overlap by {unseen.mask_iou:.0%}: the shape inside the "
            "outline is wrong, for example a hollow that no silhouette shows, or the colour changes with the view.",
            "Use `backend: stereo`, photos in focus, and more of them of the place where the error pictures are bright.",
            (LOW_DB - unseen.psnr_inside_db) / LOW_DB,
        )
    ]


def _glare(views: Mapping[str, Comparison]) -> list[Cause]:
    in_glare, total = 0.0, 0.0
    for view in views.values():
        inside = ndimage.binary_erosion(view.true_mask & view.rendered_mask, iterations=RIM)
        squared = ((view.photo - view.rendered) ** 2).mean(-1) * inside
        photo, rendered = view.photo.mean(-1), view.rendered.mean(-1)
        in_glare += squared[(photo > GLARING) & (photo - rendered > BRIGHTER)].sum()
        total += squared.sum()
    share = in_glare / max(total, 1e-12)
    if share < IN_GLARE or _mean(views).psnr_inside_db > LOW_DB + 5:
        return []
    return [
        Cause(
            "glare",
            f"{share:.0%} of the error inside the outline sits in glare: places that are nearly white in the photo and darker "
            "in the rendering.",
            "Light the object from all sides (a tent, an overcast sky), use a polarising filter, or dull the surface.",
            share,
        )
    ]


def of_light(light: Turning) -> list[Cause]:
    """The cause that the light turned with the camera, if it is seen."""
    if not light.is_seen:
        return []
    return [
        Cause(
            "light turns with the camera",
            f"The light turned with the camera: such a light explains {light.turning:.0%} of the difference in brightness "
            f"between photos and mesh, another light fixed in the world {max(light.fixed, 0):.0%}.",
            "So shading is in the base colour, and the fitted light is wrong. Move the camera around a resting object "
            "under lamps that stay, or light it evenly from all sides (a tent, an overcast sky).",
            float(light.turning),
        )
    ]


def _hidden(observed: Observed) -> list[Cause]:
    unseen = observed.shares()[CLASSES[0]]
    if unseen < HIDDEN:
        return []
    side, share = observed.unseen_side()
    return [
        Cause(
            "surface unseen",
            f"Cameras see {1 - unseen:.0%} of the surface; {share:.0%} of the rest is the {side}.",
            f"Take photos of the {side}; what no photo shows is invented.",
            unseen,
        )
    ]


def _coarse_texture(texels_per_pixel: float | None) -> list[Cause]:
    if texels_per_pixel is None or texels_per_pixel >= COARSE_TEXELS:
        return []
    return [
        Cause(
            "texture coarser than the photos",
            f"The texture has {texels_per_pixel:.2f} texels per pixel of the photos: it cannot hold what they show.",
            "Raise `texture_size` of stage 3, or leave it to follow the photos' size.",
            1 - texels_per_pixel,
        )
    ]
