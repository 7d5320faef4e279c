"""Loads upstream's pipeline from a checkout and a folder of weights, without network access and without unneeded parts.

It does not call `TrellisVGGTTo3DPipeline.from_pretrained`, which loads BiRefNet with remote code, DreamSim and a second DINOv2,
takes the version of VGGT that the hub has today, ignores missing keys, and needs CUDA. The same objects are put together here,
and each checkpoint is compared with its network key by key.
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
PACKAGES = ("spconv", "torchvision", "easydict", "einops", "safetensors", "huggingface_hub")  # that making a mesh needs
NEEDED_GB = 16.0  # free GPU memory
UNUSED_MODELS = ("slat_decoder_gs", "slat_decoder_rf")  # Gaussians, radiance fields
UNUSED_HEADS = ("point_head", "depth_head", "track_head")  # of VGGT

Progress = Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Loaded:
    """Upstream's pipeline, ready to run."""

    pipeline: Any  # TrellisVGGTTo3DPipeline
    vggt: ModuleType  # upstream's vggt.utils.pose_enc
    provenance: dict[str, Any]
    has_guidance_rescale: bool  # True for the official code; the fork has none, and its guidance of 0 means none, not 1


def checkout() -> Path:
    """The checkout that RECONVIAGEN_ROOT names. Raises Outcome if that is not a checkout of ReconViaGen."""
    named_root = os.environ.get("RECONVIAGEN_ROOT", "")
    needed = Path(named_root) / "trellis" / "pipelines" / "trellis_image_to_3d.py"
    if not named_root or not needed.exists():
        raise Outcome("no checkout", f"RECONVIAGEN_ROOT is {named_root!r}, which has no {needed.name}")
    return Path(named_root).resolve()


def require(device: str) -> Path:
    """Checks everything that `load` needs, and returns the checkout. `device` is cuda, or cpu for tiny test networks.

    Raises Outcome for a missing or too small GPU, a missing checkout or package, and WeightsError for weights that do not fit.
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
    """The commit that is checked out; "unknown" for a folder that is not a git checkout."""
    asked = ["git", "-c", "safe.directory=*", "-C", str(root), "rev-parse", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def load(root: Path, folder: Path, device: str, progress: Progress = silent) -> Loaded:
    """Loads the pipeline; `root` is the checkout, `folder` holds the weights.

    Where upstream supports it, the networks stay in main memory and move to the GPU one after the other. Raises Outcome for
    weights that do not fit the networks, ImportError if a package of upstream is missing.
    """
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }  # the latter makes cuBLAS sum in a fixed order, see `sample`
    backend = stand_ins.attention_backend() if device == "cuda" else "sdpa"
    sys.path[:0] = [path for path in (str(root), str(root / "wheels" / "vggt")) if path not in sys.path]
    with stand_ins.present(backend), named(), silenced() as aloud:
        progress = aloud(progress)
        progress(0.0, "importing ReconViaGen")
        trellis = importlib.import_module("trellis.pipelines.trellis_image_to_3d")
        samplers = importlib.import_module("trellis.pipelines.samplers")
        extractor = importlib.import_module("trellis.representations.mesh.cube2mesh").SparseFeatures2Mesh
        extractor.__init__.__defaults__ = (device, 64, True)  # the decoder builds it without naming a device
        arguments = _read_json(folder / TRELLIS / "pipeline.json")["args"]
        wanted = {name: path for name, path in arguments["models"].items() if name not in UNUSED_MODELS}
        models = {}
        for i, (name, path) in enumerate(wanted.items()):
            progress(0.1 + 0.4 * i / len(wanted), f"loading {name}")
            models[name] = _load_model(folder / TRELLIS / path)
        models["image_cond_model"] = _load_dinov2(folder / "torchhub", arguments["image_cond_model"])
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
        pipeline.VGGT_model = _load_vggt(trellis.VGGT, folder / VGGT)
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
    """Sends upstream's prints, bars and warnings to this module's log, because they are no part of a report.

    Yields a wrapper; a progress callback passed through it can still print while upstream is silenced.
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


@contextmanager
def _without_values() -> Iterator[None]:
    """Networks that are made in it have parameters without memory, on the meta device, until `_fill` gives them theirs.

    To draw their random first values would take longer than to read the files that overwrite them.
    """
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _load_model(path: Path) -> nn.Module:
    config = _read_json(path.with_name(f"{path.name}.json"))
    with _without_values():
        network = getattr(importlib.import_module("trellis.models"), config["name"])(**config["args"])
    return _fill(network, path.with_name(f"{path.name}.safetensors"))


def _load_dinov2(hub: Path, name: str) -> nn.Module:
    """Loads DINOv2 from the local folder. Raises Outcome if its code is not there, where upstream would use the network."""
    code = hub / "facebookresearch_dinov2_main"
    if not (code / "hubconf.py").exists():
        raise Outcome("weights", f"{code} has no hubconf.py")
    torch.hub.set_dir(str(hub))
    return torch.hub.load(str(code), name, source="local", pretrained=True)


def _load_vggt(vggt: type[nn.Module], folder: Path) -> nn.Module:
    with _without_values():
        network = vggt(**_read_json(folder / "config.json"))
    for head in UNUSED_HEADS:
        if hasattr(network, head):
            delattr(network, head)
    return _fill(network, folder / "model.safetensors", ignored=UNUSED_HEADS).eval()


def _fill(network: nn.Module, path: Path, ignored: tuple[str, ...] = ()) -> nn.Module:
    from safetensors.torch import load_file  # one of upstream's packages, without which the rest of the library runs

    if not path.exists():
        raise Outcome("weights", f"{path} is missing")
    state = {key: value for key, value in load_file(path).items() if not key.startswith(ignored)}
    own = network.state_dict()
    state = {key: value.to(own[key].dtype) if key in own else value for key, value in state.items()}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:  # tensors of another shape
        raise Outcome("weights", f"{path} is of another revision: {error}") from error
    if missing or unexpected:
        raise Outcome(
            "weights",
            f"{path} is of another revision: {len(missing)} keys missing ({', '.join(missing[:3])}), "
            f"{len(unexpected)} unknown ({', '.join(unexpected[:3])})",
        )
    return network


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise Outcome("weights", f"{path} is missing")
    return json.loads(path.read_text())


def _allow_bias_on_cpu(pipeline: Any) -> None:
    """Sets spconv's layers to training mode, because its CPU kernels refuse the fused bias of evaluation mode.

    The mode changes nothing else in these layers."""
    spconv = importlib.import_module("spconv.pytorch")
    for network in pipeline.models.values():
        for module in network.modules():
            if isinstance(module, spconv.SubMConv3d):
                module.training = True
