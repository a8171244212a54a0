"""The algorithms as the searches meet them: bars on fronts, same seed same bits, save and resume, constraints, failures."""

import json

import moocore
import numpy as np
import pytest
from pymoo.core.problem import Problem
from pymoo.problems import get_problem

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import algorithms, generators
from rlaas_ray.optimize.evaluation import evaluate
from rlaas_ray.optimize.evolution import Evolution

OURS = ("nsga2", "nsga3", "moead", "spea2")


def step(search: Evolution, problem: Problem, generations: int) -> Evolution:
    for _ in range(generations):
        f, g, h = evaluate(problem, search.ask())
        search.tell(f=f, g=g, h=h)
    return search


def run(name: str, problem: Problem, *, size: int, generations: int, seed: int = 1, **options) -> Evolution:
    search = algorithms.make(name, problem=problem, population_size=size, seed=seed, options=options)
    return step(search, problem, generations)


def hypervolume(search: Evolution) -> float:
    f = search.population.f
    return float(moocore.hypervolume(f, ref=np.full(f.shape[1], 1.1)))


BARS = [
    ("nsga2", "zdt1", {}, 100, 200, 0.8655),
    ("nsga2", "dtlz2", {"n_var": 12}, 100, 200, 0.697),
    ("nsga3", "dtlz2", {"n_var": 12}, 91, 200, 0.742),
    ("moead", "dtlz2", {"n_var": 12}, 91, 150, 0.738),
    ("spea2", "dtlz2", {"n_var": 12}, 100, 100, 0.727),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "problem", "options", "size", "generations", "bar"), BARS)
def test_hypervolume_reaches_the_bar(name, problem, options, size, generations, bar) -> None:
    # The medians of eleven seeds are in benchmarks/optimize.py.
    found = get_problem(problem, **options)
    worth = [hypervolume(run(name, found, size=size, generations=generations, seed=seed)) for seed in range(1, 6)]
    assert np.median(worth) >= bar


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("asked", [False, True])
def test_a_search_resumes_bit_for_bit(name: str, *, asked: bool) -> None:
    problem = get_problem("dtlz2", n_var=12)
    whole = run(name, problem, size=40, generations=50)
    if asked:
        whole.ask()
    header, arrays = whole.state()
    resumed = algorithms.restore(json.loads(json.dumps(header)), arrays, problem=problem)
    assert (resumed.generation, resumed.evaluations) == (whole.generation, whole.evaluations)
    for search in (whole, resumed):
        step(search, problem, 12)
    for part in ("x", "f", "g", "h", "cv"):
        assert np.array_equal(getattr(whole.population, part), getattr(resumed.population, part))
    assert np.array_equal(whole.ask(), resumed.ask())


@pytest.mark.parametrize("name", OURS)
def test_a_state_is_a_copy_and_may_be_taken_at_any_time(name: str) -> None:
    problem = get_problem("zdt1", n_var=6)
    search = algorithms.make(name, problem=problem, population_size=12, seed=4)
    told = []
    for _ in range(6):
        header, arrays = search.state()
        before = {key: value.copy() for key, value in arrays.items()}
        x = search.ask().copy()
        resumed = algorithms.restore(header, arrays, problem=problem)
        assert np.array_equal(resumed.ask(), x)
        step(search, problem, 1)
        assert all(np.array_equal(before[key], arrays[key], equal_nan=True) for key in before)
        told.append(x)
    assert search.evaluations == sum(map(len, told))


@pytest.mark.parametrize("name", OURS)
def test_the_same_seed_gives_the_same_bits_and_another_others(name: str) -> None:
    problem = get_problem("zdt1", n_var=8)
    one, same, other = (run(name, problem, size=20, generations=15, seed=s).population.x for s in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_restore_refuses_another_problem_and_another_format() -> None:
    search = run("nsga2", get_problem("zdt1", n_var=6), size=10, generations=2)
    header, arrays = search.state()
    with pytest.raises(InvalidInput, match="state of a search"):
        algorithms.restore(header, arrays, problem=get_problem("zdt1", n_var=7))
    with pytest.raises(InvalidInput, match="state of a search"):
        algorithms.restore({**header, "format": 0}, arrays, problem=get_problem("zdt1", n_var=6))


def test_a_generator_goes_on_where_it_was_written_down() -> None:
    rng = generators.made(5)
    rng.integers(0, 10, 3, dtype=np.uint32)  # leaves half a word
    again = generators.unpacked(generators.packed(rng))
    assert np.array_equal(rng.integers(0, 1 << 30, 5, dtype=np.uint32), again.integers(0, 1 << 30, 5, dtype=np.uint32))
    assert np.array_equal(rng.random(5), again.random(5))


@pytest.mark.parametrize("name", OURS)
def test_survivors_are_rows_that_were_evaluated_and_children_are_new(name: str) -> None:
    problem = get_problem("zdt2", n_var=5)
    search = algorithms.make(name, problem=problem, population_size=30, seed=2)
    seen: dict[bytes, np.ndarray] = {}
    for _ in range(20):
        x = search.ask()
        assert ((x >= 0) & (x <= 1)).all()
        rows = [row.tobytes() for row in x]
        if name != "moead":
            held = {row.tobytes() for row in search.population.x}
            assert len(set(rows)) == len(rows) == 30
            assert not held & set(rows)
        f, g, h = evaluate(problem, x)
        seen.update(zip(rows, f, strict=True))
        search.tell(f=f, g=g, h=h)
        population = search.population
        assert len(population.x) == 30
        for row, value in zip(population.x, population.f, strict=True):
            assert np.array_equal(seen[row.tobytes()], value)


def test_extremes_of_the_first_front_survive_nsga2() -> None:
    problem = get_problem("zdt1", n_var=6)
    search, best = algorithms.make("nsga2", problem=problem, population_size=20, seed=6), np.full(2, np.inf)
    for _ in range(40):
        f, g, h = evaluate(problem, search.ask())
        search.tell(f=f, g=g, h=h)
        best = np.minimum(best, f.min(axis=0))
        assert np.array_equal(search.population.f.min(axis=0), best)


class Ring(Problem):
    """Two objectives, feasible in a thin band around a quarter circle, and a line on which an equality holds."""

    def __init__(self, *, equal: bool = False) -> None:
        super().__init__(n_var=4, n_obj=2, n_ieq_constr=1, n_eq_constr=int(equal), xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        out["F"] = x[:, :2] + np.square(x[:, 2:]).sum(axis=1)[:, None]
        radius = np.sqrt(np.square(x[:, :2]).sum(axis=1))
        out["G"] = 0.9 - radius
        if self.n_eq_constr:
            out["H"] = 0.1 * (x[:, 2] - x[:, 3])


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("options", [{}, {"epsilon_horizon": 80}])
def test_constraints_are_kept_and_their_edge_is_found(name: str, options: dict) -> None:
    population = run(name, Ring(), size=40, generations=80, **options).population
    assert (population.cv <= 0).all()
    # On the circle of radius 0.9 the sum of squares is 0.81.
    assert np.median(np.square(population.f).sum(axis=1)) < 0.84


@pytest.mark.parametrize("name", OURS)
def test_an_equality_is_met_and_its_values_stay_with_their_rows(name: str) -> None:
    problem = Ring(equal=True)
    population = run(name, problem, size=40, generations=60).population
    _, g, h = evaluate(problem, population.x)
    assert g.shape == h.shape == (len(population.x), 1)
    assert np.array_equal(population.g, g)
    assert np.array_equal(population.h, h)
    assert (population.cv <= 0).mean() > 0.9


def test_an_epsilon_schedule_lets_violations_through_at_first_and_none_at_last() -> None:
    problem = Ring()
    search = algorithms.make("nsga2", problem=problem, population_size=20, seed=1, options={"epsilon_horizon": 50})
    shares = []
    for _ in range(50):
        step(search, problem, 1)
        shares.append(float((search.population.cv <= 0).mean()))
    assert min(shares[:10]) < 0.9
    assert shares[-1] == 1.0


class Fragile(Problem):
    """ZDT1 with rows that fail: NaN, infinity, or a constraint that is no number."""

    def __init__(self) -> None:
        super().__init__(n_var=3, n_obj=2, n_ieq_constr=1, xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        f = np.stack([x[:, 0], 2.0 - x[:, 0] + x[:, 1:].sum(axis=1)], axis=1)
        f[x[:, 0] < 0.1, 0] = np.nan
        f[x[:, 0] > 0.9, 1] = -np.inf
        out["F"] = f
        out["G"] = np.where(x[:, :1] < 0.2, np.nan, -1.0)


@pytest.mark.parametrize("name", OURS)
def test_failed_rows_do_not_survive(name: str) -> None:
    population = run(name, Fragile(), size=24, generations=25).population
    assert np.isfinite(population.f).all()
    assert (population.cv == 0).all()
    assert ((population.x[:, 0] >= 0.2) & (population.x[:, 0] <= 0.9)).all()


class Hopeless(Fragile):
    """Every row fails."""

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        out["F"], out["G"] = np.full((len(x), 2), np.nan), np.zeros((len(x), 1))


@pytest.mark.parametrize("name", OURS)
def test_a_search_where_all_fails_goes_on(name: str) -> None:
    population = run(name, Hopeless(), size=12, generations=4).population
    assert (population.cv == np.inf).all()


def test_rows_that_are_given_begin_the_search_clipped() -> None:
    problem = get_problem("zdt1", n_var=4)
    start = np.array([[0.5, -1.0, 2.0, 0.25], [0.1, 0.2, 0.3, 0.4]])
    search = algorithms.make("nsga2", problem=problem, population_size=10, seed=0, start=start)
    assert search.ask()[:2].tolist() == [[0.5, 0.0, 1.0, 0.25], [0.1, 0.2, 0.3, 0.4]]
    assert np.array_equal(search.ask(), search.ask())
    fresh = algorithms.make("nsga2", problem=problem, population_size=10, seed=0, start=start)
    header, arrays = fresh.state()
    assert np.array_equal(algorithms.restore(header, arrays, problem=problem).ask(), search.ask())


def test_values_must_fit_what_was_asked() -> None:
    search = algorithms.make("nsga2", problem=get_problem("zdt1", n_var=4), population_size=10, seed=0)
    none = np.empty((10, 0))
    with pytest.raises(InvalidInput, match="were not asked"):
        search.tell(f=np.zeros((10, 2)), g=none, h=none)
    search.ask()
    with pytest.raises(InvalidInput, match="rows that were asked"):
        search.tell(f=np.zeros((9, 2)), g=none, h=none)


@pytest.mark.parametrize(
    "options", [{"batches": 8}, {"replaced_at_most": 2}, {"scalar": "tchebycheff"}, {"neighbours": 5}]
)
def test_moead_by_its_options(options: dict) -> None:
    problem = get_problem("dtlz2", n_var=12)
    batches = options.get("batches", 1)
    search = run("moead", problem, size=91, generations=1 + 60 * batches, **options)
    assert search.generation == 61
    assert search.evaluations == 61 * 91
    # pymoo's has 0.715 here; one batch a generation lags a little until the hundredth.
    assert hypervolume(search) > (0.69 if "scalar" not in options else 0.6)
    header, arrays = search.state()
    assert np.array_equal(algorithms.restore(header, arrays, problem=problem).ask(), search.ask())


def test_moead_refuses_options_of_no_use() -> None:
    problem = get_problem("zdt1", n_var=4)
    for options in ({"batches": 0}, {"neighbours": 1}, {"replaced_at_most": 0}, {"scalar": "sum"}):
        with pytest.raises(InvalidInput, match="moead"):
            algorithms.make("moead", problem=problem, population_size=10, seed=0, options=options)


def test_directions_of_the_users_own() -> None:
    problem = get_problem("dtlz2", n_var=7)
    corner = [[1.0, 0.0, 0.0], [0.9, 0.05, 0.05], [0.8, 0.1, 0.1]]
    found = run("nsga3", problem, size=12, generations=60, directions=np.array(corner)).population.f
    assert np.median(found[:, 0]) > 0.8
    header, arrays = run("moead", problem, size=12, generations=3, directions=corner).state()
    assert len(arrays["x"]) == 3
    assert header["options"]["directions"] == corner


def test_spea2_refuses_what_would_not_fit_memory() -> None:
    with pytest.raises(InvalidInput, match="population_size of spea2"):
        algorithms.make("spea2", problem=get_problem("zdt1", n_var=4), population_size=2001, seed=0)


@pytest.mark.slow
def test_pieces_of_a_front_with_gaps_are_lost_as_seldom_as_by_pymoo() -> None:
    """Of 40 seeds pymoo's loses a piece in 2, ours in 3; a tournament by fronts instead of dominance in a third."""
    lost = 0
    for seed in range(1, 41):
        found = run("nsga2", get_problem("zdt3", n_var=6), size=40, generations=150, seed=seed)
        lost += moocore.hypervolume(found.population.f, ref=np.array([1.1, 1.1])) < 1.315
    assert lost <= 4
