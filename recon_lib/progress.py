"""How long work tells how far it has come: a callback `progress(share, what)`, share 0 to 1, `what` a few words.

Every long function takes one and calls it as it likes; who passes none gets `silent`. A caller that does several things in a
row gives each its `part` of the whole.
"""

import os
from collections.abc import Callable

Progress = Callable[[float, str], None]


def silent(share: float, what: str) -> None:
    """The callback of a caller that does not want to know."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A callback whose 0 to 1 is `start` to `stop` of the given one."""
    return lambda share, what: progress(start + (stop - start) * share, what)


def watched() -> bool:
    """Whether a person sits at this kernel: only a Jupyter server names the session of the kernels that it starts."""
    return "JPY_SESSION_NAME" in os.environ and "RECON_BATCH" not in os.environ
