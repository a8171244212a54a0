"""V-trace: by hand, generalised advantages without a lag, shut between episodes, and right about which value it finds."""

import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.train import columns
from rlaas_ray.train.asynchronous.vtrace import Correction, vtrace


def invented(seed: int, *, steps: int = 7, rows: int = 3):
    rng = np.random.default_rng(seed)
    size = (steps, rows)
    values = rng.standard_normal((steps + 1, rows), dtype=np.float32)
    terminated = rng.random(size) < 0.2
    return {
        "log_ratios": rng.normal(0, 0.7, size).astype(np.float32),
        "rewards": rng.standard_normal(size, dtype=np.float32),
        "values": values[:-1],
        "following": values[1:],
        "terminated": terminated,
        "truncated": (rng.random(size) < 0.2) & ~terminated,
    }


def test_two_steps_by_hand() -> None:
    targets, advantages = vtrace(
        log_ratios=np.log(np.array([[2.0], [0.5]], dtype=np.float32)),
        rewards=np.array([[1.0], [2.0]], dtype=np.float32),
        values=np.array([[10.0], [20.0]], dtype=np.float32),
        following=np.array([[20.0], [30.0]], dtype=np.float32),
        terminated=np.zeros((2, 1), dtype=np.bool_),
        truncated=np.zeros((2, 1), dtype=np.bool_),
        correction=Correction(gamma=0.9, rho_clip=1.5, c_clip=1.0),
    )
    # The second has rho = 0.5: 20 + 0.5 (2 + 0.9 * 30 - 20) is 24.5. The first has rho = 1.5 and c = 1, both clipped from 2:
    # 10 + 1.5 (1 + 0.9 * 20 - 10) + 0.9 (24.5 - 20) is 27.55.
    np.testing.assert_allclose(targets[:, 0], [27.55, 24.5], rtol=1e-6)
    # The advantages are 1.5 (1 + 0.9 * 24.5 - 10) and 0.5 (2 + 0.9 * 30 - 20).
    np.testing.assert_allclose(advantages[:, 0], [19.575, 4.5], rtol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_a_lag_it_is_generalised_advantages(seed: int, gae_lambda: float) -> None:
    given = invented(seed)
    given["log_ratios"][:] = 0
    targets, advantages = vtrace(**given, correction=Correction(gamma=0.9, gae_lambda=gae_lambda))
    del given["log_ratios"]
    wanted, wanted_targets = columns.advantages(**given, gamma=0.9, gae_lambda=gae_lambda)
    np.testing.assert_allclose(advantages, wanted, atol=2e-6)
    np.testing.assert_allclose(targets, wanted_targets, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_of_a_next_episode_comes_into_this_one(seed: int) -> None:
    given, other = invented(seed), invented(seed + 100)
    end = 3
    given["terminated"][end] = [True, False, True]
    given["truncated"][end] = ~given["terminated"][end]
    mixed = {name: np.concatenate([given[name][: end + 1], other[name][end + 1 :]]) for name in given}
    correction = Correction(gamma=0.95, gae_lambda=0.9, rho_clip=1.3)
    for mine, theirs in zip(
        vtrace(**given, correction=correction), vtrace(**mixed, correction=correction), strict=True
    ):
        np.testing.assert_array_equal(mine[: end + 1], theirs[: end + 1])


def test_a_terminated_step_is_worth_its_reward_and_a_truncated_one_what_follows_too() -> None:
    given = invented(0, steps=1, rows=2)
    given["terminated"][:] = [[True, False]]
    given["truncated"][:] = [[False, True]]
    given["log_ratios"][:] = 0
    targets, _ = vtrace(**given, correction=Correction(gamma=0.9))
    np.testing.assert_allclose(targets[0, 0], given["rewards"][0, 0], rtol=1e-5)
    np.testing.assert_allclose(targets[0, 1], given["rewards"][0, 1] + 0.9 * given["following"][0, 1], rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_ratios_above_the_clips_change_nothing_and_actions_never_taken_teach_nothing(seed: int) -> None:
    given = invented(seed)
    above = {**given, "log_ratios": np.abs(given["log_ratios"])}
    found = vtrace(**above, correction=Correction(gamma=0.9))
    on_policy = vtrace(**{**given, "log_ratios": np.zeros_like(given["rewards"])}, correction=Correction(gamma=0.9))
    np.testing.assert_array_equal(found[0], on_policy[0])
    never = {**given, "log_ratios": np.full_like(given["rewards"], -60.0)}
    targets, advantages = vtrace(**never, correction=Correction(gamma=0.9))
    np.testing.assert_allclose(targets, given["values"], atol=1e-6)
    np.testing.assert_allclose(advantages, 0, atol=1e-6)


def test_shapes_that_differ_are_refused() -> None:
    given = invented(0)
    with pytest.raises(errors.InvalidInput, match="one shape"):
        vtrace(**{**given, "rewards": given["rewards"][:-1]}, correction=Correction(gamma=0.9))


# A ring of three states. Action 0 stays, action 1 steps on; the reward is the state's, and staying in the last one costs.
STATES, GAMMA = 3, 0.8
REWARDS = np.array([[0.0, 1.0], [2.0, -1.0], [-3.0, 5.0]])
BEHAVIOUR = np.array([[0.8, 0.2], [0.3, 0.7], [0.9, 0.1]])
TARGET = np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]])


def value_of(policy: np.ndarray) -> np.ndarray:
    """In closed form."""
    transition = np.zeros((STATES, STATES))
    for state in range(STATES):
        transition[state, state] += policy[state, 0]
        transition[state, (state + 1) % STATES] += policy[state, 1]
    return np.linalg.solve(np.eye(STATES) - GAMMA * transition, (policy * REWARDS).sum(axis=1))


@pytest.mark.parametrize(("rho_clip", "c_clip"), [(20.0, 1.0), (1.0, 1.0), (1.0, 0.5), (20.0, 0.0)])
def test_from_another_policys_steps_it_finds_the_value_that_the_paper_says(rho_clip: float, c_clip: float) -> None:
    rng = np.random.default_rng(0)
    steps, rows = 24, 4000
    states = np.zeros((steps + 1, rows), dtype=np.int64)
    states[0] = rng.integers(STATES, size=rows)
    actions = np.zeros((steps, rows), dtype=np.int64)
    for t in range(steps):
        actions[t] = rng.random(rows) < BEHAVIOUR[states[t], 1]
        states[t + 1] = (states[t] + actions[t]) % STATES
    log_ratios = np.log(TARGET / BEHAVIOUR)[states[:-1], actions].astype(np.float32)
    never = np.zeros((steps, rows), dtype=np.bool_)
    values = np.zeros(STATES, dtype=np.float32)
    for _ in range(40):
        targets, _ = vtrace(
            log_ratios=log_ratios,
            rewards=REWARDS[states[:-1], actions].astype(np.float32),
            values=values[states[:-1]],
            following=values[states[1:]],
            terminated=never,
            truncated=never,
            correction=Correction(gamma=GAMMA, rho_clip=rho_clip, c_clip=c_clip),
        )
        values = np.array([targets[states[:-1] == state].mean() for state in range(STATES)], dtype=np.float32)
    # Its fixed point is the value of the policy that is proportional to min(rho_clip * behaviour, target).
    between = np.minimum(rho_clip * BEHAVIOUR, TARGET)
    wanted = value_of(between / between.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(values, wanted, atol=0.12)
    if rho_clip > 10:
        np.testing.assert_allclose(wanted, value_of(TARGET))
    assert np.abs(value_of(BEHAVIOUR) - wanted).max() > 1.0  # what the steps themselves were worth is far away
