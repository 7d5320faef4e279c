"""LPIPS is measured where its packages and weights are there, else said to be absent with the reason; nothing is fetched."""

import pytest
import torch
from test_diagnosis import GOOD

from recon_lib.verdict import perceptual


def test_without_its_packages_it_is_absent_by_their_names(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert perceptual.absent() == "LPIPS: absent, torchmetrics and torchvision not installed"
    assert perceptual.measure(GOOD.values()) is None


def test_without_its_weights_it_is_absent_by_their_name(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert perceptual.WEIGHTS in perceptual.absent() and perceptual.measure(GOOD.values()) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / perceptual.WEIGHTS).write_bytes(b"weights")
    assert perceptual.absent() == ""


@pytest.mark.skipif(bool(perceptual.absent()), reason=perceptual.absent() or "there")
def test_the_same_picture_is_at_no_distance_and_another_at_some():
    same = {name: view._replace(rendered=view.photo) for name, view in GOOD.items()}
    assert perceptual.measure(same.values()) == pytest.approx(0, abs=1e-6) and perceptual.measure(GOOD.values()) > 0.001
