"""Checks annotations in the test run; the raster implementations; the sample and what is made of it."""

import importlib
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

import recon_lib  # before torch, which reads how its threads should wait when it is loaded

LIB = Path(recon_lib.__file__).parent
SAMPLES = LIB.parent / "samples"
# numba compiles functions as they are written, so modules with kernels, which import its decorators, stay as they are.
KERNELS = re.compile(r"^from (numba|recon_lib\.threads) import .*\b(njit|parallel_kernel)\b", re.MULTILINE)
CHECKED = [
    p for p in LIB.rglob("*.py")
    if p.name != "__init__.py" and not KERNELS.search(p.read_text()) and (p.name != "cuda.py" or find_spec("nvdiffrast"))
]  # fmt: skip
install_import_hook([".".join(p.relative_to(LIB.parent).with_suffix("").parts) for p in CHECKED], "beartype.beartype")

import numpy as np
import torch
import trimesh

from recon_lib import mesh
from recon_lib.coarse import hull
from recon_lib.photos import ingest
from recon_lib.raster import cpu
from recon_lib.refine import refine
from recon_lib.surface import uv

# On an H200, nvdiffrast 0.4 did not pass these: it words errors otherwise, snaps vertices to 1/16 pixel, or refuses empty and
# odd inputs that the CPU operations take. `test_golden` is where the two are compared.
BEYOND_NVDIFFRAST = {
    "test_a_footprint_is_an_error",
    "test_a_given_topology_and_another_memory_order_change_nothing",
    "test_an_unknown_mode_or_a_missing_footprint_is_an_error",
    "test_both_windings_are_drawn_alike",
    "test_each_view_reads_its_own_cube_or_all_the_same",
    "test_faces_weights_and_depths_equal_the_slow_loop",
    "test_faces_without_area_are_not_drawn_and_their_gradients_are_finite",
    "test_given_levels_are_used_in_place_of_means",
    "test_given_levels_of_other_sizes_are_an_error",
    "test_given_levels_without_a_mip_mapped_filter_or_below_an_odd_size_are_an_error",
    "test_interpolated_clip_positions_lie_over_their_pixel_centres",
    "test_more_faces_than_a_float_counts_are_an_error",
    "test_no_direction_gives_zero_and_no_gradient",
    "test_no_pixels_give_no_values_and_no_gradient",
    "test_odd_sizes_have_no_mip_levels_below_them",
    "test_the_gradient_to_a_texel_is_the_sum_of_its_weights",
    "test_the_gradient_to_each_corner_equals_differences_over_a_moving_edge",
    "test_the_summed_coverage_of_a_slanted_edge_is_its_area",
    "test_two_textures_or_attributes_for_three_views_are_refused",
    "test_values_and_gradients_equal_the_slow_loop",
}
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available() or find_spec("nvdiffrast") is None, reason="needs a CUDA GPU and nvdiffrast"
)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_cuda)])
def raster(request):
    """The implementations of the four operations, each with new tensors on its own device."""
    if request.param == "cuda" and request.node.originalname in BEYOND_NVDIFFRAST:
        pytest.skip("asks more than nvdiffrast 0.4 gives")
    with torch.device(request.param):
        yield importlib.import_module(f"recon_lib.raster.{request.param}")


@pytest.fixture(scope="session")
def jug():
    """The sample's scene, 8 of 40 photos held out."""
    return ingest.read(SAMPLES / "jug", ingest.IngestConfig()).scene


@pytest.fixture(scope="session")
def true_jug():
    body = trimesh.load_mesh(SAMPLES / "jug" / "true_mesh.ply", process=False)
    verts, faces = np.array(body.vertices, np.float32), np.array(body.faces, np.int32)
    return mesh.Mesh(torch.from_numpy(verts), torch.from_numpy(faces))


@pytest.fixture(scope="session")
def jug_hull(jug):
    used = jug.subset(~jug.held_out)
    alphas = [image[..., 3] / np.float32(255) for image in used.images]
    return hull.visual_hull(alphas, used.cameras, hull.HullConfig(faces=8000))


@pytest.fixture(scope="session")
def painted_jug(jug, jug_hull):
    """The hull with the photos' mean colours."""
    used = jug.subset(~jug.held_out)
    setup = refine.prepare(used.images, used.cameras, jug_hull, 320, cpu, 640)
    return refine.finish(setup, setup.start)


@pytest.fixture(scope="session")
def ball():
    """A textured unit sphere whose colour is its position, 0.5 + 0.4 p."""
    sphere = mesh.icosphere(3)
    uvs, uv_faces, shape = uv.unwrap(sphere.verts, sphere.faces, 128)
    flat = torch.nn.functional.pad(2 * uvs - 1, (0, 2))
    flat[:, 3] = 1
    rast, _ = cpu.rasterize(flat[None], uv_faces, shape, grad_db=False)
    texture = cpu.interpolate(0.5 + 0.4 * sphere.verts[None], rast, sphere.faces)[0][0]
    return replace(sphere, uvs=uvs, uv_faces=uv_faces, texture=uv.dilate(texture, rast[0, ..., 3] > 0))
