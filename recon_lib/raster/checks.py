"""Checks of the four operations' arguments, the same on every device. All raise ValueError.

Neither numba's kernels nor the GPU's compare shapes before they index, so arguments that would make them read beyond an array
are refused here. The checks look only at shapes and names, never at values, so they cost no synchronisation.
"""

from collections.abc import Sequence

from torch import Tensor

from recon_lib.raster import sampling

FILTERS = {
    "nearest": sampling.NEAREST,
    "linear": sampling.LINEAR,
    "linear-mipmap-nearest": sampling.MIP_NEAREST,
    "linear-mipmap-linear": sampling.MIP_LINEAR,
}
BOUNDARIES = {"wrap": sampling.WRAP, "clamp": sampling.CLAMP, "zero": sampling.ZERO, "cube": sampling.CUBE}
LARGEST_ID = 2**24  # face ids are stored as float32, which holds integers exactly only up to here


def rasterize(faces: Tensor, resolution: tuple[int, int]) -> None:
    """Refuses no faces, too many faces, and an empty image."""
    if len(faces) == 0 or min(resolution) < 1:
        raise ValueError(f"rasterize: {len(faces)} faces at {resolution} pixels, need at least one of each")
    if len(faces) >= LARGEST_ID:
        raise ValueError(f"rasterize: {len(faces)} faces, need fewer than {LARGEST_ID}")


def interpolate(attr: Tensor, rast: Tensor, rast_db: Tensor | None, diff_attrs: Sequence[int]) -> None:
    """Refuses a wrong number of views, and derivatives of attributes without `rast_db` or out of range."""
    if len(attr) not in (1, len(rast)):
        raise ValueError(f"interpolate: attributes of {len(attr)} views for {len(rast)} views, need 1 or {len(rast)}")
    if diff_attrs and (rast_db is None or rast_db.shape[-1] != 4):
        raise ValueError("interpolate: diff_attrs without rast_db, need the derivatives that `rasterize` returns")
    count = attr.shape[-1]
    if any(not -count <= chosen < count for chosen in diff_attrs):
        raise ValueError(
            f"interpolate: diff_attrs {tuple(diff_attrs)} of {count} attributes, need {-count} to {count - 1}"
        )


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    mip_level_bias: Tensor | None,
    mip: list[Tensor] | None,
    filter_mode: str,
    boundary_mode: str,
    max_mip_level: int | None,
) -> tuple[list[Tensor], int]:
    """Refuses arguments that do not fit together. Returns the levels of `mip` to use, and how often to halve `tex`.

    The second is 0 if `mip` is given, and for filters without mip levels.
    """
    if filter_mode not in FILTERS or boundary_mode not in BOUNDARIES:
        raise ValueError(
            f"texture: filter {filter_mode!r}, boundary {boundary_mode!r}; need {[*FILTERS]} and {[*BOUNDARIES]}"
        )
    is_cube, is_mip = boundary_mode == "cube", "mipmap" in filter_mode
    _texture_shapes(tex, uv, is_cube)
    if is_cube and uv_da is not None:
        raise ValueError("texture: uv_da with boundary 'cube', need the level of a cube map as mip_level_bias")
    if is_mip and uv_da is None and mip_level_bias is None:
        raise ValueError(f"texture: {filter_mode} without uv_da and mip_level_bias, need one of them")
    if mip is not None and not is_mip:
        raise ValueError(f"texture: mip with filter {filter_mode!r}, need a mip-mapped filter")
    if mip is not None:
        levels = mip[:max_mip_level]
        _mip_shapes(tex, levels)
        return levels, 0
    return [], _mip_depth(tex.shape[-3], tex.shape[-2], max_mip_level) if is_mip else 0


def _texture_shapes(tex: Tensor, uv: Tensor, is_cube: bool) -> None:
    dims, kind = (5, "cube map M 6 S S C and directions N H W 3") if is_cube else (4, "texture M H W C and uv N H W 2")
    fits = tex.ndim == dims and uv.ndim == 4 and uv.shape[-1] == dims - 2
    if not fits or (is_cube and (tex.shape[1] != 6 or tex.shape[2] != tex.shape[3])):
        raise ValueError(f"texture: got {tuple(tex.shape)} and {tuple(uv.shape)}, need a {kind}")
    if len(tex) not in (1, len(uv)):
        raise ValueError(f"texture: {len(tex)} textures for {len(uv)} views, need 1 or {len(uv)}")


def _mip_depth(height: int, width: int, most: int | None) -> int:
    depth = 0
    while (height, width) != (1, 1) and (most is None or depth < most):
        if (height > 1 and height % 2) or (width > 1 and width % 2):
            raise ValueError(
                f"texture: mip level {depth} is {width} x {height}, need even sizes; choose max_mip_level <= {depth}"
            )
        height, width, depth = max(height // 2, 1), max(width // 2, 1), depth + 1
    return depth


def _mip_shapes(tex: Tensor, mip: list[Tensor]) -> None:
    height, width = tex.shape[-3:-1]
    most = _mip_depth(height, width, len(mip))
    if most < len(mip):
        raise ValueError(f"texture: {len(mip)} mip levels below {width} x {height}, need at most {most}")
    for number, level in enumerate(mip, 1):
        needed = (*tex.shape[:-3], max(height >> number, 1), max(width >> number, 1), tex.shape[-1])
        if level.shape != needed:
            raise ValueError(f"texture: mip level {number} is {tuple(level.shape)}, need {needed}")
        if level.dtype != tex.dtype:
            raise ValueError(f"texture: mip level {number} is {level.dtype}, need {tex.dtype}")
