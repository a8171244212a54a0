"""Scripts written for pymoo, one import changed: the same calls, the same kinds of result, our engine inside."""

import copy
import re

import moocore
import numpy as np
import pytest
from pymoo.algorithms.moo import nsga2 as pymoo_nsga2
from pymoo.core.callback import Callback
from pymoo.core.crossover import Crossover
from pymoo.core.evaluator import Evaluator
from pymoo.core.mixed import MixedVariableDuplicateElimination, MixedVariableMating, MixedVariableSampling
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import ElementwiseProblem, Problem
from pymoo.core.repair import Repair
from pymoo.core.variable import Binary, Choice, Integer
from pymoo.operators.crossover.ox import OrderCrossover
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.mutation.inversion import InversionMutation
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import BinaryRandomSampling, IntegerRandomSampling, PermutationRandomSampling
from pymoo.operators.selection.rnd import RandomSelection
from pymoo.optimize import minimize
from pymoo.problems import get_problem
from pymoo.termination.max_gen import MaximumGenerationTermination
from pymoo.util.ref_dirs import get_reference_directions

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize.pymoo import MOEAD, NSGA2, NSGA3, SPEA2

DIRECTIONS = get_reference_directions("das-dennis", 2, n_partitions=14)

# From pymoo's own guides, as a user would have them in a file.
SCRIPTS = {
    "nsga2": """
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.problems import get_problem
from pymoo.optimize import minimize

problem = get_problem("zdt1")
algorithm = NSGA2(pop_size=40)
res = minimize(problem, algorithm, ('n_gen', 60), seed=1, verbose=False)
""",
    "nsga3": """
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.optimize import minimize
from pymoo.problems import get_problem
from pymoo.util.ref_dirs import get_reference_directions

ref_dirs = get_reference_directions("das-dennis", 3, n_partitions=6)
algorithm = NSGA3(pop_size=32, ref_dirs=ref_dirs)
res = minimize(get_problem("dtlz2"), algorithm, seed=1, termination=('n_gen', 60))
""",
    "moead": """
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.optimize import minimize
from pymoo.problems import get_problem
from pymoo.util.ref_dirs import get_reference_directions

ref_dirs = get_reference_directions("uniform", 3, n_partitions=6)
algorithm = MOEAD(ref_dirs, n_neighbors=15, prob_neighbor_mating=0.9)
res = minimize(get_problem("dtlz2"), algorithm, ('n_eval', 840), seed=1, verbose=False)
""",
    "spea2": """
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.problems import get_problem
from pymoo.optimize import minimize

algorithm = SPEA2(pop_size=30)
res = minimize(get_problem("dtlz2"), algorithm, ('n_gen', 50), seed=1)
""",
    "constrained": """
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.sampling.rnd import FloatRandomSampling
from pymoo.optimize import minimize
from pymoo.problems import get_problem
from pymoo.termination import get_termination

algorithm = NSGA2(pop_size=40, n_offsprings=40, sampling=FloatRandomSampling(), crossover=SBX(prob=0.9, eta=15),
                  mutation=PM(eta=20), eliminate_duplicates=True)
res = minimize(get_problem("bnh"), algorithm, get_termination("n_gen", 15), seed=1, save_history=True)
""",
    "ask_and_tell": """
import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.evaluator import Evaluator
from pymoo.problems import get_problem
from pymoo.problems.static import StaticProblem

problem = get_problem("zdt1", n_var=5)
algorithm = NSGA2(pop_size=40)
algorithm.setup(problem, termination=('n_gen', 40), seed=1, verbose=False)
while algorithm.has_next():
    pop = algorithm.ask()
    F = problem.evaluate(pop.get("X"))
    Evaluator().eval(StaticProblem(problem, F=F), pop)
    algorithm.tell(infills=pop)
res = algorithm.result()
""",
}
REFERENCE = {"nsga2": [1.1] * 2, "constrained": [150.0, 60.0], "ask_and_tell": [1.1] * 2}


def played(script: str) -> dict:
    names: dict = {}
    exec(script, names)  # a user's file, here of this very module
    return names


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_a_script_with_one_import_changed_gives_what_pymoo_gives(name: str) -> None:
    changed, count = re.subn(
        r"from pymoo\.algorithms\.moo\.\w+ import", "from rlaas_ray.optimize.pymoo import", SCRIPTS[name]
    )
    assert count == 1
    ours, theirs = played(changed), played(SCRIPTS[name])
    found, wanted = ours["res"], theirs["res"]
    assert ours["algorithm"].why_not is None
    point = REFERENCE.get(name, [1.1] * 3)
    assert moocore.hypervolume(found.F, ref=point) > 0.93 * moocore.hypervolume(wanted.F, ref=point)
    assert found.X.shape[1] == wanted.X.shape[1]
    assert found.X.dtype == wanted.X.dtype
    assert found.G.shape[1:] == wanted.G.shape[1:]
    assert found.CV.shape[1] == 1
    assert (found.CV <= 0).all()
    assert type(found.pop) is type(wanted.pop)
    assert len(found.pop) == len(wanted.pop)
    again = played(changed)["res"]
    assert np.array_equal(again.F, found.F)
    if name != "ask_and_tell":
        assert found.algorithm.accelerated
        assert found.algorithm.evaluator.n_eval == wanted.algorithm.evaluator.n_eval
        assert found.algorithm.n_gen == wanted.algorithm.n_gen
    if name == "constrained":
        assert len(found.history) == 15
        assert [h.n_gen for h in found.history] == [h.n_gen for h in wanted.history]
        assert len({h.pop[0].X.tobytes() for h in found.history}) > 1
        assert (found.history[-1].opt.get("rank") == 0).all()


def test_the_algorithm_given_stays_as_it_was() -> None:
    algorithm = NSGA2(pop_size=12)
    one = minimize(get_problem("zdt1"), algorithm, ("n_gen", 3), seed=1)
    two = minimize(get_problem("zdt1"), algorithm, ("n_gen", 3), seed=1)
    assert algorithm.problem is None
    assert np.array_equal(one.F, two.F)


def test_a_callback_and_a_display_see_each_generation(capsys) -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            super().__init__()
            self.data["best"] = []

        def notify(self, algorithm) -> None:
            assert len(algorithm.off) == 12
            self.data["best"].append(algorithm.pop.get("F").min())

    result = minimize(get_problem("bnh"), NSGA2(pop_size=12), ("n_gen", 5), seed=1, callback=Seen(), verbose=True)
    assert len(result.algorithm.callback.data["best"]) == 5
    shown = capsys.readouterr().out
    assert shown.count("\n") == 8
    assert "cv_min" in shown


def test_ask_and_tell_is_the_same_search_as_minimize() -> None:
    problem = get_problem("dtlz2", n_var=6)
    whole = minimize(problem, SPEA2(pop_size=10), ("n_gen", 6), seed=2)
    algorithm = SPEA2(pop_size=10)
    algorithm.setup(problem, termination=("n_gen", 6), seed=2)
    while algorithm.has_next():
        asked = algorithm.ask()
        algorithm.evaluator.eval(problem, asked)
        algorithm.tell(infills=asked)
    assert np.array_equal(algorithm.result().F, whole.F)


def test_a_run_goes_on_where_it_ended_and_a_copy_goes_the_same_way() -> None:
    problem = get_problem("zdt1", n_var=6)
    whole = minimize(
        problem,
        NSGA3(DIRECTIONS, pop_size=16),
        ("n_gen", 9),
        seed=1,
    )
    algorithm = NSGA3(DIRECTIONS, pop_size=16)
    minimize(problem, algorithm, ("n_gen", 4), seed=1, copy_algorithm=False)
    algorithm.termination = MaximumGenerationTermination(9)
    twin = copy.deepcopy(algorithm)
    for one in (algorithm, twin):
        result = minimize(problem, one, copy_algorithm=False)
        assert np.array_equal(result.F, whole.F)


def test_rows_that_were_not_asked_are_not_told() -> None:
    algorithm = NSGA2(pop_size=10)
    algorithm.setup(get_problem("zdt1"), seed=1)
    asked = algorithm.ask()
    algorithm.evaluator.eval(algorithm.problem, asked)
    with pytest.raises(InvalidInput, match="what was told"):
        algorithm.tell(infills=asked[:5])


class Counted(Problem):
    """Squared distances to 2 and to 7 of whole numbers; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__(n_var=3, n_obj=2, xl=0, xu=9, vtype=int)
        self.rows = 0

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        assert np.array_equal(x, np.rint(x))
        self.rows += len(x)
        out["F"] = np.stack([((x - 2.0) ** 2).sum(axis=1), ((x - 7.0) ** 2).sum(axis=1)], axis=1)


def test_whole_numbers_with_pymoos_rounding_operators() -> None:
    algorithm = NSGA2(
        pop_size=30,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    result = minimize(Counted(), algorithm, ("n_gen", 40), seed=1)
    assert result.algorithm.why_not is None
    assert result.X.dtype == np.int64
    # all coordinates between the two goals, none further from their mean than one step: 16 values
    assert len(np.unique(result.F, axis=0)) == 16


def test_bits_with_pymoos_operators() -> None:
    class Ones(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=16, n_obj=2, vtype=bool)

        def _evaluate(self, x, out, *args, **kwargs) -> None:
            assert x.dtype == np.bool_
            out["F"] = np.stack([-x[:, :8].sum(axis=1), x.sum(axis=1)], axis=1).astype(float)

    algorithm = NSGA2(
        pop_size=20, sampling=BinaryRandomSampling(), crossover=TwoPointCrossover(), mutation=BitflipMutation()
    )
    result = minimize(Ones(), algorithm, ("n_gen", 60), seed=1)
    assert result.algorithm.why_not is None
    assert sorted({tuple(row) for row in result.F.tolist()}) == [(-float(k), float(k)) for k in range(8, -1, -1)]


class OfMine(Crossover):
    """Means and mirrored means of two parents, by a user."""

    called = 0

    def __init__(self, children: int = 2, parents: int = 2) -> None:
        super().__init__(parents, children, prob=1.0)

    def _do(self, problem, x, *args, random_state=None, **kwargs):
        type(self).called += 1
        weight = random_state.random((x.shape[1], 1))
        born = [weight * x[0] + (1 - weight) * x[1], (1 - weight) * x[0] + weight * x[1]]
        return np.stack(born[: self.n_offsprings])


class Nudge(Mutation):
    """A small move, by a user."""

    called = 0

    def _do(self, problem, x, *args, random_state=None, **kwargs):
        type(self).called += 1
        return np.clip(x + 0.05 * random_state.standard_normal(x.shape), problem.xl, problem.xu)


@pytest.mark.parametrize("kind", [NSGA2, SPEA2])
@pytest.mark.parametrize("children", [1, 2])
def test_operators_of_ones_own_are_called(kind: type, children: int) -> None:
    OfMine.called = Nudge.called = 0
    algorithm = kind(pop_size=20, crossover=OfMine(children), mutation=Nudge())
    result = minimize(get_problem("zdt1", n_var=5), algorithm, ("n_gen", 60), seed=1)
    assert result.algorithm.accelerated
    assert OfMine.called >= 59
    assert Nudge.called >= 59
    assert moocore.hypervolume(result.F, ref=[1.1, 1.1]) > 0.6


@pytest.mark.parametrize("crossover", [SBX(), OfMine()])
def test_a_repair_of_ones_own_mends_every_row(crossover: Crossover) -> None:
    class Normalised(Repair):
        def _do(self, problem, x, **kwargs):
            return x / np.maximum(x.sum(axis=1, keepdims=True), 1e-9)

    class Shares(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=3, n_obj=2, xl=0.0, xu=1.0)

        def _evaluate(self, x, out, *args, **kwargs) -> None:
            assert x.sum(axis=1) == pytest.approx(1.0)
            out["F"] = x[:, :2] ** 2

    result = minimize(Shares(), NSGA2(pop_size=16, crossover=crossover, repair=Normalised()), ("n_gen", 10), seed=1)
    assert result.algorithm.why_not is None


def test_orders_with_pymoos_operators() -> None:
    class Way(ElementwiseProblem):
        def __init__(self) -> None:
            super().__init__(n_var=6, n_obj=2, xl=0, xu=5, vtype=int)

        def _evaluate(self, x, out, *args, **kwargs) -> None:
            assert sorted(x) == list(range(6))
            out["F"] = [np.abs(np.diff(x)).sum(), -float(x[0])]

    algorithm = NSGA2(
        pop_size=20,
        sampling=PermutationRandomSampling(),
        crossover=OrderCrossover(),
        mutation=InversionMutation(),
        eliminate_duplicates=True,
    )
    result = minimize(Way(), algorithm, ("n_gen", 15), seed=1)
    assert result.algorithm.why_not is None
    assert np.unique(result.F, axis=0).tolist() == [[5.0, -5.0]]


def test_a_first_population_is_taken_and_known_values_are_not_computed_again() -> None:
    problem = Counted()
    x = IntegerRandomSampling()(problem, 12, random_state=np.random.default_rng(0)).get("X")
    x = np.unique(x, axis=0)
    algorithm = NSGA2(pop_size=len(x), sampling=x)
    algorithm.setup(problem, seed=1)
    assert np.array_equal(algorithm.ask().get("X"), x)
    known = Evaluator().eval(problem, Population.new(X=x))
    problem.rows = 0
    result = minimize(problem, NSGA2(pop_size=len(x), sampling=known), ("n_gen", 2), seed=1)
    assert result.algorithm.accelerated
    assert problem.rows == len(x)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"selection": RandomSelection()}, "selection"),
        ({"survival": pymoo_nsga2.RankAndCrowdingSurvival()}, "survival"),
        ({"n_offsprings": 4}, "n_offsprings"),
        ({"eliminate_duplicates": False}, "eliminate_duplicates"),
        ({"crossover": OfMine(parents=3)}, "crossover"),
    ],
)
def test_what_the_engine_has_not_runs_as_pymoo_runs_it(options: dict, told: str) -> None:
    result = minimize(get_problem("zdt1"), NSGA2(pop_size=10, **options), ("n_gen", 4), seed=3)
    wanted = minimize(get_problem("zdt1"), pymoo_nsga2.NSGA2(pop_size=10, **options), ("n_gen", 4), seed=3)
    assert told in result.algorithm.why_not
    assert not result.algorithm.accelerated
    assert np.array_equal(result.F, wanted.F)


class Shop(ElementwiseProblem):
    """Settings by name."""

    def __init__(self) -> None:
        super().__init__(
            vars={"count": Integer(bounds=(0, 5)), "on": Binary(), "colour": Choice(options=["red", "green"])}, n_obj=2
        )

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        out["F"] = [x["count"] + 2.0 * x["on"] + (x["colour"] == "red"), -x["count"] * (1.0 + x["on"])]


def test_mixed_variables_need_no_operators_and_pymoos_own_still_work() -> None:
    result = minimize(Shop(), NSGA2(pop_size=12), ("n_gen", 12), seed=1)
    assert result.algorithm.why_not is None
    assert {row["colour"] for row in result.X} == {"green"}
    theirs = NSGA2(
        pop_size=12,
        sampling=MixedVariableSampling(),
        mating=MixedVariableMating(eliminate_duplicates=MixedVariableDuplicateElimination()),
        eliminate_duplicates=MixedVariableDuplicateElimination(),
    )
    other = minimize(Shop(), theirs, ("n_gen", 12), seed=1)
    assert "mating" in other.algorithm.why_not or "eliminate_duplicates" in other.algorithm.why_not
    assert np.array_equal(np.unique(other.F, axis=0), np.unique(result.F, axis=0))


def test_moead_takes_constraints() -> None:
    ways = get_reference_directions("das-dennis", 2, n_partitions=29)
    result = minimize(get_problem("bnh"), MOEAD(ways), ("n_gen", 30), seed=1)
    assert (result.CV <= 0).all()
    assert moocore.hypervolume(result.F, ref=[150.0, 60.0]) > 4500
