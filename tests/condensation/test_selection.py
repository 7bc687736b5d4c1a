"""Which real images samples start from, against the definitions, one image after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from command_line import call
from hypothesis import given
from hypothesis import strategies as st
from test_shared_steps import on_ranks
from test_statistics import open_task

import gencond_fast as gf
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.selection import choose_targets, herd, preferred_rows
from gencond_fast.config.options import resolve
from gencond_fast.errors import InputError

pytestmark = pytest.mark.usefixtures("cache")

TRAINED = ("networks.random=1", "networks.trained=2", "networks.train_images=30")


def assert_greedy(features, chosen):
    """As iCaRL writes herding down, in float64: no other candidate would have been better."""
    features = features.double()
    mean = features.mean(0)
    assert len(set(chosen)) == len(chosen)
    for number, best in enumerate(chosen):
        before = chosen[:number]
        tried = {
            i: (mean - features[[*before, i]].mean(0)).norm().item()
            for i in range(len(features))
            if i not in before
        }
        assert tried[best] <= min(tried.values()) + 1e-6


@given(
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    wanted=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_herding_by_trying_every_candidate(counts, wanted, seed):
    rng = torch.Generator().manual_seed(seed)
    most = max(counts)
    wanted = min(wanted, most)
    features = F.normalize(torch.randn(len(counts), most, 5, generator=rng), dim=2)
    present = torch.arange(most) < torch.tensor(counts)[:, None]
    features[~present] = torch.nan  # what is not there is not looked at
    found = herd(features.nan_to_num(7.0), present, wanted)
    for row, count, own in zip(found.tolist(), counts, features, strict=True):
        first = row[: min(count, wanted)]
        assert_greedy(own[:count], first)
        assert row == first + first[:1] * (wanted - len(first))


def classes_of(rows, labels):
    """The rows of each class; fails unless they are a permutation within each class."""
    assert torch.equal(labels[rows], labels)
    assert torch.equal(rows.sort().values, torch.arange(len(rows)))
    return [rows[labels == label] for label in labels.unique()]


def test_random_ones_stay_as_they_are():
    task = open_task(*TRAINED)
    rows = preferred_rows(task, build_networks(task), 7)
    assert torch.equal(rows, torch.arange(len(task.sample.labels)))


@pytest.mark.parametrize("per_class", [4, 500])
def test_herded_ones_follow_the_longest_trained_network(ragged, per_class, monkeypatch):
    monkeypatch.setattr("gencond_fast.condensation.selection._FEATURE_BYTES", 1)
    task = open_task(*TRAINED, "training.selection=herding", data=ragged)
    networks = build_networks(task)
    labels = task.sample.labels
    found = classes_of(preferred_rows(task, networks, per_class), labels)
    networks.select(2)
    with torch.no_grad():
        features = F.normalize(networks.features(task.normalisation(task.sample.images)), dim=1)
    for label, rows in enumerate(found):
        own = (labels == label).nonzero().flatten()
        places = torch.searchsorted(own, rows[: min(per_class, len(own))])
        assert_greedy(features[own], places.tolist())


@pytest.mark.parametrize("per_class", [3, 500])
def test_easy_ones_are_the_half_with_the_smaller_loss(ragged, per_class):
    task = open_task(*TRAINED, "training.selection=easy", data=ragged)
    networks = build_networks(task)
    labels = task.sample.labels
    found = classes_of(preferred_rows(task, networks, per_class), labels)
    loss = torch.zeros(len(labels))
    for index in (1, 2):
        networks.select(index)
        with torch.no_grad():
            logits = networks.logits(networks.features(task.normalisation(task.sample.images)))
        loss += torch.stack([F.cross_entropy(a, b) for a, b in zip(logits, labels, strict=True)])
    for rows in found:
        half = max((len(rows) + 1) // 2, per_class)
        easy = rows[:half]
        if len(rows) > half:
            assert loss[easy].max() <= loss[rows[half:]].min()
        assert easy.tolist() == sorted(easy.tolist()), "in the random order of the sample"


def test_all_ranks_take_what_the_first_one_chose():
    task = open_task(*TRAINED, "training.selection=herding")
    networks = build_networks(task)
    alone = preferred_rows(task, networks, 5)
    for rows in on_ranks(3, lambda ranks: preferred_rows(task, networks, 5, ranks)):
        assert torch.equal(rows, alone)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["herding", "easy"])
def test_a_run_starts_from_them(tmp_path, choice):
    """Pixels with a rate too small to leave them."""
    run, _ = tmp_path / "run", "--set"
    sets = ("store.format=pixels", "training.init=real", "training.warm_start=0", "compile=off")
    sets += ("training.match_lr=1e-9", "store.per_class=3", f"training.selection={choice}")
    sets += ("networks.width=8", "networks.train_steps=6", "precision=float32", *TRAINED)
    flat = [part for text in sets for part in (_, text)]
    done = call("condense", "--data", "digits", "--out", run, "--bytes", "8KB", *flat, "--steps", 1)
    assert done.code == 0, done.err
    task = open_task(*TRAINED, f"training.selection={choice}")
    rows = preferred_rows(task, build_networks(task), 3)
    assert not torch.equal(rows, torch.arange(len(rows)))
    want = choose_targets(task.sample.images, task.sample.labels, 3, rows)
    stored = gf.load(run).store.to_storage()["images"]
    assert (stored.double() - want.double()).abs().max() <= 0.501


def test_another_choice_is_refused():
    with pytest.raises(InputError, match=r"training\.choice"):
        resolve({"data": "digits", "out": "run"}, {"training": {"choice": "hard"}})
