"""Which real images the stored samples start from, or are first fitted to."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.condensation.class_means import draw_around_means
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Task
from gencond_fast.distributed.ranks import Ranks

_BATCH = 256
_FEATURE_BYTES = 256 * 2**20  # of the classes that are herded at a time


def preferred_rows(
    task: Task, networks: FeatureNetworks | None, per_class: int, ranks: Ranks | None = None
) -> Tensor:
    """The rows of the sample [M], class after class, those first that samples are to start from.

    With `training.selection` of

    - `random` they are as the sample has them, at random within each class;
    - `herding` the first ones of a class follow its mean, in the normalised features of the network
      that was trained longest: each brings the mean of those so far nearest to that of all
      (Welling, ICML 2009; iCaRL 1611.07725, algorithm 4);
    - `easy` the half of a class comes first that the trained networks have the smaller
      cross-entropy on, at random within both halves: few images teach more if they are easy
      (2206.14486).

    Args:
        task: with the sample.
        networks: the feature networks; for `easy` some of them must be trained. None will do for
            `random`.
        per_class: how many of each class are wanted.
        ranks: those that share the run, all of which call this; the first one chooses.
    """
    labels, choice = task.sample.labels, task.config.training.selection
    if choice == "random":
        return torch.arange(len(labels))
    assert networks is not None
    ranks = ranks or Ranks()
    rows = torch.empty(len(labels), dtype=torch.int64, device="meta")
    if ranks.is_main:
        with torch.no_grad():
            rows = (_herded if choice == "herding" else _easy)(task, networks, per_class)
    return ranks.broadcast(rows)


def first_images(task: Task, rows: Tensor, per_class: int) -> Tensor:
    """What stored samples start as, where that is images: uint8 [C * per_class, ...].

    Args:
        task: with the sample.
        rows: of the sample, as `preferred_rows` gives them.
        per_class: stored samples of a class.
    """
    sample = task.sample
    if task.config.training.init == "class_mean":
        return draw_around_means(sample.images, sample.labels, per_class, task.config.seed)
    return choose_targets(sample.images, sample.labels, per_class, rows)


def choose_targets(
    images: Tensor, labels: Tensor, per_class: int, rows: Tensor | None = None
) -> Tensor:
    """Real images for the stored samples, class after class: uint8 [C * per_class, ...].

    Args:
        images: uint8 [M, channels, S, S].
        labels: int64 [M], ascending, every class present.
        per_class: stored samples of a class.
        rows: of the images [M], each class in the order in which they are taken; None takes them as
            they lie.

    A class with fewer images than that repeats them, each time moved by another few pixels.
    """
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    place = torch.arange(per_class)
    index = (starts[:, None] + place % counts[:, None]).flatten()
    turn = (place // counts[:, None]).flatten()
    chosen = images[index if rows is None else rows[index]]
    for time in range(1, int(turn.max()) + 1):
        again = turn == time
        chosen[again] = _moved(chosen[again], time)
    return chosen


def _moved(images: Tensor, time: int) -> Tensor:
    """Images [n, channels, S, S] moved by a few pixels, their edges continued.

    The first eight times go to the neighbours of the place, the next sixteen one step farther, up
    to an eighth of the side; then they begin again.
    """
    height, width = images.shape[2:]
    most = max(1, min(height, width) // 8)
    way = range(-most, most + 1)
    moves = sorted(((y, x) for y in way for x in way), key=lambda move: max(map(abs, move)))
    down, along = moves[1:][(time - 1) % (len(moves) - 1)]
    rows = (torch.arange(height, device=images.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - along).clamp(0, width - 1)
    return images[:, :, rows][:, :, :, columns]


def herd(features: Tensor, present: Tensor, wanted: int) -> Tensor:
    """Places of the herded ones of each class, in the order of their choice: int64 [C, wanted].

    Args:
        features: float32 [C, n, D], each of length one.
        present: bool [C, n], which of them there are; a class that has fewer than are wanted
            repeats its first one at the end.
        wanted: at most n.
    """
    there = present.unsqueeze(2)
    mean = (features * there).sum(1) / there.sum(1)
    total = torch.zeros_like(mean)
    left = present.clone()
    chosen = torch.zeros(len(features), wanted, dtype=torch.int64, device=features.device)
    classes = torch.arange(len(features), device=features.device)
    for number in range(wanted):
        # |number + 1 times the mean - total - feature|², without what is the same for all
        away = torch.einsum("cnd,cd->cn", features, total - (number + 1) * mean)
        best = away.masked_fill(~left, torch.inf).argmin(1)
        some = left[classes, best]
        chosen[:, number] = torch.where(some, best, chosen[:, 0])
        total += features[classes, best] * some.unsqueeze(1)
        left[classes, best] = False
    return chosen


def _herded(task: Task, networks: FeatureNetworks, per_class: int) -> Tensor:
    labels = task.sample.labels
    longest = max(range(len(networks)), key=lambda index: networks.plans[index].steps)
    counts = torch.bincount(labels, minlength=task.num_classes)
    starts, most = counts.cumsum(0) - counts, int(counts.max())
    at_once = max(1, _FEATURE_BYTES // (4 * most * networks.feature_dim(longest)))
    rows = []
    for classes in torch.arange(task.num_classes).split(at_once):
        present = torch.arange(most) < counts[classes, None]
        own = torch.arange(int(starts[classes[0]]), int(starts[classes[0]] + counts[classes].sum()))
        found = F.normalize(_outputs(task, networks, longest, own), dim=1)
        features = found.new_zeros(len(classes), most, found.shape[1])
        present = present.to(found.device)
        features[present] = found
        wanted = min(per_class, most)
        first = herd(features, present, wanted).cpu()
        rows += [
            _first(place[: min(wanted, int(count))], int(count)) + start
            for place, count, start in zip(first, counts[classes], starts[classes], strict=True)
        ]
    return torch.cat(rows)


def _first(chosen: Tensor, count: int) -> Tensor:
    """All of 0 … count - 1, the chosen ones first."""
    rest = torch.ones(count, dtype=torch.bool)
    rest[chosen] = False
    return torch.cat((chosen, rest.nonzero().flatten()))


def _easy(task: Task, networks: FeatureNetworks, per_class: int) -> Tensor:
    labels = task.sample.labels
    trained = [index for index, plan in enumerate(networks.plans) if plan.trained]
    loss = torch.zeros(len(labels))
    for index in trained:
        logits = _outputs(task, networks, index, torch.arange(len(labels)), networks.logits)
        loss += F.cross_entropy(logits.cpu(), labels, reduction="none")
    counts = torch.bincount(labels, minlength=task.num_classes)
    ordered = loss.argsort()
    ordered = ordered[labels[ordered].argsort(stable=True)]  # within each class, easy ones first
    place = torch.empty_like(labels)
    place[ordered] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels]
    half = torch.maximum((counts + 1) // 2, torch.tensor(per_class))
    hard = (place >= half[labels]).long()
    return (2 * labels + hard).argsort(stable=True)


def _outputs(
    task: Task,
    networks: FeatureNetworks,
    index: int,
    rows: Tensor,
    head: Callable[[Tensor], Tensor] = lambda features: features,
) -> Tensor:
    """What a head makes of the features of real images as they are, [n, ...] on the device."""
    networks.select(index)
    device = task.runtime.device
    # all batches of one size, so that networks are compiled once
    filled = torch.cat((rows, rows[:1].expand(-len(rows) % _BATCH)))
    parts = [
        head(networks.features(task.normalisation(task.sample.images[part].to(device))))
        for part in filled.split(_BATCH)
    ]
    return torch.cat(parts)[: len(rows)]
