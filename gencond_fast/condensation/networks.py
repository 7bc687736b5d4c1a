"""Feature networks: random ones, ones trained on real images for a while, and ones between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.condensation.adversarial_training import fgsm_example
from gencond_fast.condensation.task import Setting, Task
from gencond_fast.config import NetworkConfig
from gencond_fast.data.augment import augment, draw_from_policy
from gencond_fast.discrepancy import required
from gencond_fast.errors import InputError
from gencond_fast.models.classifier import Classifier, batch_norms
from gencond_fast.models.registry import model_identity
from gencond_fast.system.cache import (
    cache_directory,
    cache_key,
    exclusive,
    is_whole,
    load_tensors,
    save_tensors,
)
from gencond_fast.system.rng import named_rng
from gencond_fast.system.upload import upload

_BATCH = 128
_RATE = 2e-3
_DECAY = 1e-2
_CLASSIFIES = 0.5  # the share of the way to trained weights from which on a network can classify
_WAITING = "another process trains the same feature networks: waiting for it"


@dataclass(frozen=True)
class NetworkPlan:
    """One feature network.

    Attributes:
        index: its place among the networks; decides on its initial weights and augmentations.
        steps: of training.
        model: its architecture.
        share: how far its weights lie on the straight way from initial (0) to trained ones (1).
        end: the index of the trained network at the end of that way; None where it is this one.
        epsilon: radius, in 255ths of a pixel's range, of the adversarial examples that it is
            trained on; 0 trains it on the images themselves.
    """

    index: int
    steps: int
    model: str
    share: float = 1.0
    end: int | None = None
    epsilon: float = 0.0

    @property
    def trained(self) -> bool:
        """Whether it has seen enough of real images to classify."""
        return self.steps > 0 and self.share >= _CLASSIFIES


def plan_networks(options: NetworkConfig) -> list[NetworkPlan]:
    """Random networks first, then trained ones, then those between.

    Random ones take turns at the architectures, and so do trained ones. Steps of training are
    spaced evenly in logarithm. The shares of those between are spaced evenly over 0 ... 1, as if
    drawn uniformly (2502.20653), and they take turns at the trained networks.
    """
    models = options.models
    plans = [NetworkPlan(i, 0, models[i % len(models)]) for i in range(options.random)]
    for place in range(options.trained):
        share = 10.0 ** (place / max(options.trained - 1, 1) - 1.0) if options.trained > 1 else 1.0
        steps = max(1, round(options.train_steps * share))
        plans.append(NetworkPlan(options.random + place, steps, models[place % len(models)]))
    ends = plans[options.random :][::-1]
    for place in range(options.interpolated):
        share, end = (place + 0.5) / options.interpolated, ends[place % len(ends)]
        plans.append(NetworkPlan(len(plans), end.steps, end.model, share, end.index))
    return plans


class _Resident:
    """The place of all networks of one architecture."""

    def __init__(self, task: Task, network: Classifier) -> None:
        self.network = task.runtime.place(network).requires_grad_(False).eval()
        losses = required(task.config.losses.discrepancies)
        observed = any(each.needs_batchnorm for each in losses)
        norms = batch_norms(self.network) if observed else []
        self.forward = task.runtime.compile(_observing(self.network, norms))
        self._state = self.network.state_dict()

    def laid_out(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a network in the order, strides and dtypes of those in place."""
        return {name: torch.empty_like(w).copy_(weights[name]) for name, w in self._state.items()}

    def take(self, weights: dict[str, Tensor]) -> None:
        """Copies weights, laid out, to their place: one kernel for all."""
        with torch.no_grad():
            torch._foreach_copy_(list(self._state.values()), list(weights.values()))


class FeatureNetworks:
    """Many networks, of which one at a time is in place.

    Networks of one architecture share one compiled graph: choosing one copies its weights, which
    are few, and nothing is compiled again.
    """

    def __init__(self, task: Task, plans: list[NetworkPlan], weights: list[dict[str, Tensor]]):
        self.plans = plans
        models = {plan.model: plan for plan in plans}  # any of them: weights come later
        self._residents = {
            model: _Resident(task, _build(task, plan)) for model, plan in models.items()
        }
        self._weights = [
            self._residents[plan.model].laid_out(each)
            for plan, each in zip(plans, weights, strict=True)
        ]
        self._in_place = self._residents[plans[0].model]
        self._autocast = task.runtime.autocast
        self._arrange = task.runtime.arrange

    def __len__(self) -> int:
        return len(self.plans)

    def select(self, index: int) -> None:
        """Puts network `index` in place for the calls that follow."""
        self._in_place = self._residents[self.plans[index].model]
        self._in_place.take(self._weights[index])

    def feature_dim(self, index: int) -> int:
        """D of network `index`."""
        return self._residents[self.plans[index].model].network.feature_dim

    @property
    def feature_dims(self) -> tuple[int, ...]:
        """D of each architecture."""
        return tuple(each.network.feature_dim for each in self._residents.values())

    def features(self, images: Tensor) -> Tensor:
        """Embeds normalised images [B, channels, S, S] as float32 [B, D]."""
        return self.observe(images)[0]

    def observe(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Features, and what went into each batch norm where a discrepancy needs it."""
        with self._autocast():
            features, normed = self._in_place.forward(self._arrange(images))
        return features.float(), normed

    @property
    def classifier(self) -> Classifier:
        """The network in place."""
        return self._in_place.network

    def logits(self, features: Tensor) -> Tensor:
        """Class scores [B, C] of embeddings; meaningful for trained networks."""
        return self._in_place.network.classifier(features)


def network_key(task: Setting, plan: NetworkPlan) -> str:
    """Names the weights of one network in the cache."""
    options = task.config.networks
    return cache_key(
        kind="network",
        data=task.identity,
        model=model_identity(plan.model),
        width=options.width,
        index=plan.index,
        steps=plan.steps,
        operations=options.augmentation,
        recipe=(_BATCH, _RATE, _DECAY),
        **({"epsilon": plan.epsilon} if plan.epsilon and plan.steps else {}),
        layout=[tuple(p.shape) for p in _build(task, plan).parameters()],
        **({} if plan.end is None else {"share": plan.share, "end": plan.end}),
    )


def build_networks(
    task: Task, plans: list[NetworkPlan] | None = None, called: str = "feature networks"
) -> FeatureNetworks:
    """Trains the networks of a run, or takes them from the cache.

    Of several processes that want the same networks one trains them, and the others wait for it.

    Args:
        task: all options.
        plans: which networks; None takes those of `networks`.
        called: what the progress is of.

    Raises:
        InputError: the model is unknown.
        OSError: the cache cannot be written.
    """
    plans = plans or plan_networks(task.config.networks)
    paths = _paths(task, plans)
    if all(is_whole(path) for path in paths):
        weights = _trained(task, plans, paths, called)
    else:
        together = paths[0].with_name(cache_key(kind="training", networks=[p.stem for p in paths]))
        with exclusive(together, lambda: task.reporter.message(_WAITING)):
            weights = _trained(task, plans, paths, called)
    return FeatureNetworks(task, plans, weights)


def find_networks(task: Task) -> FeatureNetworks:
    """The networks that the first of several ranks has put into the cache.

    Raises:
        InputError: they are not there.
    """
    plans = plan_networks(task.config.networks)
    paths = _paths(task, plans)
    if not all(is_whole(path) for path in paths):
        raise InputError(
            f"the feature networks that the first rank has made are not in {paths[0].parent}: "
            "set GENCOND_FAST_CACHE to a folder that all ranks share"
        )
    return FeatureNetworks(task, plans, _trained(task, plans, paths, "feature networks"))


def _paths(task: Task, plans: list[NetworkPlan]) -> list[Path]:
    """Where in the cache the weights of each network are kept."""
    directory = cache_directory("networks")
    return [directory / f"{network_key(task, plan)}.safetensors" for plan in plans]


def _trained(
    task: Task, plans: list[NetworkPlan], paths: list[Path], called: str
) -> list[dict[str, Tensor]]:
    """The weights of every network from the cache; those that are missing are put there."""
    cached = [load_tensors(path) for path in paths]
    pairs = zip(plans, cached, strict=True)
    missing = sum(p.steps for p, found in pairs if found is None and p.end is None)
    weights: list[dict[str, Tensor]] = []
    with task.reporter.phase(called, missing) as progress:
        for plan, path, found in zip(plans, paths, cached, strict=True):
            if found is None:
                if plan.end is None:
                    found = _train(task, plan, progress.advance)
                else:
                    found = _between(task, weights[plan.end], plans[plan.end], plan.share)
                save_tensors(path, found)
            weights.append(found)
    return weights


def _build(task: Setting, plan: NetworkPlan) -> Classifier:
    return task.classifier(plan.model, "network", plan.index)


def _observing(
    network: Classifier, norms: list[nn.BatchNorm2d]
) -> Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]:
    """A function that gives the features of images, and what went into each of the norms."""
    seen: list[Tensor] = []
    for norm in norms:
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def observed(images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        seen.clear()
        features = network.features(images)
        return features, tuple(seen)

    return observed


def _between(
    task: Task, trained: dict[str, Tensor], plan: NetworkPlan, share: float
) -> dict[str, Tensor]:
    """Weights on the straight way from those that a trained network started with to its own."""
    initial = _build(task, plan).state_dict()
    return {name: initial[name].to(end).lerp(end, share) for name, end in trained.items()}


def _train(task: Task, plan: NetworkPlan, advance: Callable[[int], None]) -> dict[str, Tensor]:
    """AdamW with a linearly falling rate on augmented batches from the sample."""
    device = task.runtime.device
    network = task.runtime.place(_build(task, plan))
    if not plan.trained:
        return network.state_dict()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    forward = task.runtime.compile(network.forward)
    images, labels = task.sample.images, task.sample.labels
    options = task.config.networks
    std = torch.tensor(task.normalisation.std, device=device)
    radius = (plan.epsilon / 255 / std).view(-1, 1, 1)
    for step in range(plan.steps):
        rng = named_rng(task.config.seed, "train", plan.index, step)
        index = torch.randint(len(labels), (_BATCH,), generator=rng)
        transform = draw_from_policy(options.augmentation, rng, batch_size=_BATCH, device=device)
        batch = task.normalisation(upload(images[index], device))
        batch, targets = augment(batch, transform), upload(labels[index], device)

        def loss_of(batch: Tensor, targets: Tensor = targets) -> Tensor:
            with task.runtime.autocast():
                logits = forward(task.runtime.arrange(batch))
            return F.cross_entropy(logits.float(), targets)

        if plan.epsilon:
            batch = fgsm_example(loss_of, batch, radius, rng)
        optimizer.zero_grad()
        loss_of(batch).backward()
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1.0 - step / plan.steps)
        optimizer.step()
        advance(1)
    return network.state_dict()
