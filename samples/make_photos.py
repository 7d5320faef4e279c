"""The sample of plain photos: renders the bird of `bird_shape` on a table among other things, by path tracing.

Only the camera moves; light, table and clutter stay. `bird/photos/` holds 30 JPEGs with the focal length in their EXIF, which
is all that a run gets. `bird/truth/` holds what it should find: `transforms.json` (camera-to-world, OpenGL axes as in
`recon_lib.camera`, the bird's world, y up), `masks/` and `mesh.ply`, whose vertices lie on the surface. Then they are checked.
Rendering needs Mitsuba and pyoidn (Intel's Open Image Denoise), which only development does, and DRJIT_LIBLLVM_PATH naming an
LLVM library (19 works, 15 does not); `--check` alone needs none of them. Axes: H W image rows and columns, V vertices, C
cameras.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import trimesh
from bird_shape import FOOT, base_colour, gradient, polygonise, sdf
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage
from torch import Tensor

from recon_lib.camera import Cameras, look_at, project
from recon_lib.colour import linear_to_srgb

WIDTH, HEIGHT = 960, 720  # pixels
IN_35_MM = 45  # millimetres, the focal length as EXIF states it
FOCAL = IN_35_MM / 43.27 * np.hypot(WIDTH, HEIGHT)  # pixels
RINGS = ((17, 20.0), (13, 44.0))  # photos, and degrees of elevation
DISTANCE = 2.15  # scene units
SPP, SPP_MASK, SPP_PASS = 64, 16, 16  # samples per pixel, of photos, of masks, and in one launch
RENDER_CELLS, TRUE_CELLS = 320, 112  # marching-cubes cells along the unit box
QUALITY = 82  # of the JPEGs
EXIF, EXIF_IN_35_MM = 0x8769, 0xA405


def cameras() -> Float[Tensor, "C 4 4"]:
    """Two rings of a hand-held camera: heights, distances and directions vary a little."""
    draw = np.random.default_rng(11)
    eyes, at = [], []
    for count, elevation in RINGS:
        for i in range(count):
            azimuth = 2 * np.pi * (i + draw.uniform(-0.15, 0.15)) / count
            up = np.radians(elevation + draw.uniform(-4, 4))
            eye = np.array([np.cos(up) * np.sin(azimuth), np.sin(up), np.cos(up) * np.cos(azimuth)])
            eyes.append(DISTANCE * draw.uniform(0.94, 1.06) * eye)
            at.append(draw.uniform(-0.06, 0.06, 3))
    eyes, at = torch.tensor(np.array(eyes)).float(), torch.tensor(np.array(at)).float()
    return look_at(eyes, at, torch.tensor([[0.0, 1, 0]]).expand_as(eyes))


def posed(T_world_cam: Float[Tensor, "C 4 4"]) -> Cameras:
    """The sample's camera at the given poses."""
    count = len(T_world_cam)
    intrinsics = torch.tensor([[FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]], dtype=torch.float32)
    return Cameras(T_world_cam, intrinsics.repeat(count, 1), torch.tensor([[WIDTH, HEIGHT]]).repeat(count, 1))


def room(height: int = 128) -> Float[np.ndarray, "H W 3"]:
    """The room as an environment: a wall with shelves in dull colours, a dark floor, two windows and a ceiling that light."""
    draw = np.random.default_rng(5)
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    out = np.where((v < 0.35)[..., None], np.array([0.75, 0.76, 0.80]), np.array([0.35, 0.33, 0.30]))
    for _ in range(60):
        x, y = draw.integers(0, 2 * height), draw.integers(int(0.38 * height), int(0.62 * height))
        wide, tall = draw.integers(4, 14), draw.integers(4, 12)
        out[y : y + tall, x : x + wide] = draw.uniform(0.10, 0.45) + draw.uniform(-0.06, 0.06, 3)
    out[v > 0.66] = (0.12, 0.10, 0.09)
    for middle, bright in ((0.15, 9.0), (0.62, 6.0)):
        out[(np.abs(u - middle) < 0.05) & (v > 0.2) & (v < 0.4)] = bright * np.array([1.0, 0.97, 0.9])
    return ndimage.gaussian_filter(out, (1.0, 1.0, 0), mode=("nearest", "wrap", "nearest")).astype(np.float32)


def table_top(side: int = 768) -> Float[np.ndarray, "H W 3"]:
    """Planks of pale wood with their grain, linear colour."""
    draw = np.random.default_rng(3)
    fine = ndimage.gaussian_filter(draw.standard_normal((side, side)), (1.0, 24), mode="wrap")
    slow = ndimage.gaussian_filter(draw.standard_normal((side, side)), (8, 90), mode="wrap")
    plank = np.arange(side) * 6 // side
    tone = (
        0.42
        + 0.10 * fine / fine.std() * 0.5
        + 0.05 * slow / slow.std()
        + 0.05 * draw.standard_normal(6)[plank][:, None]
    )
    tone[np.flatnonzero(np.diff(plank))] *= 0.3
    return (tone.clip(0.05, 0.8)[..., None] * np.array([1.0, 0.78, 0.55])).astype(np.float32)


def clutter(mi) -> dict:
    """Blocks and balls around the bird, lower than would hide it."""
    draw = np.random.default_rng(21)
    out = {}
    for i in range(14):
        azimuth, away = 2 * np.pi * (i + draw.uniform(-0.3, 0.3)) / 14, draw.uniform(0.85, 1.35)
        size, kind = draw.uniform(0.05, 0.10), ("cube", "sphere")[i % 2]
        at = mi.ScalarTransform4f().translate([away * np.sin(azimuth), FOOT + size, away * np.cos(azimuth)])
        turn = at @ mi.ScalarTransform4f().rotate([0, 1, 0], draw.uniform(0, 360))
        place = {"to_world": turn @ mi.ScalarTransform4f().scale([size, size, size])}
        checks = {
            "type": "checkerboard",
            "color0": {"type": "rgb", "value": list(draw.uniform(0.05, 0.55, 3))},
            "color1": {"type": "rgb", "value": list(draw.uniform(0.05, 0.55, 3))},
            "to_uv": mi.ScalarTransform4f().scale([3, 2, 1]),
        }
        out[f"thing{i}"] = {"type": kind, **place, "bsdf": {"type": "diffuse", "reflectance": checks}}
    return out


def bird(mi):
    verts, faces = polygonise(RENDER_CELLS)
    normals = gradient(verts)
    props = mi.Properties()
    colour = {"type": "mesh_attribute", "name": "vertex_color"}
    props["bsdf"] = mi.load_dict({"type": "principled", "roughness": 0.7, "specular": 0.2, "base_color": colour})
    mesh = mi.Mesh("bird", len(verts), len(faces), has_vertex_normals=True, props=props)
    mesh.add_attribute("vertex_color", 3, base_colour(verts).astype(np.float32).ravel())
    params = mi.traverse(mesh)
    params["vertex_positions"] = verts.astype(np.float32).ravel()
    params["vertex_normals"] = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32).ravel()
    params["faces"] = faces.astype(np.uint32).ravel()
    params.update()
    return mesh


def render(mi, scene, T_world_cam: Float[Tensor, "4 4"], spp: int, seed: int) -> Float[np.ndarray, "H W 4"]:
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
                "height": HEIGHT,
                "pixel_format": "rgba",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "independent"},
        }
    )
    passes = [min(SPP_PASS, spp - start) for start in range(0, spp, SPP_PASS)]
    return sum(
        n / spp * np.array(mi.render(scene, sensor=sensor, spp=n, seed=seed * 1000 + i)) for i, n in enumerate(passes)
    )


def save(path: Path, rgb_linear: Float[np.ndarray, "H W 3"]) -> None:
    """Writes a JPEG whose EXIF states the focal length, freed of the path tracer's noise, of which real photos have less."""
    import pyoidn

    clean = pyoidn.denoise(np.ascontiguousarray(rgb_linear, np.float32), hdr=True)
    srgb = linear_to_srgb(torch.from_numpy(clean.clip(0, 1))).numpy()
    photo = Image.fromarray(np.round(255 * srgb).astype(np.uint8))
    exif = photo.getexif()
    exif.get_ifd(EXIF)[EXIF_IN_35_MM] = IN_35_MM
    photo.save(path, quality=QUALITY, exif=exif)


def make(out: Path, spp_scale: float, every: int) -> None:
    import mitsuba as mi

    mi.set_variant("llvm_ad_rgb")
    photos, truth = out / "bird" / "photos", out / "bird" / "truth"
    for folder in (photos, truth / "masks"):
        folder.mkdir(parents=True, exist_ok=True)
    verts, faces = polygonise(TRUE_CELLS)
    trimesh.Trimesh(verts, faces, process=False).export(truth / "mesh.ply", vertex_normal=False)
    T = cameras()
    frames = [
        {
            "file_path": f"../photos/{i:02d}.jpg",
            "mask_path": f"masks/{i:02d}.png",
            "transform_matrix": pose.double().tolist(),
        }
        for i, pose in enumerate(T)
    ]
    head = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT, "up": [0, 1, 0]}
    (truth / "transforms.json").write_text(json.dumps(head | {"frames": frames}, indent=1) + "\n")
    mesh = bird(mi)
    light = {"type": "envmap", "bitmap": mi.Bitmap(room())}
    wood = {"type": "bitmap", "bitmap": mi.Bitmap(table_top()), "raw": True}
    # Mitsuba's rectangle lies in x and y, from -1 to 1, and faces +z.
    flat = mi.ScalarTransform4f().translate([0, FOOT, 0]) @ mi.ScalarTransform4f().rotate([1, 0, 0], -90)
    table = {
        "type": "rectangle",
        "to_world": flat @ mi.ScalarTransform4f().scale([1.9, 1.9, 1]),
        "bsdf": {"type": "diffuse", "reflectance": wood},
    }
    whole = mi.load_dict(
        {"type": "scene", "integrator": {"type": "path", "max_depth": 5}, "sky": light, "table": table, "bird": mesh}
        | clutter(mi)
    )
    alone = mi.load_dict(
        {"type": "scene", "integrator": {"type": "direct", "hide_emitters": True}, "sky": light, "bird": mesh}
    )
    for i in range(0, len(T), every):
        save(photos / f"{i:02d}.jpg", render(mi, whole, T[i], max(1, round(spp_scale * SPP)), i)[..., :3])
        alpha = render(mi, alone, T[i], SPP_MASK, 100 + i)[..., 3]
        Image.fromarray(np.round(255 * alpha.clip(0, 1)).astype(np.uint8)).save(
            truth / "masks" / f"{i:02d}.png", optimize=True
        )
        print(f"{i:02d}.jpg", flush=True)


def check(out: Path) -> None:
    """Asserts that the written sample is consistent: mesh on the surface, masks where the poses say, all of it small."""
    truth = out / "bird" / "truth"
    mesh = trimesh.load(truth / "mesh.ply", process=False)
    verts = np.asarray(mesh.vertices)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0 and mesh.body_count == 1
    assert np.abs(sdf(verts)).max() < 1e-4 and np.linalg.norm(verts, axis=1).max() < 0.5
    data = json.loads((truth / "transforms.json").read_text())
    T = torch.tensor([frame["transform_matrix"] for frame in data["frames"]])
    xy, depth = project(posed(T), torch.from_numpy(verts).float())
    assert (depth > 0).all()
    for frame, points in zip(data["frames"], xy.numpy(), strict=True):
        mask: UInt8[np.ndarray, "H W"] = np.asarray(Image.open(truth / frame["mask_path"]))
        y, x = np.nonzero(mask > 127)
        box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        off = np.abs(box - np.concatenate([points.min(0), points.max(0)])).max()
        assert off <= 2, f"{frame['mask_path']}: bounding boxes differ by {off:.2f} px"
        with Image.open(truth / frame["file_path"]) as photo:
            assert photo.size == (WIDTH, HEIGHT) and photo.getexif().get_ifd(EXIF)[EXIF_IN_35_MM] == IN_35_MM
    size = sum(file.stat().st_size for file in (out / "bird").rglob("*.*")) / 1e6
    assert size <= 6, f"{size:.2f} MB, needed 6 at most"
    print(f"consistent: {len(T)} photos, {len(mesh.faces)} faces; {size:.2f} MB in all")


def main():
    parser = argparse.ArgumentParser(description="Renders the sample of plain photos and checks it.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of bird/")
    parser.add_argument("--spp-scale", type=float, default=1.0, help="factor on the samples per pixel, for trials")
    parser.add_argument("--every", type=int, default=1, help="render each so-manieth photo, for trials")
    parser.add_argument("--check", action="store_true", help="only check what is there; needs no Mitsuba")
    args = parser.parse_args()
    if not args.check:
        make(args.out, args.spp_scale, args.every)
    if args.every == 1:
        check(args.out)


if __name__ == "__main__":
    main()
