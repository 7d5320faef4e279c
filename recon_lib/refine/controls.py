"""What may be changed while a fit runs, and the order in which it takes its photos. The fit reads both before every step."""

from collections.abc import Callable

import torch
from torch import Tensor

from recon_lib.photos.crops import Photos
from recon_lib.refine.config import BATCH, FitConfig


class Controls:
    """Rates, weights and sizes as `FitConfig` names them, with its values at first."""

    def __init__(self, config: FitConfig, sized: Callable[[int], Photos] | None = None):
        """`sized` gives the fit's photos with that many pixels along a side; without it they have the schedule's size."""
        self.sized = sized
        self.lr_vertex = config.lr_vertex
        self.lr_texture = config.lr_texture
        self.lr_material = config.lr_material
        self.lr_light = config.lr_light
        self.w_alpha = config.w_alpha
        self.w_smooth = config.w_smooth
        self.w_white = config.w_white
        self.w_occlusion = config.w_occlusion
        self.w_laplacian = config.w_laplacian
        self.smoothness = config.smoothness
        self.glare = config.glare
        self.batch = config.batch  # photos per step, 0 takes BATCH's
        self.steps = config.steps  # the last step; with more of them, rates stay as low as `decay` has made them
        self.photo_size = 0  # pixels along a side of the photos, 0 for as many as the schedule has

    def photos_per_step(self, device: torch.device) -> int:
        """The batch of the next step."""
        return self.batch or BATCH[device.type]

    def values(self) -> dict[str, float | int]:
        """All that may be changed, by name."""
        return {name: value for name, value in vars(self).items() if name != "sized"}


class PhotoOrder:
    """The photos of all steps as indices, one shuffle of all photos after another; the same on every device."""

    def __init__(self, count: int, seed: int, device: torch.device, ahead: int, taken: int = 0):
        """`ahead` photos are shuffled at once, because a GPU waits for each copy; `taken` photos were taken before."""
        self.count, self.device, self.taken = count, device, taken
        self.generator = torch.Generator().manual_seed(seed)
        self.shuffled = torch.empty(0, dtype=torch.int64, device=device)
        self._shuffle(max(ahead, taken))

    def take(self, batch: int) -> Tensor:
        """The next `batch` photos."""
        if self.taken + batch > len(self.shuffled):
            self._shuffle(batch)
        self.taken += batch
        return self.shuffled[self.taken - batch : self.taken]

    def _shuffle(self, more: int) -> None:
        shuffles = [torch.randperm(self.count, generator=self.generator) for _ in range(-(-more // self.count) + 1)]
        self.shuffled = torch.cat([self.shuffled, torch.cat(shuffles).to(self.device)])
