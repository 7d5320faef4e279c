"""Checkpoints of a fit: everything by which it goes on from a step as if it had never been interrupted.

One file in safetensors' format, written whole or not at all: vertices, textures, material, light and the photos' corrections,
the optimisers' states, the random generator's state, the best state so far, and the losses and scores until then. On the CPU a
fit that goes on ends with the same bits as one that ran through.

A checkpoint belongs to one fit: `identity` is a hash of the photos, the meshes, all parameters except the number of steps, and
the library's sources. With another number of steps the fit goes on only if what it has done does not depend on that number.
When the fit is over, the file shrinks to its header unless more steps could go on from it.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recon_lib import files
from recon_lib import mesh as meshes
from recon_lib.mesh import Material, Mesh
from recon_lib.refine import fit
from recon_lib.refine.config import FitConfig
from recon_lib.refine.corrections import Told
from recon_lib.refine.fit import Begun
from recon_lib.refine.headless import FitResult
from recon_lib.refine.refine import Kept, RefineState, Saved, Setup

NAME = ".refined.checkpoint"  # in the run folder
EVERY = 100  # steps between two checkpoints
SHAPE = ("verts", "faces", "uvs", "uv_faces")  # the parts of the fitted mesh that are not among the optimiser's values


class Found(NamedTuple):
    """A checkpoint that was looked for."""

    saved: Saved | None  # from where the fit goes on; None if it starts from the beginning
    result: FitResult  # what was noted until then
    sentence: str  # which of the two, and why; empty if there was none


class Keeper:
    """Looks for a fit's checkpoint once, and writes a new one every EVERY steps."""

    def __init__(self, path: Path, setup: Setup, config: FitConfig):
        self.path, self.steps = path, config.steps
        self.identity = identity(setup, config)
        self.found = find(path, self.identity, config, setup.start.verts.device)

    def keep(self, state: RefineState, result: FitResult) -> None:
        """Writes a checkpoint if one is due after this step."""
        step = state.fit.step
        if step and (step % EVERY == 0 or step == self.steps):
            write(self.path, self.identity, self.steps, state, result)


def identity(setup: Setup, config: FitConfig) -> str:
    """A hash of everything that decides a fit's numbers except the number of its steps, hex SHA-256."""
    sources = files.hashes(Path(meshes.__file__).parent, Path(meshes.__file__).parent)
    words = {
        "config": {name: value for name, value in asdict(config).items() if name != "steps"},
        "library": {name: digest for name, digest in sources.items() if name.endswith(".py")},
        "torch": torch.__version__,
        "device": str(setup.start.verts.device),
        "cameras_found": setup.cameras_found,
    }
    tensors = [setup.T_unit_world]
    for photos in filter(None, (setup.photos, setup.validation)):
        tensors += [photos.rgba, fit.views(photos).T_clip_world]
    for body in (setup.given, setup.start):
        tensors += _parts(body, meshes.PARTS, "").values()
    return hashlib.sha256((json.dumps(words, sort_keys=True) + _digest(tensors)).encode()).hexdigest()


def why_not_extended(config: FitConfig) -> str:
    """Why a fit with this schedule cannot be continued with more steps than it was begun with; empty if it can."""
    reasons = []
    if config.decay != 1:
        reasons.append(f"its rates fall to {config.decay:g} by the last step, whichever that is")
    if config.scales > 1:
        reasons.append(f"its {config.scales} scales share out all steps")
    if config.w_laplacian:
        reasons.append("the weight of its Laplacian energy fades until the last step")
    return " and ".join(reasons)


def find(path: Path, identity: str, config: FitConfig, device: torch.device) -> Found:
    """Looks for a checkpoint of this fit. One that is damaged or of another fit is not used, and the sentence says so."""
    if not path.exists():
        return Found(None, FitResult(), "")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        damaged = about["digest"] != _digest(tensors[name] for name in sorted(tensors))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        damaged = True
    if damaged:
        return Found(None, FitResult(), "The checkpoint is damaged, so the fit starts over.")
    if about["identity"] != identity:
        return Found(None, FitResult(), "The checkpoint is of another fit, so this one starts over.")
    why_not = why_not_extended(config) if about["steps"] != config.steps else ""
    if why_not or (about["steps"] != config.steps and about["step"] > config.steps):
        why = why_not or f"it has gone to step {about['step']} already"
        text = f"A fit begun with {about['steps']} steps cannot go on to {config.steps}, as {why}: it starts over."
        return Found(None, FitResult(), text)
    if not tensors:
        return Found(None, FitResult(), "")
    saved, result = _unpack(tensors, about, device)
    return Found(saved, result, f"Goes on from the checkpoint of step {about['step']}.")


def write(path: Path, identity: str, steps: int, state: RefineState, result: FitResult) -> None:
    """Writes the checkpoint of this state; an earlier one is replaced when the new one is whole."""
    kept = state.kept
    tensors = {f"inside.{name}": tensor for name, tensor in state.fit.inside().items()}
    tensors |= _parts(state.fit.mesh, SHAPE, "mesh.") | _parts(kept.mesh, meshes.PARTS, "kept.")
    if kept.corrected is not None:
        tensors |= {f"told.{name}": tensor for name, tensor in kept.corrected._asdict().items()}
    tensors |= {
        "history.step": torch.tensor([step for step, _ in result.history]),
        "history.losses": torch.stack([losses for _, losses in result.history]),
        "validation": torch.tensor(result.validation, dtype=torch.float64).reshape(-1, 2),
    }
    scores = kept._replace(mesh=None, corrected=None)._asdict()
    about = {"identity": identity, "steps": steps, "step": state.fit.step, "kept": scores, "changes": result.changes}
    _save(path, {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, about)


def close(run_dir: Path, config: FitConfig) -> None:
    """After the stage has written its result: empties the checkpoint unless a fit with more steps could go on from it."""
    path = run_dir / NAME
    if path.exists() and why_not_extended(config):
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["about"])
        _save(path, {}, about)


def _save(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    about = about | {"digest": _digest(tensors[name] for name in sorted(tensors))}
    temporary = path.with_name(f"{path.name}.new")
    safetensors.torch.save_file(tensors, temporary, {"about": json.dumps(about)})
    os.replace(temporary, path)


def _unpack(tensors: dict[str, Tensor], about: dict, device: torch.device) -> tuple[Saved, FitResult]:
    inside = {name.removeprefix("inside."): tensor for name, tensor in tensors.items() if name.startswith("inside.")}
    shape = {name: tensors[f"mesh.{name}"].to(device) for name in SHAPE}
    looks = {name: inside[f"{name}.value"].to(device) for name in meshes.MOVING if f"{name}.value" in inside}
    begun = Begun(about["step"], _mesh(shape | looks), inside)
    best = {name: tensors[f"kept.{name}"].to(device) for name in meshes.PARTS if f"kept.{name}" in tensors}
    told = Told(tensors["told.gains"], tensors["told.pixels"]) if "told.gains" in tensors else None
    kept = Kept(**about["kept"] | {"mesh": _mesh(best), "corrected": told})
    history = list(zip(tensors["history.step"].tolist(), tensors["history.losses"].to(device), strict=True))
    validation = [(int(step), psnr_db) for step, psnr_db in tensors["validation"].tolist()]
    result = FitResult(history=history, validation=validation, kept=kept, changes=about["changes"])
    return Saved(begun, kept), result


def _parts(body: Mesh, names: Iterable[str], prefix: str) -> dict[str, Tensor]:
    parts = {name: getattr(body, name) for name in names}
    values = {name: part.values if isinstance(part, Material) else part for name, part in parts.items()}
    return {f"{prefix}{name}": value for name, value in values.items() if value is not None}


def _mesh(parts: dict[str, Tensor]) -> Mesh:
    whole: dict[str, Any] = {name: Material(part) if name == "material" else part for name, part in parts.items()}
    return Mesh(**whole)


def _digest(tensors: Iterable[Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
