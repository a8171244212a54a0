"""pymoo's algorithms behind our protocol: they search, they repeat by seed, and what was told brings them back to the bit."""

import sys

import moocore
import numpy as np
import pytest
from pymoo.core.problem import Problem

from rlaas_ray.errors import Conflict, InvalidInput, NotBuilt, NotFound
from rlaas_ray.optimize import algorithms, benchmarks, evaluation, library, problems, search
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.testing.clock import ManualClock

MANY = ["ctaea", "rvea", "smsemoa", "unsga3"]
OPTIONS = {"rvea": {"generations": 20}, "smsemoa": {"offspring": 10}}


class Bowl(Problem):
    """One objective, its minimum 0 at (1, ..., 1); `fenced` allows only x0 >= 2."""

    def __init__(self, *, fenced: bool = False) -> None:
        super().__init__(n_var=4, n_obj=1, n_ieq_constr=int(fenced), xl=-5.0, xu=5.0)
        self.fenced = fenced

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        out["F"] = ((x - 1.0) ** 2).sum(axis=1, keepdims=True)
        if self.fenced:
            out["G"] = 2.0 - x[:, :1]


def step(search, problem) -> np.ndarray:
    x = search.ask()
    f, g, h = evaluation.evaluate(problem, x)
    search.tell(f=f, g=g, h=h)
    return x


def begun(name: str, *, seed: int = 3):
    single = name in {"ga", "cmaes"}
    problem = Bowl() if single else benchmarks.PROBLEMS["dtlz2"](n_var=6)
    return problem, algorithms.make(name, problem=problem, population_size=15, seed=seed, options=OPTIONS.get(name))


COMPILED = [pytest.param("agemoea2", marks=pytest.mark.slow)]  # numba takes ten seconds; agemoea is built alike


@pytest.mark.parametrize("name", [*MANY, *COMPILED, "ga", "cmaes"])
def test_a_search_written_down_goes_on_with_the_same_bits(name: str) -> None:
    problem, search = begun(name)
    first = [step(search, problem) for _ in range(6)]
    pending = search.ask()
    header, arrays = search.state()
    back = algorithms.restore(header, arrays, problem=problem)
    assert (back.generation, back.evaluations) == (search.generation, search.evaluations) == (6, sum(map(len, first)))
    assert np.array_equal(back.ask(), pending)
    for _ in range(4):
        assert np.array_equal(step(search, problem), step(back, problem))
    assert np.array_equal(search.population.f, back.population.f)
    _, again = begun(name)
    assert np.array_equal(step(again, problem), first[0])


@pytest.mark.parametrize("name", MANY)
def test_a_front_comes_nearer(name: str) -> None:
    problem, search = begun(name)
    step(search, problem)
    before = moocore.hypervolume(search.population.f, ref=[1.5] * 3)
    for _ in range(15):
        step(search, problem)
    assert moocore.hypervolume(search.population.f, ref=[1.5] * 3) > before + 0.05
    assert (search.population.cv == 0).all()


@pytest.mark.parametrize("name", ["ga", "cmaes"])
def test_a_single_objective_is_minimised(name: str) -> None:
    problem, search = begun(name)
    for _ in range(40):
        step(search, problem)
    assert search.population.f.min() < (1e-3 if name == "cmaes" else 0.1)


def test_cmaes_leaves_numpys_global_generator_alone() -> None:
    problem, search = begun("cmaes")
    np.random.seed(5)  # noqa: NPY002 - it is what must stay untouched
    wanted = np.random.RandomState(5).random()
    for _ in range(4):
        step(search, problem)
    assert np.random.random() == wanted  # noqa: NPY002


def test_a_constraint_is_kept_by_ga_and_refused_by_cmaes() -> None:
    problem = Bowl(fenced=True)
    search = algorithms.make("ga", problem=problem, population_size=20, seed=0)
    for _ in range(30):
        step(search, problem)
    best = search.population
    assert (best.cv[np.argmin(best.f[:, 0] + 1e6 * best.cv)]) == 0
    assert best.f[best.cv == 0].min() == pytest.approx(1.0, abs=0.2)
    with pytest.raises(InvalidInput, match="cmaes"):
        algorithms.make("cmaes", problem=problem, population_size=20, seed=0)


@pytest.mark.parametrize("name", MANY)
def test_rows_that_failed_do_not_survive(name: str) -> None:
    problem, search = begun(name)
    for _ in range(4):
        f, g, h = evaluation.evaluate(problem, search.ask())
        f[::5] = np.nan
        f[1::5] = np.inf
        search.tell(f=f, g=g, h=h)
    good = search.population.cv == 0
    assert good.sum() >= 5
    assert np.isfinite(search.population.f).all()


def test_a_start_is_evaluated_first() -> None:
    start = np.full((2, 6), 0.25)
    start[1] = 0.75
    search = algorithms.make(
        "smsemoa", problem=benchmarks.PROBLEMS["dtlz2"](n_var=6), population_size=10, seed=0, start=start
    )
    assert np.array_equal(search.ask()[:2], start)


def test_values_that_were_changed_cannot_be_taken_up() -> None:
    problem, search = begun("unsga3")
    for _ in range(3):
        step(search, problem)
    header, arrays = search.state()
    with pytest.raises(Conflict, match="other rows"):
        algorithms.restore(header, {**arrays, "f": arrays["f"] * -1.0}, problem=problem)


def test_automatic_goes_by_the_objectives() -> None:
    def chosen(count: int, **more) -> str:
        return algorithms.automatic(Problem(n_var=3, n_obj=count, **{"xl": 0, "xu": 3, **more}))

    assert [chosen(2), chosen(3), chosen(5)] == ["nsga2", "nsga3", "nsga3"]
    assert [chosen(1), chosen(1, vtype=int), chosen(1, n_ieq_constr=1)] == ["cmaes", "ga", "ga"]


def test_what_needs_numba_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "pymoo.algorithms.moo.age", raising=False)
    with pytest.raises(NotBuilt) as caught:
        algorithms.make("agemoea", problem=benchmarks.PROBLEMS["dtlz2"](), population_size=10, seed=0)
    assert "agemoea" in str(caught.value.cure)


def test_names_and_options_are_checked() -> None:
    problem = benchmarks.PROBLEMS["dtlz2"]()
    with pytest.raises(NotFound) as caught:
        algorithms.make("smsmoa", problem=problem, population_size=10, seed=0)
    assert "smsemoa" in str(caught.value.cure)
    with pytest.raises(InvalidInput, match="generations"):
        algorithms.make("rvea", problem=problem, population_size=10, seed=0)
    with pytest.raises(InvalidInput, match="offsprings"):
        algorithms.make("smsemoa", problem=problem, population_size=10, seed=0, options={"offsprings": 3})
    with pytest.raises(InvalidInput, match="ga"):
        algorithms.make("ga", problem=problem, population_size=10, seed=0)
    assert set(library.NAMES) <= set(algorithms.NAMES)


def test_a_search_for_one_objective_ends_when_cmaes_has_converged() -> None:
    subject = problems.describe(Bowl(), weights=None)
    found = search.search(subject, population_size=12, generations=400, seed=0, clock=ManualClock(), algorithm="cmaes")
    assert found.ended_by == "converged"
    assert found.generations < 400
    assert found.values.tolist() == [pytest.approx([0.0], abs=1e-9)]


def test_rvea_is_told_how_long_it_has() -> None:
    spec = OptimizeSpec(problem="dtlz2", algorithm="rvea", generations=6, population_size=20)
    assert search.run(spec, clock=ManualClock())["generations"] == 6
