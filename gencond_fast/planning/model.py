"""From what a miniature took to what the whole takes, on one device and on several.

Everything is proportional to a count (`Counts`), but for compilation, which comes once for each
kind of step. Of several devices each does a share of what ranks share (docs/ranks.md); sums over
ranks take the time that their bytes need on the link, by a ring: 2 (R - 1) / R of them each way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from gencond_fast.planning.condensing import Condensing
from gencond_fast.planning.counts import Counts
from gencond_fast.planning.miniature import MATCH_STEPS, WARM_STEPS
from gencond_fast.planning.watch import Span

_BANK_BATCH = 256


@dataclass(frozen=True)
class Pace:
    """Seconds of each step, and what the first one takes more."""

    each: float
    first: float


@dataclass(frozen=True)
class Cost:
    """Seconds, and how many of them compilation takes."""

    seconds: float = 0.0
    compiling: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.compiling + other.compiling)


@dataclass(frozen=True)
class CondensingCost:
    """Of the phases of a condensation; their sum is all of its time."""

    start: Cost
    networks: Cost
    bank: Cost
    experts: Cost
    condensing: Cost
    labels: Cost
    finish: Cost

    def phases(self) -> dict[str, Cost]:
        """By name, in order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def total(self) -> Cost:
        """Of all."""
        return sum(self.phases().values(), Cost())


def pace(seconds: Sequence[float]) -> Pace:
    """Of steps that are alike but for the first."""
    rest = seconds[1:]
    each = sum(rest) / len(rest) if rest else seconds[0]
    return Pace(each, max(0.0, seconds[0] - each))


def share(parts: int, ranks: int) -> float:
    """What of some parts falls to the rank with the most of them."""
    return math.ceil(parts / ranks) / parts if parts else 0.0


def exchange(size: int, ranks: int, link: int) -> float:
    """Seconds for the sum of so many bytes over ranks."""
    return 2.0 * (ranks - 1) / ranks * size / link


class CondensingModel:
    """The cost of a condensation on any number of devices.

    Args:
        measured: what a miniature took.
        link: bytes a second between two ranks.
    """

    def __init__(self, measured: Condensing, link: int) -> None:
        self._full, self._mini = measured.full, measured.mini
        self._time = measured.timeline
        self._phases = measured.timeline.condensing()
        self._reading = measured.reading or 0.0
        self._updating, self._saving = measured.updating, measured.saving
        self._link = link
        self._overlaps = measured.runtime.startswith("cuda")  # decoding beside the device's work

    def cost(self, ranks: int) -> CondensingCost:
        """Of every phase, of the rank that takes longest."""
        return CondensingCost(
            start=self._start(),
            networks=self._networks(),
            bank=self._bank(ranks),
            experts=self._experts(ranks),
            condensing=self._warm(ranks) + self._match(ranks) + self._trajectory(ranks),
            labels=self._labels(),
            finish=Cost(self._phases["finish"] * self._grown("samples")),
        )

    def _grown(self, name: str) -> float:
        """How much larger a count is in the whole than in the miniature."""
        mini = getattr(self._mini, name)
        return getattr(self._full, name) / mini if mini else 1.0

    def _start(self) -> Cost:
        """Every rank reads the whole sample."""
        more = self._full.sampled - self._mini.sampled
        return Cost(self._phases["start"] + more * self._reading)

    def _networks(self) -> Cost:
        """Trained by the first rank, each from a first step that may compile."""
        return self._trained("feature networks")

    def _trained(self, name: str) -> Cost:
        span = self._time.find(name)
        seconds = [each for _, each in span.steps]
        steps = self._mini.train_steps
        if not seconds:
            return Cost(span.seconds)
        begins = [sum(steps[:place]) for place in range(len(steps))]
        usual = [each for place, each in enumerate(seconds) if place not in begins]
        each = sum(usual) / len(usual) if usual else min(seconds)
        compiling = sum(max(0.0, seconds[place] - each) for place in begins)
        saving = span.seconds - sum(seconds)
        return Cost(sum(self._full.train_steps) * each + compiling + saving, compiling)

    def _bank(self, ranks: int) -> Cost:
        """The pass over the real images, each rank over a part; then the tables."""
        if not self._full.match_steps:
            return Cost(self._phases["bank"])
        span = self._time.find("real statistics")
        each, first, ragged = _bank_pace(span)
        own = math.ceil(self._full.measured / ranks)
        compiling = first + (ragged if own % _BANK_BATCH else 0.0)
        work = own * each
        decoded = self._full.measured - self._full.kept if self._full.encoded else 0
        decoding = math.ceil(decoded / ranks) * self._reading
        together = max(work, decoding) if self._overlaps else work + decoding
        tables = (self._phases["bank"] - span.seconds) * self._grown("table_bytes")
        gathered = (ranks - 1) * self._full.table_bytes / self._link
        return Cost(together + compiling + tables + gathered, compiling)

    def _experts(self, ranks: int) -> Cost:
        """Trained on all images, whole ones by each rank."""
        spans = self._time.like("expert ")
        if not spans:
            return Cost()
        return self._whole_split(spans, math.ceil(self._full.experts / ranks), "expert_epochs")

    def _whole_split(self, spans: Sequence[Span], networks: int, epochs: str) -> Cost:
        """Networks that are trained on all images, one after another.

        Args:
            spans: of those of the miniature.
            networks: how many there are for a rank.
            epochs: the count that says how often each sees all images.
        """
        full, mini = self._full, self._mini
        passes = [[each for _, each in span.steps] for span in spans]
        usual = sum(each[1] for each in passes) / len(passes)
        read = mini.images * self._reading if mini.encoded else 0.0
        more = [max(0.0, each[0] - usual - read) for each in passes]
        compiling = more[0] + (networks - 1) * more[-1 if len(more) > 1 else 0]
        number = networks * getattr(full, epochs)
        decoded = full.images * (networks if full.whole_kept else number) if full.encoded else 0
        work = number * full.images * usual / mini.images
        return Cost(work + decoded * self._reading + compiling, compiling)

    def _warm(self, ranks: int) -> Cost:
        """Of the samples of a step each rank has those of its classes."""
        seconds = self._stage(0, min(WARM_STEPS, self._full.warm_steps))
        divided = share(self._full.step_classes, ranks)
        return self._steps(seconds, self._full.warm_steps, "warm_batch", divided, ranks)

    def _match(self, ranks: int) -> Cost:
        """Classes of a step are shared, but where a loss looks at all of them together."""
        full = self._full
        begin = min(WARM_STEPS, full.warm_steps)
        seconds = self._stage(begin, min(MATCH_STEPS, full.match_steps))
        divided = 1.0 if full.whole_steps else share(full.step_classes, ranks)
        centres = 0 if full.whole_steps else full.centre_bytes
        return self._steps(seconds, full.match_steps, "step_images", divided, ranks, centres)

    def _trajectory(self, ranks: int) -> Cost:
        """As the warm start, but where networks look at all samples together."""
        full = self._full
        begin = min(WARM_STEPS, full.warm_steps) + min(MATCH_STEPS, full.match_steps)
        seconds = self._stage(begin, full.trajectory_steps)
        whole = full.whole_trajectory
        divided = 1.0 if whole else share(full.step_classes, ranks)
        slopes = 0 if whole else full.inner_steps * full.weight_bytes
        name = "trajectory_batch"
        return self._steps(seconds, full.trajectory_steps, name, divided, ranks, slopes)

    def _stage(self, begin: int, steps: int) -> list[float]:
        """Seconds of the steps of a stage of the miniature."""
        return [each for _, each in self._time.find("matching").steps][begin : begin + steps]

    def _steps(
        self,
        seconds: Sequence[float],
        steps: int,
        images: str,
        divided: float,
        ranks: int,
        exchanged: int = 0,
    ) -> Cost:
        """Steps of a stage, with their checkpoints.

        Args:
            seconds: of those of the miniature.
            steps: of the whole.
            images: the count that the divided part of a step is proportional to.
            divided: the share of that part that falls to a rank.
            ranks: how many there are.
            exchanged: bytes that are summed in a step beside the gradient.
        """
        if not steps:
            return Cost()
        measured = pace(seconds)
        whole = min(self._updating, measured.each)
        full = self._full
        kept = full.shared + (full.parameters - full.shared) * share(full.step_classes, ranks)
        kept = full.parameters if full.whole_store else kept
        each = whole * self._grown("parameters") * kept / full.parameters
        each += (measured.each - whole) * self._grown(images) * divided
        summed = full.parameters if full.whole_store else full.shared
        each += exchange(4 * summed + exchanged, ranks, self._link)
        saves = full.checkpoints * steps / self._all_steps
        saving = saves * self._saving * self._grown("parameters")
        return Cost(measured.first + steps * each + saving, measured.first)

    @property
    def _all_steps(self) -> int:
        full = self._full
        return full.warm_steps + full.match_steps + full.trajectory_steps

    def _labels(self) -> Cost:
        """Soft labels and their teachers, by the first rank."""
        teachers, batches = self._time.like("teacher "), self._time.like("soft labels")
        if not batches:
            return Cost()
        measured = pace([each for _, each in batches[0].steps])
        found = Cost(measured.first + self._full.label_batches * measured.each, measured.first)
        if self._time.like("label networks"):
            found += self._trained("label networks")
        if teachers:
            found += self._whole_split(teachers, self._full.teachers, "teacher_epochs")
        return found


def _bank_pace(span: Span) -> tuple[float, float, float]:
    """Seconds of an image; what the first batch takes more, and a last one that is smaller."""
    steps = span.steps
    batch = max(amount for amount, _ in steps)
    usual = [each for amount, each in steps[1:] if amount == batch] or [steps[0][1]]
    each = sum(usual) / len(usual) / batch
    amount, seconds = steps[0]
    first = max(0.0, seconds - each * amount)
    amount, seconds = steps[-1]
    ragged = max(0.0, seconds - each * amount) if amount != batch else first
    return each, first, ragged


def condensing_memory(measured: Condensing, smaller: Condensing | None = None) -> tuple[int, int]:
    """Bytes that a condensation takes at most: of the process, and of the GPU.

    What a miniature took, and what the whole holds beyond it: the sample, the images that are kept
    until they are measured, the images and weights of experts. Where the miniature has fewer
    classes, what a class takes is told by a still smaller one.

    Args:
        measured: the miniature.
        smaller: another one of fewer classes, where the first has not got all of them.
    """
    full, mini, time = measured.full, measured.mini, measured.timeline
    sample = (full.sampled - mini.sampled) * full.image_bytes
    kept = (full.kept - mini.kept) * full.image_bytes
    before = time.like("real statistics") or time.like("feature networks") or time.spans
    later = sample + _held(full) - _held(mini)
    peak = max(before[0].peak + sample + kept, time.peak + later)
    device = time.device_peak
    if smaller is not None:
        more, fewer = full.classes - mini.classes, mini.classes - smaller.mini.classes
        peak += _slope(time.peak, smaller.timeline.peak, fewer) * more
        device += _slope(device, smaller.timeline.device_peak, fewer) * more
    return peak, device


def _held(counts: Counts) -> int:
    """Bytes that experts and teachers take: their weights, and the images that they learn from."""
    images = counts.whole_kept * counts.image_bytes + counts.whole_pools
    return images + counts.expert_bytes


def _slope(larger: int, smaller: int, classes: int) -> int:
    return max(0, larger - smaller) // classes
