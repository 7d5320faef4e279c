"""The CPU backend against fixtures recorded from nvdiffrast 0.4 on a GPU by `tests/record_golden.py`.

Only rasterisation may differ, at pixels by an edge, because nvdiffrast snaps vertices to 1/16 pixel; the operations after it
are fed the recorded raster. Values agree to 1e-4, gradients to 1e-3 of their norm.

Left out, because nvdiffrast 0.4 is wrong there (our own gradients pass finite differences): the texture's gradient next to a
cube's corner and, with boundary "zero", anywhere, where a tap outside loses or misplaces single channels.
"""

from pathlib import Path

import golden_draws
import numpy as np
import pytest
import torch

from recon_lib.raster import coverage, cpu

GOLDEN = Path(__file__).parent / "golden"
SCENES = ("large_faces", "dense_faces")


def stored(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture(scope="module", params=SCENES)
def golden(request):
    record = stored(request.param)
    draws = golden_draws.of_raster(record["rast"], record["db"])
    return request.param, record | golden_draws.drawn_as_recorded(draws, record["draws"])


@pytest.fixture(scope="module")
def textures():
    record = stored("texture")
    return record | golden_draws.drawn_as_recorded(golden_draws.of_texture(), record["draws"])


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative L2."""
    return ((found - wanted).norm() / wanted.norm()).item()


def edge_distance(pos: torch.Tensor, faces: torch.Tensor, view: int, face: int, px: int, py: int, size) -> float:
    """Pixels from a pixel's centre to the nearest edge of a face."""
    p = pos[view, faces[face].long()]
    corners = (p[:, :2] / p[:, 3:] + 1) / 2 * torch.tensor([size[1], size[0]])
    centre, best = torch.tensor([px + 0.5, py + 0.5]), np.inf
    for k in range(3):
        a, b = corners[k], corners[(k + 1) % 3]
        t = (((centre - a) @ (b - a)) / ((b - a) @ (b - a))).clamp(0, 1)
        best = min(best, (centre - a - t * (b - a)).norm().item())
    return best


def test_faces_are_at_the_same_pixels(golden):
    name, g = golden
    size = g["rast"].shape[1:3]
    rast, _ = cpu.rasterize(g["pos"], g["faces"], tuple(size))
    ours, theirs = rast[..., 3].int(), g["rast"][..., 3].int()
    differ = (ours != theirs).nonzero()
    if name == "large_faces":
        assert len(differ) <= 0.001 * ours.numel()
    for view, py, px in differ.tolist():
        edges = [edge_distance(g["pos"], g["faces"], view, ids[view, py, px] - 1, px, py, size)
                 for ids in (ours, theirs) if ids[view, py, px] > 0]  # fmt: skip
        assert min(edges) < 1 / 16


def test_barycentrics_depth_and_derivatives_agree(golden):
    _, g = golden
    rast, db = cpu.rasterize(g["pos"], g["faces"], tuple(g["rast"].shape[1:3]))
    same = rast[..., 3] == g["rast"][..., 3]
    assert (rast[same] - g["rast"][same]).abs().max() < 1e-4
    assert distance(db[same], g["db"][same]) < 1e-4


def test_the_gradient_of_rasterisation_agrees(golden):
    _, g = golden
    weight = g["rast_weight"]
    grad_rast = torch.zeros_like(g["rast"])
    grad_rast[..., :2] = weight[..., :2]
    grad = coverage.cover_backward(
        g["pos"].numpy(),
        g["faces"].numpy(),
        g["rast"].numpy(),
        grad_rast.numpy(),
        (0.1 * weight[..., 2:]).numpy(),
        True,
    )
    assert distance(torch.from_numpy(grad), g["rast_grad_pos"]) < 1e-3


def test_interpolation_and_its_gradients_agree(golden):
    _, g = golden
    attr, rast, db = (g[name].clone().requires_grad_(True) for name in ("attr", "rast", "db"))
    out, da = cpu.interpolate(attr, rast, g["faces"], db, (0, 4))
    assert (out - g["interpolated"]).abs().max() < 1e-4 and (da - g["interpolated_da"]).abs().max() < 1e-4
    both = torch.cat([out, da], -1)
    grads = torch.autograd.grad((both * g["interpolated_weight"]).sum(), (attr, rast, db))
    for grad, name in zip(grads, ("attr", "rast", "db"), strict=True):
        assert distance(grad, g[f"interpolated_grad_{name}"]) < 1e-3, name


def test_antialiasing_and_its_gradients_agree(golden):
    _, g = golden
    colour, pos = g["colour"].clone().requires_grad_(True), g["pos"].clone().requires_grad_(True)
    out = cpu.antialias(colour, g["rast"], pos, g["faces"])
    assert (out - colour - g["antialiased_change"]).abs().max() < 1e-4
    assert (out - colour).abs().max() > 0.1
    grads = torch.autograd.grad((out * g["antialiased_weight"]).sum(), (colour, pos))
    assert distance(grads[0] - g["antialiased_weight"], g["antialiased_grad_colour_change"]) < 1e-3
    assert distance(grads[1], g["antialiased_grad_pos"]) < 1e-3


@pytest.mark.parametrize("name", golden_draws.LOOKUPS)
def test_texture_lookups_and_their_gradients_agree(textures, name):
    mode, boundary, with_stack = golden_draws.LOOKUPS[name]
    is_cube, is_mip = boundary == "cube", "mipmap" in mode
    given = {"tex": "cube" if is_cube else "flat", "at": "direction" if is_cube else "uv"}
    given |= {"da": "uv_da"} if is_mip and not is_cube else {}
    given |= {"level": "bias"} if is_mip else {}
    given |= {"mip_1": "stack_1", "mip_2": "stack_2"} if with_stack else {}
    inputs = {key: textures[source].clone().requires_grad_(True) for key, source in given.items()}
    mip = [inputs["mip_1"], inputs["mip_2"]] if with_stack else None
    out = cpu.texture(inputs["tex"], inputs["at"], inputs.get("da"), inputs.get("level"), mip, mode, boundary)
    assert (out - textures[f"{name}_out"]).abs().max() < 1e-4
    (out * textures[f"{name}_weight"]).sum().backward()
    wanted = {key: textures[f"{name}_grad_{key}"] for key in inputs if f"{name}_grad_{key}" in textures}
    assert "tex" in wanted
    for key, grad in wanted.items():
        if key in ("at", "da", "level") or boundary in ("wrap", "clamp"):
            assert distance(inputs[key].grad, grad) < 1e-3, key
        elif is_cube and (mip or not is_mip):  # without a stack the pyramid's gradient brings the corners everywhere
            middle = (slice(None), slice(None), slice(1, -1))
            assert distance(inputs[key].grad[middle], grad[middle]) < 1e-3, key


def test_a_generator_that_draws_other_numbers_is_told():
    draws = golden_draws.of_texture()
    recorded = golden_draws.fingerprint(draws)
    assert golden_draws.drawn_as_recorded(draws, recorded) is draws
    last = draws["flat"].clone()
    last[..., 8:, :, :] = 1 - last[..., 8:, :, :]
    for other in (draws | {"flat": draws["flat"].flip(-1)}, draws | {"flat": last}):
        with pytest.raises(ValueError, match=r"draws other numbers .* for \['flat'\]"):
            golden_draws.drawn_as_recorded(other, recorded)
