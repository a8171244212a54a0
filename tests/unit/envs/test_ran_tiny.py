"""The tiny network against the exact answer: optimum, constants and non-dominated points, by enumeration."""

import numpy as np
import pytest

from rlaas_ray.envs import registry
from rlaas_ray.envs.ran import baselines_tiny, measures, tiny
from rlaas_ray.errors import InvalidInput

# mode: optimum, best constant and which, hold 46 dBm / 8 degrees, mean over all actions (two independent implementations).
EXPECTED = {
    "normal": (7.2311, 7.0650, (4, 0, 6), 6.5209, 6.1857),
    "emergency": (7.8006, 7.7436, (3, 8, 6), 7.3452, 6.4040),
    "energy_saving": (6.6938, 6.6160, (7, 0, 0), 5.4203, 5.7808),
    "revenue": (7.6825, 7.5619, (3, 8, 6), 7.2773, 6.6043),
}


def _returns(mode):
    return tiny.table()[1] @ np.asarray(measures.MODES[mode])


@pytest.mark.parametrize("mode", list(EXPECTED))
def test_optimum_best_constant_hold_and_mean_are_the_tables(mode):
    reward = _returns(mode)
    optimum, constant, which, hold, mean = EXPECTED[mode]
    total = reward.sum(axis=0)
    assert reward.max(axis=1).sum() == pytest.approx(optimum, abs=1e-3)
    assert total.max() == pytest.approx(constant, abs=1e-3)
    assert np.unravel_index(total.argmax(), (9, 9, 9)) == which == baselines_tiny.GRID[mode]
    assert total[np.ravel_multi_index(baselines_tiny.HOLD, (9, 9, 9))] == pytest.approx(hold, abs=1e-3)
    assert total.mean() == pytest.approx(mean, abs=1e-3)


def _front(points):
    """How many distinct points no other dominates; more is better in every column."""
    points = np.unique(np.round(points, 9), axis=0)
    better = (points[None] >= points[:, None]).all(axis=2) & (points[None] > points[:, None]).any(axis=2)
    return int((~better.any(axis=1)).sum())


def test_counts_of_non_dominated_points_are_exact():
    gain = tiny.table()[0] * np.array([-1, 1, -1, 1])
    assert [_front(points) for points in gain] == [10, 10, 19, 24, 21, 8, 11, 12]
    assert [_front(points[:, 1:3]) for points in gain] == [2, 3, 10, 14, 13, 3, 2, 2]


@pytest.mark.parametrize("mode", list(EXPECTED))
def test_the_environment_pays_what_the_table_says_and_the_baselines_collect_it(mode):
    for name, column in (("optimum", 0), ("grid", 1), ("hold", 3)):
        worlds = registry.make_vector(registry.RAN_TINY, num_envs=2, seed=0, mode=mode)
        policy = baselines_tiny.POLICIES[name](**({} if name == "hold" else {"mode": mode}))
        seen, _ = worlds.reset()
        total = np.zeros(2)
        for step in range(tiny.STEPS):
            seen, reward, ended, cut, _ = worlds.step(policy.distribution(seen).astype(np.int64))
            total += reward
            assert cut.all() == (step == tiny.STEPS - 1)
            assert not ended.any()
        assert total == pytest.approx(np.full(2, EXPECTED[mode][column]), abs=1e-3)


def test_a_world_of_all_sleeping_cells_serves_nearly_nothing_and_saves_everything():
    raw, normalised, _ = tiny.evaluate(np.array([[0, 1, 2]]), step=3)
    assert raw[0, 2] == pytest.approx(450.0)
    assert normalised[0, 2] == pytest.approx(1.0)
    assert raw[0, 1] < 0.01
    assert normalised[0, 0] == 0.0


@pytest.mark.parametrize("action", [[[0, 0]], [[0, 0, 9]], [[-1, 0, 0]], [[0.5, 0, 0]], [[np.nan, 0, 0]]])
def test_impossible_actions_are_refused(action):
    worlds = registry.make_vector(registry.RAN_TINY, num_envs=1, seed=0)
    worlds.reset()
    with pytest.raises(InvalidInput, match="RanControl-tiny"):
        worlds.step(np.asarray(action))
