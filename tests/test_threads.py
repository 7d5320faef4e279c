"""Which library runs the kernels' threads, and how they wait; tested in new processes, in which no thread has started yet."""

import ctypes
import os
import subprocess
import sys
import time

import numba
import pytest

from recon_lib import threads

OURS = ("NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY", "GOMP_SPINCOUNT")
DRAW = """
import hashlib, sys, time
import torch
from recon_lib import mesh, threads
from recon_lib.raster import cpu

ball = mesh.icosphere(3)
pos = torch.cat([0.8 * ball.verts, torch.ones(len(ball.verts), 1)], 1)[None].requires_grad_()
rast, _ = cpu.rasterize(pos, ball.faces, (96, 80))
shown = cpu.antialias(cpu.interpolate(ball.verts[None], rast, ball.faces)[0], rast, pos, ball.faces)
shown.square().sum().backward()
print(threads.layer(), hashlib.sha256(shown.detach().numpy().tobytes() + pos.grad.numpy().tobytes()).hexdigest())
print(time.time(), flush=True)
"""


def ran(code: str, **variables: str) -> subprocess.CompletedProcess:
    """In a new process without the settings that this one has made."""
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | variables, capture_output=True, text=True, check=True, timeout=300
    )


def has_tbb() -> bool:
    try:
        ctypes.CDLL("libtbb.so.12")
    except OSError:
        return False
    return True


def test_openmp_comes_first_and_tbb_last():
    told = ran("import recon_lib, numba; print(*numba.config.THREADING_LAYER_PRIORITY, numba.config.THREADING_LAYER)")
    assert told.stdout.split() == ["omp", "workqueue", "tbb", "default"]
    assert ran("from recon_lib import threads; print(threads.layer())").stdout == "omp\n"


@pytest.mark.skipif(not has_tbb(), reason="needs TBB's library, libtbb.so.12: apt-get install libtbb12")
def test_openmp_runs_the_kernels_where_tbb_is_installed():
    assert ran("import numba; numba.get_num_threads(); print(numba.threading_layer())").stdout == "tbb\n"
    assert ran(DRAW).stdout.split()[0] == "omp"


def test_workqueue_runs_the_kernels_where_openmp_is_missing():
    lacking = "import sys; sys.modules['numba.np.ufunc.omppool'] = None\n"
    assert ran(lacking + "from recon_lib import threads; print(threads.layer())").stdout == "workqueue\n"


def test_a_numba_that_was_imported_earlier_takes_the_order_too():
    told = ran("import numba; import recon_lib; print(*numba.config.THREADING_LAYER_PRIORITY)")
    assert told.stdout == "omp workqueue tbb\n"


@pytest.mark.parametrize(
    ("variables", "layer"),
    [
        ({"NUMBA_THREADING_LAYER": "workqueue"}, "workqueue"),
        ({"NUMBA_THREADING_LAYER_PRIORITY": "workqueue omp tbb"}, "workqueue"),
    ],
)
def test_what_a_person_has_set_stays(variables, layer):
    assert ran("from recon_lib import threads; print(threads.layer())", **variables).stdout == f"{layer}\n"
    assert ran("import os, recon_lib; print(os.environ['GOMP_SPINCOUNT'])", GOMP_SPINCOUNT="7").stdout == "7\n"


def test_the_kernels_give_the_same_bits_on_openmp_and_on_workqueue():
    omp, workqueue = (ran(DRAW, **v).stdout.split() for v in ({}, {"NUMBA_THREADING_LAYER": "workqueue"}))
    assert (omp[0], workqueue[0]) == ("omp", "workqueue")
    assert omp[1] == workqueue[1]


def test_a_process_that_ran_kernels_ends_within_two_seconds():
    done = ran(DRAW)
    assert time.time() - float(done.stdout.split()[-1]) < 2


def test_openmp_reads_how_long_to_spin_in_every_copy_of_its_library():
    """torch brings a copy and numba takes the system's; each tells its settings when it is loaded."""
    told = ran("from recon_lib import threads; threads.one_torch_thread()", OMP_DISPLAY_ENV="verbose").stderr
    spins = [line.split("=")[1].strip() for line in told.splitlines() if "GOMP_SPINCOUNT" in line]
    assert spins and set(spins) == {"'5000'"}


def test_nothing_heavy_is_imported_before_it_is_needed():
    told = ran("import sys, recon_lib.threads; print({'numba', 'torch', 'numpy'} & set(sys.modules))")
    assert told.stdout == "set()\n"


def test_the_kernels_are_compiled_for_all_threads_and_kept_on_disk():
    from recon_lib.raster import coverage

    for kernel in (coverage.cover, coverage.face_boxes):
        assert kernel.targetoptions["parallel"] and kernel.targetoptions["error_model"] == "numpy"
        assert type(kernel._cache).__name__ == "FunctionCache"


def test_torch_is_held_to_one_thread_while_the_kernels_have_all():
    told = ran(
        "import numba, torch; from recon_lib import threads; threads.one_torch_thread(); "
        "print(torch.get_num_threads(), numba.get_num_threads())"
    )
    assert told.stdout.split() == ["1", str(numba.config.NUMBA_NUM_THREADS)]
    assert threads.layer() == numba.threading_layer()
