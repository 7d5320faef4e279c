"""`make bench ARGS=--reconviagen`: memory and time of ReconViaGen at its real size on a GPU, without its weights.

Every network has its real size and random values. The values affect memory and time only through the structure, which random
values would leave empty or full, so a shell of 20,000 voxels, about as many as an object has, replaces it. Needs
RECONVIAGEN_ROOT.
"""

import json
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tiny_reconviagen as tiny
import torch

from recon_lib.coarse.reconviagen import sample, upstream

VOXELS = 20_000
SIDE = 64  # voxels
PIXELS = 518
HALF = {"use_fp16": True}
FLOW = {"in_channels": 8, "model_channels": 1024, "out_channels": 8, "num_blocks": 24, "num_heads": 16, "mlp_ratio": 4,
        "pe_mode": "ape", "qk_rms_norm": True, "cond_channels": 1024} | HALF  # fmt: skip
NETWORKS = {
    "sparse_structure_flow_model": ("SparseStructureFlowModel", FLOW | {"resolution": 16, "patch_size": 1}),
    "sparse_structure_decoder": (
        "SparseStructureDecoder",
        {"out_channels": 1, "latent_channels": 8, "num_res_blocks": 2, "num_res_blocks_middle": 2,
         "channels": [512, 128, 32]} | HALF,
    ),
    "sparse_structure_vggt_cond": (
        "ModulatedMultiViewCond",
        {"channels": 1024, "ctx_channels": 3072, "num_heads": 16, "mlp_ratio": 4, "num_init_tokens": 4096,
         "qk_rms_norm": True},
    ),
    "slat_flow_model": (
        "SLatFlowModel",
        FLOW | {"resolution": SIDE, "patch_size": 2, "num_io_res_blocks": 2, "io_block_channels": [128]},
    ),
    "slat_vggt_cond": ("ModulatedSLATMultiViewCond", {"channels": 1024, "ctx_channels": 3072, "use_fp16": False}),
    "slat_decoder_mesh": (
        "SLatMeshDecoder",
        {"resolution": SIDE, "model_channels": 768, "latent_channels": 8, "num_blocks": 12, "num_heads": 12,
         "mlp_ratio": 4, "attn_mode": "swin", "window_size": 8, "representation_config": {"use_color": True}} | HALF,
    ),
}  # fmt: skip
DINOV2 = """
dependencies = ["torch"]
from vggt.layers.vision_transformer import vit_large


def dinov2_vitl14_reg(pretrained=True):
    model = vit_large(patch_size=14, num_register_tokens=4, img_size=518, init_values=1.0, block_chunks=0)
    model.forward = lambda image, is_training: model.forward_features(image)
    return model
"""


def shell(count: int) -> torch.Tensor:
    """Occupancy 1 1 S S S, positive in the voxels nearest to a sphere."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    distance = (radius - 0.42 * SIDE).abs()
    return torch.where(distance <= distance.flatten().sort().values[count - 1], 1.0, -1.0)[None, None]


def loaded(folder: Path) -> upstream.Loaded:
    checkpoint = folder / upstream.TRELLIS
    (checkpoint / "ckpts").mkdir(parents=True)
    for name, (kind, arguments) in NETWORKS.items():
        (checkpoint / "ckpts" / f"{name}.json").write_text(json.dumps({"name": kind, "args": arguments}))
    (checkpoint / "pipeline.json").write_text(json.dumps(tiny.pipeline_json(NETWORKS)))
    (folder / upstream.VGGT).mkdir(parents=True)
    (folder / upstream.VGGT / "config.json").write_text("{}")
    code = folder / "torchhub" / "facebookresearch_dinov2_main"
    code.mkdir(parents=True)
    (code / "hubconf.py").write_text(DINOV2)
    as_made: Any = lambda network, path, ignored=(): network  # noqa: E731
    with mock.patch.object(upstream, "_fill", as_made), mock.patch.object(upstream, "_without_values", nullcontext):
        return upstream.load(upstream.checkout(), folder, "cuda")


def photos(count: int) -> tuple[np.ndarray, ...]:
    images = np.random.default_rng(0).integers(0, 255, (count, PIXELS, PIXELS, 4), np.uint8)
    y, x = np.mgrid[:PIXELS, :PIXELS] - PIXELS / 2
    images[..., 3] = 255 * (x**2 + y**2 < (PIXELS / 2.5) ** 2)
    return tuple(images)


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ready = loaded(Path(folder))
        seconds = time.perf_counter() - began
    occupancy = shell(VOXELS).cuda()
    decoder = ready.pipeline.models["sparse_structure_decoder"]
    decoder.register_forward_hook(lambda network, inputs, output: occupancy)
    networks = [*ready.pipeline.models.values(), ready.pipeline.VGGT_model]
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    found = [("parameters", parameters / 1e9, "10^9", ""), ("networks made and loaded", seconds, "s", "")]
    for count in (4, 16):
        found += measured(ready, count)
    how = f"ReconViaGen, {ready.provenance['attention']} attention, {VOXELS} voxels"
    return [{"name": f"{how}: {n}", "value": float(v), "unit": u, "reference": r} for n, v, u, r in found]


def measured(ready: upstream.Loaded, count: int) -> list[tuple]:
    config, names = sample.SampleConfig(), tuple(map(str, range(count)))
    sample.sample(ready, photos(count), names, sample.SampleConfig(ss_steps=2, slat_steps=2))  # kernels are loaded
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seen: dict[str, float] = {}
    peaks: dict[str, float] = {}  # GB allocated, by what followed

    def progress(share: float, what: str) -> None:
        torch.cuda.synchronize()
        if what not in seen:
            peaks[what] = torch.cuda.max_memory_allocated() / 1e9
            seen[what] = time.perf_counter()

    began = time.perf_counter()
    made = sample.sample(ready, photos(count), names, config, progress)
    seconds = time.perf_counter() - began
    assert made.voxels >= VOXELS

    def step(stage: str, steps: int) -> float:
        return (seen[f"{stage}, step {steps}"] - seen[f"{stage}, step 1"]) / (steps - 1)

    limit = "< 18, as upstream states" if count == 16 else ""
    return [
        (f"{count} photos, peak GPU memory allocated", torch.cuda.max_memory_allocated() / 1e9, "GB", limit),
        (f"{count} photos, peak GPU memory reserved", torch.cuda.max_memory_reserved() / 1e9, "GB", limit),
        (f"{count} photos, peak before the first structure step", peaks["sparse structure, step 1"], "GB", ""),
        (f"{count} photos, peak before the last latents step", peaks[f"slat, step {config.slat_steps}"], "GB", ""),
        (f"{count} photos, structure step", step("sparse structure", config.ss_steps), "s", ""),
        (f"{count} photos, latents step", step("slat", config.slat_steps), "s", ""),
        (f"{count} photos, all", seconds, "s", ""),
        (f"{count} photos, faces of the mesh", len(made.mesh.faces), "", ""),
    ]
