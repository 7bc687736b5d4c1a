"""accuracy.png: the charts of accuracies where there is no browser."""

from __future__ import annotations

from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from command_line import call, refused
from markupsafe import Markup
from PIL import Image
from report_pages import copy_of, rename_classes, score, write_result

from gencond_fast.reporting.accuracy import draw_accuracy
from gencond_fast.reporting.picture import accuracy_png
from gencond_fast.reporting.published import published_for
from gencond_fast.store.artifact import load
from gencond_fast.store.spec import StoreSpec

LEFT, HEAD, FOOT = 24, 52, 44  # around a chart of 540 x 350
WIDTH, HEIGHT = 540 + 2 * LEFT, HEAD + 350 + FOOT


def height_of(rows: int) -> int:
    """Of a chart of one number of bytes, with its name and key."""
    return HEAD + 14 + 26 * rows + 42 + FOOT


PAPER, ACCENT, WARN = (0xFB, 0xFA, 0xF8), (0x2B, 0x5C, 0x9E), (0x9A, 0x4A, 0x12)


SCORES = [
    score(run="first", mean=60.0, file_bytes=12_000),
    score(run="second", mean=70.0, file_bytes=120_000),
    score(baseline=True, mean=30.0, file_bytes=12_000),
    score(baseline=True, full=True, mean=80.0),
]


def pixels(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def drawn(scores=SCORES, published=None, name="digits") -> np.ndarray:
    chart = draw_accuracy(scores, published, "key")
    assert chart is not None
    return pixels(accuracy_png([(name, chart)]))


def ink(picture: np.ndarray, left: float, top: float, right: float, bottom: float) -> float:
    """Share of the pixels within that are no paper; in units of the chart."""
    part = picture[int(2 * top) : int(2 * bottom), int(2 * left) : int(2 * right)]
    return float((np.abs(part.astype(int) - PAPER).sum(-1) > 60).mean())


def test_marks_stand_where_the_chart_has_them_in_the_colours_of_the_page():
    chart = draw_accuracy(SCORES, None, "key")
    picture = drawn()
    assert picture.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert tuple(picture[0, 0]) == PAPER
    root = ElementTree.fromstring(chart)
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter("circle")]
    assert len(dots) == 2
    for x, y in dots:
        assert tuple(picture[round(2 * (HEAD + y)), round(2 * (LEFT + x))]) == ACCENT
    (square,) = root.iter("rect")
    x, y = (float(square.attrib[side]) + 4.5 for side in ("x", "y"))
    assert tuple(picture[round(2 * (HEAD + y)), round(2 * (LEFT + x))]) == WARN


def test_every_text_can_be_seen():
    chart = draw_accuracy(SCORES, None, "key")
    root = ElementTree.fromstring(chart)
    texts = list(root.iter("text"))
    assert len(texts) > 8
    whole = drawn()
    for text in texts:
        kept, text.text = text.text, ""
        without = pixels(accuracy_png([("digits", Markup(ElementTree.tostring(root, "unicode")))]))
        text.text = kept
        changed = np.argwhere((whole != without).any(-1)) / 2 - (HEAD, LEFT)
        assert len(changed) > 30, kept
        assert np.abs(changed[:, 0] - float(text.attrib["y"])).max() < 14
        assert np.abs(changed[:, 1] - float(text.attrib["x"])).max() < 120


def test_the_name_and_the_key_can_be_seen():
    picture = drawn()
    assert ink(picture, LEFT, 14, LEFT + 45, 32) > 0.03
    assert ink(picture, LEFT + 300, 14, WIDTH, 32) == 0  # it is a short one
    assert ink(drawn(name="digits " * 4), LEFT + 100, 14, LEFT + 150, 32) > 0.03
    assert ink(picture, LEFT, HEIGHT - 34, WIDTH, HEIGHT - 14) > 0.01
    # no marks in the key that the chart has not
    colours = drawn(SCORES[:1])[-2 * FOOT :].reshape(-1, 3)
    assert (colours == ACCENT).all(-1).any()
    assert not (colours == WARN).all(-1).any()


def test_the_key_of_everything_stays_within_the_picture():
    spec = StoreSpec("pixels", 10, 1, 3, 32, 1, 1, 1)
    published = published_for("cifar10", spec)
    assert published is not None
    picture = drawn(published=published)
    assert ink(picture, WIDTH - 8, 0, WIDTH, HEIGHT) == 0
    assert ink(picture, 0, 0, 8, HEIGHT) == 0


@pytest.mark.parametrize("name", ["", "<b>&amp;", "\x00\x1f\ud800", "数据 Ω", "x" * 200])
def test_any_name(name):
    scores = [score(run=name, file_bytes=12_000), score(run="second")]
    assert drawn(scores, name=name).shape == (2 * HEIGHT, 2 * WIDTH, 3)


def report(*arguments):
    done = call("report", *arguments)
    assert done.code == 0, done.err
    return done.out


def test_it_lies_beside_the_page_and_is_the_same_again(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    write_result(run, "all.json", {}, {"training_set": "random", "accuracies": [0.3]})
    before = {path.name for path in run.iterdir()}
    out = report(run)
    file = run / "accuracy.png"
    first = file.read_bytes()
    assert f"{file}: {len(first):,} bytes" in out
    assert {path.name for path in run.iterdir()} == before | {"report.html", "accuracy.png"}
    assert pixels(first).shape == (2 * height_of(2), 2 * WIDTH, 3)
    report(run)
    assert file.read_bytes() == first
    (tmp_path / "pages").mkdir()
    report(run, "--out", tmp_path / "pages" / "page.html")
    assert (tmp_path / "pages" / "accuracy.png").read_bytes() == first


@pytest.mark.parametrize("rows", [None, {"held_out": 0.1}, {"augmented": False}])
def test_there_is_none_without_scores(tiny_run, tmp_path, rows):
    run = copy_of(tiny_run, tmp_path / "run")
    if rows is not None:
        row = {name: value for name, value in rows.items() if name == "augmented"}
        whole = {name: value for name, value in rows.items() if name == "held_out"}
        write_result(run, "some.json", row, **whole)
    out = report(run)
    assert (run / "report.html").is_file()
    assert "accuracy.png" not in out
    assert not (run / "accuracy.png").exists()


def test_several_data_sets_have_a_chart_each(tiny_run, tmp_path):
    one, two, other = (copy_of(tiny_run, tmp_path / name) for name in ("one", "two", "other"))
    rename_classes(other, ["0th"])
    assert load(other).metadata.class_names != load(one).metadata.class_names
    for run in (one, two, other):
        write_result(run, "all.json")
    page = tmp_path / "page.html"
    report(one, two, "--out", page)
    together = pixels((tmp_path / "accuracy.png").read_bytes())
    assert together.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    report(one, two, other, "--out", page)
    three = pixels((tmp_path / "accuracy.png").read_bytes())
    assert three.shape == (2 * HEIGHT + 2 * height_of(1), 2 * WIDTH, 3)
    assert np.array_equal(three[: 2 * HEIGHT], together)
    report(other, "--out", page)
    alone = pixels((tmp_path / "accuracy.png").read_bytes())
    # to rounding: the edges of letters depend on how high they stand
    assert np.abs(three[2 * HEIGHT :].astype(int) - alone).mean() < 0.1


def test_a_page_of_that_name_is_refused(tiny_run, tmp_path):
    done = call("report", tiny_run, "--out", tmp_path / "accuracy.png")
    refused(done, "so is the chart beside the page called")
    assert not list(tmp_path.iterdir())


def test_it_cannot_be_written(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    write_result(run, "all.json")
    (run / "accuracy.png").mkdir()
    refused(call("report", run), "accuracy.png cannot be written")
