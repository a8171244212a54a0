"""An environment gives the same bits alone, in a batch of 256, in another process's slice and after a checkpoint."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import philox, registry, vector
from rlaas_ray.envs.ran import dynamics, env


def _day(params, streams, *, actions):
    state, seen, _ = dynamics.reset_batch(params, streams)
    kept = [seen]
    for action in actions:
        state, seen, reward, cost, _, truncated, info = dynamics.step_batch(params, state, action, streams)
        kept += [
            seen,
            reward,
            cost,
            truncated,
            info["objectives"],
            info["normalised"],
            info["lg_latency"],
            info["served"],
        ]
    return state, kept


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["normal", "emergency", "revenue"])
def test_one_world_alone_is_bit_for_bit_the_same_as_among_256_over_a_whole_day(mode):
    params = dynamics.params(mode)
    streams = philox.streams(5, num_envs=256)
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (96, 256, dynamics.ACTION)).astype(np.float32)
    state, kept = _day(params, streams, actions=actions)
    for row in (0, 77, 255):
        rows = slice(row, row + 1)
        alone_state, alone = _day(params, streams.take(rows), actions=actions[:, rows])
        assert all(np.array_equal(a[0], b[row]) for a, b in zip(alone, kept, strict=True))
        assert all(np.array_equal(alone_state[name][0], state[name][row]) for name in state)


def test_a_slice_of_the_batch_gives_the_same_bits():
    params = dynamics.params("emergency")
    streams = philox.streams(2, num_envs=13)
    actions = np.random.default_rng(2).uniform(-1, 1, (8, 13, dynamics.ACTION)).astype(np.float32)
    _, whole = _day(params, streams, actions=actions)
    _, part = _day(params, streams.take(slice(3, 10)), actions=actions[:, 3:10])
    assert all(np.array_equal(a, b[3:10]) for a, b in zip(part, whole, strict=True))


def test_runners_continue_each_others_index():
    whole = registry.make_vector(registry.RAN, num_envs=4, seed=9)
    second = registry.make_vector(registry.RAN, num_envs=2, seed=9, first_index=2)
    assert np.array_equal(whole.reset()[0][2:], second.reset()[0])


def test_a_list_of_seeds_gives_each_environment_the_world_of_the_single_env_with_that_seed():
    worlds = registry.make_vector(registry.RAN, num_envs=3, seed=0)
    seen, _ = worlds.reset(seed=[4, 8, 4])
    single = registry.make(registry.RAN)
    assert np.array_equal(seen[1], single.reset(seed=8)[0])
    assert np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])
    batch, rewards, *_ = worlds.step(np.full((3, 84), 0.3, np.float32))
    one, reward, *_ = single.step(np.full(84, 0.3, np.float32))
    assert np.array_equal(batch[1], one)
    assert rewards[1] == reward


def test_the_next_episode_is_another_day_and_the_same_seed_starts_again():
    worlds = registry.make_vector(registry.RAN, num_envs=2, seed=3)
    first, _ = worlds.reset()
    second, _ = worlds.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(worlds.reset(seed=3)[0], first)


def test_a_checkpoint_resumes_bit_for_bit():
    config = {"episode_length": 5}
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (12, 3, 84)).astype(np.float32)
    straight = registry.make_vector(registry.RAN, num_envs=3, seed=1, config=config)
    straight.reset()
    for action in actions[:4]:
        straight.step(action)
    saved = {name: value.copy() for name, value in straight.state().items()}
    expected = [straight.step(action)[:4] for action in actions[4:]]
    resumed = registry.make_vector(registry.RAN, num_envs=3, seed=99, config=config)
    resumed.resume(saved)
    for action, wanted in zip(actions[4:], expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(resumed.step(action)[:4], wanted, strict=True))


def test_block_size_changes_no_bit():
    params = dynamics.params("normal")
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 10, 84)).astype(np.float32)
    kept = []
    for block in (3, 32):
        worlds = vector.DomainVectorEnv(env.RanControl(params), num_envs=10, seed=0, block=block)
        worlds.reset()
        kept.append([worlds.step(action)[:2] for action in actions])
    assert all(np.array_equal(a, b) for x, y in zip(*kept, strict=True) for a, b in zip(x, y, strict=True))


def test_next_step_autoreset_ignores_the_action_and_gives_no_reward():
    worlds = registry.make_vector(registry.RAN, num_envs=2, seed=1, config={"episode_length": 2})
    assert worlds.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    worlds.reset()
    still = np.zeros((2, 84), np.float32)
    assert not worlds.step(still)[3].any()
    assert worlds.step(still)[3].all()
    seen, reward, ended, cut, _ = worlds.step(still)
    assert (reward == 0).all()
    assert not (ended | cut).any()
    single = vector.DomainVectorEnv(env.domain(), num_envs=2, seed=1)
    single.reset()
    assert np.array_equal(seen, single.reset()[0])  # episode 1 of the same key


def test_environments_out_of_step_are_reset_one_by_one():
    worlds = registry.make_vector(registry.RAN, num_envs=3, seed=1, config={"episode_length": 3})
    worlds.reset()
    still = np.zeros((3, 84), np.float32)
    worlds.step(still)
    state = worlds.state()
    state["step"][1] = 2  # this one is a step ahead
    worlds.resume(state)
    assert worlds.step(still)[3].tolist() == [False, True, False]
    assert worlds.step(still)[3].tolist() == [True, False, True]
    seen, reward, _, cut, info = worlds.step(still)
    assert reward[1] > 0
    assert reward[0] == reward[2] == 0
    assert not cut.any()
    assert np.isfinite(seen).all()
    assert info["objectives"].shape == (3, 4)


def test_same_step_autoreset_shows_the_last_observation_apart():
    worlds = vector.DomainVectorEnv(env.domain(episode_length=2), num_envs=2, seed=1, autoreset=AutoresetMode.SAME_STEP)
    worlds.reset()
    still = np.zeros((2, 84), np.float32)
    worlds.step(still)
    seen, reward, _, cut, info = worlds.step(still)
    assert cut.all()
    assert (reward > 0).all()
    assert info["_final_obs"].all()
    assert not np.array_equal(info["final_obs"][0], seen[0])


def test_an_environment_that_was_not_reset_says_so():
    with pytest.raises(Exception, match="not been reset"):
        vector.DomainEnv(env.domain()).step(np.zeros(84, np.float32))
    with pytest.raises(Exception, match="not been reset"):
        vector.DomainVectorEnv(env.domain(), num_envs=2).step(np.zeros((2, 84), np.float32))


def test_a_different_process_draws_the_same_world():
    # The pool, the tables and the keys depend on constants alone: a frozen number stands for the other process.
    seen, _ = gymnasium.make(registry.RAN).reset(seed=123)
    assert seen[[4, 5, 6, 7, 8, 9, 273, 274, 279, 281]] == pytest.approx(np.asarray(NUMBERS), abs=1e-6)


NUMBERS = (
    0.06945045292377472,
    0.3499999940395355,
    0.5979297757148743,
    -1.9386380910873413,
    1.0,
    1.0,
    0.9807852506637573,
    0.19509032368659973,
    1.0,
    0.5856251120567322,
)
