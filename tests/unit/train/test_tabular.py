"""The table: its update against a loop, Q* against value iteration, cells against the definition."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import lookup, spaces
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.seam import Build
from rlaas_ray.train.tabular import q_learning, values
from rlaas_ray.train.worlds import Worlds, of


def one_by_one(table, cells, actions, rewards, following, terminated, gamma, rate):
    """The definition: rows in their order, all targets of the table as it was."""
    out, before = table.copy(), table.copy()
    for s, a, r, after, end in zip(cells, actions, rewards, following, terminated, strict=True):
        target = r + (0.0 if end else gamma * before[after].max())
        out[s, a] += rate * (target - out[s, a])
    return out


@pytest.mark.parametrize("rate", [0.1, 0.9, 1.0])
def test_rows_that_meet_in_one_entry_count_one_after_another(rate: float) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 3))
    rows = {
        "cells": rng.integers(4, size=200),
        "actions": rng.integers(3, size=200),
        "rewards": rng.normal(size=200).astype(np.float32),
        "following": rng.integers(4, size=200),
        "terminated": rng.random(200) < 0.2,
    }
    wanted = one_by_one(table, *rows.values(), 0.9, rate)
    step = values.Transitions(**rows, valid=np.ones(200, dtype=np.bool_))
    values.update(table, step, gamma=0.9, learning_rate=rate)
    np.testing.assert_allclose(table, wanted, atol=1e-12)


def test_the_best_of_forbidden_actions_is_not_bootstrapped_from() -> None:
    table = np.array([[0.0, 0.0], [1.0, 5.0]])
    step = values.Transitions(
        cells=np.array([0]),
        actions=np.array([0]),
        rewards=np.zeros(1, np.float32),
        following=np.array([1]),
        terminated=np.array([False]),
        valid=np.array([True]),
        following_masks=np.array([[True, False]]),
    )
    values.update(table, step, gamma=1.0, learning_rate=1.0)
    assert table[0, 0] == 1.0


def test_exploration_is_uniform_over_what_is_allowed_and_greedy_takes_the_best_of_it() -> None:
    q = np.tile(np.array([[1.0, 9.0, 3.0, 2.0]], np.float32), (30_000, 1))
    masks = np.tile(np.array([[True, False, True, True]]), (30_000, 1))
    drawn = values.act(q, epsilon=0.3, masks=masks, rng=np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, [0.1, 0.0, 0.8, 0.1], atol=0.01)


# --- Q* ---------------------------------------------------------------------------------------------------------------


def optimal(env: gymnasium.Env, gamma: float) -> np.ndarray:
    """Q* of an env whose transitions are known, by value iteration."""
    model = env.unwrapped.P
    q = np.zeros((len(model), len(model[0])))
    for _ in range(3_000):
        v = q.max(axis=1)
        new = np.array(
            [[sum(p * (r + gamma * (not end) * v[s]) for p, s, r, end in model[i][a]) for a in model[i]] for i in model]
        )
        if np.abs(new - q).max() < 1e-12:
            break
        q = new
    return q


@pytest.mark.parametrize(
    ("name", "config"), [("FrozenLake-v1", {"is_slippery": False}), ("CliffWalking-v1", {}), ("Taxi-v3", {})]
)
def test_sweeps_over_every_transition_give_the_values_of_value_iteration(name: str, config: dict) -> None:
    env = gymnasium.make(name, **config)
    model = env.unwrapped.P
    states, actions = np.divmod(np.arange(len(model) * len(model[0])), len(model[0]))
    outcomes = [model[int(s)][int(a)][0] for s, a in zip(states, actions, strict=True)]
    table = np.zeros((len(model), len(model[0])))
    sweep = values.Transitions(
        cells=states,
        actions=actions,
        rewards=np.array([o[2] for o in outcomes], np.float32),
        following=np.array([o[1] for o in outcomes]),
        terminated=np.array([o[3] for o in outcomes]),
        valid=np.ones(len(states), dtype=np.bool_),
    )
    for _ in range(200):
        values.update(table, sweep, gamma=0.9, learning_rate=1.0)
    np.testing.assert_allclose(table, optimal(env, 0.9), atol=1e-6)


# --- cells ------------------------------------------------------------------------------------------------------------

KINDS = {
    "discrete": gs.Discrete(7, start=3),
    "multi": gs.MultiDiscrete([2, 3, 4]),
    "binary": gs.MultiBinary(3),
    "both": gs.Dict({"a": gs.Discrete(3), "b": gs.Tuple((gs.MultiBinary(2), gs.Discrete(2)))}),
    "masked": gs.Dict({"observations": gs.Discrete(4), "action_mask": gs.MultiBinary(2)}),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_combination_of_categories_has_a_cell_of_its_own(kind: str) -> None:
    space = KINDS[kind]
    cells, count = lookup.cells_of(space)
    space.seed(0)
    raw = [space.sample() for _ in range(600)]
    encoded = spaces.encode(space, raw)
    found = cells.of(encoded)
    assert len(np.unique(found)) == count == found.max() + 1
    same = {tuple(row): int(cell) for row, cell in zip(encoded, found, strict=True)}
    assert [same[tuple(row)] for row in encoded] == found.tolist()
    assert len(same) == count


def test_numbers_fall_into_equal_bins_and_what_lies_beyond_into_the_outer_ones() -> None:
    space = gs.Box(-10, 10, (2,), np.float32)
    cells, count = lookup.cells_of(
        space, bins=[lookup.Bins(count=4, low=-2, high=2), lookup.Bins(count=3, low=0, high=3)]
    )
    assert count == 12
    x = np.array([[-9, 0.5], [-1, 0.5], [0, 1], [1.5, 2.5], [9, 99]], np.float32)
    assert cells.of(x).tolist() == [0, 3, 7, 11, 11]


@pytest.mark.parametrize(
    ("space", "bins"),
    [
        (gs.Box(-1, 1, (2,)), [lookup.Bins(count=3, low=-1, high=1)]),
        (gs.Discrete(4), [lookup.Bins(count=3, low=-1, high=1)]),
        (gs.Discrete(1), []),
        (gs.Box(-1, 1, (8,)), [lookup.Bins(count=100, low=-1, high=1)] * 8),
    ],
)
def test_bins_that_do_not_fit_are_refused(space, bins) -> None:
    with pytest.raises(InvalidInput):
        lookup.cells_of(space, bins=bins)


# --- the family -------------------------------------------------------------------------------------------------------


def trainer(tmp_path, **fields):
    spec = TrainSpec(**{"algorithm": "q_learning", "num_env_runners": 0, **fields})
    worlds = of(spec)
    plan = q_learning.resolve(spec, worlds)
    build = Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0)
    return q_learning.FAMILY.trainer(build)


LAKE = {"env": "FrozenLake-v1", "env_config": {"is_slippery": False, "map_name": "4x4"}}


def test_the_same_seed_gives_the_same_table_and_a_checkpoint_goes_on(tmp_path) -> None:
    first, second = trainer(tmp_path, **LAKE, seed=3), trainer(tmp_path, **LAKE, seed=3)
    for made in (first, second):
        for _ in range(5):
            made.train()
    np.testing.assert_array_equal(first.learning.table, second.learning.table)
    third = trainer(tmp_path, **LAKE, seed=3)
    third.load_state(first.state(), ledger=first.ledger)
    np.testing.assert_array_equal(third.learning.table, first.learning.table)
    assert third.ledger.steps == first.ledger.steps > 0
    assert set(first.stats) >= {"td_error_mean", "q_mean", "epsilon", "learning_rate"}
    with pytest.raises(InvalidInput, match="another table"):
        trainer(tmp_path, env="CliffWalking-v1").load_state(first.state(), ledger=first.ledger)


def test_exploration_follows_the_budget() -> None:
    spec = TrainSpec(**LAKE, algorithm="q_learning", epsilon_final=0.1, epsilon_fraction=0.5)
    plan = q_learning.resolve(spec, of(spec))
    assert [plan.epsilon(used) for used in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"env": "Pendulum-v1"}, "Discrete"),
        ({"env": "CartPole-v1"}, "bins"),
        ({"env": "CartPole-v1", "bins": [3], "bin_low": [0], "bin_high": [1]}, "bins"),
        ({"env": "CartPole-v1", "bins": [3] * 4, "bin_low": [0.0] * 4}, "three lists"),
        ({"env": "FrozenLake-v1", "normalise_observations": True}, "table"),
        (
            {"env": "counting:Locks", "bins": [2, 3], "bin_low": [0.0] * 2, "bin_high": [1.0] * 2, "serving": "sample"},
            "greedy",
        ),
    ],
)
def test_what_has_no_table_is_refused_with_its_cure(tmp_path, fields: dict, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        trainer(tmp_path, **fields)
    assert refused.value.cure


def test_masks_of_joint_actions_are_not_built() -> None:
    masked = gs.Dict({"observations": gs.Discrete(2), "action_mask": gs.MultiBinary(5)})
    with pytest.raises(NotBuilt):
        q_learning.actions_of(Worlds(env="x", observation_space=masked, action_space=gs.MultiDiscrete([2, 3])))


def test_the_best_joint_action_is_the_best_of_each_block_of_the_export() -> None:
    space = gs.MultiDiscrete([2, 3])
    table = np.array([[0, 1, 0, 1, 0, 0.5], [0, 0, 0, 0, 0, 2]])
    head, found = q_learning.exported(table, action_space=space, flat=space, epsilon=0.0)
    assert head.mode(found).tolist() == [[0, 1], [1, 2]]
