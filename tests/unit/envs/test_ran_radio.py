"""Scheduler, load coupling, latency and power against closed forms and published figures."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.envs import philox
from rlaas_ray.envs.ran import dynamics, measures, radio, references, snapshot
from rlaas_ray.errors import NotBuilt


def _fair(rate, cap, *, alpha):
    bins = np.zeros(len(rate), np.int64)
    wanted = np.array([cap.sum()])
    return radio.fair_airtime(rate, cap, bins=bins, wanted=wanted, fairness=np.array([alpha]))


@pytest.mark.parametrize(("alpha", "expected"), [(1.0, (0.5, 0.5)), (2.0, (2 / 3, 1 / 3)), (0.5, (0.2, 0.8))])
def test_full_buffer_airtime_has_its_closed_form(alpha, expected):
    assert _fair(np.array([1.0, 4.0]), np.ones(2), alpha=alpha) == pytest.approx(expected, abs=1e-6)


def _sorted_form(rate, cap, *, alpha):
    """Water filling by sorting on cap / w: the exact answer. Suffix sums, because the weights span many decades."""
    weight = rate ** ((1 - alpha) / alpha)
    order = np.argsort(cap / weight, kind="stable")
    rest = np.cumsum(weight[order][::-1])[::-1]
    left = 1.0 - np.concatenate(([0.0], np.cumsum(cap[order])[:-1]))
    level = left / rest
    first = int(np.argmax(cap[order] > level * weight[order]))  # the first unsaturated user fixes the level
    return np.minimum(cap, level[first] * weight)


def test_the_iteration_without_a_sort_equals_the_sorted_form_in_a_thousand_overloaded_cells():
    rng = np.random.default_rng(0)
    worst, cells = 0.0, 0
    for _ in range(1500):
        count = rng.integers(2, 40)
        rate = 10 ** rng.uniform(-3, 1.9, count)
        cap = np.minimum(rng.exponential(1.5, count) / rate, 1.0)
        if cap.sum() <= 1:
            continue
        cells += 1
        alpha = 4.0 ** rng.uniform(-1, 1)
        found = _fair(rate, cap, alpha=alpha)
        worst = max(worst, float(np.abs(found - _sorted_form(rate, cap, alpha=alpha)).max()))
        assert found.sum() == pytest.approx(1.0, abs=1e-9)
    assert cells > 1000
    assert worst < 1e-12


@given(st.integers(0, 2**32 - 1), st.floats(0.25, 4.0))
@settings(max_examples=60, deadline=None)
def test_airtime_never_exceeds_the_cell_nor_the_demand(seed, alpha):
    rng = np.random.default_rng(seed)
    rate = 10 ** rng.uniform(-3, 1.9, 25)
    cap = np.minimum(rng.exponential(1.0, 25) / rate, 1.0)
    found = _fair(rate, cap, alpha=alpha)
    assert (found <= cap + 1e-15).all()
    assert found.sum() <= 1.0 + 1e-9


def test_proportional_fair_gain_under_rayleigh_is_the_harmonic_number_and_its_rate_the_exponential_integral():
    rng = np.random.default_rng(1)
    fading = rng.exponential(size=(200_000, 16))
    assert fading[:, :4].max(axis=1).mean() == pytest.approx(25 / 12, abs=4 * 1.2 / np.sqrt(200_000))
    for count, expected in ((1, 2.9065), (2, 3.6586), (4, 4.2427), (8, 4.6865), (16, 5.0340)):
        k = np.arange(1, count + 1)
        terms = (-1.0) ** (k + 1) * scipy.special.binom(count, k) * np.exp(k / 10) * scipy.special.exp1(k / 10)
        assert terms.sum() / np.log(2) == pytest.approx(expected, abs=1e-3)
        simulated = np.log2(1 + 10 * fading[:, :count].max(axis=1)).mean()
        assert simulated == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_the_running_mean_scheduler_tends_to_proportional_fairness():
    rng = np.random.default_rng(2)
    rates = np.log2(1 + 10 * rng.exponential(size=(60_000, 4)))
    mean, served = np.full(4, 1.0), 0.0
    for step, rate in enumerate(rates):
        best = int(np.argmax(rate / mean))
        mean *= 1 - 1e-3
        mean[best] += 1e-3 * rate[best]
        served += rate[best] * (step >= 10_000)
    assert served / 50_000 == pytest.approx(4.2386, rel=0.01)


def test_six_watt_figures_are_exact():
    full = np.full((1, 3), 10 * np.log10(40.0) + 30.0)
    none = np.zeros((1, 3), bool)
    site_full = radio.cell_power_w(full, np.ones((1, 3)), asleep=none).sum()
    site_idle = radio.cell_power_w(full, np.zeros((1, 3)), asleep=none).sum()
    site_sleep = radio.cell_power_w(full, np.ones((1, 3)), asleep=~none).sum()
    assert (site_full, site_idle, site_sleep) == pytest.approx((1344.0, 780.0, 450.0))
    assert (7 * site_full, 7 * site_idle, 7 * site_sleep) == pytest.approx((9408.0, 5460.0, 3150.0))
    assert pytest.approx((9408.0, 3150.0)) == (measures.ENERGY_MAX_W, measures.ENERGY_SLEEP_W)
    with pytest.raises(NotBuilt, match="power model"):
        dynamics.params(power_model="tr38864")


def test_rates_are_truncated_shannon_with_a_floor():
    sinr = 10.0 ** (np.array([-11.0, -10.0, 0.0, 40.0]) / 10)
    expected = [0.001, 18.36 * 0.6 * np.log2(1.1), 18.36 * 0.6, 18.36 * 4.4]
    assert radio.rate_mbps(sinr) == pytest.approx(expected)


def test_latency_is_the_file_over_the_rate_when_idle_and_over_the_throughput_when_full():
    rate = np.array([10.0, 10.0, 1e-3])
    found = radio.latency_s(rate, np.array([0.0, 0.25, 0.0]), slack=np.array([1.0, 0.0, 0.0]))
    assert found == pytest.approx([0.05, 0.2, 10.0], rel=1e-5)


def _network(seed, *, hour=50):
    params = dynamics.params("normal")
    state, _, _ = dynamics.reset_batch(params, philox.streams(seed, num_envs=8))
    demand = state["base"] * params.profile[np.full(8, hour)][:, None]
    return state, demand


def _load(state, demand, *, passes, load=0.5):
    cold = np.full((8, 21), load, np.float32)
    return snapshot.evaluate(
        state, dynamics.settings_of(state), demand=demand, load=cold, cell=state["cell"], passes=passes
    ).load


def test_load_is_settled_after_ten_passes_and_near_after_three():
    state, demand = _network(0)
    exact = _load(state, demand, passes=30)
    assert np.abs(_load(state, demand, passes=10) - exact).max() < 1e-3
    assert np.abs(_load(state, demand, passes=3) - exact).max() < 0.05


@given(st.integers(0, 2**31), st.integers(0, 209), st.floats(1.0, 20.0))
@settings(max_examples=15, deadline=None)
def test_load_never_falls_when_a_user_asks_for_more(seed, user, factor):
    state, demand = _network(seed % 50)
    more = demand.copy()
    more[:, user] *= np.float32(factor)
    assert (_load(state, more, passes=10) >= _load(state, demand, passes=10) - 1e-5).all()


@given(st.integers(0, 2**31), st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_load_never_falls_when_another_cell_is_busier(seed, cell):
    state, demand = _network(seed % 50)
    start, busier = np.full((8, 21), 0.3, np.float32), np.full((8, 21), 0.3, np.float32)
    busier[:, cell] = 0.9
    found = [
        snapshot.evaluate(
            state, dynamics.settings_of(state), demand=demand, load=load, cell=state["cell"], passes=1
        ).load
        for load in (start, busier)
    ]
    others = np.arange(21) != cell
    assert (found[1][:, others] >= found[0][:, others] - 1e-6).all()


def test_weighted_p95_is_the_order_statistic_of_the_repeated_users():
    rng = np.random.default_rng(0)
    latency, priority = rng.random((5, 210)).astype(np.float32), rng.random((5, 210)) < 0.1
    found = measures.weighted_p95(latency, priority=priority)
    for row in range(5):
        repeated = np.sort(np.repeat(latency[row], np.where(priority[row], 4, 1)))
        assert found[row] == repeated[int(0.95 * len(repeated)) - 1]


def test_the_bound_is_above_what_any_setting_reaches():
    params = dynamics.params("normal")
    streams = philox.streams(1, num_envs=4)
    state = dynamics.renew(params, dynamics.reset_batch(params, streams)[0], streams=streams)
    above = references.bound(params, state)
    rng = np.random.default_rng(0)
    for _ in range(5):
        power = rng.uniform(30, 46, (4, 21)).astype(np.float32)
        tilt = rng.uniform(0, 15, (4, 21)).astype(np.float32)
        assert (references.value(params, state, power=power, tilt=tilt, load=state["load"]) <= above).all()
