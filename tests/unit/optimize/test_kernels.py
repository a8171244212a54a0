"""The kernels against brute force and against pymoo's own: ranks, crowding, truncation, niching, variation, duplicates."""

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymoo.algorithms.moo.nsga3 import HyperplaneNormalization
from pymoo.algorithms.moo.nsga3 import niching as pymoo_niching
from pymoo.algorithms.moo.spea2 import _truncation_candidate
from pymoo.decomposition.pbi import PBI
from pymoo.decomposition.tchebicheff import Tchebicheff
from pymoo.operators.crossover.sbx import cross_sbx
from pymoo.operators.mutation.pm import mut_pm
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from scipy import stats
from scipy.spatial.distance import cdist

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize.kernels import (
    constraints,
    decomposition,
    directions,
    duplicates,
    niching,
    ranking,
    strength,
    variation,
)

# Few values, so that equal rows and constant columns are frequent.
FEW = arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(2, 4)),
    elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 3.0]),
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def brute_ranks(f: np.ndarray) -> np.ndarray:
    dominates = (f[:, None] <= f).all(axis=2) & (f[:, None] < f).any(axis=2)
    rank, left, front = np.full(len(f), -1), np.ones(len(f), dtype=bool), 0
    while left.any():
        best = left & ~dominates[left].any(axis=0)
        rank[best], left, front = front, left & ~best, front + 1
    return rank


@settings(max_examples=60, deadline=None)
@given(FEW)
def test_ranks_are_those_of_comparing_all_pairs(f: np.ndarray) -> None:
    assert np.array_equal(ranking.ranks(f), brute_ranks(f))


def test_ranks_of_nothing_of_one_and_of_random_rows() -> None:
    assert ranking.ranks(np.empty((0, 3))).shape == (0,)
    assert ranking.ranks(np.zeros((1, 2))).tolist() == [0]
    rng = generator()
    for case in range(1000):
        f = rng.random((int(rng.integers(2, 40)), int(rng.integers(2, 6)))).round(1)
        f[:, 0] = f[0, 0] if case % 5 == 0 else f[:, 0]
        assert np.array_equal(ranking.ranks(f), moocore.pareto_rank(f))
        assert np.array_equal(ranking.ranks(f), brute_ranks(f))


@settings(max_examples=60, deadline=None)
@given(FEW)
def test_crowding_of_every_front_is_pymoos(f: np.ndarray) -> None:
    rank, theirs = brute_ranks(f), get_crowding_function("cd")
    ours = ranking.crowding(f, rank=rank)
    for front in range(int(rank.max()) + 1):
        np.testing.assert_allclose(ours[rank == front], theirs.do(f[rank == front]), rtol=0, atol=1e-12)


def test_crowding_of_random_rows_is_pymoos() -> None:
    f = generator(1).random((200, 3))
    rank = ranking.ranks(f)
    ours, theirs = ranking.crowding(f, rank=rank), get_crowding_function("cd")
    for front in range(int(rank.max()) + 1):
        np.testing.assert_allclose(ours[rank == front], theirs.do(f[rank == front]), rtol=0, atol=1e-12)


def test_first_fronts_end_with_the_one_that_is_split() -> None:
    rank = np.array([0, 2, 1, 1, 0, 3])
    assert ranking.first_fronts(rank, need=3).tolist() == [0, 2, 3, 4]
    assert ranking.first_fronts(rank, need=2).tolist() == [0, 4]
    assert ranking.first_fronts(rank, need=6) is None


def test_the_better_of_two_drawn_rows_is_a_parent_and_rows_are_drawn_equally_often() -> None:
    goodness = np.arange(10.0)
    first, second = ranking.parents(goodness, rows=10, matings=25, rng=generator())
    both = np.concatenate([first, second])
    # 25 matings need 100 draws, 10 of each row: the worst row never wins, the best always does.
    assert 9 not in both
    assert (both == 0).sum() == 10
    assert (first == second).sum() < 5
    drawn = np.concatenate(ranking.parents(None, rows=10, matings=25, rng=generator()))
    assert np.bincount(drawn, minlength=10).tolist() == [5] * 10


def test_a_row_that_dominates_is_the_parent_whatever_its_goodness_and_nan_dominates_nothing() -> None:
    f = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 2.0], [2.0, 0.0], [np.nan, np.nan], [0.0, 0.0]])
    goodness = np.array([5.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    pairs = [(0, 1), (1, 0), (2, 3), (3, 2), (0, 4), (4, 0), (0, 5), (5, 0), (2, 0)]
    first, second = np.array(pairs).T
    (won,) = ranking._dominating(f[np.stack([first, second])], otherwise=(goodness[first] <= goodness[second])[None])
    # 0 dominates 1 and 2; between 2 and 3, with a failed row, and between equals goodness decides.
    assert np.where(won, first, second).tolist() == [0, 0, 2, 2, 4, 4, 5, 5, 0]


def pymoo_truncated(f: np.ndarray, keep: int) -> list[int]:
    apart = cdist(f, f)
    np.fill_diagonal(apart, np.inf)
    left = list(range(len(f)))
    while len(left) > keep:
        left.pop(int(_truncation_candidate(apart, left)))
    return left


def truncated(f: np.ndarray, keep: int) -> list[int]:
    apart = strength.squared_distances(f, f)
    np.fill_diagonal(apart, np.inf)
    near = strength.nearest(apart, count=min(len(f), 12))
    return strength.truncated(apart, keep=keep, near=near).tolist()


@pytest.mark.parametrize(
    ("rows", "keep", "columns"), [(60, 30, 3), (200, 100, 3), (200, 20, 2), (120, 119, 5), (40, 2, 3)]
)
def test_truncation_removes_what_pymoo_removes(rows: int, keep: int, columns: int) -> None:
    f = generator(rows + keep).random((rows, columns))
    assert truncated(f, keep) == pymoo_truncated(f, keep)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.integers(0, 1000), st.integers(2, 5))
def test_truncation_of_equal_and_equidistant_rows(rows: int, seed: int, values: int) -> None:
    # On a grid of whole numbers squared distances are exact, so that ties are ties on both sides.
    f = generator(seed).integers(0, values, (rows, 2)).astype(float)
    assert truncated(f, rows // 2) == pymoo_truncated(f, rows // 2)


def test_raw_fitness_is_the_strength_of_those_that_dominate() -> None:
    f = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [0.0, 3.0], [0.0, 0.0]])
    # Strengths: 3, 1, 0, 0, 3 (equal rows do not dominate each other).
    assert strength.raw_fitness(f).tolist() == [0.0, 6.0, 7.0, 6.0, 0.0]


def test_nearest_is_exact_where_float32_cannot_tell() -> None:
    apart = 1.0 + np.arange(40.0)[::-1] * 1e-10 + np.zeros((3, 1))
    value, whose = strength.nearest(apart, count=40)
    assert np.array_equal(whose, np.tile(np.arange(39, -1, -1), (3, 1)))
    assert np.array_equal(value, np.sort(apart, axis=1))


def test_normaliser_is_pymoos_over_generations() -> None:
    rng, theirs, ours = generator(3), HyperplaneNormalization(3), niching.Normaliser.fresh(3)
    for generation in range(15):
        f = rng.random((60, 3)) * [1.0, 10.0, 0.1] + np.exp(-generation)
        front = f[moocore.is_nondominated(f, keep_weakly=True)]
        theirs.update(f, nds=np.flatnonzero(moocore.is_nondominated(f, keep_weakly=True)))
        ours.update(f, front=front)
        for mine, other in ((ours.ideal, theirs.ideal_point), (ours.nadir, theirs.nadir_point)):
            np.testing.assert_allclose(mine, other, rtol=1e-12)
    same = niching.Normaliser.read(ours.arrays())
    assert np.array_equal(same.scaled(f), ours.scaled(f))


@pytest.mark.slow
def test_niching_selects_as_often_as_pymoos_loop() -> None:
    niche = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4])
    rng = generator(5)
    distance = rng.random(12)
    held, need, draws = np.array([0, 1, 2, 0, 1]), 5, 20_000

    def sets(select) -> dict[tuple[int, ...], int]:
        seen: dict[tuple[int, ...], int] = {}
        for _ in range(draws):
            key = tuple(sorted(select()))
            seen[key] = seen.get(key, 0) + 1
        return seen

    ours = sets(lambda: niching.fill(niche, distance, held=held, need=need, rng=rng).tolist())
    theirs = sets(lambda: pymoo_niching(np.arange(12), need, held.copy(), niche, distance, random_state=rng))
    assert set(ours) == set(theirs)
    table = np.array([[one[key] for key in sorted(ours)] for one in (ours, theirs)])
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("cells", [4_000_000, 200])
def test_association_is_with_the_nearest_direction(monkeypatch, cells: int) -> None:
    monkeypatch.setattr(niching, "_CELLS", cells)
    scaled, unit = generator(2).random((50, 3)), directions.unit(directions.fitting(3, population_size=91))
    along = scaled @ unit.T
    apart = np.linalg.norm(scaled[:, None] - along[:, :, None] * unit, axis=2)
    niche, distance = niching.associate(scaled, unit=unit)
    assert np.array_equal(niche, apart.argmin(axis=1))
    np.testing.assert_allclose(distance, apart.min(axis=1), atol=1e-12)


def test_scalars_are_pymoos() -> None:
    rng = generator(4)
    f, ideal = rng.random((30, 3)) + 0.5, np.array([0.1, 0.2, 0.3])
    weight = directions.fitting(3, population_size=30)[:30]
    f = f[: len(weight)]
    off, unit = (f - ideal).T, directions.unit(weight).T
    for boundary, theirs in ((True, PBI()), (False, Tchebicheff())):
        mine = decomposition.scalar(off, weight=weight.T, unit=unit, boundary=boundary)
        np.testing.assert_allclose(mine, theirs.do(f, weights=weight, ideal_point=ideal), rtol=1e-7)


@pytest.mark.parametrize("cells", [4_000_000, 100])
def test_neighbours_and_whose_they_are(monkeypatch, cells: int) -> None:
    monkeypatch.setattr(decomposition, "_CELLS", cells)
    weight = directions.fitting(3, population_size=28)
    near = decomposition.neighbours(weight, count=6)
    assert np.array_equal(near[:, 0], np.arange(28))
    apart = cdist(weight, weight)
    np.testing.assert_allclose(
        np.sort(np.take_along_axis(apart, near, axis=1), axis=1), np.sort(apart, axis=1)[:, :6], atol=1e-9
    )
    whose, real = decomposition.inverse(near)
    for subproblem in range(28):
        assert sorted(whose[subproblem][real[subproblem]]) == np.flatnonzero((near == subproblem).any(axis=1)).tolist()


def test_at_most_so_many_of_each() -> None:
    winner = np.array([3, 3, 3, 1, 1, 2])
    kept = decomposition.at_most(winner, limit=2, rng=generator())
    assert np.bincount(winner[kept], minlength=4).tolist() == [0, 2, 1, 2]


def test_directions_fit_and_lie_on_the_simplex() -> None:
    assert [len(directions.fitting(m, population_size=n)) for m, n in ((2, 100), (3, 91), (3, 100), (3, 496))] == [
        100, 91, 91, 496,
    ]  # fmt: skip
    two_layers = directions.fitting(8, population_size=156)
    assert len(two_layers) == 156
    assert (two_layers > 0).all(axis=1).any()
    np.testing.assert_allclose(two_layers.sum(axis=1), 1.0)
    with pytest.raises(InvalidInput, match="two objectives"):
        directions.fitting(1, population_size=10)
    with pytest.raises(InvalidInput, match="directions"):
        directions.given([[0.0, 0.0], [1.0, 0.0]], objectives=2, population_size=10)


@pytest.mark.parametrize(
    ("eta", "a", "b"), [(15.0, 0.2, 0.7), (30.0, 0.0, 1.0), (20.0, 0.9, 0.05), (15.0, 0.5, 0.500001)]
)
def test_crossover_has_pymoos_distribution(eta: float, a: float, b: float) -> None:
    n, bounds = 40_000, (np.zeros(1), np.ones(1))
    ours = np.full((2, n, 1), [[[a]], [[b]]])
    variation.sbx(ours[0], ours[1], crossed=np.ones(n, dtype=bool), bounds=bounds, eta=eta, rng=generator(1))
    parents = np.full((2, n, 1), [[[a]], [[b]]])
    theirs = cross_sbx(
        parents, *bounds, np.full((n, 1), eta), np.full((n, 1), 0.5), np.full((n, 1), 0.5),
        random_state=np.random.default_rng(2),
    )  # fmt: skip
    for mine, other in zip(ours, theirs, strict=True):
        assert stats.ks_2samp(mine[:, 0], other[:, 0]).pvalue > 1e-3
    # Together: their mean keeps that of the parents where no bound is near.
    mine, other = (pair.sum(axis=0)[:, 0].round(4) for pair in (ours, theirs))
    assert stats.ks_2samp(mine, other).pvalue > 1e-3


def test_crossover_leaves_rows_and_equal_values_alone() -> None:
    rng = generator(7)
    a, b = rng.random((2, 20, 9))
    b[:, 3] = a[:, 3]
    crossed = np.arange(20) < 10
    one, two = a.copy(), b.copy()
    variation.sbx(one, two, crossed=crossed, bounds=(np.zeros(9), np.arange(1.0, 10.0)), eta=15.0, rng=rng)
    assert np.array_equal(one[10:], a[10:])
    assert np.array_equal(two[10:], b[10:])
    assert np.array_equal(one[:, 3], a[:, 3])
    assert ((one != a).any(axis=1) == crossed).all()
    assert 0.3 < (one != a)[:10].mean() < 0.6


def test_mutation_has_pymoos_distribution() -> None:
    n, bounds = 60_000, (np.array([-1.0]), np.array([3.0]))
    for start in (-1.0, 0.4, 2.9):
        ours = np.full((n, 1), start)
        variation.mutate(ours, np.arange(n), bounds=bounds, eta=20.0, rng=generator(3))
        theirs = mut_pm(
            np.full((n, 1), start), *bounds, np.full(n, 20.0), np.full(n, 1.0),
            at_least_once=False, random_state=np.random.default_rng(4),
        )  # fmt: skip
        assert stats.ks_2samp(ours[:, 0], theirs[:, 0]).pvalue > 1e-3


@pytest.mark.parametrize(("rows", "width", "each"), [(400, 30, 1 / 30), (50, 2, 0.5), (3, 5000, 0.001), (1, 1, 0.5)])
def test_positions_are_independent_and_rows_are_spared(rows: int, width: int, each: float) -> None:
    rng, draws = generator(9), 200
    found = [variation.positions((rows, width), row=0.9, each=each, rng=rng) for _ in range(draws)]
    for at in found:
        assert (np.diff(at) > 0).all()
        assert not len(at) or (at[0] >= 0 and at[-1] < rows * width)
    mean = rows * width * 0.9 * each
    # A row's gate ties its variables together: its share adds to the variance.
    deviation = np.sqrt((mean + rows * 0.09 * (width * each) ** 2) / draws)
    assert abs(np.mean([len(at) for at in found]) - mean) < 4.5 * deviation


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 2), st.integers(0, 10_000))
def test_children_never_leave_the_bounds(rows: int, width: int, each: int, seed: int) -> None:
    rng = generator(seed)
    low = rng.normal(size=width) * 10.0 ** rng.integers(-6, 6)
    high = low + np.abs(rng.normal(size=width)) * 10.0 ** rng.integers(-9, 6) * (rng.random(width) < 0.9)
    vary = variation.RealVariation(low=low, high=high, crossover=1.0, crossover_eta=3.0, mutation=1.0, mutation_eta=1.0)
    x = vary.sample(rows, rng)
    # Some on their bounds, some equal.
    x = vary.repair(np.where(rng.random(x.shape) < 0.3, low, np.where(rng.random(x.shape) < 0.2, high, x)))
    first, second = rng.integers(0, rows, (2, 7))
    born = vary.children(x, first=first, second=second, each=each, rng=rng)
    assert born.shape == (7 * each, width)
    assert np.isfinite(born).all()
    assert ((low <= born) & (born <= high)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 3), st.integers(0, 10_000))
def test_new_rows_are_those_that_nobody_has(held: int, offered: int, width: int, seed: int) -> None:
    rng, weight = generator(seed), duplicates.weights(width)
    old, new = np.unique(rng.integers(0, 3, (held, width)).astype(float), axis=0), rng.integers(0, 3, (offered, width))
    new = new.astype(float)
    mask = duplicates.new_rows(
        new,
        hashed=duplicates.hashes(new, weight),
        among=(old,),
        among_hashed=(duplicates.hashes(old, weight),),
    )
    seen = set(map(tuple, old.tolist()))
    wanted = []
    for row in map(tuple, new.tolist()):
        wanted.append(row not in seen)
        seen.add(row)
    assert (np.ones(offered, dtype=bool) if mask is None else mask).tolist() == wanted


def test_equal_hashes_of_different_rows_are_no_duplicates() -> None:
    x = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [0.0, 3.0], [2.0, 1.0]])
    mask = duplicates.new_rows(x, hashed=np.full(5, 7.0), among=(), among_hashed=())
    assert mask.tolist() == [True, True, False, True, False]


def test_hash_of_a_row_does_not_depend_on_where_it_stands() -> None:
    rng = generator(11)
    for width in (1, 7, 30, 1001):
        x, weight = rng.random((50, width)), duplicates.weights(width)
        whole = duplicates.hashes(x, weight)
        assert all(whole[i] == duplicates.hashes(x[i : i + 1].copy(), weight)[0] for i in range(50))
        assert np.array_equal(duplicates.hashes(x[::-1], weight), whole[::-1])


def test_violation_failures_and_the_schedule() -> None:
    g, h = np.array([[-1.0, 2.0], [0.0, 0.0], [np.nan, 0.0]]), np.array([[0.0], [5e-5], [0.0]])
    assert constraints.violation(g, h).tolist() == [2.0, 0.0, np.inf]
    assert constraints.violation(np.empty((1, 0)), np.array([[-0.5]]))[0] == pytest.approx(0.4999)
    f, cv = constraints.with_failures(np.array([[1.0, np.nan], [1.0, 2.0]]), np.zeros(2))
    assert (f[0] == np.inf).all()
    assert cv.tolist() == [np.inf, 0.0]
    assert [constraints.allowed(2.0, generation=t, horizon=100) for t in (0, 40, 80, 99)] == [2.0, 1.0, 0.0, 0.0]
    assert constraints.first_allowed(np.arange(11.0)) == 2.0
    assert constraints.first_allowed(np.array([np.inf])) == 0.0
