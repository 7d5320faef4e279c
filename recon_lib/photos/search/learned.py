"""Features that networks learned, and their matches, for photos in which SIFT finds too few: XFeat (Potje et al. 2024) with
LighterGlue, then ALIKED (Zhao et al. 2023) with LightGlue (Lindenberger et al. 2023). All run in kornia.

Both are optional: the package, and the files in `photos/` of the folder of weights, which `recon weights fetch photos` puts
there. COLMAP checks the matches by geometry, as it does those of SIFT. Axes: K keypoints, D numbers of a descriptor, M matches.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from recon_lib.photos.search import mapper
from recon_lib.photos.search.mapper import Matched, Shot
from recon_lib.photos.search.register import Matcher
from recon_lib.progress import Progress, part
from recon_lib.weights import store

KEYPOINTS = 1024  # per photo at most
ALL_PAIRS, PARTNERS, IN_ORDER = (
    8,
    12,
    60,
)  # matched each with each; then the likest only; above, neighbours in order as well
NEIGHBOURS = 5  # before and after
LEAST_MATCHES = 15  # of a pair that counts
XFEAT, LIGHTERGLUE = "photos/xfeat.pt", "photos/xfeat-lighterglue.pt"
ALIKED, LIGHTGLUE = "photos/aliked-n16rot.pth", "photos/aliked_lightglue.pth"
LONG_SIDES = {"XFeat": 960, "ALIKED": 640}  # pixels at which keypoints are looked for


class Described(NamedTuple):
    """The keypoints of a photo at the size at which they were found."""

    keypoints: Float[Tensor, "K 2"]  # pixels, x y
    descriptors: Float[Tensor, "K D"]
    size: tuple[int, int]  # width, height


Describe = Callable[[Float[Tensor, "1 3 H W"]], tuple[Float[Tensor, "K 2"], Float[Tensor, "K D"]]]


def lacks() -> str:
    """What is missing for all of them, in words; nothing if nothing is."""
    if find_spec("kornia") is None:
        return "no package kornia: pip install 'recon-lib[photos]'"
    missing = [name for name in (XFEAT, LIGHTERGLUE, ALIKED, LIGHTGLUE) if not (store.folder() / name).is_file()]
    return f"no {', '.join(missing)} in {store.folder()}: recon weights fetch photos" if missing else ""


def matchers() -> list[tuple[str, Matcher]]:
    """Those whose files are there, the faster one first."""
    if find_spec("kornia") is None:
        return []
    found = []
    for name, files in (("XFeat", (XFEAT, LIGHTERGLUE)), ("ALIKED", (ALIKED, LIGHTGLUE))):
        if all((store.folder() / file).is_file() for file in files):
            found.append((name, _matcher(name)))
    return found


def _matcher(name: str) -> Matcher:
    def match(shots: list[Shot], folder: Path, progress: Progress) -> Matched:
        describe, glue = _xfeat() if name == "XFeat" else _aliked()
        lenses = mapper.write_photos(shots, folder)
        described = []
        for i, shot in enumerate(shots):
            progress(0.3 * i / len(shots), f"{name} features of {len(shots)} photos")
            described.append(_describe(shot, describe, LONG_SIDES[name]))
        pairs = choose_pairs([one.descriptors for one in described])
        matches = {}
        for done, (i, j) in enumerate(pairs):
            part(progress, 0.3, 0.95)(done / len(pairs), f"{name} matches of {len(pairs)} pairs of photos")
            found = _glue(glue, described[i], described[j])
            if len(found) >= LEAST_MATCHES:
                matches[i, j] = found
        keypoints = [_scaled(one, shot) for one, shot in zip(described, shots, strict=True)]
        return mapper.put_in(folder, lenses, keypoints, matches)

    return match


def choose_pairs(descriptors: list[Float[Tensor, "_ D"]]) -> list[tuple[int, int]]:
    """Which photos are matched: each with those that share the most descriptors that are nearest both ways."""
    count = len(descriptors)
    if count <= ALL_PAIRS:
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    few = [torch.nn.functional.normalize(one[:256], dim=1) for one in descriptors]
    shared = np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1, count):
            if min(len(few[i]), len(few[j])) > 1:
                alike = few[i] @ few[j].T
                there, back = alike.argmax(1), alike.argmax(0)
                shared[i, j] = shared[j, i] = int((back[there] == torch.arange(len(there))).sum())
    chosen = {
        tuple(sorted((i, int(j)))) for i in range(count) for j in np.argsort(-shared[i])[:PARTNERS] if shared[i, j]
    }
    if count > IN_ORDER:
        chosen |= {(i, j) for i in range(count) for j in range(i + 1, min(i + 1 + NEIGHBOURS, count))}
    return sorted((i, j) for i, j in chosen if i != j)


def _describe(shot: Shot, describe: Describe, long_side: int) -> Described:
    height, width = shot.rgba.shape[:2]
    scale = min(1.0, long_side / max(height, width))
    # Multiples of 32, so that no network resizes once more.
    size = max(32, round(width * scale / 32) * 32), max(32, round(height * scale / 32) * 32)
    small = cv2.resize(shot.rgba, size, interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(np.ascontiguousarray(small[..., :3])).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        keypoints, descriptors = describe(image)
    column, row = keypoints.round().long().unbind(1)
    inside = torch.from_numpy(small[..., 3] > 127)[row.clamp(0, size[1] - 1), column.clamp(0, size[0] - 1)]
    return Described(keypoints[inside][:KEYPOINTS], descriptors[inside][:KEYPOINTS], size)


def _glue(glue: Any, first: Described, second: Described) -> UInt[np.ndarray, "M 2"]:
    if min(len(first.keypoints), len(second.keypoints)) < LEAST_MATCHES:
        return np.zeros((0, 2), np.uint32)
    data = {
        f"image{i}": {
            "keypoints": one.keypoints[None],
            "descriptors": one.descriptors[None],
            "image_size": torch.tensor([one.size]).float(),
        }
        for i, one in enumerate((first, second))
    }
    with torch.inference_mode():
        return glue(data)["matches"][0].numpy().astype(np.uint32)


def _scaled(one: Described, shot: Shot) -> Float[np.ndarray, "K 2"]:
    """The keypoints in the pixels of the photos that COLMAP has; networks put the first pixel's centre at 0, COLMAP at 0.5."""
    width, height = mapper.small_size(shot.rgba)
    return ((one.keypoints.numpy() + 0.5) * (width / one.size[0], height / one.size[1])).astype(np.float32)


def _xfeat() -> tuple[Describe, Any]:
    from kornia.feature import XFeat

    network = XFeat(top_k=4 * KEYPOINTS)
    network.net.load_state_dict(_weights(XFEAT))
    network.eval()

    def describe(image: Tensor) -> tuple[Tensor, Tensor]:
        (found,) = network.detectAndCompute(image)
        return found["keypoints"], found["descriptors"]

    sizes = {"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1}
    return describe, _lightglue(LIGHTERGLUE, depth_confidence=-1, width_confidence=0.95, **sizes)


def _aliked() -> tuple[Describe, Any]:
    from kornia.feature import ALIKED as Network

    network = Network("aliked-n16rot", max_num_keypoints=4 * KEYPOINTS, detection_threshold=0.1)
    network.load_state_dict(_weights(ALIKED), strict=False)
    network.eval()

    def describe(image: Tensor) -> tuple[Tensor, Tensor]:
        (found,) = network(image)
        best = found.keypoint_scores.argsort(descending=True)
        return found.keypoints[best], found.descriptors[best]

    return describe, _lightglue(LIGHTGLUE, input_dim=128)


def _lightglue(file: str, **sizes: Any) -> Any:
    """The matcher with the weights of a file, whose names are those of older versions."""
    from kornia.feature import LightGlue

    glue = LightGlue(features=None, **sizes)
    renamed = {}
    for name, value in _weights(file).items():
        name = name.removeprefix("matcher.")
        for kind in ("self_attn", "cross_attn"):
            if name.startswith(f"{kind}."):
                layer, rest = name.removeprefix(f"{kind}.").split(".", 1)
                name = f"transformers.{layer}.{kind}.{rest}"
        renamed[name] = value
    missing = set(glue.load_state_dict(renamed, strict=False).missing_keys) & dict(glue.named_parameters()).keys()
    if missing:
        raise ValueError(f"{store.folder() / file}: got weights without {sorted(missing)[:3]}, needed LightGlue's")
    return glue.eval()


def _weights(file: str) -> dict[str, Tensor]:
    """The weights in a file. Raises ValueError for a file of other content than the pinned one."""
    store.check_file(store.folder(), file, store.PHOTOS)
    return torch.load(store.folder() / file, map_location="cpu", weights_only=True)
