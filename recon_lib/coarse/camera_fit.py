"""Fits guessed cameras to photos of a known mesh: every pose, and the focal lengths.

The guesses are in one common frame of any position and scale. The result is in the mesh's frame; the mesh fixes it, so all
cameras can move. The fit works in `unit`: the mesh with the middle of its box at the origin and its farthest vertex at distance
1. It first matches silhouettes, then colours too: the mesh is painted with the mean colours of other photos, each camera moves
until it sees what its own photo shows, and the mesh is painted again. Principal points stay, and there is no distortion.

What the photos cannot determine: focal length and distance have nearly the same effect except for perspective, so both are
uncertain where the object is far away for its size. Silhouettes alone leave rotations about an axis of symmetry open; colours
settle them where the surface has a pattern that several photos show, so the colours of a single photo say nothing. The rough
rotation between guesses and mesh comes from silhouettes alone (`alignment` has the runner-up). Errors of the mesh end up in the
cameras. Axes: B views, H W pixels of a crop.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon_lib import camera, frames, render
from recon_lib.camera import Cameras
from recon_lib.coarse import align, silhouettes
from recon_lib.coarse.align import Alignment
from recon_lib.coarse.config import AlignConfig, CameraFitConfig
from recon_lib.coarse.silhouettes import Body, Masks
from recon_lib.mesh import Mesh
from recon_lib.photos import crops, framing
from recon_lib.photos.crops import Photos
from recon_lib.progress import Progress, part, silent
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import projection

FOCALS = ("shared", "each", "fixed")
SEARCH_DEGREES = (-24, -12, 12, 24)  # starting rotations about each of the camera's axes
SEARCH_AVERAGED = 4  # colours are averaged over squares of this side, in pixels, so that small offsets do not matter
GROUPS = 4  # groups of photos; each group is compared with the colours of the other groups


class Scores(NamedTuple):
    """How well cameras explain the photos."""

    iou: Float[np.ndarray, " B"]  # overlap of the masks (alpha > 0.5) per view
    psnr_db: float  # in the union of both masks, with the mesh in the colours of other photos; mean over the views


class CameraFit(NamedTuple):
    """The fitted cameras, and the scores before and after the fit."""

    cameras: Cameras  # in the mesh's frame
    before: Scores  # of the guesses, moved to the mesh by one similarity
    after: Scores
    focal_scale: Float[np.ndarray, " B"]  # fitted focal length divided by the guessed one
    alignment: Alignment  # of the mesh with the guesses, after each guess was turned towards the object


class Rig(NamedTuple):
    """The cameras' poses, and the logarithms of fitted over guessed focal lengths."""

    T_unit_cam: Float[Tensor, "B 4 4"]
    log_focal: Float[Tensor, " B"]


class Task(NamedTuple):
    """What the cameras should see. Of the cameras stored in here only the intrinsics count; the poses come from a `Rig`."""

    shape: Body
    masks: Masks
    photos: Photos
    blank: Mesh  # the shape with texture coordinates


def fit_cameras(
    mesh: Mesh,
    images: tuple[np.ndarray, ...],
    guesses: Cameras,
    config: CameraFitConfig,
    align_config: AlignConfig,
    raster: Rasteriser,
    progress: Progress = silent,
) -> CameraFit:
    """Fits the cameras to photos (H W 4 uint8, straight alpha, sRGB).

    The result is the state with the highest PSNR among those whose mean overlap is not below that of the guesses; the guesses
    themselves are one of these states. Raises ValueError as `align.fit_similarity` does, and for an unknown `focal`.
    """
    if config.focal not in FOCALS:
        raise ValueError(f"camera fit: got focal {config.focal!r}, need one of {FOCALS}")
    alphas = [image[..., 3] / np.float32(255) for image in images]
    align.check(mesh, alphas, guesses)
    T_unit_mesh = frames.unit_frame(mesh.verts).double()
    turned = aim_at_masks(alphas, guesses, 1 / T_unit_mesh[0, 0].item())
    alignment = align.fit_similarity(mesh, alphas, turned, align_config, raster, progress=part(progress, 0.0, 0.4))
    T_unit_guess = T_unit_mesh @ torch.from_numpy(alignment.T_world_mesh).inverse()
    task = _prepare_task(mesh, images, alphas, align.move_in_double(guesses, T_unit_guess), config, raster)
    rigs = [
        _bring_to_mesh(align.move_in_double(cameras, T_unit_guess), task, config, raster)
        for cameras in (guesses, turned)
    ]
    states = [(rigs[0], _score(rigs[0], _dress(rigs[0], task, raster), task, raster))]
    progress(0.5, f"guesses brought to the mesh, mean overlap {states[0][1].iou.mean():.3f}")
    for rig, scores in _fit_in_rounds(max(rigs, key=lambda rig: _iou(rig, task, raster).mean()), task, config, raster):
        states.append((rig, scores))
        share = len(states) / (3 + config.rounds)
        progress(0.5 + 0.5 * share, f"mean overlap {scores.iou.mean():.3f}, {scores.psnr_db:.2f} dB")
    before = states[0][1]
    rig, after = max(
        (state for state in states if state[1].iou.mean() >= before.iou.mean()), key=lambda state: state[1].psnr_db
    )
    focal_scale = rig.log_focal.exp().double().cpu()
    intrinsics = (
        guesses.intrinsics.cpu() * torch.stack([focal_scale, torch.ones_like(focal_scale)], -1)[:, [0, 0, 1, 1]]
    )
    in_unit = Cameras(rig.T_unit_cam.cpu(), intrinsics.float(), guesses.sizes)
    cameras = align.move_in_double(in_unit, T_unit_mesh.inverse())
    return CameraFit(cameras, before, after, focal_scale.numpy(), alignment)


def aim_at_masks(alphas: list[np.ndarray], cameras: Cameras, mesh_radius: float) -> Cameras:
    """Turns each camera in place so that the ray through the middle of its mask meets the rays of the others.

    `mesh_radius` is the radius, in world units, that the object has if the rays are nearly parallel.
    """
    T_ball_world = align.ball_frame(alphas, cameras, mesh_radius).numpy()
    T_world_cam = cameras.T_world_cam.double().cpu().numpy()
    _, rays = framing.mask_rays(np.array([framing.mask_box(alpha) for alpha in alphas]), cameras)
    centre = -T_ball_world[:3, 3] / T_ball_world[0, 0]
    for T, ray in zip(T_world_cam, rays, strict=True):
        T[:3, :3] = Rotation.align_vectors([centre - T[:3, 3]], [ray])[0].as_matrix() @ T[:3, :3]
    return replace(cameras, T_world_cam=torch.from_numpy(T_world_cam).to(cameras.T_world_cam))


def _prepare_task(
    mesh: Mesh, images: tuple, alphas: list[np.ndarray], in_unit: Cameras, config: CameraFitConfig, raster: Rasteriser
) -> Task:
    shape = silhouettes.prepare_body(mesh, frames.unit_frame(mesh.verts).double(), config.faces, raster)
    photos = crops.crop_photos(images, in_unit, config.size)
    photos = Photos(photos.rgba.to(raster.DEVICE), camera.on_device(photos.cameras, raster.DEVICE))
    blank = projection.paint(Mesh(shape.verts, shape.faces), photos, config.texture_size, raster, silent)
    return Task(shape, silhouettes.crop_masks(alphas, in_unit, config.size, raster), photos, blank)


def _bring_to_mesh(in_unit: Cameras, task: Task, config: CameraFitConfig, raster: Rasteriser) -> Rig:
    """Moves all cameras together, by the one similarity that fits the silhouettes best."""
    target = Masks(task.masks.alpha, replace(task.masks.cameras, T_world_cam=in_unit.T_world_cam.to(raster.DEVICE)))
    pose = torch.eye(4, device=raster.DEVICE)[None]
    pose = align.fit_poses(pose, task.shape, target, config.first_steps, config.mask_rate, config.decay, raster)
    moved = align.move_in_double(in_unit, pose[0].double().cpu().inverse())
    return Rig(moved.T_world_cam.to(raster.DEVICE), torch.zeros(len(in_unit), device=raster.DEVICE))


def _fit_in_rounds(rig: Rig, task: Task, config: CameraFitConfig, raster: Rasteriser) -> Iterator[tuple[Rig, Scores]]:
    """Fits the rig and yields it with its scores: after the silhouettes, after the search, and after each round of colours."""
    rig = _descend(rig, _mask_loss(task, task.masks, raster), config.mask_steps, config.mask_rate, config)
    dressed = _dress(rig, task, raster)
    yield rig, _score(rig, dressed, task, raster)
    rig = _search_around(rig, dressed, task, config, raster)
    for _ in range(config.rounds):
        dressed = _dress(rig, task, raster)
        yield rig, _score(rig, dressed, task, raster)

        def loss(rig: Rig, dressed: list = dressed) -> Tensor:
            masks, colours = _mask_loss(task, task.masks, raster)(rig), _colour_losses(rig, dressed, task, 1, raster)
            return masks + config.w_colour * colours.sum()

        rig = _descend(rig, loss, config.round_steps, config.colour_rate, config)
    yield rig, _score(rig, _dress(rig, task, raster), task, raster)


def _search_around(rig: Rig, dressed: list, task: Task, config: CameraFitConfig, raster: Rasteriser) -> Rig:
    """Rotates each camera away, fits it to its silhouette again, and keeps the pose that matches its colours best.

    Where a silhouette hardly changes with a rotation, a camera may be too far from the truth for the colours alone to find it.
    """
    loss, fixed = _mask_loss(task, _halve(task.masks), raster), replace(config, focal="fixed")
    still = torch.zeros(1, device=raster.DEVICE)
    with torch.no_grad():
        best, least = rig.T_unit_cam, _colour_losses(rig, dressed, task, SEARCH_AVERAGED, raster)
    for degrees in SEARCH_DEGREES:
        for axis in torch.eye(3, device=raster.DEVICE):
            move = torch.zeros(len(best), 6, device=raster.DEVICE)
            move[:, :3] = np.radians(degrees) * axis
            trial = _descend(_move_by(rig, move, still), loss, config.search_steps, config.mask_rate, fixed)
            with torch.no_grad():
                colours = _colour_losses(trial, dressed, task, SEARCH_AVERAGED, raster)
            best = torch.where((colours < least)[:, None, None], trial.T_unit_cam, best)
            least = torch.minimum(colours, least)
    return Rig(best, rig.log_focal)


def _halve(masks: Masks) -> Masks:
    """The masks at half the size."""
    size = masks.alpha.shape[-1] // 2
    whole = masks.cameras.intrinsics.new_tensor([[0.0, 0, 2 * size, 2 * size]]).expand(len(masks.alpha), 4)
    alpha = torch.nn.functional.avg_pool2d(masks.alpha[:, None], 2)[:, 0]
    return Masks(alpha, camera.cropped(masks.cameras, whole, size, size))


def _mask_loss(task: Task, masks: Masks, raster: Rasteriser) -> Callable[[Rig], Tensor]:
    return lambda rig: (_draw_silhouettes(rig, task.shape, masks, raster) - masks.alpha).square().mean((1, 2)).sum()


def _colour_losses(
    rig: Rig, dressed: list[tuple[Tensor, Mesh]], task: Task, averaged: int, raster: Rasteriser
) -> Float[Tensor, " B"]:
    """Per view, the mean absolute difference of premultiplied colour and coverage, averaged over `averaged`² pixels first."""
    losses, cameras = torch.zeros_like(rig.log_focal), _apply_rig(rig, task.photos.cameras)
    for group, mesh in dressed:
        seen = render.views(cameras[group], mesh.verts)
        shown = render.surfaces(mesh, seen, raster, task.shape.topology).rgba
        planes = (shown - task.photos.rgba[group]).movedim(-1, 1)
        off = torch.nn.functional.avg_pool2d(planes, averaged).abs().mean((1, 2, 3))
        losses = losses.index_add(0, group.to(losses.device), off)
    return losses


def _descend(rig: Rig, loss_of: Callable[[Rig], Tensor], steps: int, rate: float, config: CameraFitConfig) -> Rig:
    move = torch.zeros(len(rig.log_focal), 6, device=rig.log_focal.device, requires_grad=True)
    log_focal = torch.zeros(
        len(move) if config.focal == "each" else 1, device=move.device, requires_grad=config.focal != "fixed"
    )
    adam = torch.optim.Adam([move, log_focal], betas=(0.8, 0.95))
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * config.decay ** (step / max(steps - 1, 1))
        adam.zero_grad()
        loss_of(_move_by(rig, move, log_focal)).backward()
        adam.step()
    return _move_by(rig, move.detach(), log_focal.detach())


def _move_by(rig: Rig, move: Float[Tensor, "B 6"], log_focal: Float[Tensor, " F"]) -> Rig:
    """Rotates each camera around the object (rotation vector, camera axes), shifts the object across its image (unit radii),
    and scales its distance (logarithm). A longer focal length also moves the camera back, so that only perspective changes."""
    turn, across, away = move.split([3, 2, 1], -1)
    T_cam_unit = camera.invert_rigid(rig.T_unit_cam)
    x_y, depth = T_cam_unit[:, :2, 3] + across, -T_cam_unit[:, 2:3, 3]
    place = torch.cat([x_y, -depth * log_focal.exp()[:, None].expand(len(move), 1)], -1) * away.exp()
    linear = align.rotations(turn) @ T_cam_unit[:, :3, :3]
    top = torch.cat([linear, place[..., None]], -1)
    moved = camera.invert_rigid(torch.cat([top, T_cam_unit[:, 3:]], 1))
    return Rig(moved, rig.log_focal + log_focal)


def _apply_rig(rig: Rig, crop: Cameras) -> Cameras:
    """The crops' cameras with the poses and focal lengths of the rig."""
    focal = rig.log_focal.exp()[:, None]
    intrinsics = torch.cat([crop.intrinsics[:, :2] * focal, crop.intrinsics[:, 2:]], -1)
    return Cameras(rig.T_unit_cam, intrinsics, crop.sizes)


def _draw_silhouettes(rig: Rig, shape: Body, masks: Masks, raster: Rasteriser) -> Float[Tensor, "B H W"]:
    target = Masks(masks.alpha, _apply_rig(rig, masks.cameras))
    return silhouettes.draw_poses(torch.eye(4, device=raster.DEVICE)[None], shape, target, raster)[0]


def _dress(rig: Rig, task: Task, raster: Rasteriser) -> list[tuple[Int[Tensor, " G"], Mesh]]:
    """Groups of views, each with the mesh in the mean colours of the other groups' photos. A view's own colours would hold its
    camera where it is; a single photo has no others, so it gets its own."""
    index, seen = torch.arange(len(rig.log_focal)), _apply_rig(rig, task.photos.cameras)
    groups = min(GROUPS, len(index))
    out = []
    for group in range(groups):
        shown = index[index % groups != group] if groups > 1 else index
        photos = Photos(task.photos.rgba[shown], seen[shown])
        texture = projection.project_photos(task.blank, photos, raster)
        out.append((index[index % groups == group], replace(task.blank, texture=texture)))
    return out


@torch.no_grad()
def _iou(rig: Rig, task: Task, raster: Rasteriser) -> Float[np.ndarray, " B"]:
    shown, true = _draw_silhouettes(rig, task.shape, task.masks, raster) > 0.5, task.masks.alpha > 0.5
    return silhouettes.overlap(shown.float(), true.float()).double().cpu().numpy()


def _score(rig: Rig, dressed: list[tuple[Tensor, Mesh]], task: Task, raster: Rasteriser) -> Scores:
    psnr_db, cameras = 0.0, _apply_rig(rig, task.photos.cameras)
    with torch.no_grad():
        for group, mesh in dressed:
            photos = Photos(task.photos.rgba[group], cameras[group])
            psnr_db += projection.explain(mesh, photos, raster).psnr_db * len(group) / len(rig.log_focal)
    return Scores(_iou(rig, task, raster), psnr_db)
