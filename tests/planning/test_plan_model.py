"""The cost model against sums by hand, and its growth with every count."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.config import EvaluateConfig
from gencond_fast.planning.condensing import Condensing
from gencond_fast.planning.counts import Counts
from gencond_fast.planning.evaluating import Evaluating, Lesson
from gencond_fast.planning.evaluation_model import EvaluationModel
from gencond_fast.planning.model import CondensingModel, condensing_memory, pace
from gencond_fast.planning.watch import Span, Timeline

MINI = Counts(
    classes=10,
    images=1000,
    image_bytes=3072,
    encoded=True,
    sampled=1000,
    measured=900,
    kept=900,
    whole_kept=1000,
    whole_pools=0,
    networks=4,
    train_steps=(2, 4),
    table_bytes=10**6,
    warm_steps=0,
    warm_batch=256,
    match_steps=21,
    step_classes=10,
    step_images=320,
    whole_steps=False,
    centre_bytes=4 * 10 * 1024,
    trajectory_steps=0,
    trajectory_batch=128,
    inner_steps=12,
    whole_trajectory=False,
    experts=0,
    expert_epochs=10,
    expert_bytes=0,
    weight_bytes=10**6,
    teachers=0,
    teacher_epochs=20,
    label_batches=0,
    samples=2580,
    parameters=10**6,
    shared=10**4,
    checkpoints=1,
)
FULL = replace(
    MINI,
    images=50_000,
    sampled=10_000,
    measured=10_000,
    kept=10_000,
    train_steps=(60, 600),
    match_steps=4000,
    checkpoints=41,
)
NO_LINK = 10**15  # a link that takes no time


def span(name: str, start: float, taken: list[tuple[int, float]], rest: float = 0.0) -> Span:
    """A part of so many laps, and some seconds after the last of them."""
    laps, when = [], start
    for amount, seconds in taken:
        when += seconds
        laps.append((amount, when))
    return Span(name, start, when + rest, tuple(laps), peak=500_000_000)


def measured(full: Counts = FULL, mini: Counts = MINI, **changed) -> Condensing:
    """3 s until the data are open, 2 s until networks, 8.5 s of them, 7.5 s of statistics."""
    networks = span("feature networks", 105.0, [(1, 3.0), (1, 1.0), (1, 1.5), *[(1, 1.0)] * 3])
    bank = span("real statistics", 114.0, [(256, 2.56), (256, 1.28), (256, 1.28), (132, 1.66)])
    steps = span("matching", 121.0, [(1, 12.0), *[(1, 0.5)] * 20])
    timeline = Timeline(
        began=98.0,
        opened=101.0,
        resumed=103.0,
        ended=steps.end + 1.0,
        spans=(networks, bank, steps),
        peak=900_000_000,
        device_peak=0,
    )
    found = Condensing(
        size=122_880,
        per_class=258,
        image_size=32,
        runtime="cpu, bfloat16, compiled",
        full=full,
        mini=mini,
        timeline=timeline,
        reading=0.001,
        updating=0.1,
        saving=0.05,
        refused={},
    )
    return replace(found, **changed)


def cost(full: Counts = FULL, ranks: int = 1, link: int = NO_LINK, **changed):
    return CondensingModel(measured(full, **changed), link).cost(ranks)


def test_phases_of_a_timeline_are_all_of_its_time():
    timeline = measured().timeline
    phases = timeline.condensing()
    assert phases["start"] == pytest.approx(3.0 + 2.0)
    assert phases["networks"] == pytest.approx(8.5)
    assert phases["bank"] == pytest.approx(121.0 - 113.5)
    assert phases["condensing"] == pytest.approx(22.0)
    assert phases["finish"] == pytest.approx(1.0)
    # the two seconds between opening and going on are the calibration's own
    assert sum(phases.values()) == pytest.approx(timeline.ended - timeline.began - 2.0)


def test_the_miniature_predicts_itself():
    own = cost(MINI, saving=0.0)
    phases = measured().timeline.condensing()
    for name, each in own.phases().items():
        assert each.seconds == pytest.approx(phases[name], abs=1e-3), name
    assert own.total.seconds == pytest.approx(sum(phases.values()), abs=1e-3)


def test_every_phase_against_a_sum_by_hand():
    found = cost()
    # 5 s as measured, and 9000 images more of a millisecond
    assert found.start.seconds == pytest.approx(5.0 + 9.0)
    # begins took 2 and 0.5 s more than the usual second
    assert found.networks.compiling == pytest.approx(2.5)
    assert found.networks.seconds == pytest.approx(660 * 1.0 + 2.5)
    # 5 ms an image; 1.28 s for the first batch and 1 s for the last one; 0.72 s of tables
    assert found.bank.compiling == pytest.approx(1.28 + 1.0)
    tables = 7.5 - (2.56 + 2 * 1.28 + 1.66)
    assert found.bank.seconds == pytest.approx(10_000 * 0.005 + 2.28 + tables)
    assert found.condensing.compiling == pytest.approx(11.5)
    assert found.condensing.seconds == pytest.approx(11.5 + 4000 * 0.5 + 41 * 0.05)
    assert found.experts.seconds == found.labels.seconds == 0.0
    assert found.finish.seconds == pytest.approx(1.0)


def test_whole_batches_compile_once():
    assert cost(replace(FULL, measured=10_240)).bank.compiling == pytest.approx(1.28)


def test_images_that_are_not_kept_are_decoded_again():
    once, twice = cost(), cost(replace(FULL, kept=0))
    assert twice.bank.seconds - once.bank.seconds == pytest.approx(10_000 * 0.001)
    assert cost(replace(FULL, kept=0, encoded=False)).bank.seconds == once.bank.seconds


def test_ranks_share_classes_images_and_nothing_else():
    one, four = cost(), cost(ranks=4)
    for name in ("start", "networks", "finish"):
        assert getattr(four, name).seconds == getattr(one, name).seconds
    # three of ten classes fall to the busiest of four ranks, and a hundredth of the parameters
    update = 0.1 * (0.01 + 0.99 * 0.3)
    assert four.condensing.seconds == pytest.approx(11.5 + 4000 * (update + 0.4 * 0.3) + 41 * 0.05)
    tables = 7.5 - (2.56 + 2 * 1.28 + 1.66)
    assert four.bank.seconds == pytest.approx(2500 * 0.005 + 2.28 + tables)
    whole = cost(replace(FULL, whole_steps=True), ranks=4)
    assert whole.condensing.seconds == pytest.approx(one.condensing.seconds)


def test_sums_over_ranks_take_what_their_bytes_take():
    link = 10**7
    free, paid = cost(ranks=4), cost(ranks=4, link=link)
    # a ring passes every byte of shared parameters and of the centres on 2 * 3 / 4 times
    each = 2 * 0.75 * (4 * 10**4 + 4 * 10 * 1024) / link
    assert paid.condensing.seconds - free.condensing.seconds == pytest.approx(4000 * each)
    # where every rank keeps all, the whole gradient
    whole = replace(FULL, whole_steps=True)
    free, all_of_it = cost(whole, ranks=4), cost(whole, ranks=4, link=link)
    each = 2 * 0.75 * 4 * 10**6 / link
    assert all_of_it.condensing.seconds - free.condensing.seconds == pytest.approx(4000 * each)
    assert paid.bank.seconds - free.bank.seconds == pytest.approx(3 * 10**6 / link, rel=1e-6)


def test_networks_for_labels_are_trained_as_the_others():
    full, mini = replace(FULL, label_batches=20), replace(MINI, label_batches=2)
    made = measured(full, mini)
    begin = made.timeline.ended - 1.0
    again = span("label networks", begin, [(1, 5.0), (1, 2.0), (1, 2.5), *[(1, 2.0)] * 3])
    labels = span("soft labels", again.end, [(1, 0.5), (1, 0.1)])
    spans = (*made.timeline.spans, again, labels)
    timeline = replace(made.timeline, spans=spans, ended=labels.end + 1.0)
    made = replace(made, timeline=timeline)
    assert sum(timeline.condensing().values()) == pytest.approx(timeline.ended - 98.0 - 2.0)
    found = CondensingModel(made, NO_LINK).cost(1)
    # two seconds a step, and 3 and 0.5 s for what is compiled; batches of a tenth of a second
    assert found.labels.seconds == pytest.approx(660 * 2.0 + 3.5 + 0.4 + 20 * 0.1)
    assert found.networks.seconds == cost().networks.seconds


def test_experts_are_trained_on_all_images_and_dealt_out():
    mini = replace(MINI, experts=2, trajectory_steps=5, match_steps=21)
    full = replace(FULL, experts=3, trajectory_steps=600, whole_kept=50_000)
    first = span("expert 1 of 2", 1000.0, [(1, 8.0), (1, 2.0)])
    second = span("expert 2 of 2", 1010.0, [(1, 3.5), (1, 2.0)])
    made = measured(full, mini)
    steps = [*made.timeline.find("matching").steps, (1, 9.0), *[(1, 4.0)] * 4]
    spans = (*made.timeline.spans[:2], first, second, span("matching", 1021.0, steps))
    timeline = replace(made.timeline, spans=spans, ended=2000.0)
    found = CondensingModel(replace(made, timeline=timeline), NO_LINK)
    # 2 ms an image and epoch; first epochs also compile for 5 and 0.5 s, and decode for 1 s
    compiling = 5.0 + 2 * 0.5
    work = 3 * 10 * 50_000 * 0.002
    assert found.cost(1).experts.seconds == pytest.approx(work + 3 * 50.0 + compiling)
    assert found.cost(3).experts.seconds == pytest.approx(work / 3 + 50.0 + 5.0)
    own = found.cost(1).condensing.seconds
    saves = 41 * 0.05
    assert own == pytest.approx(11.5 + 4000 * 0.5 + 5.0 + 600 * 4.0 + saves)
    # four of ten classes fall to the busiest of three ranks
    update = 0.1 * (0.01 + 0.99 * 0.4)
    shared = 600 * (update + 3.9 * 0.4) + 4000 * (update + 0.4 * 0.4)
    assert found.cost(3).condensing.seconds == pytest.approx(16.5 + shared + saves)


@given(
    name=st.sampled_from(["measured", "sampled", "match_steps", "step_images", "parameters"]),
    factor=st.integers(2, 50),
    ranks=st.integers(1, 10),
)
def test_more_of_anything_never_takes_less(name: str, factor: int, ranks: int):
    more = replace(FULL, **{name: factor * getattr(FULL, name)})
    assert cost(more, ranks).total.seconds > cost(FULL, ranks).total.seconds


@given(ranks=st.integers(1, 9))
def test_more_ranks_never_take_longer_without_a_link(ranks: int):
    assert cost(ranks=ranks + 1).total.seconds <= cost(ranks=ranks).total.seconds + 1e-9


def test_a_class_costs_what_a_class_of_the_miniature_does():
    full = replace(FULL, classes=40, step_classes=40, step_images=1280, parameters=4 * 10**6)
    full = replace(full, samples=10_320, table_bytes=4 * 10**6)
    found, fewer = cost(full), cost()
    updating, divided = 4 * 0.1, 4 * 0.4
    steps = found.condensing.seconds - 11.5 - 41 * 4 * 0.05
    assert steps == pytest.approx(4000 * (updating + divided))
    assert found.finish.seconds == pytest.approx(4 * fewer.finish.seconds)


def test_memory_is_that_of_the_miniature_and_what_is_held_beyond_it():
    peak, device = condensing_memory(measured())
    # 9000 images more in the sample; as many are kept, but freed before the largest step
    assert peak == 900_000_000 + 9000 * 3072
    assert device == 0
    large = replace(FULL, sampled=300_000, kept=300_000)
    peak, _ = condensing_memory(measured(large))
    assert peak == 500_000_000 + 299_000 * 3072 + 299_100 * 3072
    experts = replace(FULL, expert_bytes=10**8, whole_kept=50_000, whole_pools=10**7)
    peak, _ = condensing_memory(measured(experts))
    held = 10**8 + 49_000 * 3072 + 10**7
    assert peak == 900_000_000 + 9000 * 3072 + held


def test_memory_of_classes_that_did_not_fit_is_extended_along_a_line():
    full = replace(FULL, classes=100)
    smaller = measured(full, replace(MINI, classes=4))
    smaller = replace(smaller, timeline=replace(smaller.timeline, peak=600_000_000))
    peak, _ = condensing_memory(measured(full), smaller)
    assert peak == 900_000_000 + 9000 * 3072 + 90 * 50_000_000


def test_pace_of_steps():
    assert pace([5.0, 1.0, 3.0]).each == 2.0
    assert pace([5.0, 1.0, 3.0]).first == 3.0
    assert pace([0.5, 1.0]).first == 0.0
    assert pace([4.0]) == pace([4.0, 4.0])


LESSON = Lesson("stored", "convnet3", 0.5, 2.0, 0.2, first=10.0, later=1.0, testing=0.001)
RANDOM = replace(LESSON, name="random", drawing=0.1, epoch=0.05, step=0.05, first=6.0)


def evaluating(*lessons: Lesson, kept: int = 10_000) -> Evaluating:
    return Evaluating(
        start=4.0,
        lessons=lessons,
        images=10_000,
        test_kept=kept,
        whole_kept=0,
        tested=1536,
        peak=700_000_000,
        device_peak=0,
    )


def evaluation(*baselines: str, **options) -> EvaluateConfig:
    return EvaluateConfig(run="", data="", baselines=baselines, epochs=100, **options)


def test_an_evaluation_against_a_sum_by_hand():
    model = EvaluationModel(evaluating(LESSON, RANDOM), measured(), evaluation("random"))
    # three students each: 200 s of epochs, half a second of decoding; 5 s of epochs; tests
    stored = 3 * (200.0 + 0.5) + 12.0
    random = 3 * (5.0 + 0.1) + 8.0
    tests, decoding = 6 * 10.0, 10.0
    assert model.students == 6
    assert model.cost(1).seconds == pytest.approx(4.0 + stored + random + tests + decoding)
    assert model.cost(1).compiling == pytest.approx(20.0)
    alone = EvaluationModel(evaluating(LESSON, kept=0), measured(), evaluation())
    assert alone.cost(1).seconds == pytest.approx(4.0 + stored + 30.0 + 3 * 10.0)


def test_all_real_images_are_learned_in_batches_of_the_same_size():
    model = EvaluationModel(evaluating(LESSON), measured(), evaluation("full"))
    plain = EvaluationModel(evaluating(LESSON), measured(), evaluation())
    steps = math.ceil(50_000 / 256)
    more = 3 * 100 * steps * 0.2 + 3 * 1.0 + 3 * 10.0 + 3 * 100 * 50_000 * 0.001
    assert model.cost(1).seconds - plain.cost(1).seconds == pytest.approx(more)


def test_students_are_dealt_out_whole():
    model = EvaluationModel(evaluating(LESSON, RANDOM), measured(), evaluation("random"))
    work = model.cost(1).seconds - 4.0 - 20.0 - 10.0
    assert model.cost(6).seconds == pytest.approx(4.0 + 20.0 + 10.0 + work / 6)
    assert model.cost(64).seconds == model.cost(6).seconds
    assert model.cost(4).seconds == pytest.approx(4.0 + 20.0 + 10.0 + work / 3)


def test_memory_of_an_evaluation_counts_the_test_images_that_are_kept():
    model = EvaluationModel(evaluating(LESSON), measured(), evaluation())
    assert model.memory == (700_000_000 + (10_000 - 1536) * 3072, 0)


def test_what_is_too_much_to_be_held_decoded_is_decoded_in_every_epoch():
    samples = 2 * 2**30 // (4 * 3072)  # twice what is held
    grown = samples / MINI.samples
    stored, random = (
        EvaluationModel(evaluating(lesson), measured(replace(FULL, samples=samples)), evaluation())
        for lesson in (LESSON, RANDOM)
    )
    taken = 3 * (100 * 2.0 + 100 * 0.5) * grown + 12.0
    assert stored.cost(1).seconds == pytest.approx(4.0 + taken + 3 * 10.0 + 10.0)
    taken = 3 * (100 * 0.05 + 0.1) * grown + 8.0
    assert random.cost(1).seconds == pytest.approx(4.0 + taken + 3 * 10.0 + 10.0)
    mini = 2 * 4 * MINI.samples * 3072
    assert stored.memory[0] == 700_000_000 + (10_000 - 1536) * 3072 - mini
