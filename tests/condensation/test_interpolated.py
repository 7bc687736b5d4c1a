"""Networks between initial and trained weights, and what goes into the batch norms of networks."""

from __future__ import annotations

import pytest
import torch
from test_statistics import files

from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks, plan_networks
from gencond_fast.condensation.task import open_config, open_task, set_up
from gencond_fast.config import NetworkConfig
from gencond_fast.config.options import resolve
from gencond_fast.system.progress import Reporter

pytestmark = pytest.mark.usefixtures("cache")


def task_of(compiled="off", **networks):
    losses = networks.pop("discrepancies", {"mean": 1.0})
    small = {"width": 8, "train_steps": 10, "real_per_class": 20, "num_augmentations": 2}
    layer = {"networks": small | networks, "losses": {"discrepancies": losses}}
    base = {"data": "digits", "out": "", "precision": "float32", "compile": compiled}
    config = resolve(base, layer)
    source = open_config(config, Reporter())
    return open_task(set_up(config, source, source.native_size, Reporter()))


def test_shares_cover_the_way_and_take_turns_at_the_trained_networks():
    plans = plan_networks(NetworkConfig(random=1, trained=2, interpolated=4))
    assert [plan.index for plan in plans] == list(range(7))
    assert [plan.share for plan in plans[3:]] == [0.125, 0.375, 0.625, 0.875]
    assert [plan.end for plan in plans] == [None, None, None, 2, 1, 2, 1]
    assert [plan.trained for plan in plans] == [False, True, True, False, False, True, True]


def test_they_lie_on_the_straight_way_and_are_cached(cache):
    task = task_of(random=0, trained=1, interpolated=3)
    networks = build_networks(task)
    trained, *between = networks._weights
    random = build_networks(task_of(random=1, trained=0))._weights[0]  # of the same index
    for plan, weights in zip(networks.plans[1:], between, strict=True):
        for name, weight in weights.items():
            want = random[name].double() * (1 - plan.share) + trained[name].double() * plan.share
            torch.testing.assert_close(weight.double(), want, rtol=1e-6, atol=1e-6)
    kept = {path: path.stat().st_mtime_ns for path in (cache / "networks").glob("*.safetensors")}
    assert len(kept) == 5
    again = build_networks(task)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    for one, other in zip(networks._weights, again._weights, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_each_has_a_table_of_its_own(cache):
    task = task_of(random=0, trained=1, interpolated=2)
    entries = build_bank(task, build_networks(task))
    assert len(entries) == 3
    assert len(files(cache)) == 3
    assert not torch.equal(entries[1].mean, entries[2].mean)


@pytest.mark.parametrize("model", ["convnet3bn", "resnet18"])
def test_what_goes_into_batch_norms_comes_in_their_order(model):
    shape = {} if model == "resnet18" else {"width": 8}
    task = task_of(model=model, random=1, trained=0, discrepancies={"batchnorm": 1.0}, **shape)
    networks = build_networks(task)
    networks.select(0)
    images = torch.randn(4, 1, 8, 8)
    features, normed = networks.observe(images)
    torch.testing.assert_close(features, networks.classifier.features(images))
    norms = [m for m in networks.classifier.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [x.shape[1] for x in normed] == [norm.num_features for norm in norms]
    outputs = []
    hooks = [m.register_forward_hook(lambda m, i, o: outputs.append((m, i[0]))) for m in norms]
    networks.classifier(images)
    for hook in hooks:
        hook.remove()
    assert [m for m, _ in outputs] == norms
    assert all(torch.equal(x, seen) for x, (_, seen) in zip(normed, outputs, strict=True))
    assert build_networks(task_of(random=1, trained=0)).observe(images)[1] == ()


@pytest.mark.slow
def test_those_from_half_way_on_classify(cache):
    task = task_of(random=0, trained=1, interpolated=8, train_steps=80, width=16)
    networks = build_networks(task)
    images = task.normalisation(task.sample.images)
    accuracy = []
    for place in range(len(networks)):
        networks.select(place)
        with torch.no_grad():
            found = networks.classifier(images).argmax(1)
        accuracy.append(float((found == task.sample.labels).double().mean()))
    assert accuracy[0] > 0.9
    for plan, value in zip(networks.plans[1:], accuracy[1:], strict=True):
        assert not plan.trained or value > accuracy[0] - 0.05
    assert accuracy[1] < 0.6  # the nearest to the start


@pytest.mark.slow
def test_what_goes_into_batch_norms_is_the_same_compiled():
    found = []
    images = torch.randn(4, 1, 8, 8)
    for switch in ("off", "on"):
        task = task_of(
            switch, model="convnet3bn", random=1, trained=0, discrepancies={"batchnorm": 1.0}
        )
        networks = build_networks(task)
        networks.select(0)
        at = images.clone().requires_grad_()
        features, normed = networks.observe(at)
        (features.sum() + sum(x.square().sum() for x in normed)).backward()
        found.append((features.detach(), *(x.detach() for x in normed), at.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
