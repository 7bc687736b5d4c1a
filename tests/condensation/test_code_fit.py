"""The fit of a generator's codes: it lowers error plus price, goes on, and is shared."""

from __future__ import annotations

import copy
import os
import signal

import pytest
import torch
from stopping import PRODUCT, checkpoints, condense, stop, without_speed
from test_shared_steps import BUILDING, on_ranks, open_digits

import gencond_fast as gf
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.code_fit import CodeFit
from gencond_fast.condensation.selection import choose_targets
from gencond_fast.condensation.shards import deal_out
from gencond_fast.condensation.stage import build_optimizer
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from gencond_fast.system.rng import named_rng

STEPS = 60
SPEC = StoreSpec("generator", 10, 20, 1, 8, 4, 1, 1, coefficients=24, stream_bytes=3200)
GENERATOR = ("--set", "store.format=generator", "--set", "training.coding_steps=60")


def targets_of(task, spec=SPEC):
    rows = torch.arange(len(task.sample.labels))
    return choose_targets(task.sample.images, task.sample.labels, spec.per_class, rows)


def started(images, spec=SPEC):
    store = build_store(spec, seed=3)
    store.init_from_images(images)
    return store


def fit(stage, store, partition, numbers):
    """Steps as the loop takes them."""
    optimizer = build_optimizer(store, stage)
    for number in numbers:
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * stage.lr_at(number)
        optimizer.zero_grad()
        sum(stage.terms(number).values()).backward()
        for name, each in store.named_parameters():
            if each.grad is None:
                each.grad = torch.zeros_like(each)
            if not (partition.divided and name in store.owned):
                partition.ranks.all_reduce([each.grad])
        optimizer.step()
        stage.after_step(number)


def loss_of(store, images, price):
    """Mean squared error of a sample, and the price of the bits of one."""
    with torch.no_grad():
        error = (store(torch.arange(len(images))) - images / 255.0).square().mean()
    return float(error) + price * 8 * store.coded_size() / len(images)


def test_it_lowers_error_plus_price():
    task = open_digits(store={"format": "generator"})
    images = targets_of(task)
    store = started(images)
    first = copy.deepcopy(store)
    partition = ClassPartition(SPEC, 10)
    stage = CodeFit(task, store, images, STEPS, partition)
    fit(stage, store, partition, range(STEPS))
    price = float(store.price)
    assert loss_of(store, images, price) < 0.9 * loss_of(first, images, price)
    assert torch.equal(store.codes, store.codes.round())
    assert not torch.equal(store.log_steps, first.log_steps)
    # a file of it has what the fit made, as far as the bytes hold it
    tensors = store.to_storage()
    assert tensors["stream"].shape == (SPEC.stream_bytes,)
    read = build_store(SPEC)
    read.load_storage(tensors)
    kept = read.codes.ne(0) & store.codes.ne(0)
    assert torch.equal(read.codes[kept], store.codes[kept])


def test_prices_move_changes_of_levels():
    """With bits that cost nothing no error is left to be bought; with dear ones few levels are."""
    task = open_digits(store={"format": "generator"})
    images = targets_of(task)
    found = {}
    for price in (1e-12, 1e-1):
        store = started(images)
        partition = ClassPartition(SPEC, 10)
        stage = CodeFit(task, store, images, STEPS, partition)
        store.update_price = lambda *_: None
        store.price.fill_(price)
        fit(stage, store, partition, range(STEPS))
        with torch.no_grad():
            error = float((store(torch.arange(200)) - images / 255.0).square().mean())
        found[price] = error, int(store.codes.count_nonzero())
    assert found[1e-12][0] < 0.5 * found[1e-1][0]
    assert found[1e-12][1] > 2 * found[1e-1][1]


@pytest.mark.parametrize(("world", "divided"), [(2, True), (3, True), (2, False)])
def test_several_ranks_agree_with_one(world, divided):
    task = open_digits(store={"format": "generator"})
    images = targets_of(task)
    state = started(images).state_dict()
    steps, total = 12, 40  # of which four have levels that are real numbers

    def fitted_on(ranks):
        with BUILDING:
            partition = ClassPartition(SPEC, 10, ranks=ranks, divided=divided)
            store = build_store(partition.kept_spec)
        deal_out(state, None, store, partition)
        with BUILDING:
            stage = CodeFit(task, store, partition.cut(images), total, partition)
        fit(stage, store, partition, range(steps))
        found = {
            name: partition.whole(value) if name in store.owned else value
            for name, value in store.state_dict().items()
        }
        return found, partition.divided, stage.state_dict()

    ((alone, _, want),) = on_ranks(1, fitted_on)
    parts = on_ranks(world, fitted_on)
    assert all(part[1] == divided for part in parts)
    torch.testing.assert_close(parts[0][2]["square"], want["square"], rtol=1e-3, atol=1e-9)
    for name, value in parts[0][0].items():
        away = (value - alone[name]).abs()
        close = away <= 1e-3 * float(alone[name].abs().max()) + 1e-6
        assert float(close.float().mean()) > 0.99, name
    if not divided:  # every rank has all
        for name, value in parts[1][0].items():
            assert torch.equal(value, parts[0][0][name]), name


def test_momenta_are_dealt_out_by_class():
    ((whole,),) = on_ranks(1, lambda ranks: [_owned_state(ranks)])
    parts = on_ranks(2, lambda ranks: [_owned_state(ranks)])
    assert torch.equal(whole, parts[0][0])


def _owned_state(ranks):
    """What the first rank writes of a state whose rows say where they belong."""
    from gencond_fast.condensation.shards import _stage_state

    with BUILDING:
        partition = ClassPartition(SPEC, 10, ranks=ranks)
    rows = torch.arange(200.0)
    cut = {"owned": {"count": partition.cut(rows)}, "square": rows}
    return _stage_state(cut, partition.whole, lambda each: each)["owned"]["count"]


@pytest.mark.parametrize("places", [("matching 3", "matching 30", "matching 75")])
def test_interrupted_it_goes_on_with_the_same_bits(tmp_path, places):
    """Where levels are real numbers, where they are whole, and after the fit."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert condense(whole, more=GENERATOR).code == 0
    for place in places:
        ended = stop(signal.SIGTERM, place, run, more=GENERATOR)
        assert ended.code == 143, ended.err
    assert condense(run, more=GENERATOR).code == 0
    assert without_speed(run) == without_speed(whole)
    assert [line["stage"] for line in without_speed(run)] == ["coding"] * 60 + ["match"] * 40
    assert checkpoints(run)[-1] == checkpoints(whole)[-1]
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    assert os.path.getsize(run / PRODUCT) <= 8000


def test_without_matching_the_file_holds_real_images(tmp_path):
    run = tmp_path / "run"
    assert (
        condense(
            run, more=(*GENERATOR[:2], "--set", "training.coding_steps=400", "--steps", 0)
        ).code
        == 0
    )
    made = gf.load(run)
    task = open_digits(store={"format": "generator"})
    real = targets_of(task, made.store.spec) / 255.0
    with torch.no_grad():
        stored = made.store(torch.arange(made.store.spec.samples))
    means = torch.stack([each.mean(0) for each in real.chunk(10)])
    means = means.repeat_interleave(made.store.spec.per_class, 0)
    assert (stored - real).square().mean() < 0.5 * (means - real).square().mean()
    assert os.path.getsize(run / PRODUCT) <= 8000


def test_noise_is_fitted_by_the_warm_start_as_before(tmp_path):
    run = tmp_path / "run"
    more = ("--set", "store.format=generator", "--set", "training.init=noise")
    assert condense(run, more=more).code == 0
    lines = without_speed(run)
    assert [line["stage"] for line in lines] == ["warm start"] * 20 + ["match"] * 20
    assert lines[19]["pixel"] < lines[0]["pixel"]
    assert os.path.getsize(run / PRODUCT) <= 8000


def test_the_samples_take_turns():
    task = open_digits(store={"format": "generator"})
    images = targets_of(task)
    stage = CodeFit(task, started(images), images, 50, ClassPartition(SPEC, 10))
    seen = torch.cat([stage._samples_of(step) for step in range(6)])  # of whole batches
    assert len(seen.unique()) == 192
    order = torch.randperm(200, generator=named_rng(0, "coding", 0))
    assert torch.equal(stage._samples_of(0), order[:32])
