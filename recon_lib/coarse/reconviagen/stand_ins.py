"""Empty modules for packages that upstream imports but does not need to make a mesh, and attention by torch alone.

Upstream imports its renderers, losses and mask networks with everything else. Some of these packages are large, some are
non-commercial, and one (`utils3d`) has the name of another package on PyPI. Where such a package is absent, an empty module
takes its name, and calling it raises an error that says so. Attention is computed by flash-attn or xformers where they work.
Otherwise a module named `xformers.ops` uses torch's scaled_dot_product_attention, which computes the same.
Axes: B batch, L and M tokens, H heads, C and D channels.
"""

import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NEVER_CALLED = (
    "utils3d", "nvdiffrast", "nvdiffrast.torch", "xatlas", "pyvista", "pymeshfix", "igraph", "lpips", "dreamsim", "rembg",
    "transformers", "plyfile",
)  # fmt: skip
ASKED_BY_NAME = {  # names that upstream imports with `from package import name`
    "dreamsim": ("dreamsim",), "pymeshfix": ("_meshfix",), "transformers": ("AutoModelForImageSegmentation",),
    "plyfile": ("PlyData", "PlyElement"), "lpips": ("LPIPS",),
}  # fmt: skip


class Absent:
    """Stands for a name in a package that is not installed; calling it raises ImportError."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args, **kwargs):
        raise ImportError(f"{self.name} is not installed, and making a mesh should not need it")


@dataclass(frozen=True)
class BlockDiagonalMask:
    """xformers' mask for sequences that are laid end to end: each attends only to itself, or to its partner in `kv_seqlen`."""

    q_seqlen: list[int]
    kv_seqlen: list[int]

    @classmethod
    def from_seqlens(cls, q_seqlen: list[int], kv_seqlen: list[int] | None = None) -> "BlockDiagonalMask":
        """The mask for sequences of these lengths, in tokens."""
        return cls(list(q_seqlen), list(q_seqlen if kv_seqlen is None else kv_seqlen))


def memory_efficient_attention(
    q: Float[Tensor, "B L H C"],
    k: Float[Tensor, "B M H C"],
    v: Float[Tensor, "B M H D"],
    attn_bias: BlockDiagonalMask | None = None,
) -> Float[Tensor, "B L H D"]:
    """xformers' function of this name, computed by torch's scaled_dot_product_attention."""
    if attn_bias is None:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2)
    parts = zip(
        q.split(attn_bias.q_seqlen, 1), k.split(attn_bias.kv_seqlen, 1), v.split(attn_bias.kv_seqlen, 1), strict=True
    )
    return torch.cat([memory_efficient_attention(*part) for part in parts], 1)


def attention_backend() -> str:
    """The attention that upstream should use: flash_attn (needs compute capability 8), xformers, or sdpa if neither imports."""
    able = ["flash_attn"] if torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8 else []
    for name in [*able, "xformers.ops"]:
        try:
            if getattr(importlib.import_module(name), "is_stand_in", False):
                continue
        except (ImportError, OSError, RuntimeError):  # absent, or built for another torch
            continue
        return name.partition(".")[0]
    return "sdpa"


@contextmanager
def present(backend: str) -> Iterator[None]:
    """Sets the environment variables and adds the modules that upstream needs when it is first imported.

    The empty modules are removed at the end of the `with` block; the modules for attention stay.
    """
    sparse = "xformers" if backend == "sdpa" else backend
    os.environ |= {"ATTN_BACKEND": backend, "SPARSE_ATTN_BACKEND": sparse, "SPCONV_ALGO": "native"}
    if backend == "sdpa" and "xformers" not in sys.modules:
        fmha = _add_module("xformers.ops.fmha", BlockDiagonalMask=BlockDiagonalMask)
        ops = _add_module("xformers.ops", fmha=fmha, memory_efficient_attention=memory_efficient_attention)
        _add_module("xformers", ops=ops)
    if importlib.util.find_spec("torchvision") is not None:
        _import_torchvision()
    absent = {name for name in NEVER_CALLED if importlib.util.find_spec(name.partition(".")[0]) is None}
    for name in sorted(absent):
        _add_module(name, **{part: Absent(f"{name}.{part}") for part in ASKED_BY_NAME.get(name, ())})
    try:
        yield
    finally:  # otherwise other code would take these packages for installed
        for name in absent:
            del sys.modules[name]


def _import_torchvision() -> None:
    """Imports torchvision, also one built for another torch: that one fails because its operators are missing, so two empty
    ones are declared. Upstream uses only its transforms."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        importlib.import_module("torchvision").__dict__["_operators"] = library  # keeps the library object alive


def _add_module(name: str, **content) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.util.spec_from_loader(name, None)
    module.__dict__.update(content, is_stand_in=True)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module
