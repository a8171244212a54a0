"""Problem type `recommendation`: the tiny front by three searches, the anchors, the cap, the warm start, the door."""

import itertools

import numpy as np
import pytest
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.decomposition.tchebicheff import Tchebicheff
from pymoo.operators.crossover.ux import UX
from pymoo.operators.mutation.pm import PM
from pymoo.optimize import minimize

from rlaas_ray import settings
from rlaas_ray.envs.recommendation import problem
from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import front, problems, search
from rlaas_ray.optimize.kernels import directions
from rlaas_ray.specs.optimize import OptimizeSpec

PAIRS = np.asarray(list(itertools.combinations(range(6), 2)))
ALL = np.asarray([[one, two] for one in PAIRS for two in PAIRS])  # (225, 2, 2)


def known_front():
    """The non-dominated points of all 225 solutions, by comparing each with each."""
    f = problem.evaluate(ALL, catalogue=problem.tiny())
    beaten = ((f[None] >= f[:, None]).all(axis=2) & (f[None] > f[:, None]).any(axis=2)).any(axis=1)
    return np.unique(f[~beaten], axis=0)


def test_the_tiny_front_has_the_pages_fifteen_points():
    points = known_front()
    assert len(points) == 15
    assert points.max(axis=0) == pytest.approx([0.600383, 0.329399, 1.0], abs=1e-6)


def test_the_best_slates_for_revenue_are_the_pages():
    f = problem.evaluate(ALL, catalogue=problem.tiny())
    score = f @ np.asarray(problem.SlateProblem.MODES["revenue_focused"])
    best = score.argmax()
    assert score[best] == pytest.approx(0.597381, abs=1e-6)
    assert ALL[best].tolist() == [[0, 5], [2, 4]]
    assert f[best] == pytest.approx([0.567217, 0.234980, 1.0], abs=1e-6)


class Seen(problem.SlateProblem):
    """Keeps the front of whatever it was asked to evaluate."""

    def __init__(self) -> None:
        super().__init__(size="tiny")
        self.archive = front.Archive(variables=self.n_var, objectives=3)

    def _evaluate(self, x, out, *args, **more) -> None:
        super()._evaluate(x, out, *args, **more)
        self.archive.add(np.atleast_2d(x), np.atleast_2d(out["F"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nsga3", "moead", "spea2"])
def test_each_search_returns_exactly_the_tiny_front(name):
    evenly = directions.fitting(3, population_size=60)
    # Priorities matter by rank alone: these two stop short where each move is small (pymoo's defaults found 14 and 9).
    bold = {"crossover": UX(), "mutation": PM(prob=0.9, prob_var=0.2, eta=1)}
    algorithm = {
        "nsga3": lambda: NSGA3(ref_dirs=evenly, pop_size=60),
        "moead": lambda: MOEAD(ref_dirs=evenly, n_neighbors=15, decomposition=Tchebicheff(), **bold),
        "spea2": lambda: SPEA2(pop_size=60, **bold),
    }[name]()
    seen = Seen()
    minimize(seen, algorithm, ("n_gen", 100), seed=1, verbose=False, copy_algorithm=False)
    assert np.unique(-seen.archive.f, axis=0).tolist() == known_front().tolist()


def test_our_search_returns_the_tiny_front():
    spec = OptimizeSpec(
        problem="recommendation",
        problem_config={"size": "tiny"},
        mode="revenue_focused",
        population_size=60,
        generations=100,
        seed=3,
    )
    result = search.run(spec, clock=settings.SystemClock())
    assert np.unique(result["front"], axis=0).tolist() == known_front().tolist()
    assert [one["name"] for one in result["objectives"]] == ["ctr", "cvr", "diversity"]


@pytest.fixture(scope="module")
def full():
    return problem.SlateProblem()


def test_it_has_2560_priorities_and_the_pages_anchors(full):
    assert (full.n_var, full.n_obj) == (2560, 3)
    wanted = {
        "random": (0.554, 0.156, 0.975),
        "click-greedy": (0.723, 0.238, 0.667),
        "conversion-greedy": (0.655, 0.448, 0.667),
        "both-greedy": (0.696, 0.409, 0.667),
    }
    made = [problem.SlateProblem(seed=seed) for seed in range(12)]
    found = np.stack([one.natural(np.stack(list(one.anchors().values()))) for one in made])
    assert list(full.anchors()) == list(wanted)
    # The page's are one draw of 64 users and 40 documents: it must lie among ours.
    distance = np.abs(found.mean(axis=0) - np.asarray(list(wanted.values())))
    assert (distance <= 2.5 * found.std(axis=0) + 0.002).all()
    assert full.natural(np.stack(list(full.anchors().values())))[:, 0].argmax() == 1


def test_ties_go_to_the_lower_index_and_order_does_not_matter(full):
    shown = problem.slates(np.full((2, 2560), 0.5), catalogue=full.catalogue)
    assert (shown == [0, 1, 2]).all()
    x = np.random.default_rng(0).random((20, 2560))
    f = full.evaluate(x)
    assert f.tolist() == (-full.natural(x)).tolist()
    assert full.natural(x)[7].tolist() == full.natural(x[7:8])[0].tolist()
    monotone = full.natural(x**3)
    assert monotone.tolist() == full.natural(x).tolist()  # priorities matter by rank alone


def test_a_cap_on_exposure_is_a_constraint():
    capped = problem.SlateProblem(exposure_cap=0.3)
    best = capped.anchors()["conversion-greedy"]
    f, g = capped.evaluate(best[None], return_values_of=["F", "G"])
    assert g[0, 0] == pytest.approx(capped.exposure(best[None])[0] - 0.3)
    assert g[0, 0] > 0  # the documents that convert are shown to nearly all
    every = np.zeros((1, 2560))
    assert capped.exposure(every)[0] == 1.0
    assert f.shape == (1, 3)


@pytest.mark.parametrize(
    ("config", "word"),
    [({"mode": "watch"}, "revenue_focused"), ({"size": "small"}, "tiny"), ({"exposure_cap": 0.01}, "0.075")],
)
def test_configurations_that_are_none_are_refused(config, word):
    with pytest.raises(InvalidInput) as caught:
        problem.SlateProblem(**config)
    assert word in str(caught.value)


@pytest.mark.slow
def test_a_warm_search_leaves_no_anchor_undominated_and_its_hypervolume_never_falls():
    spec = OptimizeSpec(problem="recommendation", population_size=100, generations=60, seed=0)
    subject = problems.resolve(spec)
    assert subject.warm_start
    found = search.search(subject, population_size=100, generations=60, seed=0, clock=settings.SystemClock())
    for name, anchor in found.anchors.items():
        assert (found.values >= anchor).all(axis=1).any(), name
    assert (np.diff(found.trace) >= 0).all()
    known = front.hypervolume(-np.stack(list(found.anchors.values())), ideal=subject.box[0], nadir=subject.box[1])
    assert found.trace[0] >= known > 0.2  # the anchors are in the first population
    assert found.hypervolume > found.trace[0] + 0.01
