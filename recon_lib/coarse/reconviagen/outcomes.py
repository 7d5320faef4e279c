"""The ways in which a reconstruction can fail. Each has a name and says what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager

NEXT = {
    "no GPU": "run on a machine with an NVIDIA GPU of 16 GB or more, or choose backend hull",
    "too little GPU memory": "end what else runs on the GPU or use a larger one, or choose backend hull",
    "no checkout": "clone github.com/GAP-LAB-CUHK-SZ/ReconViaGen and name the folder in RECONVIAGEN_ROOT",
    "missing package": "install the extra: pip install -c constraints/gpu.txt -e '.[gpu]' (Python 3.11, CUDA 12)",
    "weights": "run `recon weights verify`, then `recon weights fetch`",
    "too few photos": "add photos of the object",
    "photo without a mask": "give transparency or a file in masks/",
    "unknown sampler parameter": "leave it at 0, or use the official checkout",
    "empty structure": "look at the crops, then try another seed or fewer structure steps; or choose backend hull",
    "full structure": "look at the crops and masks, then try another seed; or choose backend hull",
    "too many voxels": "try another seed, or photos of one object that fills its crop less; or choose backend hull",
    "index overflow": "spconv counts in 32 bits: try another seed, which may give fewer voxels",
    "CUDA error": "the GPU's state is lost: run the stage again, it starts in a process of its own; if it comes again, "
    "try another seed",
    "out of GPU memory": "use fewer photos or a GPU with more memory",
    "invalid mesh": "try another seed, or set clean to true",
    "invalid cameras": "give cameras with the photos (transforms.json or a COLMAP model), or try more photos",
    "misaligned": "look at the photos' poses and masks, try another seed, or lower least_iou to go on all the same",
}


class Outcome(ValueError):
    """A failed reconstruction. `name` is a key of NEXT; the message says what was found and what to do next."""

    def __init__(self, name: str, found: str):
        super().__init__(f"{name}: {found}; {NEXT[name]}")
        self.name = name


@contextmanager
def named() -> Iterator[None]:
    """Turns errors of upstream and CUDA that are raised in the `with` block into Outcomes; unknown errors pass unchanged."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        name = _name(str(error))
        if isinstance(error, Outcome) or name is None:
            raise
        raise Outcome(name, _first_line(error)) from error


def _name(text: str) -> str | None:
    lower = text.lower()
    if "int32" in lower or "int max" in lower:
        return "index overflow"
    if "out of memory" in lower:
        return "out of GPU memory"
    if "cuda error" in lower:
        return "CUDA error"
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
