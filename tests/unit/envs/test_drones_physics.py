"""Drones: the published power curve, closed forms of the kinematics, energy accounts, stopping rows."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import minimize_scalar

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import battery, dynamics, env, traffic
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.errors import InvalidInput

PARAMS = DroneParams()

# payload kg: hover W, max-endurance m/s and W, max-range m/s, W and J/m
TABLE = {
    0.0: (168.484, 10.212, 125.991, 18.294, 161.510, 8.8283),
    0.5: (203.000, 11.429, 143.707, 19.212, 180.310, 9.3852),
    1.0: (241.105, 12.531, 163.219, 20.156, 201.576, 10.0007),
    2.0: (326.908, 14.492, 207.045, 22.044, 250.355, 11.3568),
}


@pytest.mark.parametrize("payload", TABLE)
def test_power_is_the_published_table(payload):
    hover, endurance, least_w, far, far_w, per_m = TABLE[payload]
    assert battery.power_w(0.0, payload_kg=payload) == pytest.approx(hover, abs=1e-3)
    slowest = minimize_scalar(lambda v: float(battery.power_w(v, payload_kg=payload)), (5, 12, 20), tol=1e-10)
    assert slowest.x == pytest.approx(endurance, abs=1e-3)
    assert slowest.fun == pytest.approx(least_w, abs=1e-3)
    farthest = minimize_scalar(lambda v: float(battery.power_w(v, payload_kg=payload)) / v, (8, 18, 30), tol=1e-10)
    assert farthest.x == pytest.approx(far, abs=1e-3)
    assert farthest.fun * farthest.x == pytest.approx(far_w, abs=1e-3 * 5)  # W at a speed known to 1e-3 m/s
    assert farthest.fun == pytest.approx(per_m, abs=1e-3)


def test_power_at_the_papers_speeds_and_its_parts():
    wanted = {5: 143.595, 10: 126.017, 15: 138.535, 20: 178.289, 30: 356.280}
    for speed, watts in wanted.items():
        assert battery.power_w(float(speed)) == pytest.approx(watts, abs=1e-3)
    assert pytest.approx(79.8563, abs=1e-4) == battery.BLADE_W
    assert battery.power_w(0.0) - battery.BLADE_W == pytest.approx(88.6279, abs=1e-4)
    assert battery.power_w(0.0, climb_mps=2.0) - battery.power_w(0.0) == pytest.approx(40.0)
    assert battery.power_w(0.0, climb_mps=-2.0) == battery.power_w(0.0)
    step = 1e-4
    slope = (battery.power_w(10.212 + step) - battery.power_w(10.212 - step)) / (2 * step)
    assert abs(slope) < 1e-3
    assert battery.power_w(19.0) < battery.power_w(0.0) < battery.power_w(19.1)


def test_the_induced_root_does_not_cancel():
    speed = np.linspace(0.0, 40.0, 101)
    y = speed**2 * battery.AIR * battery.DISC_M2 / battery.WEIGHT_N
    written = np.sqrt(np.sqrt(1 + y**2) - y)
    weight = battery.WEIGHT_N
    induced = (1 + battery.INDUCED) * weight**1.5 / np.sqrt(2 * battery.AIR * battery.DISC_M2)
    tip = battery.BLADE_W * (1 + 3 * speed**2 / battery.TIP_MPS**2)
    drag = 0.5 * battery.DRAG_RATIO * battery.AIR * battery.SOLIDITY * battery.DISC_M2 * speed**3
    np.testing.assert_allclose(battery.power_w(speed), tip + induced * written + drag, rtol=1e-9)


def test_a_hundred_random_actions_follow_the_closed_form():
    params = DroneParams(gust_mps=(0.0, 0.0, 0.0))
    rng = np.random.default_rng(0)
    position, velocity = np.asarray([[300.0, 300.0, 50.0]]), np.zeros((1, 3))
    start, taken = position.copy(), []
    for _ in range(100):
        action = rng.uniform(-0.3, 0.3, (1, 3)) * [1.0, 1.0, 0.3]
        acceleration = dynamics.executed(params, dynamics.command(params, action, velocity=velocity), velocity=velocity)
        taken.append(acceleration[0])
        position, velocity, hit = dynamics.move(
            params, position=position, velocity=velocity, acceleration=acceleration, gust=np.zeros((1, 3))
        )
        assert not hit.any()
    sums, dt = np.asarray(taken), params.dt
    later = (len(sums) - 1 - np.arange(len(sums)))[:, None]
    np.testing.assert_allclose(velocity[0], sums.sum(axis=0) * dt, rtol=0, atol=1e-12)
    np.testing.assert_allclose(position[0], start[0] + ((later + 0.5) * dt * dt * sums).sum(axis=0), rtol=0, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), mode=st.sampled_from(["acceleration", "velocity"]), delay=st.integers(0, 1))
def test_no_axis_exceeds_its_limit_and_energy_is_the_sum_of_power(seed, mode, delay):
    made = env.domain(action_mode=mode, delay=delay, traffic=1)
    streams, rng = philox.streams(seed % 1000, num_envs=4), np.random.default_rng(seed)
    state, seen, _ = made.reset(streams)
    start, spent = state["energy"].copy(), np.zeros(4)
    for _ in range(20):
        action = made.check(np.sign(rng.uniform(-1, 1, (4, 3))) * 5.0)
        state, seen, _, cost, _, _, info = made.step(state, action, streams=streams)
        spent += 1e3 * info["objectives"][:, 4]
        assert (np.abs(state["velocity"]) <= np.asarray(PARAMS.speed_mps)).all()
        assert (np.abs(seen) <= 1.0).all()
        assert set(np.unique(cost)) <= {0.0, 1.0}
    np.testing.assert_allclose(state["energy"], start - spent, rtol=0, atol=1e-6)


def test_a_wall_clips_stops_and_costs():
    position, velocity = np.asarray([[599.0, 300.0, 79.9]]), np.asarray([[15.0, 3.0, 5.0]])
    inside, after, hit = dynamics.move(
        PARAMS, position=position, velocity=velocity, acceleration=np.zeros((1, 3)), gust=np.zeros((1, 3))
    )
    assert inside[0].tolist() == [600.0, pytest.approx(300.6), 80.0]
    assert after[0].tolist() == [0.0, 3.0, 0.0]
    assert hit.all()


def test_gusts_have_their_deviation_and_their_memory():
    rng, gust, kept = np.random.default_rng(0), np.zeros((4000, 3)), []
    for step in range(200):
        gust = dynamics.gusts(PARAMS, gust, normal=rng.standard_normal(gust.shape))
        if step in {149, 199}:  # one time constant apart
            kept.append(gust)
    np.testing.assert_allclose(kept[1].std(axis=0), PARAMS.gust_mps, rtol=0.05)
    correlation = (kept[0] * kept[1]).mean(axis=0) / kept[1].var(axis=0)
    np.testing.assert_allclose(correlation, np.exp(-1.0), atol=0.06)


def test_drones_that_both_keep_the_row_stay_apart():
    """Pairs propose to close in; whoever would break its row brakes instead: the hulls stay apart, so do the drones."""
    rng, pairs = np.random.default_rng(0), 500
    place, speed = np.full((2, pairs, 3), 50.0), np.zeros((2, pairs, 3))
    place[0, :, :2], place[1, :, :2] = rng.uniform(-80, -30, (pairs, 2)), rng.uniform(30, 80, (pairs, 2))
    limit, least = np.asarray(PARAMS.acceleration_mps2), np.inf
    for _ in range(150):
        way = place[::-1] - place
        far = np.linalg.norm(way, axis=2, keepdims=True)
        wanted = np.clip((12.0 * way / far - speed) / PARAMS.dt, -limit, limit)
        keeps = np.stack(
            [
                traffic.row_holds(
                    PARAMS,
                    position=place[k],
                    velocity=speed[k],
                    other=place[1 - k],
                    moving=speed[1 - k],
                    wanted=wanted[k],
                )
                for k in (0, 1)
            ]
        )
        used = np.where(keeps[..., None], wanted, np.clip(-speed / PARAMS.dt, -limit, limit))
        place, speed = place + speed * PARAMS.dt + 0.5 * used * PARAMS.dt**2, speed + used * PARAMS.dt
        least = min(least, np.linalg.norm(place[0] - place[1], axis=1).min())
    assert PARAMS.separation_m <= least <= 20.0


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"action_mode": "jerk"}, "action_mode"),
        ({"delay": 2}, "delay"),
        ({"traffic": 4}, "traffic"),
        ({"zones": -1}, "zones"),
        ({"wind_mps": [5.0, 1.0]}, "wind_mps"),
        ({"dt": 0.0}, "dt"),
        ({"energy_j": float("nan")}, "energy_j"),
        ({"pads_m": [[300.0, 300.0, 5.0]]}, "pads_m"),
        ({"horizon": 1.5}, "horizon"),
        ({"mode": "fast"}, "mode"),
    ],
)
def test_senseless_parameters_are_refused(config, told):
    with pytest.raises(InvalidInput, match=told):
        env.domain(**config)
    with pytest.raises(TypeError):
        env.domain(cheese=1)
