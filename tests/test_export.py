"""What `recon export` writes is read again as the same scene, from either of its two forms."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from recon_lib.photos import export, ingest
from recon_lib.photos.config import IngestConfig


@pytest.mark.parametrize("form", ["transforms.json", "sparse"])
def test_an_exported_scene_is_read_again_from_each_form(jug, tmp_path, form):
    few = replace(jug.subset(np.arange(len(jug.names)) < 4), offset=np.array((3.0, -2.0, 1.0)))
    export.write(few, tmp_path / "out")
    other = {"transforms.json": "sparse", "sparse": "transforms.json"}[form]
    unwanted = tmp_path / "out" / other
    shutil.rmtree(unwanted) if unwanted.is_dir() else unwanted.unlink()
    again = ingest.read(tmp_path / "out", IngestConfig()).scene
    assert again.names == few.names
    shifted = few.cameras.T_world_cam.clone()
    shifted[:, :3, 3] += torch.tensor([3.0, -2.0, 1.0])
    torch.testing.assert_close(again.cameras.T_world_cam, shifted, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.cameras.intrinsics, few.cameras.intrinsics)
    for image, other_image in zip(again.images, few.images, strict=True):
        assert (image == other_image).all()


def test_a_folder_with_files_is_left_alone(jug, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="folder with files in it, needed a new one"):
        export.write(jug, tmp_path)
