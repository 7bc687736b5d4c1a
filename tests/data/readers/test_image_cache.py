"""Images kept in memory: none is decoded twice, and nothing else changes by it."""

from __future__ import annotations

import resource
from functools import partial

import numpy as np
import pytest
import torch
from command_line import TINY, call
from hypothesis import given
from hypothesis import strategies as st
from image_builders import pictures, write_npz, write_tar, write_tree

from gencond_fast.config import EvaluateConfig
from gencond_fast.config.options import parse
from gencond_fast.data import open_source, stream
from gencond_fast.data.crop import RandomCrop
from gencond_fast.data.readers import cache_policy, decoding
from gencond_fast.data.readers.batch import Form, Part
from gencond_fast.data.readers.cache_policy import CachePolicy
from gencond_fast.data.readers.image_cache import ImageCache
from gencond_fast.data.stream import decoded
from gencond_fast.errors import InputError
from gencond_fast.evaluation import evaluate
from gencond_fast.system.bytes import format_bytes

FORM = Form(3, 6)
# in this process, where what is decoded can be counted
opened = partial(open_source, reader="threads")
BAD = {2, 9, 10, 11, 17}


SHORT = (*TINY, "--steps", 4, "--reader", "threads")


@pytest.fixture
def decodes(monkeypatch):
    """Names of the images that were decoded, in the order it happened."""
    seen = []
    decode = decoding.decode

    def counted(data, *, where, **options):
        seen.append(where)
        return decode(data, where=where, **options)

    monkeypatch.setattr(decoding, "decode", counted)
    return seen


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    made = {f"{p.class_name}/{p.name}": p.png for p in pictures(7)}
    made = {n: b"no" if place in BAD else d for place, (n, d) in enumerate(made.items())}
    return str(write_tar(tmp_path_factory.mktemp("spoilt") / "d.tar", made))


def read(split, rows=None, batch_size=4, form=FORM):
    return list(
        stream(
            split,
            channels=form.channels,
            image_size=form.size,
            batch_size=batch_size,
            indices=rows,
            workers=1,
        )
    )


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in ("images", "labels", "indices"):
            assert torch.equal(getattr(a, name), getattr(b, name))
        assert a.done == b.done


# what is decoded, and what comes out


@given(
    st.sets(st.integers(0, 20)),
    st.lists(st.tuples(st.sets(st.integers(0, 20)), st.integers(1, 22)), max_size=4),
)
def test_any_reads_are_the_same_and_decode_each_kept_image_once(spoilt, held, reads):
    plain = opened(spoilt, on_bad_image="skip").train
    cache = ImageCache(FORM, np.array(sorted(held), np.int64))
    keeping = opened(spoilt, on_bad_image="skip").train.with_cache(cache)
    row_of = {plain.where(row): row for row in range(21)}
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        decode = decoding.decode

        def counted(data, *, where, **options):
            seen.append(row_of[where])
            return decode(data, where=where, **options)

        decoded_before: set[int] = set()
        for rows, batch_size in reads:
            wanted = np.array(sorted(rows), np.int64)
            expected = read(plain, wanted, batch_size)
            with patch.context() as counting:
                counting.setattr(decoding, "decode", counted)
                same(read(keeping, wanted, batch_size), expected)
            assert sorted(seen) == sorted(rows - decoded_before)
            decoded_before |= rows & (held | BAD)
            seen.clear()


@given(st.permutations(range(21)), st.integers(1, 21))
def test_batches_in_any_order_are_joined_as_well(spoilt, order, batch_size):
    plain, keeping = (opened(spoilt, on_bad_image="skip").train for _ in range(2))
    keeping = keeping.with_cache(ImageCache(FORM, np.arange(0, 21, 2)))

    def epoch(split):
        reads = []  # none may end before its loads were called

        def pairs():
            for done in range(batch_size, 21 + batch_size, batch_size):
                rows = np.sort(order[done - batch_size : done])
                if len(rows):
                    reads.append(split.split.read(rows, len(rows)))
                    yield Part(rows, done), next(reads[-1])

        return list(decoded(split, FORM, pairs(), workers=2))

    expected = epoch(plain)
    for _ in range(2):
        same(epoch(keeping), expected)


def test_batches_may_be_written_to_and_stay_as_they_were(tmp_path, decodes):
    split = opened(str(write_tree(tmp_path / "d", pictures(5)))).train
    expected = torch.cat([batch.images for batch in read(split)])
    split = split.with_cache(ImageCache(FORM, np.arange(15)))
    for _ in range(3):
        batches = read(split)
        assert torch.equal(torch.cat([batch.images for batch in batches]), expected)
        for batch in batches:
            batch.images.zero_()
    assert len(decodes) == 30


def test_another_form_is_decoded_anew(tmp_path, decodes):
    split = opened(str(write_tree(tmp_path / "d", pictures(5)))).train
    expected = [read(split, form=form) for form in (Form(1, 6), Form(3, 7))]
    split = split.with_cache(ImageCache(FORM, np.arange(15)))
    read(split)
    for form, plain in zip((Form(1, 6), Form(3, 7)), expected, strict=True):
        same(read(split, form=form), plain)
    assert len(decodes) == 15 * 5
    read(split)
    assert len(decodes) == 15 * 5


def test_a_read_that_is_dropped_leaves_what_it_has_read(tmp_path, decodes):
    split = opened(str(write_tree(tmp_path / "d", pictures(7)))).train
    expected = read(split)
    split = split.with_cache(ImageCache(FORM, np.arange(21)))
    decodes.clear()
    batches = stream(split, channels=3, image_size=6, batch_size=4, workers=1)
    same([next(batches), next(batches)], expected[:2])
    batches.close()
    decodes.clear()
    same(read(split), expected)
    # those of two more batches were, or were not, decoded ahead
    first = next(row for row in (8, 12, 16) if split.where(row) in decodes)
    assert sorted(decodes) == [split.where(row) for row in range(first, 21)]


def test_images_under_random_crops_are_not_kept():
    with pytest.raises(ValueError, match="random crops"):
        ImageCache(Form(3, 6, RandomCrop(0, 0)), np.arange(3))


def test_memory_is_taken_as_images_come():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    before = resident()
    held = ImageCache(Form(3, 256), np.arange(2000))  # 375 MiB
    assert resident() - before < 50 * 2**20
    assert not held.has(np.arange(2000)).any()


# whether they are kept


@pytest.fixture
def split(tmp_path):
    return opened(str(write_tree(tmp_path / "d", pictures(5)))).train


SIZE = 15 * 3 * 6 * 6


@pytest.mark.parametrize(
    ("switch", "free", "fits"),
    [
        ("auto", 4 * SIZE, True),
        ("auto", 4 * SIZE - 4, False),
        ("on", SIZE, True),
        ("off", 10**9, False),
    ],
)
def test_they_are_kept_if_they_fit(split, monkeypatch, switch, free, fits):
    monkeypatch.setattr(cache_policy, "own_memory", lambda: free)
    told = []
    policy = CachePolicy(switch, told.append)
    kept = policy.keep(split, FORM, np.arange(15), "training images")
    assert (kept.cache is not None) == fits
    assert split.cache is None
    start = "kept in memory: " if fits else "not kept in memory: "
    assert [line.startswith(start) for line in told] == [True] * (switch != "off")
    assert all(f"15 training images take {format_bytes(SIZE)}" in line for line in told)


def test_what_must_be_kept_and_does_not_fit_is_refused(split, monkeypatch):
    monkeypatch.setattr(cache_policy, "own_memory", lambda: SIZE - 1)
    with pytest.raises(InputError, match=r"in_memory' is on, but 15 test images take .* free: "):
        CachePolicy("on", print).keep(split, FORM, np.arange(15), "test images")


def test_two_sets_share_what_is_allowed(split, tmp_path, monkeypatch):
    other = opened(str(write_tree(tmp_path / "e", pictures(5)))).train
    monkeypatch.setattr(cache_policy, "own_memory", lambda: 4 * (2 * SIZE - 1))
    policy = CachePolicy("auto", lambda line: None)
    assert policy.keep(split, FORM, np.arange(15), "training images").cache is not None
    assert policy.keep(other, FORM, np.arange(15), "validation images").cache is None


def test_neither_arrays_nor_nothing_is_kept(tmp_path, split):
    array = opened(str(write_npz(tmp_path / "d.npz", pictures(5)))).train
    policy = CachePolicy("on", pytest.fail)
    assert policy.keep(array, FORM, np.arange(15), "training images").cache is None
    assert policy.keep(split, FORM, np.arange(0), "training images").cache is None


# whole runs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve training images and six to test on."""
    root = tmp_path_factory.mktemp("whole") / "d"
    write_tree(root / "train", pictures(6, ("ant", "bee")))
    write_tree(root / "val", pictures(3, ("ant", "bee"), seed=1))
    return root


def condensed(data, out, switch, monkeypatch, *more):
    """A run that finds nothing in the cache."""
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(out / "cache"))
    options = (*SHORT, "--set", f"in_memory={switch}", *more)
    done = call("condense", "--data", data, "--out", out / "run", *options)
    assert done.code == 0, done.err
    return done


def test_condensing_decodes_what_it_reads_twice_once(data, tmp_path, monkeypatch, decodes):
    products = {}
    for switch, times in (("on", 1), ("auto", 1), ("off", 2)):
        decodes.clear()
        out = tmp_path / switch
        done = condensed(data, out, switch, monkeypatch)
        assert ("kept in memory: 12 training images" in done.err) == (switch != "off")
        assert len(decodes) == 12 * times
        assert len(set(decodes)) == 12
        products[switch] = (out / "run" / "condensed.safetensors").read_bytes()
    assert products["on"] == products["off"] == products["auto"]


def test_statistics_from_the_cache_need_no_images_kept(data, tmp_path, monkeypatch, decodes):
    condensed(data, tmp_path, "on", monkeypatch)
    decodes.clear()
    options = (*SHORT, "--set", "in_memory=on")
    again = call("condense", "--data", data, "--out", tmp_path / "other", *options)
    assert again.code == 0, again.err
    assert "kept in memory" not in again.err
    assert len(decodes) == 12  # the sample


def test_only_images_of_the_sample_are_kept_for_the_pass(data, tmp_path, monkeypatch, decodes):
    options = ("--set", "networks.train_images=2", "--set", "networks.real_per_class=null")
    done = condensed(data, tmp_path, "on", monkeypatch, *options)
    assert "kept in memory: 4 training images" in done.err
    assert len(decodes) == len(set(decodes)) == 12


def test_students_are_tested_on_images_decoded_once(data, tmp_path, monkeypatch, decodes):
    condensed(data, tmp_path, "off", monkeypatch)
    results = {}
    for switch in ("off", "on"):
        decodes.clear()
        config = {"run": str(tmp_path / "run"), "data": str(data), "seeds": 2, "epochs": 1}
        config["reader"] = "threads"
        config |= {"models": ["convnet3", "convnet4"], "baselines": ["random"], "in_memory": switch}
        results[switch] = evaluate(parse(EvaluateConfig, config))
        tested = [where for where in decodes if "/val/" in where]
        drawn = [where for where in decodes if "/train/" in where]
        if switch == "on":
            assert len(tested) == len(set(tested)) == 6
            assert len(drawn) == len(set(drawn))
        else:
            assert len(tested) == 6 * 2 * 2 * 2  # models, training sets and seeds
            assert len(drawn) > len(set(drawn))
    for one, other in zip(results["off"].rows, results["on"].rows, strict=True):
        assert one.accuracies == other.accuracies


def test_one_student_needs_nothing_kept(data, tmp_path, monkeypatch):
    condensed(data, tmp_path, "off", monkeypatch)
    options = ("--data", data, "--seeds", 1, "--epochs", 1)
    done = call("evaluate", tmp_path / "run", *options)
    assert done.code == 0, done.err
    assert "kept in memory" not in done.err
    two = call("evaluate", tmp_path / "run", "--data", data, "--seeds", 2, "--epochs", 1)
    assert "kept in memory: 6 validation images" in two.err
