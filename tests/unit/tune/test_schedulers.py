"""Who is stopped: scripted curves with answers worked out by hand."""

import numpy as np
import pytest

from rlaas_ray.specs.tune import Scheduler
from rlaas_ray.tune import population, schedulers
from rlaas_ray.tune.journal import Trial
from rlaas_ray.tune.schedulers import Halving, Median
from rlaas_ray.tune.spaces import Choice, Float, Int, Space


def test_rungs_are_powers_below_the_budget() -> None:
    assert Halving(grace=1, eta=3, reports=9).rungs == [1, 3]
    assert Halving(grace=2, eta=2, reports=20).rungs == [2, 4, 8, 16]


def test_halving_keeps_one_in_eta_at_each_rung_and_always_the_best() -> None:
    rule = Halving(grace=1, eta=3, reports=9)
    # rung 1 sees 5, 4, 6, 1, 9, 6.5, 3: at the k-th, the best max(1, k // 3) go on
    values = [5.0, 4.0, 6.0, 1.0, 9.0, 6.5, 3.0]
    out = [rule.stops(trial, step=1, value=value) for trial, value in enumerate(values)]
    assert out == [False, True, False, True, False, False, True]
    assert [rule.stops(trial, step=2, value=0.0) for trial in (0, 2, 4)] == [False, False, False]  # between rungs
    assert [rule.stops(trial, step=3, value=value) for trial, value in ((4, 2.0), (2, 1.0), (0, 3.0))] == [
        False,
        True,
        False,
    ]


def test_halving_counts_a_rung_that_a_report_has_jumped_over() -> None:
    rule = Halving(grace=1, eta=2, reports=8)
    assert not rule.stops(0, step=5, value=10.0)  # rungs 1, 2 and 4 at once
    assert rule.stops(1, step=1, value=5.0)


def test_one_that_was_good_enough_early_is_counted_at_later_rungs() -> None:
    rule = Halving(grace=1, eta=3, reports=9)
    rule.stops(0, step=1, value=1.0)
    rule.ended(0, value=100.0)
    assert rule.stops(1, step=3, value=50.0)


def test_the_median_rule_waits_for_others_and_judges_the_best_so_far() -> None:
    rule = Median(grace=2, startup=3)
    for trial, height in enumerate((1.0, 2.0, 3.0)):
        for step in (1, 2, 3):
            assert not rule.stops(trial, step=step, value=height * step)
        rule.ended(trial, value=height * 3)
    # running means up to step 2 are 1.5, 3 and 4.5: the median is 3
    assert not rule.stops(7, step=1, value=0.0)
    assert rule.stops(7, step=2, value=2.9)
    assert not rule.stops(8, step=1, value=9.0)
    assert not rule.stops(8, step=2, value=0.0)  # its best is 9


def test_nobody_is_stopped_without_a_scheduler() -> None:
    rule = schedulers.of(Scheduler(), reports=9)
    assert not rule.stops(0, step=9, value=-1e9)


SPACE = Space(
    domains={
        "rate": Float(low=0.1, high=10.0, log=True),
        "epochs": Int(low=1, high=8),
        "kind": Choice(listed=("a", "b")),
    },
    when={},
)


def members(values):
    return {n: Trial(number=n, parameters={"rate": 1.0, "epochs": 4, "kind": "a"}) for n in range(len(values))}


def test_the_worst_quarter_takes_over_from_the_best_quarter() -> None:
    values = dict(enumerate([5.0, 1.0, 7.0, 3.0, 8.0, 2.0, 6.0, 4.0]))
    moves = population.exchanged(
        members(values), values=values, space=SPACE, scheduler=Scheduler(kind="pbt"), rng=np.random.default_rng(0)
    )
    assert sorted(number for number, _, _ in moves) == [1, 5]
    assert {source for _, source, _ in moves} <= {2, 4}
    for _, _, parameters in moves:
        assert SPACE.holds(parameters)


@pytest.mark.parametrize("values", [{0: 1.0}, {0: 1.0, 1: 1.0}])
def test_nobody_takes_over_from_an_equal_or_from_nobody(values) -> None:
    scheduler = Scheduler(kind="pbt")
    moves = population.exchanged(
        members(values), values=values, space=SPACE, scheduler=scheduler, rng=np.random.default_rng(0)
    )
    assert moves == []


def test_without_resampling_a_parameter_moves_by_a_fifth_or_to_its_neighbour() -> None:
    found = population.explored(
        {"rate": 1.0, "epochs": 4, "kind": "a"}, space=SPACE, resample=0.0, rng=np.random.default_rng(3)
    )
    assert found["rate"] in {0.8, 1.2}
    assert found["epochs"] in {3, 5}
    assert found["kind"] in {"a", "b"}
