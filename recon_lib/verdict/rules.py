"""What a mesh must be as a body and what its texture must be: measures become checks, each with a value, a limit and a status.

Where a number is neither good nor bad, such as the genus, its limit is "any". Volume and size are in world units, or in metres
where the photos' scale is known.
"""

import numpy as np
from jaxtyping import Int

from recon_lib.surface.atlas import Atlas
from recon_lib.surface.checks import MeshChecks
from recon_lib.surface.solid import Solid
from recon_lib.verdict import record, texels
from recon_lib.verdict.observed import CLASSES, SLANTED_DEGREES, WRONG, Observed
from recon_lib.verdict.record import Check

UNKNOWN_SCALE = "units, unknown scale"
MOST_OVERLAP = 0.01  # share of the covered texels: two faces then get one colour
MOST_FLAT = 0.01  # share of the faces that have no area in the texture
MOST_STRETCH = 2.0  # a face's largest scaling over its smallest
MOST_SEAM_JUMP = 0.1  # sRGB; visible as a line


def of_solid(counts: MeshChecks, solid: Solid, metres_per_unit: float | None = None) -> list[Check]:
    """The checks of a mesh as a body."""
    known = metres_per_unit is not None
    scale, unit, cubed = (metres_per_unit, "m", "m³") if known else (1.0, UNKNOWN_SCALE, f"cubic {UNKNOWN_SCALE}")
    volume = None if solid.volume is None else solid.volume * scale**3
    outside_in = volume is not None and volume < 0
    return [
        *of_counts(counts),
        record.told("boundary loops", solid.boundary_loops),
        record.told("length of the boundary", solid.boundary_length * scale, unit),
        record.told("share of the largest body", solid.largest_body_share, "of the area"),
        *([] if solid.genus is None else [record.told("genus", solid.genus)]),
        record.exactly("self-intersecting faces", solid.self_intersecting_faces, 0),
        record.told("sliver faces", solid.sliver_faces),
        Check("volume", volume, "> 0" if volume is not None else "any", cubed,
              "failure" if outside_in else "normal"),
        *(record.told(f"size along {axis}", length * scale, unit) for axis, length in zip("xyz", solid.size, strict=True)),
        record.told("faces", solid.faces),
    ]  # fmt: skip


def of_counts(counts: MeshChecks) -> list[Check]:
    """The checks whether a mesh is a solid."""
    return [
        record.exactly("open edges", counts.open_edges, 0),
        record.exactly("non-manifold edges", counts.non_manifold_edges, 0),
        record.exactly("non-manifold vertices", counts.non_manifold_vertices, 0),
        record.exactly("inconsistently wound edges", counts.flipped_edges, 0),
        record.exactly("bodies", counts.bodies, 1),
        record.exactly("degenerate faces", counts.degenerate_faces, 0),
        record.exactly("non-finite vertices", counts.non_finite_vertices, 0, otherwise="failure"),
    ]


def of_atlas(atlas: Atlas, faces: int) -> list[Check]:
    """The checks of a texture; `faces` is the mesh's number of them."""
    low, median, high = atlas.texels_per_unit
    return [
        record.told("texture width", atlas.width, "texels"),
        record.told("texture height", atlas.height, "texels"),
        record.told("texture used", atlas.coverage, "of the texels"),
        record.at_most("texture overlap", atlas.overlap, MOST_OVERLAP, unit="of the used texels"),
        record.exactly("faces outside of the texture", atlas.outside_faces, 0),
        record.at_most("faces without texture area", atlas.flat_faces / faces, MOST_FLAT, unit="of all faces"),
        record.told("charts", atlas.charts),
        record.told("texel density, 1st percentile", low, "texels per unit"),
        record.told("texel density, median", median, "texels per unit"),
        record.told("texel density, 99th percentile", high, "texels per unit"),
        record.at_most("texture stretch, median", atlas.stretch, MOST_STRETCH),
        record.at_most("colour jump at seams", atlas.seam_jump, MOST_SEAM_JUMP),
        record.exactly("texels out of range", atlas.out_of_range, 0),
    ]


def of_observed(found: Observed, most_unseen: float) -> list[Check]:
    """The check of what no photo shows, and the shares by number of photos."""
    shares = found.shares()
    side, share = found.unseen_side()
    unit = f"of the area, {100 * share:.0f} % of it on the {side}" if side else "of the area"
    return [
        record.at_most("surface that no used photo shows", shares[CLASSES[0]], most_unseen, unit=unit),
        *(record.told(f"surface shown by {name}", shares[name], "of the area") for name in CLASSES[1:]),
        record.told(
            f"surface shown, but only from more than {SLANTED_DEGREES}° beside its normal",
            found.slanted(),
            "of the area",
        ),
        record.told(
            f"surface that differs from its photos by more than {WRONG:g} of 1", found.wrong(), "of the compared area"
        ),
    ]


def of_texels(photos: Int[np.ndarray, " N"]) -> list[Check]:
    """By how many used photos texels were seen."""
    return [
        record.told(f"texels shown by {name}", share, "of those on faces")
        for name, share in texels.shares(photos).items()
    ]
