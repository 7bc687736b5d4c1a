"""The index of a tree: what a scan finds, what is kept of it, and when that is no longer used."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_builders import encode, pictures, write_tree
from PIL import Image

from gencond_fast.data import open_source
from gencond_fast.data.formats import index as index_module
from gencond_fast.data.formats.index import read_index
from gencond_fast.data.formats.scan import scan
from gencond_fast.errors import InputError

OLD = 10**18  # ns; 2001, so the tree has long been as it is


def settle(root: Path) -> Path:
    """Makes everything in a tree old."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(OLD, OLD))
    return root


@pytest.fixture
def tree(tmp_path):
    return settle(write_tree(tmp_path / "set", pictures(4)))


@pytest.fixture
def scans(monkeypatch):
    """Counts the scans; what an index knows must come from one, or be kept."""
    made = []

    def counted(root):
        made.append(root)
        return scan(root)

    monkeypatch.setattr(index_module, "scan", counted)
    return made


def everything(index):
    return (
        index.digest,
        index.listing.folders,
        [index.listing.path(row) for row in range(len(index.listing))],
        index.sizes.tolist(),
        index.times.tolist(),
        index.stamps.tolist(),
    )


def walked(root: Path) -> list[Path]:
    """Every image in reading order, found another way: files of a folder before its folders."""
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(files) if name.endswith((".png", ".JPG"))]
    return found


NAMES = st.text("abcé .-1", min_size=1, max_size=6).filter(
    lambda name: not name.startswith(".") and name.strip(". ") == name
)


@given(st.lists(st.tuples(st.lists(NAMES, max_size=3), NAMES, st.integers(0, 99)), min_size=1))
def test_a_scan_finds_what_a_walk_finds(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("walk")
    for parts, name, size in files:
        folder = root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}{('.png', '.JPG', '.txt')[size % 3]}").write_bytes(bytes(size))
    index, expected = scan(root), walked(root)
    assert [index.listing.path(row) for row in range(len(index.listing))] == [
        str(path.relative_to(root)) for path in expected
    ]
    assert index.sizes.tolist() == [path.stat().st_size for path in expected]
    assert index.times.tolist() == [path.stat().st_mtime_ns for path in expected]
    folders = {path for path in root.rglob("*") if path.is_dir()}
    assert {root.joinpath(*parts) for parts in index.listing.folders} | {root} == folders | {root}
    expected_digest = hashlib.sha256()
    for path in expected:
        expected_digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\n".encode())
    for path in expected:
        expected_digest.update(path.read_bytes())
    assert index.digest == expected_digest.hexdigest()


def test_a_kept_index_is_what_the_scan_found(tree, scans):
    first = everything(read_index(tree))
    again = everything(read_index(tree))
    assert again == first == everything(scan(tree))
    assert len(scans) == 1


def in_place(tree):
    (tree / "ant" / "0001.png").write_bytes(b"shorter")
    os.utime(tree / "ant" / "0001.png", ns=(OLD, OLD))
    os.utime(tree / "ant", ns=(OLD, OLD))


def touched(tree):
    os.utime(tree / "bee" / "0002.png", ns=(OLD, OLD + 1))


def swapped(tree):
    """By another of the same size and time, through a rename: only the folder tells."""
    old, new = tree / "cow" / "0000.png", tree / "cow" / "new"
    new.write_bytes(old.read_bytes()[::-1])
    os.utime(new, ns=(OLD, OLD))
    new.replace(old)


def added_deep(tree):
    (tree / "ant" / "more").mkdir()
    (tree / "ant" / "more" / "x.png").write_bytes(b"x")


def emptied(tree):
    (tree / "cow" / "0000.png").unlink()


CHANGES = {
    "a file is added": lambda tree: (tree / "ant" / "x.png").write_bytes(b"x"),
    "a file is removed": emptied,
    "a file is renamed": lambda tree: (tree / "ant/0000.png").rename(tree / "ant/x.png"),
    "a file is written over in place": in_place,
    "a file is touched": touched,
    "a file is replaced by its like": swapped,
    "a class is added": lambda tree: write_tree(tree, pictures(1, ("dog",))),
    "a folder is added below": added_deep,
    "a class is renamed": lambda tree: (tree / "ant").rename(tree / "ape"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_tree_is_scanned_again(tree, scans, change):
    before = everything(read_index(tree))
    CHANGES[change](tree)
    after = everything(read_index(tree))
    assert len(scans) == 2
    assert after == everything(scan(tree))
    assert (after[0] == before[0]) == (change == "a file is touched")


def test_a_tree_that_has_just_changed_is_not_trusted(tree, scans):
    now = time.time_ns()
    os.utime(tree / "ant" / "0000.png", ns=(now, now))
    for _ in range(2):
        read_index(tree)
    assert len(scans) == 2


def test_two_trees_and_a_moved_one_do_not_mix(tree, tmp_path, scans):
    other = settle(write_tree(tmp_path / "other", pictures(4, seed=3)))
    prints = {open_source(str(root)).fingerprint for root in (tree, other)}
    moved = tree.rename(tmp_path / "moved")
    assert open_source(str(moved)).fingerprint in prints
    assert len(scans) == 3


@pytest.mark.parametrize("damage", [b"", b"\xff" * 300, None])
def test_a_damaged_index_is_made_again(tree, scans, damage):
    first = everything(read_index(tree))
    path = index_module._path(tree)
    path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
    assert everything(read_index(tree)) == first
    assert everything(read_index(tree)) == first
    assert len(scans) == 2


def test_a_cache_that_cannot_be_written_costs_nothing(tree, monkeypatch, tmp_path):
    expected = everything(scan(tree))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "file"))
    assert everything(read_index(tree)) == expected


def test_a_file_that_goes_away_is_named_with_its_folder(tree):
    (tree / "ant" / "z.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"set/ant/z.png cannot be read \(No such file"):
        scan(tree)


MEASURE = """
import resource, sys
from gencond_fast.data import open_source, stream
source = open_source(sys.argv[1])
seen = 0
for batch in stream(source.train, channels=3, image_size=8, batch_size=64):
    seen += len(batch.labels)
print(seen, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_grows_by_little_more_than_the_names(tmp_path):
    """Peak resident memory of a process that opens and reads trees of 1,000 and 21,000 files."""
    original = tmp_path / "one.png"
    original.write_bytes(encode(Image.new("RGB", (8, 8))))
    peaks = {}
    for count in (10, 210):
        root = tmp_path / str(count)
        for label in range(100):
            folder = root / f"n{label:08d}"
            folder.mkdir(parents=True)
            for place in range(count):
                os.link(original, folder / f"n{label:08d}_{place:05d}.png")
        command = [sys.executable, "-c", MEASURE, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seen, peaks[count] = map(int, done.stdout.split())
        assert seen == 100 * count
    assert (peaks[210] - peaks[10]) * 1024 / 20_000 < 400  # an allocator rounds up; 200 at scale
