"""Imports point down the layers, and the heavy ones stand in one place."""

import ast
from pathlib import Path

import pytest

LIB = Path(__file__).parents[1] / "recon_lib"
LAYERS = (
    {"camera", "mesh", "colour", "losses", "isosurface", "raster", "shading", "distortion", "carving", "resample"},
    {
        "render", "hull", "uv", "fit", "large_steps", "topology", "crops", "refine", "align", "silhouettes", "camera_fit",
        "metrics", "warm", "bake", "normal_map", "bodies",
    },
    {
        "ingest", "photos", "plain", "posed", "transforms", "colmap", "mask_files", "poses", "masks", "triage", "scene",
        "meshio", "hdr", "coarse", "reconviagen", "weights", "download", "fetch", "machine", "doctor", "verdict", "run",
        "params", "report", "figures", "stills", "viewer", "widgets",
    },
    {"engine", "reuse", "pipeline", "batch", "cli"},
)  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MAY_USE = {  # third-party packages of the lower layers
    0: {"torch", "numpy", "scipy", "numba", "jaxtyping", "nvdiffrast"},
    1: {"torch", "numpy", "scipy", "numba", "jaxtyping", "skimage", "xatlas", "trimesh", "cholespy", "gpytoolbox", "PIL",
        "fast_simplification", "cv2"},
}  # fmt: skip
STANDARD = {
    "math",
    "dataclasses",
    "typing",
    "types",
    "collections",
    "logging",
    "functools",
    "importlib",
    "itertools",
    "concurrent",
    "threading",
}


def modules():
    return [p for p in sorted(LIB.rglob("*.py")) if p.name != "__init__.py"]


def imports(path: Path) -> set[str]:
    """`recon_lib.x` for our own, the top package for the others."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {
                alias.name if alias.name.startswith("recon_lib") else alias.name.split(".")[0] for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module == "recon_lib":
            found |= {f"recon_lib.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module if node.module.startswith("recon_lib") else node.module.split(".")[0])
    return found


def level(path: Path) -> int:
    return LEVEL[path.relative_to(LIB).parts[0].removesuffix(".py")]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(LIB)))
def test_imports_never_point_up(path):
    own = {name.split(".")[1] for name in imports(path) if name.startswith("recon_lib.")}
    assert {name for name in own if LEVEL[name] > level(path)} == set()


@pytest.mark.parametrize("path", [p for p in modules() if level(p) in MAY_USE], ids=lambda p: str(p.relative_to(LIB)))
def test_the_lower_layers_use_only_their_packages(path):
    others = {name for name in imports(path) if not name.startswith("recon_lib")} - STANDARD
    assert others <= MAY_USE[level(path)]


def test_heavy_optional_packages_stand_in_one_module():
    for package, home in {"pycolmap": {"colmap"}, "pythreejs": {"viewer"}, "papermill": {"engine", "pipeline"}}.items():
        assert {p.stem for p in modules() if package in imports(p)} == home


def test_no_module_is_longer_than_300_lines_or_a_drawer():
    for path in modules():
        assert path.read_text().count("\n") <= 300, path
        assert path.stem not in {"utils", "helpers", "common", "misc"}
