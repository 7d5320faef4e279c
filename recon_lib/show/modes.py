"""Modes of the 3-D views: the mesh in its own colours, by how many photos see it, from where, and where it differs from them.

The maps are stage 4's pictures in the mesh's texture coordinates (`verdict.results`). In the offline viewer they become
pictures in the page, which its script puts on the mesh when a button is pressed; nothing is loaded from anywhere.
"""

import base64
import html
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon_lib.coarse.visibility import EDGE_ON_DEGREES
from recon_lib.mesh import Mesh
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import bake, simplify
from recon_lib.verdict.images import ERROR_SHOWN
from recon_lib.verdict.observed import COLOURS
from recon_lib.verdict.results import FAR

OWN = "original"
# The file of each mode, in the folder of stage 4, and what its colours mean.
LEGENDS = {
    "observed": "; ".join(f'<span style="color:{colour}">■</span> {name}' for name, colour in COLOURS.items()),
    "angle": f"yellow: a photo looks straight at it; dark violet: best at {EDGE_ON_DEGREES}° from its normal; grey: by none",
    "error": f"black: none; yellow: {ERROR_SHOWN:g} of 1 and more, mean of the compared photos; grey: in none of them",
    "deviation": f"black: on the true surface; yellow: {100 * FAR:g} % of its diagonal away and more",
}
STYLE = "position:fixed;left:8px;font:13px system-ui,sans-serif;background:#fffd;padding:4px 8px;border-radius:4px"
SCRIPT = """
(function () {
  const maps = $MAPS, legends = $LEGENDS, textures = {};
  const pick = function (name) {
    if (maps[name] && !textures[name]) {
      textures[name] = new THREE.TextureLoader().load(maps[name], render);
      textures[name].flipY = false;
    }
    scene.traverse(function (node) {
      if (!node.isMesh) return;
      node.userData.own = node.userData.own || node.material.map;
      node.material.map = textures[name] || node.userData.own;
      node.material.needsUpdate = true;
    });
    document.querySelectorAll("#modes button").forEach(b => b.disabled = b.value === name);
    document.getElementById("legend").innerHTML = legends[name] || "";
    render();
  };
  document.querySelectorAll("#modes button").forEach(b => b.addEventListener("click", () => pick(b.value)));
})();
"""


def read(run_dir: Path, mesh: Mesh) -> dict[str, Float[Tensor, "H W 3"]]:
    """The maps that stage 4 made of this mesh, by mode, sRGB; those of another texture are left out."""
    found = {}
    for name in LEGENDS:
        path = run_dir / "metrics" / f"{name}.png"
        if path.exists():
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"), np.float32) / 255)
            if pixels.shape == mesh.texture.shape:
                found[name] = pixels
    return found


def decimated(
    mesh: Mesh, maps: Mapping[str, Float[Tensor, "H W 3"]], most_faces: int, size: int, raster: Rasteriser
) -> tuple[Mesh, dict[str, Float[Tensor, "CH CW 3"]]]:
    """A copy of the mesh with its light in its texture, few enough faces, and the maps in the copy's texture coordinates.

    `size` is the largest side of a new texture in texels; a mesh with few enough faces keeps its own.
    """
    own = bake.bake_light(mesh, raster)
    layers = torch.cat([own.texture, *maps.values()], -1)
    few = simplify.decimated_copy(replace(own, texture=layers), most_faces, size, raster)
    colours, *others = few.texture.split(3, -1)
    return replace(few, texture=colours), dict(zip(maps, others, strict=True))


def add(page: str, maps: Mapping[str, Float[Tensor, "H W 3"]]) -> str:
    """The viewer's page with a button for each map (sRGB, in the texture coordinates of the page's mesh)."""
    if not maps:
        return page
    buttons = "".join(f'<button value="{html.escape(name)}">{html.escape(name)}</button> ' for name in (OWN, *maps))
    uris = {name: _uri(pixels) for name, pixels in maps.items()}
    script = SCRIPT.replace("$MAPS", json.dumps(uris)).replace("$LEGENDS", json.dumps(LEGENDS))
    controls = (
        f'<div id="modes" style="{STYLE};top:8px">{buttons}</div><small id="legend" style="{STYLE};bottom:8px"></small>'
    )
    head, end, rest = page.rpartition("</body>")
    assert end, "the viewer's page has no body"
    return f"{head}{controls}<script>{script}</script>{end}{rest}"


def _uri(pixels: Float[Tensor, "H W 3"]) -> str:
    buffer = io.BytesIO()
    picture = Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().numpy())
    picture.quantize(64).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
