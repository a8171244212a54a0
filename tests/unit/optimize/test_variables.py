"""Variables of every kind: columns there and back, children that are values, a front of a mixed problem that is the whole one."""

import itertools

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymoo.core.problem import ElementwiseProblem, Problem
from pymoo.core.variable import Binary, Choice, Integer, Real

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.optimize import algorithms, evaluation, mixing, problems, search, variables
from rlaas_ray.optimize.kernels.variation import RealVariation
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.testing.clock import ManualClock

KINDS = {
    "speed": Real(bounds=(-1.0, 2.0)),
    "count": Integer(bounds=(1, 7)),
    "on": Binary(),
    "colour": Choice(options=["red", "green", "blue"]),
    "one": Choice(options=["only"]),
}


class Shop(ElementwiseProblem):
    """Cost against worth of a few settings; every setting is looked at by name, as pymoo's mixed problems do."""

    def __init__(self) -> None:
        super().__init__(
            vars={"count": Integer(bounds=(0, 5)), "on": Binary(), "colour": Choice(options=["red", "green", "blue"])},
            n_obj=2,
        )

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        assert isinstance(x["on"], bool)
        price = {"red": 0.0, "green": 1.5, "blue": 4.0}[x["colour"]]
        cost = x["count"] * (2 if x["on"] else 3) + price
        worth = x["count"] ** 1.5 * (1 + x["on"]) + price * 1.2
        out["F"] = [cost, -worth]


def test_every_kind_goes_there_and_back() -> None:
    problem = Problem(vars=KINDS, n_obj=1)
    found = variables.of(problem)
    assert found.kind.tolist() == [
        variables.REAL,
        variables.INTEGER,
        variables.BINARY,
        variables.CHOICE,
        variables.CHOICE,
    ]
    x = np.array([[0.25, 3.0, 1.0, 2.0, 0.0], [-1.0, 7.0, 0.0, 0.0, 0.0]])
    rows = found.decode(x)
    assert rows[0] == {"speed": 0.25, "count": 3, "on": True, "colour": "blue", "one": "only"}
    assert [type(v) for v in rows[0].values()] == [float, int, bool, str, str]
    assert found.encode(rows).tolist() == x.tolist()
    assert found.named(x[1]) == {"speed": -1.0, "count": 7, "on": False, "colour": "red", "one": "only"}


@pytest.mark.parametrize(("vtype", "dtype"), [(int, np.int64), (bool, np.bool_), (float, np.float64)])
def test_a_matrix_comes_in_the_problems_own_type(vtype: type, dtype: type) -> None:
    problem = Problem(
        n_var=3, n_obj=1, xl=None if vtype is bool else 0.0, xu=None if vtype is bool else 4.5, vtype=vtype
    )
    found = variables.of(problem)
    assert found.decode(np.ones((2, 3))).dtype == dtype
    assert found.high.tolist() == [{int: 4.0, bool: 1.0, float: 4.5}[vtype]] * 3
    assert found.plain == (vtype is float)


def test_what_nobody_can_vary_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bounds"):
        variables.of(Problem(n_var=2, n_obj=1, vtype=int))
    with pytest.raises(InvalidInput, match="bounds of variable 'a'"):
        variables.of(Problem(vars={"a": Real(bounds=(0, None))}, n_obj=1))
    with pytest.raises(NotBuilt, match="this type"):
        variables.of(Problem(n_var=2, n_obj=1, xl=0, xu=1, vtype=str))
    found = variables.of(Problem(vars=KINDS, n_obj=1))
    with pytest.raises(InvalidInput, match="colour"):
        found.encode([{"speed": 0, "count": 1, "on": True, "colour": "pink", "one": "only"}])
    with pytest.raises(InvalidInput, match="a solution"):
        found.encode([{"speed": 0}])


def mixed(problem: Problem, **options) -> mixing.MixedVariation:
    made = mixing.made(problem, crossover=(0.9, 15.0), options=options)
    assert isinstance(made, mixing.MixedVariation)
    return made


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    each=st.sampled_from([1, 2]),
    exchange=st.sampled_from(["uniform", "two_point"]),
    rows=st.integers(1, 9),
)
def test_children_are_values_of_their_columns(seed: int, each: int, exchange: str, rows: int) -> None:
    rng = np.random.default_rng(seed)
    problem = Problem(vars=KINDS, n_obj=1)
    how, found = mixed(problem, exchange=exchange), variables.of(problem)
    x = how.sample(10, rng)
    first, second = rng.integers(0, 10, rows), rng.integers(0, 10, rows)
    born = how.children(x, first=first, second=second, each=each, rng=rng)
    assert born.shape == (each * rows, 5)
    assert np.array_equal(found.settle(born), born)
    assert found.encode(found.decode(born)).tolist() == born.tolist()


def test_the_first_rows_draw_every_value_as_often() -> None:
    how = mixed(Problem(n_var=1, n_obj=1, xl=-1, xu=2, vtype=int))
    counts = np.bincount(how.sample(8000, np.random.default_rng(0))[:, 0].astype(int) + 1, minlength=4)
    assert ((counts / 8000 - 0.25) ** 2).sum() < 1e-3


def test_a_mutation_of_a_whole_number_always_moves_it() -> None:
    problem = Problem(n_var=1, n_obj=1, xl=0, xu=2, vtype=int)
    how = mixed(problem, crossover_probability=0.0, mutation_probability=1.0, variable_probability=1.0)
    x = np.repeat([[0.0], [1.0], [2.0]], 200, axis=0)
    rows = np.arange(600)
    born = how.children(x, first=rows, second=rows, each=1, rng=np.random.default_rng(1))
    assert (born != x).all()
    assert set(born[200:400, 0].tolist()) == {0.0, 2.0}


def test_a_flip_changes_a_bit_and_a_choice_to_any_other() -> None:
    problem = Problem(vars={"on": Binary(), "colour": KINDS["colour"]}, n_obj=1)
    how = mixed(problem, crossover_probability=0.0, mutation_probability=1.0, variable_probability=1.0)
    x = np.tile([1.0, 1.0], (500, 1))
    rows = np.arange(500)
    born = how.children(x, first=rows, second=rows, each=1, rng=np.random.default_rng(1))
    assert (born[:, 0] == 0).all()
    assert set(born[:, 1].tolist()) == {0.0, 2.0}


def test_two_points_exchange_one_run_of_bits() -> None:
    problem = Problem(n_var=12, n_obj=1, vtype=bool)
    how = mixed(problem, exchange="two_point", crossover_probability=1.0, mutation_probability=0.0)
    x = np.stack([np.zeros(12), np.ones(12)])
    born = how.children(x, first=np.zeros(300, int), second=np.ones(300, int), each=2, rng=np.random.default_rng(0))
    assert (np.abs(np.diff(born[:300], axis=1)).sum(axis=1) <= 2).all()
    assert (born[:300] + born[300:] == 1).all()
    assert len(np.unique(born[:300], axis=0)) > 30


def test_a_problem_of_real_variables_keeps_the_quick_way() -> None:
    assert isinstance(
        mixing.made(Problem(n_var=2, n_obj=1, xl=0, xu=1), crossover=(0.9, 15.0), options={}), RealVariation
    )


@pytest.mark.parametrize(
    "options",
    [{"exchange": "three_point"}, {"crossover_probability": 2}, {"mutation_eta": -1}, {"variable_probability": 0}],
)
def test_options_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        mixing.made(Shop(), crossover=(0.9, 15.0), options=options)


def archive_of(problem: Problem, name: str, *, size: int, generations: int, seed: int = 1, **options) -> np.ndarray:
    """Non-dominated feasible objectives of all that a search evaluated, each once."""
    search = algorithms.make(name, problem=problem, population_size=size, seed=seed, options=options)
    seen = []
    for _ in range(generations):
        f, g, h = evaluation.evaluate(problem, search.ask())
        search.tell(f=f, g=g, h=h)
        seen.append(f[(g <= 0).all(axis=1)])
    f = np.concatenate(seen)
    return np.unique(f[moocore.is_nondominated(f)], axis=0)


@pytest.mark.parametrize("name", ["nsga2", "smsemoa"])
def test_the_front_of_a_mixed_problem_is_that_of_all_its_settings(name: str) -> None:
    problem = Shop()
    every = np.array(list(itertools.product(range(6), range(2), range(3))), dtype=np.float64)
    f, _, _ = evaluation.evaluate(problem, every)
    wanted = np.unique(f[moocore.is_nondominated(f)], axis=0)
    assert np.array_equal(archive_of(problem, name, size=12, generations=20), wanted)


class Tour(Problem):
    """Length of a path through points on a line, and how far its first point is from the left end."""

    permutation = True

    def __init__(self, *, cities: int = 6) -> None:
        super().__init__(n_var=cities, n_obj=2, xl=0, xu=cities - 1, vtype=int)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        assert x.dtype == np.int64
        assert (np.sort(x, axis=1) == np.arange(x.shape[1])).all()
        out["F"] = np.stack([np.abs(np.diff(x, axis=1)).sum(axis=1), -x[:, 0].astype(float)], axis=1)


@pytest.mark.parametrize("name", ["nsga2", "smsemoa"])
def test_permutations_stay_permutations_and_the_front_is_known(name: str) -> None:
    # from an end: n - 1 steps; a start inside goes to one end and back: n - 1 + the way to the nearer end
    found = archive_of(Tour(), name, size=20, generations=15)
    assert found.tolist() == [[5.0, -5.0]]


class Budget(Problem):
    """Two shares that must sum to 1: the problem mends what is asked itself."""

    def __init__(self) -> None:
        super().__init__(n_var=2, n_obj=2, xl=0.0, xu=1.0)

    def repair(self, x: np.ndarray) -> np.ndarray:
        return np.where(x.sum(axis=1, keepdims=True) > 0, x / np.maximum(x.sum(axis=1, keepdims=True), 1e-12), 0.5)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        assert x.sum(axis=1) == pytest.approx(1.0)
        out["F"] = x**2


@pytest.mark.parametrize("name", ["nsga2", "unsga3"])
def test_a_problems_own_repair_has_the_last_word(name: str) -> None:
    f = archive_of(Budget(), name, size=20, generations=10)
    assert np.sqrt(f).sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [Shop, Tour])
@pytest.mark.parametrize("name", ["nsga2", "moead", "smsemoa"])
def test_a_saved_search_of_any_variables_goes_on_to_the_same_front(kind: type, name: str) -> None:
    spec = OptimizeSpec(problem=kind.__name__, algorithm=name, population_size=10, generations=8, stagnation=False)

    def fresh() -> problems.Subject:
        return problems.describe(kind(), weights=None)

    whole = search.Searching(fresh(), spec, clock=ManualClock())
    for _ in range(3):
        whole.step()
    saved = whole.save()
    back = search.Searching.restore(saved, subject=fresh(), spec=spec, clock=ManualClock())
    for one in (whole, back):
        while not one.done:
            one.step()
    assert whole.result().x.tobytes() == back.result().x.tobytes()
    assert whole.result().trace.tobytes() == back.result().trace.tobytes()
