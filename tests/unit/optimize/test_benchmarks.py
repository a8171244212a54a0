"""The problems of the literature: their fronts lie where pymoo's own problems put them, their hypervolumes are the known ones."""

import moocore
import numpy as np
import pytest
from pymoo.indicators.igd_plus import IGDPlus

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.optimize import benchmarks, problems
from rlaas_ray.specs.optimize import OptimizeSpec

# front value and its tolerance, as published with the design
REFERENCE = {
    "zdt1": (0.876667, 1e-6),
    "zdt2": (0.543333, 1e-6),
    "zdt3": (1.331761, 1e-5),
    "zdt4": (0.876667, 1e-6),
    "zdt5": (300.727548, 1e-6),
    "zdt6": (0.507878, 1e-6),
    "dtlz1": (0.145542, 1e-6),
    "dtlz2": (0.807401, 1e-6),
    "dtlz3": (0.807401, 1e-6),
    "dtlz4": (0.807401, 1e-6),
    "dtlz5": (0.44252, 1e-5),
    "dtlz6": (0.44252, 1e-5),
    "dtlz7": (2.6988, 1e-2),
}


@pytest.mark.parametrize("name", list(REFERENCE))
def test_the_hypervolume_of_the_whole_front_is_the_reference(name: str) -> None:
    found, (wanted, tolerance) = benchmarks.hypervolume(name), REFERENCE[name]
    assert found.value == pytest.approx(wanted, abs=tolerance)
    assert found.error <= tolerance * 10


@pytest.mark.parametrize(
    ("name", "points", "wanted"),
    [
        ("zdt1", 100, 0.871409),
        ("zdt2", 100, 0.538300),
        ("dtlz1", 91, 0.140044),
        ("dtlz2", 91, 0.744851),
    ],
)
def test_a_finite_front_has_the_reference_of_a_finite_set(name: str, points: int, wanted: float) -> None:
    f = benchmarks.front(name, points=points)
    assert len(f) == points
    found = moocore.hypervolume(f, ref=benchmarks.hypervolume(name).point)
    assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("name", list(REFERENCE))
def test_a_sample_is_non_dominated_and_below_the_whole_front(name: str) -> None:
    f = benchmarks.front(name)
    assert 31 <= len(f) <= benchmarks.POINTS
    assert moocore.is_nondominated(f, keep_weakly=True).all()
    known = benchmarks.hypervolume(name)
    assert moocore.hypervolume(f, ref=known.point) <= known.value + 1e-12


def optimal(name: str, *, count: int) -> np.ndarray:
    """Pareto-optimal x of a problem: its distance variables at their optimum, its position variables anywhere."""
    problem = benchmarks.PROBLEMS[name]()
    rng = np.random.default_rng(0)
    x = rng.random((count, problem.n_var)) * problem.xu
    if name.startswith("zdt"):
        x[:, 1:] = 0.0
    elif name.startswith("wfg"):
        x[:, problem.k :] = 0.35 * problem.xu[problem.k :]
    else:
        x[:, 2:] = {"dtlz6": 0.0, "dtlz7": 0.0}.get(name, 0.5)
    return problem.evaluate(x, return_values_of=["F"])


@pytest.mark.parametrize("name", ["zdt1", "zdt2", "zdt4", "zdt6", "dtlz1", "dtlz2", "dtlz4", "dtlz5", "dtlz6"])
def test_optimal_points_of_the_problem_lie_on_the_formula(name: str) -> None:
    f = optimal(name, count=200)
    front = benchmarks.front(name, points=20_000)
    apart = np.sqrt(((f[:, None] - front[None]) ** 2).sum(axis=2)).min(axis=1)
    # a dense front is never further than half its own spacing
    assert apart.max() < 0.01


@pytest.mark.parametrize("name", ["wfg4", "wfg5", "wfg6", "wfg7"])
def test_optimal_points_of_wfg_lie_on_its_ellipsoid(name: str) -> None:
    f = optimal(name, count=50)
    if name == "wfg5":  # deceptive: its optimum is reached at 0.35 too
        assert f.shape == (50, 3)
    assert ((f / [2.0, 4.0, 6.0]) ** 2).sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert ((benchmarks.front(name) / [2.0, 4.0, 6.0]) ** 2).sum(axis=1) == pytest.approx(1.0)


def test_dtlz7_lies_on_its_formula() -> None:
    f = optimal("dtlz7", count=200)
    assert f[:, 2] == pytest.approx(6.0 - (f[:, :2] * (1.0 + np.sin(3.0 * np.pi * f[:, :2]))).sum(axis=1))


def igd_plus(points: np.ndarray, *, reference: np.ndarray) -> float:
    """Mean over the reference of the distance to the nearest point, what is better counting nothing (Ishibuchi 2015)."""
    worse = np.maximum(points[None] - reference[:, None], 0.0)
    return float(np.sqrt((worse**2).sum(axis=2)).min(axis=1).mean())


@pytest.mark.parametrize("name", ["zdt3", "dtlz2", "dtlz7"])
def test_igd_plus_is_moocores_and_pymoos(name: str) -> None:
    reference = benchmarks.front(name)
    points = reference[::7] + np.random.default_rng(1).random((len(reference[::7]), reference.shape[1])) * 0.2
    wanted = moocore.igd_plus(points, ref=reference)
    assert igd_plus(points, reference=reference) == pytest.approx(wanted, abs=1e-12)
    assert IGDPlus(reference)(points) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", list(benchmarks.PROBLEMS))
def test_every_problem_resolves_by_name_and_evaluates(name: str) -> None:
    subject = problems.resolve(OptimizeSpec(problem=name))
    low, high = (np.broadcast_to(b, subject.problem.n_var) for b in (subject.problem.xl, subject.problem.xu))
    f = subject.problem.evaluate(np.stack([low, high]).astype(float), return_values_of=["F"])
    assert np.isfinite(f).all()
    if subject.box is not None:
        front = benchmarks.front(name)
        assert (front >= subject.box[0] - 1e-9).all()
        assert (front < subject.box[1]).all()


def test_what_has_no_formula_says_so() -> None:
    with pytest.raises(NotBuilt, match="wfg1"):
        benchmarks.front("wfg1")
    with pytest.raises(InvalidInput) as caught:
        benchmarks.front("zdt7")
    assert "zdt" in str(caught.value.cure)
