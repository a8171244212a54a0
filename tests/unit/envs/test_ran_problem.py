"""Problem 5g: closed forms on hand-made networks, the page's watts and figures, and what no point may do."""

import numpy as np
import pytest
from pymoo.core.problem import Problem

from rlaas_ray.envs.ran import power_control, problem
from rlaas_ray.errors import InvalidInput

CELLS, PRBS = 21, 51
SPREAD = CELLS * PRBS


@pytest.fixture(scope="module")
def ours() -> problem.RanPowerProblem:
    return problem.RanPowerProblem()


def even(budget: float, *, rows: int = 1) -> np.ndarray:
    return np.tile(np.concatenate([np.full(CELLS, budget), np.ones(SPREAD)]), (rows, 1))


def test_it_is_a_pymoo_problem_of_1092_variables_and_four_minimised_objectives(ours) -> None:
    assert isinstance(ours, Problem)
    assert (ours.n_var, ours.n_obj) == (1092, 4)
    x = np.random.default_rng(0).random((5, 1092))
    assert (ours.evaluate(x) * [1, -1, 1, -1]).tolist() == ours.natural(x).tolist()


def test_prbs_scale_the_variables() -> None:
    assert problem.RanPowerProblem(n_prb=1).n_var == 42
    wide = problem.RanPowerProblem(n_prb=273)
    assert wide.n_var == 5754
    assert wide.natural(np.random.default_rng(0).random((2, 5754))).shape == (2, 4)


def test_the_hypervolume_box_is_the_published_one(ours) -> None:
    ideal, nadir = ours.box
    assert ideal == pytest.approx([0, -1696.464, 3150, -1])
    assert nadir == pytest.approx([10, 0, 9408, 0])


def test_full_power_draws_9408_watts_sleep_3150_and_every_point_lies_in_the_box(ours) -> None:
    assert ours.natural(even(1.0))[0, 2] == 9408.0
    asleep = ours.natural(even(0.0))[0]
    assert asleep.tolist() == [10.0, 0.0, 3150.0, 0.0]
    f = ours.evaluate(np.random.default_rng(1).random((200, 1092)))
    ideal, nadir = ours.box
    assert ((f >= ideal) & (f <= nadir)).all()


def test_a_budget_below_two_percent_sleeps(ours) -> None:
    x = even(1.0, rows=2)
    x[0, 4], x[1, 4] = 0.0199, 0.02
    energy = ours.natural(x)[:, 2]
    assert energy[0] == pytest.approx(9408 - 448 + 150)
    assert energy[1] == pytest.approx(9408 - 448 + 260 + 4.7 * 0.8)


def test_shares_matter_by_ratio_only_and_all_zero_means_even(ours) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.random(CELLS), rng.random(SPREAD)])[None]
    scaled = x.copy()
    scaled[:, CELLS:] *= 0.25
    assert ours.natural(scaled) == pytest.approx(ours.natural(x), rel=1e-12)
    zero = even(0.5)
    zero[:, CELLS:] = 0.0
    assert ours.natural(zero) == pytest.approx(ours.natural(even(0.5)), rel=1e-12)


def test_a_row_has_the_same_value_alone_and_in_a_population(ours) -> None:
    x = np.random.default_rng(3).random((100, 1092))
    assert ours.natural(x)[17] == pytest.approx(ours.natural(x[17:18])[0], rel=1e-12)


def test_one_cell_alone_has_the_closed_form() -> None:
    # Two cells, one PRB, one user each. The second sleeps, so the first hears noise alone.
    gain = np.array([[1e-10, 1e-12], [1e-13, 1e-11]])
    net = problem.network(seed=1, n_prb=1, silent=np.zeros(2, bool), gain=gain, priority=np.zeros(2, bool))
    value = problem.evaluate(np.array([[0.5, 0.0, 1.0, 1.0]]), net=net)[0]
    sinr = net.own[0, 0] * 20.0 / problem.NOISE_W
    rate = 0.36 * min(0.6 * np.log2(1 + sinr), 4.4)
    assert value[1] == pytest.approx(rate, rel=1e-12)
    assert value[2] == pytest.approx(260 + 4.7 * 20 + 150)
    assert value[3] == (0.5 if rate >= 0.5 else 0.0)


def test_interference_is_the_other_cells_power_times_its_gain() -> None:
    gain = np.array([[1e-10, 1e-11], [1e-12, 1e-10]])
    net = problem.network(seed=1, n_prb=1, silent=np.zeros(2, bool), gain=gain, priority=np.zeros(2, bool))
    value = problem.evaluate(np.array([[1.0, 1.0, 1.0, 1.0]]), net=net)[0]
    expected = 0.0
    for cell, other in ((0, 1), (1, 0)):
        sinr = net.own[0, cell] * 40 / (net.cross[0, cell, other] * 40 + problem.NOISE_W)
        expected += 0.36 * min(0.6 * np.log2(1 + sinr), 4.4)
    assert value[1] == pytest.approx(expected, rel=1e-12)


def test_users_share_their_cells_prbs_round_robin_and_fade_in_blocks_of_four() -> None:
    gain = np.ones((3, 1))
    net = problem.network(seed=0, n_prb=12, silent=np.zeros(1, bool), gain=gain, priority=np.zeros(3, bool))
    assert net.user[:, 0].tolist() == [0, 1, 2] * 4
    # PRBs 0 and 3 are the same user in the same block, PRB 6 is the next block but one of that user.
    assert net.own[0, 0] == net.own[3, 0] != net.own[6, 0]


def test_fading_has_mean_one(ours) -> None:
    gain = np.ones((400, 2))
    net = problem.network(seed=5, n_prb=200, silent=np.zeros(2, bool), gain=gain, priority=np.zeros(400, bool))
    assert net.own[net.own > 0].mean() == pytest.approx(1.0, abs=0.1)


def test_emergency_silences_one_site_whatever_the_variables_say() -> None:
    ours = problem.RanPowerProblem(mode="emergency")
    assert ours.net.silent.sum() == 3
    assert len(set(np.flatnonzero(ours.net.silent) // 3)) == 1
    assert ours.natural(even(1.0))[0, 2] == 9408 - 3 * 448 + 3 * 150
    assert (ours.net.user[:, ours.net.silent] == -1).all()


def test_priority_users_count_four_times_when_weighted() -> None:
    # Both users hang on one cell with one PRB each way: user 1 has no gain at all, so it is unsatisfied at the latency cap.
    gain = np.array([[1e-6, 0.0], [1e-30, 1e-28]])
    priority = np.array([False, True])
    net = problem.network(seed=0, n_prb=1, silent=np.zeros(2, bool), gain=gain, priority=priority)
    x = np.array([[1.0, 1.0, 1.0, 1.0]])
    assert problem.evaluate(x, net=net)[0, 3] == 0.5
    assert problem.evaluate(x, net=net, weighted=True)[0, 3] == pytest.approx(0.2)
    assert problem.evaluate(x, net=net, weighted=True)[0, 0] == pytest.approx(10.0)


def test_wmmse_reaches_single_link_capacity_and_beats_full_power_on_throughput(ours) -> None:
    alone = power_control.sum_power(np.ones((1, 1)), cross=np.zeros((1, 1, 1)), noise=1.0, limit=np.ones(1))
    assert alone[0, 0] == pytest.approx(1.0, abs=1e-6)
    anchors = ours.anchors()
    assert set(anchors) == {"even 100%", "even 50%", "even 25%", "even 10%", "even 2%", "wmmse"}
    full = ours.natural(anchors["even 100%"][None])[0]
    best = ours.natural(anchors["wmmse"][None])[0]
    assert 1.10 * full[1] < best[1]  # +17.7 % on the design's drop
    assert best[0] > full[0]  # and it pays with latency


def test_wmmse_keeps_every_cells_limit_and_water_fills_without_interference() -> None:
    own = np.array([[1.0], [0.5], [0.01]])
    power = power_control.sum_power(own, cross=np.zeros((3, 1, 1)), noise=1.0, limit=np.full(1, 4.0), iterations=3000)
    # Water level mu with 1/gain = 1, 2, 100: (4 + 3)/2 = 3.5 -> 2.5, 1.5, 0.
    assert power[:, 0] == pytest.approx([2.5, 1.5, 0.0], abs=0.02)
    assert power.sum() <= 4.0 + 1e-9


def test_anchors_over_drops_look_like_the_indicative_figures() -> None:
    full = np.stack([problem.RanPowerProblem(drop_seed=s).natural(even(1.0))[0] for s in range(8)])
    latency, throughput, _, satisfied = full.mean(axis=0)
    assert 1.2 < latency < 5
    assert 540 < throughput < 720
    assert 0.8 < satisfied < 0.95


@pytest.mark.parametrize(
    "x", [np.ones((1, 5)), np.full((1, 1092), 1.5), np.full((1, 1092), np.nan), np.ones(1092), np.ones((1, 1092), "f4")]
)
def test_variables_out_of_shape_or_range_are_refused(ours, x) -> None:
    with pytest.raises(InvalidInput, match="variables of problem 5g"):
        ours.natural(x)


def test_unknown_modes_and_prbs_are_refused_with_a_cure() -> None:
    with pytest.raises(InvalidInput) as caught:
        problem.RanPowerProblem(mode="energy_savings")
    assert "energy_saving" in str(caught.value.cure)
    with pytest.raises(InvalidInput, match="n_prb"):
        problem.RanPowerProblem(n_prb=0)
