"""The search: deterministic by seed, its archive exact, its report true, its end honest."""

import json
import threading

import numpy as np
import pytest
from pymoo.core.problem import Problem

from rlaas_ray.errors import InvalidInput, NotFound, WorkFailed
from rlaas_ray.optimize import choosing, front, problems, search
from rlaas_ray.specs.choose import ChooseSpec
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.testing.clock import ManualClock


class Ball(Problem):
    """Minimise the squared distances to (0, 0) and (1, 1): the front is the diagonal, sqrt(f1) + sqrt(f2) = sqrt(2)."""

    def __init__(self) -> None:
        super().__init__(n_var=2, n_obj=2, xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        out["F"] = np.stack([(x**2).sum(1), ((x - 1) ** 2).sum(1)], axis=1)


class Fenced(Ball):
    """Ball where nothing is allowed."""

    def __init__(self) -> None:
        Problem.__init__(self, n_var=2, n_obj=2, n_ieq_constr=1, xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        super()._evaluate(x, out)
        out["G"] = np.ones((len(x), 1))


class Gain(Problem):
    """One cost, one gain that comes negated, as the contract of `objectives` says."""

    objectives = (("cost", "EUR", "min"), ("gain", "Mbps", "max"))
    weights = (0.5, 0.5)
    box = (np.array([0.0, -1.0]), np.array([1.0, 0.0]))

    def __init__(self) -> None:
        super().__init__(n_var=1, n_obj=2, xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        out["F"] = np.concatenate([x**2, -x], axis=1)

    def anchors(self):
        return {"all": np.ones(1), "none": np.zeros(1)}


def subject(kind: type[Problem]) -> problems.Subject:
    return problems.describe(kind(), weights=None)


def found(kind: type[Problem], **options) -> front.Front:
    options = {"population_size": 20, "generations": 30, "seed": 3, "clock": ManualClock(), **options}
    return search.search(subject(kind), **options)


def test_the_front_of_two_distances_is_the_diagonal() -> None:
    result = found(Ball, generations=60)
    distance = np.sqrt(result.values).sum(axis=1) - np.sqrt(2)
    assert distance.min() > -1e-9
    assert np.median(distance) < 0.005
    assert result.evaluations == 60 * 20


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_front() -> None:
    one, two, other = found(Ball), found(Ball), found(Ball, seed=4)
    assert one.x.tobytes() == two.x.tobytes()
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    assert one.x.tobytes() != other.x.tobytes()


def test_objectives_come_out_in_natural_units_and_anchors_are_merged() -> None:
    result = found(Gain)
    assert result.anchors["all"].tolist() == [1.0, 1.0]
    assert result.anchors["none"].tolist() == [0.0, 0.0]
    assert result.values == pytest.approx(np.concatenate([result.x**2, result.x], axis=1))
    assert {(0.0, 0.0), (1.0, 1.0)} <= {tuple(row) for row in result.values.tolist()}
    # area between gain = sqrt(cost) and the nadir (1, 0): integral of sqrt = 2/3
    assert result.hypervolume == pytest.approx(2 / 3, abs=0.02)


def test_every_generation_is_reported_and_the_hypervolume_never_falls() -> None:
    seen: list[search.Generation] = []
    result = found(Ball, progress=seen.append)
    assert [g.number for g in seen] == list(range(1, 31))
    assert [g.hypervolume for g in seen[:4]] == [None] * 4  # the reference is fixed by the fifth front
    assert [g.hypervolume for g in seen[4:]] == result.trace[4:].tolist()
    assert (np.diff(result.trace) >= -1e-12).all()
    assert (
        sorted(seen[-1].values.tolist()) == result.values.tolist()
    )  # by the first objective, as the document lists them


def test_a_stop_ends_after_the_generation_and_the_front_is_valid() -> None:
    stop = threading.Event()
    result = found(Ball, stop=stop, progress=lambda g: stop.set() if g.number == 5 else None)
    assert (result.generations, result.stopped) == (5, True)
    assert len(result.values)


def test_no_feasible_point_is_a_failure_that_says_so() -> None:
    with pytest.raises(WorkFailed, match="no feasible point"):
        found(Fenced, generations=3)


def test_the_archive_keeps_exactly_the_non_dominated_points() -> None:
    rng = np.random.default_rng(0)
    archive = front.Archive(variables=1, objectives=3)
    points = rng.random((400, 3))
    for part in np.split(points, 8):
        archive.add(np.zeros((50, 1)), part)
    dominated = [bool(((points <= p).all(1) & (points < p).any(1)).any()) for p in points]
    wanted = points[~np.array(dominated)]
    assert sorted(map(tuple, archive.f)) == sorted(map(tuple, wanted))


def test_a_full_archive_is_thinned_and_keeps_the_extremes() -> None:
    angle = np.linspace(0, np.pi / 2, 5000)
    f = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    archive = front.Archive(variables=1, objectives=2, limit=100)
    archive.add(angle[:, None], f)
    assert len(archive.f) == 100
    assert archive.f.min(axis=0) == pytest.approx(f.min(axis=0))


def test_points_that_are_not_finite_never_enter() -> None:
    archive = front.Archive(variables=1, objectives=2)
    archive.add(np.zeros((2, 1)), np.array([[np.nan, 0.0], [-np.inf, 0.0]]))
    assert len(archive.f) == 0


def test_the_hypervolume_of_one_point_is_its_box() -> None:
    zero, one = np.zeros(2), np.ones(2)
    assert front.hypervolume(np.array([[0.25, 0.5]]), ideal=zero, nadir=one) == pytest.approx(0.375)
    assert front.hypervolume(np.array([[1.5, 0.5]]), ideal=zero, nadir=one) == 0.0


def test_5g_runs_from_its_spec_and_the_result_is_json() -> None:
    spec = OptimizeSpec(
        problem="5g", mode="energy_saving", population_size=12, generations=3, problem_config={"n_prb": 24}
    )
    result = json.loads(json.dumps(search.run(spec, clock=ManualClock())))
    assert [o["name"] for o in result["objectives"]] == ["latency_p95", "throughput", "energy", "satisfied"]
    assert result["weights"]["energy"] == 0.5
    assert result["front"][result["chosen"]["index"]] == list(result["chosen"]["objectives"].values())
    assert len(result["chosen"]["x"]) == 21 * 25
    assert result["best_solution"] == result["chosen"]
    assert "wmmse" in result["anchors"]
    assert 0 < result["hypervolume"] < 1
    assert "non-dominated points" in result["summary"]


def test_a_long_front_is_shown_in_part_and_the_choice_is_made_from_that_part() -> None:
    spec = OptimizeSpec(problem="dtlz2")
    made = search.search(problems.resolve(spec), population_size=91, generations=60, seed=1, clock=ManualClock())
    result = made.to_json()
    assert len(result["front"]) == 500 < len(made.values)
    assert result["front"][result["chosen"]["index"]] == list(result["chosen"]["objectives"].values())
    points = np.array(result["front"])  # the ends of every objective are among them
    assert points.max(axis=0).tolist() == made.values.max(axis=0).tolist()
    assert points.min(axis=0).tolist() == made.values.min(axis=0).tolist()
    again = choosing.answer(result, ChooseSpec(), rng=np.random.default_rng(0))
    assert again["chosen"]["index"] == result["chosen"]["index"]
    assert again["chosen"]["score"] == pytest.approx(result["chosen"]["score"], abs=1e-12)


def test_a_users_problem_is_found_by_module_and_class() -> None:
    spec = OptimizeSpec(
        problem="pymoo.problems.multi.zdt:ZDT1", problem_config={"n_var": 5}, population_size=10, generations=2
    )
    result = search.run(spec, clock=ManualClock())
    assert [o["name"] for o in result["objectives"]] == ["f1", "f2"]


@pytest.mark.parametrize(
    ("name", "error", "cure"),
    [("5h", NotFound, "5g"), ("no.such:Thing", NotFound, "installed"), ("json:JSONDecoder", InvalidInput, None)],
)
def test_a_problem_that_is_none_is_refused_with_a_cure(name: str, error: type[Exception], cure: str | None) -> None:
    with pytest.raises(error) as caught:
        problems.resolve(OptimizeSpec(problem=name))
    if cure:
        assert cure in str(caught.value.cure)


def test_weights_of_unknown_objectives_are_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        problems.resolve(OptimizeSpec(problem="5g", weights={"energi": 1.0}))
    assert "energy" in str(caught.value.cure)


def test_an_unknown_problem_config_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="n_prbs"):
        problems.resolve(OptimizeSpec(problem="5g", problem_config={"n_prbs": 3}))
