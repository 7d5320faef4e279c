"""Photos as stereo wants them: grey crops around the object at one scale, and where along each ray the hull is.

A photo is shrunk until its longer side has `size` pixels, never enlarged, and cut around the object; crops smaller than the
largest are filled up with what is outside the mask.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numba import njit, prange

from recon_lib.camera import Cameras, invert_rigid
from recon_lib.photos import framing
from recon_lib.photos.resample import area_means
from recon_lib.threads import parallel_kernel

SMALLEST = 8  # pixels along a crop's side
MARGIN = 0.02  # of the object's extent in the photo, around it
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of sRGB values, ITU-R BT.601
WIDEST, BEST_DEGREES = 45.0, 14.0  # angle between two views that are compared at all, and the one that tells depth best


@dataclass(frozen=True, eq=False)
class Views:
    greys: Float32[np.ndarray, "B H W"]  # sRGB, 0 to 1
    masks: Bool[np.ndarray, "B H W"]
    K: Float[np.ndarray, "B 3 3"]  # intrinsics of the crops
    T_cv_world: Float[np.ndarray, "B 4 4"]


def crop_views(images: tuple[np.ndarray, ...], cameras: Cameras, size: int) -> Views:
    """`images` are H W 4 uint8, straight alpha, sRGB; each mask must hold a pixel."""
    boxes, sizes = np.zeros((len(images), 4)), np.zeros((len(images), 2), int)
    for i, image in enumerate(images):
        low, high = np.split(framing.mask_box(image[..., 3] / np.float32(255)), 2)
        around = MARGIN * (high - low).max()
        boxes[i] = *np.maximum(low - around, 0), *np.minimum(high + around, image.shape[1::-1])
        scale = min(1.0, size / max(image.shape[:2]))
        sizes[i] = np.maximum(np.round((boxes[i, 2:] - boxes[i, :2]) * scale), SMALLEST)
    width, height = sizes.max(0) + sizes.max(0) % 2
    greys, masks = np.zeros((len(images), height, width), np.float32), np.zeros((len(images), height, width), bool)
    K, intrinsics = np.zeros((len(images), 3, 3)), cameras.intrinsics.double().cpu().numpy()

    def crop(i: int) -> None:
        (left, top, right, bottom), (w, h) = boxes[i].tolist(), sizes[i].tolist()
        x, y = int(left), int(top)
        within = images[i][y : int(np.ceil(bottom)), x : int(np.ceil(right))].astype(np.float32)
        planes = np.dstack([within[..., :3] @ GREY, within[..., 3]]) / np.float32(255)
        small = area_means(planes, (left - x, top - y, right - x, bottom - y), w, h)
        greys[i, :h, :w], masks[i, :h, :w] = small[..., 0], small[..., 1] > 0.5
        sx, sy = w / (right - left), h / (bottom - top)
        fx, fy, cx, cy = intrinsics[i]
        K[i] = [[fx * sx, 0, (cx - left) * sx], [0, fy * sy, (cy - top) * sy], [0, 0, 1]]

    with ThreadPoolExecutor() as pool:
        list(pool.map(crop, range(len(images))))
    T_cam_world = invert_rigid(cameras.T_world_cam.double().cpu()).numpy()
    return Views(greys, masks, K, np.diag([1.0, -1, -1, 1]) @ T_cam_world)


def neighbours(views: Views, centre: Float[np.ndarray, "3"], most: int) -> Int[np.ndarray, "B N"]:
    """Of each view those that see `centre` from the angles that tell depth best, best first; -1 where there are fewer."""
    R, t = views.T_cv_world[:, :3, :3], views.T_cv_world[:, :3, 3]
    eye = -np.einsum("bji,bj->bi", R, t)
    towards = centre - eye
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    degrees = np.degrees(np.arccos((towards @ towards.T).clip(-1, 1)))
    found = np.full((len(eye), most), -1, np.int64)
    for i, row in enumerate(degrees):
        order = np.argsort(np.abs(np.log(row.clip(1e-3) / BEST_DEGREES)), kind="stable")
        fit = [j for j in order if j != i and 1.0 < row[j] < WIDEST][:most]
        found[i, : len(fit)] = fit
    return found


def homographies(views: Views, i: int, others: Int[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray]:
    """`M` (N 3 3) and `m` (N 3), float32: pixel (x, y, 1) of view i at inverse depth w is M (x, y, 1) + w m in the other."""
    M, m = np.zeros((len(others), 3, 3), np.float32), np.zeros((len(others), 3), np.float32)
    back = np.linalg.inv(views.K[i])
    for n, j in enumerate(others):
        if j >= 0:
            T_j_i = views.T_cv_world[j] @ np.linalg.inv(views.T_cv_world[i])
            M[n], m[n] = views.K[j] @ T_j_i[:3, :3] @ back, views.K[j] @ T_j_i[:3, 3]
    return M, m


def hull_bounds(
    views: Views, field: Float32[np.ndarray, "X Y Z"], origin: np.ndarray, spacing: float
) -> Float32[np.ndarray, "B 3 H W"]:
    """Of each pixel the least and largest inverse depth inside the hull, 1.5 voxels wider, and that of its surface.

    All are 0 where the ray misses the hull. `field` is the hull's signed distance, negative inside.
    """
    bounds = np.zeros((len(views.masks), 3, *views.masks.shape[1:]), np.float32)
    for i, (low, high, surface) in enumerate(bounds):
        T_world_cv = np.linalg.inv(views.T_cv_world[i])
        rays = T_world_cv[:3, :3] @ np.linalg.inv(views.K[i])
        _march(field, origin, spacing, T_world_cv[:3, 3].copy(), rays, views.masks[i], low, high, surface)
    return bounds


@njit(cache=True, error_model="numpy")
def _at(field, origin, spacing, eye, direction, z):
    """The field, trilinear, at depth z along a ray."""
    gx = (eye[0] + z * direction[0] - origin[0]) / spacing
    gy = (eye[1] + z * direction[1] - origin[1]) / spacing
    gz = (eye[2] + z * direction[2] - origin[2]) / spacing
    i = min(max(int(gx), 0), field.shape[0] - 2)
    j = min(max(int(gy), 0), field.shape[1] - 2)
    k = min(max(int(gz), 0), field.shape[2] - 2)
    fx, fy, fz = gx - i, gy - j, gz - k
    c00 = field[i, j, k] * (1 - fz) + field[i, j, k + 1] * fz
    c01 = field[i, j + 1, k] * (1 - fz) + field[i, j + 1, k + 1] * fz
    c10 = field[i + 1, j, k] * (1 - fz) + field[i + 1, j, k + 1] * fz
    c11 = field[i + 1, j + 1, k] * (1 - fz) + field[i + 1, j + 1, k + 1] * fz
    return (c00 * (1 - fy) + c01 * fy) * (1 - fx) + (c10 * (1 - fy) + c11 * fy) * fx


@parallel_kernel
def _march(field, origin, spacing, eye, rays, mask, low, high, surface):
    """Walks every masked pixel's ray through the grid in steps of half a voxel."""
    height, width = mask.shape
    for y in prange(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            px, py = x + 0.5, y + 0.5
            direction = np.empty(3)
            for a in range(3):
                direction[a] = rays[a, 0] * px + rays[a, 1] * py + rays[a, 2]
            length = np.sqrt((direction * direction).sum())
            near, far = 1e-6, 1e30
            for a in range(3):
                first, last = origin[a], origin[a] + spacing * (field.shape[a] - 1)
                if abs(direction[a]) < 1e-12:
                    if not (first <= eye[a] <= last):
                        far = -1.0
                    continue
                t0, t1 = (first - eye[a]) / direction[a], (last - eye[a]) / direction[a]
                near, far = max(near, min(t0, t1)), min(far, max(t0, t1))
            step = 0.5 * spacing / length
            entered, left = -1.0, -1.0
            z = near
            while z < far:
                if _at(field, origin, spacing, eye, direction, z) < 0:
                    if entered < 0:
                        entered = z
                    left = z
                z += step
            if entered < 0:
                continue
            a, b = entered - step, entered
            for _ in range(8):
                middle = 0.5 * (a + b)
                if _at(field, origin, spacing, eye, direction, middle) < 0:
                    b = middle
                else:
                    a = middle
            pad = 1.5 * spacing / length
            low[y, x], high[y, x] = 1 / (left + pad), 1 / max(entered - pad, 1e-3 * entered)
            surface[y, x] = 1 / b
