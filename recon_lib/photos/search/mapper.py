"""Cameras of photos by COLMAP's incremental mapping of matched features.

Features lie in the region of a photo that is looked at: on a turntable those of the background contradict those of the object.
Photos of one size and one focal length by EXIF share a lens, SIMPLE_RADIAL. Poses are `T_world_cam` with OpenGL axes, in a
world of COLMAP's choice; focal lengths are shares of the long side of a photo. Axes: H W top row first.
"""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pycolmap
import torch
from jaxtyping import Float, UInt, UInt8

from recon_lib import camera

LONG_SIDE = 1000  # pixels to which the long side of larger photos is shrunk to find features
FEW = 40  # up to so many photos, the mapper asks for fewer points
SEED = 1
THREADS = 1  # of matching and mapping: with more, their results come in another order each time, and cameras differ


class Shot(NamedTuple):
    """One photo as the search sees it."""

    rgba: UInt8[np.ndarray, "H W 4"]
    focal: float | None  # by EXIF


class Matched(NamedTuple):
    """The database of features and matches in a folder, and how well each photo does in it."""

    folder: Path
    features: list[int]  # inside the mask, by photo
    partners: list[dict[int, int]]  # photo to number of matches that one geometry explains, by photo


class Placed(NamedTuple):
    """One photo's camera."""

    T_world_cam: Float[np.ndarray, "4 4"]
    focal: float
    radial: float  # the first coefficient of the lens's distortion
    observations: int  # points that it sees


class Model(NamedTuple):
    """The photos that were placed in one world."""

    placed: dict[int, Placed]  # by photo
    reprojection_px: float  # mean error at the size at which features were found

    @property
    def size(self) -> tuple[int, int]:
        """How many photos it has and how many observations, by which models are compared."""
        return len(self.placed), sum(one.observations for one in self.placed.values())


def write_photos(shots: list[Shot], folder: Path) -> dict[tuple, list[str]]:
    """Writes the photos, grey and shrunk, and their regions; returns the files' names by what shares a lens."""
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    lenses = defaultdict(list)
    for i, shot in enumerate(shots):
        lenses[shot.rgba.shape[:2], shot.focal].append(_write(shot.rgba, folder, i))
    return lenses


def small_size(rgba: UInt8[np.ndarray, "H W 4"]) -> tuple[int, int]:
    """Width and height at which a photo is searched."""
    scale = min(1.0, LONG_SIDE / max(rgba.shape[:2]))
    return max(1, round(rgba.shape[1] * scale)), max(1, round(rgba.shape[0] * scale))


def put_in(
    folder: Path, lenses: dict[tuple, list[str]], keypoints: list[Float[np.ndarray, "_ 2"]],
    matches: dict[tuple[int, int], UInt[np.ndarray, "_ 2"]],
) -> Matched:  # fmt: skip
    """Writes features and matches that were found elsewhere into a database, and has COLMAP check the matches by geometry."""
    database, pairs = folder / "matches.db", folder / "pairs.txt"
    with pycolmap.Database.open(database):
        pass
    for (_, focal), names in lenses.items():
        pycolmap.import_images(
            database, folder / "images", pycolmap.CameraMode.SINGLE, names, reader(folder, names[0], focal)
        )
    with pycolmap.Database.open(database) as opened:
        id_of = {int(image.name.split(".")[0]): image.image_id for image in opened.read_all_images()}
        for photo, found in enumerate(keypoints):
            opened.write_keypoints(id_of[photo], found)
        for (i, j), found in matches.items():
            opened.write_matches(id_of[i], id_of[j], found)
    pairs.write_text("".join(f"{i:05d}.png {j:05d}.png\n" for i, j in matches))
    if matches:
        pycolmap.verify_matches(database, pairs, verification())
    return count(folder, len(keypoints))


def verification() -> pycolmap.TwoViewGeometryOptions:
    """How COLMAP checks matches by geometry: with one seed, so that the same photos give the same matches."""
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = SEED
    return options


def reader(folder: Path, name: str, focal: float | None) -> pycolmap.ImageReaderOptions:
    """How COLMAP is to read the photos of a lens, of which one is named."""
    options = pycolmap.ImageReaderOptions(camera_model="SIMPLE_RADIAL", mask_path=folder / "masks")
    if focal is not None:
        height, width = cv2.imread(str(folder / "images" / name), cv2.IMREAD_GRAYSCALE).shape
        options.camera_params = f"{focal * max(width, height)},{width / 2},{height / 2},0"
    return options


def place(matched: Matched, focal: float | None) -> Model:
    """The largest model of the matches, its photos taken with the focal length by EXIF or, where there is none, from a start.

    A focal length by EXIF is held fixed until all photos are placed, and then refined.
    """
    folder, few = matched.folder, len(matched.features) <= FEW
    database = folder / "start.db"
    shutil.copy(folder / "matches.db", database)
    with pycolmap.Database.open(database) as opened:
        for lens in opened.read_all_cameras():
            if not lens.has_prior_focal_length and focal is not None:
                lens.params = [focal * max(lens.width, lens.height), *lens.params[1:]]
                opened.update_camera(lens)
        known = all(lens.has_prior_focal_length for lens in opened.read_all_cameras())
    options = pycolmap.IncrementalPipelineOptions(
        min_model_size=3, random_seed=SEED, num_threads=THREADS, extract_colors=False
    )
    options.mapper.random_seed, options.mapper.num_threads = SEED, THREADS
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = not known
    if few:
        options.mapper.init_min_num_inliers, options.mapper.init_min_tri_angle = 40, 6.0
        options.mapper.abs_pose_min_num_inliers = 15
    (folder / "models").mkdir(exist_ok=True)
    pycolmap.set_random_seed(SEED)
    found = pycolmap.incremental_mapping(database, folder / "images", folder / "models", options)
    largest = max(found.values(), key=lambda one: one.num_reg_images(), default=None)
    if largest is None:
        return Model({}, 0.0)
    if known:
        pycolmap.bundle_adjustment(largest, pycolmap.BundleAdjustmentOptions(print_summary=False))
    return _model(largest)


def _write(rgba: np.ndarray, folder: Path, index: int) -> str:
    """Writes the photo, grey and shrunk, and its mask; returns the file's name, of which the number is the photo's."""
    size = small_size(rgba)
    small = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA) if size != rgba.shape[1::-1] else rgba
    name = f"{index:05d}.png"
    mask = np.where(small[..., 3] > 127, np.uint8(255), np.uint8(0))
    grey = cv2.cvtColor(np.ascontiguousarray(small[..., :3]), cv2.COLOR_RGB2GRAY)
    for part, pixels in (("images", grey), ("masks", mask)):
        (folder / part).mkdir(exist_ok=True)
        path = folder / part / (name if part == "images" else f"{name}.png")
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return name


def count(folder: Path, photos: int) -> Matched:
    """What the database in the folder holds of so many photos."""
    features, partners = [0] * photos, [dict[int, int]() for _ in range(photos)]
    with pycolmap.Database.open(folder / "matches.db") as database:
        photo_of = {image.image_id: int(image.name.split(".")[0]) for image in database.read_all_images()}
        for image_id, photo in photo_of.items():
            features[photo] = database.num_keypoints_for_image(image_id)
        pairs, geometries = database.read_two_view_geometries()
        for pair, geometry in zip(pairs, geometries, strict=True):
            first, second = (photo_of[one] for one in pycolmap.pair_id_to_image_pair(pair))
            count = len(geometry.inlier_matches)
            if count:
                partners[first][second] = partners[second][first] = count
    return Matched(folder, features, partners)


def _model(found: pycolmap.Reconstruction) -> Model:
    placed = {}
    for image in found.images.values():
        if not image.has_pose:
            continue
        lens = found.cameras[image.camera_id]
        T_cv_world = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        T_world_cam = camera.from_opencv(torch.from_numpy(np.linalg.inv(T_cv_world))).numpy()
        focal, _, _, radial = lens.params
        share = float(focal) / max(lens.width, lens.height)
        placed[int(image.name.split(".")[0])] = Placed(T_world_cam, share, float(radial), image.num_points3D)
    return Model(placed, float(found.compute_mean_reprojection_error()))
