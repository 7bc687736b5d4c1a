"""The check of a data set: what it finds, in every container, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np
import pytest
from command_line import command
from image_builders import encode, noise, pictures, write_npz, write_parquet, write_tar
from odd_images import BROKEN, ODD, PLAIN
from PIL import Image

from gencond_fast.data.health.badlist import BadList, bad_list_path, read_bad_list, write_bad_list
from gencond_fast.data.health.check import check, sample_of
from gencond_fast.data.health.describe import open_parts
from gencond_fast.errors import InputError
from gencond_fast.system.progress import Reporter

ALL = (
    PLAIN
    | {name: data for name, (data, _) in ODD.items()}
    | {name: data for name, (data, _) in BROKEN.items()}
)


def members():
    """All images, the names of all in both classes."""
    return {f"{kind}/{name}": data for kind in ("ant", "bee") for name, data in ALL.items()}


def as_folder(root):
    for name, data in members().items():
        (root / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "d" / name).write_bytes(data)
    return root / "d"


def as_tar(root):
    return write_tar(root / "d.tar", members())


def as_parquet(root):
    names = members()
    labels = [int(name.startswith("bee")) for name in names]
    return write_parquet(root / "d.parquet", list(names.values()), labels)


def run(data, workers=2, classes=None):
    opened, splits = open_parts(str(data), classes)
    return opened, check(splits, workers=workers, reporter=Reporter())


@pytest.mark.parametrize("container", [as_folder, as_tar, as_parquet])
def test_everything_wrong_is_found_and_nothing_else(tmp_path, container):
    opened, report = run(container(tmp_path))
    assert report.images == {"train": 2 * len(ALL)}
    where = {opened.train.where(row): row for row in range(len(opened.train))}
    order = sorted(ALL) if container is as_folder else list(ALL)
    bad = {row for row in range(2 * len(ALL)) if order[row % len(ALL)] in BROKEN}
    assert {entry.row for entry in report.bad} == bad
    for entry in report.bad:
        assert where[entry.where] == entry.row
        assert entry.reason.startswith(BROKEN[order[entry.row % len(ALL)]][1])
    odd = {}
    for each in report.odd:
        odd.setdefault(where[each.where], set()).add(each.kind)
    named = container is not as_parquet  # cells have no file names
    for row in range(2 * len(ALL)):
        kinds = ODD.get(order[row % len(ALL)], (b"", set()))[1]
        assert odd.get(row, set()) == {k for k in kinds if named or "named as" not in k}


def test_the_number_of_workers_changes_nothing(tmp_path):
    data = as_tar(tmp_path)
    assert run(data, workers=1)[1] == run(data, workers=3)[1]


def test_containers_of_pixels_are_read_through(tmp_path):
    path = write_npz(tmp_path / "d.npz", pictures(4))
    report = run(path)[1]
    assert (report.images, report.bad, report.odd) == ({"train": 12}, (), ())
    data = bytearray(path.read_bytes())
    data[400:416] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"d.npz is damaged"):
        run(path)


def test_files_that_go_away_or_may_not_be_read_are_listed(tmp_path):
    root = as_folder(tmp_path)
    opened, splits = open_parts(str(root), None)
    (root / "ant" / "444.jpg").unlink()
    report = check(splits, workers=1, reporter=Reporter())
    (entry,) = [each for each in report.bad if each.where.endswith("ant/444.jpg")]
    assert entry.reason == "is gone since the source was opened"


def test_some_classes_are_checked_alone(tmp_path):
    root = as_folder(tmp_path)
    (root / "cow").mkdir()
    (root / "cow" / "x.png").write_bytes(PLAIN["plain.PNG"])
    opened, report = run(root, classes=["cow", "bee"])
    assert report.images == {"train": len(ALL) + 1}
    whole = run(root)[1]
    assert set(report.bad) == {each for each in whole.bad if "/bee/" in each.where}
    assert opened.class_names == ("bee", "cow")


def test_a_sample_is_random_seeded_and_of_all_splits(tmp_path):
    opened, splits = open_parts(str(as_tar(tmp_path)), None)
    both = {"train": splits["train"], "val": splits["train"]}
    one, same, other = (sample_of(both, 20, seed) for seed in (0, 0, 1))
    rows = {name: split.origin(np.arange(len(split))).tolist() for name, split in one.items()}
    assert sum(map(len, rows.values())) == 20
    assert min(map(len, rows.values())) > 3
    for name, split in one.items():
        assert split.labels.tolist() == same[name].labels.tolist()
        assert rows[name] == same[name].origin(np.arange(len(split))).tolist()
    assert rows["train"] != other["train"].origin(np.arange(len(other["train"]))).tolist()
    whole = sample_of(both, 10**6, 0)
    assert [len(split) for split in whole.values()] == 2 * [len(opened.train)]


def test_a_sample_finds_what_a_check_finds_of_these_images(tmp_path):
    data = as_folder(tmp_path)
    whole = run(data)[1]
    _, splits = open_parts(str(data), None)
    drawn = sample_of(splits, len(splits["train"]) // 2, 0)
    report = check(drawn, workers=2, reporter=Reporter())
    rows = set(drawn["train"].origin(np.arange(len(drawn["train"]))).tolist())
    assert report.images == {"train": len(rows)}
    assert report.bad == tuple(entry for entry in whole.bad if entry.row in rows)
    assert 0 < len(report.bad) < len(whole.bad)


def test_the_list_is_kept_for_the_data_and_for_part_of_it():
    write_bad_list(bad_list_path("one", None), BadList(5, ()))
    write_bad_list(bad_list_path("two", ("a", "b")), BadList(2, ()))
    assert read_bad_list("one", None).checked == 5
    assert read_bad_list("one", ("a", "b")).checked == 5  # all were checked, so these were
    assert read_bad_list("two", ("a", "b")).checked == 2
    assert read_bad_list("two", None) is None
    assert read_bad_list("two", ("a", "c")) is None
    bad_list_path("one", None).write_text('{"checked": 5')
    assert read_bad_list("one", None) is None


def workers_of(process: subprocess.Popen) -> list[int]:
    path = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(path) as file:
        return [int(pid) for pid in file.read().split()]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def long_check(tmp_path, monkeypatch):
    """A check that is under way, and would be for minutes."""
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    original = tmp_path / "one.png"
    original.write_bytes(encode(Image.fromarray(noise(300, 300, 3))))
    for name in ("ant", "bee"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for place in range(4000):
            os.link(original, tmp_path / "d" / name / f"{place}.png")
    arguments = ("data", "check", tmp_path / "d", "--workers", 2, "--json", tmp_path / "o.json")
    process = subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and len(workers_of(process)) < 2:
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
@pytest.mark.slow
def test_a_check_that_is_stopped_leaves_nothing(long_check, tmp_path, stop, code):
    workers = workers_of(long_check)
    if stop == signal.SIGINT:  # from the keyboard it reaches the workers as well
        os.killpg(long_check.pid, stop)
    else:
        long_check.send_signal(stop)
    error = long_check.communicate(timeout=60)[1]
    assert long_check.returncode == code
    assert "Traceback" not in error
    until = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    assert not (tmp_path / "o.json").exists()
    assert not list((tmp_path / "cache").rglob("*.json"))
