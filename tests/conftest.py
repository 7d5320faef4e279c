"""Checks shape annotations during tests, and holds the fixtures: the raster implementations, the sample and its results."""

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

# What is not asked of nvdiffrast 0.4, by a test's name or by that of one of its items without the device; each with its reason.
MORE_THAN_PROMISED = {
    "test_an_edge_of_three_faces_keeps_its_first_two": "The interface leaves open which two of three faces an edge keeps.",
    "test_an_infinite_direction_gives_zero_and_no_gradient": "The interface takes directions of a finite length only.",
}
NVDIFFRAST_DIFFERS = {
    "test_a_face_with_a_corner_in_the_eye_is_not_drawn_and_its_gradients_are_finite": (
        "It draws a face with a corner at (0, 0, 0, 0) and gives that corner a gradient."
    ),
    "test_each_view_reads_its_own_cube_or_all_the_same[corners]": (
        "By the corners of every cube but the first it reads other texels."
    ),
    "test_the_gradient_to_a_texel_is_the_sum_of_its_weights[zero]": (
        "With boundary zero, a texel at the border misses parts of its gradient from pixels that reach outside."
    ),
}
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available() or find_spec("nvdiffrast") is None, reason="needs a CUDA GPU and nvdiffrast"
)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_cuda)])
def raster(request):
    """The implementations of the four operations, each with new tensors on its own device."""
    if request.param == "cuda":
        item = request.node.name.replace("[cuda-", "[").removesuffix("[cuda]")
        for group, reasons in (
            ("asks more than the interface promises", MORE_THAN_PROMISED),
            ("nvdiffrast 0.4 differs", NVDIFFRAST_DIFFERS),
        ):
            reason = reasons.get(item, reasons.get(request.node.originalname))
            if reason:
                pytest.skip(f"{group}: {reason}")
    with torch.device(request.param):
        yield importlib.import_module(f"recon_lib.raster.{request.param}")


@pytest.fixture
def snap(raster) -> float:
    """Pixels: the grid to which corners are moved before coverage is decided, so only faces' edges move; 0 is no grid."""
    return 1 / 16 if raster.DEVICE == "cuda" else 0.0


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
    return refine.finish(setup, setup.start, cpu).mesh


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
