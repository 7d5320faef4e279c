"""JupyterLab in a real browser (`browsers`): the workbench, the live panel, what may be changed, what opens again.

One short test runs with all others. Those that run stages need RECON_BROWSER, which `make test-browser` sets.
"""

import io
import json
import os
import pathlib
import shutil
import signal
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
from recon_lib.chain import copies, lock, pipeline, tickets
from recon_lib.chain.params import read as read_params
from recon_lib.photos.scene import load as load_scene
from recon_lib.show import inspector
from recon_lib.surface import meshio, placement

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


def rests(run):
    """Waits until the process of a run has ended, which writes the report after the verdict, and the queue knows it."""
    queued = json.loads((run / "run.json").read_text())["queued"]
    until(lambda: not lock.alive(run) and tickets.find(run.parent, queued) is None)


def press(page, text, inside=".recon-panel"):
    page.locator(f"{inside} button", has_text=text).first.click()


def panel_says(page):
    return page.locator(".recon-panel").inner_text()


def another_fit(run, name, seed):
    """The path of a copy of the run's third notebook, without outputs, that begins a fit of its own."""
    book = nbformat.read(run / "3_nvdiffrec.ipynb", 4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.source, cell.outputs, cell.execution_count = (
                cell.source.replace("seed = 0", f"seed = {seed}"),
                [],
                None,
            )
    nbformat.write(book, run / f"{name}.ipynb")
    return f"outputs/{run.name}/{name}.ipynb"


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
        sizes = page.locator(".recon-panel select").nth(1)
        largest = sizes.locator("option").last.inner_text()
        assert int(largest.split()[0]) > 96, "larger than the fit began with, as the photos are larger"
        sizes.select_option(label=largest)
        until(lambda: "smoothness" in panel_says(page))
        smoothness = page.locator(".recon-panel input[type=number]").nth(4)
        assert smoothness.input_value() == "6"
        smoothness.fill("12")
        smoothness.press("Enter")
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
        changed = [(change["name"], change["value"]) for change in stage["rates_changed"]]
        assert changed == [("lr_vertex", 0.0312), ("lr_vertex", 0.0), ("photo_size", int(largest.split()[0])),
                           ("smoothness", 12)]  # fmt: skip
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


@long
def test_run_all_twice_at_once_and_in_two_tabs_always_ends_with_the_panel(home, lab, chromium, begun):
    path = another_fit(begun, "twice", 5)

    def settled(page):
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=90000)
        page.locator(".recon-panel").first.wait_for(timeout=90000)
        page.wait_for_timeout(2000)
        assert page.locator(".jp-InputPrompt", has_text="[*]").count() == 0
        assert page.locator(".recon-panel").count() == 1 and "press start" in panel_says(page)

    with notebook(chromium, lab, path) as page:
        for pause_s in (0.3, 0.0, 1.0, 3.0):  # the first time while the kernel imports, later while the panel is there
            run_all(page)
            time.sleep(pause_s)
            run_all(page)
            settled(page)
        other = chromium.new_page(viewport={"width": 1400, "height": 1000})
        open_notebook(other, lab, path)
        for first, second in ((page, other), (other, page)):
            run_all(first)
            run_all(second)
            settled(page), settled(other)
        shoot(other, "panel_second_tab")
        press(other, "one step")
        until(lambda: "step 1 of 3000" in panel_says(page) and "step 1 of 3000" in panel_says(other))
        other.close()


@long
def test_a_kernel_killed_while_the_fit_runs_costs_the_steps_since_the_last_checkpoint(home, lab, chromium, begun):
    with notebook(chromium, lab, another_fit(begun, "killed", 7)) as page:
        run_all(page)
        page.wait_for_selector(".recon-panel", timeout=90000)
        press(page, "start")
        until(lambda: int(panel_says(page).split("step ")[1].split()[0]) > 110, 120)
        (kernel,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_our_kernel(int(pid), home)]
        os.kill(kernel, signal.SIGKILL)
        dialog = page.locator(".jp-Dialog button", has_text="Ok")
        dialog.wait_for(timeout=30000)
        shoot(page, "panel_kernel_killed")
        dialog.click()
        browsers.wait_for_kernel(page)
        run_all(page)
        until(lambda: "Goes on from the checkpoint of step 100." in panel_says(page), 90)
        assert "step 100 of 3000, paused" in panel_says(page)


INSPECT = """
import dataclasses
import torch
from recon_lib.photos import scene
from recon_lib.raster import cpu
from recon_lib.show import close_view
from recon_lib.surface import meshio, subdivide
photos, mesh = scene.load(files.root("outputs/begun/scene")), meshio.load_from(files.root("outputs/begun"), "coarse/mesh.glb")
before = dataclasses.replace(mesh, verts=0.7 * mesh.verts)
for _ in range(2):
    mesh = subdivide.split(mesh, torch.ones(len(mesh.faces), dtype=torch.bool))
close_view.show(mesh, photos, cpu, before, {"observed": mesh.texture.flip(-1).contiguous(), "error": 1 - mesh.texture})
"""
FRAMES = (
    "() => { window.frames_drawn = 0; const draw = () => { frames_drawn++; requestAnimationFrame(draw); }; draw(); }"
)


def slide(page, number, key, times=1):
    """Moves one of the viewer's sliders by a key, and waits until that is drawn."""
    handle = page.locator(".recon-inspector .noUi-handle").nth(number)
    for _ in range(times):
        handle.press(key)
    page.wait_for_timeout(3000)


def frustum_on_screen(run):
    """The photo on a frustum that the mesh does not hide at first: its name, and the pixel of the view in its middle."""
    posed, mesh = load_scene(run / "scene"), meshio.load_from(run, "coarse/mesh.glb")
    cameras = camera.moved(posed.cameras, placement.upright_frame(mesh, posed.up))
    eyes, looks = cameras.T_world_cam[:, :3, 3], -cameras.T_world_cam[:, :3, 2]
    middles = eyes + inspector.FRUSTUM * eyes.norm(dim=-1, keepdim=True) * looks
    start = torch.tensor(inspector.START)
    T = torch.eye(4)
    back = start / start.norm()
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]), back), dim=0)
    T[:3, :4] = torch.stack([right, torch.linalg.cross(back, right), back, start], 1)
    p_cam = (middles - T[:3, 3]) @ T[:3, :3]
    x, y = (260 / np.tan(np.radians(13)) * p_cam[:, k] / -p_cam[:, 2] for k in (0, 1))
    inside = (p_cam[:, 2] < 0) & (x.abs() < 340) & (y.abs() < 230)
    best = torch.where(inside, x.abs(), -1.0).argmax()
    return posed.names[best], (380 + x[best].item(), 260 - y[best].item())


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
        slide(page, 1, "End")
        whole = canvas(page)
        slide(page, 1, "Home")
        slide(page, 1, "PageUp", 10)  # a part of the width shows the mesh before, the other part the mesh now
        half = canvas(page)
        shoot(page, "viewer_before")
        apart = [np.abs(half - other).mean() for other in (whole, shown["texture"])]
        assert min(apart) > 1 and np.abs(whole - shown["texture"]).mean() > max(apart)
        slide(page, 1, "Home")
        name, at = frustum_on_screen(begun)
        box = page.locator(".recon-inspector canvas").bounding_box()
        page.mouse.click(box["x"] + at[0], box["y"] + at[1])
        until(lambda: through.locator("option:checked").inner_text() == name, 10)
        page.wait_for_timeout(3000)
        over = canvas(page)
        shoot(page, "viewer_frustum_clicked")
        slide(page, 0, "Home")
        photo = canvas(page)
        shoot(page, "viewer_photo_alone")
        slide(page, 0, "End")
        mesh = canvas(page)
        assert min(np.abs(a - b).mean() for a, b in ((over, photo), (over, mesh), (photo, mesh))) > 0.2
        through.select_option(label="free view")
        page.wait_for_timeout(2000)
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


def is_our_kernel(pid, home):
    """Whether the process is a kernel that the server of this home has started."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_text()
        return "ipykernel_launcher" in words and str(home) in words
    except OSError:
        return False


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
def test_two_points_say_which_way_is_up_and_the_run_is_done_again(home, lab, chromium, begun):
    shutil.copytree(begun, home / "outputs/tilted")
    posed = load_scene(home / "outputs/tilted/scene")
    assert posed.up.tolist() != [-1, 0, 0]
    pixels, _ = camera.project(posed.cameras, torch.tensor([[0.2, 0.0, 0.03], [-0.2, 0.0, 0.0]]))
    with notebook(chromium, lab, "notebooks/0_workbench.ipynb") as page:
        run_all(page)
        page.wait_for_selector(".recon-workbench", timeout=60000)
        names = [text.split("\u00a0")[0] for text in page.locator(".recon-runs option").all_inner_texts()]
        page.locator(".recon-runs select").select_option(index=names.index("tilted"))
        until(lambda: page.locator(".recon-run h3").inner_text().startswith("tilted"))
        page.get_by_text("By hand: masks").click()
        press(page, "up direction", ".recon-by-hand")
        until(lambda: page.locator(".recon-marks").evaluate("c => c.width") > 300)
        press(page, "use as up", ".recon-by-hand")
        until(lambda: "marked in two photos or more; marked in 0, 0" in page.locator(".recon-by-hand").inner_text())
        for name in posed.names[:3:2]:
            page.locator(".recon-by-hand select").first.select_option(f"{name}.png")
            page.wait_for_timeout(1000)
            i = posed.names.index(name)
            for end, tool in enumerate(("a low point", "a point right above it")):
                press(page, tool, ".recon-by-hand")
                draw(page, tuple((pixels[i, end] / posed.cameras.sizes[i]).tolist()))
        shoot(page, "by_hand_up")
        press(page, "use as up", ".recon-by-hand")
        until(lambda: "up is the world's -x, " in page.locator(".recon-by-hand").inner_text())
        shoot(page, "by_hand_up_used")
        until(lambda: load_scene(home / "outputs/tilted/scene").up.tolist() == [-1, 0, 0], 90)
        until(lambda: pipeline_state(home / "outputs/tilted") == ["done", "done"], 90)
        parameters = json.loads((home / "outputs/tilted/run.json").read_text())["stages"]["1_ingest"]["parameters"]
        assert parameters["up"] == "-x"


def pipeline_state(run):
    stages = json.loads((run / "run.json").read_text())["stages"]
    return [stages[name]["state"] for name in ("1_ingest", "2_reconviagen")]


@long
def test_a_run_from_the_workbench_is_cancelled_resumed_and_judged_and_two_tabs_show_it(home, lab, chromium):
    quick = read_params(ROOT / "params" / "ci.yaml")
    quick["2_reconviagen"] |= {"backend": "hull"}
    quick["3_nvdiffrec"] |= {"steps": 3000}  # long enough to be looked at
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
        until(lambda: page.get_by_text("The refinement, as it runs").is_visible(), 240)
        sizes = "all => all.map(i => [i.naturalWidth, i.naturalHeight])"
        until(lambda: [3 * 224, 2 * 244] in page.locator(".recon-run img:visible").evaluate_all(sizes), 60)
        shoot(page, "workbench_refining")
        until(lambda: head(page) == "browser: done", 240)
        assert not page.get_by_text("The refinement, as it runs").is_visible()
        until(lambda: "PSNR" in page.locator(".recon-run").inner_text())
        shoot(page, "workbench_done")
        press(page, "3-D", ".recon-run")
        page.wait_for_timeout(4000)
        frame = page.locator(".recon-run iframe").screenshot()
        picture = np.asarray(Image.open(io.BytesIO(frame)).convert("RGB")).reshape(-1, 3)
        assert len(np.unique(picture // 16, axis=0)) > 20, "the viewer draws"
        shoot(page, "workbench_3d")
        rests(home / "outputs/browser")
        press(page, "delete", ".recon-workbench")
        press(page, "really delete", ".recon-workbench")
        until(lambda: not (home / "outputs/browser").exists())
