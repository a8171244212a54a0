"""Every method of a choice against closed forms; what holds for all of them; the frozen frame; the reason in words."""

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import choice, knee, measures

BOTH_DOWN = np.ones(2, bool)
LINE = np.array([[0.0, 1], [0.2, 0.5], [0.5, 0.2], [1, 0]])


def test_pseudo_weights_are_those_of_the_closed_form() -> None:
    share = measures.pseudo_weights(LINE, within=measures.frame(LINE, minimise=BOTH_DOWN))
    expected = [(1, 0), (0.615385, 0.384615), (0.384615, 0.615385), (0, 1)]
    assert share == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize(("weight", "index"), [((1, 0), 0), ((0.6, 0.4), 1), ((0.3, 0.7), 2), ((0.1, 0.9), 3)])
def test_the_point_whose_pseudo_weights_are_nearest_is_taken(weight, index) -> None:
    made = choice.choose(LINE, method="pseudo_weights", weights=np.array(weight), minimise=BOTH_DOWN)
    assert made.index == index
    assert made.score.argmax() == index


def test_pseudo_weights_of_maximised_objectives_are_those_of_their_negatives() -> None:
    up = measures.pseudo_weights(-LINE, within=measures.frame(-LINE, minimise=~BOTH_DOWN))
    assert up == pytest.approx(measures.pseudo_weights(LINE, within=measures.frame(LINE, minimise=BOTH_DOWN)))


def test_an_achievement_is_the_formula_of_wierzbicki() -> None:
    targets, weight = np.array([0.3, 0.4]), np.array([0.25, 0.75])
    made = choice.choose(LINE, method="achievement", weights=weight, targets=targets, minimise=BOTH_DOWN)
    gap = (LINE - targets) * weight  # the spans are 1
    assert made.score == pytest.approx(-(gap.max(axis=1) + 1e-4 * gap.sum(axis=1)), abs=1e-12)


def test_an_aspiration_reaches_every_point_of_a_non_convex_front_where_a_sum_reaches_the_ends() -> None:
    angle = np.linspace(0, np.pi / 2, 21)
    front = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # bends away from the ideal
    for i in range(21):
        made = choice.choose(front, method="achievement", targets=front[i] - 0.01, minimise=BOTH_DOWN)
        assert made.index == i
    sums = {int((front @ np.array([w, 1 - w])).argmin()) for w in np.linspace(0.01, 0.99, 99)}
    assert sums == {0, 20}


def test_minimax_is_achievement_towards_the_ideal() -> None:
    made = choice.choose(LINE, method="minimax", minimise=BOTH_DOWN)
    other = choice.choose(LINE, method="achievement", targets=np.zeros(2), minimise=BOTH_DOWN)
    assert made.score == pytest.approx(other.score)
    assert made.index == 1  # by symmetry rows 1 and 2 tie: the lower index


# --- knee -------------------------------------------------------------------------------------------------------------


def test_the_knee_of_a_hyperbola_is_where_it_is_farthest_from_the_line_of_its_ends() -> None:
    x = np.linspace(0.1, 10, 496)  # holds 1.0
    front = np.stack([x, 1 / x], axis=1)
    made = choice.choose(front, method="knee", minimise=BOTH_DOWN)
    assert front[made.index] == pytest.approx([1, 1])
    u = (1 - 0.1) / 9.9  # both regrets there
    assert made.score[made.index] == pytest.approx((1 - 2 * u) / np.sqrt(2), abs=1e-12)
    assert made.score[[0, -1]] == pytest.approx([0, 0], abs=1e-12)


def test_the_knee_of_a_front_of_three_objectives_lies_below_the_plane_of_its_extremes() -> None:
    front = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.3, 0.3], [0.2, 0.2, 0.25], [0.6, 0.05, 0.4]])
    made = choice.choose(front, method="knee", minimise=np.ones(3, bool))
    assert made.index == 4
    assert made.score[4] == pytest.approx((1 - 0.65) / np.sqrt(3))


@pytest.mark.parametrize("bend", [1.0, 2.0], ids=["straight", "outward"])
def test_a_front_without_a_knee_gives_its_most_balanced_point_and_says_so(bend) -> None:
    t = np.linspace(0, 1, 21)
    front = np.stack([t ** (1 / bend), (1 - t) ** (1 / bend)], axis=1)
    made = choice.choose(front, method="knee", minimise=BOTH_DOWN)
    assert front[made.index] == pytest.approx(front[10])
    assert "this front has no knee" in made.reason


def test_trade_offs_are_those_of_pymoo(monkeypatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how pymoo imports SciPy
        from pymoo.mcdm.high_tradeoff import HighTradeoffPoints
    rng = np.random.default_rng(4)
    front = np.abs(rng.normal(size=(60, 4)))
    front = front / front.sum(axis=1, keepdims=True) + 0.2 * rng.random((60, 1))
    front = front[~choice.dominated_rows(front, minimise=np.ones(4, bool))]
    regret = measures.frame(front, minimise=np.ones(4, bool)).regret(front)
    seen = []
    monkeypatch.setattr("pymoo.mcdm.high_tradeoff.find_outliers_upper_tail", seen.append)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        HighTradeoffPoints()._do(regret)
    score, basis = knee.knee(regret)
    assert basis == "trade-off"
    # Where pymoo looks at a ball of radius 1/8 that holds more than 2 m points, or at the 2 m nearest, so do we.
    assert score / (1 - score) == pytest.approx(seen[0], rel=1e-9)


def test_a_single_point_is_its_own_knee() -> None:
    for m in (1, 2, 3, 4):
        made = choice.choose(np.ones((1, m)), method="knee", minimise=np.ones(m, bool))
        assert (made.index, made.runner_up) == (0, None)


# --- what holds for all -----------------------------------------------------------------------------------------------

METHODS = st.sampled_from(choice.METHODS)


def drawn(seed: int, n: int, m: int, method: str):
    rng = np.random.default_rng(seed)
    front, minimise = rng.random((n, m)), rng.random(m) < 0.5
    wanted = {"method": method, "minimise": minimise}
    if method != "knee":
        wanted["weights"] = rng.dirichlet(np.ones(m))
    if method == "achievement":
        wanted["targets"] = rng.random(m)
    return rng, front, wanted


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 25), m=st.integers(1, 5), method=METHODS)
def test_order_and_units_change_nothing_and_dominated_rows_are_never_chosen(seed, n, m, method) -> None:
    rng, front, wanted = drawn(seed, n, m, method)
    made = choice.choose(front, **wanted)
    sign = np.where(wanted["minimise"], 1.0, -1.0)
    better = ((front * sign <= front[made.index] * sign).all(axis=1)) & ((front != front[made.index]).any(axis=1))
    assert not better.any()
    assert not made.dominated[made.index]
    order = rng.permutation(n)
    turned = order[choice.choose(front[order], **wanted).index]
    regret = made.frame.regret(front) @ made.weight
    # Only where score and regret tie may the order decide: then the lower index is taken.
    tied = (made.score >= made.score[made.index] - 1e-9) & (abs(regret - regret[made.index]) < 1e-9)
    assert turned == made.index or tied[turned]
    units = 2.0 ** rng.integers(-10, 10, m)  # powers of two change no digit
    rescaled = wanted | ({"targets": wanted["targets"] * units} if "targets" in wanted else {})
    found = choice.choose(front * units, **rescaled).index
    assert found == made.index or tied[found]
    if method != "topsis":  # which measures from 0 by the vector norm
        moved = wanted | ({"targets": wanted["targets"] + 4} if "targets" in wanted else {})
        found = choice.choose(front + 4, **moved)
        assert found.score[found.index] == pytest.approx(made.score[made.index], abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 20), method=METHODS)
def test_dominated_rows_are_flagged_and_count_in_nothing(seed, n, method) -> None:
    _, front, wanted = drawn(seed, n, 3, method)
    sign = np.where(wanted["minimise"], 1.0, -1.0)
    worse = front + 0.5 * sign  # each dominated by its original
    made, alone = choice.choose(np.concatenate([front, worse]), **wanted), choice.choose(front, **wanted)
    assert made.index == alone.index
    assert made.dominated[n:].all()
    assert np.isnan(made.score[n:]).all()
    kept = choice.Session(keep_dominated=True)
    assert not choice.choose(np.concatenate([front, worse]), **wanted, session=kept).dominated[made.index]


@pytest.mark.parametrize("method", [m for m in choice.METHODS if m != "knee"])
def test_a_frozen_frame_keeps_the_order_when_points_are_added(method) -> None:
    """Without it they do change places: found over these seeds, for every method but none with the frame."""
    changed = 0
    for seed in range(60):
        rng, front, wanted = drawn(seed, 8, 2, method)
        front, wanted["minimise"] = np.sort(front, axis=0), np.array([True, False])  # mutually non-dominated
        first = choice.choose(front, **wanted)
        # One more point, far out at one end.
        more = np.concatenate([front, [[front[-1, 0] + 2 * rng.random(), front[-1, 1] + rng.random()]]])
        order = np.argsort(-first.score, kind="stable").tolist()
        free = choice.choose(more, **wanted).score[:8]
        changed += np.argsort(-free, kind="stable").tolist() != order
        frozen = choice.choose(more, **wanted, session=choice.Session(frame=first.frame)).score[:8]
        assert frozen == pytest.approx(first.score, abs=1e-12)
    assert changed > 0


# --- words and refusals -----------------------------------------------------------------------------------------------

CELLS = np.array([[812.0, 31.0], [640.0, 55.0], [900.0, 29.5]])
NAMED = choice.Session(labels=(("energy", "W"), ("latency", "ms")))


def test_the_reason_says_what_won_and_what_it_cost_against_the_runner_up() -> None:
    made = choice.choose(CELLS, minimise=BOTH_DOWN, weights=np.array([0.5, 0.5]), session=NAMED)
    assert (made.index, made.runner_up) == (0, 2)
    assert "Point 0 of 3 non-dominated by topsis" in made.reason
    assert "Against the runner-up, point 2" in made.reason
    assert "it wins energy (88 W lower) and gives up latency (1.5 ms higher)" in made.reason


def test_the_reason_names_the_targets_that_are_missed() -> None:
    targets = np.array([700.0, 40.0])
    made = choice.choose(CELLS, method="achievement", targets=targets, minimise=BOTH_DOWN, session=NAMED)
    assert "misses the target of energy by 112 W" in made.reason
    easy = choice.choose(CELLS, method="achievement", targets=targets * 2, minimise=BOTH_DOWN, session=NAMED)
    assert "meets every target" in easy.reason


def test_what_leads_all_others_is_said() -> None:
    made = choice.choose(CELLS, weights=np.array([1.0, 0]), minimise=BOTH_DOWN, session=NAMED)
    assert "best of all in energy (640 W)" in made.reason


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"method": "topsiss"}, "Did you mean 'topsis'"),
        ({"method": "knee", "weights": np.ones(2)}, "Leave the weights out"),
        ({"method": "topsis", "targets": np.ones(2)}, "Targets belong to method achievement"),
        ({"method": "achievement"}, "one for each objective"),
        ({"method": "achievement", "targets": np.array([1.0, np.nan])}, "finite"),
        ({"method": "achievement", "targets": np.ones(3)}, "2 finite numbers"),
        ({"weights": np.array([-1.0, 2])}, "numbers >= 0"),
        ({"minimise": np.ones(3, bool)}, "one for each objective"),
    ],
)
def test_wrong_wishes_are_refused_with_a_cure(wanted, words) -> None:
    with pytest.raises(InvalidInput) as caught:
        choice.choose(LINE, **({"minimise": BOTH_DOWN} | wanted))
    assert words in f"{caught.value.detail} {caught.value.cure}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e301])
@pytest.mark.parametrize("method", choice.METHODS)
def test_numbers_that_are_none_are_refused_by_every_method(value, method) -> None:
    front = LINE.copy()
    front[1, 1] = value
    targets = {"targets": np.zeros(2)} if method == "achievement" else {}
    with pytest.raises(InvalidInput, match="finite numbers"):
        choice.choose(front, method=method, minimise=BOTH_DOWN, **targets)


def test_a_frame_of_other_directions_is_refused() -> None:
    made = choice.choose(LINE, minimise=BOTH_DOWN)
    turned = dataclasses.replace(made.frame, minimise=~BOTH_DOWN)
    with pytest.raises(InvalidInput, match="directions"):
        choice.choose(LINE, minimise=BOTH_DOWN, session=choice.Session(frame=turned))
