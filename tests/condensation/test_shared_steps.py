"""Parts of a step on several ranks, each in a thread: together they are the step of one."""

from __future__ import annotations

import threading

import pytest
import torch

from gencond_fast.condensation import experts
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.sharing import check_enough
from gencond_fast.condensation.task import open_config, open_task, set_up
from gencond_fast.condensation.trajectory import Trajectory
from gencond_fast.condensation.warm_start import WarmStart
from gencond_fast.condensation.whole_split import weights_of
from gencond_fast.distributed import Ranks
from gencond_fast.errors import InputError
from gencond_fast.models.spec import StoreSpec
from gencond_fast.models.stores import build_store
from gencond_fast.options import resolve
from gencond_fast.progress import Reporter

BUILDING = threading.Lock()  # what is built draws from the generator of the process
SPECS = {
    "pixels": StoreSpec("pixels", 10, 6, 1, 8, 1, 1, 8),
    "generator": StoreSpec("generator", 10, 6, 1, 8, 8, 2, 4),
    "dct": StoreSpec("dct", 10, 6, 1, 8, 1, 1, 1, coefficients=20, stream_bytes=400),
}


class ThreadRanks(Ranks):
    """One of several ranks in this process, whose sums go through a list that they share."""

    def __init__(self, rank, world, barrier, given):
        super().__init__(rank, world)
        self._barrier, self._given = barrier, given

    def add(self, tensors):
        self._given[self.rank] = [each.clone() for each in tensors]
        self._barrier.wait(20)
        sums = [torch.stack(each).sum(0) for each in zip(*self._given, strict=True)]
        self._barrier.wait(20)
        for each, total in zip(tensors, sums, strict=True):
            each.copy_(total)


def on_ranks(world, body):
    """What `body(ranks)` gives on each of `world` ranks."""
    barrier, given, found = threading.Barrier(world), [None] * world, [None] * world

    def run(rank):
        try:
            found[rank] = body(ThreadRanks(rank, world, barrier, given))
        except BaseException as error:
            barrier.abort()
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found


def open_digits(**options):
    small = {"width": 8, "train_steps": 5, "random": 1, "trained": 1, "augmentations": 3}
    small |= {"images_per_class": 20, "frequencies": 7, "sample_batch": 9}
    options["networks"] = small | options.get("networks", {})
    base = {"data": "digits", "out": "", "precision": "float32", "compile": "off"}
    config = resolve(base, options)
    source = open_config(config, Reporter())
    return open_task(set_up(config, source, source.native_size, Reporter()))


def steps_of(stage, store, ranks, steps=4):
    """Terms and gradients, summed over ranks, of a few steps of the same stored set."""
    found = []
    for step in range(steps):
        store.zero_grad()
        terms = stage.terms(step)
        sum(terms.values()).backward()
        gradients = [each.grad for each in store.parameters()]
        values = torch.stack(list(terms.values())).detach()
        ranks.add([values, *gradients])
        found.append((dict(zip(terms, values.tolist(), strict=True)), gradients))
    return found


def assert_shared(world, steps_on):
    """Of every step the parts of `world` ranks are those of one, to the rounding of float32."""
    ((alone),) = on_ranks(1, steps_on)
    for found in on_ranks(world, steps_on):
        assert len(found) == len(alone) > 1
        for (terms, gradients), (want, wanted) in zip(found, alone, strict=True):
            assert terms == pytest.approx(want, rel=1e-5, abs=1e-7)
            for gradient, expected in zip(gradients, wanted, strict=True):
                assert float(expected.norm()) > 0
                assert float((gradient - expected).norm()) <= 1e-4 * float(expected.norm())


CASES = {
    "default": {},
    "few classes": {"training": {"class_batch": 7, "batch_per_class": 4}},
    "characteristic": {"losses": {"discrepancies": {"cf": 1.0, "moments": 0.5}}},
    "samples": {"losses": {"discrepancies": {"mmd": 1.0, "sliced_wasserstein": 1.0}}},
    "logit": {
        "losses": {"discrepancies": {"logit": 1.0}},
        "networks": {"random": 0, "trained": 2},
    },
    "gradient": {"losses": {"discrepancies": {"gradient": 1.0}}},
    "real batches": {"networks": {"real_batch": 8}, "training": {"class_batch": 9}},
    "other kinds": {"losses": {"intra_kind": "rbf", "inter_kind": "infonce", "intra": -1.0}},
    "hinge": {"losses": {"intra_kind": "hinge", "inter": 1.0, "margin": 9.0}},
    "batch norms": {
        "losses": {"discrepancies": {"batchnorm": 1.0}, "inter": 1.0},
        "networks": {"model": "convnet3bn", "random": 0, "trained": 1},
    },
}


@pytest.mark.parametrize("format", SPECS)
@pytest.mark.parametrize("world", [2, 4])
def test_matching_of_every_format(format, world):
    assert_shared_matching(world, {}, format)


@pytest.mark.parametrize("case", CASES)
def test_matching(case):
    assert_shared_matching(3, CASES[case], "generator")


def assert_shared_matching(world, options, format):
    task = open_digits(**options)
    bank = build_bank(task, build_networks(task))

    def steps_on(ranks):
        with BUILDING:
            store = build_store(SPECS[format], seed=2)
            stage = Match(task, store, build_networks(task), bank, 10, ranks)
        return steps_of(stage, store, ranks)

    assert_shared(world, steps_on)


def test_the_work_is_shared():
    """Every image is decoded by one rank."""
    task = open_digits(training={"class_batch": 7})
    bank = build_bank(task, build_networks(task))

    def decoded_on(ranks):
        seen = []
        with BUILDING:
            store = build_store(SPECS["pixels"], seed=2)
            stage = Match(task, store, build_networks(task), bank, 10, ranks)
        store.register_forward_hook(lambda _, inputs, __: seen.extend(inputs[0].tolist()))
        steps_of(stage, store, ranks, 1)
        return seen

    (alone,) = on_ranks(1, decoded_on)
    parts = on_ranks(3, decoded_on)
    assert sum(parts, []) == alone
    assert sorted(map(len, parts)) == [12, 12, 18]


@pytest.mark.parametrize("world", [2, 3])
def test_warm_start(world):
    task = open_digits(training={"warm_batch": 20})

    def steps_on(ranks):
        with BUILDING:
            store = build_store(SPECS["generator"], seed=2)
            stage = WarmStart(task, store, 10, ranks)
        return steps_of(stage, store, ranks)

    assert_shared(world, steps_on)


@pytest.mark.parametrize("model", ["convnet3", "convnet3bn"])
def test_trajectories(model):
    sizes = {"epochs": 2, "start": 1, "inner_steps": 3, "batch": 25}
    task = open_digits(trajectory=sizes, networks={"model": model})
    first = weights_of(experts.expert_network(task, 0))
    noise = torch.randn(9, len(first), generator=torch.Generator().manual_seed(0))
    expert = first + 0.02 * noise.cumsum(0)

    def steps_on(ranks):
        with BUILDING:
            store = build_store(SPECS["pixels"], seed=2)
            stage = Trajectory(task, store, [expert], ranks)
        return steps_of(stage, store, ranks, 2)

    assert_shared(3, steps_on)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "a step has 10 classes, too few for 11 ranks"),
        ({"training": {"class_batch": 3}}, "a step has 3 classes, too few for 11 ranks: give "),
        ({"training": {"warm_batch": 2}}, "a step has 10 classes"),
    ],
)
def test_more_ranks_than_classes_are_refused(options, words):
    task = open_digits(**options)
    with pytest.raises(InputError, match=words):
        check_enough(task.config, task.source, Ranks(0, 11))
    check_enough(task.config, task.source, Ranks(0, 2))
