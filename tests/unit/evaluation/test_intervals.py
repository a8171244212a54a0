"""Intervals: a worked table value, coverage, and refusal of what has no spread."""

import math

import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput
from rlaas_ray.evaluation import intervals


def test_the_t_interval_of_a_worked_sample():
    # 1..5: mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445 (any table of Student's t)
    found = intervals.t_interval(np.arange(1.0, 6.0))
    half = 2.776445105 * math.sqrt(2.5 / 5)
    assert (found.mean, found.level) == (3.0, 0.95)
    assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_the_t_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(4)
    found = [intervals.t_interval(rng.normal(size=8), level=0.9) for _ in range(4000)]
    covered = np.mean([i.low <= 0 <= i.high for i in found])
    assert abs(covered - 0.9) <= 4 * math.sqrt(0.9 * 0.1 / 4000)


def test_the_bootstrap_of_many_values_agrees_with_the_normal_interval():
    values = np.random.default_rng(1).exponential(size=2000)
    found = intervals.bootstrap(values, rng=np.random.default_rng(2), resamples=4000)
    half = 1.959964 * values.std() / math.sqrt(2000)
    # the quantile of 4,000 resampled means has a standard error of about 0.033 half-widths: 4 of those, twice for skew
    assert found.low == pytest.approx(values.mean() - half, abs=0.27 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.27 * half)


def test_the_bootstrap_is_its_generators():
    values = np.arange(40.0)
    first, second = (intervals.bootstrap(values, rng=np.random.default_rng(9)) for _ in range(2))
    assert first == second
    assert first != intervals.bootstrap(values, rng=np.random.default_rng(10))
    assert set(first.to_json()) == {"mean", "low", "high", "level"}


@pytest.mark.parametrize("values", [np.ones(1), np.ones((2, 2)), np.array([1.0, np.nan]), np.array([1.0, np.inf])])
def test_values_without_a_spread_are_refused(values):
    with pytest.raises(InvalidInput, match="two or more finite"):
        intervals.t_interval(values)


def test_a_level_that_is_no_probability_is_refused():
    with pytest.raises(InvalidInput, match="level"):
        intervals.t_interval(np.arange(3.0), level=95)
