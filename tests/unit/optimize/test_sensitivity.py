"""How far weights may move: intervals against closed forms and a fine grid, shares against areas, flips that flip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import choice, sensitivity

WEIGHTED = [m for m in choice.METHODS if m != "knee"]


def made(front, *, weights, method="topsis", minimise=None):
    down = np.ones(front.shape[1], bool) if minimise is None else minimise
    targets = {"targets": front.mean(axis=0)} if method == "achievement" else {}
    return choice.choose(front, method=method, weights=np.asarray(weights, float), minimise=down, **targets)


def of(front, chosen, **more):
    return sensitivity.sensitivity(front, chosen, rng=np.random.default_rng(0), **more)


def test_two_mirrored_rows_change_places_at_one_half() -> None:
    """[[3, 4], [4, 3]], both up: the scores are (1 - w, w) at weights (w, 1 - w)."""
    front = np.array([[3.0, 4], [4, 3]])
    found = of(front, made(front, weights=[0.3, 0.7], minimise=np.zeros(2, bool)))
    assert found.interval == pytest.approx(np.array([[0, 0.5], [0.5, 1]]), abs=1e-9)
    assert found.rival.tolist() == [[-1, 1], [1, -1]]
    assert found.flip is not None
    assert (found.flip[0], found.flip[2]) == (0, 1)
    assert "raise the weight of objective 1 from 0.3 beyond 0.5 and point 1 is chosen" in found.reason
    assert abs(found.share - 0.5).max() < 4 * found.share_error.max()


def test_pseudo_weights_change_half_way_between_two_points() -> None:
    front = np.array([[0.0, 1], [0.2, 0.5], [0.5, 0.2], [1, 0]])
    found = of(front, made(front, weights=[0.6, 0.4], method="pseudo_weights"))
    middle = [(0.384615 + 0.615385) / 2, (0.615385 + 1) / 2]
    assert found.interval[0] == pytest.approx(middle, abs=1e-6)
    # Shares are the lengths of those pieces.
    pieces = np.diff([0, 0.384615 / 2, 0.5, middle[1], 1])[::-1]
    assert (abs(found.share - pieces) < 4 * found.share_error + 1e-9).all()


def test_minimax_of_three_points_changes_where_two_regrets_meet() -> None:
    """Regrets (0, 1), (1/4, 1/4), (1, 0): (1/4, 1/4) beats (0, 1) while max(w, 1 - w) / 4 < 1 - w, so while w < 0.8."""
    front = np.array([[0.0, 1], [0.25, 0.25], [1, 0]])
    found = of(front, made(front, weights=[0.5, 0.5], method="minimax"))
    assert found.interval[0] == pytest.approx([0.2, 0.8], abs=1e-3)  # the augmentation of 1e-4 moves them a little
    assert abs(found.share[1] - 0.6) < 0.03


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 30), m=st.integers(2, 4), method=st.sampled_from(WEIGHTED))
def test_intervals_are_those_of_a_fine_grid(seed, n, m, method) -> None:
    rng = np.random.default_rng(seed)
    front = rng.random((n, m))
    chosen = made(front, weights=rng.dirichlet(np.ones(m)), method=method, minimise=rng.random(m) < 0.5)
    found = of(front, chosen, draws=8)
    fine = np.linspace(0, 1, 4001)
    rows = np.flatnonzero(chosen.candidates)
    own = int(np.flatnonzero(rows == chosen.index)[0])
    for i in range(m):
        rest = np.where(np.arange(m) == i, 0.0, chosen.weight) / (1 - chosen.weight[i])
        weights = rest + fine[:, None] * (np.eye(m)[i] - rest)
        score = chosen.measure.score(weights)
        leads = score.max(axis=1) - score[:, own] <= choice.TIE
        inside = (fine >= found.interval[i, 0] - 1e-9) & (fine <= found.interval[i, 1] + 1e-9)
        assert leads[inside].all()
        for end, step, rival in zip(found.interval[i], (-1, 1), found.rival[i], strict=True):
            close = np.clip(end + step * np.geomspace(1e-9, 1e-4, 60), 0, 1)
            score = chosen.measure.score(rest + close[:, None] * (np.eye(m)[i] - rest))
            overtaken = (score.max(axis=1) - score[:, own] > choice.TIE).any()
            assert overtaken if rival != -1 else end in {0.0, 1.0}


@pytest.mark.parametrize("method", WEIGHTED)
def test_beyond_the_nearest_flip_the_named_point_is_chosen_and_before_it_not(method) -> None:
    rng = np.random.default_rng(11)
    flips = 0
    for _ in range(20):
        front = rng.random((25, 3))
        chosen = made(front, weights=rng.dirichlet(np.full(3, 3.0)), method=method)
        found = of(front, chosen, draws=8)
        if found.flip is None:
            continue
        objective, end, rival = found.flip
        flips += 1
        for way, expected in ((1e-6, rival), (-1e-6, chosen.index)):
            at = end + way * np.sign(end - chosen.weight[objective])
            rest = np.where(np.arange(3) == objective, 0.0, chosen.weight) / (1 - chosen.weight[objective])
            weights = rest + at * (np.eye(3)[objective] - rest)
            assert made(front, weights=weights, method=method).index == expected
    assert flips > 5


def test_shares_sum_to_one_and_are_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(2)
    front = rng.random((40, 3))
    chosen = made(front, weights=np.ones(3))
    found, again = of(front, chosen), of(front, chosen)
    assert found.share.sum() == pytest.approx(1)
    assert (found.share == again.share).all()
    assert (found.share[chosen.dominated] == 0).all()


def test_a_point_alone_keeps_the_choice_for_ever() -> None:
    front = np.array([[1.0, 2], [2, 3]])
    found = of(front, made(front, weights=[0.5, 0.5]))
    assert found.interval.tolist() == [[0, 1], [0, 1]]
    assert found.flip is None
    assert found.reason == "No change of one weight moves the choice. The choice wins under 100.0% of all weights."


def test_all_weight_on_one_objective_lets_the_others_share() -> None:
    front = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    found = of(front, made(front, weights=[1, 0, 0], method="minimax"))
    assert found.interval[0, 1] == 1
    assert 0 < found.interval[0, 0] < 1


def test_the_knee_has_no_weights_to_be_sensitive_to() -> None:
    front = np.random.default_rng(0).random((5, 2))
    chosen = choice.choose(front, method="knee", minimise=np.ones(2, bool))
    with pytest.raises(InvalidInput, match="knee"):
        of(front, chosen)
