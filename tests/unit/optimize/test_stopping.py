"""When a search ends: each rule by itself, what an effort means, and how far a search is."""

import numpy as np
import pytest

from rlaas_ray.optimize import stopping
from rlaas_ray.optimize.stopping import Corners, Rules
from rlaas_ray.specs.optimize import OptimizeSpec


def corners(count: int, *, drift: float = 0.0) -> list[Corners]:
    return [Corners(ideal=np.array([-drift * i, 0.0]), nadir=np.array([1.0, 1.0])) for i in range(count)]


def reason(rules: Rules, **told) -> str | None:
    usual = {"evaluations": 0, "elapsed_s": 0.0, "trace": [0.1], "corners": []}
    return stopping.reason(rules, **{**usual, **told})


@pytest.mark.parametrize(
    ("rules", "told", "before"),
    [
        ({"generations": 3}, {"trace": [0.1] * 3}, {"trace": [0.1] * 2}),
        ({"evaluations": 500}, {"evaluations": 500}, {"evaluations": 499}),
        ({"time_limit_s": 5.0}, {"elapsed_s": 5.0}, {"elapsed_s": 4.9}),
        ({"target_hypervolume": 0.4}, {"trace": [0.1, 0.4]}, {"trace": [0.4, 0.3]}),
    ],
    ids=["generations", "evaluations", "time_limit", "target_hypervolume"],
)
def test_a_rule_ends_the_search_when_it_is_met_and_not_before(rules, told, before, request) -> None:
    name = request.node.callspec.id
    assert reason(Rules(**rules), **told) == name
    assert reason(Rules(**rules), **before) is None
    words = stopping.words(name, rules=Rules(**rules), generations=7, evaluations=700, elapsed_s=5.1)
    assert "None" not in words


def test_no_rule_goes_on_for_ever() -> None:
    assert reason(Rules(), evaluations=10**9, elapsed_s=1e9, trace=[0.5] * 1000) is None


def test_a_search_stalls_when_neither_volume_nor_corners_moved_over_thirty_generations() -> None:
    flat = [0.5] * 60
    assert stopping.stalled(flat, corners(31))
    assert not stopping.stalled(flat[:49], corners(31))  # fifty are done in any case
    assert not stopping.stalled(flat, corners(30))
    rising = [0.5 + 0.5e-4 * max(0, i - 58) for i in range(60)]
    assert stopping.stalled(rising, corners(31))  # by 1e-4 of it at most
    risen = [*flat[:-1], 0.5 * (1 + 2e-4)]
    assert not stopping.stalled(risen, corners(31))
    assert not stopping.stalled(
        [*risen, *flat[:29]], corners(31)
    )  # what was gained counts, also where it was lost again
    assert stopping.stalled(flat, corners(31, drift=1e-3 / 31))
    assert not stopping.stalled(flat, corners(31, drift=1.1e-3 / 30))
    assert not stopping.stalled([*flat[:-5], float("nan"), *flat[:4]], corners(31))


def test_efforts_are_data_and_what_the_user_says_wins() -> None:
    balanced = stopping.effort(OptimizeSpec(problem="p"))
    assert (balanced.population_size, balanced.rules, balanced.choose) == (100, Rules(generations=200), "topsis")
    quick = stopping.effort(OptimizeSpec(problem="p", effort="quick"))
    assert (quick.population_size, quick.rules, quick.choose) == (50, Rules(time_limit_s=5.0), "knee")
    thorough = stopping.effort(OptimizeSpec(problem="p", effort="thorough"))
    assert (thorough.population_size, thorough.rules) == (500, Rules(stagnation=True))
    told = OptimizeSpec(problem="p", effort="quick", generations=700, population_size=12, choose="minimax")
    assert stopping.effort(told) == stopping.Effort(population_size=12, rules=Rules(generations=700), choose="minimax")
    early = OptimizeSpec(problem="p", stagnation=True, target_hypervolume=0.5)
    assert stopping.effort(early).rules == Rules(generations=200, stagnation=True, target_hypervolume=0.5)


def test_how_far_a_search_is_by_the_budget_that_ends_first() -> None:
    rules = Rules(generations=100, time_limit_s=10.0)
    share, eta_s = stopping.left(rules, generations=20, evaluations=0, elapsed_s=5.0, done=False)
    assert (share, eta_s) == (0.5, 5.0)
    assert stopping.left(Rules(), generations=20, evaluations=0, elapsed_s=5.0, done=False) == (0.0, None)
    assert stopping.left(rules, generations=0, evaluations=0, elapsed_s=0.0, done=False) == (0.0, None)
    assert stopping.left(Rules(), generations=20, evaluations=0, elapsed_s=5.0, done=True) == (1.0, 0.0)
