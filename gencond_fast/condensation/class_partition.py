"""Who keeps which classes: each class of a stored set, with all its samples, has one owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gencond_fast.distributed.ranks import Ranks
from gencond_fast.store.spec import StoreSpec
from gencond_fast.system.rng import named_rng

_PART = 2**25  # bytes of each rank that are gathered at a time


class ClassPartition:
    """Classes dealt out to ranks, and drawn for steps such that every rank has its part of them.

    Classes lie in a random order, in as many stretches as a step has classes. A step draws one of
    each stretch, and each rank owns some of the stretches, to within one as many as the others.
    So a rank finds all that it needs for its part of a step in what it keeps, and what is drawn
    does not hang on the number of ranks.

    Args:
        spec: of the whole stored set.
        drawn: classes of a step, at most C and at least as many as there are ranks.
        seed: of the order.
        ranks: those that share the work; None for one alone.
        divided: whether a rank keeps its own classes alone. If not it keeps all of them, and has a
            part of the work.

    Attributes:
        spec: of the whole stored set.
        ranks: those that share the work.
        divided: whether a rank keeps less than all.
        drawn: classes of a step.
        part: of the classes of a step, in the order they are drawn in, those that this rank owns.
    """

    def __init__(
        self,
        spec: StoreSpec,
        drawn: int,
        *,
        seed: int = 0,
        ranks: Ranks | None = None,
        divided: bool = True,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.divided = divided and self.ranks.world_size > 1
        self.drawn = drawn
        self.part = self.ranks.shard(drawn)
        self.spec = spec
        self._order = torch.randperm(spec.num_classes, generator=named_rng(seed, "deal", 0))
        self._edges = torch.arange(drawn + 1) * spec.num_classes // drawn
        self._kept = [
            self._owned_by(rank) if self.divided else torch.arange(spec.num_classes)
            for rank in range(self.ranks.world_size)
        ]
        self._place = _places(self.kept, spec.num_classes)
        self._own = _places(self._owned_by(self.ranks.rank), spec.num_classes) >= 0

    @property
    def kept(self) -> Tensor:
        """The classes that this rank keeps, ascending: int64."""
        return self._kept[self.ranks.rank]

    @property
    def kept_spec(self) -> StoreSpec:
        """Of a stored set of these alone. Soft labels come when all are together again."""
        if not self.divided:
            return self.spec
        return replace(self.spec, num_classes=len(self.kept), soft_labels=0, label_bytes=0)

    def draw(self, rng: torch.Generator) -> Tensor:
        """The classes of a step: int64 [drawn], one of each stretch."""
        first, sizes = self._edges[:-1], self._edges.diff()
        place = (torch.rand(len(sizes), generator=rng) * sizes).long()
        return self._order[first + torch.minimum(place, sizes - 1)]

    def is_own(self, samples: Tensor) -> Tensor:
        """Which samples, numbered as in the whole set, are this rank's part of the work: bool."""
        return self._own[samples // self.spec.per_class]

    def rows(self, samples: Tensor) -> Tensor:
        """Where samples, numbered as in the whole set, lie in what this rank keeps: int64."""
        each = self.spec.per_class
        return self._place[samples // each] * each + samples % each

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sum over what all ranks keep into tensors of what each does, in place."""
        if self.divided:
            self.ranks.all_reduce(tensors)

    def cut(self, whole: Tensor) -> Tensor:
        """Of rows that belong to classes, as many to each, those of the classes that are kept."""
        if not self.divided:
            return whole
        return whole.view(self.spec.num_classes, -1, *whole.shape[1:])[self.kept].flatten(0, 1)

    def whole(self, kept: Tensor) -> Tensor:
        """The rows of all classes, on the CPU, of the rows that each rank keeps.

        Only what the first rank gets is of use. All ranks must call it.

        Raises:
            InputError, OSError, RunError: another rank has failed.
        """
        if not self.divided:
            return kept
        rows = kept.detach().cpu().view(len(self.kept), -1, *kept.shape[1:])
        most = max(map(len, self._kept))
        part = max(1, _PART // max(1, rows[:1].nbytes))  # classes, as many on every rank
        together = kept
        if self.ranks.is_main:
            together = rows.new_empty(self.spec.num_classes, *rows.shape[1:])
        for start in range(0, most, part):
            own = rows[start : start + part]
            padded = rows.new_zeros(min(part, most - start), *rows.shape[1:])
            padded[: len(own)] = own
            for classes, found in zip(self._kept, self.ranks.gather(padded), strict=False):
                places = classes[start : start + part]
                together[places] = found[: len(places)]
        return together.flatten(0, 1) if self.ranks.is_main else kept

    def _owned_by(self, rank: int) -> Tensor:
        first, last = (self.drawn * place // self.ranks.world_size for place in (rank, rank + 1))
        return self._order[self._edges[first] : self._edges[last]].sort().values


def _places(classes: Tensor, count: int) -> Tensor:
    """For each of `count` classes its place among some, -1 where it is none of them."""
    places = torch.full((count,), -1)
    places[classes] = torch.arange(len(classes))
    return places
