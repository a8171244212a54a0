"""Heads: closed forms of probabilities and densities, sampling held to a chi-square, greedy as a point mass."""

import itertools
import math

import numpy as np
import pytest
from gymnasium import spaces as gs
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import heads

LOGITS = np.log(np.array([[0.5, 0.3, 0.2, 0.0001]], np.float32))


def row(*values: float, n: int = 1) -> np.ndarray:
    return np.tile(np.array(values, np.float32), (n, 1))


def test_softmax_of_known_logits():
    p = heads.Categorical(n=3).probabilities(row(0.0, math.log(2), math.log(5)))
    np.testing.assert_allclose(p, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6)


def test_sampling_a_category_follows_its_probabilities_by_chi_square():
    head, n = heads.Categorical(n=4), 40_000
    params = np.repeat(LOGITS, n, axis=0)
    drawn = head.draw(params, rng=np.random.default_rng(7))
    counts = np.bincount(drawn.proposed[:, 0].astype(int), minlength=4)
    assert stats.chisquare(counts, head.probabilities(LOGITS)[0] * n).pvalue > 1e-3
    np.testing.assert_allclose(
        drawn.propensity, head.probabilities(params)[np.arange(n), drawn.proposed[:, 0].astype(int)]
    )


def test_sampling_several_categories_draws_them_independently():
    head, n = heads.MultiCategorical(nvec=(2, 3)), 60_000
    params = row(0.0, 1.0, 0.5, -0.5, 0.0, n=n)
    drawn = head.sample(params, rng=np.random.default_rng(8)).astype(int)
    blocks = np.split(head.probabilities(params[:1])[0], [2])
    counts = np.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=6)
    assert stats.chisquare(counts, np.outer(*blocks).ravel() * n).pvalue > 1e-3


def test_probabilities_of_all_joint_actions_sum_to_one():
    head = heads.MultiCategorical(nvec=(2, 3))
    joint = np.array(list(itertools.product(range(2), range(3))), float)
    params = row(0.3, -1.0, 2.0, 0.1, 0.0, n=len(joint))
    assert np.exp(head.log_prob(params, joint)).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_category_of_probability_zero_is_never_drawn_even_when_u_is_at_an_end():
    class Ends:
        def random(self, n: int) -> np.ndarray:
            return np.array([0.0, 1.0 - 2.0**-53])

    params = heads.masked(row(1.0, 2.0, 3.0, 4.0, n=2), np.array([[False, True, True, False]] * 2))
    drawn = heads.Categorical(n=4).draw(params, rng=Ends())
    assert drawn.proposed[:, 0].tolist() == [1.0, 2.0]
    assert (drawn.probabilities[:, [0, 3]] == 0).all()


def test_a_mask_that_forbids_everything_is_refused():
    with pytest.raises(InvalidInput, match="action mask"):
        heads.masked(row(1.0, 2.0), np.array([[False, False]]))
    with pytest.raises(InvalidInput, match="shape"):
        heads.masked(row(1.0, 2.0), np.array([[True]]))


@given(
    mean=st.lists(st.floats(-3, 3), min_size=2, max_size=2),
    log_std=st.lists(st.floats(-3, 1), min_size=2, max_size=2),
    seed=st.integers(0, 99),
)
def test_the_density_of_a_gaussian_is_scipys(mean, log_std, seed):
    head = heads.DiagonalGaussian(entries=2)
    params = row(*mean, *log_std)
    drawn = head.draw(params, rng=np.random.default_rng(seed))
    expected = stats.norm.logpdf(
        drawn.proposed[0], params[0, :2].astype(float), np.exp(params[0, 2:].astype(float))
    ).sum()
    assert math.log(drawn.propensity[0]) == pytest.approx(expected, abs=1e-9)
    assert head.log_prob(params, drawn.proposed)[0] == pytest.approx(expected, abs=1e-9)
    assert drawn.probabilities is None


def test_a_density_beyond_float64_stays_finite_and_positive():
    for log_std in (-20.0, 20.0):
        params = row(*[0.0] * 200, *[log_std] * 200)
        propensity = heads.DiagonalGaussian(entries=200).draw(params, rng=np.random.default_rng(0)).propensity[0]
        assert 0 < propensity < math.inf


def test_gaussian_samples_pass_a_kolmogorov_smirnov_test():
    head, n = heads.DiagonalGaussian(entries=1), 20_000
    drawn = head.sample(row(1.5, math.log(0.5), n=n), rng=np.random.default_rng(3))
    assert stats.kstest(drawn[:, 0], stats.norm(1.5, 0.5).cdf).pvalue > 1e-3


def test_a_point_has_propensity_one_and_any_other_action_none():
    head = heads.Point(entries=2)
    drawn = head.draw(row(0.5, -0.5), rng=np.random.default_rng(0))
    assert drawn.proposed.tolist() == [[0.5, -0.5]]
    assert drawn.propensity.tolist() == [1.0]
    assert head.log_prob(row(0.5, -0.5), np.array([[0.5, 0.0]])).tolist() == [-math.inf]


def test_a_uniform_box_has_the_density_of_its_volume():
    head = heads.UniformBox(low=(0.0, -1.0), high=(2.0, 3.0))
    drawn = head.draw(np.zeros((1000, 0), np.float32), rng=np.random.default_rng(1))
    np.testing.assert_allclose(drawn.propensity, 1 / 8)
    assert (drawn.proposed >= [0, -1]).all()
    assert (drawn.proposed <= [2, 3]).all()
    assert stats.kstest(drawn.proposed[:, 1], stats.uniform(-1, 4).cdf).pvalue > 1e-3
    assert head.log_prob(np.zeros((1, 0), np.float32), np.array([[3.0, 0.0]])).tolist() == [-math.inf]
    assert head.mode(np.zeros((1, 0), np.float32)).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("head", "params", "mode", "one_hot"),
    [
        (heads.Categorical(n=3), row(0, 2, 1), [[1]], [[0, 1, 0]]),
        (heads.MultiCategorical(nvec=(2, 2)), row(1, 0, 0, 1), [[0, 1]], [[1, 0, 0, 1]]),
        (heads.DiagonalGaussian(entries=1), row(0.5, 0.0), [[0.5]], None),
    ],
)
def test_greedy_serving_is_a_point_mass_at_the_mode(head, params, mode, one_hot):
    drawn = heads.draw(head, params, serving="greedy", rng=np.random.default_rng(0))
    assert drawn.proposed.tolist() == mode
    assert drawn.propensity.tolist() == [1.0]
    assert (drawn.probabilities is None) if one_hot is None else drawn.probabilities.tolist() == one_hot


@pytest.mark.parametrize(
    "head",
    [
        heads.Categorical(n=3),
        heads.MultiCategorical(nvec=(2, 3)),
        heads.DiagonalGaussian(entries=4),
        heads.Point(entries=1),
        heads.UniformBox(low=(0.0,), high=(1.5,)),
    ],
)
def test_a_head_survives_json_and_tells_its_sizes(head):
    assert heads.from_json(head.to_json()) == head
    params = np.zeros((5, head.size), np.float32)
    drawn = head.draw(params, rng=np.random.default_rng(0))
    assert drawn.proposed.shape == (5, head.action_size)
    assert head.mode(params).shape == (5, head.action_size)
    assert drawn.propensity.dtype == head.log_prob(params, drawn.proposed).dtype == np.float64


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "quantum"},
        {"type": "categorical", "n": 0},
        {"type": "categorical", "n": 2, "more": 1},
        {"type": "multi_categorical", "nvec": ["2"]},
        {"type": "uniform_box", "low": [1.0], "high": [1.0]},
    ],
)
def test_json_of_no_head_is_refused(body):
    with pytest.raises(InvalidInput, match="not a head"):
        heads.from_json(body)


def test_each_action_space_has_its_head():
    assert heads.for_action_space(gs.Discrete(4, start=2)) == heads.Categorical(n=4)
    assert heads.for_action_space(gs.MultiDiscrete([2, 5])) == heads.MultiCategorical(nvec=(2, 5))
    assert heads.for_action_space(gs.Box(-1, 1, (2, 3))) == heads.DiagonalGaussian(entries=6)
    with pytest.raises(NotBuilt):
        heads.for_action_space(gs.MultiBinary(3))


@pytest.mark.parametrize(
    ("head", "space"),
    [
        (heads.Categorical(n=3), gs.Discrete(2)),
        (heads.Categorical(n=3), gs.Box(-1, 1, (3,))),
        (heads.MultiCategorical(nvec=(2, 3)), gs.MultiDiscrete([3, 2])),
        (heads.DiagonalGaussian(entries=1), gs.Discrete(2)),
        (heads.DiagonalGaussian(entries=2), gs.Box(-1, 1, (3,))),
        (heads.Point(entries=2), gs.Discrete(2)),
    ],
)
def test_a_head_of_another_action_space_is_refused(head, space):
    with pytest.raises(InvalidInput, match="head and action space"):
        heads.check(head, action_space=space)
