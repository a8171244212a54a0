"""Evaluation counts each world's first episode once, under either autoreset, and pairs two policies on the same worlds."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gs
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlaas_ray.errors import Interrupted, InvalidInput, WorkFailed
from rlaas_ray.evaluation import episodes
from rlaas_ray.policies import spaces
from rlaas_ray.policies.loaded import Drawn


class Walk(gymnasium.Env):
    """An episode of L steps, L from the seed; each step pays world + action and costs 1."""

    observation_space = gs.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gs.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.world = self.np_random.normal()
        self.left = int(self.np_random.integers(1, 9))
        return np.array([self.world]), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.world]), float(self.world + action), self.left == 0, False, {"cost": 1.0}


class Always:
    """Takes one action for ever."""

    action_space = Walk.action_space

    def __init__(self, action: int) -> None:
        self.action = action

    def encode(self, observations):
        return spaces.encode(Walk.observation_space, observations)

    def action_mask(self, observations):
        return None

    def decide(self, encoded, *, rng, mask=None):
        rng.random(len(encoded))
        action = np.full((len(encoded), 1), float(self.action))
        return Drawn(action_proposed=action, action=action, propensity=np.ones(len(encoded)), probabilities=None)


def vector(mode: AutoresetMode = AutoresetMode.NEXT_STEP):
    return lambda n: SyncVectorEnv([Walk] * n, autoreset_mode=mode)


def by_hand(seed: int, *, action: int) -> tuple[float, int]:
    env = Walk()
    env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        _, reward, over, _, _ = env.step(action)
        total, length = total + reward, length + 1
    return total, length


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("count", [1, 5, 64, 70])
def test_every_world_is_played_once_from_its_seed(mode, count):
    found = episodes.evaluate(Always(1), make_vector=vector(mode), episodes=count, seed=100)
    expected = [by_hand(100 + j, action=1) for j in range(count)]
    np.testing.assert_allclose(found.returns, [total for total, _ in expected])
    np.testing.assert_allclose(found.lengths, [length for _, length in expected])
    assert found.return_mean == pytest.approx(np.mean(found.returns))
    assert found.costs == {"cost": pytest.approx(np.mean(found.lengths))}
    assert (found.episodes, found.seed) == (count, 100)


def test_short_episodes_are_not_over_represented():
    # Taking the first 64 that end of 64 envs would halve the mean length; the true mean of 1..8 is 4.5.
    found = episodes.evaluate(Always(0), make_vector=vector(), episodes=640, seed=0)
    assert abs(found.lengths.mean() - 4.5) <= 4 * np.sqrt(63 / 12 / 640)


def test_the_json_has_mean_interval_costs_episodes_and_seed():
    found = episodes.evaluate(Always(1), make_vector=vector(), episodes=8, seed=3)
    body = found.to_json()
    assert set(body) == {"return_mean", "return_ci95", "costs", "episodes", "seed"}
    assert body["return_ci95"][0] < body["return_mean"] < body["return_ci95"][1]
    assert replace(found, score=61.5).to_json()["score"] == 61.5
    assert episodes.evaluate(Always(1), make_vector=vector(), episodes=1, seed=3).to_json()["return_ci95"] is None


def test_two_policies_on_the_same_worlds_differ_by_what_they_do_and_nothing_else():
    found = episodes.paired(Always(1), Always(0), make_vector=vector(), episodes=50, seed=11)
    np.testing.assert_allclose(found.a.returns - found.b.returns, found.a.lengths)
    assert found.difference.mean == pytest.approx(found.a.lengths.mean())
    unpaired = found.a.return_ci95[1] - found.a.return_ci95[0]
    assert found.difference.high - found.difference.low < unpaired
    assert set(found.to_json()) == {"difference", "a", "b"}


def test_an_env_that_another_policy_was_made_for_is_refused():
    stranger = Always(0)
    stranger.action_space = gs.Discrete(3)
    with pytest.raises(InvalidInput, match="another env"):
        episodes.evaluate(stranger, make_vector=vector(), episodes=2, seed=0)


def test_no_episodes_and_no_autoreset_are_refused():
    with pytest.raises(InvalidInput, match="episodes"):
        episodes.evaluate(Always(0), make_vector=vector(), episodes=0, seed=0)
    with pytest.raises(InvalidInput, match="without autoreset"):
        episodes.evaluate(Always(0), make_vector=vector(AutoresetMode.DISABLED), episodes=2, seed=0)


def test_an_episode_that_does_not_end_is_an_error_with_its_cure(monkeypatch):
    monkeypatch.setattr(episodes, "_MAX_STEPS", 2)
    with pytest.raises(WorkFailed, match="does not end") as caught:
        episodes.evaluate(Always(0), make_vector=vector(), episodes=64, seed=0)
    assert "TimeLimit" in caught.value.cure


def test_a_halt_is_heard_before_the_next_step():
    asked = 0

    def halted():
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(Interrupted):
        episodes.evaluate(Always(0), make_vector=vector(), episodes=2, seed=1, halted=halted)
    assert asked == 4


def test_several_costs_are_told_by_the_names_that_the_env_gives_them():
    class Two(Walk):
        def step(self, action):
            *rest, _ = super().step(action)
            return *rest, {"cost": np.array([1.0, 2.0])}

    def made(n):
        envs = SyncVectorEnv([Two] * n)
        envs.metadata = {**envs.metadata, "costs": ["fuel", "wear"]}
        return envs

    found = episodes.evaluate(Always(0), make_vector=made, episodes=9, seed=4)
    assert found.costs == {"fuel": pytest.approx(found.lengths.mean()), "wear": pytest.approx(2 * found.lengths.mean())}


class Remembering(Always):
    """Counts its own decisions in the state that it is handed back, and fails where the count is not the step's."""

    def __init__(self) -> None:
        super().__init__(0)
        self.counts: list[int] = []

    def decide(self, encoded, *, rng, mask=None, state=None):
        state = np.zeros((len(encoded), 1), np.float32) if state is None else state
        assert (state == state[0]).all()
        self.counts.append(int(state[0, 0]))
        return replace(super().decide(encoded, rng=rng), state=state + 1)


def test_a_memory_goes_from_step_to_step_and_starts_anew_with_each_block():
    policy = Remembering()
    episodes.evaluate(policy, make_vector=vector(), episodes=episodes.BLOCK + 1, seed=0)
    first = policy.counts.index(0, 1)
    assert policy.counts == [*range(first), *range(len(policy.counts) - first)]
    assert first > 1
