"""The squashed Gaussian: its density sums to one, is that of what it draws, stays finite near bounds, and trains as it serves."""

import gymnasium.spaces as gs
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import heads
from rlaas_ray.train.actor_critic import squashed


def params(mean: float, log_std: float, *, n: int = 1) -> np.ndarray:
    return np.tile(np.array([mean, log_std], np.float32), (n, 1))


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.5, -1.0), (-0.7, 1.0), (0.2, 5.0)])
def test_the_density_sums_to_one(mean: float, log_std: float) -> None:
    head = heads.SquashedGaussian(entries=1)

    def over_u(u: float) -> float:  # a = tanh(u), da = (1 - a^2) du
        a = np.tanh(u)
        return float(np.exp(head.log_prob(params(mean, log_std), np.array([[a]])))[0] * (1 - a * a))

    total = integrate.quad(over_u, -12, 12, limit=400)[0]
    clipped = min(log_std, heads.LOG_STD_HIGH)
    normal = stats.norm(mean, np.exp(clipped))
    assert total == pytest.approx(normal.cdf(12) - normal.cdf(-12), abs=1e-6)


def test_a_draw_says_the_density_of_what_it_drew() -> None:
    head = heads.SquashedGaussian(entries=3)
    rows = np.random.default_rng(0).normal(0, 1, (2_000, 6)).astype(np.float32)
    drawn = head.draw(rows, rng=np.random.default_rng(1))
    assert (np.abs(drawn.proposed) < 1).all()
    np.testing.assert_allclose(np.log(drawn.propensity), head.log_prob(rows, drawn.proposed), rtol=1e-6, atol=1e-6)


def test_draws_follow_the_density() -> None:
    head, n = heads.SquashedGaussian(entries=1), 20_000
    drawn = head.sample(params(0.4, -0.5, n=n), rng=np.random.default_rng(3))[:, 0]
    assert stats.kstest(np.arctanh(drawn), stats.norm(0.4, np.exp(-0.5)).cdf).pvalue > 1e-3


@pytest.mark.parametrize("mean", [9.0, -14.0, 40.0, -1e6])
def test_near_the_bounds_everything_stays_finite_and_inside(mean: float) -> None:
    head = heads.SquashedGaussian(entries=1)
    drawn = head.draw(params(mean, 0.0, n=200), rng=np.random.default_rng(5))
    assert (np.abs(drawn.proposed) < 1).all()
    assert np.isfinite(drawn.propensity).all()
    assert np.isfinite(head.log_prob(params(mean, 0.0, n=200), drawn.proposed)).all()
    assert (np.abs(head.mode(params(mean, 0.0))) < 1).all()


def test_outside_the_bounds_nothing_is_probable() -> None:
    head = heads.SquashedGaussian(entries=2)
    found = head.log_prob(np.zeros((3, 4), np.float32), np.array([[0.0, 1.0], [-1.5, 0.0], [0.5, 0.5]]))
    assert np.isneginf(found[:2]).all()
    assert np.isfinite(found[2])


def test_it_is_torchs_own_transformed_distribution() -> None:
    head = heads.SquashedGaussian(entries=2)
    rows = np.random.default_rng(2).normal(0, 1, (64, 4)).astype(np.float32)
    drawn = head.draw(rows, rng=np.random.default_rng(1))
    mean, log_std = torch.from_numpy(rows).double().chunk(2, dim=1)
    policy = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp()), [torch.distributions.TanhTransform()]
    )
    wanted = policy.log_prob(torch.from_numpy(drawn.proposed)).sum(dim=1).numpy()
    np.testing.assert_allclose(head.log_prob(rows, drawn.proposed), wanted, rtol=1e-6, atol=1e-6)


def test_training_draws_and_judges_as_serving_does() -> None:
    head = heads.SquashedGaussian(entries=2)
    rng = np.random.default_rng(4)
    rows = rng.normal(0, 1.5, (512, 4)).astype(np.float32)
    noise = rng.standard_normal((512, 2), dtype=np.float32)
    drawn = squashed.draw(rows, noise)
    u = rows[:, :2].astype(float) + np.exp(np.clip(rows[:, 2:].astype(float), -5, 2)) * noise
    served = head.log_prob(rows, np.tanh(u))
    close = np.abs(u).max(axis=1) < 6  # beyond, float32's tanh has no digits left to compare by
    np.testing.assert_allclose(drawn.actions[close], np.tanh(u)[close], atol=1e-6)
    np.testing.assert_allclose(drawn.log_probability[close], served[close], atol=2e-4)


def test_json_there_and_back_and_only_for_bounded_boxes() -> None:
    head = heads.SquashedGaussian(entries=2)
    assert heads.from_json(head.to_json()) == head
    heads.check(head, action_space=gs.Box(-2, 2, (2,)))
    for space in (gs.Box(-np.inf, 2, (2,)), gs.Box(-2, 2, (3,)), gs.Discrete(2)):
        with pytest.raises(InvalidInput):
            heads.check(head, action_space=space)
