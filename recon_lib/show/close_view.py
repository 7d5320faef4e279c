"""The notebook's cell that shows `inspector.Inspector`, and beside it the picture that stands for it."""

import io
from collections.abc import Mapping

from IPython.display import display
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon_lib import progress
from recon_lib.mesh import Mesh
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.show import still, stills
from recon_lib.surface import placement

STILL = 400  # pixels along a side of the picture


def show(
    mesh: Mesh, photos: Scene, raster: Rasteriser, before: Mesh | None = None,
    maps: Mapping[str, Float[Tensor, "H W 3"]] | None = None,
) -> None:  # fmt: skip
    """Shows the view of `inspector.Inspector` of a mesh in the world; does nothing in a kernel that nobody watches."""
    if not progress.watched():
        return
    from recon_lib.show.inspector import Inspector

    display(Inspector(mesh, photos, raster, before, maps).widget)
    picture = io.BytesIO()
    (front,) = stills.turntable(placement.stand_upright(mesh, photos.up), 1, STILL, raster)
    Image.fromarray(front).save(picture, "PNG")
    display(still.still("recon-inspector", "The viewer; run the cell to turn it", picture.getvalue()))
