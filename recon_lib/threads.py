"""Settings of threads: which library runs the kernels' threads, how idle threads wait, and how many threads torch uses.

`settle` runs when `recon_lib` is imported, before torch and numba load the libraries that read these settings once:

- numba uses OpenMP, else its own workqueue, which is always there. By default it would use TBB wherever that is installed, and
  a process that used TBB may spin for minutes in TBB's finalizer before it ends.
- Idle OpenMP threads spin for microseconds and then sleep: long spinning makes a busy machine many times slower.

Both are environment variables, so child processes inherit them. A variable that a person has set is kept, and so is
NUMBA_THREADING_LAYER, which overrides the priorities. numba and torch are imported at the first call that needs them.
"""

import os
import sys
from collections.abc import Callable

DEFAULTS = {"NUMBA_THREADING_LAYER_PRIORITY": "omp workqueue tbb", "GOMP_SPINCOUNT": "5000"}


def settle() -> None:
    """Sets the environment variables that nobody has set yet; a numba that is already imported reads them again."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if sys.modules.get("numba"):  # it read its variables when it was imported, but starts threads at the first kernel
        sys.modules["numba"].config.reload_config()


def parallel_kernel(function: Callable) -> Callable:
    """Compiles a function whose `prange` loops run on all threads.

    numba's disk cache looks only at the date of the file that holds the function: after a change here, touch those files.
    """
    from numba import njit

    return njit(parallel=True, cache=True, error_model="numpy")(function)


def layer() -> str:
    """The library that runs the kernels' threads: omp, workqueue or tbb. Starts the threads if no kernel has started them.

    Raises ValueError where NUMBA_THREADING_LAYER names a library that is not there.
    """
    import numba

    numba.get_num_threads()
    return numba.threading_layer()


def one_torch_thread() -> None:
    """Limits torch to one thread, so that a seed gives the same bits on every machine.

    torch divides elementwise work among its threads, and the last few elements of each portion round differently. One thread is
    also faster here, because the kernels have threads of their own. numba has to start those first: that resets torch's number.
    """
    import numba
    import torch

    numba.get_num_threads()
    torch.set_num_threads(1)
