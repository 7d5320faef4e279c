"""The sample of plain photos, with the real networks: cameras and masks beside the truth that lies next to it.

It needs minutes and the networks: RECON_LONG=1 and RECON_WEIGHTS, a folder that `photo_weights.py` has filled.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from plain_photos import best_similarity

from recon_lib.photos import ingest
from recon_lib.weights import store

BIRD = Path(__file__).parents[1] / "samples" / "bird"
READY = os.environ.get("RECON_LONG") and (store.folder() / "photos" / "isnet.onnx").exists()
pytestmark = pytest.mark.skipif(not READY, reason="RECON_LONG=1 and RECON_WEIGHTS with the networks are not both set")
MEAN_TURN, MEAN_OFFSET = 0.5, 0.005  # degrees; share of the distance
MEAN_IOU, LEAST_IOU = 0.95, 0.90


def test_all_thirty_photos_get_their_cameras_and_masks():
    scene = ingest.read(BIRD / "photos", ingest.IngestConfig(find_cameras="must")).scene
    assert len(scene.names) == 30
    true = json.loads((BIRD / "truth" / "transforms.json").read_text())["frames"]
    numbers = [int(Path(name).stem) for name in scene.names]
    T_true = np.array([true[number]["transform_matrix"] for number in numbers])
    T = scene.cameras.T_world_cam.double().numpy()
    scale, R, shift = best_similarity(T[:, :3, 3], T_true[:, :3, 3])
    distance = np.linalg.norm(T_true[:, :3, 3] - T_true[:, :3, 3].mean(0), axis=1).mean()
    offset = np.linalg.norm(scale * T[:, :3, 3] @ R.T + shift - T_true[:, :3, 3], axis=1) / distance
    turn = np.einsum("ij,bjk,blk->bil", R, T[:, :3, :3], T_true[:, :3, :3])
    degrees = np.degrees(np.arccos(((np.trace(turn, axis1=1, axis2=2) - 1) / 2).clip(-1, 1)))
    overlaps = []
    for number, image in zip(numbers, scene.images, strict=True):
        mask = cv2.imread(str(BIRD / "truth" / "masks" / f"{number:02d}.png"), cv2.IMREAD_GRAYSCALE) > 127
        made = cv2.resize(image[..., 3], mask.shape[::-1]) > 127
        overlaps.append((made & mask).sum() / (made | mask).sum())
    print(f"{degrees.mean():.2f} of {degrees.max():.2f} degrees, {offset.mean():.2%} of {offset.max():.2%}, "
          f"IoU {np.mean(overlaps):.3f} least {np.min(overlaps):.3f}")  # fmt: skip
    assert degrees.mean() <= MEAN_TURN and offset.mean() <= MEAN_OFFSET
    assert np.mean(overlaps) >= MEAN_IOU and np.min(overlaps) >= LEAST_IOU
