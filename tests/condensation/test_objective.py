"""Forms of the objective and published systems: the terms of a step, without a whole run."""

from __future__ import annotations

import pytest

from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.match import Match
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.run import sized_metadata
from gencond_fast.condensation.sharing import deal_classes
from gencond_fast.condensation.task import open_config, open_task, set_up
from gencond_fast.config import METHODS
from gencond_fast.config.options import parse_assignments, resolve
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.store.stores import build_store
from gencond_fast.system.progress import Reporter

SMALL = {
    **{"data": "digits", "out": "run", "bytes": 8000, "precision": "float32", "compile": "off"},
    "networks": {
        **{"width": 8, "train_steps": 5, "random": 1, "trained": 2, "num_augmentations": 2},
        **{"train_images": 40, "real_per_class": 20, "sample_batch": 9},
    },
}


def match_terms(*assignments, method="gencond"):
    """The terms of four steps, each with the sum of its values, after a backward pass of each."""
    counts = {
        name: min(count, 2)
        for name, count in METHODS[method].get("networks", {}).items()
        if name in ("random", "trained", "interpolated")
    }
    layers = (SMALL, {"networks": counts}, parse_assignments(assignments))
    config = resolve(*layers, method=method)
    source = open_config(config, Reporter())
    task = open_task(set_up(config, source, source.native_size, Reporter()))
    networks = build_networks(task)
    spec = sized_metadata(config, source, task.image_size, task.normalisation).store
    store, partition = build_store(spec), deal_classes(task, spec, networks, Ranks())
    stage = Match(task, store, networks, build_bank(task, networks), 10, partition)
    found = {}
    for step in range(4):
        store.zero_grad()
        terms = stage.terms(step)
        sum(terms.values()).backward()
        assert all(each.grad is None or each.grad.isfinite().all() for each in store.parameters())
        for name, term in terms.items():
            found[name] = found.get(name, 0.0) + float(term.detach())
    return found


@pytest.mark.parametrize(
    ("assignments", "terms"),
    [
        ("", {"mean", "intra", "inter", "cross_entropy"}),
        ("losses.intra_kind=infonce", {"mean", "intra", "inter", "cross_entropy"}),
        ("losses.intra_kind=rbf", {"mean", "intra", "inter", "cross_entropy"}),
        ("losses.intra_kind=hinge", {"mean", "intra", "inter", "cross_entropy"}),
        ("losses.intra_kind=nearest; losses.intra=-0.1; losses.inter=0", {"mean", "intra"}),
        ("losses.inter_kind=infonce; losses.intra=0", {"mean", "inter"}),
        ("losses.inter_kind=hinge; losses.margin=100", {"mean", "intra", "inter"}),
        ("losses.discrepancies.moments=2", {"moments", "intra", "inter"}),
        ("losses.discrepancies={mean: 1, moments: 1}", {"mean", "moments", "intra", "inter"}),
        ("losses.intra=0; losses.inter=0; losses.cross_entropy=0", {"mean"}),
        ("training.class_batch=3; training.batch_per_class=5", {"mean", "intra", "inter"}),
    ],
)
def test_every_form_of_the_objective_has_its_terms(assignments, terms):
    found = match_terms(*(assignments.split("; ") if assignments else ()))
    # a trained network need not be drawn in these steps, and frequencies cost bits
    assert found.keys() - {"cross_entropy", "rate"} == terms - {"cross_entropy"}


@pytest.mark.parametrize(
    ("method", "terms"),
    [
        ("dm", {"mean"}),
        ("m3d", {"mmd"}),
        ("ncfm", {"cf"}),
        ("sre2l", {"batchnorm"}),
        ("dim", {"logit"}),
    ],
)
def test_every_method_minimises_its_own(method, terms):
    found = match_terms(method=method)
    assert found.keys() - {"cross_entropy", "rate"} == terms
    assert ("rate" in found) == (method == "dim")  # what is entropy-coded has a price
    assert ("cross_entropy" in found) == (method in ("ncfm", "sre2l"))


def test_gradients_may_be_added_to_other_discrepancies():
    found = match_terms(
        *("losses.discrepancies={gradient: 0.01, mmd: 1}", "networks.sample_batch=3"),
        *("training.class_batch=3", "training.batch_per_class=2"),
    )
    assert 0 < found["gradient"] < 4 * 0.01 * 2 * (3 * 8 + 10)  # a row is at most 2 away
    assert found["mmd"] > 0
