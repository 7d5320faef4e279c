"""Contents of verdict.json for tests that show one: whole by its schema, with what a test is about changed."""

import json
from pathlib import Path

import recon_lib.verdict
from recon_lib.verdict.images import Score

SCHEMA = json.loads((Path(recon_lib.verdict.__path__[0]) / "verdict.schema.json").read_text())


def score(psnr_db: float = 26.1, ssim: float = 0.9) -> Score:
    return Score(psnr_db, ssim, psnr_db + 4, 0.95, 0.99, psnr_db + 1.5, psnr_db - 6, 0.1)


def verdict(**changes) -> dict:
    """A normal mesh of 26.1 dB on two held-out views."""
    mean = score()._asdict()
    check = {"name": "PSNR in the mask", "value": 26.1, "limit": ">= 25", "unit": "dB", "status": "normal"}
    genus = {"name": "genus", "value": 1, "limit": "any", "unit": "", "status": "normal"}
    limits = {"psnr_normal_db": 25.0, "psnr_warning_db": 20.0, "ssim_normal": 0.85, "ssim_warning": 0.75, "least_iou": 0.95,
              "most_offset": 1.0, "most_unseen": 0.25}  # fmt: skip
    floors = {"blank": score(6.0, 0.4), "silhouette": score(14.0, 0.5), "moved": score(18.0, 0.6)}
    return {
        "version": 1, "status": "normal", "reason": "All 10 checks are <normal>.", "decided_by": [],
        "mesh": "refined/mesh.glb", **mean, "views": "held-out views", "view_count": 2,
        "intervals": {name: [value - 0.01, value + 0.01] for name, value in mean.items()},
        "floors": {name: floor._asdict() for name, floor in floors.items()},
        "used": score(28.3, 0.92)._asdict(), "used_count": 8, "coarse": score(22.6)._asdict(), "lpips": None,
        "lpips_absent": "LPIPS: absent, torchvision not installed", "limits": limits, "checks": [check, genus],
        "observed": None, "reference": None, "diagnosis": [], "notes": [],
    } | changes  # fmt: skip
