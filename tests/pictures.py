"""`make pictures`: the README's pictures, from the run that `make demo` leaves."""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from recon_lib.machine import probe

HOME = Path(__file__).parents[1]
WEBGL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
VIEWER_MS = 6000  # until a slow machine has drawn the mesh


def main() -> None:
    page_file = HOME / "outputs" / "demo" / "report.html"
    if not page_file.exists():
        raise SystemExit(f"{page_file}: not there; run make demo first")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=probe.chromium(), args=WEBGL)
        page = browser.new_page(viewport={"width": 1150, "height": 1400})
        page.goto(page_file.as_uri())
        page.wait_for_timeout(VIEWER_MS)
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    picture.convert("RGB").resize((805, 980), Image.Resampling.LANCZOS).save(
        HOME / "samples" / "report.jpg", quality=82
    )


if __name__ == "__main__":
    main()
