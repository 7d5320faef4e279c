"""The interface of the four operations, which the modules `cpu` and `cuda` both implement.

`attributes_at` is `interpolate` at some pixels only.

Only types stand here; `raster/__init__.py` says what the operations mean. Axes are the same, and D derivatives, S texels along
a cube map's side.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

Layers = Sequence[tuple[Float[Tensor, "_ _"], Int[Tensor, "_ 3"]]]  # vertex attributes with their faces


@runtime_checkable
class Rasteriser(Protocol):
    """A module of `raster/`, chosen once (`raster.select`) and passed to every function that draws."""

    DEVICE: str  # torch's name of the device on which all tensors must lie

    def rasterize(
        self, pos: Float[Tensor, "N V 4"], faces: Int[Tensor, "F 3"], resolution: tuple[int, int], grad_db: bool = True
    ) -> tuple[Float[Tensor, "N H W 4"], Float[Tensor, "N H W D"]]: ...

    def interpolate(
        self, attr: Float[Tensor, "M V A"], rast: Float[Tensor, "N H W 4"], faces: Int[Tensor, "F 3"],
        rast_db: Float[Tensor, "N H W 4"] | None = None, diff_attrs: tuple[int, ...] = (),
    ) -> tuple[Float[Tensor, "N H W A"], Float[Tensor, "N H W D"]]: ...  # fmt: skip

    def attributes_at(
        self, rast: Float[Tensor, "N H W 4"], index: Int[Tensor, " P"], layers: Layers
    ) -> tuple[Float[Tensor, "P _"], ...]: ...

    def texture(
        self, tex: Float[Tensor, "M TH TW C"] | Float[Tensor, "M 6 S S C"],
        uv: Float[Tensor, "N H W 2"] | Float[Tensor, "N H W 3"], uv_da: Float[Tensor, "N H W 4"] | None = None,
        mip_level_bias: Float[Tensor, "N H W"] | None = None, mip: list[Float[Tensor, "M ... C"]] | None = None,
        filter_mode: str = "linear", boundary_mode: str = "wrap", max_mip_level: int | None = None,
    ) -> Float[Tensor, "N H W C"]: ...  # fmt: skip

    def topology(self, faces: Int[Tensor, "F 3"]) -> Any: ...

    def antialias(
        self, colour: Float[Tensor, "N H W C"], rast: Float[Tensor, "N H W 4"], pos: Float[Tensor, "N V 4"],
        faces: Int[Tensor, "F 3"], topology: Any = None, pos_gradient_boost: float = 1.0,
    ) -> Float[Tensor, "N H W C"]: ...  # fmt: skip
