import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from recon_lib.raster import cpu
from recon_lib.show import report, stills, viewer
from recon_lib.surface import placement

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Links(HTMLParser):
    """Everything that a browser would load."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.found += [values[k] for k in ("src", "href") if values.get(k) and tag != "a"]


def executed(folder: Path, stage: str, outputs: list) -> None:
    book = nbformat.v4.new_notebook()
    tagged = nbformat.v4.new_code_cell("steps = 500")
    tagged.metadata["tags"] = ["parameters"]
    book.cells = [nbformat.v4.new_markdown_cell(f"# {stage} was here"), tagged]
    book.cells.append(nbformat.v4.new_code_cell("secret_code()", outputs=outputs, execution_count=1))
    nbformat.write(book, folder / f"{stage}.ipynb")


@pytest.fixture
def finished_run(tmp_path, ball) -> Path:
    stages = {name: {"state": "done", "seconds": 1.5, "parameters": {"steps": 800}} for name in report.STAGES}
    (tmp_path / "run.json").write_text(json.dumps({"name": "run", "state": "done", "stages": stages}))
    executed(tmp_path, "1_ingest", [nbformat.v4.new_output("stream", text="forty photos")])
    for name in ("metrics", "preview"):
        (tmp_path / name).mkdir()
    check = {"name": "PSNR in the mask", "value": 26.1, "limit": ">= 25", "unit": "dB", "status": "normal"}
    verdict = {
        "status": "normal",
        "psnr_db": 26.1,
        "ssim": 0.9,
        "psnr_full_db": 30.0,
        "ssim_full": 0.95,
        "mask_iou": 0.99,
    }
    verdict |= {"views": "held-out views", "view_count": 8, "checks": [check], "mesh": "refined/mesh.glb"}
    (tmp_path / "metrics" / "verdict.json").write_text(json.dumps(verdict))
    upright = placement.stand_upright(ball, np.array([0.0, 1.0, 0.0]))
    pictures = stills.canonical(upright, 64, cpu)
    stills.save(tmp_path / "preview", pictures, list(stills.turntable(upright, 4, 64, cpu)))
    viewer.save(tmp_path / "preview" / "viewer.html", upright, 500, cpu)
    return tmp_path


def test_the_page_loads_nothing_from_anywhere(finished_run):
    text = report.write(finished_run).read_text()
    assert all(link.startswith("data:") for link in Links(text).found)
    assert "<script src" not in text and "cdn" not in text.split("srcdoc")[0]


def test_the_page_shows_verdict_effective_parameters_and_outputs_but_no_code(finished_run):
    text = report.write(finished_run).read_text()
    for wanted in ("26.10 dB", "held-out views", "<td>steps</td><td>800</td>", "1_ingest was here", "forty photos"):
        assert wanted in text, wanted
    assert "secret_code" not in text and "steps = 500" not in text


def test_after_a_failure_the_page_names_stage_and_cause_and_shows_what_there_is(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    record["state"] = "failed"
    record["stages"]["3_nvdiffrec"] = {"state": "failed", "error": "3_nvdiffrec: ValueError: no <photos>"}
    (finished_run / "run.json").write_text(json.dumps(record))
    shutil.rmtree(finished_run / "metrics")
    text = report.write(finished_run).read_text()
    assert "No verdict" in text and "3_nvdiffrec: ValueError: no &lt;photos&gt;" in text and "forty photos" in text


def test_the_six_stills_show_the_sides_they_are_named_after(ball):
    """The ball's colour is its position: the middle pixel of each still has the colour of that side."""
    pictures = stills.canonical(placement.stand_upright(ball, np.array([0.0, 1.0, 0.0])), 64, cpu)
    side = {"front": (2, 1), "back": (2, -1), "right": (0, 1), "left": (0, -1), "top": (1, 1), "bottom": (1, -1)}
    for name, (axis, sign) in side.items():
        rgb_srgb = pictures[name][32, 32] / 255
        linear = ((rgb_srgb + 0.055) / 1.055) ** 2.4
        expected = np.full(3, 0.5)
        expected[axis] += 0.4 * sign
        assert linear == pytest.approx(expected, abs=0.03), name


def test_stills_and_turntable_are_upright(ball):
    """Green grows with height, so every picture is greener at its top."""
    upright = placement.stand_upright(ball, np.array([0.0, 1.0, 0.0]))
    pictures = stills.canonical(upright, 64, cpu)
    for picture in [*(pictures[n] for n in ("front", "back", "right", "left")), *stills.turntable(upright, 4, 64, cpu)]:
        assert picture[22, 32, 1] > picture[42, 32, 1] + 20


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_the_viewer_draws_the_mesh_offline(finished_run):
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    requests = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 400, "height": 400})
        page.on("request", lambda r: requests.append(r.url))
        page.goto((finished_run / "preview" / "viewer.html").as_uri())
        page.wait_for_timeout(4000)
        shot = page.screenshot()
        browser.close()
    picture = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
    assert (picture.min(-1) < 200).mean() > 0.05  # a white page has none
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
