"""What a step of a fit compares with its photos: the losses of one batch that is rasterised already.

`measure` computes them. `Recorded` does the same on a GPU by replaying a CUDA graph of it, forward and backward, because a step
has five hundred small kernels, and starting them takes longer than running them. A graph repeats what it was recorded with, so
whatever changes from step to step comes in as a tensor: positions, photos, textures, light, and all random numbers. Rates,
weights and the optimiser stay outside. A new graph is recorded when a size changes.
Axes: B photos, P pixel slots, Q places aside, R rows of pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon_lib import render
from recon_lib.mesh import Material, Mesh
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import losses

WARMING = 3  # runs before a recording

Aside = Callable[[Float[Tensor, "Q 2"]], Float[Tensor, "Q 2"]]


class Batch(NamedTuple):
    """One step's photos and their rasterised views of the mesh."""

    target: Float[Tensor, "B H W 4"]
    eye: Float[Tensor, "B 3"]
    pos: Float[Tensor, "B V 4"]
    rast: Float[Tensor, "B H W 4"]


class Fixed(NamedTuple):
    """What stays the same over many steps."""

    raster: Rasteriser
    topology: Any
    room: int | None  # pixel slots on a GPU (`render.surfaces`); None computes only pixels that are shown
    glare: float  # the bound of the colour loss, 0 for none


class Measured(NamedTuple):
    """Losses by the names of `fit.LOSSES`; those of the material are 0 for a mesh without a light."""

    colour: Float[Tensor, ""]
    alpha: Float[Tensor, ""]
    smooth: Float[Tensor, ""]
    occlusion: Float[Tensor, ""]
    white: Float[Tensor, ""]
    last: Int[Tensor, "*P"]  # the pixel in the last slot; none where pixels have no slots


def measure(
    mesh: Mesh, batch: Batch, fixed: Fixed, aside: Aside | None, background: Callable[[int], Float[Tensor, "3 R"]],
    brightened: Callable[[Float[Tensor, "B H W 4"]], Float[Tensor, "B H W 4"]] = lambda rgba: rgba,
) -> Measured:  # fmt: skip
    """The losses of a batch. `background` draws colours for a number of pixels; `aside` is as `render.surfaces` has it."""
    raster, topology, room, glare = fixed
    rgba, covered = render.shaded(mesh, batch.eye, batch.pos, batch.rast, raster, topology, room, None, aside)
    pixels, true = brightened(rgba).reshape(-1, 4), batch.target.reshape(-1, 4)
    colour, alpha = losses.of_images(pixels, true, room is None, background, glare)
    none = torch.zeros_like(alpha)
    last = covered.pixel[:0] if room is None else covered.pixel[-1:]
    if mesh.light is None:
        return Measured(colour, alpha, none, none, none, last)
    occlusion, white = 1 - covered.material.values[:, 0].mean(), losses.whiteness(mesh.light)
    return Measured(colour, alpha, covered.material_difference, occlusion, white, last)


class Recorded:
    """`measure` of a lit mesh as a CUDA graph. `record` is a function for that, in a test one that records nothing."""

    def __init__(self, record: Callable | None = None):
        self.record = record or record_graphs
        self.key: tuple = ()
        self.replay: Callable[..., tuple[Tensor, ...]] | None = None

    def __call__(
        self, mesh: Mesh, batch: Batch, fixed: Fixed, aside: Aside | None,
        background: Callable[[int], Float[Tensor, "3 R"]],
    ) -> Measured:  # fmt: skip
        """As `measure`, with the same random numbers; `fixed` has slots."""
        places = batch.eye.new_zeros(-(-fixed.room // render.ASIDE_SHARE), 2)
        offsets = places if aside is None else aside(places)
        drawn = background(batch.target[..., 0].numel())
        given = (*batch, mesh.verts, mesh.texture, mesh.material.values, mesh.light, offsets, drawn)
        key = (fixed.room, aside is None, *((x.shape, x.requires_grad) for x in given))
        if key != self.key:
            self.key, self.replay = key, self._recorded(mesh, given, fixed, aside is None)
        return Measured(*self.replay(*given))

    def _recorded(
        self, mesh: Mesh, given: tuple[Tensor, ...], fixed: Fixed, is_alone: bool
    ) -> Callable[..., tuple[Tensor, ...]]:
        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            *batch, verts, texture, values, light, offsets, drawn = tensors
            body = replace(mesh, verts=verts, texture=texture, material=Material(values), light=light)
            aside = None if is_alone else offsets.add
            return tuple(measure(body, Batch(*batch), fixed, aside, lambda count: drawn))

        # A graph reads its own copies of what it is given, but the optimiser's parameters where they are: those stay in place.
        own = [x.detach() if x.is_leaf and x.requires_grad else x.detach().clone() for x in given]
        own = [mine.requires_grad_(x.requires_grad) for mine, x in zip(own, given, strict=True)]
        return self.record(run, tuple(own))


def record_graphs(run: Callable[..., tuple[Tensor, ...]], own: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, ...]]:
    """`run` as two CUDA graphs, forward and backward, which read `own` (leaves on a GPU); replaying copies what is given there.

    `torch.cuda.make_graphed_callables` does the same, but hands gradients to `torch.autograd.grad`, whose check of their shapes
    imports sympy: two seconds. Here they are the weights of a sum, which the backward graph reads when it is replayed.
    """
    moving = [x for x in own if x.requires_grad]

    def forward() -> tuple[tuple[Tensor, ...], Tensor]:
        outputs = run(*own)
        return outputs, torch.stack([x for x in outputs if x.requires_grad])

    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):  # libraries allocate what they need before the recording
        for _ in range(WARMING):
            torch.autograd.grad(forward()[1].sum(), moving, allow_unused=True)
    torch.cuda.synchronize()
    pool, graphs = torch.cuda.graph_pool_handle(), (torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph())
    with torch.cuda.graph(graphs[0], pool=pool):
        outputs, values = forward()
        weights = torch.ones_like(values)
        total = (values * weights).sum()
    with torch.cuda.graph(graphs[1], pool=pool):
        found = iter(torch.autograd.grad(total, moving, allow_unused=True))
    weighed = [x.requires_grad for x in outputs]
    grads = [next(found) if x.requires_grad else None for x in own]

    class Replay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Tensor) -> tuple[Tensor, ...]:
            for mine, x in zip(own, given, strict=True):
                if mine.data_ptr() != x.data_ptr():
                    mine.copy_(x)
            graphs[0].replay()
            found = tuple(x.detach() for x in outputs)
            ctx.mark_non_differentiable(*(x for x, is_weighed in zip(found, weighed, strict=True) if not is_weighed))
            return found

        @staticmethod
        def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
            weights.copy_(torch.stack([x for x, is_weighed in zip(given, weighed, strict=True) if is_weighed]))
            graphs[1].replay()
            return tuple(None if x is None else x.detach() for x in grads)

    return Replay.apply
