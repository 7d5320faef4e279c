"""Progress of long functions, reported to a callback `progress(share, what)`: `share` is 0 to 1, `what` a few words.

Every long function takes such a callback and calls it as often as it likes; the default is `silent`. A caller that runs several
long functions in a row gives each its `part` of the whole.
"""

import os
from collections.abc import Callable

Progress = Callable[[float, str], None]


def silent(share: float, what: str) -> None:
    """A callback that does nothing."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A callback that maps shares 0 to 1 to `start` to `stop` of the given callback."""
    return lambda share, what: progress(start + (stop - start) * share, what)


def watched() -> bool:
    """Whether a person watches this kernel. Only a Jupyter server sets JPY_SESSION_NAME; the chain sets RECON_BATCH."""
    return "JPY_SESSION_NAME" in os.environ and "RECON_BATCH" not in os.environ
