"""The adapter without upstream: crops, cameras, sampler keys, stand-ins, names for what goes wrong."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from recon_lib import camera
from recon_lib.coarse.reconviagen import outcomes, sample, stand_ins, upstream
from recon_lib.coarse.reconviagen.crop import crop, uncrop
from recon_lib.coarse.reconviagen.outcomes import Outcome


def disc(width: int, height: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Red where the mask is, green under transparency."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    image = np.zeros((height, width, 4), np.uint8)
    image[inside] = 255, 0, 0, 255
    image[~inside] = 0, 255, 0, 0
    return image


@pytest.mark.parametrize(("centre", "radius"), [((50, 40), 20), ((12, 70), 10), ((2, 3), 15), ((60, 50), 49)])
@pytest.mark.parametrize("size", [16, 56, 224])
def test_the_object_is_centred_on_black_whatever_lies_under_the_mask(centre, radius, size):
    image = disc(120, 100, centre, radius)
    square, (x0, y0, x1, y1) = crop(image, "photo", size)
    pixels = np.asarray(square).astype(int)
    assert square.mode == "RGB" and square.size == (size, size) and pixels[..., 1].max() == 0
    assert x1 - x0 == pytest.approx(y1 - y0)
    seen = np.argwhere(image[..., 3] > 127)
    extent = np.ptp(seen, axis=0).max() + 1
    assert x1 - x0 == pytest.approx(1.1 * extent)
    rows, columns = np.nonzero(pixels[..., 0] > 127)
    scale = size / (x1 - x0)
    for found, expected, offset in ((columns, seen[:, 1], x0), (rows, seen[:, 0], y0)):
        assert found.min() == pytest.approx((expected.min() - offset) * scale, abs=1)
        assert found.max() + 1 == pytest.approx((expected.max() + 1 - offset) * scale, abs=1)


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_photo_that_is_all_or_nothing_has_no_mask(alpha):
    with pytest.raises(Outcome, match=r"photo without a mask: p is all .*masks/"):
        crop(np.full((20, 20, 4), alpha, np.uint8), "p", 56)


def test_a_camera_of_a_crop_becomes_the_camera_of_the_photo():
    generator = torch.Generator().manual_seed(0)
    eye = 3 * torch.nn.functional.normalize(torch.randn(4, 3, generator=generator), dim=-1)
    truth = camera.Cameras(
        camera.look_at(eye, torch.zeros(4, 3), torch.tensor([[0.0, 0, 1]]).repeat(4, 1)),
        torch.tensor([[200.0, 210, 66, 40]]).repeat(4, 1),
        torch.tensor([[120, 100]]).repeat(4, 1),
    )
    boxes = [(10.0, -5.0, 90.0, 75.0), (0.0, 0.0, 100.0, 100.0), (30.0, 20.0, 61.0, 51.0), (-8.0, 0.0, 40.0, 48.0)]
    seen = camera.cropped(truth, torch.tensor(boxes), 56, 56)
    T_cv_world = camera.invert_rigid(camera.from_opencv(truth.T_world_cam))[:, :3]  # the flip is its own inverse
    K = torch.zeros(4, 3, 3)
    K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2] = seen.intrinsics.T
    found = uncrop(T_cv_world, K, boxes, 56, truth.sizes)
    torch.testing.assert_close(found.intrinsics, truth.intrinsics)
    torch.testing.assert_close(found.T_world_cam, truth.T_world_cam, rtol=0, atol=1e-5)


@pytest.mark.parametrize("focal", [0.0, float("inf"), float("nan")])
def test_cameras_that_are_none_are_refused_by_number(focal):
    K = torch.eye(3).repeat(3, 1, 1)
    K[1, 0, 0] = focal
    with pytest.raises(Outcome, match=r"invalid cameras.*\[1\].*transforms.json"):
        uncrop(torch.eye(3, 4).repeat(3, 1, 1), K, [(0, 0, 9, 9)] * 3, 56, torch.tensor([[9, 9]] * 3))


def test_the_fork_gets_the_same_guidance_in_its_own_count():
    config = sample.SampleConfig(ss_rescale=0.0, slat_rescale=0.0, ss_guidance=7.5, slat_guidance=4.0)
    official, fork = sample.samplers(config, True), sample.samplers(config, False)
    for (name, ours), theirs in zip((("ss", official[0]), ("slat", official[1])), fork, strict=True):
        s, t, n, p = ours["cfg_strength"], theirs["cfg_strength"], 0.3, 1.7
        assert s * p + (1 - s) * n == pytest.approx((1 + t) * p - t * n)
        assert "guidance_rescale" in ours and "guidance_rescale" not in theirs, name


def test_a_rescale_that_the_fork_does_not_have_is_refused():
    with pytest.raises(Outcome, match=r"unknown sampler parameter: ss_rescale is 0.7"):
        sample.samplers(sample.SampleConfig(), False)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), "CUDA error"),
        (RuntimeError("your data exceed int32 range"), "index overflow"),
        (AssertionError("n must be less than INT32_MAX"), "index overflow"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of GPU memory"),
    ],
)
def test_upstream_s_errors_get_their_names_and_say_what_to_do(error, name):
    with pytest.raises(Outcome, match=name) as caught, outcomes.named():
        raise error
    assert caught.value.name == name and outcomes.NEXT[name] in str(caught.value)
    assert caught.value.__cause__ is error


def test_an_error_without_a_name_passes_as_it_is():
    with pytest.raises(RuntimeError, match=r"^something else$"), outcomes.named():
        raise RuntimeError("something else")


def test_torch_s_attention_keeps_sequences_apart():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 9, 2, 8, generator=generator), torch.randn(1, 12, 2, 8, generator=generator)
    v = torch.randn(1, 12, 2, 5, generator=generator)
    mask = stand_ins.BlockDiagonalMask.from_seqlens([4, 5], [10, 2])
    found = stand_ins.memory_efficient_attention(q, k, v, mask)
    for rows, columns in ((slice(0, 4), slice(0, 10)), (slice(4, 9), slice(10, 12))):
        for head in range(2):
            weights = torch.softmax(q[0, rows, head] @ k[0, columns, head].T / 8**0.5, -1)
            torch.testing.assert_close(found[0, rows, head], weights @ v[0, columns, head])


@pytest.mark.parametrize(("capability", "chosen"), [((9, 0), "flash_attn"), ((7, 5), "xformers"), (None, "xformers")])
def test_attention_is_the_fastest_that_the_gpu_can_run(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(stand_ins.importlib, "import_module", lambda name: types.ModuleType(name))
    assert stand_ins.attention_backend() == chosen


def test_without_either_torch_s_own_attention_is_taken(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(stand_ins.importlib, "import_module", absent)
    assert stand_ins.attention_backend() == "sdpa"


def test_stand_ins_are_gone_after_the_import_and_say_so_when_called():
    before = {name for name in stand_ins.NEVER_CALLED if importlib.util.find_spec(name.partition(".")[0])}
    with stand_ins.present("flash_attn"):
        from dreamsim import dreamsim

        with pytest.raises(ImportError, match=r"dreamsim.dreamsim is not installed"):
            dreamsim()
        import utils3d  # noqa: F401
    after = {name for name in stand_ins.NEVER_CALLED if importlib.util.find_spec(name.partition(".")[0])}
    assert before == after and "utils3d" not in sys.modules


class FakePipeline:
    """What `sample` touches of upstream's; its networks answer what they are told to."""

    default_image_resolution = 56

    def __init__(self, occupancy: torch.Tensor, verts: torch.Tensor, faces: torch.Tensor):
        self.occupancy, self.verts, self.faces = occupancy, verts, faces
        self.device = torch.device("cpu")
        self.models = {
            name: torch.nn.Identity()
            for name in ("sparse_structure_decoder", "sparse_structure_flow_model", "slat_flow_model")
        }
        self.VGGT_model = torch.nn.Module()
        self.VGGT_model.aggregator = Pass()
        self.VGGT_model.camera_head = lambda tokens: [torch.zeros(1, tokens[0].shape[1], 9)]
        self.asked = {}

    def run(self, image, **asked):
        self.asked = asked
        assert all(isinstance(one, Image.Image) for one in image)
        self.VGGT_model.aggregator(torch.zeros(1, len(image), 3, 56, 56))
        self.models["sparse_structure_decoder"](self.occupancy)
        mesh = type("MeshExtractResult", (), {"vertices": self.verts, "faces": self.faces})
        return {"mesh": [mesh]}, None, None


class Pass(torch.nn.Module):
    def forward(self, images):
        return [torch.zeros(1, images.shape[1], 5, 8)], 5


class Poses(types.ModuleType):
    def pose_encoding_to_extri_intri(self, encoding, size):
        count = encoding.shape[1]
        return torch.eye(3, 4).repeat(1, count, 1, 1), torch.eye(3).repeat(1, count, 1, 1)


def sampled(occupancy=None, verts=None, faces=None, photos: int = 2):
    half = torch.ones(1, 1, 8, 8, 8)
    half[..., 4:] = -1
    pipeline = FakePipeline(
        half if occupancy is None else occupancy,
        torch.eye(3).half() if verts is None else verts,
        torch.tensor([[0, 1, 2]]) if faces is None else faces,
    )
    loaded = upstream.Loaded(pipeline, Poses("pose_enc"), {}, True)
    images = tuple(disc(60, 50, (30, 25), 10) for _ in range(photos))
    names = tuple(str(i) for i in range(photos))
    return pipeline, sample.sample(loaded, images, names, sample.SampleConfig(seed=7))


def test_the_sampler_gets_the_parameters_and_the_mesh_comes_back_in_single_precision():
    pipeline, found = sampled()
    assert pipeline.asked["seed"] == 7 and pipeline.asked["formats"] == ["mesh"]
    structure = {
        "steps": 30,
        "cfg_interval": [0.6, 1.0],
        "rescale_t": 5.0,
        "cfg_strength": 7.5,
        "guidance_rescale": 0.7,
    }
    assert pipeline.asked["sparse_structure_sampler_params"] == structure
    assert found.mesh.verts.dtype == torch.float32 and found.mesh.faces.dtype == torch.int32
    assert found.voxels == 256 and len(found.boxes) == 2 and found.vggt[0].shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("too few photos", {"photos": 0}),
        ("empty structure", {"occupancy": -torch.ones(1, 1, 8, 8, 8)}),
        ("full structure", {"occupancy": torch.ones(1, 1, 8, 8, 8)}),
        ("too many voxels", {"occupancy": torch.nn.functional.pad(torch.ones(1, 1, 44, 44, 44), (0, 1), value=-1.0)}),
        ("invalid mesh", {"verts": torch.zeros(0, 3), "faces": torch.zeros(0, 3, dtype=torch.long)}),
        ("invalid mesh", {"verts": torch.full((3, 3), float("nan"))}),
    ],
)
def test_what_is_not_a_mesh_has_a_name(name, changed):
    with pytest.raises(Outcome) as caught:
        sampled(**changed)
    assert caught.value.name == name


def test_the_hooks_are_gone_after_a_failure():
    with pytest.raises(Outcome):
        pipeline, _ = sampled(occupancy=torch.ones(1, 1, 8, 8, 8))
    pipeline, _ = sampled()
    networks = [*pipeline.models.values(), pipeline.VGGT_model.aggregator]
    assert not any(network._forward_hooks for network in networks)


def test_no_checkout_and_no_gpu_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv("RECONVIAGEN_ROOT", raising=False)
    with pytest.raises(Outcome, match=r"no checkout: RECONVIAGEN_ROOT is ''.*clone"):
        upstream.require("cpu")
    monkeypatch.setenv("RECONVIAGEN_ROOT", str(tmp_path))
    with pytest.raises(Outcome, match="no checkout"):
        upstream.require("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Outcome, match=r"no GPU: torch sees none; .*hull"):
        upstream.require("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (15 * 2**30, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    with pytest.raises(Outcome, match=r"too little GPU memory: a GPU has 15\.0 GB free, need 16 GB"):
        upstream.require("cuda")
