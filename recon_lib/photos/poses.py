"""Poses as they are written in files, made rigid; and coordinates far from the origin, brought near it.

A pose is a `T_world_cam` with OpenGL axes (see `camera`), float64.
"""

import numpy as np
from jaxtyping import Float

RIGID_TOLERANCE = 1e-3  # largest difference of RᵀR from the identity that is corrected; more is refused
ROUNDING = 1e-6  # a smaller difference of RᵀR from the identity is left alone, so float32 poses stay bit for bit
FAR = 1e3  # coordinates this many times larger than the cameras' spread lose too much in float32
# What was done to a pose; `ingest` says it in words.
ROUNDED, SCALED, HOMOGENEOUS = "pose", "pose_scale", "pose_homogeneous"


def rigid(T: Float[np.ndarray, "4 4"]) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    """The pose without its common factor and without a uniform scale, its rotation orthonormal; and what was done to it.

    Raises ValueError, whose text completes "got …", if it is mirrored, sheared or not finite.
    """
    # `Cameras` holds float32, and products of its values must stay finite, too.
    if not np.isfinite(T).all() or np.abs(T).max() > 1e15:
        raise ValueError("a value that is not finite")
    notes: tuple[str, ...] = ()
    factor = T[3, 3]
    if abs(factor - 1) > 1e-6 and abs(factor) > 1e-9 and np.abs(T[3, :3]).max() < 1e-6 * abs(factor):
        T, notes = T / factor, (HOMOGENEOUS,)
    if not np.allclose(T[3], [0, 0, 0, 1], rtol=0, atol=1e-6):
        raise ValueError(f"last row {T[3].tolist()}")
    R = T[:3, :3]
    scale = np.sqrt(np.trace(R.T @ R) / 3)
    if not 1e-6 < scale < 1e6:
        raise ValueError(f"a rotation of scale {scale:.3g}")
    out = T.copy()
    deviation = np.abs(R.T @ R - np.eye(3)).max()
    if deviation > RIGID_TOLERANCE:
        relative = np.abs(R.T @ R / scale**2 - np.eye(3)).max()
        if relative > RIGID_TOLERANCE:
            raise ValueError(f"a rotation {min(deviation, relative):.3g} away from orthonormal")
        R, deviation, notes = R / scale, relative, (*notes, SCALED)
        out[:3, :3] = R
    if np.linalg.det(R) < 0:
        raise ValueError("a mirrored rotation, determinant -1")
    if deviation > ROUNDING:
        u, _, vt = np.linalg.svd(R)
        out[:3, :3] = u @ vt
        notes = notes or (ROUNDED,)
    return out, notes


def far_offset(T: Float[np.ndarray, "B 4 4"]) -> Float[np.ndarray, "3"]:
    """What to subtract from the positions, whole units, so that float32 can tell the cameras apart; zero if it can as it is."""
    eyes = T[:, :3, 3]
    middle = eyes.mean(0)
    spread = np.abs(eyes - middle).max()
    return np.round(middle) if np.abs(middle).max() > FAR * spread and spread > 0 else np.zeros(3)
