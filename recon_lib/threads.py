"""The hidden state of threads: which library runs the kernels' threads, how threads wait, and how many torch has.

`settle` runs when `recon_lib` is imported, before torch and numba load the libraries that read these settings once:

- numba takes OpenMP, else its own workqueue. By default it takes TBB wherever that happens to be installed, and a process that
  used TBB may spin for minutes in TBB's finalizer before it ends. workqueue is always there, so TBB is never reached.
- OpenMP's threads that wait spin for microseconds, then sleep: long spinning makes a busy machine many times slower.

Both are environment variables, so processes started from here have them, too. A variable that a person has set stays, as does
NUMBA_THREADING_LAYER, which numba puts above its priorities. numba and torch are imported at the first call that needs them.
"""

import os
import sys
from collections.abc import Callable

DEFAULTS = {"NUMBA_THREADING_LAYER_PRIORITY": "omp workqueue tbb", "GOMP_SPINCOUNT": "5000"}


def settle() -> None:
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if sys.modules.get("numba"):  # it read its variables when it was imported, but starts threads at the first kernel
        sys.modules["numba"].config.reload_config()


def parallel_kernel(function: Callable) -> Callable:
    """Compiles a function whose `prange` loops run on all threads.

    numba's cache on disk looks at the date of the function's own file: after a change here, touch the kernels' files.
    """
    from numba import njit

    return njit(parallel=True, cache=True, error_model="numpy")(function)


def layer() -> str:
    """The library that runs the kernels' threads: omp, workqueue or tbb. Starts the threads if no kernel has yet."""
    import numba

    numba.get_num_threads()
    return numba.threading_layer()


def one_torch_thread() -> None:
    """Holds torch to one thread, so that a seed gives the same bits on every machine.

    torch cuts elementwise work by thread, and a cut's last few elements round differently. It is faster here, too: the
    kernels have threads of their own, which numba has to start first, because that resets torch's number.
    """
    import numba
    import torch

    numba.get_num_threads()
    torch.set_num_threads(1)
