"""The shared training view: the rows, the rewards and the program that a bundle carries agree with the environment."""

import numpy as np
import pytest

from rlaas_ray.envs import registry
from rlaas_ray.envs.ran import env, measures, training
from rlaas_ray.specs.train import TrainSpec

VIEW = registry.training_view(registry.RAN)


def _pair(mode="energy_saving", *, count=3, config=None):
    rows = VIEW.make_vector(num_envs=count, seed=5, mode=mode, config=config)
    whole = registry.make_vector(registry.RAN, num_envs=count, seed=5, mode=mode, config=config)
    return rows, whole


def test_rows_are_the_program_applied_to_the_flat_observation():
    rows, whole = _pair()
    seen, _ = rows.reset()
    flat, _ = whole.reset()
    assert seen.shape == (63, 56)
    assert np.array_equal(seen, VIEW.program.apply(flat).reshape(63, 56))
    by_hand = env.per_cell_view(flat)
    cells = flat[:, :273].reshape(3, 21, 13)
    for row, unit in ((0, 0), (2, 17)):
        mine = seen[row * 21 + unit]
        assert np.array_equal(mine[:37], by_hand[row, unit])
        assert np.array_equal(mine[37:39], flat[row, 273:275])
        assert np.array_equal(mine[39:43], flat[row, 279:])
        assert mine[43:] == pytest.approx(cells[row].mean(axis=0), abs=1e-6)


def test_stepping_rows_is_stepping_the_environment_with_the_decoders_actions():
    rows, whole = _pair()
    rows.reset()
    flat, _ = whole.reset()
    rng = np.random.default_rng(0)
    for _ in range(6):
        proposed = rng.normal(size=(63, 4)).astype(np.float32)
        executed = VIEW.decoder.decode(proposed.reshape(3, 84).astype(np.float64), observations=flat)
        seen, _, ended, cut, info = rows.step(proposed)
        flat, reward, *_ = whole.step(executed)
        assert np.array_equal(info["env_reward"], reward)
        assert np.array_equal(seen, VIEW.program.apply(flat).reshape(63, 56))
        assert not (ended | cut).any()


def test_a_proposal_of_zero_is_hold():
    rows, whole = _pair()
    rows.reset()
    whole.reset()
    for _ in range(4):
        info = rows.step(np.zeros((63, 4)))[4]
        assert np.array_equal(info["env_reward"], whole.step(np.zeros((3, 84)))[1])


def test_targets_are_reached_as_fast_as_the_action_allows():
    rows, _ = _pair()
    rows.reset()
    target = np.tile([-1.0, 0.4, 1.0, -0.5], (63, 1))  # 38 dBm, 9 degrees, alpha 4, -3 dB
    for _ in range(4):
        seen, *_ = rows.step(target)
    assert seen[:, :4] == pytest.approx(np.tile([0.0, 0.2, 1.0, -0.5], (63, 1)), abs=1e-5)


def test_true_episodes_are_told_while_rows_go_on():
    rows, _ = _pair(config={"episode_length": 3})
    rows.reset()
    done = [rows.step(np.zeros((63, 4)))[4]["env_done"] for _ in range(7)]
    assert [bool(one.all()) for one in done] == [False, False, True, False, False, True, False]


def test_local_rewards_summed_with_full_neighbourhoods_are_the_networks_deficit():
    """With every cell in every neighbourhood and the latency term off, a row is -C * (1 - reward) of the network."""
    weights = (0.0, 0.3, 0.5, 0.2)
    rows = VIEW.make_vector(num_envs=2, seed=1, weights=weights)
    inner = rows._inner
    inner.reset()
    _, reward, _, _, info = inner.step(np.zeros((2, 84)))
    everyone = np.stack([[other for other in range(21) if other != cell] for cell in range(21)])
    local = training.Tail().local_reward(info, weights=weights, neighbours=everyone)
    assert local == pytest.approx(np.repeat(-21 * (1 - reward)[:, None], 21, axis=1), rel=1e-4)


def test_the_latency_term_sees_the_level_and_not_only_the_rank():
    """A step twice as slow as the running p95 costs more than one at the running p95: the threshold is not the step's own."""
    tail = training.Tail()
    users = np.linspace(-1.5, 0.2, 210)
    cell = np.tile(np.arange(21), 10)

    def reward(shift):
        lg = (users + shift)[None].astype(np.float32)
        info = {
            "hour": np.array([40]), "lg_tail": np.sort(lg)[:, [193, 198, 203]].astype(float), "lg_latency": lg,
            "demand": np.ones((1, 210), np.float32), "served": np.ones((1, 210), np.float32),
            "satisfied": np.ones((1, 210), bool), "power_w": np.full((1, 21), 150.0), "attached": cell[None],
        }  # fmt: skip
        return tail.local_reward(info, weights=(1.0, 0.0, 0.0, 0.0), neighbours=env.neighbours()).mean()

    usual = reward(0.0)
    assert reward(np.log10(2.0)) < 1.5 * usual < 0


def test_running_tails_forget_two_percent_a_sample():
    tail = training.Tail()
    hour = np.array([3, 3, 7])
    first = np.array([0.0, 0.0, 1.0])
    tail._start(hour, lg_p95=first, slope=first)
    tail._learn(hour, lg_p95=np.array([1.0, 1.0, 1.0]), slope=first)
    assert tail.lg_p95[3] == pytest.approx(1 - 0.98**2)
    assert tail.lg_p95[7] == pytest.approx(1.0)
    assert np.isnan(tail.lg_p95[5])


def test_the_view_speaks_the_trainers_language():
    own = {"share", "scale_rewards", "policy_gain"}
    assert set(VIEW.preset) - own <= set(TrainSpec.model_fields)
    TrainSpec(env=registry.RAN, **{name: value for name, value in VIEW.preset.items() if name not in own})
    assert VIEW.units == 21
    assert VIEW.program.flat_size == measures.OBSERVATION
    assert VIEW.program.size == VIEW.observation_space.shape[0] == 56
    assert not VIEW.action_space.is_bounded("above")  # a bounded Box would be rescaled before the decoder


def test_other_environments_have_no_view():
    assert registry.training_view("CartPole-v1") is None
