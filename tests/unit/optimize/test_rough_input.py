"""What goes wrong in scripts and problems of others: wrong types, wrappers, constraints without a value, spaces of a few rows."""

import numpy as np
import pytest
from pymoo.constraints.as_obj import ConstraintsAsObjective
from pymoo.core.problem import Problem
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.sampling.rnd import BinaryRandomSampling
from pymoo.optimize import minimize
from pymoo.problems import get_problem

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import algorithms, evaluation, problems, search
from rlaas_ray.optimize.pymoo import NSGA2
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.testing.clock import ManualClock


class Plain(Problem):
    """Two objectives of three variables; `kind` says how its constraint, if any, behaves."""

    def __init__(self, kind: str = "", *, scale: float = 1.0, **given) -> None:
        super().__init__(n_var=3, n_obj=2, n_ieq_constr=int(bool(kind)), **{"xl": 0.0, "xu": 1.0, **given})
        self.kind, self.scale = kind, scale

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        rest = x[:, 1:].sum(axis=1)
        out["F"] = self.scale * np.stack([x[:, 0] + rest, 1.0 - x[:, 0] + rest], axis=1)
        if self.kind:
            out["G"] = np.where(
                x[:, 1:2] > 0.5, np.nan if self.kind == "nan" else 1.0, 1.0 if self.kind == "no" else -1
            )


def told(evolution, problem) -> np.ndarray:
    x = evolution.ask()
    f, g, h = evaluation.evaluate(problem, x)
    evolution.tell(f=f, g=g, h=h)
    return x


def test_bits_of_a_problem_that_does_not_say_so_run_as_pymoo_runs_them() -> None:
    algorithm = NSGA2(
        pop_size=20, sampling=BinaryRandomSampling(), crossover=TwoPointCrossover(), mutation=BitflipMutation()
    )
    result = minimize(get_problem("zdt5"), algorithm, ("n_gen", 5), seed=1)
    assert result.X.dtype == np.bool_
    assert "bool" in result.algorithm.why_not


def test_more_first_rows_than_the_population_holds_are_all_evaluated() -> None:
    rows = np.random.default_rng(1).random((50, 3))
    result = minimize(Plain(), NSGA2(pop_size=20, sampling=rows), ("n_gen", 2), seed=1)
    assert result.algorithm.evaluator.n_eval == 70
    assert "50 first rows" in result.algorithm.why_not


def test_a_problem_that_wraps_another_is_asked_as_pymoo_asks_it() -> None:
    result = minimize(ConstraintsAsObjective(get_problem("bnh")), NSGA2(pop_size=12), ("n_gen", 3), seed=1)
    assert result.algorithm.why_not is None
    assert result.F.shape[1] == 3


@pytest.mark.parametrize("kind", ["nan", "no"])
@pytest.mark.parametrize("name", ["nsga2", "nsga3", "moead", "spea2", "smsemoa", "unsga3", "ctaea"])
def test_constraints_without_a_value_or_never_met_repeat_and_resume(name: str, kind: str) -> None:
    problem = Plain(kind)
    one = algorithms.make(name, problem=problem, population_size=12, seed=3)
    for _ in range(4):
        told(one, problem)
    header, arrays = one.state()
    two = algorithms.restore(header, arrays, problem=problem)
    for _ in range(2):
        assert np.array_equal(told(one, problem), told(two, problem))


def test_ctaea_is_refused_where_there_are_fewer_solutions_than_directions() -> None:
    problem = Plain(vtype=bool)  # 8 solutions
    with pytest.raises(InvalidInput, match="8 different rows"):
        algorithms.make("ctaea", problem=problem, population_size=30, seed=1).ask()


def test_objectives_that_no_choice_can_measure_are_on_no_front() -> None:
    class Punished(Plain):
        def _evaluate(self, x, out, *args, **kwargs) -> None:
            super()._evaluate(x, out)
            out["F"][x[:, 0] < 0.3, 1] = 1.5e303

    spec = OptimizeSpec(problem="punished", population_size=12, generations=6, seed=1)
    subject = problems.describe(Punished(), weights=None)
    searching = search.Searching(subject, spec, clock=ManualClock())
    while not searching.done:
        searching.step()
    assert searching.result().values.max() < 10.0


def test_an_argument_that_a_known_problem_would_swallow_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nvar") as refused:
        problems.resolve(OptimizeSpec(problem="zdt1", problem_config={"nvar": 3}))
    assert "n_var" in str(refused.value.cure)
