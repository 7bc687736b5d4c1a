"""Steps whose images are in the network a few at a time: the same losses, less memory."""

from __future__ import annotations

import pytest
import torch
from test_shared_steps import CASES, SPECS, open_digits

from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.sharing import deal_classes
from gencond_fast.condensation.validate import check_choices
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.errors import InputError
from gencond_fast.store.stores import build_store


def made(micro_batch, format="generator", **options):
    """A stage, its stored set and its networks."""
    training = options.get("training", {}) | {"micro_batch": micro_batch}
    task = open_digits(**(options | {"training": training}))
    networks = build_networks(task)
    store = build_store(SPECS[format], seed=2)
    partition = deal_classes(task, store.spec, networks, Ranks())
    return Match(task, store, networks, build_bank(task, networks), 10, partition), store, networks


def step_of(stage, store, step):
    store.zero_grad()
    terms = stage.terms(step)
    sum(terms.values()).backward()
    values = {name: float(term.detach()) for name, term in terms.items()}
    return values, [each.grad for each in store.parameters()]


COUPLED = {"batch norms", "gradient"} | {case for case in CASES if "advers" in case}


@pytest.mark.parametrize("micro_batch", [1, 7, 59])
@pytest.mark.parametrize("format", SPECS)
def test_every_format(format, micro_batch):
    assert_same(made(None, format), made(micro_batch, format))


@pytest.mark.parametrize("case", sorted(set(CASES) - COUPLED))
def test_every_loss(case):
    assert_same(made(None, **CASES[case]), made(16, **CASES[case]))


def assert_same(whole, parts):
    """Convolutions of other batches round elsewhere."""
    for step in range(3):
        want, wanted = step_of(whole[0], whole[1], step)
        found, gradients = step_of(parts[0], parts[1], step)
        assert found == pytest.approx(want, rel=1e-5, abs=1e-7)
        largest = max(float(each.norm()) for each in wanted)
        for gradient, expected in zip(gradients, wanted, strict=True):
            away = float((gradient - expected).norm())
            assert away <= 1e-4 * float(expected.norm()) + 2e-6 * largest


def test_no_more_images_are_in_the_network_and_little_is_kept():
    def watch(micro_batch):
        stage, _, networks = made(micro_batch)
        kept, seen = [], []
        networks.classifier.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
        original = networks.observe
        networks.observe = lambda images: seen.append(len(images)) or original(images)

        def pack(tensor):
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            terms = stage.terms(0)
        sum(terms.values()).backward()
        return max(seen), sum(kept)

    most, kept = watch(None)
    assert most == 60
    few, less = watch(6)
    assert few == 6
    assert less < 0.2 * kept


@pytest.mark.parametrize("case", sorted(COUPLED))
def test_losses_of_all_images_together_are_refused(case):
    task = open_digits(**(CASES[case] | {"training": {"micro_batch": 8}}))
    with pytest.raises(InputError, match="looks at all images of a step together, and "):
        check_choices(task.config, task.source, task.image_size)
