"""Fronts of policies: Deep Sea Treasure's published values, what linear weights reach, and what chance may not decide."""

import numpy as np
import pytest
from deep_sea import CONVEX, MOVES, ORIGINAL, DeepSea, front

from rlaas_ray.envs import philox
from rlaas_ray.errors import InvalidInput
from rlaas_ray.evaluation import policy_front


@pytest.mark.parametrize(
    ("env", "deadline", "wanted"), [(ORIGINAL, 25, 1155), (ORIGINAL, 50, 4255), (CONVEX, 25, 401.8)]
)
def test_hypervolume_of_the_published_fronts(env: str, deadline: float, wanted: float) -> None:
    assert policy_front.hypervolume(front(env), reference=np.array([0.0, -deadline])) == pytest.approx(wanted, abs=1e-9)


def test_every_point_of_both_fronts_is_earned_by_sailing_there() -> None:
    for env in (ORIGINAL, CONVEX):
        sea = DeepSea(env)
        for column, wanted in enumerate(front(env)):
            assert earned(sea, right=column) == pytest.approx(tuple(wanted))


def earned(sea: DeepSea, *, right: int) -> tuple[float, float]:
    streams = philox.streams(0, num_envs=1)
    state, _, _ = sea.reset(streams)
    total = np.zeros(2)
    for action in [3] * right + [1] * 20:
        state, _, _, _, found, _, info = sea.step(state, np.array([action]), streams=streams)
        total += info["objectives"][0]
        if found[0]:
            break
    return tuple(total)


def swept(env: str, weights: np.ndarray) -> np.ndarray:
    """The vector returns (n, 2) of the best policy of each weight (n, 2), by value iteration over the grid's own steps."""
    sea = DeepSea(env)
    cells = np.array([(row, column) for row in range(11) for column in range(10)])
    number = np.arange(110).reshape(11, 10)
    state = {name: np.repeat(cells[:, k], 4) for k, name in enumerate(("row", "column"))} | {
        "t": np.zeros(440, np.int64)
    }
    action = np.tile(np.arange(len(MOVES)), 110)
    after, _, _, _, ended, _, info = sea.step(state, action, streams=philox.streams(0, num_envs=440))
    following, vector = number[after["row"], after["column"]], info["objectives"]
    scalar = vector @ weights.T  # (440, n)
    value = np.zeros((110, len(weights)))
    for _ in range(50):
        ahead = scalar + np.where(ended[:, None], 0.0, value[following])
        # A hair dearer for each step: at w = (1, 0) no step costs anything, and whoever may wander never arrives.
        value = ahead.reshape(110, 4, -1).max(axis=1) - 1e-9
    best = ahead.reshape(110, 4, -1).argmax(axis=1)
    returns, at, over = np.zeros((len(weights), 2)), np.zeros(len(weights), np.int64), np.zeros(len(weights), bool)
    for _ in range(50):
        chosen = at * 4 + best[at, np.arange(len(weights))]
        returns += np.where(over[:, None], 0.0, vector[chosen])
        over |= ended[chosen]
        at = following[chosen]
    return returns


SWEEP = np.column_stack((np.linspace(0, 1, 101), 1 - np.linspace(0, 1, 101)))


def test_linear_weights_reach_two_points_of_the_original_and_nine_of_the_convex_front() -> None:
    original = {tuple(row) for row in swept(ORIGINAL, SWEEP)}
    assert original == {(1.0, -1.0), (124.0, -19.0)}
    convex = {tuple(np.round(row, 6)) for row in swept(CONVEX, SWEEP)}
    known = {tuple(row) for row in front(CONVEX)}
    assert convex <= known
    assert len(convex) >= 9
    assert known - convex <= {(20.3, -14.0)}  # it lies between its neighbours: no weight prefers it


@pytest.mark.parametrize(("size", "lattice"), [(2, 21), (3, 21), (4, 20), (5, 15), (6, 21), (25, 25)])
def test_21_weights_cover_the_simplex(size: int, lattice: int) -> None:
    weights = policy_front.weights(size)
    assert weights.shape == (max(21, size), size)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert (weights >= 0).all()
    assert len(np.unique(weights, axis=0)) == len(weights)
    assert {tuple(row) for row in np.eye(size)} <= {tuple(row) for row in weights[:lattice]}


def test_a_point_is_dropped_only_when_it_is_beaten_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    world = rng.normal(size=(1, 30, 2))  # what all weights share
    base = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0], [0.45, 0.45], [0.0, 1.0]])
    returns = base[:, None, :] + world
    # Beaten, but by what chance may have done; and beaten by a copy of itself.
    noisy = returns[:1] - np.abs(rng.normal(scale=2.0, size=(1, 30, 2))) * rng.choice([-1, 1], size=(1, 30, 2)) - 0.01
    found = policy_front.kept(np.concatenate([returns, noisy]))
    assert found.tolist() == [True, True, False, True, False, True]


def test_intervals_are_students() -> None:
    returns = np.random.default_rng(1).normal(size=(2, 10, 3))
    found = policy_front.intervals(returns)
    half = 2.262157 * returns.std(axis=1, ddof=1) / np.sqrt(10)  # t(9) at 0.975
    np.testing.assert_allclose(found[..., 1] - found[..., 0], 2 * half, rtol=1e-6)
    with pytest.raises(InvalidInput, match="episodes"):
        policy_front.intervals(returns[:, :1])


def test_expected_utility_and_sparsity_against_closed_forms() -> None:
    # Of (1, 0) and (0, 1) the better is worth max(w, 1 - w), 3/4 in the mean over uniform w.
    corners = np.eye(2)
    assert policy_front.expected_utility(corners, draws=20_000) == pytest.approx(0.75, abs=0.005)
    assert policy_front.expected_utility(np.array([[2.0, 2.0]])) == pytest.approx(2.0)
    assert policy_front.sparsity(corners) == pytest.approx(2.0)
    assert policy_front.sparsity(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])) == pytest.approx(2.0)
    assert policy_front.sparsity(corners[:1]) == 0.0
