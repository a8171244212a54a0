"""Fragment columns: advantages by closed forms, running moments against NumPy, standardisation."""

import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.train import columns

GAMMA, LAMBDA = 0.9, 0.5


def of(rewards, values, following, terminated, truncated=None):
    """One column (T,) as (T, 1) arrays."""

    def column(array, dtype):
        return np.array(array, dtype=dtype)[:, None]

    if truncated is None:
        truncated = [False] * len(rewards)
    return columns.advantages(
        rewards=column(rewards, np.float32),
        values=column(values, np.float32),
        following=column(following, np.float32),
        terminated=column(terminated, np.bool_),
        truncated=column(truncated, np.bool_),
        gamma=GAMMA,
        gae_lambda=LAMBDA,
    )


def test_an_advantage_without_bootstrap_is_the_discounted_sum_of_errors() -> None:
    found, targets = of([1, 2, 3], [0.5, 0.25, 0.125], [0.25, 0.125, 9.0], [False, False, True])
    last = 3 - 0.125  # terminated: the following value 9 must not count
    middle = 2 + GAMMA * 0.125 - 0.25 + GAMMA * LAMBDA * last
    first = 1 + GAMMA * 0.25 - 0.5 + GAMMA * LAMBDA * middle
    np.testing.assert_allclose(found[:, 0], [first, middle, last], rtol=1e-6)
    np.testing.assert_allclose(targets[:, 0], [first + 0.5, middle + 0.25, last + 0.125], rtol=1e-6)


def test_a_truncated_episode_bootstraps_from_its_final_observation_and_stops_there() -> None:
    found, _ = of([1, 5], [0, 0], [2.0, 0.0], [False, False], [True, False])
    np.testing.assert_allclose(found[:, 0], [1 + GAMMA * 2.0, 5.0], rtol=1e-6)


def test_lambda_one_gives_the_monte_carlo_return_less_the_value() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(6, 3)).astype(np.float32)
    values = rng.normal(size=(7, 3)).astype(np.float32)
    none = np.zeros((6, 3), dtype=np.bool_)
    found, targets = columns.advantages(
        rewards=rewards,
        values=values[:-1],
        following=values[1:],
        terminated=none,
        truncated=none,
        gamma=GAMMA,
        gae_lambda=1.0,
    )
    returns = values[6].astype(np.float64)
    for t in range(5, -1, -1):
        returns = rewards[t] + GAMMA * returns
        np.testing.assert_allclose(targets[t], returns, rtol=1e-5)
        np.testing.assert_allclose(found[t], returns - values[t], rtol=1e-4, atol=1e-5)


def test_next_step_autoreset_invalidates_exactly_the_step_after_a_done_over_fragment_borders() -> None:
    done = np.array([[False, True], [True, False], [False, False]])
    valid = columns.valid_next_step(np.array([True, False]), done)
    np.testing.assert_array_equal(valid, [[False, True], [True, False], [False, True]])


def test_arrays_of_different_shapes_are_refused() -> None:
    good = np.zeros((2, 3), dtype=np.float32)
    flags = np.zeros((2, 3), dtype=np.bool_)
    with pytest.raises(errors.InvalidInput, match="fragment"):
        columns.advantages(
            rewards=good,
            values=good,
            following=good[:1],
            terminated=flags,
            truncated=flags,
            gamma=0.9,
            gae_lambda=0.9,
        )


def test_standardised_advantages_have_mean_zero_and_deviation_one_and_constants_become_zero() -> None:
    values = np.random.default_rng(0).normal(5, 3, 1000).astype(np.float32)
    found = columns.standardise(values)
    assert found.dtype == np.float32
    assert abs(float(found.mean())) < 1e-6
    assert float(found.std()) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(columns.standardise(np.full(4, 7, dtype=np.float32)), np.zeros(4))


def test_merged_moments_equal_those_of_all_rows_in_any_grouping() -> None:
    rows = np.random.default_rng(1).normal(1e4, 2.0, (300, 3))
    whole = columns.moments(rows)
    merged = columns.no_moments(3)
    for part in np.split(rows, [0, 1, 17, 120]):
        merged = columns.merge(merged, columns.moments(part))
    assert merged.count == whole.count == 300
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.variance, rows.var(axis=0), rtol=1e-8)
    np.testing.assert_allclose(whole.variance, rows.var(axis=0), rtol=1e-8)


def test_normalised_observations_are_clipped_and_constants_only_centred() -> None:
    seen = columns.moments(np.array([[0.0, 0.5], [2.0, 0.5], [4.0, 0.5 + 1e-8]]))
    mean, scale = columns.scale_of(seen)
    assert scale[1] == 1.0
    found = columns.normalise(np.array([[2.0, 0.5], [1e6, 3.5]], dtype=np.float32), mean=mean, scale=scale)
    np.testing.assert_allclose(found, [[0.0, 0.0], [10.0, 3.0]], atol=1e-6)


def test_joined_columns_keep_every_row_in_order() -> None:
    def part(first: int, count: int) -> columns.Columns:
        numbers = np.arange(first, first + count, dtype=np.float32)
        return columns.Columns(
            observations=numbers[:, None],
            actions=numbers.astype(np.int64)[:, None],
            log_probabilities=numbers,
            advantages=numbers,
            targets=numbers,
        )

    joined = columns.join([part(0, 2), part(2, 3)])
    assert len(joined) == 5
    np.testing.assert_array_equal(joined.targets, np.arange(5))
    np.testing.assert_array_equal(joined.actions[:, 0], np.arange(5))
