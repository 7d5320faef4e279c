"""JupyterLab in a real browser (`browsers`): the workbench, the live panel, what may be changed, what opens again.

One short test runs with all others. Those that run stages need RECON_BROWSER, which `make test-browser` sets.
"""

import io
import json
import os
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager

import browsers
import nbformat
import numpy as np
import pytest
import torch
from browsers import ROOT, open_notebook, run_all, shoot
from PIL import Image

from recon_lib import camera
from recon_lib.chain import copies, lock, pipeline
from recon_lib.chain.params import read as read_params
from recon_lib.photos.scene import load as load_scene

pytestmark = pytest.mark.skipif(bool(browsers.why_not()), reason=browsers.why_not())
long = pytest.mark.skipif("RECON_BROWSER" not in os.environ, reason="runs stages: make test-browser")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return browsers.copy_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def lab(home):
    with browsers.jupyterlab(home) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browsers.browser() as started:
        yield started


@contextmanager
def notebook(chromium, lab, path):
    """A page with one notebook in it; afterwards its kernel is shut down."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, lab, path)
    try:
        yield page
    finally:
        shoot(page, "last_page")  # what was on screen when a test failed
        page.close()
        for kernel in json.loads(asked(lab, "GET", "/api/kernels")):
            asked(lab, "DELETE", f"/api/kernels/{kernel['id']}")


def asked(lab, method, path, content=None):
    """The answer of JupyterLab's server to a browser that has the token."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(lab + path, data, {"Authorization": "token secret"}, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def until(condition, patience_s=60.0):
    ends = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.1)


def test_the_workbench_opens_takes_photos_refuses_others_and_leaves_the_templates_alone(home, lab, chromium, tmp_path):
    good = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(good, "PNG")
    leaving = tmp_path / "leaving.zip"
    with zipfile.ZipFile(leaving, "w") as archive:
        archive.writestr("../outside.png", b"x")
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(2_000_000_000)
    (tmp_path / "good.png").write_bytes(good.getvalue())
    (tmp_path / "text.png").write_text("no picture")
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{lab}/?token=secret")  # from where `make lab` goes to its first page
    browsers.wait_for_kernel(page)
    run_all(page)
    page.wait_for_selector(".recon-drop input", timeout=60000)
    names = ("good.png", "text.png", "large.png", "leaving.zip")
    page.set_input_files(".recon-drop input", [tmp_path / name for name in names])
    rows = page.locator(".recon-drop-list div")
    until(lambda: rows.count() == 4 and "%" not in page.locator(".recon-drop-list").inner_text())
    said = page.locator(".recon-drop-list").inner_text()
    assert "good.png: taken" in said and "text.png: type: got text, needed PNG" in said
    assert (
        "large.png: 2000 MB, needed at most 20 MB" in said and "leaving.zip: ../outside.png: path: got one that" in said
    )
    assert [path.name for path in (home / "outputs/uploads/photos-1").iterdir()] == ["good.png"]
    assert page.locator(".recon-workbench input[type=text]").first.input_value() == "outputs/uploads/photos-1"
    assert page.get_by_text("Jupyter news").count() == 0
    shoot(page, "workbench_uploads")
    page.close()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        asked(lab, "PUT", "/api/contents/notebooks/1_ingest.ipynb", {"type": "file", "format": "text", "content": "x"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        asked(lab, "DELETE", "/api/contents/params/quick.yaml")
    asked(lab, "PUT", "/api/contents/outputs/note.txt", {"type": "file", "format": "text", "content": "x"})
    assert (home / "outputs/note.txt").read_text() == "x"


@pytest.fixture(scope="module")
def begun(home):
    """A run whose first two stages are done, by the fastest means."""
    asked_for = read_params(ROOT / "params" / "ci.yaml")
    asked_for["2_reconviagen"] |= {"backend": "hull", "faces": 3120}
    pipeline.run(asked_for, home / "outputs/begun", ["1_ingest", "2_reconviagen"], home / "notebooks", bar=False)
    values = {"run_dir": "outputs/begun", "photo_size": 96, "steps": 3000, "lr_vertex": 0.03}
    book = copies.with_parameters(home / "notebooks/3_nvdiffrec.ipynb", "3_nvdiffrec", values)
    nbformat.write(book, home / "outputs/begun/3_nvdiffrec.ipynb")
    return home / "outputs/begun"


def press(page, text, inside=".recon-panel"):
    page.locator(f"{inside} button", has_text=text).first.click()


def panel_says(page):
    return page.locator(".recon-panel").inner_text()


@long
def test_the_live_panel(home, lab, chromium, begun):
    with notebook(chromium, lab, "outputs/begun/3_nvdiffrec.ipynb") as page:
        run_all(page)
        page.wait_for_selector(".recon-panel", timeout=90000)
        until(lambda: "step 0 of 3000, press start" in panel_says(page))
        time.sleep(1)
        assert "step 0 of 3000" in panel_says(page)
        box = page.locator(".recon-panel").bounding_box()
        assert 0 <= box["y"] < 1000, "the panel is on screen after Run All"
        assert page.locator(".jp-InputPrompt", has_text="[*]").count() == 0
        shoot(page, "panel_before_start")
        press(page, "start")
        until(lambda: "running" in panel_says(page) and "step 0 of" not in panel_says(page))
        field = page.locator(".recon-panel input[type=number]").first
        for typed, shown in (("0.0312", "0.0312"), ("7", "0.0312"), ("0", "0")):
            field.fill(typed)
            field.press("Enter")
            until(lambda: field.input_value() == shown)  # noqa: B023
            if typed == "7":
                refused = "lr_vertex: got 7, needed a number in [0, 1]; it stays 0.0312"
                until(lambda: refused in panel_says(page))  # noqa: B023  the panel says it at its next refresh
        time.sleep(6)
        shoot(page, "panel_running")
        page.locator("[data-command='notebook:interrupt-kernel']").first.click()
        until(lambda: "paused" in panel_says(page))
        before = panel_says(page).split(" of 3000")[0]
        run_all(page)
        until(lambda: page.locator(".recon-panel").count() == 1 and "paused" in panel_says(page))
        assert panel_says(page).split(" of 3000")[0] == before, "Run All again shows the same fit"
        press(page, "3-D view")
        page.wait_for_selector(".recon-panel canvas", timeout=20000)
        press(page, "one step")
        press(page, "keep this")
        until(lambda: "chosen by hand" in panel_says(page))
        shoot(page, "panel_kept")
        run_all(page)
        until(lambda: json.loads((begun / "run.json").read_text())["stages"]["3_nvdiffrec"]["state"] == "done", 90)
        stage = json.loads((begun / "run.json").read_text())["stages"]["3_nvdiffrec"]
        assert [change["value"] for change in stage["rates_changed"]] == [0.0312, 0.0]
        assert stage["kept_step"] == stage["steps"] and "chosen by hand" in stage["gain"]
        page.wait_for_timeout(3000)
        page.keyboard.press("Control+s")
        page.wait_for_timeout(2000)
    with notebook(chromium, lab, "outputs/begun/3_nvdiffrec.ipynb") as page:
        page.wait_for_selector(".recon-panel-still img", timeout=30000, state="attached")
        page.wait_for_timeout(3000)
        page.locator(".recon-panel-still img").first.scroll_into_view_if_needed()
        assert page.locator(".recon-panel-still img").first.is_visible()
        assert page.get_by_text("model not found").locator("visible=true").count() == 0
        shoot(page, "panel_reopened")


INSPECT = """
import torch
from recon_lib.photos import scene
from recon_lib.raster import cpu
from recon_lib.show import close_view
from recon_lib.surface import meshio, subdivide
photos, before = scene.load(files.root("outputs/begun/scene")), meshio.load_from(files.root("outputs/begun"), "coarse/mesh.glb")
mesh = before
for _ in range(2):
    mesh = subdivide.split(mesh, torch.ones(len(mesh.faces), dtype=torch.bool))
close_view.show(mesh, photos, cpu, before, {"observed": mesh.texture.flip(-1).contiguous(), "error": 1 - mesh.texture})
"""
FRAMES = (
    "() => { window.frames_drawn = 0; const draw = () => { frames_drawn++; requestAnimationFrame(draw); }; draw(); }"
)


def canvas(page):
    """The view's pixels, 0 to 255."""
    shot = page.locator(".recon-inspector canvas").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(float)


@long
def test_the_viewer_draws_every_surface_orbits_looks_through_photos_and_is_fast_enough(home, lab, chromium, begun):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("from recon_lib import files" + INSPECT)])
    book.metadata = nbformat.read(home / "notebooks/5_preview.ipynb", 4).metadata
    nbformat.write(book, home / "outputs/inspect.ipynb")
    with notebook(chromium, lab, "outputs/inspect.ipynb") as page:
        run_all(page)
        page.wait_for_selector(".recon-inspector canvas", timeout=40000)
        until(lambda: "faces" in page.locator(".recon-inspector").inner_text())
        assert 45_000 < int(page.locator(".recon-inspector").inner_text().split()[-2]) <= 50_000
        page.wait_for_timeout(4000)
        shown = {}
        surface, through = (page.locator(".recon-inspector select").nth(i) for i in range(2))
        for mode in ("texture", "wireframe", "normals", "observed", "error"):
            surface.select_option(mode)
            said = {"observed": "no photo", "error": "yellow"}.get(mode, "faces")
            until(lambda: said in page.locator(".recon-inspector").inner_text())  # noqa: B023
            page.wait_for_timeout(5000)
            shown[mode] = canvas(page)
            shoot(page, f"viewer_{mode.split()[0]}")
        pairs = [(a, b) for a in shown for b in shown if a < b]
        assert all(np.abs(shown[a] - shown[b]).mean() > 1 for a, b in pairs), "each surface looks different"
        surface.select_option("texture")
        through.select_option("train_r_004")
        page.wait_for_timeout(4000)
        shoot(page, "viewer_through")
        over = canvas(page)
        assert np.abs(over - shown["texture"]).mean() > 1
        through.select_option(label="free view")
        page.wait_for_timeout(2000)
        assert np.abs(canvas(page) - shown["texture"]).mean() < 0.5, "the free view is as before"
        box = page.locator(".recon-inspector canvas").bounding_box()
        page.evaluate(FRAMES)
        page.mouse.move(box["x"] + 300, box["y"] + 250)
        page.mouse.down()
        began, drawn = time.monotonic(), page.evaluate("window.frames_drawn")
        for i in range(80):
            page.mouse.move(box["x"] + 300 + 3 * i, box["y"] + 250 + i)
        rate = (page.evaluate("window.frames_drawn") - drawn) / (time.monotonic() - began)
        page.mouse.up()
        print(f"{rate:.0f} frames per second")
        page.wait_for_timeout(1500)
        shoot(page, "viewer_orbit")
        assert np.abs(canvas(page) - shown["texture"]).mean() > 1 and rate >= 10


def draw(page, *places):
    """A line over the photo; places are shares of its width and height."""
    page.locator(".recon-marks").evaluate("canvas => canvas.scrollIntoView({ block: 'center' })")
    page.wait_for_timeout(300)
    box = page.locator(".recon-marks").bounding_box()
    for i, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_timeout(400)


@long
def test_a_mask_and_a_known_length_by_hand(home, lab, chromium, begun):
    photos = home / "outputs/uploads/photos-9"
    photos.mkdir(parents=True)
    grey = np.full((240, 320, 3), 120, np.uint8)
    grey[60:180, 100:220] = (200, 60, 40)
    Image.fromarray(grey).save(photos / "a.png")
    posed = load_scene(begun / "scene")
    up = torch.from_numpy(posed.up).float()
    pixels, _ = camera.project(posed.cameras, torch.stack([-0.2 * up, 0.2 * up]))  # 0.4 units apart
    with notebook(chromium, lab, "notebooks/0_workbench.ipynb") as page:
        run_all(page)
        page.wait_for_selector(".recon-workbench", timeout=60000)
        page.locator(".recon-workbench input[type=text]").nth(0).fill("outputs/uploads/photos-9")
        page.get_by_text("By hand: masks").click()
        press(page, "load photos", ".recon-by-hand")
        until(lambda: page.locator(".recon-marks").evaluate("c => c.width") == 320)
        page.locator(".recon-marks").scroll_into_view_if_needed()
        draw(page, (0.2, 0.1), (0.8, 0.9))
        press(page, "on the object", ".recon-by-hand")
        draw(page, (0.4, 0.4), (0.6, 0.6))
        press(page, "preview mask", ".recon-by-hand")
        page.wait_for_timeout(1500)
        shoot(page, "by_hand_mask")
        press(page, "save mask", ".recon-by-hand")
        until((photos / "masks/a.png").exists)
        found = np.asarray(Image.open(photos / "masks/a.png")) > 127
        true = (grey != 120).any(-1)
        assert (found & true).sum() / (found | true).sum() > 0.95
        press(page, "known length", ".recon-by-hand")
        until(lambda: page.locator(".recon-marks").evaluate("c => c.width") != 320)
        for name in posed.names[:3:2]:
            page.locator(".recon-by-hand select").first.select_option(f"{name}.png")
            page.wait_for_timeout(1000)
            i = posed.names.index(name)
            size = posed.cameras.sizes[i]
            for end, tool in enumerate(("one end", "other end")):
                press(page, tool, ".recon-by-hand")
                draw(page, tuple((pixels[i, end] / size).tolist()))
        shoot(page, "by_hand_length")
        press(page, "save length", ".recon-by-hand")
        until((begun / "scale.json").exists)
        measured = json.loads((begun / "scale.json").read_text())["metres_per_unit"]
        assert measured == pytest.approx(0.1 / 0.4, rel=0.03)


@long
def test_a_run_from_the_workbench_is_cancelled_resumed_and_judged_and_two_tabs_show_it(home, lab, chromium):
    quick = read_params(ROOT / "params" / "ci.yaml")
    quick["2_reconviagen"] |= {"backend": "hull"}
    (home / "params/quick.yaml").write_text(json.dumps(quick))

    def head(page):
        return page.locator(".recon-run h3").inner_text()

    with notebook(chromium, lab, "notebooks/0_workbench.ipynb") as page:
        run_all(page)
        page.wait_for_selector(".recon-workbench", timeout=60000)
        page.locator(".recon-workbench input[type=text]").nth(0).fill("samples/jug")
        page.locator(".recon-workbench input[type=text]").nth(1).fill("of the browser")
        press(page, "Run", ".recon-workbench")
        until(lambda: "needed letters, digits" in page.locator(".recon-workbench").inner_text())
        page.locator(".recon-workbench input[type=text]").nth(1).fill("browser")
        press(page, "Run", ".recon-workbench")
        until(lambda: head(page) == "browser: running", 90)
        other = chromium.new_page(viewport={"width": 1400, "height": 1000})
        open_notebook(other, lab, "notebooks/0_workbench.ipynb")
        run_all(other)
        until(lambda: other.locator(".recon-run h3").count() and head(other) == "browser: running", 90)
        press(page, "cancel", ".recon-run")
        press(page, "yes, stop it", ".recon-run")
        until(lambda: head(page) == head(other) == "browser: cancelled", 60)
        shoot(page, "workbench_cancelled")
        other.close()
    with notebook(chromium, lab, "notebooks/0_workbench.ipynb") as page:  # another kernel finds the run
        run_all(page)
        until(lambda: page.locator(".recon-run h3").count() and head(page) == "browser: cancelled")
        press(page, "resume", ".recon-workbench")
        until(lambda: head(page) == "browser: done", 240)
        until(lambda: "PSNR" in page.locator(".recon-run").inner_text())
        shoot(page, "workbench_done")
        press(page, "3-D", ".recon-run")
        page.wait_for_timeout(4000)
        frame = page.locator(".recon-run iframe").screenshot()
        picture = np.asarray(Image.open(io.BytesIO(frame)).convert("RGB")).reshape(-1, 3)
        assert len(np.unique(picture // 16, axis=0)) > 20, "the viewer draws"
        shoot(page, "workbench_3d")
        until(lambda: not lock.alive(home / "outputs/browser"))  # its process writes the report after the verdict
        press(page, "delete", ".recon-workbench")
        press(page, "really delete", ".recon-workbench")
        until(lambda: not (home / "outputs/browser").exists())
