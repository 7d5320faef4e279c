"""Everything that the verdict measures of one mesh: in one call for a command line, in parts for notebook 4."""

from collections.abc import Sequence
from dataclasses import replace

from recon_lib import files
from recon_lib.mesh import Mesh
from recon_lib.photos.scene import Scene
from recon_lib.progress import Progress, silent
from recon_lib.raster.interface import Rasteriser
from recon_lib.surface import atlas, checks, solid
from recon_lib.verdict import diagnosis, floors, judge, light, observed, perceptual, reference, rules, texels
from recon_lib.verdict.config import Limits, MetricsConfig
from recon_lib.verdict.judge import Evidence, Scored
from recon_lib.verdict.light import Turning
from recon_lib.verdict.record import Check


def measure(
    mesh: Mesh, scored: Scored, photos: Scene, raster: Rasteriser, config: MetricsConfig, limits: Limits,
    progress: Progress = silent, has_texture: bool = True,
) -> Evidence:  # fmt: skip
    """What else is known of a scored mesh in the world, but for its causes.

    `has_texture` is False where the texture coordinates are none of the mesh's own (`surface.foreign`).
    """
    used = judge.score_used(mesh, photos, raster, config.used_views, progress)
    shown = photos.subset(~photos.held_out) if photos.held_out.any() else photos
    compared = [*scored.views.values(), *used.values()]
    seen = observed.observe(mesh, shown.cameras, compared, photos.up, raster, progress)
    body = rules.of_solid(
        checks.check_mesh(mesh.verts, mesh.faces), solid.measure(mesh, config.search_s), photos.metres_per_unit
    )
    texture: list[Check] = []
    if has_texture:
        texture += rules.of_atlas(atlas.measure(mesh, raster), len(mesh.faces))
        texture += rules.of_texels(texels.photos_of_texels(mesh, shown.cameras, raster))
    against = None
    if config.reference:
        against = reference.compare(mesh, reference.read(files.root(config.reference)), photos.cameras_found)
    return Evidence(
        floors=floors.of(scored.views), used=used, surface=body, observed=seen, texture=texture,
        seen=rules.of_observed(seen, limits.most_unseen), reference=against,
        lpips=perceptual.measure([*scored.views.values()]), lpips_absent=perceptual.absent([*scored.views.values()]),
    )  # fmt: skip


def explain(
    mesh: Mesh, scored: Scored, evidence: Evidence, lit: Turning | None, raster: Rasteriser
) -> list[diagnosis.Cause]:
    """The causes of what is left between mesh and photos."""
    fine = None
    if evidence.texture:
        per_unit = atlas.measure(mesh, raster).texels_per_unit[1]
        fine = diagnosis.texels_per_pixel(mesh, per_unit, scored.views)
    return diagnosis.diagnose(scored.views, evidence.used, lit, evidence.observed, fine)


def examine(
    mesh: Mesh, name: str, photos: Scene, raster: Rasteriser, seen: set[str], config: MetricsConfig, limits: Limits,
    progress: Progress = silent, has_texture: bool = True, notes: Sequence[str] = (),
) -> tuple[dict, Scored, Evidence]:  # fmt: skip
    """Scores, measures and judges a mesh in the world; returns verdict.json's content and what it was made from.

    `notes` are what could not be measured of its file. Raises ValueError as `judge.score` does.
    """
    scored = judge.score(mesh, photos, raster, seen, progress)
    evidence = measure(mesh, scored, photos, raster, config, limits, progress, has_texture)
    used = photos.subset(~photos.held_out) if photos.held_out.any() else photos
    causes = explain(mesh, scored, evidence, light.compare(mesh, used, raster, progress), raster)
    evidence = replace(evidence, causes=causes, notes=notes)
    return judge.judge(scored, name, evidence, limits), scored, evidence
