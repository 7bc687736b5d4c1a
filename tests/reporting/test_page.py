"""The page: whole, alone, readable without eyes or mouse, and nothing in it runs."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re

import numpy as np
import pytest
import torch
from command_line import call, refused, tree
from PIL import Image
from report_pages import Page, copy_of, rename_classes, write_result

from gencond_fast.exporting.figures import cut_sheet, to_uint8
from gencond_fast.reporting import page as page_module
from gencond_fast.store.artifact import FILE_NAME, load, save
from gencond_fast.store.stores import build_store

HOSTILE = '<script>alert("x")</script>'


def report(*arguments: object, out) -> Page:
    done = call("report", *arguments, "--out", out)
    assert done.code == 0, done.err
    assert done.err == ""
    assert f"{out}: {out.stat().st_size:,} bytes" in done.out
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def evaluated(tiny_run, tmp_path_factory):
    run = copy_of(tiny_run, tmp_path_factory.mktemp("evaluated") / "first")
    baselines = [
        {"training_set": name, "accuracies": [0.3], "images_per_class": 1}
        for name in ("random", "jpeg", "full")
    ]
    write_result(run, "result.json", {}, *baselines)
    write_result(run, "held.json", held_out=0.1, protocol={"name": "modern"})
    return run


@pytest.fixture(scope="module")
def pages(tiny_run, evaluated, tmp_path_factory) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        "one": report(tiny_run, out=folder / "one.html"),
        "data": report(evaluated, "--data", "digits", out=folder / "data.html"),
        "two": report(tiny_run, evaluated, out=folder / "two.html"),
    }


@pytest.fixture(params=["one", "data", "two"])
def page(request, pages) -> Page:
    return pages[request.param]


# as a document


def test_it_is_a_document_of_one_language_with_a_title(page):
    assert page.source.startswith("<!doctype html>")
    assert page.all("html") == [{"lang": "en"}]
    assert [data for tag, data in page.texts if tag == "title"][0].strip()
    assert page.all("meta")[0] == {"charset": "utf-8"}


def test_headings_are_in_order(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_ids_are_unique_and_references_lead_somewhere(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    named = [n for _, a in page.elements for n in a.get("aria-labelledby", "").split()]
    links = [a["href"] for a in page.all("a")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert {*named, *(link[1:] for link in links)} <= set(ids)


def test_nothing_is_loaded_and_nothing_runs(page):
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert tag == "a" or "href" not in attributes
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_pictures_and_charts_have_names(page):
    assert page.all("img")
    assert all(len(image["alt"]) > 10 for image in page.all("img"))
    charts = page.all("svg")
    assert charts
    assert all(c["role"] == "img" and len(c["aria-labelledby"].split()) == 2 for c in charts)


def test_tables_have_captions_and_scoped_headers(page):
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert len(page.all("figcaption")) == len(page.all("figure")) > 0


def test_it_can_be_used_by_keyboard(page):
    body = page.elements[page.elements.index(("body", {})) + 1 :]
    assert body[0][1]["href"] == "#main"
    scrolling = [a for tag, a in page.elements if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    assert ":focus-visible" in page.source


# what it says


def test_it_says_what_the_file_is(pages, tiny_run):
    artifact = load(tiny_run)
    text = pages["one"].text
    size, spec = artifact.size, artifact.metadata.store
    assert f"{size:,} bytes" in text
    assert f"{8 * size / 10:,.0f} bits" in text
    assert f"IPC {size / (10 * 64 * 4):.3g}" in text
    assert f"{spec.samples:,}, {spec.per_class:,} per class" in text
    assert "gencond-fast condense" in text
    assert "networks.train_steps" in text
    assert torch.__version__ in text
    assert "Not evaluated yet" in text
    assert str(tiny_run.parent) not in pages["one"].source  # where it lies is nobody's business


def test_every_term_of_the_loss_has_a_chart(pages, tiny_run):
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    terms = {name for line in lines for name in line} - {"step", "stage", "images_per_second"}
    titles = [data for tag, data in pages["one"].texts if tag == "title"]
    assert {f"{name} over the steps" for name in (*terms, "images a second")} <= set(titles)


def test_pictures_are_the_stored_samples_and_the_real_ones(pages, tiny_run):
    def opened(attributes):
        content = base64.b64decode(attributes["src"].partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(content)))

    artifact = load(tiny_run)
    per_class = artifact.metadata.store.per_class
    with Image.open(tiny_run / "real.png") as sheet:
        real = cut_sheet(sheet, 8)
    images = pages["one"].all("img")
    assert len(images) == 20
    count = min(12, per_class)
    for label in range(10):
        with torch.no_grad():
            pixels = to_uint8(artifact.store(label * per_class + torch.arange(count)))[..., 0]
        assert np.array_equal(opened(images[2 * label]), np.concatenate(list(pixels), 1))
        assert images[2 * label]["alt"] == f"{count} stored samples of class {label}"
        assert np.array_equal(opened(images[2 * label + 1]), np.concatenate(real[label], 1)[..., 0])


def test_accuracies_and_baselines_are_told(pages):
    text = pages["data"].text
    assert "55.00 ± 7.07" in text
    assert text.count(" baseline ") >= 3
    assert "30.00 ±" not in text  # one seed has no deviation
    assert "359 held-out training images" in text
    titles = [data for tag, data in pages["data"].texts if tag == "title"]
    assert [t for t in titles if t.startswith("first: 55.00 ± 7.07 %, trained on the condensed")]
    assert not [t for t in titles if "held-out" in t]  # not comparable, hence not in the chart


def test_what_students_withstood_and_the_label_robust_score(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    attacked = {"clean": [0.5, 0.6], "pgd": [0.1, 0.3]}
    write_result(
        run,
        "all.json",
        {"training_set": "full", "accuracies": [0.9], "attacked": {"clean": [0.9], "pgd": [0.0]}},
        {"training_set": "random", "accuracies": [0.4], "attacked": {"clean": [0.4], "pgd": [0.1]}},
        {"attacked": attacked},
        attack={"names": ["pgd"], "epsilon": 4.0, "steps": 7, "step_size": 1.0, "images": 300},
    )
    write_result(run, "plain.json")
    found = report(run, out=tmp_path / "page.html")
    assert "20.00 ± 14.14" in found.text
    assert "within 4.0/255 of every pixel (L-infinity), pgd of 7 steps" in found.text
    captions = [d for tag, d in found.texts if tag == "caption" and "changed against" in d]
    assert len(captions) == 1
    # 2505.13300 with HLR = 0.9 - 0.55 and IOR = 0.55 - 0.4, w = 0.5
    value = (math.exp(0.5 * 0.15 - 0.5 * 0.35) - 1 / math.e) / (math.e - 1 / math.e)
    assert f"label-robust score (w = 0.5) convnet3 {value:.4f} all.json" in found.text
    assert "augmentation-robust" not in found.text


def test_students_without_augmentation_stand_in_tables_and_not_in_the_chart(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    attacked = {"attacked": {"clean": [0.5], "pgd": [0.1]}}
    write_result(
        run,
        "both.json",
        attacked,
        {"training_set": "random", "accuracies": [0.4], **attacked},
        {"accuracies": [0.375], "augmented": False, **attacked},
        {"training_set": "random", "accuracies": [0.35], "augmented": False, **attacked},
    )
    found = report(run, out=tmp_path / "page.html")
    assert found.text.count("the condensed file, not augmented") == 2  # also under attack
    titles = [data for tag, data in found.texts if tag == "title"]
    assert not [data for data in titles if "37.50" in data]
    assert [data for data in titles if "55.00" in data]
    # 2505.13300 with gamma = 0.5: 0.15 with augmentation, 0.025 without
    value = (math.exp(0.5 * 0.15 + 0.5 * 0.025) - 1 / math.e) / (math.e - 1 / math.e)
    want = f"augmentation-robust score (gamma = 0.5) convnet3 {value:.4f} both.json"
    assert want in found.text
    both = report(run, tiny_run, out=tmp_path / "both.html")
    assert "37.50 convnet3, dc, 20 epochs, not augmented" in both.text


def test_attacks_that_say_nothing_of_themselves(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    rows = [{"attacked": {"clean": [0.5], "a": [0.1]}}, {"attacked": {"a": [0.2], "b": [0.3]}}]
    write_result(run, "some.json", *rows)
    write_result(run, "none.json", {"attacked": {"b": [0.3]}}, {})
    found = report(run, out=tmp_path / "page.html")
    assert "changed against the students; clean" in found.text
    assert "20.00" in found.text
    assert "30.00" not in found.text  # not known of all


def test_real_images_stand_in_the_feature_map(pages):
    assert "rings real images" in pages["data"].text
    assert "rings real images" not in pages["one"].text
    assert "to real" in pages["data"].text


def test_runs_are_compared(pages, evaluated, tiny_run):
    text = pages["two"].text
    assert "2 condensations compared" in text
    assert "All options of the runs are the same." in text
    assert [a["href"] for a in pages["two"].all("a")].count("#run1") == 2
    headings = [data.strip() for tag, data in pages["two"].texts if tag == "h2"]
    assert headings == ["Comparison", "tiny", "first"]


def test_options_in_which_runs_differ_are_listed(tiny_run, tmp_path):
    other = copy_of(tiny_run, tmp_path / "other")
    text = (other / "config.yaml").read_text().replace("seed: 0", "seed: 7")
    (other / "config.yaml").write_text(text)
    found = report(tiny_run, other, tiny_run, out=tmp_path / "page.html").text
    assert "2 condensations compared" in found  # one of them was given twice
    assert "seed 0 7" in found


def test_runs_of_one_name_are_told_apart(tiny_run, tmp_path):
    one, two = copy_of(tiny_run, tmp_path / "a" / "run"), copy_of(tiny_run, tmp_path / "b" / "run")
    found = report(one, two, out=tmp_path / "page.html")
    assert {str(one), str(two)} <= {data.strip() for tag, data in found.texts if tag == "h2"}


# what comes from files


def test_what_comes_from_files_is_escaped(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "<b>run&quot;")
    rename_classes(run, [HOSTILE, 'a" onload="x', "nul\0\ud800\x1b", "日本 🦊"])
    write_result(run, "<i>.json", {"model": HOSTILE}, protocol={"name": "<u>"})
    (run / "environment.json").write_text(json.dumps({"versions": {HOSTILE: HOSTILE}}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 41, "stage": HOSTILE, HOSTILE: 1.0}) + "\n")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("model: convnet3", "model: <em>", 1))
    found = report(run, out=tmp_path / "page.html")
    tags = {tag for tag, _ in found.elements}
    assert not {"script", "b", "i", "u", "em"} & tags
    assert not [a for _, a in found.elements if "onload" in a]
    assert HOSTILE in found.text  # it is there, as text
    assert any(HOSTILE in image["alt"] for image in found.all("img"))
    assert "日本 🦊" in found.text
    assert "nul\ufffd" in found.text
    assert "\x1b" not in found.source


def test_a_page_stays_small_whatever_is_in_the_pictures(tiny_run, tmp_path):
    runs = []
    artifact = load(tiny_run)
    spec = type(artifact.metadata.store)(
        format="pixels",
        num_classes=30,
        per_class=12,
        channels=3,
        image_size=96,
        width=1,
        code_channels=3,
        code_size=96,
    )
    store = build_store(spec, seed=0)  # noise, which no PNG makes smaller
    with torch.no_grad():
        for parameter in store.parameters():
            parameter.uniform_(0, 1)
    metadata = type(artifact.metadata)(
        spec, tuple(f"class {c}" for c in range(30)), (0.5,) * 3, (0.2,) * 3, 10**9
    )
    for place in range(3):
        runs.append(copy_of(tiny_run, tmp_path / f"run{place}"))
        (runs[-1] / "real.png").unlink()
        save(runs[-1] / FILE_NAME, store, metadata)
    found = report(*runs, out=tmp_path / "page.html")
    assert len(found.source.encode()) <= 3_000_000
    assert "no picture of real images" in found.text
    assert re.search(r"The first \d+ of 30 classes", found.text)
    assert "shown at 64 × 64" in found.text


# what cannot be reported on


def broken(tiny_run, tmp_path):
    return copy_of(tiny_run, tmp_path / "broken")


def refuses(run, words, *more):
    before = tree(run) if run.is_dir() else None
    refused(call("report", run, *more), words)
    assert (tree(run) if run.is_dir() else None) == before


def test_a_folder_that_is_no_run(tmp_path):
    refuses(tmp_path / "none", "is no run directory")
    refuses(tmp_path, "is no run directory")


def test_an_unfinished_run(tiny_run, tmp_path):
    run = broken(tiny_run, tmp_path)
    (run / FILE_NAME).unlink()
    refuses(run, "is not finished")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (FILE_NAME, "is no usable condensed file"),
        ("config.yaml", "config.yaml is damaged"),
        ("environment.json", "environment.json is damaged"),
        ("real.png", "real.png cannot be read as a picture"),
    ],
)
def test_a_damaged_file(tiny_run, tmp_path, name, words):
    run = broken(tiny_run, tmp_path)
    content = (run / name).read_bytes()
    (run / name).write_bytes(b"{" + content[: len(content) // 2])
    refuses(run, words)


def test_a_page_that_cannot_be_written(tiny_run, tmp_path):
    refuses(tiny_run, "is a folder", "--out", tmp_path)
    refuses(tiny_run, "does not exist", "--out", tmp_path / "none" / "page.html")
    (tmp_path / "file").touch()
    refuses(tiny_run, "does not exist", "--out", tmp_path / "file" / "page.html")


def test_data_of_other_classes(tiny_run, tmp_path):
    run = broken(tiny_run, tmp_path)
    rename_classes(run, ["zero"])
    refuses(run, "--data digits has no class 'zero'", "--data", "digits")


def test_a_page_is_written_whole_or_not_at_all(tiny_run, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")

    def full(place, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_module, "write_atomic", full)
    refused(call("report", tiny_run, "--out", path), "No space left on device")
    assert path.read_text() == "before"


def test_too_many_runs_for_a_page(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "_MOST_BYTES", 10_000)
    refused(call("report", tiny_run, "--out", tmp_path / "p.html"), "report on fewer")
    assert not (tmp_path / "p.html").exists()


def test_the_page_lies_in_the_run_unless_told_otherwise_and_is_the_same_again(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    assert call("report", run).code == 0
    first = (run / "report.html").read_bytes()
    assert call("report", run).code == 0
    assert (run / "report.html").read_bytes() == first


def test_the_headline_is_of_the_longest_trained_students(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    write_result(run, "a.json", {"accuracies": [0.5044], "steps": 8})
    write_result(run, "b.json", {"accuracies": [0.6129], "steps": 488, "model": "convnet4"})
    write_result(run, "c.json", {"accuracies": [0.7], "steps": 900, "augmented": False})
    write_result(run, "d.json", {"training_set": "random", "accuracies": [0.8], "steps": 990})
    write_result(run, "e.json", {"accuracies": [0.9], "steps": 999}, bytes=17)  # of another file
    found = report(run, out=tmp_path / "page.html")
    assert "accuracy of convnet4 (dc, 488 steps) 61.29 %" in found.text


def nearest(stored: float) -> dict[str, object]:
    neighbours = [{"sample": 7, "image": "train/cat/9.png", "distance": 0.0123}]
    return {"neighbours": neighbours, "stored": stored, "training": 0.2, "closer": 0.75}


def test_how_near_samples_lie_to_photographs_is_told_where_it_was_measured(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "r")
    page = report(run, out=tmp_path / "before.html")
    assert "gencond-fast score RUN --data DATA leaves it here" in page.text
    (run / "score-1.json").write_text(json.dumps({"coverage": 0.5, "nearest": nearest(0.03)}))
    (run / "score-2.json").write_text(json.dumps({"nearest": {"stored": "far"}}))  # damaged
    page = report(run, out=tmp_path / "after.html")
    assert "stored samples lies 0.0300 from the nearest training image" in page.text
    assert "the median training image 0.2000 from the nearest other one; 75 %" in page.text
    assert "7 train/cat/9.png 0.0123" in page.text


def test_distances_of_an_earlier_file_are_not_told(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "r")
    (run / "score-1.json").write_text(json.dumps({"nearest": nearest(0.03)}))
    os.utime(run / "score-1.json", (1e9, 1e9))
    assert "0.0300" not in report(run, out=tmp_path / "page.html").text
