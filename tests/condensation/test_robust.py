"""Networks that are trained on adversarial examples, and the soft labels that they give."""

from __future__ import annotations

from dataclasses import replace

import torch
from command_line import TINY, call, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from test_interpolated import task_of
from torch import nn

from gencond_fast.condensation.adversarial_training import fgsm_example
from gencond_fast.condensation.networks import build_networks, plan_networks
from gencond_fast.config.options import read_yaml, resolve
from gencond_fast.evaluation.attacks import pgd
from gencond_fast.store import artifact


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 3),
    epsilon=st.floats(0.001, 0.5),
    seed=st.integers(0, 2**31),
)
def test_one_step_from_a_random_point_of_the_ball(batch, channels, epsilon, seed):
    """Of a linear network, whose slope is its weights wherever the step begins."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, channels, 4, 4, generator=rng, dtype=torch.float64)
    weights = torch.randn(channels, 4, 4, generator=rng, dtype=torch.float64)
    radius = epsilon * torch.rand(channels, 1, 1, generator=rng, dtype=torch.float64) + 1e-3
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    want = torch.minimum(radius * (2 * start - 1) + 1.25 * radius * weights.sign(), radius)
    want = images + torch.maximum(want, -radius)
    rng.manual_seed(seed)
    got = fgsm_example(lambda changed: (changed * weights).sum(), images, radius, rng)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-7)
    assert not got.requires_grad
    assert ((got - images).abs() <= radius * (1 + 1e-9)).all()


def withstanding(task, networks):
    """The share of images that the network in place names rightly under PGD, and without it."""
    images, labels = task.sample.images[:400].float() / 255, task.sample.labels[:400]
    network: nn.Module = networks.classifier

    def logits(batch):
        return network(task.normalisation(batch))

    rng = torch.Generator().manual_seed(0)
    options = {"epsilon": 16 / 255, "step_size": 4 / 255, "steps": 10, "rng": rng}
    changed = pgd(logits, images, labels, **options)
    return [float((logits(each).argmax(1) == labels).double().mean()) for each in (changed, images)]


def plans_of(task, epsilon):
    return [replace(plan, epsilon=epsilon) for plan in plan_networks(task.config.networks)]


def test_they_withstand_more(cache):
    found = {}
    task = task_of(random=0, trained=1, train_steps=250, width=16)
    for epsilon in (0.0, 24.0):
        networks = build_networks(task, plans_of(task, epsilon))
        networks.select(0)
        found[epsilon] = withstanding(task, networks)
    (plain, plain_clean), (robust, robust_clean) = found.values()
    assert min(plain_clean, robust_clean) > 0.8
    assert robust > plain + 0.1
    assert len(list((cache / "networks").glob("*.safetensors"))) == 2


def test_random_networks_are_the_same_ones(cache):
    task = task_of(random=1, trained=0)
    for epsilon in (0.0, 8.0):
        build_networks(task, plans_of(task, epsilon))
    assert len(list((cache / "networks").glob("*.safetensors"))) == 1


def test_the_objective_lies_over_preset_and_method():
    config = resolve({"data": "", "out": ""}, preset="accurate", objective="robust")
    assert (config.labels.epsilon, config.store.soft_labels) == (8, 10)


LABELLED = ("--set", "store.soft_labels=10", "--set", "store.label_bytes=8", "--bytes", "12KB")
LONGER = ("--set", "networks.train_steps=60")  # so that labels are of networks that know something
ROBUST = ("--objective", "robust")


def labels_of(run):
    made = artifact.load(run).store
    return made.targets(torch.arange(made.spec.samples)), made.images_to_storage()


def test_labels_are_of_robust_networks(cache, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other.safetensors"
    done = call("condense", "--data", "digits", *TINY, *LONGER, *LABELLED, "--out", run, *ROBUST)
    assert done.code == 0, done.err
    assert "label networks" in done.err
    assert read_yaml(run / "config.yaml")["labels"]["epsilon"] == 8.0
    labels, images = labels_of(run)
    again = ("relabel", run, "--data", "digits", "--out", other)
    # by the networks that were matched, and by the same ones trained against attacks
    away = {}
    for epsilon in (0, 8):
        assert call(*again, "--set", f"labels.epsilon={epsilon}").code == 0
        found, kept = labels_of(other)
        assert all(torch.equal(value, kept[name]) for name, value in images.items())
        away[epsilon] = float((labels - found).abs().max()) * 255.0
    # labels are kept in whole 255ths
    assert away[8] < 1.01, away
    assert away[0] > 10.0, away


def test_radii_that_cannot_be_are_refused(tmp_path):
    common = ("condense", "--data", "digits", "--out", tmp_path / "run", *TINY)
    refused(call(*common, "--set", "labels.epsilon=-1"), "labels.epsilon")
    teachers = ("--soft-labels", "3", "--set", "labels.source=full_data")
    refused(call(*common, *teachers, "--set", "labels.epsilon=2"), "labels.epsilon is 2, and ")
