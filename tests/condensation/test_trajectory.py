"""Trajectory matching, against plain SGD and its derivatives in float64."""

from __future__ import annotations

import signal

import pytest
import torch
import torch.nn.functional as F
from command_line import TINY, call, metrics, refused
from stopping import PRODUCT, condense, stop, without_speed
from torch.func import functional_call

from gencond_fast.condensation import experts, trajectory
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.task import open_config, open_task, set_up
from gencond_fast.condensation.trajectory import Trajectory
from gencond_fast.condensation.whole_split import weights_of
from gencond_fast.config import TrajectoryConfig
from gencond_fast.config.options import resolve
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from gencond_fast.system.progress import Reporter
from gencond_fast.training.trainer import Trainer

RATE = 0.05


def open_digits(**options):
    config = resolve(
        {"data": "digits", "out": "", "precision": "float32", "compile": "off"},
        {
            "networks": {"width": 8},
            "trajectory": {"epochs": 2, "max_start_epoch": 1, "experts": 2} | options,
        },
    )
    source = open_config(config, Reporter())
    return open_task(set_up(config, source, source.native_size, Reporter()))


def section(task):
    """Weights, and some that are near them."""
    first = weights_of(experts.expert_network(task, 0))
    noise = torch.randn(len(first), generator=torch.Generator().manual_seed(0))
    return first, first + 0.02 * noise


@pytest.fixture
def stage_of(monkeypatch):
    """A stage whose every inner step sees all samples as they are, and its stored set."""
    monkeypatch.setattr(trajectory, "augment", lambda images, transform: images)

    def make(inner_steps):
        sizes = {"epochs": 3, "parts": 1, "max_start_epoch": 1, "span": 2}
        task = open_digits(inner_steps=inner_steps, batch_size=10**6, inner_lr=RATE, **sizes)
        spec = StoreSpec("pixels", 10, 4, 1, 8, 1, 1, 8)
        store = build_store(spec, seed=3)
        first, target = section(task)
        # a section starts at 0 or 1 and is two parts long: each is the same
        sections = [torch.stack([first, first, target, target])]
        stage = Trajectory(task, store, sections, ClassPartition(spec, 10))
        return task, stage, store, first, target

    return make


def by_hand(task, store, first, target, inner_steps):
    """In float64: the loss, and two forms of its gradient in the images.

    The one is what the definition says, with a finite difference, the other one its limit, by
    double backward passes.
    """
    network = experts.expert_network(task, 0).double()
    names = [name for name, _ in network.named_parameters()]
    shapes = [each.shape for each in network.parameters()]
    samples = torch.arange(store.spec.samples)
    images = task.normalisation(store(samples).detach().float()).double().requires_grad_()
    labels = samples // store.spec.per_class

    def loss_at(weights):
        parts = weights.split([shape.numel() for shape in shapes])
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(functional_call(network, named, images), labels)

    walked, slopes = [first.double()], []
    for _ in range(inner_steps):
        leaf = walked[-1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss_at(leaf), leaf, create_graph=True)
        slopes.append(slope)
        walked.append(walked[-1] - RATE * slope.detach())
    missing, length = walked.pop() - target, (first - target).double().square().sum()
    scale = -2 * RATE / length
    limit = sum((slope * missing).sum() for slope in slopes)
    difference = sum(  # over h = 0.5 on both sides
        loss_at(weights + 0.5 * missing) - loss_at(weights - 0.5 * missing) for weights in walked
    )
    gradients = [torch.autograd.grad(scale * each, images)[0] for each in (difference, limit)]
    return float(missing.square().sum() / length), *gradients


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_value_and_gradient(stage_of, inner_steps):
    task, stage, store, first, target = stage_of(inner_steps)
    term = stage.terms(0)["trajectory"]
    value, difference, limit = by_hand(task, store, first, target, inner_steps)
    assert float(term.detach()) == pytest.approx(value, rel=1e-4)
    parameters = [each for each in store.parameters() if each.requires_grad]
    images = task.normalisation(store(torch.arange(store.spec.samples)).float())

    def in_parameters(gradient):
        found = torch.autograd.grad(images, parameters, gradient.float(), retain_graph=True)
        return torch.cat([each.flatten() for each in found])

    found = torch.cat([each.flatten() for each in torch.autograd.grad(term, parameters)])
    difference, limit = in_parameters(difference), in_parameters(limit)
    assert float((found - difference).norm() / difference.norm()) < 0.02
    assert float(F.cosine_similarity(found, limit, dim=0)) > 0.5


def test_it_brings_training_nearer(stage_of):
    _, stage, store, _, _ = stage_of(3)
    optimizer = torch.optim.Adam(store.parameters(), lr=0.02)
    values = []
    for step in range(15):
        term = stage.terms(step)["trajectory"]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        values.append(float(term.detach()))
    assert values[-1] < 0.97 * values[0]


@pytest.mark.parametrize(("classes", "per_class", "batch"), [(10, 4, 12), (3, 7, 10), (5, 1, 4)])
def test_samples_take_turns(classes, per_class, batch):
    task = open_digits(batch_size=batch, inner_steps=5)
    spec = StoreSpec("pixels", classes, per_class, 1, 8, 1, 1, 8)
    stage = Trajectory(task, build_store(spec, seed=0), [], ClassPartition(spec, classes))
    drawn = stage._draw_samples(torch.Generator().manual_seed(1))
    assert drawn.shape == (5, min(batch, spec.samples))
    counts = torch.bincount(drawn.flatten(), minlength=spec.samples)
    assert int(counts.max() - counts.min()) <= 1
    for row in drawn[: spec.samples // drawn.shape[1]]:
        each = torch.bincount(row // per_class, minlength=classes)
        assert int(each.max() - each.min()) <= 1 + (per_class * classes % batch > 0)


def test_experts_are_the_weights_of_a_training(monkeypatch):
    task = open_digits(epochs=8, parts=3)
    made = experts.build_experts(task)
    assert len(made) == 2
    assert not torch.equal(made[0], made[1])
    network = experts.expert_network(task, 1)
    for expert in made:
        assert expert.shape == (1 + 8 * 3, weights_of(network).numel())
    assert torch.equal(made[1][0], weights_of(network))
    monkeypatch.setattr(experts, "train_on_all", None)  # what is cached is not trained again
    again = experts.build_experts(task)
    assert all(torch.equal(*pair) for pair in zip(made, again, strict=True))
    losses = [loss_of(task, network, weights) for weights in (made[1][0], made[1][-1])]
    assert losses[1] < 0.5 * losses[0]


def loss_of(task, network, weights):
    torch.nn.utils.vector_to_parameters(weights, list(network.parameters()))
    with torch.no_grad():
        images = task.normalisation(task.sample.images.float())
        return float(F.cross_entropy(network(images), task.sample.labels))


MORE = (
    *(
        "--set",
        "trajectory.steps=6",
        "--set",
        "trajectory.epochs=2",
        "--set",
        "trajectory.max_start_epoch=1",
    ),
    *("--set", "trajectory.experts=1"),
)


def test_from_the_command_line(tmp_path):
    out = tmp_path / "run"
    done = call("condense", "--data", "digits", "--out", out, *TINY, *MORE)
    assert done.code == 0, done.err
    lines = [line for line in metrics(out) if line["stage"] == "trajectory"]
    assert [line["step"] for line in lines] == [46]
    assert all(line["trajectory"] > 0 and line["rate"] > 0 for line in lines)
    assert (out / "condensed.safetensors").stat().st_size <= 8000


def test_interrupted_it_goes_on_with_the_same_bits(tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert condense(whole, more=MORE).code == 0
    assert stop(signal.SIGTERM, "matching 43", run, more=MORE).code == 143
    assert condense(run, more=MORE).code == 0
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    assert without_speed(run) == without_speed(whole)


def test_starts_behind_the_end_are_refused(tmp_path):
    more = ("--set", "trajectory.epochs=4")
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", *TINY, *more)
    refused(done, "make trajectory.epochs larger")


@pytest.mark.parametrize(
    ("images", "parts"), [(1000, 4), (12_288, 4), (45_000, 15), (50_000, 16), (1_281_167, 64)]
)
def test_snapshots_lie_as_many_steps_apart_in_any_data(images, parts):
    assert TrajectoryConfig().parts_of(images) == parts
    assert TrajectoryConfig(parts=7).parts_of(images) == 7


def test_more_parts_than_steps_are_refused_before_anything_is_written(tmp_path):
    more = ("--set", "trajectory.parts=13", "--set", "trajectory.steps=1")
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", *TINY, *more)
    refused(done, "set trajectory.parts=12 or less")
    assert not (tmp_path / "run").exists()


def test_an_expert_goes_on_after_the_last_whole_epoch(tmp_path, monkeypatch):
    def rows(cache):
        monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / cache))
        (expert,) = experts.build_experts(open_digits(epochs=3, experts=1))
        return expert

    whole = rows("whole")
    run, trained = Trainer.run_epoch, []

    def stopping(self, epoch, *rest):
        if trained == [0, 1]:
            trained.append("stop")
            raise KeyboardInterrupt
        trained.append(epoch)
        return run(self, epoch, *rest)

    monkeypatch.setattr(Trainer, "run_epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        rows("stopped")
    assert torch.equal(rows("stopped"), whole)
    assert trained == [0, 1, "stop", 2]
