"""What a fit may correct in its photos: exposure and white balance of each, and the pose of each camera by a little.

Both are bounded, so that neither can explain a wrong shape, and pulled towards "as given", because a common gain is the light's
and a common movement is the mesh's. Cameras move around the world's origin, which is inside the object: the same turn about the
camera itself would shift its photo by many more pixels. Validation photos and held-out photos are never corrected.
Axes: B photos.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon_lib.camera import Cameras
from recon_lib.refine.adam import Adam
from recon_lib.render import Views

GAIN = 0.5  # largest natural logarithm of a gain: 0.61 to 1.65
RADIANS = torch.pi / 180  # largest turn of a camera about each axis
SHIFT = 0.01  # largest shift along each axis, as a share of the camera's distance from the origin
PULL = 1e-3  # weight of the mean squared share of each bound
RATE = 0.01  # of Adam, in shares of the bounds


class Wanted(NamedTuple):
    """What a fit may correct."""

    gains: bool
    poses: bool


NOTHING = Wanted(False, False)


def wanted(correct: str, cameras_found: bool) -> Wanted:
    """What a knob's value asks for; `auto` corrects both where cameras were found in the photos, and nothing else."""
    both = correct == "both" or (correct == "auto" and cameras_found)
    return Wanted(both or correct == "exposure", both or correct == "cameras")


class Told(NamedTuple):
    """The corrections of each photo."""

    gains: Float[Tensor, "B 3"]  # of linear red, green and blue
    pixels: Float[Tensor, " B"]  # by how far the photo's content moved, on the object, at most; pixels of the fit

    def sentence(self) -> str:
        """How large they are; empty where nothing was corrected."""
        said = []
        if (self.gains != 1).any():
            said.append(f"exposure and white balance by {100 * (self.gains - 1).abs().median():.1f} % in the median")
        if self.pixels.any():
            said.append(f"cameras by {self.pixels.median():.1f} pixels in the median, at most {self.pixels.max():.1f}")
        return f"Corrected per photo: {'; '.join(said)}." if said else ""


class Corrections:
    """Shares of the bounds, which Adam moves; all 0 at the start, which changes nothing."""

    def __init__(self, cameras: Cameras, asked: Wanted, pixels: Float[Tensor, " B"] | None = None):
        """`pixels` bounds by how far each photo's content moves on the object, in place of RADIANS and SHIFT."""
        device, count = cameras.T_world_cam.device, len(cameras)
        self.gain = torch.zeros(count, 3, device=device, requires_grad=asked.gains)
        self.pose = torch.zeros(count, 6, device=device, requires_grad=asked.poses)
        distance = cameras.T_world_cam[:, :3, 3].norm(dim=-1)
        self.focal = cameras.intrinsics[:, 0] / distance
        if pixels is None:
            self.turn, self.reach = torch.full_like(distance, RADIANS), SHIFT * distance
        else:  # the corner of both boxes is then just within the bound
            self.turn, self.reach = pixels / self.focal / 8, pixels / self.focal * 0.45
        moved = {name: part for name, part in (("gain", self.gain), ("pose", self.pose)) if part.requires_grad}
        self.adam = Adam(moved) if moved else None

    def brightened(self, rgba: Float[Tensor, "B H W 4"], chosen: Tensor) -> Float[Tensor, "B H W 4"]:
        """Renderings with the exposure and white balance of the chosen photos."""
        if not self.gain.requires_grad:
            return rgba
        return rgba * torch.nn.functional.pad(self._gains(chosen), [0, 1], value=1.0)[:, None, None]

    def _gains(self, chosen: Tensor) -> Float[Tensor, "B 3"]:
        return torch.exp(GAIN * torch.tanh(self.gain[chosen]))

    def views(self, seen: Views, chosen: Tensor) -> Views:
        """The chosen views, which are `seen`, from the corrected poses."""
        if not self.pose.requires_grad:
            return seen
        T = self._moves(chosen)
        eye = ((seen.eye - T[:, :3, 3])[:, None] @ T[:, :3, :3])[:, 0]
        return Views(seen.T_clip_world @ T, eye, seen.width, seen.height)

    def _moves(self, chosen: Tensor) -> Float[Tensor, "B 4 4"]:
        """By how the world moves before each camera: a turn about the origin, then a shift."""
        share = torch.tanh(self.pose[chosen])
        x, y, z = (self.turn[chosen, None] * share[:, :3]).unbind(-1)
        none = torch.zeros_like(x)
        skew = torch.stack([none, -z, y, z, none, -x, -y, x, none], -1).reshape(-1, 3, 3)
        turn = torch.linalg.matrix_exp(skew)
        shift = (self.reach[chosen, None] * share[:, 3:])[..., None]
        last = turn.new_tensor([0, 0, 0, 1]).expand(len(turn), 1, 4)
        return torch.cat([torch.cat([turn, shift], -1), last], 1)

    @torch.no_grad()
    def cameras(self, cameras: Cameras) -> Cameras:
        """All cameras, which are `cameras`, in their corrected poses."""
        T_old_new = torch.linalg.inv(self._moves(torch.arange(len(cameras), device=self.pose.device)))
        return Cameras(T_old_new @ cameras.T_world_cam, cameras.intrinsics, cameras.sizes)

    def pull(self) -> Float[Tensor, ""]:
        """The loss that keeps the corrections small."""
        return PULL * (torch.tanh(self.gain).square().mean() + torch.tanh(self.pose).square().mean())

    def forget(self) -> None:
        if self.adam:
            self.adam.forget()

    def step(self, rate: float) -> None:
        """One step of Adam at a share of its rate."""
        if self.adam:
            self.adam.step(dict.fromkeys(self.adam.parameters, RATE * rate))

    def tensors(self) -> dict[str, Tensor]:
        """The corrections and what Adam remembers of them; empty where nothing is corrected."""
        return self.adam.tensors() if self.adam else {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` gave."""
        if self.adam:
            self.adam.load(tensors)

    @torch.no_grad()
    def told(self) -> Told:
        """How large the corrections have become."""
        everything = torch.arange(len(self.gain), device=self.gain.device)
        T = self._moves(everything)
        turn = (T[:, :3, :3] - torch.eye(3, device=T.device)).norm(dim=(1, 2)) / 2**0.5  # radians, if small
        return Told(self._gains(everything).cpu(), (self.focal * (T[:, :3, 3].norm(dim=-1) + turn)).cpu())
