"""Problem edge_placement: points are judged by the model, constraints say what a cluster refuses, a search keeps them."""

import numpy as np
import pytest
from pymoo.core.problem import Problem

from rlaas_ray.envs.edge import model, moves, problem
from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import problems, search
from rlaas_ray.settings import SystemClock


@pytest.fixture(scope="module")
def ours() -> problem.EdgeStaticProblem:
    return problem.EdgeStaticProblem()


def test_it_has_18_variables_three_objectives_and_13_constraints(ours) -> None:
    assert isinstance(ours, Problem)
    assert (ours.n_var, ours.n_obj, ours.n_ieq_constr) == (18, 3, 13)
    assert ours.rate.shape == (3, 4, 12)


def test_a_batch_of_points_is_each_point_by_itself(ours) -> None:
    x = np.random.default_rng(0).random((7, 18)) * 4.0
    objectives, constraints = ours.judged(x)
    for row in range(7):
        alone = ours.judged(x[row : row + 1])
        assert np.array_equal(alone[0][0], objectives[row])
        assert np.array_equal(alone[1][0], constraints[row])


def test_latency_is_the_mean_of_the_models_on_each_sample(ours) -> None:
    x = np.random.default_rng(1).random((1, 18)) * 4.0
    held = moves.last(ours.pods(x))
    each = []
    for sample in range(12):
        found = model.serve(ours.params, run=held, rate=ours.rate[..., sample : sample + 1])
        each.append(found.latency.sum() / found.offered.sum())
    assert ours.judged(x)[0][0, 0] == pytest.approx(np.mean(each))


def test_no_pods_are_late_for_everybody_and_too_many_overfill_the_nodes(ours) -> None:
    objectives, constraints = ours.judged(np.stack((np.zeros(18), np.full(18, 16.0))))
    assert objectives[0] == pytest.approx([500.0, 0.0, 0.0])
    assert constraints[0, 0] == pytest.approx(0.9)
    assert (constraints[1, 1:7] > 0).all()  # 40 cores asked for on every node
    assert constraints[1, 1] == pytest.approx(9.0)


def test_anchors_are_feasible_and_lie_in_the_box(ours) -> None:
    anchors = ours.anchors()
    assert anchors
    objectives, constraints = ours.judged(np.stack(list(anchors.values())))
    assert (constraints <= 0).all()
    assert ((objectives >= ours.box[0]) & (objectives <= ours.box[1])).all()


@pytest.mark.slow
def test_a_search_finds_placements_that_dominate_or_complete_the_anchors(ours) -> None:
    subject = problems.describe(ours, weights=None)
    found = search.search(subject, population_size=40, generations=30, seed=0, clock=SystemClock())
    _, constraints = ours.judged(found.x)
    assert (constraints <= 0).all()
    assert len(found.x) > 3
    assert found.trace[-1] >= found.trace[0]


@pytest.mark.parametrize("wrong", [{"mode": "balance"}, {"samples": 0}, {"late_limit": 0.0}])
def test_wrong_options_are_refused(wrong) -> None:
    with pytest.raises(InvalidInput, match="edge_placement"):
        problem.EdgeStaticProblem(**wrong)


def test_points_of_another_width_are_refused(ours) -> None:
    with pytest.raises(InvalidInput, match="edge_placement"):
        ours.judged(np.zeros((2, 17)))
