"""What is read of a run directory, and what is passed over."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import copy_of, result, write_result

from gencond_fast.evaluation.result import EvaluationResult, Row
from gencond_fast.reporting.accuracy import scores_of
from gencond_fast.reporting.metrics import read_metrics
from gencond_fast.reporting.record import read_record

LINE = {"step": 10, "stage": "warm start", "pixel": 0.5, "images_per_second": 100.0}


def write(path, *lines):
    path.write_text("".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines))
    return read_metrics(path)


def test_terms_and_stages_of_metrics(tmp_path):
    found = write(
        tmp_path / "m",
        LINE,
        LINE | {"step": 20, "pixel": 0.25},
        {"step": 30, "stage": "match", "mean": 2, "images_per_second": 50.0},
        {"step": 40, "stage": "match", "mean": 1, "cross_entropy": 3.0, "images_per_second": 40.0},
    )
    curves = {name: (c.steps.tolist(), c.values.tolist()) for name, c in found.terms.items()}
    assert curves == {
        "pixel": ([10, 20], [0.5, 0.25]),
        "mean": ([30, 40], [2.0, 1.0]),
        "cross_entropy": ([40], [3.0]),
    }
    assert found.speed.values.tolist() == [100, 100, 50, 40]
    assert found.stages == [("warm start", 10), ("match", 30)]
    assert found.torn == 0


def test_lines_torn_by_a_crash_are_left_out(tmp_path):
    torn = ['{"step": 20, "stage"', "\n", "[1]\n", '{"stage": "match"}\n', '{"step": true}\n']
    found = write(tmp_path / "m", LINE, *torn, LINE | {"step": 30}, "\0\0\0")
    assert found.terms["pixel"].steps.tolist() == [10, 30]
    assert found.torn == 5


def test_a_step_that_stands_twice_counts_once_and_what_is_no_number_not_at_all(tmp_path):
    late = LINE | {"pixel": 0.1, "odd": "x", "none": float("nan"), "inf": float("inf")}
    late |= {"yes": True, "large": 10**400}
    far = LINE | {"step": 10**30}
    found = write(tmp_path / "m", LINE | {"step": 30}, LINE, far, late)
    assert found.terms["pixel"].steps.tolist() == [10, 30]
    assert found.terms["pixel"].values.tolist() == [0.1, 0.5]
    assert set(found.terms) == {"pixel"}


def test_no_metrics(tmp_path):
    for found in (read_metrics(tmp_path / "none"), write(tmp_path / "empty")):
        assert found.terms == {}
        assert found.stages == []
        assert len(found.speed.steps) == 0


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), max_size=3), st.booleans())
def test_results_are_read_as_they_were_written(accuracies, held):
    rows = tuple(Row("stored", "convnet3", 3, tuple(a), 1.5, 7) for a in accuracies)
    kept = {"held_out": 0.1 if held else None, "environment": {"versions": {"torch": "2"}}}
    whole = EvaluationResult(
        rows, {"name": "dc", "average": None}, 3, 100, 1.0, 4.0, 80.0, 9, **kept
    )
    again = EvaluationResult.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert again == whole


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"rows": []},
        result(10, {"accuracies": []}),
        result(10, {"accuracies": [1.5]}),
        result(10, {"accuracies": [float("nan")]}),
        result(10, {"accuracies": "x"}),
        result(10, bytes="many"),
    ],
)
def test_what_is_no_result_is_refused(values):
    with pytest.raises(ValueError, match="."):
        EvaluationResult.from_dict(values)


def test_results_among_other_files(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    write_result(run, "b.json")
    write_result(run, "a.json", {}, {"training_set": "full", "accuracies": [1.0]}, bytes=5)
    (run / "torn.json").write_text(json.dumps(result(10))[:-9])
    (run / "binary.json").write_bytes(b"\xff\xfe\0")
    (run / "deep.json").write_text("[" * 100_000)
    (run / "folder.json").mkdir()
    record = read_record(run)
    assert list(record.evaluations) == ["a.json", "b.json"]
    scores = scores_of(record)
    assert [(s.file, s.baseline, s.outdated) for s in scores] == [
        ("a.json", False, True),
        ("b.json", False, False),
        ("a.json", True, True),
    ]
    assert [s.bytes for s in scores] == [5, record.artifact.size, None]
    assert np.isclose(scores[0].std, 100 * np.std([0.5, 0.6], ddof=1))
    assert scores[0].spread == " ± 7.07"
    assert scores[2].spread == ""
