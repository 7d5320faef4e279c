"""The coarse mesh: one interface to both backends of stage 2.

The input is photos with masks, with or without cameras. The output is a mesh in the world, the cameras if the backend had to
find them, and the provenance. Nothing falls back silently: `auto` chooses before anything runs and says why; a backend asked
for by name runs or raises an error. For photos without cameras, the world is the mesh's own frame, z up.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
import torch

from recon_lib.camera import Cameras
from recon_lib.coarse import align, bitten, bodies, camera_fit, hull, one_body, sources
from recon_lib.coarse.bodies import Bodies
from recon_lib.coarse.config import (
    BACKENDS,
    AlignConfig,
    BackendConfig,
    CameraFitConfig,
    GeneratedConfig,
    HullConfig,
    SampleConfig,
    StereoConfig,
)
from recon_lib.coarse.one_body import Kept
from recon_lib.coarse.reconviagen import sample, upstream
from recon_lib.coarse.reconviagen.outcomes import Outcome
from recon_lib.coarse.sources import Sources
from recon_lib.coarse.stereo import stereo
from recon_lib.coarse.stereo.stereo import StereoMesh
from recon_lib.mesh import Mesh
from recon_lib.photos.scene import Scene, camera_json
from recon_lib.progress import Progress, part, silent
from recon_lib.raster import cpu
from recon_lib.surface import checks, placement, simplify
from recon_lib.surface.checks import MeshChecks
from recon_lib.weights import store

FEW, LEAST_FOR_STEREO = 16, 10  # photos with cameras, see `choose`
AMBIGUOUS_IOU = 0.01  # two fits whose overlaps differ by less count as equally good
MOSTLY_ONE = 0.5  # share of the surface that the largest body should have
ALIGNMENT, CAMERA_FITTING, MATCHING = AlignConfig(), CameraFitConfig(), StereoConfig()


@dataclass(frozen=True, eq=False)
class Coarse:
    """The coarse mesh and everything that coarse.json and the notebook say about it."""

    mesh: Mesh  # in the world
    cameras: Cameras | None  # found by the backend; None if the scene has its own
    bodies: Bodies  # of the mesh as the backend made it
    iou: dict[str, float]  # overlap of silhouettes and masks, by view; empty for a hull, which is made from the masks
    backend: str
    device: str  # where it ran: cpu or cuda
    reason: str  # one sentence: why this backend
    remarks: tuple[str, ...]  # sentences that a user of the mesh should know
    provenance: dict  # method, versions and settings, as JSON values
    sources: Sources | None = None  # of the surface, by triangle
    kept: Kept | None = None  # what became of other bodies on the grid; None for a generated mesh
    stereo: StereoMesh | None = None  # what photos agreed on, also where the hull was preferred in the end

    def record(self) -> dict:
        """The part of coarse.json that says where the mesh came from."""
        surface = {} if self.sources is None else {"shares_of_surface": self.sources.shares()}
        grid = {} if self.kept is None else {"bodies_on_the_grid": self.kept._asdict()}
        return {
            "backend": self.backend, "reason": self.reason, "remarks": self.remarks, "iou": self.iou,
            "provenance": self.provenance | surface | grid, "bodies_as_made": self.bodies._asdict(),
            "cameras": None if self.cameras is None else camera_json(self.cameras),
        }  # fmt: skip

    def reading(self, found: MeshChecks) -> str:
        """Sentences about the shape, for the notebook's Reading; `found` are the checks of this mesh."""
        solid = "is a closed solid of one body" if found.is_solid() else "is no solid, as the table above shows"
        if self.backend == "stereo":
            shares = self.sources.shares()
            shape = (
                f"Photos agree on {shares['stereo']:.0%} of its surface; {shares['hull']:.0%} are the visual hull's."
            )
        elif self.backend == "hull":
            shape = "It is as large as the silhouettes allow: hollows that no silhouette shows are filled."
        else:
            iou = np.mean(list(self.iou.values()))
            shape = f"It was generated, and its silhouettes overlap the masks by {iou:.3f} on average."
        apart = "" if self.kept is None else f" {self.kept.sentence()}"
        return f"The mesh has {len(self.mesh.faces)} triangles and {solid}. {shape} {self.sources.sentence()}{apart}"

    def overlap(self) -> str:
        """`iou` as text: mean, worst view, and the value of each view."""
        if not self.iou:
            return f"{self.backend}: made inside the masks, so its silhouettes are not compared with them"
        worst = min(self.iou, key=self.iou.get)
        mean = sum(self.iou.values()) / len(self.iou)
        pairs = "   ".join(f"{name}\N{NO-BREAK SPACE}{iou:.3f}" for name, iou in self.iou.items())
        lines = textwrap.wrap(pairs, 110)
        return "\n".join([f"mean {mean:.3f}, worst {self.iou[worst]:.3f} ({worst})", *lines])


def choose(backend: str, device: str, has_cameras: bool, views: int) -> tuple[str, str]:
    """The backend to run, and one sentence that says why; `backend` is auto, hull, stereo or reconviagen.

    `auto` takes ReconViaGen for photos without cameras and for fewer than `FEW` with cameras, where it can run. Else it takes
    stereo, and the hull for fewer than `LEAST_FOR_STEREO` photos. Raises ValueError for an unknown backend, and for one that
    cannot run on this machine or with these photos.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend: got {backend!r}, need auto or one of {BACKENDS}")
    if backend in ("hull", "stereo"):
        if not has_cameras:
            raise ValueError(
                f"backend {backend}: got photos without cameras, need cameras (transforms.json, a COLMAP model, or the six "
                "named views); or choose reconviagen, which finds them"
            )
        return backend, f"`{backend}` was asked for"
    if backend == "auto" and has_cameras and views >= FEW:
        return "stereo", f"`auto` chose stereo, as there are {views} photos with cameras"
    try:
        upstream.require("cpu" if device == "cpu" else "cuda")
    except ValueError as error:
        if backend == "reconviagen":
            raise
        why = " ".join(str(error).split())
        if not has_cameras:
            raise ValueError(
                f"backend auto: got photos without cameras, which only reconviagen can take, and that cannot run here ({why}); "
                "give cameras (transforms.json, a COLMAP model, or the six named views), or see in the findings of 1_ingest "
                "why none were found in the photos"
            ) from error
        if views >= LEAST_FOR_STEREO:
            return "stereo", f"`auto` chose stereo, as ReconViaGen cannot run here: {why}"
        few = f"{views} photos are too few for stereo, and ReconViaGen cannot run here"
        return "hull", f"`auto` chose the visual hull, as {few}: {why}"
    asked = "was asked for" if backend == "reconviagen" else "was chosen by `auto`, as it can run here"
    return "reconviagen", f"`reconviagen` {asked}"


def reconstruct(
    scene: Scene,
    backend: BackendConfig,
    shape: HullConfig,
    sampling: SampleConfig,
    generated: GeneratedConfig,
    progress: Progress = silent,
    alignment: AlignConfig = ALIGNMENT,
    camera_fitting: CameraFitConfig = CAMERA_FITTING,
    matching: StereoConfig = MATCHING,
) -> Coarse:
    """Makes the coarse mesh of a scene, from which the caller must have removed the held-out views.

    `alignment` and `camera_fitting` apply to a generated mesh only: to one with and to one without cameras given; `matching`,
    grown with the hull's grid, applies to stereo. Raises ValueError as `choose` and the backends do; ReconViaGen's `Outcome`
    and `WeightsError` are ValueErrors, too.
    """
    chosen, reason = choose(backend.backend, backend.device, scene.cameras is not None, len(scene.names))
    alphas = [image[..., 3] / np.float32(255) for image in scene.images]
    if chosen == "hull":
        return make_hull(scene, shape, reason, progress)
    if chosen == "stereo":
        return _by_stereo(scene, matching.grown(shape), shape, reason, backend, progress)

    device = "cpu" if backend.device == "cpu" else "cuda"
    sampled, provenance = _sample(scene, device, sampling, part(progress, 0.0, 0.6))
    found = bodies.count_bodies(sampled.mesh)
    mesh = _close(sampled.mesh, shape, generated.clean, part(progress, 0.6, 0.7))
    placed = _place(mesh, sampled, scene, alphas, alignment, camera_fitting, part(progress, 0.7, 1.0))
    T_world_mesh, cameras, iou, more = placed
    if iou.mean() < generated.least_iou:
        raise Outcome(
            "misaligned",
            f"its silhouettes overlap the masks by {iou.mean():.3f} on average, need {generated.least_iou:g}",
        )
    provenance |= more | {"T_world_mesh": T_world_mesh.tolist(), "voxels": sampled.voxels, "crops": sampled.boxes,
                   "crop_pixels": sampled.crop_size}  # fmt: skip
    world = placement.transform(mesh, torch.from_numpy(T_world_mesh).float())
    by_view = dict(zip(scene.names, iou.tolist(), strict=True))
    surface = sources.of_mesh(world, scene.cameras if cameras is None else cameras, ("generated",))
    said = _remarks(scene, found, iou, provenance)
    return Coarse(world, cameras, found, by_view, chosen, device, reason, said, provenance, surface)


def make_hull(scene: Scene, shape: HullConfig, reason: str, progress: Progress = silent) -> Coarse:
    """The visual hull of a scene with cameras; `reason` says why it is the hull."""
    alphas = [image[..., 3] / np.float32(255) for image in scene.images]
    mesh, kept = hull.hull_in_one(alphas, scene.cameras, shape, progress)
    provenance = {"method": "visual hull (Laurentini 1994)", "views": len(scene.names), **vars(shape)}
    surface = sources.of_mesh(mesh, scene.cameras, ("hull",))
    said = kept.remarks()
    count = bodies.count_bodies(mesh)
    return Coarse(mesh, None, count, {}, "hull", "cpu", reason, said, provenance, surface, kept)


def _by_stereo(
    scene: Scene, matching: StereoConfig, shape: HullConfig, reason: str, backend: BackendConfig, progress: Progress
) -> Coarse:
    """With `auto`, photos that agree on too little, or on several bodies, become the hull, and its reason says so."""
    device = "cuda" if backend.device != "cpu" and torch.cuda.is_available() else "cpu"
    try:
        made = stereo.stereo_mesh(scene.images, scene.cameras, matching, shape, progress, device)
    except (stereo.TooLittleAgreed, one_body.TornApart) as error:
        if backend.backend != "auto":
            raise
        return make_hull(scene, shape, f"{reason}, but {error}; so it is the visual hull", progress)
    provenance = {
        "method": "PatchMatch stereo inside the visual hull (Galliani et al. 2015)",
        "views": len(scene.names),
        "consistent_share_of_pixels": made.consistent,
        "masks_mended_share": dict(zip(scene.names, made.mended, strict=True)),
    }
    provenance |= vars(matching) | {"faces": shape.faces}
    count = bodies.count_bodies(made.mesh)
    surface = sources.of_mesh(made.mesh, scene.cameras, ("stereo", "hull"), made.agreed)
    said = made.kept.remarks() + bitten.remarks(scene.names, made.mended)
    return Coarse(made.mesh, None, count, {}, "stereo", device, reason, said, provenance, surface, made.kept, made)


def _remarks(scene: Scene, found: Bodies, iou: np.ndarray, provenance: dict) -> tuple[str, ...]:
    said = []
    if len(scene.names) == 1:
        said.append("One photo: its back, its depth and the mesh's distance are the network's guess.")
    if not provenance["commit_is_the_pinned_one"]:
        said.append(
            f"The ReconViaGen checkout is at {provenance['commit']}, not at the commit this version is tested with."
        )
    second = provenance.get("runner_up")
    if second and iou.mean() - second["iou"] < AMBIGUOUS_IOU:
        said.append(
            f"Turned by {np.degrees(second['radians']):.0f} degrees the mesh fits the masks as well "
            f"({second['iou']:.3f} beside {iou.mean():.3f}): silhouettes cannot tell which is right."
        )
    if found.largest_share < MOSTLY_ONE:
        said.append(f"Its largest body is only {found.largest_share:.0%} of the surface that was generated.")
    return tuple(said)


def _sample(scene: Scene, device: str, config: SampleConfig, progress: Progress) -> tuple[sample.Sampled, dict]:
    root, folder = upstream.require(device), store.folder()
    loaded = upstream.load(root, folder, device, part(progress, 0.0, 0.3))
    made = sample.sample(loaded, scene.images, scene.names, config, part(progress, 0.3, 1.0))
    method = {
        "method": "ReconViaGen (arXiv 2510.23306)",
        "views": len(scene.names),
        "weights": store.provenance(folder),
    }
    return made, method | loaded.provenance | vars(config)


def _place(
    mesh: Mesh,
    sampled: sample.Sampled,
    scene: Scene,
    alphas: list[np.ndarray],
    alignment: AlignConfig,
    camera_fitting: CameraFitConfig,
    progress: Progress,
) -> tuple[np.ndarray, Cameras | None, np.ndarray, dict]:
    """`T_world_mesh`, the fitted cameras if the scene has none, the overlap per view, and further entries of provenance."""
    if scene.cameras is None:
        guesses = sample.cameras(sampled, scene.images)
        fit = camera_fit.fit_cameras(mesh, scene.images, guesses, camera_fitting, alignment, cpu, progress)
        of_vggt = {"iou": fit.before.iou.tolist(), "psnr_db": fit.before.psnr_db}
        more = {"vggt": of_vggt, "psnr_db": fit.after.psnr_db, "focal_over_vggt_s": fit.focal_scale.tolist()}
        return np.eye(4), fit.cameras, fit.after.iou, more
    aligned = align.fit_similarity(mesh, alphas, scene.cameras, alignment, cpu, scene.up, progress)
    second = {"iou": aligned.runner_up_iou, "radians": aligned.runner_up_radians}
    return aligned.T_world_mesh, None, aligned.iou, {"runner_up": None if np.isnan(aligned.runner_up_iou) else second}


def _close(raw: Mesh, shape: HullConfig, clean: bool, progress: Progress) -> Mesh:
    """A closed mesh of at most `shape.faces` faces. Raises Outcome for a mesh that the next stages could not use."""
    mesh = bodies.solid(raw, shape, progress) if clean else simplify.decimate(bodies.weld(raw), shape.faces)
    whole = checks.check_mesh(mesh.verts, mesh.faces)
    if whole.open_edges or whole.non_manifold_edges or whole.non_finite_vertices or len(mesh.faces) == 0:
        raise Outcome("invalid mesh", f"{len(mesh.faces)} faces, {whole}")
    return mesh
