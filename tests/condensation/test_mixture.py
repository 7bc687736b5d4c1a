"""Feature networks of several architectures in one run."""

from __future__ import annotations

import pytest
import torch
from command_line import call, metrics
from test_statistics import brute_force, open_task

from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks, plan_networks
from gencond_fast.config import NetworkConfig
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.rng import derive_seed

pytestmark = pytest.mark.usefixtures("cache")

OTHERS = "networks.mixture=[convnet3bn, alexnet]"


def test_random_and_trained_networks_take_turns_each_among_themselves():
    options = NetworkConfig(
        model="vit", mixture=("vgg11", "resnet18"), random=4, trained=2, interpolated=3
    )
    plans = plan_networks(options)
    assert [plan.model for plan in plans[:4]] == ["vit", "vgg11", "resnet18", "vit"]
    assert [plan.model for plan in plans[4:6]] == ["vit", "vgg11"]
    assert [(plan.end, plan.model) for plan in plans[6:]] == [
        (5, "vgg11"),
        (4, "vit"),
        (5, "vgg11"),
    ]


def test_each_has_the_weights_and_the_features_of_its_own_architecture():
    task = open_task(OTHERS, "networks.random=3", "networks.trained=0")
    networks = build_networks(task)
    images = torch.randn(3, 1, 8, 8)
    for index in (2, 0, 1, 2):  # whichever was in place before
        networks.select(index)
        plan = networks.plans[index]
        seed = derive_seed(0, "network", index)
        width = 8 if plan.model.startswith("convnet") else None
        alone = build_classifier(plan.model, 1, 10, 8, seed=seed, width=width).eval()
        with torch.no_grad():
            features = networks.features(images)
            assert features.shape == (3, networks.feature_dim(index))
            torch.testing.assert_close(features, alone.features(images))
            torch.testing.assert_close(networks.logits(features), alone(images))
    assert len(set(networks.feature_dims)) > 1


def test_the_tables_are_the_moments_of_all_features(ragged):
    task = open_task(OTHERS, "networks.random=2", "networks.trained=1", data=ragged)
    networks = build_networks(task)
    for index, entry in enumerate(build_bank(task, networks)):
        count, mean, m2 = brute_force(task, networks, index, entry.augmentations[3])
        assert mean.shape[1] == networks.feature_dim(index)
        scale = entry.scale.double()
        moments = entry.moments(3, torch.arange(task.num_classes))
        assert torch.equal(moments.count, count)
        torch.testing.assert_close(moments.mean.double() * scale, mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(moments.m2.double() * scale**2, m2, rtol=1e-3, atol=1e-3)


def test_networks_of_one_architecture_are_those_of_a_run_without_the_others(cache):
    build_networks(open_task("networks.random=1", "networks.trained=0"))
    before = set((cache / "networks").iterdir())
    build_networks(open_task(OTHERS, "networks.random=2", "networks.trained=0"))
    assert len(set((cache / "networks").iterdir()) - before) == 1  # the second one


@pytest.mark.slow
@pytest.mark.parametrize("names", [("mean", "cf", "mmd"), ("logit", "gradient", "moments")])
def test_a_run_with_every_kind_of_discrepancy(tmp_path, names):
    run = tmp_path / "run"
    chosen = [part for name in names for part in ("--discrepancy", name)]
    small = ("networks.width=8", "networks.train_steps=5", "networks.train_images=40")
    small += (
        "networks.real_per_class=20",
        "networks.sample_batch=3",
        "training.log_every=1",
        "training.batch_per_class=4",
    )
    small += (
        "compile=off",
        "networks.mixture=[convnet3@4, convnet4]",
        "networks.random=3",
        "networks.trained=3",
    )
    sets = [part for text in small for part in ("--set", text)]
    done = call(
        "condense",
        "--data",
        "digits",
        "--out",
        run,
        "--bytes",
        "8KB",
        "--steps",
        12,
        *chosen,
        *sets,
    )
    assert done.code == 0, done.err
    lines = metrics(run)
    assert len(lines) == 12
    assert {name for line in lines for name in names if name in line} == set(names)
