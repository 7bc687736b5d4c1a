"""Parts of a step on several ranks, each in a thread: together they are the step of one."""

from __future__ import annotations

import threading

import pytest
import torch

from gencond_fast.condensation import experts
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.shards import deal_out
from gencond_fast.condensation.sharing import check_enough, deal_classes
from gencond_fast.condensation.task import open_config, open_task, set_up
from gencond_fast.condensation.trajectory import Trajectory
from gencond_fast.condensation.warm_start import WarmStart
from gencond_fast.condensation.whole_split import weights_of
from gencond_fast.config.options import resolve
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from gencond_fast.system.progress import Reporter

BUILDING = threading.Lock()  # what is built draws from the generator of the process
SPECS = {
    "pixels": StoreSpec("pixels", 10, 6, 1, 8, 1, 1, 8),
    "generator": StoreSpec("generator", 10, 6, 1, 8, 8, 1, 1, coefficients=20, stream_bytes=4000),
    "dct": StoreSpec("dct", 10, 6, 1, 8, 1, 1, 1, coefficients=20, stream_bytes=400),
}


class ThreadRanks(Ranks):
    """One of several ranks in this process, whose sums go through a list that they share."""

    def __init__(self, rank, world, barrier, given):
        super().__init__(rank, world)
        self._barrier, self._given = barrier, given

    def all_reduce(self, tensors):
        for each, given in zip(tensors, self._exchange(tensors), strict=True):
            each.copy_(torch.stack(given).sum(0))

    def gather(self, tensor):
        return self._exchange([tensor])[0] if self.is_main else self._exchange([tensor]) and []

    def broadcast(self, tensor):
        if not self.is_main:
            assert tensor.is_meta
            tensor = torch.zeros_like(tensor, device="cpu")
        return self._exchange([tensor])[0][0].clone()

    def broadcast_state(self, values):
        self._given[self.rank] = values
        self._barrier.wait(20)
        found = self._given[0]
        self._barrier.wait(20)
        return found

    def _exchange(self, tensors):
        """Of each tensor what every rank has."""
        self._given[self.rank] = [each.clone() for each in tensors]
        self._barrier.wait(20)
        found = list(zip(*self._given, strict=True))
        self._barrier.wait(20)
        return found


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
    errors = [each for each in found if isinstance(each, BaseException)]
    for error in sorted(errors, key=lambda each: isinstance(each, threading.BrokenBarrierError)):
        raise error  # before what it did to the others
    return found


def open_digits(**options):
    small = {"width": 8, "train_steps": 5, "random": 1, "trained": 1, "num_augmentations": 3}
    small |= {"real_per_class": 20, "frequencies": 7, "sample_batch": 9}
    options["networks"] = small | options.get("networks", {})
    base = {"data": "digits", "out": "", "precision": "float32", "compile": "off"}
    config = resolve(base, options)
    source = open_config(config, Reporter())
    return open_task(set_up(config, source, source.native_size, Reporter()))


def kept_by(partition):
    """What a rank keeps of the same stored set, one in which no gradient cancels or stops."""
    with BUILDING:
        store = build_store(partition.kept_spec)
        whole = build_store(partition.spec, seed=8).state_dict()
        rng = torch.Generator().manual_seed(8)
        for name, value in whole.items():
            if name.endswith(".value") and not value.any():  # layers that start at zero
                value.normal_(0.0, 0.1, generator=rng)
    deal_out(whole, None, store, partition)
    return store


def steps_of(stage, store, partition, steps=4):
    """Terms and gradients of the whole stored set in a few steps, which change nothing."""
    found = []
    for step in range(steps):
        store.zero_grad()
        terms = stage.terms(step)
        if (total := sum(terms.values())).requires_grad:
            total.backward()
        values = torch.stack(list(terms.values())).detach()
        partition.ranks.all_reduce([values])
        gradients = {}
        for name, each in store.named_parameters():
            # a parameter of which a rank keeps its own rows has its whole gradient there
            kept = partition.divided and name in store.owned
            gradient = torch.zeros_like(each) if each.grad is None else each.grad
            if not kept:
                partition.ranks.all_reduce([gradient])
            gradients[name] = partition.whole(gradient) if kept else gradient
        found.append((dict(zip(terms, values.tolist(), strict=True)), gradients))
    return found


def assert_shared(world, steps_on, divided=True, noise=1.0, still=()):
    """Of every step the parts of `world` ranks are those of one, to the rounding of float32.

    Adam turns gradients that are rounding alone into whole steps, so what learns by it on the way
    has `noise` times as much. Parameters whose names start with `still` have no gradient.
    """
    ((_, alone),) = on_ranks(1, steps_on)
    parts = on_ranks(world, steps_on)
    assert all(partition.divided == divided for partition, _ in parts)
    classes = sorted(each for partition, _ in parts for each in partition.kept.tolist())
    assert classes == sorted(list(range(10)) * (1 if divided else world))
    assert len(parts[0][1]) == len(alone) > 1
    for (terms, gradients), (want, wanted) in zip(parts[0][1], alone, strict=True):
        assert terms == pytest.approx(want, rel=noise * 1e-5, abs=noise * 1e-7)
        assert gradients.keys() == wanted.keys()
        for name, expected in wanted.items():
            size = float(expected.norm())
            assert (size > 0) != name.startswith(still)
            assert float((gradients[name] - expected).norm()) <= noise * 1e-4 * size


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
    "mixture": {"networks": {"mixture": ["convnet3bn", "convnet3@4"], "random": 3, "width": 12}},
    "adversarial": {"losses": {"adversarial": 1.0}, "training": {"class_batch": 7}},
    "adversary of batch norms": {
        "losses": {"adversarial": 1.0},
        "networks": {"model": "convnet3bn"},
    },
    "batch norms and adversarial": {
        "losses": {"discrepancies": {"batchnorm": 1.0}, "adversarial": 1.0},
        "networks": {"model": "convnet3bn", "random": 0, "trained": 1},
    },
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
    assert_shared_matching(3, CASES[case], "generator", divided=not case.startswith("batch norms"))


def assert_shared_matching(world, options, format, divided=True):
    task = open_digits(**options)
    bank = build_bank(task, build_networks(task))

    def steps_on(ranks):
        with BUILDING:
            networks = build_networks(task)
            partition = deal_classes(task, SPECS[format], networks, ranks)
        store = kept_by(partition)
        with BUILDING:
            stage = Match(task, store, networks, bank, 10, partition)
        return partition, steps_of(stage, store, partition)

    adversarial = bool(task.config.losses.adversarial)
    assert_shared(world, steps_on, divided, noise=500.0 if adversarial else 1.0)


def test_the_work_is_shared():
    """Every image of a step is decoded by one rank."""
    task = open_digits(training={"class_batch": 7})
    bank = build_bank(task, build_networks(task))

    def decoded_on(ranks):
        seen = []
        with BUILDING:
            networks = build_networks(task)
            partition = deal_classes(task, SPECS["pixels"], networks, ranks)
        store = kept_by(partition)
        with BUILDING:
            stage = Match(task, store, networks, bank, 10, partition)

        def see(_, inputs, __):
            classes = partition.kept[inputs[0] // 6]
            seen.extend((6 * classes + inputs[0] % 6).tolist())

        store.register_forward_hook(see)
        steps_of(stage, store, partition, 1)
        return seen

    (alone,) = on_ranks(1, decoded_on)
    parts = on_ranks(3, decoded_on)
    assert sum(parts, []) == alone
    assert sorted(map(len, parts)) == [12, 12, 18]


@pytest.mark.parametrize("format", SPECS)
@pytest.mark.parametrize(("world", "batch"), [(2, 20), (3, 20), (3, 2)])
def test_warm_start(world, batch, format):
    task = open_digits(training={"warm_batch_size": batch})

    def steps_on(ranks):
        with BUILDING:
            partition = ClassPartition(SPECS[format], 10, ranks=ranks)
        store = kept_by(partition)
        with BUILDING:
            stage = WarmStart(task, store, torch.arange(len(task.sample.labels)), 10, partition)
        return partition, steps_of(stage, store, partition)

    # no bits have a price there
    assert_shared(world, steps_on, still=("context.",))


@pytest.mark.parametrize(
    ("model", "format", "batch"),
    # with a batch of two a rank of three has nothing of an inner step
    [("convnet3", "pixels", 25), ("convnet3", "dct", 2), ("convnet3bn", "pixels", 25)],
)
def test_trajectories(model, format, batch):
    sizes = {"steps": 4, "epochs": 2, "max_start_epoch": 1, "inner_steps": 3, "batch_size": batch}
    task = open_digits(trajectory=sizes, networks={"model": model})
    first = weights_of(experts.expert_network(task, 0))
    noise = torch.randn(9, len(first), generator=torch.Generator().manual_seed(0))
    expert = first + 0.02 * noise.cumsum(0)

    def steps_on(ranks):
        with BUILDING:
            partition = deal_classes(task, SPECS[format], build_networks(task), ranks)
        store = kept_by(partition)
        with BUILDING:
            stage = Trajectory(task, store, [expert], partition)
        return partition, steps_of(stage, store, partition, 2)

    assert_shared(3, steps_on, divided=model == "convnet3")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "a step has 10 classes, too few for 11 ranks"),
        ({"training": {"class_batch": 3}}, "a step has 3 classes, too few for 11 ranks: give "),
        ({"training": {"warm_batch_size": 2}}, "a step has 10 classes"),
    ],
)
def test_more_ranks_than_classes_are_refused(options, words):
    task = open_digits(**options)
    with pytest.raises(InputError, match=words):
        check_enough(task.config, task.source, Ranks(0, 11))
    check_enough(task.config, task.source, Ranks(0, 2))
