"""The sample photos: renders the jug of `jug_shape` by path tracing.

The light is an environment fixed to the jug, only the camera moves. Poses are camera-to-world with OpenGL axes, as in
`recon_lib.camera`, in the jug's world (y up). Photos are 8-bit straight-alpha RGBA, sRGB, RGB zero where alpha is.

Writes `jug/` (transforms_train.json, transforms_test.json, train/, test/, and true_mesh.ply, whose vertices lie on the
surface) and `jug_six/` (the canonical six views) under `--out`, then checks them. Rendering needs Mitsuba, which only
development does, and DRJIT_LIBLLVM_PATH naming an LLVM library (19 works, 15 does not); `--check` alone needs neither.
Axes: H W image rows and columns, V vertices, C cameras, K places along the spiral.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from jug_shape import base_colour, gradient, polygonise, sdf
from PIL import Image
from scipy import ndimage
from torch import Tensor

from recon_lib.camera import CANONICAL_FOCAL, CANONICAL_VIEWS, Cameras, canonical_six, look_at, project
from recon_lib.colour import linear_to_srgb

WIDTH = 512  # pixels; images are square
FOCAL = CANONICAL_FOCAL * WIDTH  # pixels
DISTANCE = 2.5  # scene units
TRAIN_VIEWS = np.arange(32.0)
TEST_VIEWS = np.arange(1.5, 32, 4)  # between the training views along the spiral: 15 to 17 degrees from the nearest
SPP_TRAIN, SPP_TEST = 256, 1024  # samples per pixel
NOISE_VIEWS = slice(None, None, 3)  # the held-out views that are rendered twice, for the noise floor
SPP_PASS = 16  # samples per pixel in one launch; bounds the memory
RENDER_CELLS, TRUE_CELLS = 384, 92  # marching-cubes cells along the unit box; the second gives 30 to 40 thousand faces


def sky_radiance(height: int = 128) -> Float[np.ndarray, "H W 3"]:
    """Ambient light and a broad lamp, upper front left; lat-long in Mitsuba's layout: u from -z over +x, v from +y."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    theta, phi = np.pi * v, 2 * np.pi * u
    d = np.stack([np.sin(phi) * np.sin(theta), np.cos(theta), -np.cos(phi) * np.sin(theta)], -1)
    lamp = np.array([-0.55, 0.65, 0.60]) / np.linalg.norm([-0.55, 0.65, 0.60])
    angle = np.arccos(np.clip(d @ lamp, -1, 1))[..., None]
    lobe = np.exp(-(angle**2) / (2 * 0.55**2))
    return (np.array([0.42, 0.44, 0.48]) + lobe * np.array([2.05, 1.94, 1.76])).astype(np.float32)


def build_scene(mi):
    verts, faces = polygonise(RENDER_CELLS)
    normals = gradient(verts)
    props = mi.Properties()
    props["bsdf"] = mi.load_dict(
        {
            "type": "principled",
            "roughness": 0.6,
            "specular": 0.3,
            "base_color": {"type": "mesh_attribute", "name": "vertex_color"},
        }
    )
    jug = mi.Mesh("jug", len(verts), len(faces), has_vertex_normals=True, props=props)
    jug.add_attribute("vertex_color", 3, base_colour(verts).astype(np.float32).ravel())
    params = mi.traverse(jug)
    params["vertex_positions"] = verts.astype(np.float32).ravel()
    params["vertex_normals"] = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32).ravel()
    params["faces"] = faces.astype(np.uint32).ravel()
    params.update()
    sky = {"type": "envmap", "bitmap": mi.Bitmap(sky_radiance())}
    integrator = {"type": "path", "max_depth": 6, "hide_emitters": True}
    return mi.load_dict({"type": "scene", "integrator": integrator, "sky": sky, "jug": jug})


def posed(T_world_cam: Float[Tensor, "C 4 4"]) -> Cameras:
    """The sample's camera at the given poses."""
    intrinsics = torch.tensor([[FOCAL, FOCAL, WIDTH / 2, WIDTH / 2]])
    return Cameras(T_world_cam, intrinsics.repeat(len(T_world_cam), 1), torch.full((len(T_world_cam), 2), WIDTH))


def photo(mi, scene, box, T_world_cam: Float[Tensor, "4 4"], spp: int, seed: int) -> UInt8[np.ndarray, "H W 4"]:
    """One photo; only `box` (x0 y0 x1 y1, pixels) is rendered, the rest is known to be empty."""
    x0, y0, x1, y1 = box
    sensor = mi.load_dict(
        {
            "type": "perspective",
            "fov_axis": "x",
            "fov": float(np.degrees(2 * np.arctan(WIDTH / 2 / FOCAL))),
            # Mitsuba's camera looks along +z with +x to the left: half a turn about y from OpenGL's.
            "to_world": mi.ScalarTransform4f(T_world_cam.double().numpy() @ np.diag([-1.0, 1, -1, 1])),
            "film": {
                "type": "hdrfilm",
                "width": WIDTH,
                "height": WIDTH,
                "pixel_format": "rgba",
                "rfilter": {"type": "box"},
                "crop_offset_x": x0,
                "crop_offset_y": y0,
                "crop_width": x1 - x0,
                "crop_height": y1 - y0,
            },
            "sampler": {"type": "independent"},
        }
    )
    passes = [min(SPP_PASS, spp - start) for start in range(0, spp, SPP_PASS)]
    rgba = sum(
        n / spp * np.array(mi.render(scene, sensor=sensor, spp=n, seed=seed * 1000 + i)) for i, n in enumerate(passes)
    )
    alpha = rgba[..., 3:].clip(0, 1)
    rgb_linear = rgba[..., :3] / alpha.clip(1e-6)
    srgb = linear_to_srgb(torch.from_numpy(rgb_linear.clip(0, 1))).numpy()
    out = np.zeros((WIDTH, WIDTH, 4), np.uint8)
    out[y0:y1, x0:x1] = np.round(255 * np.concatenate([srgb, alpha], -1))
    out[out[..., 3] == 0] = 0
    return out


def spiral(index: Float[np.ndarray, " K"]) -> Float[Tensor, "K 4 4"]:
    """Cameras at places along a golden-angle spiral from 35 degrees below the horizon to 70 above, even in area."""
    low, high = np.sin(np.radians([-35, 70]))
    height = low + (index + 0.5) / len(TRAIN_VIEWS) * (high - low)
    azimuth, ring = index * np.pi * (3 - np.sqrt(5)), np.sqrt(1 - height**2)
    towards = torch.from_numpy(np.stack([ring * np.sin(azimuth), height, ring * np.cos(azimuth)], -1)).float()
    return look_at(DISTANCE * towards, torch.zeros_like(towards), torch.tensor([[0.0, 1, 0]]).expand_as(towards))


def render_set(mi, scene, verts, files, poses, spp, seed):
    """Renders and writes one photo per pose; `verts` bound the object."""
    xy, _ = project(posed(poses), torch.from_numpy(verts).float())
    boxes = torch.cat([xy.amin(1).floor() - 3, xy.amax(1).ceil() + 3], -1).int().tolist()
    for i, (file, pose) in enumerate(zip(files, poses, strict=True)):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(mi, scene, boxes[i], pose, spp, seed + i)).save(file, optimize=True)
        print(file.name, flush=True)


def write_poses(file, names, poses):
    frames = [{"file_path": n, "transform_matrix": T.double().tolist()} for n, T in zip(names, poses, strict=True)]
    head = {"camera_angle_x": 2 * np.arctan(WIDTH / 2 / FOCAL), "w": WIDTH, "h": WIDTH, "up": [0, 1, 0]}
    file.write_text(json.dumps(head | {"frames": frames}, indent=1) + "\n")


def masked_psnr(a: UInt8[np.ndarray, "H W 4"], b: UInt8[np.ndarray, "H W 4"]) -> float:
    """PSNR in dB of two photos, composited on white, in sRGB, where either has alpha > 0.5."""
    mask = (a[..., 3] > 127) | (b[..., 3] > 127)
    a, b = (x[..., :3] / 255 * (x[..., 3:] / 255) + 1 - x[..., 3:] / 255 for x in (a, b))
    return -10 * np.log10(np.square(a - b)[mask].mean())


def make(out: Path, spp_scale: float) -> None:
    import mitsuba as mi

    mi.set_variant("llvm_ad_rgb")
    spp_train, spp_test = (max(1, round(spp_scale * spp)) for spp in (SPP_TRAIN, SPP_TEST))
    jug = out / "jug"
    jug.mkdir(parents=True, exist_ok=True)
    verts, faces = polygonise(TRUE_CELLS)
    trimesh.Trimesh(verts, faces, process=False).export(jug / "true_mesh.ply", vertex_normal=False)
    scene = build_scene(mi)
    files = {}
    for name, index, spp, seed in (("train", TRAIN_VIEWS, spp_train, 200), ("test", TEST_VIEWS, spp_test, 100)):
        names, poses = [f"{name}/r_{i:03d}.png" for i in range(len(index))], spiral(index)
        write_poses(jug / f"transforms_{name}.json", names, poses)
        files[name] = [jug / n for n in names]
        render_set(mi, scene, verts, files[name], poses, spp, seed)
    six = [out / "jug_six" / f"{name}.png" for name in CANONICAL_VIEWS]
    render_set(mi, scene, verts, six, canonical_six(WIDTH).T_world_cam, spp_train, 300)
    with TemporaryDirectory() as folder:
        once = files["test"][NOISE_VIEWS]
        again = [Path(folder) / file.name for file in once]
        render_set(mi, scene, verts, again, spiral(TEST_VIEWS)[NOISE_VIEWS], spp_test, 400)
        pairs = [[np.asarray(Image.open(file)) for file in pair] for pair in zip(once, again, strict=True)]
    between = np.mean([masked_psnr(a, b) for a, b in pairs])
    print(f"held-out views at {spp_test} spp, mean over {len(pairs)} views, 8-bit sRGB on white, inside the mask:")
    # The difference of two independent renders has twice the variance of one render's error.
    print(f"PSNR between two seeds {between:.2f} dB; one seed against a noise-free image {between + 3.01:.2f} dB")


def check_views(files: list[Path], cameras: Cameras, verts: Float[np.ndarray, "V 3"]) -> None:
    """The surface, projected with the poses, covers the photos' masks."""
    xy, depth = project(cameras, torch.from_numpy(verts).float())
    assert (depth > 0).all()
    for file, points in zip(files, xy.numpy(), strict=True):
        mask = np.asarray(Image.open(file))[..., 3] > 127
        column, row = np.floor(points).astype(int).T
        assert ndimage.binary_dilation(mask, iterations=2)[row, column].all(), f"{file}: surface outside the mask"
        y, x = np.nonzero(mask)
        box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        off = np.abs(box - np.concatenate([points.min(0), points.max(0)])).max()
        assert off <= 1, f"{file}: bounding boxes differ by {off:.2f} px"


def check(out: Path) -> None:
    """Asserts that the written sample is consistent: mesh on the surface, photos where the poses say."""
    jug = out / "jug"
    mesh = trimesh.load(jug / "true_mesh.ply", process=False)
    verts = np.asarray(mesh.vertices)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0 and mesh.body_count == 1
    assert np.abs(sdf(verts)).max() < 1e-6 and np.linalg.norm(verts, axis=1).max() < 0.5
    for name in ("train", "test"):
        data = json.loads((jug / f"transforms_{name}.json").read_text())
        poses = torch.tensor([f["transform_matrix"] for f in data["frames"]])
        check_views([jug / f["file_path"] for f in data["frames"]], posed(poses), verts)
    check_views([out / "jug_six" / f"{name}.png" for name in CANONICAL_VIEWS], canonical_six(WIDTH), verts)
    size = sum(file.stat().st_size for folder in (jug, out / "jug_six") for file in folder.rglob("*.*")) / 1e6
    genus = 1 - mesh.euler_number // 2
    print(f"consistent: {len(mesh.faces)} faces, Euler number {mesh.euler_number}, genus {genus}; {size:.2f} MB in all")


def main():
    parser = argparse.ArgumentParser(description="Renders the sample jug and checks it.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of jug/ and jug_six/")
    parser.add_argument("--spp-scale", type=float, default=1.0, help="factor on the samples per pixel, for trials")
    parser.add_argument("--check", action="store_true", help="only check what is there; needs no Mitsuba")
    args = parser.parse_args()
    if not args.check:
        make(args.out, args.spp_scale)
    check(args.out)


if __name__ == "__main__":
    main()
