"""TD3's and DDPG's engine: gradients are autograd's, delays and smoothing the paper's, critics untouched by the actor."""

from dataclasses import replace

import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput
from rlaas_ray.train.actor_critic import deterministic, oracle

TD3 = {"critics": 2, "policy_delay": 2, "target_noise": 0.2, "target_noise_clip": 0.5}
DDPG = {"critics": 1, "policy_delay": 1, "target_noise": 0.0, "target_noise_clip": 0.0}


def make(**changed):
    given = {
        "observations": 3,
        "actions": 2,
        "hidden": (32, 16),
        "activation": "relu",
        "tau": 0.25,
        "gradient_clip": None,
    }
    rng = np.random.default_rng(3)
    engine = deterministic.Deterministic(deterministic.Settings(**{**given, **TD3, **changed}), rng=rng)
    for target in (engine.actor_target, engine.critic_targets):
        target.flat[:] += rng.normal(0, 0.1, target.flat.shape).astype(np.float32)
    return engine, rng


def close(given: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(given, wanted, atol=2e-6 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("kind", [TD3, DDPG], ids=["td3", "ddpg"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_gradients_are_autograds(kind: dict, activation: str) -> None:
    engine, rng = make(activation=activation, **kind)
    batch = oracle.random_batch(engine, rng=rng, rows=200)
    noise = engine.noise(200, rng=rng)
    wanted = oracle.of_deterministic(engine, batch, noise=noise)
    engine.critic_gradient(batch, noise=noise)
    engine.actor_gradient(batch)
    close(engine.critics.gradient, wanted.critics)
    close(engine.actor.gradient, wanted.actor)
    assert engine.stats()["actor_loss"] == pytest.approx(wanted.actor_loss, rel=1e-4, abs=1e-6)


def test_the_actors_loss_never_reaches_the_critics() -> None:
    engine, rng = make()
    batch = oracle.random_batch(engine, rng=rng)
    engine.critic_gradient(batch, noise=engine.noise(len(batch), rng=rng))
    gradient, parameters = engine.critics.gradient.copy(), engine.critics.flat.copy()
    engine.actor_gradient(batch)
    np.testing.assert_array_equal(engine.critics.gradient, gradient)
    np.testing.assert_array_equal(engine.critics.flat, parameters)


def test_actor_and_targets_wait_for_the_delay() -> None:
    engine, rng = make(policy_delay=3)
    batch = oracle.random_batch(engine, rng=rng)
    actor, targets = engine.actor.flat.copy(), engine.critic_targets.flat.copy()
    for _ in range(2):
        engine.update(batch, rng=rng, learning_rate=1e-2)
    np.testing.assert_array_equal(engine.actor.flat, actor)
    np.testing.assert_array_equal(engine.critic_targets.flat, targets)
    engine.update(batch, rng=rng, learning_rate=1e-2)
    assert np.abs(engine.actor.flat - actor).max() > 1e-3
    np.testing.assert_allclose(engine.critic_targets.flat, 0.75 * targets + 0.25 * engine.critics.flat, atol=1e-6)


def test_smoothing_noise_is_clipped_and_ddpg_has_none() -> None:
    engine, rng = make(target_noise=0.4)
    noise = engine.noise(4_000, rng=rng)
    assert np.abs(noise).max() == np.float32(0.5)
    assert 0.15 < (np.abs(noise) == np.float32(0.5)).mean() < 0.28  # 2 (1 - Phi(1.25)) = 0.21
    assert not make(**DDPG)[0].noise(10, rng=rng).any()


def test_termination_ends_the_target_and_truncation_does_not() -> None:
    engine, rng = make()
    batch = oracle.random_batch(engine, rng=rng)
    noise = engine.noise(len(batch), rng=rng)
    ended = replace(batch, discounts=np.zeros_like(batch.discounts))
    errors = engine.critic_gradient(ended, noise=noise)
    elsewhere = replace(ended, next_observations=batch.next_observations + 1)
    np.testing.assert_array_equal(engine.critic_gradient(elsewhere, noise=noise), errors)
    truncated = replace(batch, discounts=np.full_like(batch.discounts, 0.98))
    assert np.abs(engine.critic_gradient(truncated, noise=noise) - errors).max() > 1e-3


def test_a_checkpoint_goes_on_bit_for_bit() -> None:
    engine, rng = make()
    batches = [oracle.random_batch(engine, rng=rng) for _ in range(6)]
    for batch in batches[:3]:
        engine.update(batch, rng=np.random.default_rng(1), learning_rate=1e-3)
    other, _ = make()
    other.load_state(engine.state())
    for batch in batches[3:]:
        for each in (engine, other):
            each.update(batch, rng=np.random.default_rng(2), learning_rate=1e-3)
    for name, array in engine.state().items():
        np.testing.assert_array_equal(other.state()[name], array)
    with pytest.raises(InvalidInput, match="another network"):
        make(hidden=(8,))[0].load_state(engine.state())


def test_a_quadratic_bandit_is_solved_in_closed_form() -> None:
    """Reward -(a - m(s))^2 with m(s) = 0.5 s: every episode ends at once, so Q(s, a) is the reward and mu(s) must be m(s)."""
    engine, rng = make(observations=1, actions=1, hidden=(32, 32), activation="tanh", **DDPG)
    for _ in range(2_000):
        observations = rng.uniform(-1, 1, (64, 1)).astype(np.float32)
        actions = rng.uniform(-1, 1, (64, 1)).astype(np.float32)
        rewards = -np.square(actions - 0.5 * observations)[:, 0]
        engine.update(
            oracle.Batch(
                observations=observations,
                next_observations=observations,
                actions=actions,
                rewards=rewards,
                discounts=np.zeros(64, dtype=np.float32),
            ),
            rng=rng,
            learning_rate=2e-3,
        )
    grid = np.linspace(-0.9, 0.9, 64, dtype=np.float32)[:, None]
    np.testing.assert_allclose(engine._act(engine.actor.parts[0], grid), 0.5 * grid, atol=0.05)
