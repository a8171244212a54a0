"""Assignment: the page's hashes, sticky and monotone shares, and who is left out."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.serve import assignment
from rlaas_ray.specs.routing import Arm, RouteTable

CHAMPION = Arm(name="champion", role="champion", version="a:1", digest="a")
CHALLENGER = Arm(name="challenger", role="challenger", version="a:2", digest="b")
SHADOW = Arm(name="shadow", role="shadow", version="a:3", digest="c", ranges=((0, 10_000),))
FALLBACK = Arm(name="fallback", role="fallback", version="hold", digest="d")


def table(arms: tuple[Arm, ...], **changes) -> RouteTable:
    fields = {
        "endpoint": "cells",
        "epoch": 1,
        "pool": "policies",
        "salt": "exp-1:layer-0",
        "assign_by": "unit",
        "holdout_buckets": 0,
        "reward_low": 0.0,
        "reward_high": 1.0,
        "gamma": 1.0,
        "reward_deadline_s": 60.0,
        "deadline_ms": 250,
        "durability": "process",
        "on_full": "answer",
    }
    return RouteTable(arms=arms, **(fields | changes))


def shared(percent: float, **changes) -> RouteTable:
    arms = assignment.grow((CHAMPION, CHALLENGER), "challenger", count=round(percent * 100))
    return table(arms, **changes)


@pytest.mark.parametrize(("unit", "place"), [("unit-1", 5368), ("alice", 5244), ("robot-42", 2227), ("écran", 4071)])
def test_buckets_are_the_published_ones(unit: str, place: int) -> None:
    assert assignment.bucket("exp-1:layer-0", unit) == place


def test_a_share_of_ten_percent_gets_ten_percent_of_the_units() -> None:
    units = [f"u{i}" for i in range(20_000)]
    routes = shared(10)
    arms = [assignment.assign(routes, unit).arm.name for unit in units]
    assert abs(arms.count("challenger") / len(units) - 0.1) < 4 * np.sqrt(0.09 / len(units))


def test_probabilities_are_those_of_the_arms() -> None:
    routes = shared(25)
    found = {a.arm.name: a.probability for a in (assignment.assign(routes, f"u{i}") for i in range(100))}
    assert found == {"challenger": 0.25, "champion": 0.75}


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.integers(0, 10_000), min_size=2, max_size=6), st.text(max_size=20))
def test_growth_takes_from_the_champion_only_and_shrinking_gives_back(counts: list[int], unit: str) -> None:
    arms = (CHAMPION, CHALLENGER)
    for before, after in itertools.pairwise(counts):
        small, large = sorted((before, after))
        first = table(assignment.grow(arms, "challenger", count=small))
        second = table(assignment.grow(first.arms, "challenger", count=large))
        if assignment.assign(first, unit).arm.name == "challenger":
            assert assignment.assign(second, unit).arm.name == "challenger"
        assert assignment.grow(second.arms, "challenger", count=small) == first.arms
        assert assignment.grow(second.arms, "challenger", count=0) == arms


def test_a_second_challenger_takes_buckets_that_nobody_else_has() -> None:
    other = Arm(name="other", role="challenger", version="a:9", digest="z")
    arms = assignment.grow((CHAMPION, CHALLENGER, other), "challenger", count=1000)
    arms = assignment.grow(arms, "other", count=500)
    arms = assignment.grow(arms, "challenger", count=1200)
    assert arms[1].ranges == ((0, 1000), (1500, 1700))
    assert arms[2].ranges == ((1000, 1500),)
    assert [a.buckets for a in assignment.grow(arms, "challenger", count=900)[1:]] == [900, 500]


def test_shadow_and_fallback_answer_nobody() -> None:
    arms = (CHAMPION, SHADOW, FALLBACK)
    assert {assignment.assign(table(arms), f"u{i}").arm.name for i in range(200)} == {"champion"}
    with pytest.raises(InvalidInput, match="can own no buckets"):
        assignment.grow(arms, "shadow", count=5)


def test_an_emergency_stop_sends_everyone_to_the_fallback_or_else_the_champion() -> None:
    stopped = assignment.assign(table((CHAMPION, CHALLENGER, FALLBACK), estop=True), "u")
    assert (stopped.arm, stopped.probability, stopped.excluded) == (FALLBACK, 1.0, "estop")
    assert assignment.assign(table((CHAMPION,), estop=True), "u").arm is CHAMPION


def test_held_out_units_get_the_champion_whatever_the_experiment() -> None:
    units = [f"u{i}" for i in range(5_000)]
    first, second = (shared(50, holdout_buckets=500, salt=salt) for salt in ("one:0", "two:0"))
    out = [[u for u in units if assignment.assign(t, u).excluded == "holdout"] for t in (first, second)]
    assert out[0] == out[1]
    assert 190 < len(out[0]) < 310
    assert {assignment.assign(first, u).arm.name for u in out[0]} == {"champion"}


def test_different_salts_are_orthogonal() -> None:
    units = [f"u{i}" for i in range(40_000)]
    both = (assignment.buckets("a:0", units) < 1000) & (assignment.buckets("b:0", units) < 1000)
    assert abs(both.mean() - 0.01) < 4 * np.sqrt(0.0099 / len(units))


@pytest.mark.parametrize("changes", [{}, {"holdout_buckets": 2000}, {"estop": True}])
def test_many_units_at_once_get_the_same_answers(changes: dict) -> None:
    routes = shared(30, **changes)
    units = [f"u{i}" for i in range(300)]
    many = assignment.assign_many(routes, units)
    for i, unit in enumerate(units):
        one = assignment.assign(routes, unit)
        assert routes.arms[many.arm[i]] is one.arm
        assert many.probability[i] == pytest.approx(one.probability)
        assert many.excluded[i] == (one.excluded or "")


@pytest.mark.parametrize("count", [-1, 10_001])
def test_more_buckets_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="buckets"):
        assignment.grow((CHAMPION, CHALLENGER), "challenger", count=count)


def test_more_than_the_champion_has_is_refused() -> None:
    other = Arm(name="other", role="challenger", version="a:9", digest="z", ranges=((0, 6000),))
    with pytest.raises(InvalidInput, match="<= 4000"):
        assignment.grow((CHAMPION, CHALLENGER, other), "challenger", count=5000)


@pytest.mark.parametrize("salt", ["", "x" * 65])
def test_a_salt_that_blake2b_cannot_take_is_refused(salt: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 64 bytes"):
        assignment.bucket(salt, "u")
