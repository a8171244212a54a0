"""The tiny recommender: the page's exact values from both starts, by dynamic programming and by playing."""

import numpy as np
import pytest

from rlaas_ray.envs import philox, registry, scoring
from rlaas_ray.envs.recommendation import baselines_tiny, tiny
from rlaas_ray.errors import InvalidInput

NEUTRAL = int(tiny.number(np.full((1, tiny.TOPICS), 2))[0])


def greedy():
    policy = np.zeros((tiny.STATES, len(tiny.SLATES)))
    policy[np.arange(tiny.STATES), tiny.myopic()] = 1.0
    return policy


@pytest.mark.parametrize(
    ("policy", "mean", "neutral"),
    [
        (lambda: None, 43.5254, 42.6027),
        (greedy, 37.3888, 32.6358),
        (lambda: np.full((tiny.STATES, 6), 1 / 6), 33.9948, 33.2570),
    ],
    ids=["optimal", "myopic", "random"],
)
def test_the_backward_pass_gives_the_pages_values(policy, mean, neutral):
    values, _ = tiny.solve(policy())
    assert values[tiny.BUDGET].mean() == pytest.approx(mean, abs=1e-4)
    assert values[tiny.BUDGET, NEUTRAL] == pytest.approx(neutral, abs=1e-4)


def test_no_policy_is_better_and_time_is_worth_having():
    best, worth = tiny.solve(None)
    assert (worth <= best[:, :, None] + 1e-12).all()
    assert (best[1:] > best[:-1]).all()
    assert (best >= tiny.solve(greedy())[0] - 1e-12).all()


def test_the_optimum_that_serves_is_the_optimum_of_the_pass():
    seen = tiny.observations()
    slate = baselines_tiny.optimum().distribution(seen.reshape(-1, 5)).astype(int).reshape(41, 625)
    value = tiny.solve(np.eye(6)[slate])[0]
    assert value == pytest.approx(tiny.solve(None)[0], abs=1e-12)


def test_equals_go_to_the_first_slate():
    assert tiny.myopic()[NEUTRAL] == 0
    assert tiny.SLATES[0].tolist() == [0, 1]  # the costliest


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(baselines_tiny.POLICIES))
def test_playing_earns_what_the_pass_says(name):
    env = registry.ours()[registry.ours().index("rlaas/SlateRecommendation-tiny-v1")]
    play = scoring.act_of(baselines_tiny.POLICIES[name](), env=env)
    returns, _ = scoring.episode_returns(env, play, mode=None, seeds=[5], episodes=20_000)
    policy = {"random": np.full((tiny.STATES, 6), 1 / 6), "myopic": greedy(), "optimum": None}[name]
    wanted = tiny.solve(policy)[0][tiny.BUDGET].mean()
    assert returns.mean() == pytest.approx(wanted, abs=4 * returns.std() / len(returns) ** 0.5)


def test_a_step_moves_one_interest_by_one_and_the_budget_by_the_cost():
    world = tiny.Tiny()
    streams = philox.streams(1, num_envs=500)
    state, _, _ = world.reset(streams)
    rng = np.random.default_rng(0)
    for _ in range(6):
        action = rng.integers(6, size=500)
        after, seen, reward, _, ended, _, info = world.step(state, action, streams=streams)
        moved = np.abs(after["level"] - state["level"]).sum(axis=1)
        spent = state["budget"] - after["budget"]
        clicked = info["objectives"][:, 1] > 0
        assert (moved <= clicked).all()
        assert (reward == np.where(clicked, np.minimum(state["budget"], 4), 0)).all()
        assert (spent[~clicked] == 1).all()
        assert set(spent[clicked].tolist()) <= {2, 3, 4, 5}
        assert seen[:, 4] == pytest.approx(after["budget"] / 40)
        assert not ended.any()
        state = after


def test_interests_at_the_ends_stay_there():
    world = tiny.Tiny()
    state = {"level": np.full((200, 4), 4), "budget": np.full(200, 40), "t": np.zeros(200, np.uint32)}
    after, *_ = world.step(state, np.zeros(200, int), streams=philox.streams(0, num_envs=200))
    assert (after["level"] == 4).all()  # with interest 1 the step is always up


def test_actions_that_are_none_are_refused():
    for action in ([6], [-1], [0.0], [[1]]):
        with pytest.raises(InvalidInput, match="tiny"):
            tiny.Tiny().check(np.asarray(action))
