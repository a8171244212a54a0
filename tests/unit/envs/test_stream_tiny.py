"""The tiny dataflow: every policy's value exactly, and the env's own step against the tables it was computed from."""

import numpy as np
import pytest

from rlaas_ray.envs import philox
from rlaas_ray.envs.stream import baselines_tiny, tiny

# Section 6 of the design: backward sweeps over 351 states and 60 steps.
VALUES = {
    "ds2_catchup": -20.38701,
    "threshold": -20.62316,
    "ds2": -25.74112,
    "hold": -51.60563,
}
# (3, 3) by hand: one step of restart with a record waiting, 59 of six instances. The page gives it and (2, 2) to four digits.
STATIC = {(3, 3): -(1 / 12 + 0.1) - 60 * 0.36, (2, 2): -23.67548, (1, 1): -51.60563}


def chances(policy):
    """Probabilities (351, 9) of a deterministic stationary policy."""
    index = policy.distribution(tiny.observe(tiny.states())).astype(int)
    return np.eye(tiny.ACTIONS)[index[:, 0] * tiny.CHOICES + index[:, 1]]


def test_there_are_351_states_and_the_best_value_is_that_of_the_page():
    assert tiny.STATES == 351
    best, plan = tiny.optimum()
    assert best == pytest.approx(-17.87253, abs=1e-5)
    assert plan.shape == (60, 351)


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_rule_is_worth_what_the_page_says(name):
    assert tiny.value(chances(baselines_tiny.POLICIES[name]())) == pytest.approx(VALUES[name], abs=1e-5)


@pytest.mark.parametrize("counts", sorted(STATIC))
def test_a_constant_is_worth_what_the_page_says(counts):
    found = tiny.value(chances(baselines_tiny.static(*counts)))
    assert found == pytest.approx(STATIC[counts], abs=1e-5)


def test_random_and_one_step_greedy_are_worth_what_the_page_says():
    assert tiny.value(np.full((351, 9), 1 / 9)) == pytest.approx(-99.01017, abs=1e-5)
    rewards, _ = tiny.tables()
    greedy = np.eye(tiny.ACTIONS)[rewards.argmax(axis=1)]
    assert tiny.value(greedy) == pytest.approx(-51.60563, abs=1e-5)


def test_an_observation_shows_the_whole_state():
    every = tiny.states() | {"t": np.arange(351) % 60}
    seen = tiny.read(tiny.observe(every))
    assert all(np.array_equal(seen[name], every[name]) for name in every)
    assert np.array_equal(tiny.index(every), np.arange(351))


def test_the_env_earns_what_the_tables_say_and_its_rates_follow_the_chain():
    made, batch = tiny.Tiny(), 4000
    streams = philox.streams(3, num_envs=batch)
    state, _, _ = made.reset(streams)
    rewards, follow = tiny.tables()
    rng, moves = np.random.default_rng(0), np.zeros((3, 3))
    total = np.zeros(batch)
    for _ in range(tiny.STEPS):
        action = rng.integers(3, size=(batch, 2))
        number, at = action[:, 0] * 3 + action[:, 1], tiny.index(state)
        before = state["level"]
        state, _, reward, cost, _, cut, info = made.step(state, action, streams=streams)
        assert np.allclose(reward, rewards[at, number], atol=1e-12)
        assert np.array_equal(tiny.index(state), follow[at, number, state["level"]])
        assert np.array_equal(cost[:, 0], info["objectives"][:, 3] >= 1)
        np.add.at(moves, (before, state["level"]), 1)
        total += reward
    assert cut.all()
    assert np.allclose(moves / moves.sum(axis=1, keepdims=True), tiny.MOVES, atol=0.01)
    assert total.mean() == pytest.approx(-99.01017, abs=4 * total.std() / batch**0.5)


def test_the_optimum_plays_as_well_as_it_is_worth():
    made, batch = tiny.Tiny(), 4000
    streams, policy = philox.streams(4, num_envs=batch), baselines_tiny.optimum()
    state, seen, _ = made.reset(streams)
    total = np.zeros(batch)
    for _ in range(tiny.STEPS):
        state, seen, reward, *_ = made.step(state, policy.distribution(seen).astype(np.int64), streams=streams)
        total += reward
    assert total.mean() == pytest.approx(-17.87253, abs=4 * total.std() / batch**0.5)
