"""The page in a browser, where there is one: light, dark, and as narrow as a phone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from PIL import Image

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
PROBE = """<!doctype html><body style="margin:0"><iframe id="f" src="page.html"
style="border:0;width:{width}px;height:800px"></iframe><script>
document.getElementById("f").onload = (e) => {{
  const root = e.target.contentDocument.documentElement;
  const images = [...e.target.contentDocument.images];
  document.title = [root.scrollWidth, root.clientWidth,
    images.every((i) => i.complete && i.naturalWidth > 0), images.length].join(" ");
}};</script>"""


@pytest.fixture(scope="module")
def folder(tiny_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    done = call("report", tiny_run, "--data", "digits", "--out", folder / "page.html")
    assert done.code == 0, done.err
    return folder


def browse(folder: Path, page: str, *options: str) -> str:
    assert CHROMIUM is not None
    common = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files")
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *common, profile, *options, f"file://{folder / page}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shot(folder: Path, name: str, *options: str) -> np.ndarray:
    browse(
        folder, "page.html", f"--screenshot={folder / name}", "--window-size=1000,1600", *options
    )
    with Image.open(folder / name) as image:
        return np.asarray(image.convert("L"))


def test_light_and_dark(folder):
    light = shot(folder, "light.png")
    dark = shot(folder, "dark.png", "--blink-settings=preferredColorScheme=0")
    assert light.shape == dark.shape
    assert np.median(light) > 200
    assert np.median(dark) < 60
    for picture in (light, dark):  # there is something on it, well apart from the ground
        assert (np.abs(picture.astype(int) - np.median(picture)) > 100).mean() > 0.01


@pytest.mark.parametrize("width", [390, 320, 1000])
def test_no_part_is_wider_than_the_window(folder, width):
    (folder / "probe.html").write_text(PROBE.format(width=width))
    dom = browse(folder, "probe.html", "--dump-dom", "--virtual-time-budget=5000")
    title = dom.partition("<title>")[2].partition("</title>")[0].split()
    assert title, "the page was not loaded"
    wide, window, loaded, images = title
    assert int(window) <= width
    assert int(wide) <= int(window)
    assert loaded == "true"
    assert int(images) == 20
