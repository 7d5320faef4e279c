"""ReconViaGen in a few megabytes: the real upstream code with networks of two blocks and random weights.

`checkout` lays two files over links to the real one: VGGT with one block of each kind used 24 times and cameras that can be
set, and the pipeline at 56 pixels instead of 518. `weights` writes a checkpoint whose structure is a centred block of voxels
whatever the photos show, so that its mesh is known: closed, one body.
"""

import importlib
import json
import sys
from pathlib import Path

import torch

from recon_lib.coarse.reconviagen import stand_ins, upstream
from recon_lib.weights import store as needed
from recon_lib.weights.download import digest

RESOLUTION = 4  # of the structure's latents; 8 voxels a side
PIXELS = 56
VGGT = '''
import torch
from torch import nn
from vggt.heads.camera_head import CameraHead
from vggt.models.aggregator import Aggregator


class Repeated(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def __getitem__(self, index):
        return self.block


class SetCameras(CameraHead):
    """The head as it is, or, where `known` (first translation, quaternion, fields of view) is set, what that says."""

    def __init__(self):
        super().__init__(dim_in=2048, trunk_depth=1, mlp_ratio=0.25)
        self.register_buffer("known", torch.full((64, 9), float("nan")))

    def forward(self, tokens):
        own = super().forward(tokens)[-1]
        known = self.known[: own.shape[1]][None].expand_as(own)
        return [torch.where(known.isnan(), own, known)]


class VGGT(nn.Module):
    def __init__(self):
        super().__init__()
        self.aggregator = Aggregator(depth=1, mlp_ratio=0.25, patch_embed="conv")
        self.aggregator.frame_blocks = Repeated(self.aggregator.frame_blocks[0])
        self.aggregator.global_blocks = Repeated(self.aggregator.global_blocks[0])
        self.aggregator.depth = self.aggregator.aa_block_num = 24
        self.camera_head = SetCameras()
        self.depth_head = nn.Linear(1, 1)
'''
DINOV2 = """
dependencies = ["torch"]
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 1024, 14, 14)
        self.prefix = nn.Parameter(torch.zeros(1, 5, 1024))

    def forward(self, image, is_training=False):
        patches = self.patches(image).flatten(2).transpose(1, 2)
        return {"x_prenorm": torch.cat([self.prefix.expand(len(image), -1, -1), patches], 1)}


def dinov2_vitl14_reg(pretrained=True):
    torch.manual_seed(0)
    return Tiny()
"""


def checkout(real: Path, folder: Path) -> Path:
    """A folder that is `real` but for two files, at the same commit."""
    laid_over = {
        Path("wheels/vggt/vggt/models/vggt.py"): VGGT,
        Path("trellis/pipelines/trellis_image_to_3d.py"): (real / "trellis/pipelines/trellis_image_to_3d.py")
        .read_text()
        .replace("default_image_resolution = 518", f"default_image_resolution = {PIXELS}"),
    }
    _link(real, folder, Path(), laid_over)
    return folder


def _link(real: Path, folder: Path, at: Path, laid_over: dict[Path, str]) -> None:
    (folder / at).mkdir(parents=True)
    for path in (real / at).iterdir():
        below = at / path.name
        if below in laid_over:
            (folder / below).write_text(laid_over[below])
        elif any(below in target.parents for target in laid_over):
            _link(real, folder, below, laid_over)
        elif path.name != "__pycache__":
            (folder / below).symlink_to(path)


def models(root: Path, device: str):
    """Upstream's module of networks."""
    sys.path[:0] = [path for path in (str(root), str(root / "wheels" / "vggt")) if path not in sys.path]
    with stand_ins.present("sdpa" if device == "cpu" else stand_ins.attention_backend()):
        extractor = importlib.import_module("trellis.representations.mesh.cube2mesh").SparseFeatures2Mesh
        extractor.__init__.__defaults__ = (device, 64, True)
        importlib.import_module("trellis.pipelines")
        return importlib.import_module("trellis.models")


def weights(root: Path, folder: Path, device: str = "cpu") -> Path:
    """A folder of weights as `recon weights` lays it out."""
    from safetensors.torch import save_file

    networks = models(root, device)
    torch.manual_seed(0)
    checkpoint = folder / upstream.TRELLIS
    (checkpoint / "ckpts").mkdir(parents=True)
    for name, (kind, arguments) in NETWORKS.items():
        network = getattr(networks, kind)(**arguments)
        if kind == "SparseStructureDecoder":
            set_structure(network, -0.83)
        if kind == "SLatMeshDecoder":  # 8 distances, then 24 offsets: these follow the latents, and so the seed
            torch.nn.init.normal_(network.out_layer.weight[8:32], std=0.02)
        path = checkpoint / "ckpts" / name
        save_file({k: v.contiguous().cpu() for k, v in network.state_dict().items()}, f"{path}.safetensors")
        path.with_suffix(".json").write_text(json.dumps({"name": kind, "args": arguments}))
    (checkpoint / "pipeline.json").write_text(json.dumps(pipeline_json(NETWORKS), indent=1))
    torch.manual_seed(1)
    vggt = importlib.import_module("wheels.vggt.vggt.models.vggt").VGGT()
    (folder / upstream.VGGT).mkdir(parents=True)
    (folder / upstream.VGGT / "config.json").write_text("{}")
    save_file(vggt.state_dict(), folder / upstream.VGGT / "model.safetensors")
    code = folder / "torchhub" / "facebookresearch_dinov2_main"
    code.mkdir(parents=True)
    (code / "hubconf.py").write_text(DINOV2)
    (folder / "torchhub" / "checkpoints").mkdir()
    (folder / "torchhub" / "checkpoints" / "dinov2_vitl14_reg4_pretrain.pth").write_bytes(b"in the code")
    lock(folder)
    return folder


def pipeline_json(networks: dict) -> dict:
    sampler = {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": 1e-5},
        "params": {"steps": 2, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
    }
    arguments = {
        "models": {name: f"ckpts/{name}" for name in networks} | {"slat_decoder_gs": "ckpts/not_there"},
        "sparse_structure_sampler": sampler,
        "slat_sampler": sampler,
        "slat_normalization": {"mean": [0.0] * 8, "std": [1.0] * 8},
        "image_cond_model": "dinov2_vitl14_reg",
    }
    return {"name": "TrellisVGGTTo3DPipeline", "args": arguments}


def lock(folder: Path) -> None:
    """The folder's files as they are now are the pinned ones."""
    entries = {}
    for need in needed.NEEDED:
        at = folder / need.target
        files = [at] if at.is_file() else [path for path in at.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        of_file = {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": digest(path)} for path in files
        }
        entries[need.id] = {"revision": "tiny", "chosen": True, "files": of_file}
    needed.write_lock(folder, entries)


def set_structure(decoder: torch.nn.Module, bias: float) -> None:
    """Occupancy 27/27 + bias inside, at most 18/27 + bias at the border, where the convolution is padded with zeros."""
    norm, convolution = decoder.out_layer[0], decoder.out_layer[2]
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.fill_(1.0)
        activation = torch.nn.functional.silu(torch.tensor(1.0)).item()
        convolution.weight.fill_(1.0 / (27 * convolution.in_channels * activation))
        convolution.bias.fill_(bias)


_COMMON = {"in_channels": 8, "model_channels": 64, "out_channels": 8, "num_blocks": 2, "num_heads": 2, "mlp_ratio": 2,
           "pe_mode": "ape", "qk_rms_norm": True}  # fmt: skip
# Sizes that upstream's code fixes: 3072 and 1024 channels of conditioning, decoder channels in multiples of 256.
NETWORKS = {
    "sparse_structure_flow_model": (
        "SparseStructureFlowModel",
        _COMMON | {"resolution": RESOLUTION, "cond_channels": 64, "patch_size": 1},
    ),
    "sparse_structure_decoder": (
        "SparseStructureDecoder",
        {"out_channels": 1, "latent_channels": 8, "num_res_blocks": 1, "num_res_blocks_middle": 1, "channels": [32, 16]},
    ),
    "sparse_structure_vggt_cond": (
        "ModulatedMultiViewCond",
        {"channels": 64, "ctx_channels": 3072, "num_heads": 2, "mlp_ratio": 2, "num_init_tokens": 16,
         "qk_rms_norm": True},
    ),
    "slat_flow_model": (
        "SLatFlowModel",
        _COMMON | {"resolution": 2 * RESOLUTION, "cond_channels": 1024, "patch_size": 2, "num_io_res_blocks": 2,
                   "io_block_channels": [32]},
    ),
    "slat_vggt_cond": ("ModulatedSLATMultiViewCond", {"channels": 1024, "ctx_channels": 3072, "use_fp16": False}),
    "slat_decoder_mesh": (
        "SLatMeshDecoder",
        {"resolution": 2 * RESOLUTION, "model_channels": 256, "latent_channels": 8, "num_blocks": 2, "num_heads": 4,
         "mlp_ratio": 2, "attn_mode": "swin", "window_size": 8, "representation_config": {"use_color": True}},
    ),
}  # fmt: skip
