"""Why a mesh does not explain its photos better: causes that were measured, each with what to do about it.

A cause decides nothing; the checks of `judge` do.
"""

from typing import NamedTuple

from recon_lib.verdict.light import Turning


class Cause(NamedTuple):
    """One cause, in sentences for people and with a name for programs."""

    kind: str
    says: str  # what was found, with its number
    remedy: str  # what to do


def diagnose(light: Turning) -> list[Cause]:
    """The causes that were found."""
    found = []
    if light.is_seen:
        found.append(
            Cause(
                "light turns with the camera",
                f"The light turned with the camera: such a light explains {light.turning:.0%} of the difference in brightness "
                f"between photos and mesh, another light fixed in the world {max(light.fixed, 0):.0%}.",
                "So shading is in the base colour, and the fitted light is wrong. Move the camera around a resting object "
                "under lamps that stay, or light it evenly from all sides (a tent, an overcast sky).",
            )
        )
    return found
