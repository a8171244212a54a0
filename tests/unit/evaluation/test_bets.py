"""The bets: published vectors, fair under the null, finite always."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rlaas_ray.evaluation import bets

SHARES = st.floats(1e-4, 1 - 1e-4)


def test_failure_wealth_is_the_published_one() -> None:
    odds = bets.EventOdds()
    seen = []
    for letter in "ccbcc":
        odds.bet(challenger=letter == "c", share=0.1)
        seen.append(math.exp(odds.log_e))
    assert seen == pytest.approx([4.0123, 22.8667, 7.7967, 42.1081, 272.1858], abs=5e-5)


def test_reward_wealth_is_the_published_one() -> None:
    tilt = bets.RewardTilt()
    seen = []
    for label, u in [(1, -1), (0, 0.5), (1, -2), (1, -3), (0, 1), (1, -2.5)]:
        tilt.bet(u, challenger=bool(label), share=0.1)
        seen.append(math.exp(tilt.log_e))
    assert seen == pytest.approx([2.4063, 2.5185, 14.4581, 123.8168, 134.7944, 1168.6829], abs=5e-5)


def test_promotion_wealth_is_the_published_one() -> None:
    effect = bets.MeanEffect()
    seen = []
    for label, y in [(1, 0.8), (0, 0.6), (0, 0.75), (1, 0.9), (0, 0.7)]:
        effect.bet(y, challenger=bool(label), share=0.1, baseline=0.7, spread=0.15, margin=0.014)
        seen.append(math.exp(effect.log_non_inferior))
    assert seen == pytest.approx([1.056740, 1.073738, 1.068001, 1.344552, 1.346973], abs=1e-6)


@pytest.mark.parametrize("order", ["first", "last", "mixed"])
def test_sample_ratio_is_the_published_one_in_any_order(order: str) -> None:
    labels = {"first": [1] * 60 + [0] * 940, "last": [0] * 940 + [1] * 60, "mixed": None}[order]
    if labels is None:
        labels = list(np.random.default_rng(1).permutation([1] * 60 + [0] * 940))
    ratio = bets.SampleRatio()
    for label in labels:
        ratio.bet(challenger=bool(label), share=0.1)
    assert math.exp(ratio.log_e) == pytest.approx(3492.8, abs=0.05)
    z = (60 - 100) / math.sqrt(90)
    assert ratio.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)))


def factor(bet, state: str, *, share: float, before: list[tuple[bool, float]], **given) -> float:
    """The expected factor of one more bet when the label is Bernoulli(share), after some others."""
    total = 0.0
    for label, chance in ((True, share), (False, 1.0 - share)):
        process = bet()
        for past, past_share in before:
            process.bet(challenger=past, share=past_share, **given)
        start = getattr(process, state)
        process.bet(challenger=label, share=share, **given)
        total += chance * math.exp(getattr(process, state) - start)
    return total


BEFORE = st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), max_size=5)


@hypothesis.settings(deadline=None)
@hypothesis.given(SHARES, st.floats(-10, 10), BEFORE)
def test_the_reward_bet_is_fair_whatever_the_outcome(share: float, u: float, before: list) -> None:
    class Fixed(bets.RewardTilt):
        def bet(self, *, challenger: bool, share: float) -> None:
            super().bet(u, challenger=challenger, share=share)

    assert factor(Fixed, "log_e", share=share, before=before) == pytest.approx(1.0, abs=1e-9)


@hypothesis.settings(deadline=None)
@hypothesis.given(SHARES, BEFORE)
def test_the_event_bet_is_fair(share: float, before: list) -> None:
    assert factor(bets.EventOdds, "log_e", share=share, before=before) == pytest.approx(1.0, abs=1e-9)


@hypothesis.settings(deadline=None)
@hypothesis.given(SHARES, BEFORE)
def test_the_split_bet_is_fair(share: float, before: list) -> None:
    assert factor(bets.SampleRatio, "log_e", share=share, before=before) == pytest.approx(1.0, abs=1e-9)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1), st.floats(1e-3, 1), st.floats(0, 0.2), BEFORE
)
def test_the_superiority_bet_is_fair_and_the_margin_costs_what_it_should(
    share: float, y: float, baseline: float, spread: float, margin: float, before: list
) -> None:
    given = {"y": y, "baseline": baseline, "spread": spread, "margin": margin}

    class Effect(bets.MeanEffect):
        def bet(self, *, challenger: bool, share: float, y: float, **given) -> None:
            super().bet(y, challenger=challenger, share=share, **given)

    assert factor(Effect, "log_superior", share=share, before=before, **given) == pytest.approx(1.0, abs=1e-9)
    assert factor(Effect, "log_non_inferior", share=share, before=before, **given) >= 1.0 - 1e-9
    # At the boundary, where the challenger's outcome is lower by the margin, the bet is fair as well.
    if y + margin <= 1.0:
        total = 0.0
        for label, chance in ((True, share), (False, 1.0 - share)):
            process = Effect()
            process.bet(challenger=label, share=share, **(given | {"y": y if label else y + margin}))
            total += chance * math.exp(process.log_non_inferior)
        assert total == pytest.approx(1.0, abs=1e-9)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.tuples(st.booleans(), SHARES, st.floats(0, 1)), max_size=40))
def test_nothing_ever_leaves_the_finite_numbers(rows: list) -> None:
    effect, ratio, tilt, odds, baseline = (
        bets.MeanEffect(),
        bets.SampleRatio(),
        bets.RewardTilt(),
        bets.EventOdds(),
        bets.Baseline(),
    )
    for label, share, y in rows:
        location, spread = baseline.predict(0.0), baseline.spread
        assert 0.0 <= location <= 1.0
        tilt.bet((y - location) / spread, challenger=label, share=share)
        effect.bet(y, challenger=label, share=share, baseline=location, spread=spread, margin=0.01)
        ratio.bet(challenger=label, share=share)
        odds.bet(challenger=label, share=share)
        baseline.observe(y, prediction=0.0)
    logs = [effect.log_non_inferior, effect.log_superior, ratio.log_e, tilt.log_e, odds.log_e]
    assert all(map(math.isfinite, logs))
    assert effect.estimate() is None or all(map(math.isfinite, effect.estimate()))


def test_a_hundred_thousand_failures_of_one_arm_do_not_overflow() -> None:
    odds = bets.EventOdds()
    for _ in range(100_000):
        odds.bet(challenger=True, share=0.01)
    # The odds ratio of 50 carries it: 50 / (0.01 * 50 + 0.99) each time, a fifth of the mixture.
    assert odds.log_e == pytest.approx(100_000 * math.log(50 / 1.49) - math.log(5))


def test_the_interval_covers_the_effect_at_its_rate() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        effect = bets.MeanEffect()
        for share in (0.1, 0.5):
            for label in rng.random(150) < share:
                y = 0.6 + 0.05 * label + 0.1 * rng.standard_normal()
                effect.bet(min(max(y, 0), 1), challenger=bool(label), share=share, baseline=0.6, spread=0.1, margin=0.0)
        _, low, high = effect.estimate()
        hits += low <= 0.05 <= high
    assert 0.91 < hits / 300 < 0.99


def test_the_latency_limit_follows_the_champions_quantile() -> None:
    limit = bets.LatencyLimit(floor_us=0.0)
    rng = np.random.default_rng(3)
    assert not limit.slow(10**9)
    values = np.exp(rng.normal(9.0, 0.3, 20_000)).astype(int).tolist()
    for value in values:
        limit.observe(value)
    quantile = float(np.quantile(values, 0.95))
    assert limit.slow(round(1.2 * quantile * 1.1))
    assert not limit.slow(round(1.2 * quantile * 0.9))


def test_nothing_under_the_floor_is_slow() -> None:
    limit = bets.LatencyLimit(floor_us=5_000.0)
    for _ in range(200):
        limit.observe(10)
    assert not limit.slow(4_900)
    assert limit.slow(5_100)


def test_the_baseline_is_a_plain_mean_first_and_forgets_later() -> None:
    baseline = bets.Baseline()
    values = np.random.default_rng(0).random(100)
    for y in values:
        baseline.observe(float(y), prediction=0.0)
    assert baseline.level == pytest.approx((0.5 + values.sum()) / 101)
    for _ in range(2_000):
        baseline.observe(0.9, prediction=0.0)
    assert baseline.predict(0.0) == pytest.approx(0.9, abs=0.01)
    assert baseline.spread < 0.05
