"""Off-policy estimates: closed forms of a two-armed bandit, coverage, the rules of support, and probabilities of a target."""

import itertools
import math

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.evaluation import off_policy, targets
from rlaas_ray.policies import bundle
from rlaas_ray.testing.bundles import a_bundle

# The two-armed bandit: logged with (0.8, 0.2), target (0.3, 0.7), Bernoulli means (0.4, 0.6).
LOGGED, TARGET, MEANS = np.array([0.8, 0.2]), np.array([0.3, 0.7]), np.array([0.4, 0.6])
VALUE = 0.54


def two_arms(rng, n):
    action = (rng.random(n) < LOGGED[1]).astype(int)
    reward = (rng.random(n) < MEANS[action]).astype(float)
    return reward, LOGGED[action], TARGET[action]


def rare(rng, *, n, chances, rates):
    """Rows of a policy as uneven as Thompson sampling; the target is uniform."""
    chance = chances[rng.integers(0, len(chances), n)]
    action = (rng.random(n)[:, None] > chance.cumsum(axis=1)).sum(axis=1).clip(0, len(rates) - 1)
    reward = (rng.random(n) < rates[action]).astype(float)
    return reward, chance[np.arange(n), action], np.full(n, 1 / len(rates))


def test_ipw_is_unbiased_over_every_log_of_two_rows():
    expected = 0.0
    for row in itertools.product(itertools.product((0, 1), (0.0, 1.0)), repeat=2):
        action, reward = np.array([a for a, _ in row]), np.array([r for _, r in row])
        chance = np.prod(LOGGED[action] * np.where(reward == 1, MEANS[action], 1 - MEANS[action]))
        weight = off_policy.weights(TARGET[action], propensity=LOGGED[action])
        expected += chance * off_policy.ipw(reward, weight=weight)
    assert expected == pytest.approx(VALUE, abs=1e-12)


def test_estimates_of_the_two_armed_bandit_agree_with_its_closed_form():
    n = 200_000
    reward, propensity, target = two_arms(np.random.default_rng(1), n)
    found = off_policy.estimate(reward, propensity=propensity, target=target)
    error = math.sqrt(1.2234 / n)  # E[w^2 r] - V^2 = 0.8 * 0.375^2 * 0.4 + 0.2 * 3.5^2 * 0.6 - 0.54^2
    assert abs(found.ipw - VALUE) < 4 * error
    assert abs(found.snipw - VALUE) < 4 * error
    assert found.diagnostics.ess_fraction == pytest.approx(1 / 2.5625, rel=0.02)
    assert found.diagnostics.max_weight == pytest.approx(3.5)
    assert found.logged.mean == pytest.approx(0.44, abs=0.005)
    assert (found.support, found.reasons) == ("ok", ())


def test_a_target_that_is_the_logging_policy_earns_what_was_logged():
    reward, propensity, _ = two_arms(np.random.default_rng(2), 500)
    found = off_policy.estimate(reward, propensity=propensity, target=propensity)
    assert found.ipw == pytest.approx(reward.mean(), abs=1e-12)
    assert found.snipw == pytest.approx(reward.mean(), abs=1e-12)
    assert found.diagnostics.ess == pytest.approx(500)
    assert found.interval == found.logged


def test_an_estimate_of_three_rows_by_hand():
    reward, weight = np.array([1.0, 0.0, 1.0]), np.array([2.0, 1.0, 0.5])
    assert off_policy.ipw(reward, weight=weight) == pytest.approx(2.5 / 3)
    assert off_policy.snipw(reward, weight=weight) == pytest.approx(2.5 / 3.5)
    assert off_policy.effective_sample_size(weight) == pytest.approx(3.5**2 / 5.25)
    # without the first row 1/3, without the second 1, without the third 2/3; all together 5/7
    assert off_policy.diagnose(reward, weight=weight).leverage == pytest.approx(5 / 7 - 1 / 3)


@pytest.mark.parametrize(("hits", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)])
def test_wilsons_interval_is_the_one_of_newcombes_table(hits, n, low, high):
    # Newcombe 1998, table I, method 3
    found = off_policy._wilson(hits / n, ess=n, bounds=(0.0, 1.0), z=1.959964)
    assert found == pytest.approx((low, high), abs=5e-5)
    scaled = off_policy._wilson(10 * hits / n - 4, ess=n, bounds=(-4.0, 6.0), z=1.959964)
    assert scaled == pytest.approx((10 * low - 4, 10 * high - 4), abs=5e-4)


def test_the_interval_covers_the_two_armed_bandit_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = {None: 0, (0.0, 1.0): 0}
    for _ in range(1000):
        reward, propensity, target = two_arms(rng, 1000)
        weight = off_policy.weights(target, propensity=propensity)
        for bounds in covered:
            found, kind = off_policy.interval(reward, weight=weight, bounds=bounds)
            assert kind == ("delta" if bounds is None else "wilson and delta")
            covered[bounds] += found.low <= VALUE <= found.high
    assert abs(covered[None] / 1000 - 0.95) <= 4 * math.sqrt(0.95 * 0.05 / 1000)
    assert covered[0.0, 1.0] / 1000 >= 0.94  # conservative: bounds are never narrower


@pytest.mark.parametrize(("evenness", "rate", "spread"), [(0.3, 0.004, 0.0), (0.3, 0.004, 0.7), (0.15, 0.3, 0.5)])
def test_the_interval_is_honest_where_rewards_are_rare_and_weights_uneven(evenness, rate, spread):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(80)
    rates = np.clip(rate * np.exp(spread * noise - spread**2 / 2), 0, 1)
    chances = np.maximum(rng.dirichlet(evenness * rates / rates.mean(), size=500), 4.5e-5)
    chances /= chances.sum(axis=1, keepdims=True)
    honest = delta = 0
    for _ in range(100):
        reward, propensity, target = rare(rng, n=4000, chances=chances, rates=rates)
        weight = off_policy.weights(target, propensity=propensity)
        found, _ = off_policy.interval(reward, weight=weight, bounds=(0.0, 1.0))
        honest += found.low <= rates.mean() <= found.high
        found, _ = off_policy.interval(reward, weight=weight, bounds=None)
        delta += found.low <= rates.mean() <= found.high
    assert honest >= 93
    if rate < 0.01:
        assert delta < 75  # why the interval is not delta's alone


def test_each_end_of_the_interval_is_the_further_one_of_two():
    rng = np.random.default_rng(8)
    wider = set()
    for _ in range(200):
        heavy = rng.random(300) < 0.1
        weight = np.where(heavy, 5.0, 0.2)
        reward = (rng.random(300) < np.where(heavy, *rng.random(2))).astype(float)
        found, _ = off_policy.interval(reward, weight=weight, bounds=(0.0, 1.0))
        delta, _ = off_policy.interval(reward, weight=weight, bounds=None)
        ess = off_policy.effective_sample_size(weight)
        wilson = off_policy._wilson(found.mean, ess=ess, bounds=(0.0, 1.0), z=1.959963984540054)
        assert found.low == pytest.approx(max(min(delta.low, wilson[0]), 0.0))
        assert found.high == pytest.approx(min(max(delta.high, wilson[1]), 1.0))
        wider |= {("low", 0 < delta.low < wilson[0]), ("high", wilson[1] < delta.high < 1)}
    assert {("low", True), ("low", False), ("high", True), ("high", False)} == wider


def test_bounds_are_known_where_rewards_are_zero_or_one():
    ones, half = np.ones(200), np.full(200, 0.5)
    assert off_policy.estimate(ones, propensity=half, target=half).interval_kind == "wilson and delta"
    other = off_policy.estimate(3 * ones, propensity=half, target=half)
    assert other.interval_kind == "delta"
    assert "bounds are unknown" in off_policy.notes(other)[-1]
    assert off_policy.estimate(3 * ones, propensity=half, target=half, bounds=(0, 5)).interval.high < 5
    with pytest.raises(InvalidInput, match="bounds of the reward"):
        off_policy.estimate(3 * ones, propensity=half, target=half, bounds=(0, 2))


# --- support ----------------------------------------------------------------------------------------------------------


def judged(reward, propensity, target, **more):
    return off_policy.estimate(np.asarray(reward), propensity=np.asarray(propensity), target=np.asarray(target), **more)


def test_too_few_rows_are_no_data():
    found = judged(*two_arms(np.random.default_rng(0), 99))
    assert found.support == "insufficient data"
    assert any("99 rows" in reason for reason in found.reasons)


def test_one_heavy_row_is_no_overlap():
    reward, propensity = np.tile([0.0, 1.0], 500), np.full(1000, 0.5)
    propensity[0] = 1e-6
    found = judged(reward, propensity, np.full(1000, 0.5))
    assert found.support == "insufficient overlap"
    assert found.diagnostics.ess < 2
    assert any("one row holds" in reason for reason in found.reasons)
    assert any("effective sample size" in reason for reason in found.reasons)


def test_wrong_probabilities_show_in_the_mean_weight():
    reward, propensity, target = two_arms(np.random.default_rng(4), 2000)
    found = judged(reward, np.minimum(1.3 * propensity, 1.0), target)
    assert found.support == "insufficient overlap"
    assert any("mean weight" in reason for reason in found.reasons)


def test_actions_that_were_never_taken_show_in_the_mean_weight():
    # The target gives half to an action that the log's policy could not take.
    found = judged(np.tile([0.0, 1.0], 200), np.full(400, 0.5), np.full(400, 0.25))
    assert found.support == "insufficient overlap"
    assert math.isinf(found.diagnostics.mean_weight_z)


def test_a_deterministic_log_says_nothing_of_another_policy():
    reward, target = np.tile([0.0, 1.0], 200), np.tile([1.0, 1.0, 0.0, 0.0], 100)
    assert any("deterministic" in reason for reason in judged(reward, np.ones(400), target).reasons)
    assert judged(reward, np.ones(400), np.ones(400)).support == "ok"


def test_a_target_that_never_acts_like_the_log_has_no_value():
    found = judged(np.ones(400), np.full(400, 0.5), np.zeros(400))
    assert found.support == "insufficient overlap"
    assert found.to_json()["snipw"]["mean"] is None
    assert (found.interval.low, found.interval.high) == (0.0, 1.0)


def test_rewards_that_are_still_open_are_rarely_random():
    rows = two_arms(np.random.default_rng(5), 1000)
    assert judged(*rows, unrewarded=50).support == "ok"
    found = judged(*rows, unrewarded=200)
    assert (found.support, len(found.reasons)) == ("insufficient data", 1)
    assert "17%" in found.reasons[0]


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, math.nan, math.inf])
def test_what_is_no_propensity_is_refused(bad):
    with pytest.raises(InvalidInput, match="row 2"):
        off_policy.weights(np.full(4, 0.5), propensity=np.array([0.5, 1.0, bad, 0.5]))


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan])
def test_what_is_no_target_is_refused(bad):
    with pytest.raises(InvalidInput, match="target of logged actions"):
        off_policy.weights(np.array([0.5, bad]), propensity=np.full(2, 0.5))


def test_rewards_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidInput, match="rewards"):
        judged([1.0, math.nan], [0.5, 0.5], [0.5, 0.5])
    with pytest.raises(InvalidInput, match="rewards"):
        judged([], [], [])


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-6, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=40))
def test_any_rows_give_an_estimate_inside_the_range_of_rewards(rows):
    reward, propensity, target = (np.array(column) for column in zip(*rows, strict=True))
    found = off_policy.estimate(reward, propensity=propensity, target=target, bounds=(-1e3, 1e3))
    assert -1e3 <= found.interval.low <= found.interval.high <= 1e3
    if math.isfinite(found.snipw):
        slack = 1e-9 * (1 + np.abs(reward).max())
        assert reward.min() - slack <= found.snipw <= reward.max() + slack
        assert found.diagnostics.ess <= len(reward) * (1 + 1e-9)
    assert found.support != "ok"  # too few rows, whatever they hold


@pytest.mark.parametrize(
    ("own", "words"),
    [(0.54, "covers the on-policy mean"), (0.35, "contradict each other")],
)
def test_what_the_target_earned_itself_stands_beside(own, words):
    estimate = judged(*two_arms(np.random.default_rng(6), 20_000))
    played = (np.random.default_rng(7).random(20_000) < own).astype(float)
    assert words in off_policy.on_policy(played, estimate=estimate).note


def test_nothing_is_said_beside_an_estimate_that_is_none():
    estimate = judged(*two_arms(np.random.default_rng(6), 50))
    assert "nothing is said" in off_policy.on_policy(np.tile([0.0, 1.0], 50), estimate=estimate).note


# --- the target's probabilities ---------------------------------------------------------------------------------------


def test_uniform_is_over_the_allowed_actions():
    mask = np.array([[True, True, True], [True, False, True], [True, False, True]])
    found = targets.uniform(mask, proposed=np.array([[2.0], [0.0], [1.0]]))
    assert found.tolist() == [1 / 3, 1 / 2, 0.0]


@pytest.mark.parametrize("proposed", [[[3.0]], [[-1.0]], [[0.5]], [[math.nan]], [[0.0, 1.0]]])
def test_actions_that_the_target_has_not_are_refused(proposed):
    with pytest.raises(InvalidInput, match="logged actions"):
        targets.uniform(np.ones((1, 3), dtype=np.bool_), proposed=np.array(proposed))


@pytest.mark.slow  # writing a learned bundle certifies its engines
def test_a_learned_policys_probabilities_are_those_that_it_logs(tmp_path):
    a_bundle(tmp_path / "p", width=3, actions=4)
    policy = bundle.load(tmp_path / "p")
    seen = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    mask = np.ones((200, 4), dtype=np.bool_)
    mask[::2, 1] = False
    for allowed in (None, mask):
        drawn = policy.decide(seen, rng=np.random.default_rng(1), mask=allowed)
        found = targets.probabilities(policy, observations=seen, proposed=drawn.action_proposed, mask=allowed)
        assert found == pytest.approx(drawn.propensity, rel=1e-6)
    policy.serving = "greedy"
    drawn = policy.decide(seen, rng=np.random.default_rng(1))
    assert targets.probabilities(policy, observations=seen, proposed=drawn.action_proposed).tolist() == [1.0] * 200
    other = (drawn.action_proposed + 1) % 4
    assert targets.probabilities(policy, observations=seen, proposed=other).tolist() == [0.0] * 200
    with pytest.raises(InvalidInput, match="policy and log"):
        targets.probabilities(policy, observations=seen[:, :2], proposed=drawn.action_proposed)


def builtin_of(folder, action_space):
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    bundle.write_builtin(
        folder, env="E-v0", name="random", parameters={}, observation_space=box, action_space=action_space
    )
    return bundle.load(folder)


def test_joint_choices_have_the_product_of_their_probabilities(tmp_path):
    policy = builtin_of(tmp_path / "b", spaces.MultiDiscrete([2, 3]))
    found = targets.probabilities(
        policy, observations=np.zeros((2, 2), np.float32), proposed=np.array([[0, 2], [1, 1.0]])
    )
    assert found == pytest.approx([1 / 6, 1 / 6])


def test_actions_that_cannot_be_counted_are_refused(tmp_path):
    policy = builtin_of(tmp_path / "b", spaces.Box(-1, 1, (2,), np.float32))
    with pytest.raises(NotBuilt, match="cannot be counted"):
        targets.probabilities(policy, observations=np.zeros((1, 2), np.float32), proposed=np.zeros((1, 2)))
