"""Sixteen ways in which a good mesh goes bad, each with the check that is meant for it.

`python tests/known_bad.py` prints the table of the README: what each is caught by, on the sample and on Spot.
A case takes the mesh, the photos and a seeded generator, and returns both, one of them spoiled.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import captures
import gpytoolbox
import numpy as np
import torch
import trimesh
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from recon_lib import colour
from recon_lib.mesh import Mesh, vertex_normals, volume
from recon_lib.photos import crops, ingest
from recon_lib.photos.scene import Scene
from recon_lib.raster import cpu
from recon_lib.surface import projection, simplify
from recon_lib.verdict import examine
from recon_lib.verdict import judge as verdicts
from recon_lib.verdict.config import Limits, MetricsConfig

WIDTH, TEXTURE = 96, 256  # pixels, texels: small, because every case is rendered and judged
FACES, SPOTS_FACES, HELD_OUT = 3000, 9000, 4
LOOKED_FROM = 3  # every third used photo is looked from, to see which faces photos show
FLAT, BODIES, OVERLAP = "PSNR above that of a flat silhouette", "bodies", "overlap of the masks"
Spoil = Callable[[Mesh, Scene, np.random.Generator], tuple[Mesh, Scene]]


class Case(NamedTuple):
    spoil: Spoil
    check: str  # the name of the one that is meant for it


def middle(mesh: Mesh) -> torch.Tensor:
    return (mesh.verts.max(0).values + mesh.verts.min(0).values) / 2


def longest(mesh: Mesh) -> float:
    return (mesh.verts.max(0).values - mesh.verts.min(0).values).max().item()


def about_middle(mesh: Mesh, A: torch.Tensor) -> Mesh:
    return replace(mesh, verts=(mesh.verts - middle(mesh)) @ A.T + middle(mesh))


def with_more(mesh: Mesh, verts: torch.Tensor, faces: torch.Tensor, uv_faces: torch.Tensor) -> Mesh:
    """The mesh and more faces; `faces` count from its last vertex on where they are negative."""
    more = torch.where(faces < 0, len(mesh.verts) - 1 - faces, faces).int()
    return replace(
        mesh, verts=torch.cat([mesh.verts, verts]), faces=torch.cat([mesh.faces, more]),
        uv_faces=torch.cat([mesh.uv_faces, uv_faces]),
    )  # fmt: skip


def blank(mesh, photos, rng):
    return replace(mesh, texture=torch.ones_like(mesh.texture)), photos


def silhouette(mesh, photos, rng):
    mean = np.mean([photo[photo[..., 3] > 127][:, :3].mean(0) for photo in photos.images], 0).astype(np.uint8)
    flat = torch.as_tensor(colour.linear_of_bytes(mean[None, None]))
    return replace(mesh, texture=flat.expand_as(mesh.texture).clone()), photos


def moved(mesh, photos, rng):
    T = photos.cameras.T_world_cam
    distance = (T[:, :3, 3] - middle(mesh)).norm(dim=-1).mean()
    towards = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=3)).float(), dim=0)
    return replace(mesh, verts=mesh.verts + 3 * distance / photos.cameras.intrinsics[0, 0] * towards), photos


def mirrored(mesh, photos, rng):
    axis = (mesh.verts.max(0).values - mesh.verts.min(0).values).argmax()
    sign = torch.ones(3)
    sign[axis] = -1
    turned = about_middle(mesh, torch.diag(sign))
    return replace(turned, faces=mesh.faces.flip(1), uv_faces=mesh.uv_faces.flip(1)), photos


def scaled(mesh, photos, rng):
    return about_middle(mesh, torch.eye(3) * float(rng.choice([0.85, 1.15]))), photos


def wrong_axis(mesh, photos, rng):
    return about_middle(mesh, torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])), photos


def swapped_texture(mesh, photos, rng):
    return replace(mesh, texture=mesh.texture.flip(0)), photos


def flipped(mesh, photos, rng):
    half = torch.from_numpy(rng.permutation(len(mesh.faces))[::2].copy())
    faces, uv_faces = mesh.faces.clone(), mesh.uv_faces.clone()
    faces[half], uv_faces[half] = faces[half].flip(1), uv_faces[half].flip(1)
    return replace(mesh, faces=faces, uv_faces=uv_faces), photos


def holed(mesh, photos, rng):
    centres = mesh.verts[mesh.faces.long()].mean(1)
    distance = (centres - centres[rng.integers(len(centres))]).norm(dim=-1)
    kept = distance.argsort()[20:]
    return replace(mesh, faces=mesh.faces[kept], uv_faces=mesh.uv_faces[kept]), photos


def doubled(mesh, photos, rng):
    inner = mesh.verts - 0.01 * longest(mesh) * vertex_normals(mesh.verts, mesh.faces)
    return with_more(mesh, inner, -1 - mesh.faces, mesh.uv_faces), photos


def non_manifold(mesh, photos, rng):
    face = int(rng.integers(len(mesh.faces)))
    a, b, _ = mesh.faces[face].tolist()
    tip = mesh.verts[[a, b]].mean(0) + 0.01 * longest(mesh) * vertex_normals(mesh.verts, mesh.faces)[a]
    return with_more(mesh, tip[None], torch.tensor([[a, b, -1]]), mesh.uv_faces[[face]]), photos


def self_intersecting(mesh, photos, rng):
    normals = vertex_normals(mesh.verts, mesh.faces)
    one = int(rng.integers(len(mesh.verts)))
    behind = (mesh.verts - mesh.verts[one]) @ -normals[one]
    beside = ((mesh.verts - mesh.verts[one]) + behind[:, None] * normals[one]).norm(dim=-1)
    far = behind[beside < 0.1 * longest(mesh)].max()
    verts = mesh.verts.clone()
    verts[one] -= (far + 0.02 * longest(mesh)) * normals[one]
    return replace(mesh, verts=verts), photos


def confetti(mesh, photos, rng):
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * 0.01 * longest(mesh)
    tetrahedron = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    places = torch.from_numpy(rng.uniform(-0.6, 0.6, (30, 3))).float() * longest(mesh) + middle(mesh)
    verts = torch.cat([corners + place for place in places])
    faces = torch.cat([-1 - (tetrahedron + 4 * i) for i in range(len(places))])
    return with_more(mesh, verts, faces, mesh.uv_faces[:1].expand(len(faces), 3)), photos


def not_a_number(mesh, photos, rng):
    verts = mesh.verts.clone()
    verts[rng.integers(len(verts), size=3)] = torch.nan
    return replace(mesh, verts=verts), photos


def washed_out(mesh, photos, rng):
    return replace(mesh, texture=colour.linear_to_srgb(mesh.texture.clamp(0, 1))), photos


def other_poses(mesh, photos, rng):
    turn = torch.linalg.qr(torch.from_numpy(rng.normal(size=(3, 3))).float())[0]
    T = torch.eye(4)
    T[:3, :3] = turn * torch.linalg.det(turn)
    back, forth = torch.eye(4), torch.eye(4)
    back[:3, 3], forth[:3, 3] = -middle(mesh), middle(mesh)
    poses = forth @ T @ back @ photos.cameras.T_world_cam
    return mesh, replace(photos, cameras=replace(photos.cameras, T_world_cam=poses))


CASES = {
    "blank": Case(blank, FLAT),
    "flat silhouette": Case(silhouette, FLAT),
    "moved by 3 pixels": Case(moved, "offset from the photos"),
    "mirrored": Case(mirrored, OVERLAP),
    "wrong scale": Case(scaled, OVERLAP),
    "wrong axis": Case(wrong_axis, OVERLAP),
    "swapped texture": Case(swapped_texture, FLAT),
    "half the faces flipped": Case(flipped, "inconsistently wound edges"),
    "holed": Case(holed, "open edges"),
    "doubled shell": Case(doubled, BODIES),
    "non-manifold": Case(non_manifold, "non-manifold edges"),
    "self-intersecting": Case(self_intersecting, "self-intersecting faces"),
    "confetti": Case(confetti, BODIES),
    "vertices that are no numbers": Case(not_a_number, "non-finite vertices"),
    "texture washed out": Case(washed_out, "tone against the photos"),
    "poses of another object": Case(other_poses, OVERLAP),
}


class Given(NamedTuple):
    """An object with its photos."""

    photos: Scene
    truth: Mesh
    faces: int  # of it that are kept


class Good(NamedTuple):
    mesh: Mesh
    photos: Scene  # those held out, and a third of those that the texture is made of


def good(whole: Scene, truth: Mesh, seed: int, width: int = WIDTH, texture: int = TEXTURE, faces: int = FACES) -> Good:
    """The true shape with a texture fitted to photos, without the seed's held-out ones."""
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(whole.names), bool)
    held_out[rng.choice(len(whole.names), HELD_OUT, replace=False)] = True
    photos = replace(captures.shrunk(whole, width), held_out=held_out)
    used = photos.subset(~held_out)
    body = simplify.decimate(Mesh(truth.verts, truth.faces), faces)
    cut = crops.crop_photos(used.images, used.cameras, width)
    assert volume(body.verts, body.faces) > 0
    shown = held_out.copy()
    shown[np.flatnonzero(~held_out)[::LOOKED_FROM]] = True
    return Good(projection.paint(body, cut, texture, cpu, lambda *_: None), photos.subset(shown))


def judge(mesh: Mesh, photos: Scene) -> dict:
    """The verdict without causes, which decide nothing and take longest."""
    scored, limits = verdicts.score(mesh, photos, cpu, set()), Limits()
    evidence = examine.measure(mesh, scored, photos, cpu, MetricsConfig(used_views=2), limits)
    return verdicts.judge(scored, "mesh.glb", evidence, limits)


def spoiled(given: Good, name: str, seed: int) -> dict:
    """The verdict on the mesh after the case."""
    mesh, photos = CASES[name].spoil(given.mesh, given.photos, np.random.default_rng(seed))
    return judge(mesh, photos)


def sample() -> Given:
    home = Path(__file__).parents[1] / "samples" / "jug"
    return Given(ingest.read(home, ingest.IngestConfig()).scene, _read(home / "true_mesh.ply"), FACES)


def spot() -> Given:
    """40 photos, and the true surface made solid: in its file, the eyes are shells of their own in open sockets."""
    whole = captures.read("spot", 40)
    return Given(whole.subset(~whole.held_out), solid(_read(captures.FOLDER / "spot" / "true_mesh.ply")), SPOTS_FACES)


def _read(path: Path) -> Mesh:
    body = trimesh.load_mesh(path, process=False)
    return Mesh(torch.tensor(np.array(body.vertices)).float(), torch.tensor(np.array(body.faces)).int())


OBJECTS = {"sample": sample, "Spot": spot}


def solid(truth: Mesh, cells: int = 160, most: int = SPOTS_FACES) -> Mesh:
    """The closed surface around all places whose winding number (Barill et al. 2018) is above one half."""
    low, high = truth.verts.min(0).values.double().numpy(), truth.verts.max(0).values.double().numpy()
    step = (high - low).max() / cells
    axes = [np.arange(a - 2 * step, b + 2 * step, step) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    inside = gpytoolbox.fast_winding_number(
        points.reshape(-1, 3), truth.verts.double().numpy(), truth.faces.numpy().astype(np.int32)
    ).reshape(points.shape[:3])
    # Blurred by a cell, because the winding number jumps, and its surface would be made of steps.
    verts, faces, _, _ = marching_cubes(
        gaussian_filter(inside, 1.0), 0.5, spacing=(step,) * 3, gradient_direction="ascent"
    )
    faces = np.ascontiguousarray(faces)
    return simplify.remesh_evenly(verts + points[0, 0, 0], faces, most)


if __name__ == "__main__":
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    for of, read in OBJECTS.items():
        scene, truth, faces = read()
        alarms, caught, lost_by = [], {name: 0 for name in CASES}, {name: "" for name in CASES}
        for seed in seeds:
            given = good(scene, truth, seed, faces=faces)
            found = judge(*given)
            alarms += [found["psnr_db"]] if found["status"] == "normal" else [f"{seed}: {found['decided_by']}"]
            for name, case in CASES.items():
                found = spoiled(given, name, seed)
                caught[name] += case.check in found["decided_by"]
                lost_by[name] = f"{found['status']}, {found['psnr_db']:.1f} dB, {found['ssim']:.2f}"
        print(f"{of}: the good mesh: {alarms}")
        for name, case in CASES.items():
            print(f"| {name} | {case.check} | {caught[name]} of {len(seeds)} | {lost_by[name]} |", flush=True)
