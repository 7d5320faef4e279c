import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import verdicts
from PIL import Image

from recon_lib.raster import cpu
from recon_lib.show import modes, page, provenance, report, stills, tables, viewer
from recon_lib.surface import placement
from recon_lib.verdict import record

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


SEEN = (0, 114, 178)
ELSEWHERE = "/srv/somebody/photos of theirs/jug.png"
RED = "\x1b[31m"


def executed(folder: Path, stage: str, outputs: list) -> None:
    book = nbformat.v4.new_notebook()
    tagged = nbformat.v4.new_code_cell("steps = 500", metadata={"tags": ["parameters"]})
    live = nbformat.v4.new_markdown_cell("Turn it with the mouse.", metadata={"tags": ["only-live"]})
    book.cells = [nbformat.v4.new_markdown_cell(f"# {stage} was here"), tagged, live]
    book.cells.append(nbformat.v4.new_code_cell("secret_code()", outputs=outputs, execution_count=1))
    book.cells.append(nbformat.v4.new_markdown_cell(f"So says {stage}"))
    nbformat.write(book, folder / f"{stage}.ipynb")


@pytest.fixture
def finished_run(tmp_path, ball) -> Path:
    """Of two views, `bad` is the worst; its photo is red, its rendering green, its error blue."""
    stages = {
        name: {"state": "done", "started": f"2026-05-04T10:0{i}:00+00:00", "seconds": 1.5, "parameters": {"steps": 800}}
        for i, name in enumerate(report.STAGES)
    }
    stages["2_reconviagen"] |= {"backend": "hull", "reason": "`auto` chose the visual hull"}
    record = {"name": "run", "state": "done", "stages": stages, "device": "cpu", "final_mesh": "refined/mesh.glb",
              "started": "2026-05-04T10:00:00+00:00", "ended": "2026-05-04T10:09:00+00:00", "photos": ELSEWHERE}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))
    text = f"forty photos in {tmp_path}/scene and {ELSEWHERE}"
    traceback = nbformat.v4.new_output(
        "error", ename="E", evalue="no", traceback=[f"File {RED}/opt/lib/python/code.py:3"]
    )
    executed(tmp_path, "1_ingest", [nbformat.v4.new_output("stream", text=text)])
    executed(tmp_path, "3_nvdiffrec", [traceback])
    for name in ("metrics/photos", "metrics/renders", "metrics/errors", "preview"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "metrics" / "verdict.json").write_text(json.dumps(verdicts.verdict()))
    (tmp_path / "metrics" / "views.csv").write_text("view,psnr_db,ssim\ngood,30.0,0.95\nbad,22.25,0.85\n")
    for folder, colour in (("photos", "red"), ("renders", "green"), ("errors", "blue")):
        for view, size in (("good", 8), ("bad", 16)):
            Image.new("RGB", (size, size), colour).save(tmp_path / "metrics" / folder / f"{view}.png")
    upright = placement.stand_upright(ball, np.array([0.0, 1.0, 0.0]))
    pictures = stills.canonical(upright, 64, cpu)
    stills.save(tmp_path / "preview", pictures, list(stills.turntable(upright, 4, 64, cpu)))
    for name, colour in (("observed", SEEN), ("error", "black")):
        Image.new("RGB", ball.texture.shape[1::-1], colour).save(tmp_path / "metrics" / f"{name}.png")
    viewer.save(tmp_path / "preview" / "viewer.html", upright, 500, cpu, modes.read(tmp_path, ball))
    return tmp_path


def change(run_dir: Path, **states: str) -> dict:
    """Writes other states of stages into run.json; the run's own is the first of them."""
    record = json.loads((run_dir / "run.json").read_text())
    for stage, state in states.items():
        record["stages"][next(name for name in record["stages"] if name.endswith(stage))]["state"] = state
    record["state"] = next(iter(states.values()))
    (run_dir / "run.json").write_text(json.dumps(record))
    return record


def first_screen(page: str) -> str:
    return page.split("<nav>")[0]


def test_the_page_loads_nothing_from_anywhere(finished_run):
    text = report.write(finished_run).read_text()
    assert all(link.startswith("data:") for link in Links(text).found)
    assert "<script src" not in text and "cdn" not in text.split("srcdoc")[0]


def test_the_page_shows_verdict_effective_parameters_and_outputs_but_no_code(finished_run):
    text = report.write(finished_run).read_text()
    for wanted in (
        "26.1 dB",
        "held-out views",
        '<td>steps</td><td class="number">800</td>',
        "1_ingest was here",
        "forty photos",
    ):
        assert wanted in text, wanted
    assert "secret_code" not in text and "steps = 500" not in text


def test_the_first_screen_says_what_decided_what_it_gained_when_and_by_whom(finished_run):
    first = first_screen(report.write(finished_run).read_text())
    assert "All 10 checks are &lt;normal&gt;." in first
    assert "<td>+3.5</td>" in first and "22.6" in first
    assert "Started 2026-05-04 10:00 UTC, ended 2026-05-04 10:09 UTC" in first and "on device cpu" in first
    assert "was made by the visual hull (hull), then refined" in first
    assert 'class="banner' not in first


def test_the_first_screen_says_what_each_status_means_with_the_verdicts_own_limits(finished_run):
    first = first_screen(report.write(finished_run).read_text())
    for level in record.LEVELS:
        assert f'<span class="status {level}">{level}</span></td>' in first, level
    for limit in ("25 dB", "0.85", "20 dB", "0.75"):
        assert limit in first, limit


def test_the_worst_view_stands_beside_its_photo_at_one_size(finished_run):
    first = first_screen(report.write(finished_run).read_text())
    assert "The worst of 2 held-out views: bad" in first and "22.25 dB" in first
    pictures = [Image.open(io.BytesIO(base64.b64decode(link.split(",")[1]))) for link in Links(first).found]
    assert [picture.size for picture in pictures] == [(16, 16)] * 3
    assert [picture.getpixel((8, 8)) for picture in pictures] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_causes_stand_below_the_verdict_with_what_to_do(finished_run):
    path = finished_run / "metrics" / "verdict.json"
    cause = {
        "kind": "light turns with the camera",
        "says": "The light turned & shone.",
        "remedy": "Move the camera.",
        "strength": 0.4,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | {"diagnosis": [cause]}))
    first = first_screen(report.write(finished_run).read_text())
    assert "<p><b>The light turned &amp; shone.</b> Move the camera.</p>" in first


def test_contents_lead_to_every_section(finished_run):
    text = report.write(finished_run).read_text()
    targets = re.findall(r'<a href="#([^"]+)">', text.split("<nav>")[1].split("</nav>")[0])
    assert set(targets) == {*report.STAGES, "checks", "mesh", "provenance", "run"}
    assert all(f'<h2 id="{target}">' in text for target in targets)


def test_the_heading_of_stage_2_names_who_really_made_the_mesh(finished_run):
    text = report.write(finished_run).read_text()
    assert (
        "2_reconviagen: made by the visual hull (hull)" in text and "<code>auto</code> chose the visual hull." in text
    )


def test_the_turntable_is_shown_beside_the_six_stills(finished_run):
    text = report.write(finished_run).read_text()
    stills_part = text.split('<div class="pictures stills">')[1].split("<iframe")[0]
    assert [link.split(";")[0] for link in Links(stills_part).found] == ["data:image/png"] * 6 + ["data:image/webp"]


def test_no_absolute_path_and_no_sentence_about_what_only_a_live_notebook_has(finished_run):
    text = report.write(finished_run).read_text()
    for leak in (str(finished_run), "/srv/somebody", "/opt/lib", "Turn it with the mouse"):
        assert leak not in text, leak
    assert "in scene and " in text and "…/code.py:3" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see /srv/data/run/coarse/mesh.glb: 4 of 7", "see …/mesh.glb: 4 of 7"),
        ("in (/a/b/c) and 'file:///x/y.png'", "in (…/c) and '…/y.png'"),
        *((text, text) for text in ("https://host.org/a/b", "3/4/5", "coarse/mesh.glb", "</td></tr>")),
    ],
)  # fmt: skip
def test_of_a_foreign_path_only_the_last_name_is_shown(tmp_path, text, shown):
    assert page.portable(text, tmp_path) == shown


def test_a_stale_run_says_what_was_made_anew_and_what_to_do(finished_run):
    record = change(finished_run, metrics="stale", preview="stale")
    record["stages"]["2_reconviagen"]["started"] = "2026-05-04T11:00:00+00:00"
    (finished_run / "run.json").write_text(json.dumps(record))
    first = first_screen(report.write(finished_run).read_text())
    assert "4_metrics, 5_preview are about an earlier mesh" in first and "stage 2_reconviagen was made anew" in first
    assert "recon run" in first


def test_an_interrupted_run_says_so_above_its_verdict(finished_run):
    change(finished_run, preview="interrupted")
    first = first_screen(report.write(finished_run).read_text())
    assert first.index("The run was interrupted in stage 5_preview") < first.index("All 10 checks")


class Obeyed(HTMLParser):
    """The tags that would run a script of the attacker's."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if "onerror" in dict(attrs):
            self.found.append(self.get_starttag_text())


def test_markup_in_names_parameters_causes_and_outputs_is_shown_and_not_obeyed(finished_run):
    markup = "<img src=x onerror=hit()>"
    for folder in ("photos", "renders", "errors"):
        (finished_run / "metrics" / folder / "bad.png").rename(finished_run / "metrics" / folder / f"{markup}.png")
    (finished_run / "metrics" / "views.csv").write_text(f"view,psnr_db,ssim\ngood,30.0,0.95\n{markup},22.25,0.85\n")
    executed(finished_run, "1_ingest", [nbformat.v4.new_output("stream", text=f"photo {markup}")])
    record = json.loads((finished_run / "run.json").read_text())
    record |= {"name": markup, "photos": markup, "device": markup}
    stages = record["stages"]
    stages["1_ingest"]["parameters"] = {"photos": markup, markup: 3}
    stages["2_reconviagen"] |= {"backend": markup, "reason": markup}
    stages["3_nvdiffrec"] |= {"error": markup, "not_written": {markup: markup}}
    stages["3_nvdiffrec"]["rates_changed"] = [{"step": 40, "name": markup, "value": markup}]
    (finished_run / "run.json").write_text(json.dumps(record))
    verdict = verdicts.verdict()
    verdict["sentence"] = markup
    (finished_run / "metrics" / "verdict.json").write_text(json.dumps(verdict))
    text = report.write(finished_run).read_text()
    assert text.count("onerror=hit()") >= 8  # it was shown
    assert Obeyed(text).found == []


def test_a_file_that_could_not_be_written_is_a_warning_on_the_first_screen(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    record["stages"]["3_nvdiffrec"]["not_written"] = {"mesh.obj": f"{finished_run}/refined: disk full"}
    (finished_run / "run.json").write_text(json.dumps(record))
    first = first_screen(report.write(finished_run).read_text())
    assert "<b>mesh.obj</b> of stage 3_nvdiffrec could not be written: refined: disk full." in first


def test_rates_changed_while_the_fit_ran_are_a_table(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    record["stages"]["3_nvdiffrec"]["rates_changed"] = [{"step": 40, "name": "lr_vertex", "value": 0.0125}]
    (finished_run / "run.json").write_text(json.dumps(record))
    text = report.write(finished_run).read_text()
    assert '<td class="number">40</td><td>lr_vertex</td><td class="number">0.0125</td>' in text


def test_after_a_failure_the_page_names_stage_and_cause_and_shows_what_there_is(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    record["state"] = "failed"
    record["stages"]["3_nvdiffrec"] = {"state": "failed", "error": "3_nvdiffrec: ValueError: no <photos>"}
    (finished_run / "run.json").write_text(json.dumps(record))
    shutil.rmtree(finished_run / "metrics")
    text = report.write(finished_run).read_text()
    first = first_screen(text)
    assert "No verdict" in first and "failed in stage 3_nvdiffrec:</b> ValueError: no &lt;photos&gt;" in first
    assert "forty photos" in text and "From coarse to final" not in text


def test_nothing_is_said_after_the_cell_that_failed(finished_run):
    text = report.write(finished_run).read_text()
    assert "So says 1_ingest" in text and "3_nvdiffrec was here" in text and "So says 3_nvdiffrec" not in text


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


def test_the_scores_stand_between_ceiling_and_floors_with_their_intervals(finished_run):
    text = report.write(finished_run).read_text()
    levels = text.split("What the scores are worth")[1].split("</table>")[0]
    for wanted in ("26.09 to 26.11", "used photos (8)", "28.3", "moved 3 px", "flat silhouette", "blank"):
        assert wanted in levels, wanted
    assert "LPIPS: absent, torchvision not installed" in text and ">genus</td>" in text
    path = finished_run / "metrics" / "verdict.json"
    path.write_text(json.dumps(verdicts.verdict(lpips=0.1234, lpips_absent="")))
    assert "LPIPS of the compared pictures (AlexNet): 0.123." in report.write(finished_run).read_text()


def test_against_a_true_surface_the_distances_are_a_table(finished_run):
    path = finished_run / "metrics" / "verdict.json"
    numbers = dict.fromkeys(
        ("accuracy", "completeness", "noise_percent", "f_score_half_percent", "f_score_2_percent"), 0.5
    )
    found = numbers | {"chamfer_percent": 0.375, "f_score_1_percent": 0.9, "normal_consistency": 0.8, "diagonal": 1.0}
    given = verdicts.verdict(reference=found | {"volume_iou": None, "aligned_by": "the photos' cameras"})
    path.write_text(json.dumps(given))
    text = report.write(finished_run).read_text().split("Against the true surface")[1]
    assert "0.375" in text and "the photos&#x27; cameras" in text and "one of the two is not closed" in text


def test_every_score_of_a_view_stands_under_its_own_name():
    shown = tables.views({"a": verdicts.score()})
    for key, name in tables.SCORES.items():
        assert shown.rows[0][shown.header.index(name)] == getattr(verdicts.score(), key), name


def test_a_verdict_of_an_earlier_form_is_shown_as_far_as_it_goes(finished_run):
    path = finished_run / "metrics" / "verdict.json"
    old = ("status", "reason", "views", "view_count", "checks", "coarse", *verdicts.score()._asdict())
    path.write_text(json.dumps({name: verdicts.verdict()[name] for name in old}))
    text = report.write(finished_run).read_text()
    assert "26.1 dB" in text and "Run stage 4 again" in text and "What the scores are worth" not in text


def test_provenance_tells_hashes_versions_seed_and_what_was_asked_beyond_the_defaults(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    record |= {"inputs": {"a.png": "abcdef0123456789ffff"}, "seed": 7, "versions": {"torch": "2.13.0"}}
    record["stages"]["3_nvdiffrec"]["outputs"] = {"refined/mesh.glb": "feed" * 16}
    defaults = {stage: {"steps": 800 if stage != "3_nvdiffrec" else 400} for stage in report.STAGES}
    text = provenance.section(finished_run, record, defaults)
    assert "<td>a.png</td><td>abcdef0123456789</td>" in text and "2.13.0" in text and "feed" * 16 in text
    assert "<td>3_nvdiffrec.steps</td><td>800</td><td>400</td>" in text and "1_ingest.steps" not in text
    assert "<td>seed</td><td>7</td>" in text  # text, as the versions in the same column


def test_licences_that_bind_what_was_made_are_named_and_only_those(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    assert (
        provenance.licences(finished_run, record) == []
        and 'class="banner' not in report.write(finished_run).read_text()
    )
    record["stages"]["2_reconviagen"]["backend"] = "reconviagen"
    record["stages"]["3_nvdiffrec"]["device"] = "cuda"
    (finished_run / "scene").mkdir()
    (finished_run / "scene" / "findings.json").write_text(
        json.dumps([{"kind": "mask_of_U²-Net", "text": "", "files": []}])
    )
    (finished_run / "run.json").write_text(json.dumps(record))
    names = [name for name, _ in provenance.licences(finished_run, record)]
    assert {"Stable-X/vggt-object-v0-1", "nvdiffrast", "u2net.onnx"} <= set(names) and not {
        "xfeat.pt",
        "isnet.onnx",
    } & set(names)
    text = report.write(finished_run).read_text()
    assert (
        "Licences bind what was made here" in first_screen(text)
        and "non-commercial" in text.split('id="provenance"')[1]
    )


def test_maps_of_another_texture_are_no_modes(finished_run, ball):
    assert set(modes.read(finished_run, ball)) == {"observed", "error"}
    Image.new("RGB", (3, 3)).save(finished_run / "metrics" / "error.png")
    assert set(modes.read(finished_run, ball)) == {"observed"}


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
def test_in_chromium_the_page_draws_the_mesh_in_all_modes_asks_for_nothing_and_complains_of_nothing(finished_run):
    from playwright.sync_api import sync_playwright

    path = report.write(finished_run)
    assert path.stat().st_size < 15e6
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    requests, complaints = [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 500, "height": 500})
        page.on("request", lambda r: requests.append(r.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(path.as_uri())
        frame = page.frame_locator("iframe[title='the mesh']")
        frame.locator("canvas").scroll_into_view_if_needed()
        frame.locator("canvas").wait_for()
        page.wait_for_timeout(1500)
        for width in (700, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        shots = {}
        for mode in ("original", "observed", "error", "original"):
            frame.locator(f"#modes button[value={mode}]").click()
            page.wait_for_timeout(700)
            pixels = np.asarray(Image.open(io.BytesIO(frame.locator("canvas").screenshot())).convert("RGB"))
            shots.setdefault(mode, []).append(pixels[60:].reshape(-1, 3).astype(int))
            legend = frame.locator("#legend").inner_text()
            assert bool(legend) == (mode != "original")
        browser.close()
    own, seen, error = (shots[mode][0] for mode in ("original", "observed", "error"))
    mesh = own.min(1) < 235
    assert 0.05 < mesh.mean() < 0.9 and len(np.unique(own[mesh] // 32, axis=0)) > 20  # the ball has all colours
    assert (abs(seen[mesh] - SEEN).max(1) < 12).mean() > 0.9 and (error[mesh].max(1) < 12).mean() > 0.9
    assert abs(shots["original"][1] - own).mean() < 1
    assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in requests) and complaints == []
