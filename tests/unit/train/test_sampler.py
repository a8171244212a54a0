"""Sampling: the same transitions and true returns under both autoreset modes, over fragment borders, and through a view."""

from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from counting import Counting, Poison
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlaas_ray import errors
from rlaas_ray.train import columns, network, sampler
from rlaas_ray.train.sampler import Request, Sampling
from rlaas_ray.train.worlds import Worlds

SHAPE = network.Shape(inputs=1, hidden=(4,), activation="tanh", outputs=2, free=0)


class Local(Worlds):
    """Worlds with an env class of the test."""

    __slots__ = ()
    made = Counting
    mode_of_reset = AutoresetMode.NEXT_STEP
    arguments: ClassVar[dict] = {}

    def make(self, *, envs, seed, first_index):
        return SyncVectorEnv([lambda: self.made(**self.arguments)] * envs, autoreset_mode=self.mode_of_reset)


def build(*, steps: int, envs: int = 2, normalise: bool = False, scale: bool = False, **attributes) -> sampler.Sampler:
    kind = type("Worlds", (Local,), {**attributes, "__slots__": ()})
    made = attributes.get("made", Counting)
    worlds = kind(env="counting:Env", observation_space=made.observation_space, action_space=made.action_space)
    sampling = Sampling(
        envs=envs, steps=steps, gamma=0.9, gae_lambda=0.5, normalise_observations=normalise, scale_rewards=scale
    )
    return sampler.Sampler(worlds, sampling=sampling, shape=SHAPE, seed=3, index=0)


def request(observations=None, returns=None, iteration: int = 0) -> Request:
    return Request(
        iteration=iteration,
        parameters=network.initial(SHAPE, rng=np.random.default_rng(0), policy_gain=0.3, log_std=0.0),
        observations=observations or columns.no_moments(1),
        returns=returns or columns.no_moments(1),
    )


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("truncate", [False, True])
def test_values_and_advantages_are_those_of_single_episodes(mode: AutoresetMode, truncate: bool) -> None:
    made = build(steps=12, envs=1, mode_of_reset=mode, arguments={"truncate": truncate})
    fragment = made.sample(request())
    policy = network.Network(request().parameters, SHAPE)
    value = policy.values(np.arange(4, dtype=np.float32)[:, None])
    last = 3 + 0.9 * (value[3] if truncate else 0.0) - value[2]
    middle = 2 + 0.9 * value[2] - value[1] + 0.45 * last
    first = 1 + 0.9 * value[1] - value[0] + 0.45 * middle
    episode = np.array([first, middle, last])
    found = fragment.columns
    assert found is not None
    np.testing.assert_array_equal(found.observations[:, 0], np.tile([0, 1, 2], len(found) // 3))
    np.testing.assert_allclose(found.advantages, np.tile(episode, len(found) // 3), rtol=1e-5)
    np.testing.assert_allclose(found.targets, np.tile(episode + value[:3], len(found) // 3), rtol=1e-5)
    # NEXT_STEP spends every fourth step on the reset
    assert len(found) == fragment.steps == (9 if mode == AutoresetMode.NEXT_STEP else 12)
    np.testing.assert_array_equal(fragment.episode_returns, np.full(len(found) // 3, 6.0))
    np.testing.assert_array_equal(fragment.episode_lengths, np.full(len(found) // 3, 3))


def test_episodes_go_on_over_fragment_borders() -> None:
    made = build(steps=5, envs=2)
    fragments = [made.sample(request()) for _ in range(4)]
    observations = np.concatenate([f.columns.observations for f in fragments if f.columns is not None])
    assert set(observations[:, 0]) == {0.0, 1.0, 2.0}
    assert sum(len(f.episode_returns) for f in fragments) == 10
    assert sum(f.steps for f in fragments) == len(observations) == 30
    assert {float(x) for f in fragments for x in f.episode_returns} == {6.0}


def test_log_probabilities_are_those_of_the_policy_that_acted() -> None:
    fragment = build(steps=6).sample(request())
    assert fragment.columns is not None
    policy = network.Network(request().parameters, SHAPE)
    logits = policy.distribution(fragment.columns.observations).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    chosen = logs[np.arange(len(logs)), fragment.columns.actions[:, 0]]
    np.testing.assert_allclose(fragment.columns.log_probabilities, chosen, atol=1e-6)


def test_statistics_are_accumulated_by_the_sampler_but_used_only_as_sent() -> None:
    made = build(steps=4, normalise=True)
    first = made.sample(request())
    assert first.columns is not None
    assert first.observations.count == first.rows
    assert first.columns.observations.max() == 2.0  # nothing sent yet: raw
    sent = columns.moments(np.array([[0.0], [2.0]]))
    second = made.sample(request(observations=sent))
    assert second.columns is not None
    assert set(np.round(second.columns.observations[:, 0], 3)) <= {-1.0, 0.0, 1.0}
    assert second.observations.mean[0] <= 2.0


def test_scaled_rewards_are_divided_by_the_deviation_sent() -> None:
    plain, scaled = (build(steps=3, scale=scale).sample(request(returns=_deviation(4.0))) for scale in (False, True))
    assert plain.columns is not None
    assert scaled.columns is not None
    np.testing.assert_allclose(scaled.episode_returns, plain.episode_returns)  # the report stays true
    assert np.abs(scaled.columns.targets).sum() < np.abs(plain.columns.targets).sum()
    assert scaled.returns.count == scaled.rows
    assert plain.returns.count == 0


def _deviation(value: float) -> columns.Moments:
    return columns.moments(np.array([[-value], [value]]))


def test_a_later_iteration_opens_other_worlds_and_the_same_one_the_same() -> None:
    class Seeded(Counting):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed, options=options)

    seeds = []

    class Recording(Local):
        __slots__ = ()

        def make(self, *, envs, seed, first_index):
            seeds.append((seed, first_index))
            return super().make(envs=envs, seed=seed, first_index=first_index)

    worlds = Recording(
        env="counting:Env", observation_space=Counting.observation_space, action_space=Counting.action_space
    )
    sampling = Sampling(envs=2, steps=2, gamma=0.9, gae_lambda=0.5, normalise_observations=False, scale_rewards=False)
    for iteration, index in ((0, 0), (0, 2), (7, 0), (7, 0), (8, 0)):
        made = sampler.Sampler(worlds, sampling=sampling, shape=SHAPE, seed=3, index=index)
        made.sample(request(iteration=iteration))
    assert seeds[0] == (3, 0)
    assert seeds[1] == (3, 4)
    assert seeds[2] == seeds[3] != seeds[4]
    assert seeds[2][0] != 3


def test_an_observation_that_is_not_a_number_is_named() -> None:
    with pytest.raises(errors.WorkFailed, match="NaN") as caught:
        build(steps=3, made=Poison).sample(request())
    assert caught.value.cure


def test_autoreset_disabled_is_refused() -> None:
    with pytest.raises(errors.NotBuilt):
        build(steps=3, mode_of_reset=AutoresetMode.DISABLED).sample(request())


def test_a_view_reports_the_returns_of_whole_envs() -> None:
    class Rows(gymnasium.vector.VectorEnv):
        metadata: ClassVar[dict] = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        num_envs = 4  # two envs of two units

        def reset(self, *, seed=None, options=None):
            self._t = 0
            return np.zeros((4, 1), dtype=np.float32), {}

        def step(self, actions):
            self._t += 1
            info = {"env_reward": np.array([1.0, 10.0]), "env_done": np.array([self._t % 3 == 0] * 2)}
            none = np.zeros(4, dtype=np.bool_)
            return np.zeros((4, 1), dtype=np.float32), np.full(4, -5.0), none, none, info

    class Shared(Local):
        __slots__ = ()

        def make(self, *, envs, seed, first_index):
            return Rows()

    worlds = Shared(
        env="x", observation_space=Counting.observation_space, action_space=Counting.action_space, units=2, shared=True
    )
    sampling = Sampling(envs=2, steps=8, gamma=0.9, gae_lambda=0.5, normalise_observations=False, scale_rewards=False)
    fragment = sampler.Sampler(worlds, sampling=sampling, shape=SHAPE, seed=0, index=0).sample(request())
    assert fragment.rows == 32
    np.testing.assert_array_equal(fragment.episode_returns, [3.0, 30.0, 3.0, 30.0])
    assert fragment.steps == 16
