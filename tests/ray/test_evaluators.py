"""Rows evaluated by real actors: the same values, a row that raises fails alone, who hangs is issued again and then dropped."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.jobs import evaluators
from rlaas_ray.optimize import evaluation, problems, search
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.train import cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PROBLEMS = str(Path(__file__).parents[1] / "train_envs")
if PROBLEMS not in sys.path:
    sys.path.insert(0, PROBLEMS)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    spec = OptimizeSpec(problem="dear:Dear", problem_config={"marks": str(tmp_path_factory.mktemp("marks"))})
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{PROBLEMS}:{before}"
    with cluster.joined(2, name="none", address=None) as cpus:
        problem = problems.resolve(spec).problem
        made = evaluators.RayEvaluator(spec, problem=problem, workers=2, cpus=cpus, clock=settings.SystemClock())
        yield made
        made.close()
    os.environ["PYTHONPATH"] = before


def rows(*first: float) -> np.ndarray:
    x = np.random.default_rng(0).uniform(0.1, 0.8, (16, 2))
    x[: len(first), 0] = first
    return x


def test_the_values_are_those_of_one_process_in_the_same_order(evaluator) -> None:
    x = rows()
    for found, wanted in zip(
        evaluator(x), evaluation.evaluate(problems.resolve(OptimizeSpec(problem="dear:Dear")).problem, x), strict=True
    ):
        assert found.tolist() == wanted.tolist()


def test_a_row_that_raises_fails_alone(evaluator) -> None:
    f, _, _ = evaluator(rows(0.01))
    assert np.flatnonzero(~np.isfinite(f).all(axis=1)).tolist() == [0]


def test_who_hangs_once_is_issued_again_and_who_hangs_twice_is_dropped(evaluator) -> None:
    again, dropped = evaluator.issued_again, evaluator.dropped
    f, _, _ = evaluator(rows(0.92))
    assert evaluator.issued_again > again
    assert evaluator.dropped == dropped
    assert np.isfinite(f).all()
    f, _, _ = evaluator(rows(0.97))
    assert evaluator.dropped == dropped + 1
    failed = np.flatnonzero(~np.isfinite(f).all(axis=1))
    assert failed.tolist() == [0, 1]  # the chunk of two rows


def test_a_search_over_actors_is_the_search_in_one_process(evaluator) -> None:
    spec = OptimizeSpec(problem="dear:Dear", algorithm="nsga2", population_size=8, generations=3, seed=1)
    subject, clock = problems.resolve(spec), settings.SystemClock()

    def found(evaluate) -> list:
        low = search.Searching(subject, spec, clock=clock, evaluate=evaluate, start=rows()[:4])
        while not low.done:
            low.step()
        return low.result().x.tolist()

    here = found(lambda x: evaluators.isolated(subject.problem, x)[0])
    assert here == found(evaluator)
