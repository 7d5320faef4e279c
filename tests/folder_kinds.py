"""Small copies of the sample as people's programs would have left them, one function for each kind of folder.

Each makes a folder of 10 + 2 views of the jug at 128 pixels and spoils one thing. The world is z up, the cameras are known.
"""

import json
import unicodedata
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from scipy.spatial.transform import Rotation

JUG = Path(__file__).parents[1] / "samples" / "jug"
SIDE = 128
FOCAL = 1111 / 512 * SIDE
EXIF = 0x0112
CHOSEN = {"train": (0, 3, 7, 10, 14, 17, 21, 24, 28, 31), "test": (0, 7)}
ARC = (16, 18, 21, 24, 26)
Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


class Shot(NamedTuple):
    """One view: its stem, straight RGBA, and its pose in a world with z up."""

    name: str
    rgba: np.ndarray
    T_world_cam: np.ndarray


@lru_cache
def shots(arc: bool = False) -> tuple[Shot, ...]:
    found = []
    for part, chosen in ({"train": ARC} if arc else CHOSEN).items():
        frames = json.loads((JUG / f"transforms_{part}.json").read_text())["frames"]
        for i in chosen:
            image = Image.open(JUG / frames[i]["file_path"]).convert("RGBA").resize((SIDE, SIDE), Image.Resampling.BOX)
            T = Z_UP @ np.array(frames[i]["transform_matrix"])
            T[:3, :3] = Rotation.from_matrix(T[:3, :3]).as_matrix()  # the sample's are rounded to float32
            found.append(Shot(f"{part}_{i:03}", np.asarray(image), T))
    return tuple(found)


def on_grey(shot: Shot) -> Image.Image:
    """The photo with a background, as a camera takes it."""
    alpha = shot.rgba[..., 3:] / 255
    return Image.fromarray((shot.rgba[..., :3] * alpha + 90 * (1 - alpha)).round().astype(np.uint8))


def mask(shot: Shot) -> Image.Image:
    return Image.fromarray(shot.rgba[..., 3])


def put(path: Path, image: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 95, "subsampling": 0} if path.suffix.lower() == ".jpg" else {}), **options)


def cut_outs(folder: Path, place: str = "images", taken: tuple[Shot, ...] | None = None) -> None:
    for shot in taken or shots():
        put(folder / place / f"{shot.name}.png", Image.fromarray(shot.rgba))


def with_masks(folder: Path, place: str = "masks/{}.png", end: str = ".jpg") -> None:
    for shot in shots():
        put(folder / "images" / f"{shot.name}{end}", on_grey(shot))
        put(folder / place.format(shot.name), mask(shot))


LENS = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": SIDE / 2, "cy": SIDE / 2, "w": SIDE, "h": SIDE}


def transforms(
    folder: Path, end: str = ".png", path: str = "images/{}", top: dict | None = None, lens=LENS, pose=None, **of_frame
):
    """Writes transforms.json; `of_frame` are keys of a frame as functions of the shot."""
    frames = [
        {
            "file_path": path.format(shot.name) + end,
            "transform_matrix": (shot.T_world_cam if pose is None else pose(shot.T_world_cam)).tolist(),
            **{key: value(shot) for key, value in of_frame.items()},
        }
        for shot in shots()
    ]
    (folder / "transforms.json").write_text(json.dumps({**lens, **(top or {}), "frames": frames}))


def colmap(
    folder: Path, place: str = "sparse/0", name="{}.png", camera: str = f"PINHOLE {SIDE} {SIDE} {FOCAL} {FOCAL} 64 64",
    arc: bool = False, points: bool = True, turn: np.ndarray | None = None, empty_lines: bool = True,
) -> None:  # fmt: skip
    """Writes a text model; `turn` moves the world, as COLMAP puts it anywhere."""
    at = folder / place
    at.mkdir(parents=True, exist_ok=True)
    (at / "cameras.txt").write_text(f"# cameras\n1 {camera}\n")
    lines = ["# images"]
    for i, shot in enumerate(shots(arc), start=1):
        T_world_cv = (np.eye(4) if turn is None else turn) @ shot.T_world_cam @ np.diag([1.0, -1, -1, 1])
        T_cv_world = np.linalg.inv(T_world_cv)
        x, y, z, w = Rotation.from_matrix(T_cv_world[:3, :3]).as_quat()
        t = " ".join(map(repr, T_cv_world[:3, 3].tolist()))
        named = name(i - 1) if callable(name) else name.format(shot.name)
        lines += [f"{i} {w} {x} {y} {z} {t} 1 {named}", *([""] if empty_lines else [])]
    (at / "images.txt").write_text("\n".join(lines) + "\n")
    if points:
        (at / "points3D.txt").write_text("# points\n")


TILT = np.eye(4)
TILT[:3, :3] = Rotation.from_euler("xyz", [0.7, -0.4, 1.1]).as_matrix()


def absurd_k(folder):
    cut_outs(folder)
    transforms(folder, top={"k1": -44.85, "k2": 1017.4, "p1": 0.62, "p2": 0.94})


def angle_per_frame(folder):
    cut_outs(folder)
    angle = 2 * np.arctan(SIDE / 2 / FOCAL)
    transforms(folder, lens={"w": SIDE, "h": SIDE, "fl_x": 9999.0}, camera_angle_x=lambda shot: angle)


def blue_jug(folder):
    cut_outs(folder)
    transforms(folder)


def case_ext(folder):
    with_masks(folder, end=".JPG")
    transforms(folder, ".jpg")


def colmap_backslash(folder):
    for i, shot in enumerate(shots()):
        put(folder / "images" / f"cam{i % 2}" / f"{i:03}.png", Image.fromarray(shot.rgba))
    colmap(folder, name=lambda i: f"cam{i % 2}\\{i:03}.png")


def colmap_spaces(folder):
    for i, shot in enumerate(shots()):
        put(folder / "images" / f"shot {i} (402).png", Image.fromarray(shot.rgba))
    colmap(folder, name=lambda i: f"shot {i} (402).png")


def cropped_5px(folder):
    cut_outs(folder)
    transforms(folder, top={"w": SIDE + 5, "h": SIDE + 5})


def downscaled_colmap(folder):
    cut_outs(folder)
    colmap(folder, camera="PINHOLE 512 512 1111 1111 256 256")


def downscaled_no_size(folder):
    cut_outs(folder)
    transforms(folder, lens={"fl_x": 1111.0, "fl_y": 1111.0, "cx": 256.0, "cy": 256.0})


def _turned(folder, orientation: int, crop: int, mask_upright: bool) -> None:
    """JPEGs whose stored pixels the cameras describe, under an orientation that would turn them."""
    upright = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[EXIF] = orientation
    for shot in shots():
        box = (0, crop // 2, SIDE, SIDE - crop // 2)
        put(folder / "images" / f"{shot.name}.jpg", on_grey(shot).crop(box), exif=exif)
        stored = mask(shot).crop(box)
        put(folder / "masks" / f"{shot.name}.png", stored.transpose(upright) if mask_upright else stored)


def exif180_transforms(folder):
    _turned(folder, 3, 0, False)
    transforms(folder, ".jpg")


def exif180_masks_upright(folder):
    _turned(folder, 3, 0, True)
    transforms(folder, ".jpg")


def exif90_square(folder):
    _turned(folder, 6, 0, True)
    transforms(folder, ".jpg")


def exif90_colmap_mask_upright(folder):
    _turned(folder, 6, 16, True)
    colmap(folder, name="{}.jpg", camera=f"PINHOLE 128 112 {FOCAL} {FOCAL} 64 56")


def exif90_transforms(folder):
    _turned(folder, 6, 16, False)
    transforms(folder, ".jpg", top={"h": 112, "cy": 56.0})


def ext_changed_colmap(folder):
    cut_outs(folder)
    colmap(folder, name="{}.jpg")


def ext_changed_transforms(folder):
    cut_outs(folder)
    transforms(folder, ".jpg")


def full_opencv_zero(folder):
    cut_outs(folder)
    colmap(folder, camera=f"FULL_OPENCV {SIDE} {SIDE} {FOCAL} {FOCAL} 64 64 0.001 0 0 0 0 0 0 0")


def homogeneous_pose(folder):
    cut_outs(folder)
    transforms(folder, pose=lambda T: 0.0012 * T)


def k3_transforms(folder):
    cut_outs(folder)
    transforms(folder, top={"camera_model": "OPENCV", "k1": 0.001, "k2": -0.002, "k3": 0.0015, "k4": 0.0, "p1": 0.0})


def layout_colmap_text(folder):
    cut_outs(folder)
    colmap(folder, "colmap_text")


def layout_dense(folder):
    cut_outs(folder, "dense/0/images")
    colmap(folder, "dense/0/sparse")


def layout_input(folder):
    cut_outs(folder, "input")
    colmap(folder, "distorted/sparse/0")


def layout_several(folder):
    """A reconstruction in three models, of which COLMAP's first is the smallest, and one folder further down."""
    cut_outs(folder, "jug/images")
    colmap(folder, "jug/sparse/1")
    for number in (0, 2):
        colmap(folder, f"jug/sparse/{number}", arc=True)


def links(folder):
    store = folder.with_name("store")
    cut_outs(store, "")
    (folder / "images").mkdir(parents=True)
    for shot in shots():
        (folder / "images" / f"{shot.name}.png").symlink_to(store / f"{shot.name}.png")
    colmap(folder)


def links_as_text(folder):
    cut_outs(folder.with_name("store"), "")
    (folder / "images").mkdir(parents=True)
    for shot in shots():
        (folder / "images" / f"{shot.name}.png").write_text(f"../../store/{shot.name}.png")
    colmap(folder)


def mask_beside_suffix(folder):
    with_masks(folder, "images/{}_mask.png")
    transforms(folder, ".jpg")


def mask_inverted(folder):
    with_masks(folder)
    transforms(folder, ".jpg")
    for path in (folder / "masks").iterdir():
        put(path, Image.fromarray(255 - np.asarray(Image.open(path))))


def mask_inverted_object_cut(folder):
    """The object reaches the lower border, so the inverted masks do not cover it."""
    for shot in shots():
        rows = shot.rgba[:100]
        whole = Shot(shot.name, rows, shot.T_world_cam)
        put(folder / "images" / f"{shot.name}.jpg", on_grey(whole))
        put(folder / "masks" / f"{shot.name}.png", Image.fromarray(255 - rows[..., 3]))
    transforms(folder, ".jpg", top={"h": 100})


def mask_numbered(folder):
    with_masks(folder)
    transforms(folder, ".jpg")
    for path in (folder / "masks").iterdir():
        put(path, Image.fromarray((np.asarray(Image.open(path)) > 127).astype(np.uint8)))


def mask_overflows(folder):
    """Close-ups: the object covers nearly all of each photo, and the masks are right."""
    for shot in shots():
        alpha = np.full((SIDE, SIDE), 255, np.uint8)
        alpha[:20, 50:70] = 0
        put(folder / "images" / f"{shot.name}.jpg", on_grey(shot))
        put(folder / "masks" / f"{shot.name}.png", Image.fromarray(alpha))
    transforms(folder, ".jpg")


def mask_jpeg(folder):
    for shot in shots():
        put(folder / "images" / f"{shot.name}.jpg", on_grey(shot))
        put(folder / "masks" / f"{shot.name}.jpg", mask(shot))
    transforms(folder, ".jpg")


def mask_path(folder):
    with_masks(folder, "segmentation/{}_seg.png")
    transforms(folder, ".jpg", mask_path=lambda shot: f"segmentation/{shot.name}_seg.png")


def mask_soft(folder):
    with_masks(folder)
    transforms(folder, ".jpg")
    for path in (folder / "masks").iterdir():
        put(path, Image.open(path).filter(ImageFilter.GaussianBlur(0.02 * SIDE)))


def no_points3d(folder):
    cut_outs(folder)
    colmap(folder, points=False)


def pose_lines_in_a_row(folder):
    cut_outs(folder)
    colmap(folder, empty_lines=False)


def one_missing(folder):
    cut_outs(folder)
    transforms(folder)
    (folder / "images" / "train_014.png").unlink()


def three_missing(folder):
    one_missing(folder)
    for name in ("train_000", "train_003"):
        (folder / "images" / f"{name}.png").unlink()


def overwrite(folder):
    for name in ("one", "two"):
        (folder / name / "scan").mkdir(parents=True)
        blue_jug(folder / name / "scan")


def path_of_other_root(folder):
    cut_outs(folder)
    transforms(folder, path="./jug/images/{}")


def path_absolute(folder):
    cut_outs(folder)
    transforms(folder, path="D:\\scans\\jug\\images\\{}")


def scaled_pose(folder):
    cut_outs(folder)
    transforms(folder, pose=lambda T: T @ np.diag([0.33, 0.33, 0.33, 1]))


def mirrored_pose(folder):
    cut_outs(folder)
    transforms(folder, pose=lambda T: np.diag([-1.0, 1, 1, 1]) @ T)


UTM = np.array([453_201.0, 5_411_877.0, 312.0])


def far_pose(folder):
    cut_outs(folder)

    def moved(T):
        out = T.copy()
        out[:3, 3] += UTM
        return out

    transforms(folder, pose=moved)


def split_lists(folder):
    cut_outs(folder)
    names = {part: [f"images/{s.name}.png" for s in shots() if s.name.startswith(part)] for part in CHOSEN}
    transforms(folder, top={"train_filenames": names["train"], "test_filenames": names["test"]})


def up_colmap_arc(folder):
    cut_outs(folder, taken=shots(arc=True))
    colmap(folder, arc=True, turn=TILT)


def up_nerfstudio(folder):
    cut_outs(folder)
    transforms(
        folder, pose=lambda T: TILT @ T, colmap_im_id=lambda shot: 1,
        top={"camera_model": "OPENCV", "applied_transform": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]},
    )  # fmt: skip


def up_y_no_key(folder):
    cut_outs(folder)
    angle = 2 * np.arctan(SIDE / 2 / FOCAL)
    transforms(folder, "", "./images/{}", lens={"camera_angle_x": angle}, pose=lambda T: np.linalg.inv(Z_UP) @ T)


def zipped(folder):
    blue_jug(folder.with_name("unpacked"))
    with zipfile.ZipFile(folder, "w") as archive:
        for path in sorted(folder.with_name("unpacked").rglob("*")):
            archive.write(path, Path("jug") / path.relative_to(folder.with_name("unpacked")))


def metashape(folder):
    cut_outs(folder)
    rows = []
    for i, shot in enumerate(shots()):
        T = shot.T_world_cam @ np.diag([1.0, -1, -1, 1])
        numbers = " ".join(map(repr, T.ravel().tolist()))
        rows.append(f'<camera id="{i}" sensor_id="0" label="{shot.name}"><transform>{numbers}</transform></camera>')
    size = f'<resolution width="{SIDE}" height="{SIDE}"/>'
    lens = f'<calibration class="adjusted">{size}<f>{FOCAL}</f><cx>0</cx><cy>0</cy><k1>0</k1></calibration>'
    cameras = f'<group label="a">{"".join(rows)}</group><camera id="99" sensor_id="0" label="lost"/>'
    (folder / "cameras.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><document version="2.0.0"><chunk label="Chunk 1">'
        f'<sensors><sensor id="0" type="frame">{size}{lens}</sensor></sensors><cameras>{cameras}</cameras></chunk></document>'
    )


def realityscan(folder):
    cut_outs(folder)
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    for shot in shots():
        heading, pitch, roll = Rotation.from_matrix(shot.T_world_cam[:3, :3]).as_euler("ZXY", degrees=True)
        place = ",".join(map(repr, shot.T_world_cam[:3, 3].tolist()))
        lines.append(f"{shot.name}.png,{place},{-heading},{pitch},{roll},{FOCAL * 36 / SIDE},0,0,0,0,0,0,0,0")
    (folder / "cameras.csv").write_text("\n".join(lines) + "\n")


def polycam(folder):
    cut_outs(folder, "keyframes/images")
    cut_outs(folder, "keyframes/corrected_images")
    for kind, focal in (("cameras", 1.0), ("corrected_cameras", FOCAL)):
        (folder / "keyframes" / kind).mkdir()
        for shot in shots():
            T = np.linalg.inv(Z_UP) @ shot.T_world_cam
            keys = {f"t_{i}{j}": T[i, j] for i in range(3) for j in range(4)}
            lens = {"fx": focal, "fy": focal, "cx": SIDE / 2, "cy": SIDE / 2, "width": SIDE, "height": SIDE}
            (folder / "keyframes" / kind / f"{shot.name}.json").write_text(
                json.dumps({**keys, **lens, "blur_score": 99})
            )


def record3d(folder):
    poses = []
    for i, shot in enumerate(shots()):
        put(folder / "rgb" / f"{i}.png", Image.fromarray(shot.rgba))
        T = np.linalg.inv(Z_UP) @ shot.T_world_cam
        poses.append([*Rotation.from_matrix(T[:3, :3]).as_quat(), *T[:3, 3]])
    K = [FOCAL, 0, 0, 0, FOCAL, 0, SIDE / 2, SIDE / 2, 1]
    (folder / "metadata.json").write_text(json.dumps({"w": SIDE, "h": SIDE, "fps": 60, "K": K, "poses": poses}))


def names_decomposed(folder):
    """As macOS writes accents, where the file of cameras has them composed."""
    for shot in shots():
        put(folder / "images" / f"{unicodedata.normalize('NFD', 'é')}_{shot.name}.png", Image.fromarray(shot.rgba))
    transforms(folder, path="images/" + unicodedata.normalize("NFC", "é") + "_{}")


def colmap_spaces_windows(folder):
    colmap_spaces(folder)
    for path in (folder / "sparse" / "0").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def hub_cache(folder):
    """Every file is a link to one without extension elsewhere, and images/ as a whole is one, too."""
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    blue_jug(folder.with_name("snapshot"))
    for i, path in enumerate(sorted(folder.with_name("snapshot").rglob("*.*"))):
        path.rename(blobs / str(i))
        path.symlink_to(blobs / str(i))
    (folder / "images").symlink_to(folder.with_name("snapshot") / "images")
    (folder / "transforms.json").symlink_to(folder.with_name("snapshot") / "transforms.json")


def shrunk_copies_only(folder):
    cut_outs(folder, "images_4")
    transforms(folder, lens={"fl_x": 1111.0, "fl_y": 1111.0, "cx": 256.0, "cy": 256.0, "w": 512, "h": 512})


def exif90_upright_cameras(folder):
    """The cameras describe the upright pixels; half of the photos are stored turned."""
    exif = Image.Exif()
    exif[EXIF] = 6
    box = (0, 8, SIDE, SIDE - 8)
    for i, shot in enumerate(shots()):
        upright = on_grey(shot).crop(box)
        if i % 2:
            put(folder / "images" / f"{shot.name}.jpg", upright)
        else:
            put(folder / "images" / f"{shot.name}.jpg", upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
        put(folder / "masks" / f"{shot.name}.png", mask(shot).crop(box))
    transforms(folder, ".jpg", top={"h": 112, "cy": 56.0})


def far_colmap(folder):
    cut_outs(folder)
    away = np.eye(4)
    away[:3, 3] = UTM
    colmap(folder, turn=away)


def mask_soft_alpha(folder):
    for shot in shots():
        photo = on_grey(shot).convert("RGBA")
        photo.putalpha(mask(shot).filter(ImageFilter.GaussianBlur(0.02 * SIDE)))
        put(folder / "images" / f"{shot.name}.png", photo)
    transforms(folder)


def mask_larger(folder):
    with_masks(folder)
    transforms(folder, ".jpg")
    for path in (folder / "masks").iterdir():
        put(path, Image.open(path).resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST))
