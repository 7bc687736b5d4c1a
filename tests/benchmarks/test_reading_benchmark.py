"""Ways of reading are compared only where they give the same images, each by itself."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from image_builders import encode, noise, pictures, write_npz
from PIL import Image

from benchmarks import calibration, data, isolated, markdown, run
from benchmarks.images import prepared
from benchmarks.isolated import Isolated, _Served, check
from benchmarks.peers import loaders
from benchmarks.processes import cpu_seconds, own_bytes, peak_of
from benchmarks.reading import Job, Read, Way
from gencond_fast.errors import InputError

SIZE = 32
every_way = data.ways
# width and height: small, exact, long, and so large that it is decoded at a fraction of its size
SHAPES = [(20, 31), (32, 32), (32, 50), (200, 40), (47, 90), (64, 61), (400, 300)]


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Smooth, for where images are resampled matters less to it than how."""
    return Image.fromarray(noise(4, 5, 3, seed=seed)).resize((width, height))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for place, shape in enumerate(SHAPES):
            content = encode(picture(*shape, place), "JPEG", quality=95)
            (root / name / f"{place}.jpg").write_bytes(content)
    (root / "bee" / "gray.jpg").write_bytes(encode(picture(70, 50, 8).convert("L"), "JPEG"))
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "ant" / "turned.jpg").write_bytes(encode(picture(60, 50, 9), "JPEG", exif=exif))
    return root


@pytest.fixture
def job(folder: Path) -> Iterator[Job]:
    with prepared(str(folder), SIZE, images=20, batch=6, workers=1, random=False) as made:
        yield made


def expected(job: Job) -> np.ndarray:
    return np.load(job.expected)


def test_jobs_hold_the_images_wanted(folder: Path) -> None:
    with prepared(str(folder), SIZE, images=20, batch=6, workers=1, random=False) as job:
        assert (len(job.files), job.passes, job.images, job.batches) == (16, 2, 32, 6)
        assert sorted(set(job.labels.tolist())) == [0, 1]
        squares = job.windows[:, 2:] - job.windows[:, :2]
        sizes = [
            sorted(loaders.open_window(f, w, 999)[0].size)
            for f, w in zip(job.files, job.windows, strict=True)
        ]
        assert (squares == np.array(sizes)[:, :1]).all()
    assert not Path(job.root).exists()
    with prepared(str(folder), SIZE, images=5, batch=6, workers=1, random=True) as job:
        assert (len(job.files), job.passes, job.batches) == (5, 1, 1)
        assert (job.windows[:, :2] >= 0).all()


@pytest.mark.parametrize("random", [False, True])
def test_every_way_gives_the_same_images(folder: Path, random: bool) -> None:
    possible, _ = data.ways(1, random)
    with prepared(str(folder), SIZE, images=20, batch=6, workers=1, random=random) as job:
        for name, way in possible.items():
            if way.calibrates or (random and name.startswith("gencond_fast")):
                continue
            epoch = way.make(job)
            whole = job.expected_whole if way.resized_whole else None
            for _ in range(2):  # an epoch leaves nothing to the next
                check(epoch(), job, np.load(whole or job.expected))


@pytest.mark.parametrize(
    "make", [calibration.files_only, calibration.pillow_decodes, calibration.pillow_resizes]
)
def test_calibrations_go_over_all_images(job: Job, make) -> None:
    rows = np.concatenate([batch.rows.numpy() for batch in make(job)()])
    assert (np.bincount(rows) == job.passes).all()


def right(job: Job) -> list[Read]:
    images = torch.from_numpy(expected(job)).permute(0, 3, 1, 2)
    rows = torch.arange(len(images)).repeat(job.passes)
    labels = torch.from_numpy(job.labels)
    return [Read(images[each], labels[each], each) for each in rows.split(job.batch)]


def wrongly(batch: Read, what: str) -> Read:
    images, labels, rows = batch
    return {
        "pixels": Read(images.roll(4, dims=3), labels, rows),
        "labels": Read(images, 1 - labels, rows),
        "times": Read(images[1:], labels[1:], rows[1:]),
        "shape": Read(images[..., 1:], labels, rows),
        "float32": Read(images.float(), labels, rows),
    }[what]


@pytest.mark.parametrize("what", ["pixels", "labels", "times", "shape", "float32"])
def test_what_differs_is_named(job: Job, what: str) -> None:
    batches = right(job)
    check(batches, job, expected(job))
    with pytest.raises(AssertionError, match=what):
        check([wrongly(batches[0], what), *batches[1:]], job, expected(job))


def test_a_way_by_itself(job: Job) -> None:
    ours = Isolated("ours", data.ways(1, random=False)[0]["gencond_fast (threads)"], job)
    failing = Isolated("failing", Way(partial(loaders.dataloader, workers=-1)), job)
    try:
        ours.ready()
        ours.open()
        ours.check()
        ours.read()
        assert ours.first_batch > 0
        assert len(ours.cpu) == 1
        assert ours.waiting(0.001) is not None
        assert ours.peak_mb() > 0
        failing.ready()
        with pytest.raises(RuntimeError, match=r"failing: (?s:.)*num_workers"):
            failing.open()
    finally:
        ours.close()
        failing.close()


def test_waiting_is_what_a_step_does_not_hide(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(isolated, "time", SimpleNamespace(sleep=sleep, perf_counter=lambda: now))

    def slowly() -> Iterator[Read]:
        for batch in right(job):
            sleep(0.02)
            yield batch

    served = _Served(Way(partial(loaders.dataloader, workers=0)), job)
    served._epoch = slowly  # nobody reads ahead: each batch after the first is waited for
    waited, steps = 0.02 * (job.batches - 1), 0.03 * job.batches
    assert served.wait(0.03) == pytest.approx(waited / (waited + steps))
    served._epoch = lambda: iter(right(job))
    assert served.wait(0.03) == 0


def test_a_way_that_reads_something_else_is_not_measured(job: Job) -> None:
    other = np.roll(expected(job), 4, axis=2)
    np.save(job.expected, other)
    ours = Isolated("ours", Way(partial(loaders.dataloader, workers=0)), replace(job, passes=1))
    try:
        ours.ready()
        ours.open()
        with pytest.raises(AssertionError, match="ours: pixels"):
            ours.check()
    finally:
        ours.close()


BUSY = """
import subprocess, sys, time
held = bytearray(b"x" * 40_000_000)
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"])
while time.process_time() < 0.3:
    pass
print(time.process_time(), flush=True)
if len(sys.argv) == 1:
    sys.stdin.read()
"""


def test_what_children_take_counts(tmp_path: Path) -> None:
    program = tmp_path / "busy.py"
    program.write_text(BUSY)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, program], **pipes) as process:
        with peak_of(process.pid) as peak:
            spent = sum(float(process.stdout.readline()) for _ in range(2))
        assert peak()[1] > 80_000_000
        assert 40_000_000 < own_bytes(process.pid) < 80_000_000
        assert cpu_seconds(process.pid) > spent - 0.05  # the system counts in hundredths
        process.stdin.close()
    assert cpu_seconds(process.pid) == own_bytes(process.pid) == 0


def test_arrays_are_refused(tmp_path: Path) -> None:
    source = write_npz(tmp_path / "train.npz", pictures(2))
    with (
        pytest.raises(InputError, match="encoded"),
        prepared(str(source), SIZE, images=4, batch=2, workers=1, random=False),
    ):
        pass


def test_rivals_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_installed", lambda module: False)
    possible, skipped = data.ways(3, random=False)
    assert skipped["webdataset + Pillow, 3 workers"] == "webdataset is not installed"
    assert skipped["DALI, regions"] == "nvidia.dali is not installed"
    assert "ffcv" in skipped
    assert next(iter(possible)) == "gencond_fast (threads)"
    assert "DataLoader + Pillow, 3 workers" in possible
    assert not possible.keys() & skipped.keys()


def some_ways(workers: int, random: bool) -> tuple[dict[str, Way], dict[str, str]]:
    possible, _ = every_way(workers, random)
    kept = ("gencond_fast (threads)", "DataLoader + Pillow, no workers", "files alone")
    return {name: possible[name] for name in kept}, {"ffcv": "cannot be built"}


def test_results_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> None:
    monkeypatch.setattr(run, "_RESULTS", tmp_path)
    monkeypatch.setattr(data, "ways", some_ways)
    monkeypatch.setitem(data.SIZES, "photographs", SIZE)
    options = ["--windows", "centre", "--images", "60", "--batch", "8", "--workers", "1"]
    command = ["data", "--photographs", str(folder), *options, "--rounds", "3"]
    done = CliRunner().invoke(run.main, [*command, "--check"])
    assert done.exit_code == 0, done.output
    assert "agreed: kind photographs" in done.output
    assert not list(tmp_path.iterdir())
    done = CliRunner().invoke(run.main, command)
    assert done.exit_code == 0, done.output
    path = tmp_path / "data.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["provider"]: row for row in csv.DictReader(file)}
    assert list(rows)[0] == "gencond_fast (threads)"
    assert rows["ffcv"]["skipped"] == "cannot be built"
    for name in ("gencond_fast (threads)", "DataLoader + Pillow, no workers"):
        row = rows[name]
        assert row["images"] == "64"
        rate = 64e3 / float(row["median_ms"])
        assert float(row["images_per_second"]) == pytest.approx(rate, rel=0.01)
        assert row["images_per_second"] == row["per_core"]
        assert 0 <= float(row["waiting"]) < 1
        assert float(row["first_batch_ms"]) > 0
    assert rows["DataLoader + Pillow, no workers"]["of_dataloader"] == "1.0"
    assert rows["files alone"]["of_dataloader"] == rows["files alone"]["waiting"] == ""
    arguments = [str(path), "provider", "images_per_second", "--where", "windows=centre"]
    done = CliRunner().invoke(markdown.main, arguments)
    assert done.output.splitlines()[0] == "| provider | images_per_second |"
    assert done.output.splitlines()[-1] == "| ffcv | cannot be built |"
    assert len(done.output.splitlines()) == 2 + len(rows)
    assert CliRunner().invoke(markdown.main, [str(path), "speed"]).exit_code == 2


def test_a_benchmark_of_no_images_is_refused() -> None:
    done = CliRunner().invoke(run.main, ["data"])
    assert done.exit_code == 2
    assert "--photographs" in done.output
