"""Many agents: advantages over own turns equal a slow reference and, without absences, plain GAE; copies count and start anew."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rlaas_ray import errors
from rlaas_ray.envs import multi_agent
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, families, worlds
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.multi_agent import family, turns
from rlaas_ray.train.multi_agent.turns import Turns


def slow(given: Turns, *, row: int, gamma: float, gae_lambda: float) -> dict[int, float]:
    """Advantage of each own turn of one row, episode by episode, from its definition."""
    steps = given.rewards.shape[0]
    deltas: list[tuple[int, float, bool]] = []
    own = [t for t in range(steps) if given.acted[t, row]]
    for place, t in enumerate(own):
        until = own[place + 1] if place + 1 < len(own) else steps
        end = next((u for u in range(t, until) if given.terminated[u, row] or given.truncated[u, row]), None)
        last = until - 1 if end is None else end
        reward = float(given.rewards[t : last + 1, row].sum())
        if end is not None:
            value = 0.0 if given.terminated[end, row] else float(given.final[end, row])
        elif until < steps:
            value = float(given.values[until, row])
        elif given.seen_last[row]:
            value = float(given.last[row])
        else:
            deltas.append((t, float("nan"), True))
            continue
        deltas.append((t, reward + gamma * value - float(given.values[t, row]), end is not None))
    found, running = {}, 0.0
    for t, delta, ended in reversed(deltas):
        if np.isnan(delta):
            continue
        running = delta + (0.0 if ended else gamma * gae_lambda * running)
        found[t] = running
    return found


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 12), absent=st.floats(0, 0.8), ends=st.floats(0, 0.5))
def test_advantages_are_those_of_own_turns(seed: int, steps: int, absent: float, ends: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (steps, 3)
    numbers = rng.normal(size=(3, *shape)).astype(np.float32)
    done = rng.random(shape) < ends
    kind = rng.random(shape) < 0.5
    made = Turns(
        rewards=numbers[0],
        values=numbers[1],
        acted=rng.random(shape) >= absent,
        terminated=done & kind,
        truncated=done & ~kind,
        final=numbers[2],
        last=rng.normal(size=3).astype(np.float32),
        seen_last=rng.random(3) < 0.5,
    )
    found, targets, valid = turns.advantages(made, gamma=0.9, gae_lambda=0.7)
    for row in range(3):
        wanted = slow(made, row=row, gamma=0.9, gae_lambda=0.7)
        assert set(np.flatnonzero(valid[:, row])) == set(wanted)
        for t, value in wanted.items():
            assert found[t, row] == pytest.approx(value, abs=1e-4)
    np.testing.assert_allclose(targets, found + made.values)


def test_without_absences_they_are_plain_generalised_advantages() -> None:
    rng = np.random.default_rng(0)
    rewards, values, following = rng.normal(size=(3, 9, 4)).astype(np.float32)
    terminated = rng.random((9, 4)) < 0.2
    truncated = ~terminated & (rng.random((9, 4)) < 0.2)
    done = terminated | truncated
    values[1:] = np.where(done[:-1], values[1:], following[:-1])
    wanted, _ = columns.advantages(
        rewards=rewards,
        values=values,
        following=following,
        terminated=terminated,
        truncated=truncated,
        gamma=0.95,
        gae_lambda=0.8,
    )
    made = Turns(
        rewards=rewards,
        values=values,
        acted=np.ones((9, 4), dtype=np.bool_),
        terminated=terminated,
        truncated=truncated,
        final=following,
        last=following[-1],
        seen_last=np.ones(4, dtype=np.bool_),
    )
    found, _, valid = turns.advantages(made, gamma=0.95, gae_lambda=0.8)
    assert valid.all()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_copies_hold_agents_in_order_and_start_anew_by_themselves() -> None:
    copies = multi_agent.make("together:Turns", config={}, copies=2, seed=3)
    assert [agent.name for agent in copies.agents] == ["asker", "answerer"]
    assert copies.present.tolist() == [[True, False]] * 2
    overs = []
    for step in range(12):
        zeros = {"asker": np.zeros(2, dtype=np.int64), "answerer": np.zeros(2, dtype=np.int64)}
        stepped = copies.step(zeros)
        overs.append(stepped.over.tolist())
        assert copies.present[:, (step % 2 == 0 and 1) or 0].all()
        assert (stepped.rewards[:, 0] == stepped.rewards[:, 1]).all()
        assert stepped.terminated.any() == (step == 11)
    assert overs == [[False, False]] * 11 + [[True, True]]
    again = [multi_agent.make("together:Turns", config={}, copies=2, seed=3) for _ in range(2)]
    assert again[0].observations["asker"] == again[1].observations["asker"]


def test_pettingzoos_end_is_an_empty_list_of_agents() -> None:
    copies = multi_agent.make("together:Meeting", config={}, copies=1, seed=0)
    overs = [
        bool(copies.step({"left": np.zeros(1, dtype=np.int64), "right": np.zeros(1, dtype=np.int64)}).over[0])
        for _ in range(16)
    ]
    assert overs == [False] * 7 + [True] + [False] * 7 + [True]


def built(env: str, kind: str, **more):
    spec = TrainSpec(env=env, multi_agent=kind, num_env_runners=0, num_envs_per_runner=4, batch_size=48, **more)
    made = worlds.of(spec)
    found = families.of(spec)
    return spec, made, found.resolve(spec, made)


def test_the_sum_of_all_agents_is_the_return_and_each_agents_is_told() -> None:
    _, made, plan = built("together:Meeting", "shared")
    sampler, learning = family.collector(plan, made, index=0), family.AgentLearning(plan, made)
    nothing = columns.no_moments(3)
    fragment = sampler.sample(
        Request(iteration=0, parameters=learning.parameters(), observations=nothing, returns=columns.no_moments(1))
    )
    assert fragment.steps == 48
    assert fragment.rows == 96
    assert len(fragment.columns.shares[""].columns) == 96
    assert list(fragment.episode_lengths) == [8] * 4
    told = fragment.columns.agent_returns
    np.testing.assert_allclose(np.add(told["left"], told["right"]), fragment.episode_returns)


def test_state_comes_back_for_every_policy() -> None:
    _, made, plan = built("together:Turns", "separate")
    first, second = family.AgentLearning(plan, made), family.AgentLearning(plan, made)
    state = {name: array + 1 if array.dtype == np.float32 else array for name, array in first.state().items()}
    second.load_state(state)
    assert second.state().keys() == state.keys() >= {"asker/parameters", "answerer/parameters"}
    np.testing.assert_array_equal(second.state()["asker/parameters"], state["asker/parameters"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"env": "together:Turns", "multi_agent": "shared"}, "separate"),
        ({"env": "together:Nobody", "multi_agent": "shared"}, "no such class"),
        ({"env": "counting:Counting", "multi_agent": "shared"}, "possible_agents"),
    ],
)
def test_what_cannot_be_shared_or_has_no_agents_is_said(fields: dict, words: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        worlds.of(TrainSpec(**fields))
    assert words in f"{caught.value} {caught.value.cure}"


def test_other_algorithms_are_said_not_to_be_built() -> None:
    spec = TrainSpec(env="together:Meeting", multi_agent="shared", algorithm="dqn")
    with pytest.raises(errors.NotBuilt, match="dqn"):
        families.of(spec).resolve(spec, worlds.of(spec))
