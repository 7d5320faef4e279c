"""Alignment of a mesh in an unknown frame with posed photos: finds the similarity whose silhouettes match the masks.

Frames: `world` is that of the cameras; `mesh` is that of the vertices; `unit` is the mesh with the middle of its box at the
origin and its farthest vertex at distance 1; `ball` is the world moved and scaled so that the object, as the masks show it,
is near the origin and has a radius of about 1. Rotations (radians), logarithms of scale and shifts in the ball share one rate.

Silhouettes cannot distinguish size from distance where all views look the same way (with one view the mesh keeps about its
own size), nor two rotations with the same outlines (then `runner_up_iou` is as high as the mean of `iou`), nor what lies in
hollows. Axes: B views, K poses, H W pixels of a crop.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon_lib import camera, frames, threads
from recon_lib.camera import Cameras
from recon_lib.coarse import silhouettes
from recon_lib.coarse.config import AlignConfig
from recon_lib.coarse.silhouettes import Body, Masks
from recon_lib.mesh import Mesh
from recon_lib.photos import framing
from recon_lib.progress import Progress, silent
from recon_lib.raster.interface import Rasteriser

NARROW = np.radians(2)  # if the rays differ by less than this on average, they say nothing about distance
POSES_AT_ONCE = 64  # poses that are drawn together
UP_MESH = (0.0, 0.0, 1.0)  # up in the mesh's frame, for upright starting rotations


class Alignment(NamedTuple):
    """The similarity found, how well its silhouettes fit, and the best fit with another rotation."""

    T_world_mesh: Float[np.ndarray, "4 4"]  # similarity, float64
    iou: Float[np.ndarray, " B"]  # overlap of the masks (alpha > 0.5) per view, at the final size
    starts: int  # rotations tried
    runner_up_iou: (
        float  # the best other rotation's overlap, mean over the views; NaN if all fits ended in one rotation
    )
    runner_up_radians: float  # angle between that rotation and the result's


def fit_similarity(
    mesh: Mesh,
    alphas: list[np.ndarray],
    cameras: Cameras,
    config: AlignConfig,
    raster: Rasteriser,
    up_world: Float[np.ndarray, "3"] | None = None,
    progress: Progress = silent,
) -> Alignment:
    """Finds the similarity from masks alone: one (H W, 0 to 1) per view, each of its own size.

    With `up_world`, a vector in the world, upright rotations are also tried. Raises ValueError for a mesh without faces or with
    non-finite vertices, for no masks, for an empty mask, and for poses that the masks contradict.
    """
    check(mesh, alphas, cameras)
    threads.one_torch_thread()
    progress(0.0, "measuring masks")
    T_unit_mesh = frames.unit_frame(mesh.verts).double()
    T_ball_world = ball_frame(alphas, cameras, 1 / T_unit_mesh[0, 0].item())
    in_ball = move_in_double(cameras, T_ball_world)
    coarse, fine = (
        silhouettes.prepare_body(mesh, T_unit_mesh, n, raster) for n in (config.search_faces, config.final_faces)
    )
    order = _order_by_spread(in_ball)
    search, final = (
        silhouettes.crop_masks([alphas[i] for i in order[:count]], in_ball[order[:count]], size, raster)
        for count, size in ((config.search_views, config.search_size), (config.final_views, config.final_size))
    )
    poses = starts = _starting_rotations(config, up_world).to(raster.DEVICE)
    for lap in range(3):  # the first two laps align centres and areas; the scores of the last lap count
        poses, scores = _recentre(poses, coarse, search, raster)
        progress(0.1 * (lap + 1), f"tried {len(poses)} rotations")
    poses = poses[_select_apart(poses, scores, config.apart, config.kept)]
    poses = fit_poses(poses, coarse, search, config.search_steps, config.search_rate, config.decay, raster)
    progress(0.6, f"fitted the best {len(poses)}")
    scores = silhouettes.iou(poses, coarse, search, raster).mean(1)
    poses = poses[_select_apart(poses, scores, config.apart, config.finalists)]
    poses = fit_poses(poses, fine, final, config.final_steps, config.final_rate, config.decay, raster)
    poses = poses[_select_apart(poses, silhouettes.iou(poses, fine, final, raster).mean(1), config.apart, 2)]
    progress(0.9, "measuring the overlap")
    iou = silhouettes.iou(poses, fine, silhouettes.crop_masks(alphas, in_ball, config.final_size, raster), raster)
    T_world_mesh = torch.linalg.inv(T_ball_world) @ poses[0].double().cpu() @ T_unit_mesh
    other = (iou[1].mean().item(), _angles(poses[:1], poses)[0, 1].item()) if len(poses) > 1 else (np.nan, np.nan)
    progress(1.0, f"aligned, mean overlap {iou[0].mean():.3f}")
    return Alignment(T_world_mesh.numpy(), iou[0].double().cpu().numpy(), len(starts), *other)


def check(mesh: Mesh, alphas: list[np.ndarray], cameras: Cameras) -> None:
    """Raises ValueError for a mesh without faces or with non-finite vertices, for no masks, and for an empty mask."""
    if len(mesh.faces) == 0 or not torch.isfinite(mesh.verts).all():
        lost = (~torch.isfinite(mesh.verts)).any(-1).sum().item()
        raise ValueError(
            f"align: got a mesh of {len(mesh.faces)} faces with {lost} non-finite vertices, need faces and none of these"
        )
    if len(alphas) == 0 or len(alphas) != len(cameras):
        raise ValueError(f"align: got {len(alphas)} masks for {len(cameras)} cameras, need one each, and at least one")
    empty = [i for i, alpha in enumerate(alphas) if not (alpha > 0.5).any()]
    if empty:
        raise ValueError(f"align: masks {empty} have no alpha above 0.5, need the object in every mask")


def move_in_double(cameras: Cameras, T_new_world: Float[Tensor, "4 4"]) -> Cameras:
    """`camera.moved` computed in float64, because the object may lie far from the world's origin."""
    exact = Cameras(cameras.T_world_cam.double().cpu(), cameras.intrinsics.double().cpu(), cameras.sizes)
    moved = camera.moved(exact, T_new_world.double())
    return Cameras(moved.T_world_cam.float(), moved.intrinsics.float(), moved.sizes)


def ball_frame(alphas: list[np.ndarray], cameras: Cameras, mesh_radius: float) -> Float[Tensor, "4 4"]:
    """`T_ball_world`: its origin is the point nearest to all rays through the masks' centres, its unit the object's mean half
    extent. If the rays are nearly parallel, the distance is the one at which the object has `mesh_radius` (world units).

    Raises ValueError if that point lies behind a camera.
    """
    boxes = np.array([framing.mask_box(alpha) for alpha in alphas])
    eyes, ray = framing.mask_rays(boxes, cameras)
    focal = cameras.intrinsics.double().cpu().numpy()[:, :2]
    reach = np.linalg.norm((boxes[:, 2:] - boxes[:, :2]) / focal, axis=1) / 2
    across = np.eye(3) - ray[:, :, None] * ray[:, None]
    if np.linalg.eigvalsh(across.mean(0))[0] < np.sin(NARROW) ** 2:
        depth = mesh_radius / reach
        centre = (eyes + depth[:, None] * ray).mean(0)
    else:
        centre = framing.meeting_point(eyes, ray)
        depth = ((centre - eyes) * ray).sum(1)
    if (depth <= 0).any():
        raise ValueError(
            f"align: the masks' rays meet behind cameras {np.flatnonzero(depth <= 0).tolist()}, need the object in front "
            "of all; check the poses' convention (camera-to-world, OpenGL axes) and that each mask belongs to its pose"
        )
    T = np.eye(4) / (depth * reach).mean()
    T[:3, 3], T[3, 3] = -centre * T[0, 0], 1
    return torch.from_numpy(T)


def _order_by_spread(in_ball: Cameras) -> Int[Tensor, " B"]:
    """All views, ordered so that each next one looks from a direction as far as possible from those before it."""
    towards = torch.nn.functional.normalize(in_ball.T_world_cam[:, :3, 3], dim=-1)
    order, nearest = [0], torch.full((len(towards),), torch.inf)
    for _ in range(len(towards) - 1):
        nearest = torch.minimum(nearest, (towards - towards[order[-1]]).norm(dim=-1))
        nearest[order] = -1
        order.append(int(nearest.argmax()))
    return torch.tensor(order)


def _starting_rotations(config: AlignConfig, up_world: np.ndarray | None) -> Float[Tensor, "K 4 4"]:
    """Upright rotations first, if up is known, then super-Fibonacci spirals (Alexa 2022) turned by a random rotation."""
    s = np.arange(config.starts) + 0.5
    r, rest = np.sqrt(s / config.starts), np.sqrt(1 - s / config.starts)
    alpha, beta = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    spiral = np.stack([r * np.sin(alpha), r * np.cos(alpha), rest * np.sin(beta), rest * np.cos(beta)], -1)
    matrices = [(Rotation.random(random_state=config.seed) * Rotation.from_quat(spiral)).as_matrix()]
    if up_world is not None:
        yaw = np.arange(config.upright_starts)[:, None] * (2 * np.pi / config.upright_starts)
        lift, _ = Rotation.align_vectors([up_world], [UP_MESH])
        matrices.insert(0, (lift * Rotation.from_rotvec(yaw * UP_MESH)).as_matrix())
    poses = torch.eye(4).repeat(sum(map(len, matrices)), 1, 1)
    poses[:, :3, :3] = torch.from_numpy(np.concatenate(matrices)).float()
    return poses


@torch.no_grad()
def _recentre(
    T_ball_unit: Float[Tensor, "K 4 4"], shape: Body, target: Masks, raster: Rasteriser
) -> tuple[Float[Tensor, "K 4 4"], Float[Tensor, " K"]]:
    """Shifts and scales each pose towards the masks' centres and areas; also returns the mean overlap before that."""
    moved, scores = [], []
    T_ball_cam, focal = target.cameras.T_world_cam, target.cameras.intrinsics[:, :2]
    for poses in T_ball_unit.split(POSES_AT_ONCE):
        shown = silhouettes.draw_poses(poses, shape, target, raster)
        scores.append(silhouettes.overlap(shown, target.alpha).mean(1))
        (area, centre), (true_area, true_centre) = _moments(shown), _moments(target.alpha)
        depth = ((T_ball_cam[:, :3, 3] - poses[:, None, :3, 3]) * T_ball_cam[:, :3, 2]).sum(-1, keepdim=True)
        way = (true_centre - centre) * depth / focal * depth.new_tensor([1, -1])
        way = torch.where(area[..., None] > 0, way, 0)
        # Least squares for the shift, which each view sees along its two image axes. With one view, the shift in depth stays 0.
        across = T_ball_cam[:, :3, :2]
        normal = (across @ across.mT).sum(0) + 1e-3 * torch.eye(3, device=across.device)
        shift = torch.linalg.solve(normal, (across @ way[..., None]).sum(1))[..., 0]
        grow = (true_area / area.clamp_min(1)).log().mean(1).clamp(-1, 1) / 2
        poses = poses.clone()
        poses[:, :3, :3] *= grow.exp()[:, None, None]
        poses[:, :3, 3] += shift.clamp(-1, 1)
        moved.append(poses)
    return torch.cat(moved), torch.cat(scores)


def _moments(alpha: Float[Tensor, "*K H W"]) -> tuple[Float[Tensor, "*K"], Float[Tensor, "*K 2"]]:
    """Area (squared pixels) and centre (x y, pixels) of each mask."""
    at = torch.arange(alpha.shape[-1], device=alpha.device) + 0.5
    area = alpha.sum((-1, -2))
    x, y = (alpha.sum(-2) * at).sum(-1), (alpha.sum(-1) * at).sum(-1)
    return area, torch.stack([x, y], -1) / area.clamp_min(1e-6)[..., None]


def _angles(a: Float[Tensor, "I 4 4"], b: Float[Tensor, "J 4 4"]) -> Float[Tensor, "I J"]:
    """The angle in radians between the rotations of each pair of similarities."""
    trace = torch.einsum("iab,jab->ij", frames.rotation_of(a), frames.rotation_of(b))
    return ((trace - 1) / 2).clamp(-1, 1).arccos()


def _select_apart(poses: Float[Tensor, "K 4 4"], scores: Float[Tensor, " K"], radians: float, most: int) -> list[int]:
    """Indices of at most `most` poses, best first; none is within `radians` of a better one."""
    kept: list[int] = []
    near = _angles(poses, poses) < radians
    left = torch.ones_like(scores, dtype=torch.bool)
    while left.any() and len(kept) < most:
        kept.append(int(torch.where(left, scores, -1.0).argmax()))
        left &= ~near[kept[-1]]
        left[kept[-1]] = False
    return kept


def fit_poses(
    T_ball_unit: Float[Tensor, "K 4 4"], shape: Body, target: Masks, steps: int, rate: float, decay: float,
    raster: Rasteriser,
) -> Float[Tensor, "K 4 4"]:  # fmt: skip
    """Fits each pose by itself, with Adam on the squared difference of coverage. `rate` falls to its share `decay`."""
    move = torch.zeros(len(T_ball_unit), 7, device=T_ball_unit.device, requires_grad=True)
    adam = torch.optim.Adam([move], betas=(0.8, 0.95))
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * decay ** (step / max(steps - 1, 1))
        adam.zero_grad()
        shown = silhouettes.draw_poses(_move_by(T_ball_unit, move), shape, target, raster)
        # Poses share no terms and Adam scales each number by itself, so one sum fits them all.
        (shown - target.alpha).square().mean((1, 2, 3)).sum().backward()
        adam.step()
    return _move_by(T_ball_unit, move.detach())


def _move_by(T_ball_unit: Float[Tensor, "K 4 4"], move: Float[Tensor, "K 7"]) -> Float[Tensor, "K 4 4"]:
    """Rotates each pose about the mesh's middle, scales and shifts it; `move` is rotation vector, log scale, shift."""
    turn, log_scale, shift = move.split([3, 1, 3], -1)
    linear = log_scale.exp()[..., None] * rotations(turn) @ T_ball_unit[:, :3, :3]
    top = torch.cat([linear, (T_ball_unit[:, :3, 3] + shift)[..., None]], -1)
    return torch.cat([top, T_ball_unit[:, 3:]], 1)


def rotations(vectors: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3 3"]:
    """Rotation matrices of rotation vectors (radians), differentiable."""
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(-1, 3, 3))
