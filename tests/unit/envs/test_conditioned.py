"""Envs under weights that are drawn: bits that no neighbour changes, the reward that the weights say, each episode its own."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import conditioned, philox, registry, vector
from rlaas_ray.envs.ran.tiny import Tiny
from rlaas_ray.errors import InvalidInput

STREAMS = "rlaas/StreamParallelism-tiny-v1"


def tiny(*, envs: int, seed: int = 3, first: int = 0, autoreset: AutoresetMode = AutoresetMode.NEXT_STEP):
    own = vector.DomainVectorEnv(Tiny(), num_envs=envs, seed=seed, first_index=first, autoreset=autoreset)
    found = conditioned.preference_of("tiny", lambda n: vector.DomainVectorEnv(Tiny(), num_envs=n, seed=0), seed=0)
    return conditioned.Conditioned(own, found, seed=seed, first_index=first)


def walked(env, *, steps: int = 30, rows=slice(None)):
    """All that an env gives to the actions of its rows: (T, ...) each."""
    rng = np.random.default_rng(1)
    seen, _ = env.reset()
    told = [(seen["preference"], seen["observation"], np.zeros(env.num_envs))]
    for _ in range(steps):
        actions = rng.integers(9, size=(8, 3))[rows]
        seen, reward, *_ = env.step(actions)
        told.append((seen["preference"], seen["observation"], reward))
    return [np.stack(part) for part in zip(*told, strict=True)]


def test_an_env_alone_gives_the_bits_that_it_gives_among_others() -> None:
    many = walked(tiny(envs=8))
    for row in (0, 5):
        alone = walked(tiny(envs=1, first=row), rows=slice(row, row + 1))
        for whole, part in zip(many, alone, strict=True):
            np.testing.assert_array_equal(whole[:, row : row + 1], part)


@pytest.mark.parametrize("autoreset", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_reward_is_what_the_weights_of_its_own_episode_say(autoreset: AutoresetMode) -> None:
    env = tiny(envs=8, autoreset=autoreset)
    seen, _ = env.reset()
    before, over, changed = seen["preference"].astype(np.float64), np.zeros(8, bool), 0
    for _ in range(25):
        seen, reward, ended, cut, info = env.step(np.zeros((8, 3), np.int64))
        wanted = (before * info["normalised"]).sum(axis=1)
        np.testing.assert_allclose(reward, np.where(over, 0, wanted), rtol=1e-12)
        done, now = ended | cut, seen["preference"].astype(np.float64)
        if autoreset is AutoresetMode.SAME_STEP:
            fresh = done
            for row in np.flatnonzero(done):
                np.testing.assert_array_equal(info["final_obs"][row]["preference"], before[row])
        else:
            fresh, over = over, done
        np.testing.assert_array_equal((now != before).any(axis=1), fresh)
        changed += int(fresh.sum())
        before = now
    assert changed >= 16


def test_a_fifth_of_the_weights_are_corners_and_the_rest_are_uniform_on_the_simplex() -> None:
    drawn = conditioned.draws(philox.streams(5, num_envs=40_000), size=3)
    np.testing.assert_allclose(drawn.sum(axis=1), 1, atol=1e-6)
    corner = (drawn == 1).any(axis=1)
    assert corner.mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(drawn[corner].mean(axis=0), 1 / 3, atol=0.02)
    inner = drawn[~corner]
    np.testing.assert_allclose(inner.mean(axis=0), 1 / 3, atol=0.005)
    np.testing.assert_allclose(inner.var(axis=0), (1 / 3) * (2 / 3) / 4, rtol=0.05)  # of Dirichlet(1, 1, 1)


def test_a_seed_given_again_gives_the_episodes_again() -> None:
    env = tiny(envs=3)
    first = env.reset(seed=11)[0]
    later = env.reset()[0]
    assert (first["preference"] != later["preference"]).any(axis=1).all()
    np.testing.assert_array_equal(env.reset(seed=11)[0]["preference"], first["preference"])
    one = env.reset(seed=[11, 12, 13])[0]["preference"]
    np.testing.assert_array_equal(one[0], first["preference"][0])


def test_the_env_is_one_that_gymnasium_knows_and_encodes_to_itself_and_the_weights() -> None:
    env = tiny(envs=4)
    seen, _ = env.reset()
    assert env.observation_space.contains(seen)
    assert env.single_observation_space["observation"] == Tiny().observation_space


def test_objectives_without_a_normalised_form_are_scaled_by_their_spread_under_random_actions() -> None:
    def make(n: int):
        return registry.make_vector(STREAMS, num_envs=n, seed=0)

    found = conditioned.preference_of(STREAMS, make, seed=0)
    assert conditioned.preference_of(STREAMS, make, seed=0) == found
    worlds = make(64)
    worlds.action_space.seed(1)
    worlds.reset(seed=9)
    values = np.concatenate([worlds.step(worlds.action_space.sample())[-1]["objectives"] for _ in range(40)])
    np.testing.assert_allclose(found.scale, values.std(axis=0), rtol=0.35)


class Untold(gymnasium.Env):
    """Promises objectives and tells none."""

    metadata = {"objectives": [("a", "1", "max"), ("b", "1", "max")]}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(("metadata", "words"), [(None, "objectives"), ([("a", "1", "max")], "two or more")])
def test_an_env_without_objectives_is_refused(metadata, words: str) -> None:
    class Env(Untold):
        pass

    if metadata is not None:
        Env.metadata = {"objectives": metadata}

    def make(n: int):
        return gymnasium.vector.SyncVectorEnv([Env] * n)

    with pytest.raises(InvalidInput, match=words):
        conditioned.preference_of("own:Env", make, seed=0)
