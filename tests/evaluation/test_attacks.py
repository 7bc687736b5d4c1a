"""Attacks: as strong as a linear network allows exactly, never outside ball and box."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_line import call, refused
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gencond_fast.config import AttackConfig, EvaluateConfig
from gencond_fast.config.options import parse
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import open_source
from gencond_fast.data.stream import stream
from gencond_fast.errors import InputError
from gencond_fast.evaluation import attacks as attacks_module
from gencond_fast.evaluation.attacks import autoattack, fgsm, pgd, require_autoattack
from gencond_fast.evaluation.result import EvaluationResult, Row
from gencond_fast.evaluation.robustness import attacked_rows, robust_accuracies
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.rng import named_rng
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training.epochs import held
from gencond_fast.training.protocol import DC
from gencond_fast.training.train import accuracy, train_student

RUNTIME = choose_runtime("cpu", "float32", "off", 8)
NORMALISATION = Normalisation((0.3,), (0.4,))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # such small networks gain nothing from two


def pgd_of(logits, images, labels, *, epsilon, seed=0, steps=10):
    rng = named_rng(seed, "test")
    step = epsilon / 4
    return pgd(logits, images, labels, epsilon=epsilon, step_size=step, steps=steps, rng=rng)


def fgsm_of(logits, images, labels, *, epsilon, seed=0):
    return fgsm(logits, images, labels, epsilon=epsilon)


both = pytest.mark.parametrize("attack", [fgsm_of, pgd_of])


def named_rightly(logits, images: Tensor, labels: Tensor) -> Tensor:
    return logits(images).argmax(1) == labels


class Linear:
    """Logits W x + b of 0.3 ... 0.7 grey images, and how far each is from being named wrongly."""

    def __init__(self, seed: int, scale: float = 1.0, classes: int = 2) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.weights = scale * torch.randn(classes, 48, generator=rng)
        self.images = 0.3 + 0.4 * torch.rand(400, 3, 4, 4, generator=rng)
        centred = (self.images.flatten(1).double() - 0.5) @ self.weights.T.double()
        self.labels = centred.argmax(1)
        # the classes beyond the first two are for AutoAttack, and never near
        self.bias = torch.zeros(classes)
        self.bias[2:] = -1e3 * scale
        self.labels = (centred + self.bias).argmax(1)
        self.labels[:40] = 1 - self.labels[:40]  # some are wrong before any attack
        own, other = self.weights.double()[self.labels], self.weights.double()[1 - self.labels]
        flat = self.images.flatten(1).double() - 0.5
        self.distance = ((own - other) * flat).sum(1) / (own - other).abs().sum(1)

    def __call__(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.weights.T + self.bias


@both
@pytest.mark.parametrize("scale", [1.0, 30.0])  # the second is surer than float32 can tell
@pytest.mark.parametrize("epsilon", [0.005, 0.02, 0.1])
def test_a_linear_network_falls_exactly_where_it_can(attack, scale, epsilon):
    network = Linear(seed=3, scale=scale)
    changed = attack(network, network.images, network.labels, epsilon=epsilon)
    clear = (network.distance - epsilon).abs() > 1e-5  # farther from the rim than rounding
    robust = network.distance > epsilon
    if epsilon < 0.1:
        assert 20 < robust.sum() < 380  # there are both
    right = named_rightly(network, changed, network.labels)
    assert torch.equal(right[clear], robust[clear])
    assert clear.sum() > 380


@both
def test_nothing_within_the_ball_raises_a_linear_loss_further(attack):
    network = Linear(seed=4)
    changed = attack(network, network.images, network.labels, epsilon=0.03)
    reached = F.cross_entropy(network(changed).double(), network.labels, reduction="none")
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        corner = 0.03 * (torch.randint(2, network.images.shape, generator=rng) * 2 - 1)
        other = network(network.images + corner).double()
        loss = F.cross_entropy(other, network.labels, reduction="none")
        assert (loss <= reached + 1e-5).all()


@both
@given(
    shape=st.tuples(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 6)),
    epsilon=st.sampled_from([0.0, 1e-3, 8 / 255, 0.3, 1.0]),
    edge=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_images_stay_in_the_ball_and_in_the_box(attack, shape, epsilon, edge, seed):
    count, channels, side = shape
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, side, side, generator=rng)
    images = images.round() if edge else images
    weights = torch.randn(channels * side * side, 3, generator=rng)
    labels = torch.randint(3, (count,), generator=rng)
    before = images.clone()
    state = torch.get_rng_state()
    changed = attack(
        lambda x: (x.flatten(1) @ weights).sin() * 5, images, labels, epsilon=epsilon, seed=seed
    )
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert (changed - images).abs().max() <= epsilon + 1e-7
    assert changed.min() >= 0
    assert changed.max() <= 1
    if epsilon == 0:
        assert torch.equal(changed, images)


def test_a_step_is_the_sign_of_the_gradient_of_cross_entropy():
    rng = torch.Generator().manual_seed(1)
    weights = torch.randn(48, 5, generator=rng, dtype=torch.float64)
    images = 0.3 + 0.4 * torch.rand(30, 3, 4, 4, generator=rng, dtype=torch.float64)
    labels = torch.randint(5, (30,), generator=rng)

    def logits(x):
        return (x.flatten(1) @ weights).tanh() * 2

    point = images.clone().requires_grad_()
    F.cross_entropy(logits(point), labels).backward()
    changed = fgsm(logits, images, labels, epsilon=0.05)
    assert torch.allclose(changed - images, 0.05 * point.grad.sign(), atol=1e-12)


def test_the_box_is_no_hindrance_to_the_other_pixels():
    weights = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    images = torch.tensor([0.0, 0.5]).view(1, 1, 1, 2)  # the first cannot go down
    changed = fgsm(lambda x: x.flatten(1) @ weights, images, torch.tensor([0]), epsilon=0.1)
    assert torch.allclose(changed.flatten(), torch.tensor([0.0, 0.4]))


def test_without_steps_is_the_random_start_which_fills_the_ball():
    images = torch.full((200, 1, 8, 8), 0.5)
    labels = torch.zeros(200, dtype=torch.int64)
    start = pgd_of(lambda x: x.flatten(1), images, labels, epsilon=0.2, steps=0)
    moved = (start - images).flatten()
    assert abs(float(moved.mean())) < 0.005
    assert float(moved.std()) == pytest.approx(0.2 / 3**0.5, rel=0.02)  # uniform


# students


@pytest.fixture(scope="module")
def digits():
    return open_source("digits")


@pytest.fixture(scope="module")
def student(digits):
    torch.set_num_threads(1)
    (whole,) = stream(digits.train, channels=1, image_size=8, batch_size=len(digits.train))
    images = NORMALISATION(whole.images)
    network = build_classifier("convnet3", 1, 10, 8, seed=0, width=16)
    data = held(lambda epoch: images, whole.labels, DC)
    options = {"protocol": DC, "epochs": 12, "seed": 0, "runtime": RUNTIME}
    train_student(network, data, **options, advance=lambda n: None)
    return network


def shares(student, source, *, rows=None, seed=0, **options):
    rows = np.arange(len(source.val)) if rows is None else rows
    config = parse(AttackConfig, {"names": ["fgsm", "pgd"]} | options)
    return robust_accuracies(student, source, rows, 8, NORMALISATION, RUNTIME, config, seed=seed)


def test_attacks_on_a_trained_network(student, digits):
    clean = accuracy(student, digits, 8, NORMALISATION, RUNTIME)
    assert clean > 0.8
    found = shares(student, digits, epsilon=24)
    assert list(found) == ["clean", "fgsm", "pgd"]
    assert found["clean"] == clean
    assert found["pgd"] <= found["fgsm"] < clean - 0.2
    weaker = shares(student, digits, epsilon=8)
    assert found["pgd"] < weaker["pgd"] < clean
    assert found["fgsm"] < weaker["fgsm"] < clean
    assert not student.training


def test_a_ball_of_nothing_gives_the_clean_accuracy(student, digits):
    found = shares(student, digits, epsilon=0)
    assert found["fgsm"] == found["pgd"] == found["clean"]


def test_a_seed_fixes_the_attack(student, digits, monkeypatch):
    seen = []

    def noted(*arguments, **options):
        seen.append(pgd(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr("gencond_fast.evaluation.robustness.pgd", noted)
    rows = np.arange(20)
    results = []
    for seed, state in ((1, 0), (1, 1), (2, 0)):
        torch.manual_seed(state)  # the global state has no say
        results.append(shares(student, digits, rows=rows, seed=seed, steps=1))
    assert results[0] == results[1]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_the_options_reach_the_attack(student, digits, monkeypatch):
    seen = []

    def noted(*arguments, epsilon, step_size, steps, rng):
        seen.append((epsilon * 255, step_size * 255, steps))
        return arguments[1]

    monkeypatch.setattr("gencond_fast.evaluation.robustness.pgd", noted)
    rows = np.arange(3)
    shares(student, digits, rows=rows, names=["pgd"])
    shares(student, digits, rows=rows, names=["pgd"], epsilon=4, steps=7, step_size=3)
    assert np.allclose(seen, [(8, 2, 10), (4, 3, 7)])


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    images=st.integers(1, 80),
    seed=st.integers(0, 100),
)
def test_the_classes_are_attacked_evenly(counts, images, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(labels)
    rows = attacked_rows(labels, images)
    assert len(rows) == min(images, len(labels))
    assert (np.diff(rows) > 0).all()
    taken = np.bincount(labels[rows], minlength=len(counts))
    for mine, there in zip(taken, counts, strict=True):
        assert mine == there or mine >= taken.max() - 1  # all of it, or as many as any other
    assert np.array_equal(rows, attacked_rows(labels, images))


# AutoAttack


def test_autoattack_breaks_what_can_be_broken_of_a_linear_network():
    pytest.importorskip("pyautoattack")
    network = Linear(seed=5, classes=4)
    images, labels = network.images[:60], network.labels[:60]
    state = torch.get_rng_state()
    made = [autoattack(network, images, labels, epsilon=0.02, classes=4, seed=7) for _ in "12"]
    assert torch.equal(*made)
    assert torch.equal(torch.get_rng_state(), state)
    assert (made[0] - images).abs().max() <= 0.02 + 1e-7
    clear = (network.distance[:60] - 0.02).abs() > 1e-3
    right = named_rightly(network, made[0], labels)
    assert torch.equal(right[clear], (network.distance[:60] > 0.02)[clear])
    assert 5 < right.sum() < 50


@pytest.mark.slow
def test_autoattack_of_a_student_breaks_as_much_as_pgd_and_leaves_it_alone(student, digits):
    pytest.importorskip("pyautoattack")
    for each in student.parameters():
        each.grad = None
    before = [each.clone() for each in student.state_dict().values()]
    rows = np.arange(12)
    found = shares(student, digits, rows=rows, names=["pgd", "autoattack"], epsilon=24)
    assert 0 < found["autoattack"] <= found["pgd"] < found["clean"]  # so every part has run
    assert all(map(torch.equal, before, student.state_dict().values()))
    assert all(each.grad is None for each in student.parameters())


def test_autoattack_is_refused_where_it_cannot_be_run(monkeypatch):
    monkeypatch.setattr(attacks_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pyautoattack"):
        require_autoattack(10)
    monkeypatch.setattr(attacks_module, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="four classes or more .* not 3"):
        require_autoattack(3)
    require_autoattack(4)


# the command


def test_the_command_prints_and_writes_accuracies_under_attack(tiny_run, tmp_path):
    file = tmp_path / "result.json"
    arguments = ("evaluate", tiny_run, "--data", "digits", "--epochs", 2, "--seeds", 2, "--quiet")
    done = call(
        *(*arguments, "--device", "cpu", "--json", file, "--set", "attack.steps=3"),
        *("--attack", "fgsm", "--attack", "pgd", "--epsilon", 4, "--attack-images", 50),
    )
    assert done.code == 0, done.err
    assert "within 4/255" in done.out
    assert "pgd 3 steps of 1/255" in done.out
    assert "the same 50 images" in done.out
    plain = json.loads(file.read_text())
    assert plain["attack"] == {
        **{"norm": "Linf", "names": ["fgsm", "pgd"], "epsilon": 4.0, "steps": 3},
        **{"step_size": 1.0, "images": 50},
    }
    (row,) = plain["rows"]
    assert set(row["attacked"]) == {"clean", "fgsm", "pgd"}
    for name, values in row["attacked"].items():
        assert len(values) == 2
        assert row["attacked_mean"][name] == pytest.approx(np.mean(values))
        assert row["attacked_std"][name] == pytest.approx(np.std(values, ddof=1))
        assert f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}" in done.out
    read = EvaluationResult.from_dict(plain)
    assert json.loads(json.dumps(read.to_dict())) == plain


def test_results_from_before_there_were_attacks_are_read(tiny_run):
    row = Row("stored", "convnet3", 10, (0.5, 0.7), 1.5, 12)
    numbers = {"epochs": 1, "bytes": 1, "ipc": 1.0, "ipc_uint8": 4.0, "bits_per_class": 1.0}
    made = EvaluationResult(
        rows=(row,), protocol={}, **numbers, test_images=9, held_out=None, environment={}
    )
    plain = made.to_dict()
    del plain["attack"]
    for name in ("attacked", "attacked_mean", "attacked_std"):
        del plain["rows"][0][name]
    assert EvaluationResult.from_dict(plain) == made


def test_impossible_shares_are_no_result():
    row = Row("stored", "convnet3", 10, (0.5,), 1.5, 12, {"pgd": (1.5,)})
    numbers = {"epochs": 1, "bytes": 1, "ipc": 1.0, "ipc_uint8": 4.0, "bits_per_class": 1.0}
    made = EvaluationResult(
        rows=(row,), protocol={}, **numbers, test_images=9, held_out=None, environment={}
    )
    with pytest.raises(ValueError, match="no shares"):
        EvaluationResult.from_dict(made.to_dict())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epsilon", 4), "add --attack pgd"),
        (("--attack", "pgd", "--epsilon", -1), "attack.epsilon"),
        (("--attack", "pgd", "--epsilon", "nan"), "attack.epsilon"),
        (("--attack", "pgd", "--attack", "pgd"), "names one of them twice"),
        (("--attack", "pgd", "--attack-images", 0), "attack.images"),
    ],
)
def test_attacks_that_cannot_be(tiny_run, options, words):
    refused(call("evaluate", tiny_run, "--data", "digits", *options), words)


def test_a_missing_package_is_told_before_anything_is_trained(tiny_run, monkeypatch):
    monkeypatch.setattr(attacks_module, "find_spec", lambda name: None)
    done = call("evaluate", tiny_run, "--data", "digits", "--attack", "autoattack", "--quiet")
    refused(done, "pip install pyautoattack")


def test_the_defaults():
    attack = parse(EvaluateConfig, {"run": "r", "data": "d"}).attack
    assert (attack.names, attack.epsilon, attack.step, attack.images) == ((), 8.0, 2.0, 1000)
