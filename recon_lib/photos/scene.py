"""The posed scene that 1_ingest writes and every later stage reads.

On disk (`scene/`): `images/<name>.png`, 8-bit straight-alpha RGBA in sRGB, and `transforms.json` in the form of instant-ngp:
intrinsics, camera-to-world pose with OpenGL axes and `held_out` per frame, and `up` (unit vector in the world) for all frames.
Where the input's coordinates were far from the origin, `offset` was taken off: input's position = scene's position + offset.
If the photos came without cameras, the frames have none; `coarse/coarse.json` then has the cameras that stage 2 found, in the
same form, and the world is the coarse mesh's frame. `scale.json`, beside the folder, has the metres per world unit, if a known
length was given (`scale.py`).
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from recon_lib import files
from recon_lib.camera import Cameras

WIDE_GAP = 100  # a gap of more degrees between cameras, around the up axis, is mentioned in the Reading
SCALE = "scale.json"  # in the run folder


@dataclass(frozen=True, eq=False)
class Scene:
    """Photos of one object with masks and, if known, cameras; one entry per view in each field."""

    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]  # H W 4 uint8, straight alpha, sRGB, each of its own size
    cameras: Cameras | None  # None: the photos came without cameras
    held_out: np.ndarray  # bool per view: True for views that no stage that makes the mesh may see
    up: np.ndarray  # unit vector in the world
    canonical_rig: bool = False  # six named images without poses: none is held out
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))  # float64: the input's position less the scene's
    cameras_found: bool = False  # in the photos themselves, so that they are less exact than given ones
    metres_per_unit: float | None = None  # None: no known length was given

    def subset(self, index: np.ndarray) -> "Scene":
        """The views that a boolean mask selects."""
        images = tuple(image for image, chosen in zip(self.images, index, strict=True) if chosen)
        names = tuple(name for name, chosen in zip(self.names, index, strict=True) if chosen)
        cameras = None if self.cameras is None else self.cameras[torch.from_numpy(index)]
        chosen = {"names": names, "images": images, "cameras": cameras, "held_out": self.held_out[index]}
        return replace(self, **chosen)


def digests(scene: Scene) -> dict[str, str]:
    """The hash of each photo's pixels, by name; a mesh's manifest stores those of the photos that the mesh was made from."""
    return {name: _digest(image) for name, image in zip(scene.names, scene.images, strict=True)}


def provenance(used: Scene) -> dict:
    """What a mesh's manifest says of the photos it was made from: their hashes, and the scene's offset, if there is one."""
    offset = {"offset": used.offset.tolist()} if used.offset.any() else {}
    return {"photos": digests(used), **offset}


def digests_used(run_dir: Path, mesh: str) -> set[str]:
    """Hashes of the photos that a mesh such as "refined/mesh.glb" was made from, in its own stage and in the coarse mesh's."""
    records = [run_dir / "coarse" / "coarse.json", (run_dir / mesh).with_name(f"{Path(mesh).parent.name}.json")]
    return {digest for path in records for digest in (files.read_json(path) or {}).get("photos", {}).values()}


def reading(scene: Scene) -> str:
    """Sentences on whether these photos suffice for a reconstruction, for the notebook's Reading."""
    count, held = len(scene.names), int(scene.held_out.sum())
    if scene.cameras is None:
        return (
            f"Only with a backend that finds cameras: the {count} photos have none, as the findings say. None is held out, so "
            "the verdict is at most a warning."
        )
    around = widest_gap_degrees(scene)
    answer = f"Yes: {count} photos with cameras and masks look at the object from all around."
    if around > WIDE_GAP:
        answer = (
            f"In part: over {around:.0f} degrees around the object no photo was taken, and that side has to be guessed."
        )
    unseen = f"{held} of {count} are held out for the verdict." if held else ""
    return f"{answer} {unseen or 'None is held out, so the verdict is at most a warning.'}"


def widest_gap_degrees(scene: Scene) -> float:
    """The widest angle around the object's up axis, in degrees, within which no camera stands."""
    T = scene.cameras.T_world_cam.double().numpy()
    up = scene.up / np.linalg.norm(scene.up)
    back = T[:, :3, 2]
    side = np.linalg.svd(up[None])[2][1:]  # two directions across up
    turn = np.sort(np.degrees(np.arctan2(back @ side[1], back @ side[0])))
    return float(np.diff([*turn, turn[0] + 360]).max())


def to_json(scene: Scene) -> dict:
    """The content of transforms.json."""
    cameras = [{}] * len(scene.names) if scene.cameras is None else camera_json(scene.cameras)
    frames = [
        {"file_path": f"images/{name}.png", **of_camera, "held_out": bool(out)}
        for name, of_camera, out in zip(scene.names, cameras, scene.held_out, strict=True)
    ]
    offset = {"offset": scene.offset.tolist()} if scene.offset.any() else {}
    told = {"canonical_rig": scene.canonical_rig, "cameras_found": scene.cameras_found}
    return {"up": scene.up.tolist(), **told, **offset, "frames": frames}


def camera_json(cameras: Cameras) -> list[dict]:
    """Per view, the keys of a frame in `transforms.json` that hold the pose, the intrinsics and the size."""
    found = []
    for T, k, size in zip(cameras.T_world_cam, cameras.intrinsics, cameras.sizes, strict=True):
        lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), k.tolist(), strict=True))
        found.append({"transform_matrix": T.double().tolist(), **lens, **dict(zip("wh", size.tolist(), strict=True))})
    return found


def save(scene: Scene, folder: Path) -> None:
    """Writes the scene into `folder`, which must be empty or absent; the caller renames it to its final place."""
    (folder / "images").mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(_save_png, (folder / "images" / f"{name}.png" for name in scene.names), scene.images):
            pass
    (folder / "transforms.json").write_text(json.dumps(to_json(scene), indent=1))


def load(folder: Path) -> Scene:
    """Reads a scene that `save` wrote. Raises ValueError if it is not there."""
    if not (folder / "transforms.json").exists():
        raise ValueError(f"{folder}: no transforms.json; run 1_ingest for this run folder first")
    data = json.loads((folder / "transforms.json").read_text())
    frames = data["frames"]
    return Scene(
        tuple(Path(f["file_path"]).stem for f in frames),
        tuple(np.asarray(Image.open(folder / f["file_path"])) for f in frames),
        _cameras(frames) if "transform_matrix" in frames[0] else None,
        np.array([f["held_out"] for f in frames]),
        np.array(data["up"], dtype=float),
        data["canonical_rig"],
        np.array(data.get("offset", (0.0, 0.0, 0.0)), dtype=float),
        data.get("cameras_found", False),
        metres_per_unit(folder.parent),
    )


def metres_per_unit(run_dir: Path) -> float | None:
    """Metres per world unit, if a known length was measured in this very scene."""
    scale = files.read_json(run_dir / SCALE)
    if scale is None or scale["measured_in"] != files.sha256(run_dir / "scene" / "transforms.json"):
        return None
    return scale["metres_per_unit"]


def load_posed(run_dir: Path) -> Scene:
    """The run's scene with cameras: its own, or those that stage 2 found. Raises ValueError if there are none yet."""
    scene = load(run_dir / "scene")
    if scene.cameras is not None:
        return scene
    path = run_dir / "coarse" / "coarse.json"
    found = json.loads(path.read_text()).get("cameras") if path.exists() else None
    if found is None:
        raise ValueError(
            f"{path}: no cameras, and the photos came without; run 2_reconviagen for this run folder first"
        )
    return replace(scene, cameras=_cameras(found), cameras_found=True)


def _save_png(path: Path, rgba: np.ndarray) -> None:
    # OpenCV's encoder writes a photo six times faster than Pillow's, and hardly larger.
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))[1].tobytes())


def _cameras(frames: list[dict]) -> Cameras:
    return Cameras(
        torch.tensor([f["transform_matrix"] for f in frames]),
        torch.tensor([[f["fl_x"], f["fl_y"], f["cx"], f["cy"]] for f in frames]),
        torch.tensor([[f["w"], f["h"]] for f in frames]),
    )


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()[:32]
