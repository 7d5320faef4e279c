"""`python tests/record_golden.py FOLDER` on a machine with a GPU and nvdiffrast 0.4: the fixtures in tests/golden.

Small scenes go through the four operations of nvdiffrast, forward and backward; `tests/test_golden.py` holds the CPU
backend against the results. Each file also has the inputs, except for the random ones, which `golden_draws` draws again. The
output of antialiasing is stored as its difference from the input, which is 0 nearly everywhere. There is one view per scene:
with two, nvdiffrast 0.4 gave part of one view's position gradients to the other. Faces seen edge-on get no weight, because
float32 leaves no correct digits in their gradients.
"""

import sys
from pathlib import Path

import golden_draws
import numpy as np
import torch

from recon_lib import camera, mesh, render
from recon_lib.raster import cuda


def scene(subdivisions: int, width: int, height: int):
    """A wavy ball seen by a camera; few large faces or many small ones."""
    ball = mesh.icosphere(subdivisions)
    verts = 0.5 * ball.verts * (1 + 0.1 * torch.sin(5 * ball.verts).sum(-1, keepdim=True))
    cameras = camera.cropped(camera.orbit(7, 0.4, 3.0, 0.5, 64)[1:2], torch.tensor([[8.0, 9, 54, 55]]), width, height)
    pos = render.clip_positions(verts, render.views(cameras, verts))
    return verts.cuda(), ball.faces.cuda(), pos.cuda()


def gradients(out: torch.Tensor, weight: torch.Tensor, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gradients of the weighted sum of `out`, by the inputs' names."""
    grads = torch.autograd.grad((out * weight.cuda()).sum(), list(inputs.values()))
    return {f"grad_{name}": grad for name, grad in zip(inputs, grads, strict=True)}


def named(prefix: str, record: dict) -> dict:
    return {f"{prefix}_{name}": value for name, value in record.items()}


def raster_record(subdivisions: int, width: int, height: int) -> dict:
    verts, faces, start = scene(subdivisions, width, height)
    pos = start.clone().requires_grad_(True)
    rast, db = cuda.rasterize(pos, faces, (height, width))
    draws = golden_draws.of_raster(rast.detach().cpu(), db.detach().cpu())
    record = {"draws": golden_draws.fingerprint(draws), "pos": start, "faces": faces, "rast": rast, "db": db}
    record |= named("rast", gradients(torch.cat([rast[..., :2], 0.1 * db], -1), draws["rast_weight"], {"pos": pos}))

    fed, fed_db = rast.detach().requires_grad_(True), db.detach().requires_grad_(True)
    attr = torch.cat([verts, verts.square()], -1)[None].requires_grad_(True)
    out, da = cuda.interpolate(attr, fed, faces, fed_db, (0, 4))
    record |= {"attr": attr, "interpolated": out, "interpolated_da": da}
    inputs = {"attr": attr, "rast": fed, "db": fed_db}
    record |= named("interpolated", gradients(torch.cat([out, da], -1), draws["interpolated_weight"], inputs))

    colour = draws["colour"].cuda().requires_grad_(True)
    moving = pos.detach().requires_grad_(True)
    blended = cuda.antialias(colour, rast.detach(), moving, faces)
    grads = gradients(blended, draws["antialiased_weight"], {"colour": colour, "pos": moving})
    record |= {"antialiased_change": blended - colour, "antialiased_grad_pos": grads["grad_pos"]}
    return record | {"antialiased_grad_colour_change": grads["grad_colour"] - draws["antialiased_weight"].cuda()}


def texture_record() -> dict:
    draws = golden_draws.of_texture()
    record = {"draws": golden_draws.fingerprint(draws)}
    for name, (mode, boundary, with_stack) in golden_draws.LOOKUPS.items():
        is_cube, is_mip = boundary == "cube", "mipmap" in mode
        tex = draws["cube" if is_cube else "flat"].cuda().requires_grad_(True)
        at = draws["direction" if is_cube else "uv"].cuda().requires_grad_(mode != "nearest")
        slopes = mode == "linear-mipmap-linear"
        da = draws["uv_da"].cuda().requires_grad_(slopes) if is_mip and not is_cube else None
        level = draws["bias"].cuda().requires_grad_(slopes) if is_mip else None
        mip = [draws[f"stack_{k}"].cuda().requires_grad_(True) for k in (1, 2)] if with_stack else None
        out = cuda.texture(tex, at, da, level, mip, mode, boundary)
        inputs = {"tex": tex, "at": at, "da": da, "level": level}
        inputs |= {f"mip_{k}": m for k, m in enumerate(mip or [], 1)}
        inputs = {key: value for key, value in inputs.items() if value is not None and value.requires_grad}
        record |= named(name, {"out": out} | gradients(out, draws[f"{name}_weight"], inputs))
    return record


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "large_faces": raster_record(1, 176, 152),
        "dense_faces": raster_record(4, 96, 112),
        "texture": texture_record(),
    }
    for name, record in files.items():
        np.savez_compressed(folder / f"{name}.npz", **{k: v.detach().cpu().numpy() for k, v in record.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
