"""LPIPS is measured where its packages and weights are there, else said to be absent with the reason; nothing is fetched.

The weights here are a stand-in of AlexNet's shape: its convolutions are random, and of its classifier, which LPIPS does not
use, the file holds one number.
"""

import importlib.util
import json

import jsonschema
import pytest
import torch
import verdicts
from test_diagnosis import GOOD

from recon_lib.raster import cpu
from recon_lib.verdict import examine, perceptual
from recon_lib.verdict.config import Limits, MetricsConfig

CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
CLASSIFIER = {1: (4096, 9216), 4: (4096, 4096), 6: (1000, 4096)}
VIEWS = list(GOOD.values())


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """Torch's folder with a network file of the right name and shape; a download fails the test."""
    missing = [package for package in perceptual.PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: pip install -e '.[perceptual]'")
    if broken := perceptual._broken():
        pytest.skip(broken)
    generator, found = torch.Generator().manual_seed(0), {}
    for i, (out, into, side) in CONVOLUTIONS.items():
        scale = (2 / (into * side**2)) ** 0.5  # keeps the features' size from layer to layer (He et al. 2015)
        found[f"features.{i}.weight"] = scale * torch.randn(out, into, side, side, generator=generator)
        found[f"features.{i}.bias"] = torch.zeros(out)
    for i, shape in CLASSIFIER.items():
        found[f"classifier.{i}.weight"], found[f"classifier.{i}.bias"] = (
            torch.zeros(1).expand(size) for size in (shape, shape[:1])
        )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(found, folder / perceptual.WEIGHTS)
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("a download was begun"))


def test_a_torchvision_of_another_torch_is_said_and_ends_nothing(monkeypatch, tmp_path):
    def refuse(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / perceptual.WEIGHTS).touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("importlib.import_module", refuse)
    said = "LPIPS: absent, torchvision does not import (operator torchvision::nms does not exist)"
    assert perceptual.absent(VIEWS) == said and perceptual.measure(VIEWS) is None


def test_without_its_packages_it_is_absent_by_their_names(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert perceptual.absent(VIEWS) == "LPIPS: absent, torchmetrics and torchvision not installed"
    assert perceptual.measure(VIEWS) is None


def test_without_its_weights_it_is_absent_by_their_name_and_for_small_pictures_by_their_size(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(perceptual, "_broken", lambda: "")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert perceptual.WEIGHTS in perceptual.absent(VIEWS) and perceptual.measure(VIEWS) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / perceptual.WEIGHTS).write_bytes(b"weights")
    assert perceptual.absent(VIEWS) == ""
    small = VIEWS[0]._replace(true_mask=VIEWS[0].true_mask[:40])
    assert perceptual.absent([*VIEWS, small]) == "LPIPS: absent, a compared picture is 40 pixels, needed 64"
    assert perceptual.measure([*VIEWS, small]) is None


def test_the_same_picture_is_at_no_distance_and_a_worse_one_is_farther(weights):
    def worse(amount: float) -> float:
        return perceptual.measure(
            [view._replace(rendered=view.photo + amount * (view.rendered - view.photo)) for view in VIEWS]
        )

    assert worse(0.0) == pytest.approx(0, abs=1e-6) and 1e-5 < worse(1.0) < worse(4.0)
    one_by_one = [perceptual.measure([view]) for view in VIEWS]
    assert worse(1.0) == pytest.approx(sum(one_by_one) / len(VIEWS), rel=1e-5)


def test_its_number_enters_the_verdict(weights, painted_jug, jug):
    few = jug.subset(jug.held_out).subset(torch.arange(jug.held_out.sum()).numpy() < 2)
    judged, scored, _ = examine.examine(painted_jug, "mesh.glb", few, cpu, set(), MetricsConfig(used_views=0), Limits())
    assert judged["lpips"] == pytest.approx(perceptual.measure([*scored.views.values()])) and judged["lpips"] > 0
    assert judged["lpips_absent"] == ""
    jsonschema.validate(json.loads(json.dumps(judged, allow_nan=False)), verdicts.SCHEMA)
