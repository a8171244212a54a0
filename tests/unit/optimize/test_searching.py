"""One search as an object: it resumes bit for bit, its hypervolume has one reference, it begins and ends as it was asked."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.core.problem import Problem
from pymoo.problems.many.dtlz import DTLZ2
from pymoo.problems.multi.zdt import ZDT1

from rlaas_ray.errors import InvalidInput, WorkFailed
from rlaas_ray.optimize import algorithms, front, problems, search
from rlaas_ray.optimize import state as states
from rlaas_ray.specs.optimize import ALGORITHMS, OptimizeSpec
from rlaas_ray.testing.clock import ManualClock

LINE = problems.describe(ZDT1(n_var=8), weights=None)


def begun(subject=LINE, *, data: bytes | None = None, **told) -> search.Searching:
    start = told.pop("start", None)
    spec = OptimizeSpec(**{"problem": "p", "algorithm": "nsga2", "population_size": 20, "generations": 30, **told})
    if data is not None:
        return search.Searching.restore(data, subject=subject, spec=spec, clock=ManualClock())
    return search.Searching(subject, spec, clock=ManualClock(), start=start)


def ended(searching: search.Searching) -> front.Front:
    while not searching.done:
        searching.step()
    return searching.result()


def told(found: front.Front) -> str:
    return json.dumps({**found.to_json(), "x": found.x.tolist()})


def test_the_names_at_the_door_are_those_of_the_engine() -> None:
    assert set(ALGORITHMS) == {"auto", *algorithms.NAMES}


@pytest.mark.parametrize("algorithm", ["nsga2", "nsga3", "moead", "spea2", "smsemoa"])
@pytest.mark.parametrize("at", [1, 7])
def test_a_search_that_was_saved_goes_on_bit_for_bit(algorithm: str, at: int) -> None:
    told_of = {"algorithm": algorithm, "seed": 5, "generations": 12}
    whole = told(ended(begun(**told_of)))
    searching = begun(**told_of)
    for _ in range(at):
        searching.step()
    data = searching.save()
    assert searching.save() == data
    assert told(ended(begun(data=data, **told_of))) == whole
    assert told(ended(searching)) == whole


def test_rows_that_wait_for_values_are_asked_again_after_a_resume() -> None:
    searching = begun()
    searching.step()
    rows = searching.ask()
    again = begun(data=searching.save())
    assert again.ask().tobytes() == rows.tobytes()


@pytest.mark.parametrize(
    ("subject", "more", "says"),
    [
        (problems.describe(ZDT1(n_var=9), weights=None), {}, "variables"),
        (problems.describe(DTLZ2(n_var=8), weights=None), {}, "objectives"),
        (LINE, {"seed": 4}, "seed 4"),
        (LINE, {"algorithm": "spea2"}, "algorithm spea2"),
    ],
    ids=["variables", "objectives", "seed", "algorithm"],
)
def test_the_state_of_another_search_is_refused(subject, more, says) -> None:
    searching = begun()
    searching.step()
    with pytest.raises(InvalidInput, match=says):
        begun(subject, data=searching.save(), **more)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="state of a search"):
        states.unpack(data)


def test_a_state_that_was_cut_short_is_refused() -> None:
    searching = begun()
    searching.step()
    data = searching.save()
    for length in (10, len(data) // 2, len(data) - 1):
        with pytest.raises(InvalidInput, match="state of a search"):
            states.unpack(data[:length])


def test_the_reference_is_fixed_by_the_fifth_front_and_never_moves() -> None:
    searching, seen = begun(), []
    while not searching.done:
        seen.append(searching.step())
    assert [one.hypervolume for one in seen[:4]] == [None] * 4
    assert len({one.reference.tobytes() for one in seen[4:]}) == 1
    fifth = seen[4]
    assert fifth.reference == pytest.approx(fifth.nadir + 0.1 * (fifth.nadir - fifth.ideal))
    found = searching.result()
    assert np.isfinite(found.trace).all()
    assert (np.diff(found.trace) >= -1e-12).all()
    assert found.hypervolume == found.hypervolume_raw == found.trace[-1]


def test_the_users_reference_counts_from_the_start_and_points_beyond_it_are_counted() -> None:
    searching = begun(reference={"f1": 1.1, "f2": 1.1}, generations=150)
    first = searching.step()
    assert first.hypervolume == 0.0
    assert first.clipped == first.front_size  # random points of ZDT1 have f2 near 4
    assert 0.85 < ended(searching).hypervolume <= 0.876667  # 1.21 - 1/3: the whole front


@pytest.mark.parametrize("reference", [{"f1": 1.1}, {"f1": 1.1, "f2": 1.1, "f4": 2.0}, {"f1": 1.0, "f3": 1.0}])
def test_a_reference_names_each_objective_once(reference) -> None:
    with pytest.raises(InvalidInput, match="f2"):
        begun(reference=reference)


def test_a_target_ends_the_search_and_the_result_says_so() -> None:
    found = ended(begun(reference={"f1": 1.1, "f2": 1.1}, target_hypervolume=0.5, generations=500))
    assert found.ended_by == "target_hypervolume"
    assert found.trace[-1] >= 0.5 > found.trace[-2]
    assert "0.5" in found.to_json()["ended_because"]


def test_a_stalled_search_ends_by_itself() -> None:
    found = ended(begun(Corner(), stagnation=True, generations=500))
    assert (found.ended_by, found.generations) == ("stagnation", 50)


def test_a_warm_start_fills_half_of_the_population_and_is_clipped() -> None:
    searching = begun(start=np.full((30, 8), 7.0))
    rows = searching.ask()
    assert (rows == 1.0).all(axis=1).sum() <= 10
    assert rows.max() <= 1.0
    known = np.linspace(0, 1, 80).reshape(10, 8)
    assert begun(start=known).ask()[:10].tolist() == known.tolist()
    for bad in (np.zeros((3, 7)), np.full((3, 8), np.nan)):
        with pytest.raises(InvalidInput, match="warm start"):
            begun(start=bad)


def test_a_warm_start_from_a_good_front_begins_where_that_one_ended() -> None:
    reference = {"f1": 1.1, "f2": 1.1}
    earlier = begun(generations=100, reference=reference)
    good = ended(earlier)
    x, f = states.points(earlier.save(), variables=states.variables_digest(LINE.problem))
    assert len(x) == len(f) == len(good.x)
    warm = begun(start=x[front.thinned(f, limit=10)], seed=9, reference=reference)
    cold = begun(seed=9, reference=reference)
    assert warm.step().hypervolume > 0.7 > cold.step().hypervolume
    with pytest.raises(InvalidInput, match="variables"):
        states.points(earlier.save(), variables=states.variables_digest(ZDT1(n_var=9)))


def test_the_digest_of_variables_tells_bounds_and_kinds_apart() -> None:
    same = states.variables_digest(ZDT1(n_var=8))
    assert same == states.variables_digest(LINE.problem)
    others = [Problem(n_var=8, n_obj=1, xl=0.0, xu=2.0), Problem(n_var=8, n_obj=1, xl=0.0, xu=1.0, vtype=int)]
    assert len({same, *map(states.variables_digest, others)}) == 3


class Corner(problems.Subject):
    """One best point, and nothing else to find."""

    def __init__(self) -> None:
        problem = Problem(n_var=1, n_obj=2, xl=0.0, xu=1.0)
        problem._evaluate = lambda x, out: out.update(F=np.ones((len(x), 2)))
        given = problems.describe(problem, weights=None)
        super().__init__(**{name: getattr(given, name) for name in problems.Subject.__dataclass_fields__})


class Flawed(Problem):
    """`share` of the rows come out as NaN."""

    def __init__(self, share: float) -> None:
        self.share = share
        super().__init__(n_var=2, n_obj=2, xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        out["F"] = np.where(x[:, :1] < self.share, np.nan, np.stack([x[:, 1], 1 - x[:, 1] + x[:, 0]], axis=1))


def test_rows_that_fail_are_counted_and_never_found() -> None:
    found = ended(begun(problems.describe(Flawed(0.1), weights=None)))
    assert 0 < found.failed < 0.2 * found.evaluations
    assert np.isfinite(found.values).all()
    assert found.x[:, 0].min() >= 0.1


def test_a_search_of_which_a_fifth_fails_is_a_failure_that_says_so() -> None:
    with pytest.raises(WorkFailed, match="evaluations failed"):
        ended(begun(problems.describe(Flawed(0.6), weights=None)))


def test_an_event_is_json_and_its_front_no_larger_than_it_may_be() -> None:
    subject = problems.describe(DTLZ2(n_var=7, n_obj=3), weights=None)
    searching = begun(subject, population_size=100, generations=8)
    while not searching.done:
        made = searching.step()
    event = json.loads(json.dumps(made.event(job="optimize-1", limit=50)))
    assert len(event["front"]) == 50 < event["front_size"]
    assert event["hypervolume"] == made.hypervolume
    assert event["generation"] == 8
    ends = np.array(event["front"])
    assert ends.min(axis=0) == pytest.approx(event["ideal"])  # the ends of every objective are shown
    assert ends.max(axis=0) == pytest.approx(event["nadir"])
