"""Upstream's pipeline, loaded from a checkout and a folder of weights, with no network and nothing that is not needed.

Not `TrellisVGGTTo3DPipeline.from_pretrained`: that one loads BiRefNet with remote code, DreamSim and a second DINOv2, takes
VGGT from whatever the hub has today, ignores missing keys, and needs CUDA. The same objects are put together here, each
checkpoint compared with its network key by key.
"""

import importlib
import importlib.util
import inspect
import io
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from recon_lib.coarse.reconviagen import stand_ins
from recon_lib.coarse.reconviagen.outcomes import Outcome, named
from recon_lib.progress import Progress, silent
from recon_lib.weights import store

COMMIT = "f6720923260927333e22761fa722144d214733d9"  # GAP-LAB-CUHK-SZ/ReconViaGen, main of 2026-04-04
TRELLIS, VGGT = "Stable-X/trellis-vggt-v0-2", "Stable-X/vggt-object-v0-1"  # folders of weights
PACKAGES = ("spconv", "torchvision", "easydict", "einops", "safetensors", "huggingface_hub")  # upstream's, on this way
NEEDED_GB = 16.0  # free GPU memory
UNUSED_MODELS = ("slat_decoder_gs", "slat_decoder_rf")  # Gaussians, radiance fields
UNUSED_HEADS = ("point_head", "depth_head", "track_head")  # of VGGT

Progress = Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Loaded:
    pipeline: Any  # TrellisVGGTTo3DPipeline
    vggt: ModuleType  # upstream's vggt.utils.pose_enc
    provenance: dict[str, Any]
    has_guidance_rescale: (
        bool  # the official code's; the community fork lacks it and counts guidance from 0, not from 1
    )


def checkout() -> Path:
    """Raises Outcome where RECONVIAGEN_ROOT names no ReconViaGen."""
    named_root = os.environ.get("RECONVIAGEN_ROOT", "")
    needed = Path(named_root) / "trellis" / "pipelines" / "trellis_image_to_3d.py"
    if not named_root or not needed.exists():
        raise Outcome("no checkout", f"RECONVIAGEN_ROOT is {named_root!r}, which has no {needed.name}")
    return Path(named_root).resolve()


def require(device: str) -> Path:
    """The checkout, once all that `load` needs is there. `device` is cuda, or cpu for networks of a toy's size.

    Raises Outcome, or WeightsError.
    """
    if device == "cuda":
        if not torch.cuda.is_available():
            raise Outcome("no GPU", "torch sees none")
        free, name = torch.cuda.mem_get_info()[0] / 2**30, torch.cuda.get_device_name()
        if free < NEEDED_GB:
            raise Outcome("too little GPU memory", f"{name} has {free:.1f} GB free, need {NEEDED_GB:g} GB")
    root = checkout()
    absent = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if absent:
        raise Outcome("missing package", f"{', '.join(absent)} of ReconViaGen's own needs cannot be imported")
    store.check(store.folder())
    return root


def commit(root: Path) -> str:
    """The checkout's commit; `unknown` for a folder that is not git's."""
    asked = ["git", "-c", "safe.directory=*", "-C", str(root), "rev-parse", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def load(root: Path, folder: Path, device: str, progress: Progress = silent) -> Loaded:
    """`folder` is one of weights. The networks wait in the computer's memory for their turn on the GPU, where upstream can.

    Raises Outcome for weights that do not fit the networks, ImportError for a missing package of upstream's.
    """
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }  # the latter for equal sums, see `sample`
    backend = stand_ins.attention_backend() if device == "cuda" else "sdpa"
    sys.path[:0] = [path for path in (str(root), str(root / "wheels" / "vggt")) if path not in sys.path]
    with stand_ins.present(backend), named(), silenced() as aloud:
        progress = aloud(progress)
        progress(0.0, "importing ReconViaGen")
        trellis = importlib.import_module("trellis.pipelines.trellis_image_to_3d")
        samplers = importlib.import_module("trellis.pipelines.samplers")
        extractor = importlib.import_module("trellis.representations.mesh.cube2mesh").SparseFeatures2Mesh
        extractor.__init__.__defaults__ = (device, 64, True)  # the decoder builds it without naming a device
        arguments = _json(folder / TRELLIS / "pipeline.json")["args"]
        wanted = {name: path for name, path in arguments["models"].items() if name not in UNUSED_MODELS}
        models = {}
        for i, (name, path) in enumerate(wanted.items()):
            progress(0.1 + 0.4 * i / len(wanted), f"loading {name}")
            models[name] = _model(folder / TRELLIS / path)
        models["image_cond_model"] = _dinov2(folder / "torchhub", arguments["image_cond_model"])
        progress(0.6, "loading VGGT")
        pipeline = trellis.TrellisVGGTTo3DPipeline()
        trellis.Pipeline.__init__(pipeline, models)
        for stage in ("sparse_structure_sampler", "slat_sampler"):
            sampler = getattr(samplers, arguments[stage]["name"])
            setattr(pipeline, stage, sampler(**arguments[stage]["args"]))
            setattr(pipeline, f"{stage}_params", arguments[stage]["params"])
        pipeline.slat_normalization = arguments["slat_normalization"]
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, as DINOv2 was trained with
        pipeline.image_cond_model_transform = trellis.transforms.Normalize(mean=mean, std=std)
        pipeline.VGGT_model = _vggt(trellis.VGGT, folder / VGGT)
        pipeline.VGGT_dtype = _vggt_dtype(device)
        in_turn = device == "cuda" and "device" in vars(type(pipeline))  # the fork's cannot
        pipeline.low_vram, pipeline._device = in_turn, torch.device(device)
        if not in_turn:
            pipeline.to(torch.device(device))
            pipeline.VGGT_model.to(device)
        if device == "cpu":
            _allow_bias_on_cpu(pipeline)
    progress(1.0, "ReconViaGen loaded")
    guidance = importlib.import_module("trellis.pipelines.samplers.classifier_free_guidance_mixin")
    signature = inspect.signature(guidance.ClassifierFreeGuidanceSamplerMixin._inference_model)
    found = commit(root)
    provenance = {"commit": found, "commit_is_the_pinned_one": found == COMMIT, "attention": backend,
                  "networks_in_turn": in_turn, "vggt_dtype": str(pipeline.VGGT_dtype)}  # fmt: skip
    pose_encoding = importlib.import_module("vggt.utils.pose_enc")
    return Loaded(pipeline, pose_encoding, provenance, "guidance_rescale" in signature.parameters)


@contextmanager
def silenced() -> Iterator[Callable[[Progress], Progress]]:
    """Upstream's prints, bars and warnings go to this module's log: they are no part of a report.

    Gives what keeps a progress callback heard.
    """
    said, out = io.StringIO(), sys.stdout
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

    def aloud(progress: Progress) -> Progress:
        def call(share: float, what: str) -> None:
            with redirect_stdout(out):
                progress(share, what)

        return call

    try:
        with redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield aloud
    finally:
        log.debug("ReconViaGen said: %s", said.getvalue())


def _vggt_dtype(device: str) -> torch.dtype:
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16


def _model(path: Path) -> nn.Module:
    config = _json(path.with_name(f"{path.name}.json"))
    network = getattr(importlib.import_module("trellis.models"), config["name"])(**config["args"])
    return _filled(network, path.with_name(f"{path.name}.safetensors"))


def _dinov2(hub: Path, name: str) -> nn.Module:
    """Upstream would go to the network where the local folder does not answer."""
    code = hub / "facebookresearch_dinov2_main"
    if not (code / "hubconf.py").exists():
        raise Outcome("weights", f"{code} has no hubconf.py")
    torch.hub.set_dir(str(hub))
    return torch.hub.load(str(code), name, source="local", pretrained=True)


def _vggt(vggt: type[nn.Module], folder: Path) -> nn.Module:
    network = vggt(**_json(folder / "config.json"))
    for head in UNUSED_HEADS:
        if hasattr(network, head):
            delattr(network, head)
    return _filled(network, folder / "model.safetensors", ignored=UNUSED_HEADS).eval()


def _filled(network: nn.Module, path: Path, ignored: tuple[str, ...] = ()) -> nn.Module:
    from safetensors.torch import load_file  # with upstream's other packages, which the library runs without

    if not path.exists():
        raise Outcome("weights", f"{path} is missing")
    state = {key: value for key, value in load_file(path).items() if not key.startswith(ignored)}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # tensors of another shape
        raise Outcome("weights", f"{path} is of another revision: {error}") from error
    if missing or unexpected:
        raise Outcome(
            "weights",
            f"{path} is of another revision: {len(missing)} keys missing ({', '.join(missing[:3])}), "
            f"{len(unexpected)} unknown ({', '.join(unexpected[:3])})",
        )
    return network


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise Outcome("weights", f"{path} is missing")
    return json.loads(path.read_text())


def _allow_bias_on_cpu(pipeline: Any) -> None:
    """spconv's CPU kernels refuse a fused bias, which is how they are called out of training; else nothing changes."""
    spconv = importlib.import_module("spconv.pytorch")
    for network in pipeline.models.values():
        for module in network.modules():
            if isinstance(module, spconv.SubMConv3d):
                module.training = True
