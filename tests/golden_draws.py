"""The random inputs and weights of the golden records, drawn from their seeds by the recorder and again by the test.

Random numbers would be half of a record, so only the beginning and the mean of each array are stored; by these
`drawn_as_recorded` notices a changed generator. torch's generator on the CPU gives the same bits everywhere, except for the
last bits of normal numbers, which depend on the processor's vector instructions.
"""

import torch
from torch import Tensor

EDGE_ON = 20.0  # times the median of the barycentrics' pixel derivatives
BEGINNING = 4  # numbers kept of each draw
MODES = ("nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
BOUNDARIES = ("wrap", "clamp", "zero", "cube")
# In this order the lookups' weights are drawn: name -> filter, boundary, whether the mip levels are given.
LOOKUPS = {f"{mode}_{boundary}": (mode, boundary, False) for boundary in BOUNDARIES for mode in MODES} | {
    "stack_cube": ("linear-mipmap-linear", "cube", True)
}


def of_raster(rast: Tensor, db: Tensor) -> dict[str, Tensor]:
    """Colours, zero where empty, and the weights of each operation's output; none on rasterised faces seen edge-on."""
    generator, size = torch.Generator().manual_seed(0), rast.shape[:3]
    slope = db.abs().amax(-1, keepdim=True)
    frontal = (slope < EDGE_ON * slope[slope > 0].median()).float()
    return {
        "rast_weight": torch.randn(*size, 6, generator=generator) * frontal,
        "interpolated_weight": torch.randn(*size, 10, generator=generator),
        "colour": torch.rand(*size, 4, generator=generator) * (rast[..., 3:] > 0),
        "antialiased_weight": torch.randn(*size, 4, generator=generator),
    }


def of_texture() -> dict[str, Tensor]:
    """Coordinates, textures and the weights of each lookup's output."""
    generator, size = torch.Generator().manual_seed(1), (1, 24, 24)
    draws = {
        "uv": torch.rand(*size, 2, generator=generator) * 1.6 - 0.3,
        "uv_da": torch.randn(*size, 4, generator=generator) * 0.05,
        "bias": torch.rand(*size, generator=generator) * 4 - 0.5,
        "direction": torch.randn(*size, 3, generator=generator),
        "flat": torch.rand(1, 16, 32, 3, generator=generator),
        "cube": torch.rand(1, 6, 16, 16, 3, generator=generator),
        "stack_1": torch.rand(1, 6, 8, 8, 3, generator=generator),
        "stack_2": torch.rand(1, 6, 4, 4, 3, generator=generator),
    }
    return draws | {f"{name}_weight": torch.randn(*size, 3, generator=generator) for name in LOOKUPS}


def fingerprint(draws: dict[str, Tensor]) -> Tensor:
    """The first numbers and the mean of each draw, a row each."""
    flat = [draw.double().flatten() for draw in draws.values()]
    return torch.stack([torch.cat([values[:BEGINNING], values.mean()[None]]) for values in flat])


def drawn_as_recorded(draws: dict[str, Tensor], recorded: Tensor) -> dict[str, Tensor]:
    """`draws`, once they are seen to be those of the recording."""
    off = (fingerprint(draws) - recorded).abs().amax(-1).tolist()
    changed = [name for name, distance in zip(draws, off, strict=True) if not distance < 1e-5]
    if changed:
        raise ValueError(
            f"golden draws: torch {torch.__version__} draws other numbers than the recording's torch for {changed}, need "
            "the same; record again with tests/record_golden.py"
        )
    return draws
