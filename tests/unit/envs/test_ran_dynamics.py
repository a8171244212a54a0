"""Settings, events, modes, costs and observations of RanControl; what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.envs import philox, registry
from rlaas_ray.envs.ran import dynamics, env, layout, measures, pool
from rlaas_ray.errors import InvalidInput


def _start(mode="normal", *, count=3, seed=0, **config):
    params, streams = dynamics.params(mode, **config), philox.streams(seed, num_envs=count)
    return params, streams, dynamics.reset_batch(params, streams)[0]


def _action(count, *, power=0.0, tilt=0.0, fairness=0.0, cio=0.0):
    action = np.zeros((count, 21, 4), np.float32)
    action[..., 0], action[..., 1], action[..., 2], action[..., 3] = power, tilt, fairness, cio
    return action.reshape(count, -1)


def test_actions_step_power_and_tilt_and_set_fairness_and_offset():
    params, streams, state = _start()
    after, *_ = dynamics.step_batch(params, state, _action(3, power=-0.5, tilt=0.25, fairness=0.5, cio=-1), streams)
    assert (after["power"] == 44.0).all()
    assert (after["tilt"] == 6.25).all()
    assert (after["fairness"] == 0.5).all()
    assert (after["cio"] == -6.0).all()


def test_the_step_is_pure():
    params, streams, state = _start("emergency")
    before = {name: value.copy() for name, value in state.items()}
    dynamics.step_batch(params, state, _action(3, power=-1), streams)
    assert all(np.array_equal(before[name], state[name]) for name in state)


def test_a_cell_at_30_dbm_sleeps_keeps_its_settings_and_wakes_at_40_above_one_half():
    params, streams, state = _start()
    for _ in range(4):
        state, *_ = dynamics.step_batch(params, state, _action(3, power=-1, tilt=0.5), streams)
    assert (state["power"] == 30.0).all()
    kept = state["tilt"].copy()
    state, seen, _reward, cost, _, _, info = dynamics.step_batch(params, state, _action(3, power=0.5, tilt=1), streams)
    assert (state["power"] == 30.0).all()
    assert np.array_equal(state["tilt"], kept)
    assert info["objectives"][:, 2] == pytest.approx(np.full(3, 3150.0))
    assert (cost[:, 0] == 1.0).all()
    assert (seen[:, : measures.HOUR].reshape(3, 21, 13)[..., 10] == 1).all()
    state, *_, info = dynamics.step_batch(params, state, _action(3, power=0.51, tilt=1), streams)
    assert (state["power"] == 40.0).all()
    assert info["objectives"][:, 3].min() > 0.3


def test_settings_stop_at_their_ends():
    params, streams, state = _start()
    for _ in range(12):
        state, *_ = dynamics.step_batch(params, state, _action(3, power=1, tilt=1), streams)
    assert (state["power"] == 46.0).all()
    assert (state["tilt"] == 15.0).all()


@given(st.lists(st.floats(width=32), min_size=84, max_size=84))
@settings(max_examples=40, deadline=None)
def test_any_finite_action_is_clipped_and_any_other_is_refused_before_anything_moves(numbers):
    worlds = registry.make(registry.RAN)
    worlds.reset(seed=0)
    action = np.asarray(numbers, np.float32)
    if np.isfinite(action).all():
        seen, reward, *_ = worlds.step(action)
        assert np.isfinite(seen).all()
        assert 0.0 <= reward <= 1.0
        return
    with pytest.raises(InvalidInput, match="finite"):
        worlds.step(action)
    fresh = registry.make(registry.RAN)
    fresh.reset(seed=0)
    still = np.zeros(84, np.float32)
    assert np.array_equal(worlds.step(still)[0], fresh.step(still)[0])


@pytest.mark.parametrize("action", [np.zeros(83), np.zeros((84, 1)), np.array(["a"] * 84), np.zeros(0)])
def test_actions_of_another_shape_are_refused(action):
    worlds = registry.make(registry.RAN)
    worlds.reset(seed=0)
    with pytest.raises(InvalidInput, match="RanControl"):
        worlds.step(action)


def test_the_discrete_form_has_the_same_effect_as_its_values():
    one, other = registry.make(registry.RAN, config={"action": "discrete"}), registry.make(registry.RAN)
    one.reset(seed=4)
    other.reset(seed=4)
    index = np.tile([1, 2, 0, 1], 21)
    value = np.tile([-0.5, 1.0, -1.0, 0.0], 21).astype(np.float32)
    assert one.step(index)[1] == other.step(value)[1]
    for bad in (np.full(84, 5), np.full(84, -1), np.zeros(84)):
        with pytest.raises(InvalidInput, match="RanControl"):
            one.step(bad)


@pytest.mark.parametrize("weights", [(1, 0, 0), (0.5, 0.5, 0.5, -0.5), (0.3, 0.3, 0.3, 0.3), (np.nan, 0, 0, 1)])
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(InvalidInput, match="weights"):
        registry.make(registry.RAN, weights=weights)


@pytest.mark.parametrize("config", [{"mode": "turbo"}, {"episode_length": 0}, {"episode_length": 2.5}, {"nonsense": 1}])
def test_configurations_that_mean_nothing_are_refused(config):
    with pytest.raises(InvalidInput):
        registry.make(registry.RAN, config=config)


def test_own_weights_override_the_mode_and_objectives_do_not_depend_on_them():
    mine, mode = registry.make(registry.RAN, weights=(0, 0, 1, 0)), registry.make(registry.RAN)
    mine.reset(seed=1)
    mode.reset(seed=1)
    still = np.zeros(84, np.float32)
    first, second = mine.step(still), mode.step(still)
    assert np.array_equal(first[4]["objectives"], second[4]["objectives"])
    assert first[1] == pytest.approx(first[4]["normalised"][2])
    assert second[1] == pytest.approx(second[4]["normalised"].mean())


def test_emergency_takes_one_site_off_the_air_for_24_steps_and_triples_a_hotspot_near_it():
    params, streams, state = _start("emergency", count=40)
    out_steps = np.zeros(40, int)
    surge = [[] for _ in range(40)]
    for _ in range(96):
        out = dynamics.forced_out(state)
        state, seen, _, _, _, _, info = dynamics.step_batch(params, state, _action(40), streams)
        out_steps += out.any(axis=1)
        cells = seen[:, : measures.HOUR].reshape(40, 21, 13)
        assert np.array_equal(cells[..., 11] == 1, out)
        assert (cells[..., 5][out] == 0).all()  # nobody is attached to a cell that is out
        assert info["power_w"][out] == pytest.approx(np.full(out.sum(), 150.0))
        ratio = info["demand"] / state["base"] / params.profile[info["hour"]][:, None]
        for row in np.flatnonzero(out.any(axis=1)):
            surge[row].append(ratio[row, dynamics._SURGE_SLOTS].mean() / ratio[row].mean())
    assert (out_steps == 24).all()
    assert (out.sum(axis=1) <= 3).all()
    expected = 3 / ((3 * 32 + 178) / 210)
    assert np.mean([np.mean(row) for row in surge]) == pytest.approx(expected, rel=0.02)


def test_the_surging_hotspot_is_within_half_a_site_distance():
    params, streams, state = _start("emergency", count=8)
    net = layout.network()
    centres = layout.uniform_points(
        net, philox.uniforms(pool._SEED, purpose=pool._PURPOSE_CENTRE, shape=(pool.CENTRES, 13))
    )
    distance = layout.links(net, centres).distance_m
    for _ in range(70):
        state, *_ = dynamics.step_batch(params, state, _action(8), streams)
        rows = np.flatnonzero(dynamics.forced_out(state).any(axis=1) & (state["step"] > state["outage_start"]))
        assert (distance[state["hotspot"][rows, 0], state["outage_site"][rows]] <= 250.0).all()


def test_ten_users_are_new_each_step_and_all_after_21():
    params, streams, state = _start()
    first = state["base"].copy()
    state, *_ = dynamics.step_batch(params, state, _action(3), streams)
    assert ((state["base"] != first).sum(axis=1) == 10).all()
    for _ in range(20):
        state, *_ = dynamics.step_batch(params, state, _action(3), streams)
    assert (state["base"] != first).all()


def test_user_classes_and_demand_have_the_stated_shares():
    params, _, state = _start(count=200)
    assert state["priority"].mean() == pytest.approx(0.1, abs=0.007)
    assert [(state["tariff"] == k).mean() for k in (1, 2, 4)] == pytest.approx([0.6, 0.3, 0.1], abs=0.012)
    assert state["base"].mean() == pytest.approx(1.5, rel=0.03)
    assert params.noise.mean() == pytest.approx(1.0, abs=1e-3)
    assert params.noise.astype(float).var() == pytest.approx(np.exp(0.09) - 1, rel=0.01)
    assert dynamics.demand_profile(np.array([5.0, 17.0])) == pytest.approx([0.16, 1.0])


def test_hysteresis_keeps_users_where_they_are_for_small_offsets():
    params, streams, state = _start(count=8)
    *_, small, _, _, _ = dynamics.step_batch(params, state, _action(8), streams)
    assert (small[:, 3] == 0).all()  # nothing changed, nobody moves
    offset = np.zeros((8, 21, 4), np.float32)
    offset[:, ::2, 3] = 0.15  # 0.9 dB, below the 2 dB
    *_, cost, _, _, _ = dynamics.step_batch(params, state, offset.reshape(8, -1), streams)
    assert (cost[:, 3] == 0).all()
    offset[:, ::2, 3] = 1.0
    *_, cost, _, _, _ = dynamics.step_batch(params, state, offset.reshape(8, -1), streams)
    assert (cost[:, 3] > 0).all()


def test_observations_stay_in_their_space_and_covariates_are_their_summary():
    worlds = registry.make_vector(registry.RAN, num_envs=4, seed=0)
    worlds.action_space.seed(0)
    seen, _ = worlds.reset()
    for _ in range(40):
        assert worlds.observation_space.contains(seen)
        seen, *_ = worlds.step(worlds.action_space.sample())
    found = dynamics.covariates(seen)
    assert found.shape == (4, 23)
    assert found.dtype == np.float64
    assert found[:, :4] == pytest.approx(seen[:, 279:])
    assert found[:, 4:8] == pytest.approx(seen[:, 279:].astype(float) ** 2)
    assert found[:, 8:10] == pytest.approx(seen[:, 273:275])
    assert found[:, 10:] == pytest.approx(seen[:, :273].reshape(4, 21, 13).mean(axis=1), abs=1e-6)
    with pytest.raises(InvalidInput, match="observations"):
        dynamics.covariates(seen[:, :10])


def test_per_cell_view_shows_each_cell_and_its_six_neighbours():
    worlds = registry.make_vector(registry.RAN, num_envs=2, seed=0)
    seen, _ = worlds.reset()
    found = env.per_cell_view(seen)
    assert found.shape == (2, 21, 37)
    cells = seen[:, :273].reshape(2, 21, 13)
    assert np.array_equal(found[..., :13], cells)
    assert np.array_equal(found[:, 5, 13:17], cells[:, env.neighbours()[5, 0]][:, [0, 4, 5, 8]])


def test_an_eight_step_episode_starts_from_holds_settings_at_any_hour():
    worlds = registry.make_vector(registry.RAN, num_envs=64, seed=0, config={"episode_length": 8})
    seen, _ = worlds.reset()
    cells = seen[:, :273].reshape(64, 21, 13)
    assert cells[..., 0] == pytest.approx(np.ones((64, 21)))
    assert cells[..., 1] == pytest.approx(np.full((64, 21), -0.2))
    hours = np.round(np.degrees(np.arctan2(seen[:, 273], seen[:, 274])) % 360 / 3.75).astype(int) % 96
    assert len(set(hours)) > 32
    for step in range(8):
        _, _, _, cut, _ = worlds.step(np.zeros((64, 84), np.float32))
        assert cut.all() == (step == 7)


def test_costs_are_named_and_limited():
    made = registry.make(registry.RAN)
    assert made.metadata["costs"] == ["coverage", "latency", "priority", "handover"]
    assert made.metadata["cost_limits"] == [0.02, 0.0, 0.05, 0.10]
    assert [name for name, _, _ in made.metadata["objectives"]] == ["latency_p95", "throughput", "energy", "satisfied"]


@pytest.mark.slow
def test_the_micro_scenario_is_the_same_code_with_the_other_column():
    made = registry.make(registry.RAN, config={"scenario": "UMi"})
    made.reset(seed=0)
    seen, reward, *_ = made.step(np.zeros(84, np.float32))
    assert np.isfinite(seen).all()
    assert 0.3 < reward < 1.0
    assert pool.pool(made.unwrapped.domain.params.scenario).theta_deg.max() < 45.0  # 10 m mast, 10 m away
    with pytest.raises(InvalidInput, match="UMa or UMi"):
        registry.make(registry.RAN, config={"scenario": "rural"})
