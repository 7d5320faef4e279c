"""`python tests/record_golden.py FOLDER` on a machine with a GPU and nvdiffrast 0.4: the fixtures in tests/golden.

Small scenes go through the four operations of nvdiffrast, forward and backward; `tests/test_golden.py` holds the CPU
backend against what came out. Each file has the inputs, too. One view a scene: with two, nvdiffrast 0.4 gave a part of one
view's position gradients to the other. No weight on faces seen edge-on, whose gradients have no digits left in float32.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from recon_lib import camera, mesh, render
from recon_lib.raster import cuda

EDGE_ON = 20.0  # times the median of the barycentrics' pixel derivatives


def scene(subdivisions: int, width: int, height: int):
    """A wavy ball seen by a camera; few large faces or many small ones."""
    ball = mesh.icosphere(subdivisions)
    verts = 0.5 * ball.verts * (1 + 0.1 * torch.sin(5 * ball.verts).sum(-1, keepdim=True))
    cameras = camera.cropped(camera.orbit(7, 0.4, 3.0, 0.5, 64)[1:2], torch.tensor([[8.0, 9, 54, 55]]), width, height)
    pos = render.clip_positions(verts, render.views(cameras, verts))
    return verts.cuda(), ball.faces.cuda(), pos.cuda()


def gradient(out: torch.Tensor, inputs: list[torch.Tensor], generator: torch.Generator, mask=1.0) -> list[np.ndarray]:
    """Gradients of a random weighting of `out`; the weights come first."""
    weight = torch.randn(out.shape, generator=generator).cuda() * mask
    grads = torch.autograd.grad((out * weight).sum(), inputs)
    return [weight.cpu().numpy(), *[g.cpu().numpy() for g in grads]]


def raster_record(name: str, subdivisions: int, width: int, height: int) -> dict:
    verts, faces, pos = scene(subdivisions, width, height)
    generator = torch.Generator().manual_seed(0)
    record = {"pos": pos, "faces": faces}
    pos = pos.clone().requires_grad_(True)
    rast, db = cuda.rasterize(pos, faces, (height, width))
    record |= {"rast": rast, "db": db}
    weighted = torch.cat([rast[..., :2], 0.1 * db], -1)
    slope = db.detach().abs().amax(-1, keepdim=True)
    frontal = (slope < EDGE_ON * slope[slope > 0].median()).float()
    record["rast_weight"], record["rast_grad_pos"] = gradient(weighted, [pos], generator, frontal)

    fed, fed_db = rast.detach().requires_grad_(True), db.detach().requires_grad_(True)
    attr = torch.cat([verts, verts.square()], -1)[None].requires_grad_(True)
    out, da = cuda.interpolate(attr, fed, faces, fed_db, (0, 4))
    record |= {"attr": attr, "interpolated": out, "interpolated_da": da}
    names = ("interpolated_weight", "interpolated_grad_attr", "interpolated_grad_rast", "interpolated_grad_db")
    both = torch.cat([out, da], -1)
    record |= dict(zip(names, gradient(both, [attr, fed, fed_db], generator), strict=True))

    colour = torch.rand(*rast.shape[:3], 4, generator=generator).cuda()
    colour = (colour * (rast[..., 3:] > 0)).detach().requires_grad_(True)
    moving = pos.detach().requires_grad_(True)
    blended = cuda.antialias(colour, rast.detach(), moving, faces)
    record |= {"colour": colour, "antialiased": blended}
    names = ("antialiased_weight", "antialiased_grad_colour", "antialiased_grad_pos")
    record |= dict(zip(names, gradient(blended, [colour, moving], generator), strict=True))
    return {f"{name}_{key}": value for key, value in record.items()}


def texture_record() -> dict:
    generator = torch.Generator().manual_seed(1)
    uv = torch.rand(1, 24, 24, 2, generator=generator) * 1.6 - 0.3
    uv_da = torch.randn(1, 24, 24, 4, generator=generator) * 0.05
    bias = torch.rand(1, 24, 24, generator=generator) * 4 - 0.5
    direction = torch.randn(1, 24, 24, 3, generator=generator)
    flat, cube = torch.rand(1, 16, 32, 3, generator=generator), torch.rand(1, 6, 16, 16, 3, generator=generator)
    stack = [torch.rand(1, 6, n, n, 3, generator=generator) for n in (8, 4)]
    record = {"uv": uv, "uv_da": uv_da, "bias": bias, "direction": direction, "flat": flat, "cube": cube}
    record |= {"stack_1": stack[0], "stack_2": stack[1]}
    cases = {
        f"{mode}_{boundary}": (mode, boundary, False)
        for boundary in ("wrap", "clamp", "zero", "cube")
        for mode in ("nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
    } | {"stack_cube": ("linear-mipmap-linear", "cube", True)}
    for name, (mode, boundary, with_stack) in cases.items():
        is_cube, is_mip = boundary == "cube", "mipmap" in mode
        tex = (cube if is_cube else flat).cuda().requires_grad_(True)
        at = (direction if is_cube else uv).cuda().requires_grad_(mode != "nearest")
        da = uv_da.cuda().requires_grad_(mode == "linear-mipmap-linear") if is_mip and not is_cube else None
        level = bias.cuda().requires_grad_(mode == "linear-mipmap-linear") if is_mip else None
        mip = [m.cuda().requires_grad_(True) for m in stack] if with_stack else None
        out = cuda.texture(tex, at, da, level, mip, mode, boundary)
        inputs = {"tex": tex, "at": at, "da": da, "level": level}
        inputs |= {f"mip_{k}": m for k, m in enumerate(mip or [], 1)}
        inputs = {key: value for key, value in inputs.items() if value is not None and value.requires_grad}
        names = ("weight", *(f"grad_{key}" for key in inputs))
        grads = dict(zip(names, gradient(out, list(inputs.values()), generator), strict=True))
        record |= {f"{name}_{key}": value for key, value in ({"out": out} | grads).items()}
    return record


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "large_faces": raster_record("large_faces", 1, 176, 152),
        "dense_faces": raster_record("dense_faces", 4, 96, 112),
        "texture": texture_record(),
    }
    for name, record in files.items():
        arrays = {k: v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in record.items()}
        np.savez_compressed(folder / f"{name}.npz", **{k.removeprefix(f"{name}_"): v for k, v in arrays.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
