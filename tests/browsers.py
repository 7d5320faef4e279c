"""JupyterLab in a real browser, for tests: a server over a copy of the workbench, and pages driven by Playwright.

Chromium is the system's (`CHROMIUM`, or the first of CHROMIUMS on the path); it draws WebGL in software.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCREENS = ROOT / "outputs" / "screens"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def chromium() -> str | None:
    """The path of the system's Chromium; None if there is none."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, CHROMIUMS) if path), None)


def why_not() -> str:
    """Why no browser can be driven here; empty if one can."""
    if find_spec("playwright") is None:
        return "needs playwright: pip install -e '.[dev]'"
    return "" if chromium() else "needs Chromium: apt-get install chromium, or CHROMIUM=/path/to/it"


def copy_home(home: Path) -> Path:
    """A folder like the repository, whose outputs are its own."""
    for name in ("notebooks", "params", ".jupyter"):
        shutil.copytree(ROOT / name, home / name)
    for name in ("samples", "recon_lib", "README.md"):
        (home / name).symlink_to(ROOT / name)
    (home / "outputs").mkdir()
    return home


@contextmanager
def jupyterlab(home: Path):
    """A JupyterLab over `home` with the project's configuration; yields its address without and its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = home / ".jupyter" / "jupyter_server_config.py"
    # PYTHONPATH reaches the kernels: they import the library that is tested.
    own = {"PYTHONPATH": str(ROOT), "JUPYTER_TOKEN": "secret", "JUPYTER_CONFIG_DIR": str(home / "config"),
           "JUPYTER_DATA_DIR": str(home / "data"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}  # fmt: skip
    line = [sys.executable, "-m", "jupyterlab", "--config", str(config), "--no-browser", f"--port={port}",
            "--ServerApp.port_retries=0"]  # fmt: skip
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(line, cwd=home, env=os.environ | own, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/api", server, home / "lab.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_until_it_answers(address: str, server: subprocess.Popen, log: Path) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(log.read_text()[-3000:])


@contextmanager
def browser():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


def open_notebook(page, address: str, path: str) -> None:
    """Opens one notebook in JupyterLab and waits until its cells and its kernel are there."""
    page.goto(f"{address}/lab/tree/{path}?token=secret&reset")
    wait_for_kernel(page)


def wait_for_kernel(page) -> None:
    """Waits until the notebook on the page has its cells and a kernel that is idle."""
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60000)
    page.wait_for_selector(".jp-StatusBar-TextItem:has-text('| Idle')", timeout=60000)
    page.wait_for_timeout(1500)  # the indicator is idle before the notebook has a kernel, too


def run_all(page) -> None:
    """Runs all cells by the menu, as a person does."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()


def shoot(page, name: str) -> Path:
    """A picture of the page for people to look at."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"{name}.png")
    return SCREENS / f"{name}.png"
