"""Where each part of a coarse mesh's surface comes from: stereo, the hull, a network; or unseen, where no photo can tell.

Axes: F faces, V vertices.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from recon_lib.camera import Cameras
from recon_lib.coarse import visibility
from recon_lib.mesh import Mesh, face_areas

UNSEEN = "unseen"
NOTHING = 0.005  # a smaller share rounds to 0 %


class Sources(NamedTuple):
    names: tuple[str, ...]  # the last one is UNSEEN
    of_face: Int[np.ndarray, " F"]  # index into names
    areas: Float[np.ndarray, " F"]

    def shares(self) -> dict[str, float]:
        """Of the surface's area, by name; their sum is 1."""
        total = np.bincount(self.of_face, weights=self.areas, minlength=len(self.names)) / self.areas.sum()
        return dict(zip(self.names, total.tolist(), strict=True))

    def sentence(self) -> str:
        """The share that no photo sees, in words."""
        unseen = self.shares()[UNSEEN]
        if unseen < NOTHING:
            return "Photos see all of its surface."
        return f"No photo sees {unseen:.0%} of its surface, which is therefore a guess."


def of_mesh(
    mesh: Mesh, cameras: Cameras, names: tuple[str, ...], first: Bool[np.ndarray, " V"] | None = None
) -> Sources:
    """A face is of the first source where most of its corners are in `first`, else of the last; `names` are one or two."""
    of_face = np.full(len(mesh.faces), len(names) - 1)
    if first is not None:
        of_face[first[mesh.faces.numpy()].sum(1) >= 2] = 0
    of_face[visibility.views_of_faces(mesh, cameras) == 0] = len(names)
    return Sources((*names, UNSEEN), of_face, face_areas(mesh.verts, mesh.faces).double().numpy())
