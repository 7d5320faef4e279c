"""Which rooms the library has follows from its folders; a room imports only rooms that stand above its own in ROWS."""

import ast
from pathlib import Path

import pytest

from recon_lib.threads import DEFAULTS

LIB = Path(__file__).parents[1] / "recon_lib"
# From the top of the house to its bottom. A row imports rows above it and itself, but rooms of one row never each other.
ROWS = (
    {"camera", "colour", "files", "frames", "knobs", "mesh", "progress", "stages", "threads"},
    {"raster", "shading", "isosurface", "render"},
    {"weights"},
    {"photos"},
    {"surface"},
    {"coarse", "refine"},
    {"verdict"},
    {"show"},
    {"chain"},
    {"machine"},
    {"workbench"},
    {"cli"},
)
ROW = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
RENDERER = {"raster", "shading", "isosurface", "render"}  # one row, whose rooms build on one another
HEAVY = {  # packages that stand in one module, which only those import who need them
    "pycolmap": {"colmap_files", "mapper", "sift"},
    "onnxruntime": {"network"},
    "kornia": {"learned"},
    "defusedxml": {"metashape"},
    "pythreejs": {"live_mesh", "inspector"},
    "papermill": {"engine", "kernels"},
    "distributed": {"dispatch"},
    "nvdiffrast": {"cuda"},
    "xatlas": {"charts"},
    "igl": {"crossing"},
    "flip_evaluator": {"images"},
    "torchmetrics": {"perceptual"},
    "cholespy": {"large_steps"},
    "ipywidgets": {
        "panel_widgets",
        "knob_row",
        "live_mesh",
        "inspector",
        "new_run",
        "run_list",
        "run_view",
        "page",
        "by_hand",
    },
    "anywidget": {"drop_zone", "photo_marks"},
    "jupyter_server": {"contents"},
    "numba": {
        "threads",
        "carving",
        "attributes",
        "coverage",
        "cubes",
        "half_edges",
        "gliding",
        "edges",
        "sampling",
        "patchmatch",
        "consistency",
        "fusion",
        "views",
        "undistort",
        "pbr_cpu",
        "normals_cpu",
    },
}
MAY_USE = {  # third-party packages of the rooms that are maths
    "vocabulary": {"torch", "numpy", "scipy", "numba", "jaxtyping"},
    "renderer": {"torch", "numpy", "scipy", "numba", "jaxtyping", "nvdiffrast"},
}


def modules() -> list[Path]:
    return [p for p in sorted(LIB.rglob("*.py")) if p.name != "__init__.py"]


def room(path: Path) -> str:
    return path.relative_to(LIB).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """`recon_lib.x.y` for our own, the top package for the others."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name if name.startswith("recon_lib") else name.split(".")[0] for name in names}
    return found


def rooms_used(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("recon_lib.") and "__" not in name}


def allowed(importing: str, imported: str) -> bool:
    if importing == imported or {importing, imported} <= RENDERER:
        return True
    if importing in ROWS[0] and imported in ROWS[0]:
        return True
    return ROW[imported] < ROW[importing]


def test_every_file_has_a_room_and_every_room_a_file():
    assert {room(path) for path in modules()} == set(ROW)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(LIB)))
def test_imports_never_point_down(path):
    assert {other for other in rooms_used(path) if not allowed(room(path), other)} == set()


def test_the_rule_says_no_to_an_import_that_points_down_and_between_neighbours():
    assert not allowed("photos", "surface") and not allowed("coarse", "refine") and not allowed("mesh", "render")
    assert allowed("refine", "photos") and allowed("render", "shading") and allowed("coarse", "coarse")


@pytest.mark.parametrize("path", [p for p in modules() if ROW[room(p)] < 2], ids=lambda p: str(p.relative_to(LIB)))
def test_the_vocabulary_and_the_renderer_use_only_their_packages(path):
    import sys

    others = {name for name in imports(path) if not name.startswith("recon_lib")} - sys.stdlib_module_names
    assert others <= MAY_USE["vocabulary" if ROW[room(path)] == 0 else "renderer"]


@pytest.mark.parametrize("package", HEAVY)
def test_a_heavy_package_stands_where_it_is_said_to(package):
    assert {p.stem for p in modules() if package in imports(p)} == HEAVY[package]


def test_environment_and_search_path_are_changed_in_the_places_that_say_so():
    changing = ("os.environ[", "os.environ.setdefault", "sys.path[", "sys.path.insert", "set_num_threads")
    found = {p.stem for p in modules() if any(word in p.read_text() for word in changing)}
    assert found == {"threads", "upstream", "kernel_server"} and DEFAULTS


def test_no_module_is_longer_than_300_lines_or_a_drawer():
    for path in modules():
        assert path.read_text().count("\n") <= 300, path
        assert path.stem not in {"utils", "helpers", "common", "misc"}
