"""Charts: what stands where, whatever the numbers are."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import score

from gencond_fast.reporting.accuracy import draw_accuracy
from gencond_fast.reporting.curves import draw_curves, running_mean, thin
from gencond_fast.reporting.feature_map import spread
from gencond_fast.reporting.metrics import Curve, Metrics
from gencond_fast.reporting.published import published_for
from gencond_fast.reporting.svg import Scale
from gencond_fast.store.budget import ipc_to_bytes
from gencond_fast.store.spec import StoreSpec

ORDINARY = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(ORDINARY, st.floats(1e-6, 1e6), st.integers(2, 8))
def test_linear_ticks_are_round_inside_and_evenly_spaced(low, width, most):
    high = low + width
    if not high > low:
        return
    ticks = Scale(low, high, 0, 100).ticks(most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in ticks)
    steps = np.diff(ticks)
    if len(steps):
        assert np.allclose(steps, steps[0], rtol=1e-6)
        leading = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert min(abs(leading - part) for part in (1, 2, 5, 10)) < 1e-3


@given(st.floats(1e-9, 1e9), st.floats(1.5, 1e12), st.integers(3, 8))
def test_logarithmic_ticks_are_inside_and_few(low, ratio, most):
    high = low * ratio
    ticks = Scale(low, high, 0, 100, log=True).ticks(most)
    assert len(ticks) <= most + 2
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)
    assert ratio < 10 or ticks


def test_scales_map_ends_to_ends():
    linear, log = Scale(2, 4, 10, 110), Scale(1, 100, 50, 0, log=True)
    assert [linear(v) for v in (2, 3, 4)] == [10, 60, 110]
    assert np.allclose([log(v) for v in (1, 10, 100)], [50, 25, 0])
    assert Scale(3, 3, 0, 10)(3) == 5


@given(st.lists(ORDINARY, min_size=1, max_size=40), st.integers(1, 12))
def test_running_mean_against_a_loop(values, window):
    values = np.array(values)
    want = [
        values[max(0, k - window // 2) : k + (window + 1) // 2].mean() for k in range(len(values))
    ]
    assert np.allclose(running_mean(values, window), want, atol=1e-6)


@given(st.lists(ORDINARY, min_size=1, max_size=400), st.integers(8, 60))
def test_thinning_keeps_ends_and_extremes(values, most):
    values = np.array(values)
    kept = thin(values, most)
    assert len(kept) <= most or len(values) <= most
    assert (np.diff(kept) > 0).all()
    assert {0, len(values) - 1} <= set(kept.tolist())
    assert values[kept].min() == values.min()
    assert values[kept].max() == values.max()


@given(st.lists(st.floats(0, 100), max_size=12), st.floats(1, 30))
def test_names_are_spread_apart_in_their_order(places, gap):
    moved = spread(places, gap, 0, 100)
    order = np.argsort(places, kind="stable")
    room = min(gap, 100 / max(1, len(places) - 1))
    gaps = np.diff(np.array(moved)[order])
    assert (gaps >= room - 1e-9).all()
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in moved)


def test_names_with_room_stay_where_they_are():
    assert spread([50, 10, 90], 15, 0, 100) == [50, 10, 90]


def curve(*values):
    return Curve(np.arange(1, len(values) + 1) * 10, np.array(values, dtype=np.float64))


def polylines(svg, class_):
    root = ElementTree.fromstring(str(svg))
    found = [e for e in root.iter("polyline") if e.get("class") == class_]
    return [[tuple(map(float, p.split(","))) for p in e.get("points").split()] for e in found]


@pytest.mark.parametrize(
    "values",
    [(1.0,), (0.0, 0.0), (-1.0, 3.0), (1e-9, 1.0, 1e9), (5.0,) * 9, tuple(range(1, 2000))],
    ids=["one", "zeros", "signs", "decades", "constant", "many"],
)
def test_a_curve_of_any_values_stays_inside_its_chart(values):
    (chart,) = draw_curves(Metrics({"a": curve(*values)}, curve(), [("match", 10)], 0), "k")
    (points,) = polylines(chart.svg, "raw")
    assert 1 <= len(points) <= 240
    assert all(0 <= x <= 340 and 0 <= y <= 190 for x, y in points)
    if values[-1] > values[0]:
        assert points[-1][1] < points[0][1]  # y grows upwards
        assert points[-1][0] > points[0][0]


def test_the_scale_is_logarithmic_where_values_are_positive_and_far_apart():
    def note(*values):
        return draw_curves(Metrics({"a": curve(*values)}, curve(), [], 0), "k")[0].note

    assert "logarithmic" in note(1.0, 20.0)
    assert "linear" in note(1.0, 5.0)
    assert "linear" in note(0.0, 20.0)
    assert "linear" in note(-1.0, 20.0)


def test_stages_are_marked_where_they_begin():
    metrics = Metrics({"a": curve(*range(1, 9))}, curve(), [("warm start", 10), ("match", 50)], 0)
    root = ElementTree.fromstring(str(draw_curves(metrics, "k")[0].svg))
    names = [e.text for e in root.iter("text") if e.get("class") == "stage-name"]
    assert names == ["warm start", "match"]
    (line,) = [e for e in root.iter("line") if e.get("class") == "stage"]
    ticks = {e.text: float(e.get("x")) for e in root.iter("text") if not e.get("class")}
    assert math.isclose(float(line.get("x1")), ticks["0"] + (ticks["80"] - ticks["0"]) * 50 / 80)


# published figures

CIFAR = StoreSpec("pixels", 10, 1, 3, 32, 1, 3, 32)


@pytest.mark.parametrize("name", ["cifar10", "CIFAR-10", "cifar10.tar", "cifar_10"])
def test_a_known_data_set_is_told_by_name_and_shape(name):
    found = published_for(name, CIFAR)
    assert found.title == "CIFAR-10"
    (dm,) = [method for method in found.methods if method.name == "DM"]
    sizes = [ipc_to_bytes(ipc, 10, 3, 32) for ipc in (1, 10, 50)]
    assert dm.points == tuple(zip(sizes, (26.0, 48.9, 63.0), strict=True))


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("cifar100", CIFAR),
        ("digits", CIFAR),
        ("cifar10", StoreSpec("pixels", 5, 1, 3, 32, 1, 3, 32)),
        ("cifar10", StoreSpec("pixels", 10, 1, 3, 16, 1, 3, 16)),
        ("fashion_mnist", CIFAR),
    ],
)
def test_other_data_has_no_published_figures(name, spec):
    assert published_for(name, spec) is None


def test_missing_figures_are_left_out():
    found = published_for("fashion_mnist", StoreSpec("pixels", 10, 1, 1, 28, 1, 1, 28))
    assert {len(method.points) for method in found.methods} == {2, 3}
    assert all(len(method.paper) == 10 for method in found.methods)


def test_own_points_stand_among_published_ones_at_their_bytes():
    published = published_for("cifar10", CIFAR)
    svg = draw_accuracy([score(mean=26.0, std=0.0)], published, "k")
    root = ElementTree.fromstring(str(svg))
    groups = {
        e.findtext("title").partition(",")[0]: e
        for e in root.iter("g")
        if e.find("title") is not None
    }
    own = next(e for name, e in groups.items() if name.startswith("r: 26.00"))
    published_first = groups["DM"].find("circle")
    assert own.find("circle").get("cx") == published_first.get("cx")
    assert own.find("circle").get("cy") == published_first.get("cy")


def test_no_chart_without_a_point():
    assert draw_accuracy([], None, "k") is None
    assert draw_accuracy([score(full=True, baseline=True)], None, "k") is None
    assert "r: 50.00" in str(draw_accuracy([score()], None, "k"))


def texts(svg) -> list[str]:
    return [e.text for e in ElementTree.fromstring(str(svg)).iter() if e.tag == "text" and e.text]


def test_every_baseline_has_its_name():
    baselines = [score(baseline=True, kind=kind, mean=40.0) for kind in ("random", "jpeg")]
    other = score(run="other", file_bytes=9999)
    found = texts(draw_accuracy([score(), other, *baselines], None, "k"))
    assert {"random", "jpeg"} <= set(found)


def test_one_number_of_bytes_gives_a_row_for_each_score():
    baselines = [score(baseline=True, kind=kind) for kind in ("random", "jpeg")]
    full = score(baseline=True, full=True, kind="full", mean=90.0)
    svg = draw_accuracy([score(mean=60.0), *baselines, full], None, "k")
    named = [text for text in texts(svg) if "convnet3" in text]
    kinds = ["condensed", "random", "jpeg", "all real"]
    assert named == [f"{kind}, convnet3" for kind in kinds]
    root = ElementTree.fromstring(str(svg))
    places = {e.get("cx") for e in root.iter("circle")} | {e.get("x") for e in root.iter("rect")}
    assert len(places) == 2  # the accuracies 60, and 50 twice
    # all real images are no baseline of as many bytes
    (line,) = (each for each in root.iter("line") if each.get("class") == "full")
    assert line.get("x1") == line.get("x2") not in places
    assert any("123 kB" in text for text in texts(svg))


@pytest.mark.parametrize("std", [0.0, 3.0])
def test_a_single_score_of_nothing_or_all_stays_inside(std):
    for mean in (0.0, 100.0):
        root = ElementTree.fromstring(str(draw_accuracy([score(mean=mean, std=std)], None, "k")))
        (dot,) = root.iter("circle")
        assert 196 <= float(dot.get("cx")) <= 520
