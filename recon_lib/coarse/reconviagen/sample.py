"""Runs one reconstruction with a loaded pipeline: structure, latents, mesh, and VGGT's cameras on the way.

Upstream's `run` does the work. Hooks on its networks count the steps, compute the cameras from VGGT's tokens while these are in
memory, and check the structure before the expensive half starts: with an empty structure upstream crashes without saying why,
and with a full one it returns a mesh without vertices and without an error.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon_lib.camera import Cameras
from recon_lib.coarse.config import SampleConfig
from recon_lib.coarse.reconviagen.crop import crop, uncrop
from recon_lib.coarse.reconviagen.outcomes import Outcome, named
from recon_lib.coarse.reconviagen.upstream import Loaded, silenced
from recon_lib.mesh import Mesh
from recon_lib.progress import Progress, silent

READ_BLOCKS = (4, 11, 17, 23)  # blocks of VGGT's aggregator that upstream's two conditioning networks read
MOST_VOXELS = 80_000  # with more, the mesh decoder exceeds spconv's 32-bit indices


class Sampled(NamedTuple):
    """What one run of ReconViaGen gives."""

    mesh: Mesh  # in upstream's canonical frame, not cleaned
    vggt: tuple[Tensor, Tensor]  # per crop: OpenCV world-to-camera B 3 4, intrinsics B 3 3 in crop pixels
    boxes: list[tuple[float, float, float, float]]  # per view: x0 y0 x1 y1 of the crop in the photo's pixels
    crop_size: int  # side of the crops, pixels
    voxels: int  # occupied voxels of the structure


def cameras(sampled: Sampled, images: tuple[np.ndarray, ...]) -> Cameras:
    """VGGT's cameras of the whole photos, in VGGT's own frame and scale. Raises Outcome for unusable cameras."""
    sizes = torch.tensor([image.shape[1::-1] for image in images])
    return uncrop(*sampled.vggt, sampled.boxes, sampled.crop_size, sizes)


def sample(
    loaded: Loaded,
    images: tuple[np.ndarray, ...],
    names: tuple[str, ...],
    config: SampleConfig,
    progress: Progress = silent,
) -> Sampled:
    """Runs ReconViaGen on photos (H W 4 uint8, straight alpha). Raises Outcome if that gives no usable mesh."""
    if len(images) == 0:
        raise Outcome("too few photos", "got none, need at least one")
    pipeline = loaded.pipeline
    size = pipeline.default_image_resolution
    crops = [crop(image, name, size) for image, name in zip(images, names, strict=True)]
    structure, latents = samplers(config, loaded.has_guidance_rescale)
    seen: dict[str, Any] = {}
    networks = pipeline.models
    with ExitStack() as hooks, named(), _deterministic(), silenced() as aloud:
        progress = aloud(progress)
        hooks.enter_context(_hook_after(pipeline.VGGT_model.aggregator, _store_cameras(seen, loaded)))
        hooks.enter_context(_hook_after(networks["sparse_structure_decoder"], _check_structure(seen)))
        for name, first, share, steps in (
            ("sparse_structure_flow_model", 0.1, 0.5, config.ss_steps),
            ("slat_flow_model", 0.6, 0.3, config.slat_steps),
        ):
            hooks.enter_context(_hook_after(networks[name], _count_steps(name, first, share, steps, progress)))
        progress(0.0, "looking at the photos")
        outputs, _, _ = pipeline.run(
            image=[square for square, _ in crops],
            seed=config.seed,
            sparse_structure_sampler_params=structure,
            slat_sampler_params=latents,
            formats=["mesh"],
        )
        raw = outputs["mesh"][0]
        mesh = Mesh(raw.vertices.detach().float().cpu(), raw.faces.detach().int().cpu())
    _require_mesh(mesh)
    progress(1.0, "ReconViaGen's mesh")
    return Sampled(mesh, seen["cameras"], [box for _, box in crops], size, seen["voxels"])


def samplers(config: SampleConfig, has_guidance_rescale: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Upstream's parameters for the structure's and the latents' sampler.

    With guidance s, prediction p and unconditional prediction n, the official code computes s p + (1 - s) n, the community fork
    (1 + s) p - s n; so the fork gets s - 1. Raises Outcome for a rescale that the fork's samplers do not have.
    """
    found = []
    for stage, steps, guidance, rescale, rescale_t in (
        ("ss", config.ss_steps, config.ss_guidance, config.ss_rescale, config.ss_rescale_t),
        ("slat", config.slat_steps, config.slat_guidance, config.slat_rescale, config.slat_rescale_t),
    ):
        keys = {"steps": steps, "cfg_interval": [config.guidance_from, 1.0], "rescale_t": rescale_t}
        if has_guidance_rescale:
            keys |= {"cfg_strength": guidance, "guidance_rescale": rescale}
        elif rescale != 0:
            raise Outcome(
                "unknown sampler parameter",
                f"{stage}_rescale is {rescale:g}, and this checkout's sampler has no rescale",
            )
        else:
            keys["cfg_strength"] = guidance - 1
        found.append(keys)
    return found[0], found[1]


@contextmanager
def _deterministic() -> Iterator[None]:
    """Makes torch sum in a fixed order, so that a seed gives one mesh. Operations without such a kernel only warn."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # costs half of the time, and nothing reads it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = filled


def _hook_after(network: torch.nn.Module, hook: Callable) -> Any:
    return network.register_forward_hook(hook)


def _store_cameras(seen: dict[str, Any], loaded: Loaded) -> Callable:
    """A hook that stores VGGT's cameras in `seen` and frees those of the aggregator's 24 blocks that nobody reads.

    Upstream would hold these until the end, 180 MB per block for 16 photos. NaN of the same shape takes their place, so that a
    reader, should there be one, is noticed."""

    def hook(network, inputs, output) -> tuple:
        with torch.no_grad(), torch.autocast(loaded.pipeline.device.type, enabled=False):
            tokens = [output[0][-1].float()]
            encoding = loaded.pipeline.VGGT_model.camera_head(tokens)[-1]
        T_cv_world, K = loaded.vggt.pose_encoding_to_extri_intri(encoding.float(), inputs[0].shape[-2:])
        seen["cameras"] = T_cv_world[0], K[0]
        kept = [block if i in READ_BLOCKS else block.new_full((), torch.nan).expand_as(block) for i, block in
                enumerate(output[0])]  # fmt: skip
        return kept, *output[1:]

    return hook


def _check_structure(seen: dict[str, Any]) -> Callable:
    def hook(network, inputs, output) -> None:
        seen["voxels"] = voxels = int((output > 0).sum())
        if voxels == 0:
            raise Outcome("empty structure", "no voxel of the object was found")
        if voxels == output.numel():
            raise Outcome("full structure", f"all {voxels} voxels belong to the object, which leaves no surface")
        if voxels > MOST_VOXELS:
            raise Outcome("too many voxels", f"got {voxels}, need at most {MOST_VOXELS}")

    return hook


def _count_steps(name: str, first: float, share: float, steps: int, progress: Progress) -> Callable:
    """A hook that reports progress. It counts distinct times, because guidance calls the network twice per step."""
    times = set()

    def hook(network, inputs, output) -> None:
        times.add(float(inputs[1].flatten()[0]))
        progress(first + share * len(times) / steps, f"{name.split('_flow')[0].replace('_', ' ')}, step {len(times)}")

    return hook


def _require_mesh(mesh: Mesh) -> None:
    if len(mesh.verts) == 0 or len(mesh.faces) == 0:
        raise Outcome("invalid mesh", f"{len(mesh.verts)} vertices and {len(mesh.faces)} faces")
    lost = (~torch.isfinite(mesh.verts)).any(-1).sum().item()
    if lost:
        raise Outcome("invalid mesh", f"{lost} of {len(mesh.verts)} vertices are not finite")
