"""Problems so small that their fronts are enumerated: a search finds the whole of each and nothing else."""

import itertools

import moocore
import numpy as np
import pytest

from rlaas_ray.envs.recommendation import problem as recommendation
from rlaas_ray.optimize import algorithms, benchmarks, evaluation, problems, search, variables
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.testing.clock import ManualClock

DECIMALS = 9
# problem, its configuration, points of its front, generations with a population of 100
SMALL = {
    "5g": ("5g_tiny", {}, 29, 100),
    "5g at night": ("5g_tiny", {"step": 0}, 12, 300),
    "edge": ("edge_placement", {"size": "tiny", "late_limit": 1.0}, 9, 3),
    "edge with a limit": ("edge_placement", {"size": "tiny", "late_limit": 0.4}, 4, 3),
    "recommendation": ("recommendation", {"size": "tiny"}, 15, 100),
    "stream": ("stream_parallelism", {}, 30, 25),
}


def non_dominated(f: np.ndarray) -> np.ndarray:
    return np.unique(f[moocore.is_nondominated(f)].round(DECIMALS), axis=0)


def enumerated(name: str, config: dict) -> np.ndarray:
    """The front of all solutions, minimised."""
    problem = problems.KNOWN[name](**config)
    if name == "recommendation":  # its priorities are real, its slates are not
        pairs = np.asarray(list(itertools.combinations(range(6), 2)))
        slates = np.asarray([[one, two] for one in pairs for two in pairs])
        return non_dominated(-recommendation.evaluate(slates, catalogue=problem.catalogue))
    found = variables.of(problem)
    assert found.whole.all()
    every = itertools.product(*(np.arange(a, b + 1) for a, b in zip(found.low, found.high, strict=True)))
    f, g, _ = evaluation.evaluate(problem, np.array(list(every)))
    return non_dominated(f[(g <= 0).all(axis=1)])


def searched(name: str, config: dict, *, generations: int, seed: int, algorithm: str = "auto") -> np.ndarray:
    """The front that a run of this spec returns, minimised."""
    spec = OptimizeSpec(
        problem=name,
        problem_config=config,
        algorithm=algorithm,
        population_size=100,
        generations=generations,
        stagnation=False,
        seed=seed,
    )
    result = search.run(spec, clock=ManualClock())
    return non_dominated(np.asarray(result["front"]) * problems.resolve(spec).sign)


@pytest.mark.parametrize("case", ["5g", "edge", "edge with a limit", "recommendation", "stream"])
def test_the_whole_front_is_found(case: str) -> None:
    name, config, points, generations = SMALL[case]
    wanted = enumerated(name, config)
    assert len(wanted) == points
    assert np.array_equal(searched(name, config, generations=generations, seed=0), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(SMALL))
def test_the_whole_front_is_found_by_ten_seeds_of_ten(case: str) -> None:
    name, config, _, generations = SMALL[case]
    wanted = enumerated(name, config)
    for seed in range(10):
        assert np.array_equal(searched(name, config, generations=generations, seed=seed), wanted), seed


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["nsga2", "spea2"])
@pytest.mark.parametrize("case", ["5g", "edge", "stream"])
def test_other_algorithms_find_it_too(case: str, algorithm: str) -> None:
    name, config, _, generations = SMALL[case]
    wanted = enumerated(name, config)
    for seed in range(3):
        found = searched(name, config, generations=generations, seed=seed, algorithm=algorithm)
        assert np.array_equal(found, wanted), seed


@pytest.mark.slow
def test_all_31_points_of_zdt5_are_found_by_ten_seeds_of_ten() -> None:
    # 2^80 solutions of a deceptive problem: only runs of five ones are worth anything, so whole runs must be exchanged
    problem, wanted = benchmarks.PROBLEMS["zdt5"](), benchmarks.front("zdt5").round(DECIMALS)
    for seed in range(10):
        evolution = algorithms.make(
            "nsga2", problem=problem, population_size=1000, seed=seed, options={"exchange": "two_point"}
        )
        seen = []
        for _ in range(250):
            f, g, h = evaluation.evaluate(problem, evolution.ask())
            evolution.tell(f=f, g=g, h=h)
            seen.append(np.unique(f, axis=0))
        assert np.array_equal(non_dominated(np.concatenate(seen)), wanted), seed
