"""The regression on a unit's first observation: exact where it can be, harmless where it cannot."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput
from rlaas_ray.evaluation import adjustment, sequential
from rlaas_ray.testing import rows


def data(count: int, *, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 4)) * [1, 10, 0.1, 1]
    return features, 0.5 + features @ [0.1, 0.005, 0.3, 0.0] + noise * rng.standard_normal(count)


def test_a_linear_outcome_is_found_and_its_residual_spread_told() -> None:
    features, outcomes = data(500, noise=0.03)
    regression = adjustment.fit(features, outcomes)
    assert regression.spread == pytest.approx(0.03, rel=0.1)
    fresh, values = data(200, noise=0.0, seed=1)
    errors = [regression.predict(x) - y for x, y in zip(fresh, values, strict=True)]
    assert np.std(errors) < 0.005


def test_ridge_is_the_textbook_solution_on_standardised_features() -> None:
    features, outcomes = data(150, noise=0.1)
    regression = adjustment.fit(features, outcomes)
    standard = (features - features.mean(0)) / features.std(0)
    weight = np.linalg.inv(standard.T @ standard + np.eye(4)) @ standard.T @ (outcomes - outcomes.mean())
    np.testing.assert_allclose(regression.weight, weight, rtol=1e-9)


def test_constant_and_broken_features_weigh_nothing() -> None:
    features, outcomes = data(300, noise=0.05)
    wide = np.column_stack([features, np.full(300, 0.1), np.full(300, np.nan)])
    regression = adjustment.fit(wide, outcomes)
    assert regression.weight[4] == regression.weight[5] == 0.0
    assert math.isfinite(regression.predict(np.array([np.nan, np.inf, 0.0, 0.0, 5.0, 1.0])))


@pytest.mark.parametrize(("count", "width"), [(99, 4), (100, 40)])
def test_too_few_units_give_no_regression(count: int, width: int) -> None:
    assert adjustment.fit(np.random.default_rng(0).random((count, width)), np.zeros(count)) is None


def test_a_wide_raw_observation_is_refused_with_the_cure() -> None:
    assert adjustment.raw_observation(np.ones((2, 32), np.float32)).dtype == np.float64
    with pytest.raises(InvalidInput, match="at most 32") as caught:
        adjustment.raw_observation(np.ones((2, 33), np.float32))
    assert "covariates" in caught.value.cure


CONFIG = sequential.FoldConfig(
    start_epoch=5,
    champion="champion",
    challenger="challenger",
    reward_low=0.0,
    reward_high=1.0,
    gamma=1.0,
    deadline_us=60_000_000,
    adjust="first_observation",
)


def canary_of(config: sequential.FoldConfig, *, parts: int = 1, drop: float = 0.05) -> sequential.Fold:
    """500 units before, 600 in the canary, outcomes that the observation nearly tells; the challenger loses `drop`."""
    rng = np.random.default_rng(12)
    count = 1100
    observation = rng.normal(size=(count, 3)).astype(np.float32)
    labels = (rng.random(count) < 0.25) & (np.arange(count) >= 500)
    outcome = 0.6 + 0.1 * observation[:, 0] + 0.01 * rng.standard_normal(count) - drop * labels
    names = [f"d{i}" for i in range(count)]
    decisions = rows.decisions(
        names,
        epoch=np.where(np.arange(count) < 500, 4, 5),
        arm=np.where(labels, "challenger", "champion").tolist(),
        arm_probability=np.where(labels, 0.25, 0.75),
        observation=observation,
    )
    rewards = rows.rewards(names, reward=outcome)
    fold = sequential.Fold(config)
    for index in np.array_split(np.arange(count), parts):
        fold.add(decisions.take(index), rewards.take(index), now_us=0)
    return fold


def test_the_regression_sharpens_the_reward_test_and_the_interval() -> None:
    plain = canary_of(replace(CONFIG, adjust="none"))
    sharp = canary_of(CONFIG)
    assert sharp.evidence().adjusted
    assert not plain.evidence().adjusted
    assert sharp.evidence().spread < 0.05 < plain.evidence().spread
    assert sharp.evidence().log_e_reward > 20 + plain.evidence().log_e_reward
    width = [f.evidence().effect_high - f.evidence().effect_low for f in (plain, sharp)]
    assert width[1] < width[0] / 3
    assert sharp.evidence().effect_low < -0.05 < sharp.evidence().effect_high


def test_ticks_do_not_change_an_adjusted_canary() -> None:
    assert canary_of(CONFIG).evidence() == canary_of(CONFIG, parts=17).evidence()


def test_covariates_that_the_environment_gives_are_used() -> None:
    blind = replace(CONFIG, covariates=lambda x: x[:, 1:].astype(np.float64))
    assert canary_of(blind).evidence().spread > 2 * canary_of(CONFIG).evidence().spread
