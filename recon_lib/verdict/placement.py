"""Held-out cameras that were found in the photos are moved a little before they judge: else their error counts as the mesh's.

Only the pose of each camera is fitted, against the finished mesh, by colours and silhouette, by at most MOST pixels; the mesh
does not learn from these photos. Both scores are told.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib import camera, frames, render
from recon_lib import mesh as meshes
from recon_lib.camera import Cameras
from recon_lib.mesh import Mesh
from recon_lib.photos import crops
from recon_lib.photos.scene import Scene
from recon_lib.raster.interface import Rasteriser
from recon_lib.refine import fit, losses
from recon_lib.refine.corrections import Corrections, Wanted
from recon_lib.surface import placement

MOST = 2.0  # pixels of the photo
SIZE, STEPS = 256, 24  # pixels along a crop's side, optimiser steps
FASTER = 10.0  # times the rate of a fit, falling to 0


def moved(mesh: Mesh, held_out: Scene, raster: Rasteriser) -> tuple[Cameras, Float[Tensor, " B"]]:
    """The cameras of the held-out photos as they fit the mesh (both in the world), and by how many pixels each one moved it."""
    T_unit_world = frames.unit_frame(mesh.verts)
    size = min(SIZE, crops.own_size(held_out.images))
    photos = crops.crop_photos(held_out.images, camera.moved(held_out.cameras, T_unit_world), size)
    shrunk = photos.cameras.intrinsics[:, 0] / held_out.cameras.intrinsics[:, 0]
    body = meshes.on_device(placement.transform(mesh, T_unit_world), raster.DEVICE)
    corrected = Corrections(photos.cameras, Wanted(False, True), MOST * shrunk)
    seen, topology = fit.views(photos), raster.topology(body.faces)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        for i in range(len(photos.cameras)):
            chosen = torch.tensor([i])
            view = corrected.views(fit.select_views(seen, chosen), chosen)
            rgba = render.surfaces(body, view, raster, topology).rgba.reshape(-1, 4)
            colour, alpha = losses.of_images(
                rgba, photos.rgba[i].reshape(-1, 4), True, losses.random_colours(generator)
            )
            (colour + alpha).backward()
        corrected.step(FASTER * (1 - step / STEPS))
        corrected.forget()
    placed = camera.moved(corrected.cameras(photos.cameras), torch.linalg.inv(T_unit_world))
    old = held_out.cameras
    return Cameras(placed.T_world_cam, old.intrinsics, old.sizes), corrected.told().pixels / shrunk
