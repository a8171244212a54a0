"""TOPSIS against worked vectors and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import choice

STORAGE = np.array([[250, 16, 12, 5], [200, 16, 8, 3], [300, 32, 16, 4], [275, 32, 8, 4], [225, 16, 16, 2]], float)
FIRST_IS_COST = np.array([True, False, False, False])


def test_the_textbook_table_with_vector_normalisation() -> None:
    chosen = choice.topsis(STORAGE, np.full(4, 0.25), minimise=FIRST_IS_COST)
    assert chosen.score == pytest.approx([0.534277, 0.308368, 0.691632, 0.534737, 0.401046], abs=1e-6)
    assert chosen.index == 2
    assert chosen.ideal.tolist() == [200, 32, 16, 5]
    assert chosen.anti_ideal.tolist() == [300, 16, 8, 2]


def test_the_textbook_table_with_min_max_ranks_differently() -> None:
    chosen = choice.topsis(STORAGE, np.full(4, 0.25), minimise=FIRST_IS_COST, normalisation="min_max")
    assert chosen.score == pytest.approx([0.5, 0.4027, 0.5973, 0.486891, 0.465352], abs=5e-5)


@pytest.mark.parametrize("w", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_two_mirrored_rows_score_one_minus_w_and_w(w: float) -> None:
    chosen = choice.topsis(np.array([[3.0, 4.0], [4.0, 3.0]]), np.array([w, 1 - w]), minimise=np.zeros(2, bool))
    assert chosen.score == pytest.approx([1 - w, w], abs=1e-12)


def test_the_middle_of_a_convex_front_scores_two_thirds() -> None:
    chosen = choice.topsis(np.array([[1.0, 4], [2, 2], [4, 1]]), np.full(2, 0.5), minimise=np.ones(2, bool))
    assert chosen.score == pytest.approx([0.5, 2 / 3, 0.5], abs=1e-12)
    assert chosen.index == 1


def test_a_constant_column_counts_nothing() -> None:
    chosen = choice.topsis(np.array([[1.0, 2], [1, 3]]), np.full(2, 0.5), minimise=np.zeros(2, bool))
    assert chosen.score.tolist() == [0.0, 1.0]


def test_equal_rows_all_score_a_half_and_the_first_is_taken() -> None:
    chosen = choice.topsis(np.ones((3, 2)), np.full(2, 0.5), minimise=np.zeros(2, bool))
    assert (chosen.index, chosen.score.tolist()) == (0, [0.5, 0.5, 0.5])


def test_a_tie_goes_to_the_lower_regret() -> None:
    # Both ends score 1/2 in the vector form by symmetry; the middle is left out, the weights make regrets differ.
    rows = np.array([[3.0, 4.0], [4.0, 3.0]])
    assert choice.topsis(rows, np.full(2, 0.5), minimise=np.zeros(2, bool)).index == 0
    assert choice.topsis(rows[::-1].copy(), np.full(2, 0.5), minimise=np.zeros(2, bool)).index == 0


def test_huge_numbers_do_not_overflow() -> None:
    chosen = choice.topsis(np.array([[3e200, 4], [4e200, 3]]), np.array([0.75, 0.25]), minimise=np.zeros(2, bool))
    assert chosen.score == pytest.approx([0.25, 0.75])


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    m=st.integers(1, 5),
    scale=st.floats(1e-3, 1e3),
)
def test_scores_lie_in_the_unit_interval_and_ignore_order_units_and_weight_scale(
    seed: int, n: int, m: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    front, weight, minimise = rng.random((n, m)) + 0.1, rng.random(m) + 0.01, rng.random(m) < 0.5
    chosen = choice.topsis(front, weight, minimise=minimise)
    assert ((chosen.score >= 0) & (chosen.score <= 1)).all()
    order = rng.permutation(n)
    assert choice.topsis(front[order], weight, minimise=minimise).score == pytest.approx(chosen.score[order], abs=1e-9)
    units = rng.random(m) * scale + 0.1
    assert choice.topsis(front * units, 7 * weight, minimise=minimise).score == pytest.approx(chosen.score, abs=1e-9)


def test_a_dominating_row_is_taken_whatever_the_weights() -> None:
    front = np.array([[2.0, 5.0], [1.0, 6.0], [3.0, 4.0]])
    for w in np.linspace(0, 1, 11):
        assert choice.topsis(front, np.array([w, 1 - w]), minimise=np.array([True, False])).index == 1


@pytest.mark.parametrize(
    ("front", "weight", "minimise"),
    [
        (np.ones(3), np.ones(3), np.zeros(3, bool)),
        (np.ones((0, 2)), np.ones(2), np.zeros(2, bool)),
        (np.ones((2, 2), np.float32), np.ones(2), np.zeros(2, bool)),
        (np.ones((2, 2)), np.ones(3), np.zeros(2, bool)),
        (np.ones((2, 2)), np.ones(2), np.zeros(2)),
        (np.array([[1.0, np.nan]]), np.ones(2), np.zeros(2, bool)),
        (np.ones((2, 2)), np.zeros(2), np.zeros(2, bool)),
        (np.ones((2, 2)), np.array([1.0, -1.0]), np.zeros(2, bool)),
        (np.ones((2, 2)), np.array([1.0, np.nan]), np.zeros(2, bool)),
    ],
    ids=["rank", "empty", "dtype", "weights", "directions", "nan", "zero", "negative", "nan-weight"],
)
def test_bad_input_is_refused_with_what_was_expected(front, weight, minimise) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        choice.topsis(front, weight, minimise=minimise)
