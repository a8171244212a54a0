"""DroneDelivery: layout, common random numbers, gates of the scenario, baselines against each other and the bound."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.envs import philox, scoring
from rlaas_ray.envs.drones import baselines, env, mission, observation, references, world
from rlaas_ray.envs.drones import params as p

GOLDEN = Path(__file__).parent / "drones_observation.json"
SEEDS, EACH = (1, 2, 3, 4, 5), 64


def synthetic():
    """Three states by hand: at work, with a zone beside; inside a zone, on the way to the pad; nobody and nothing around."""
    rows = 3
    state = {
        "t": np.asarray([100, 700, 1]),
        "position": np.asarray([[100.0, 200.0, 30.0], [450.0, 310.0, 55.0], [599.0, 1.0, 20.0]]),
        "velocity": np.asarray([[7.5, -3.0, 1.0], [-15.0, 15.0, -5.0], [0.0, 0.0, 0.0]]),
        "goal": np.asarray([[150.0, 180.0, 36.0], [300.0, 300.0, 30.0], [40.0, 570.0, 25.0]]),
        "energy": np.asarray([45_000.0, 12_000.0, 60_000.0]),
        "payload": np.asarray([1.5, 1.0, 0.2]),
        "phase": np.asarray([p.TO_DROP, p.TO_PAD, p.TO_PICKUP]),
        "deadline": np.asarray([50.0, 0.0, 90.0]),
        "wind": np.asarray([[3.0, -4.0], [0.0, 8.0], [1.0, 1.0]]),
        "gust": np.asarray([[0.5, 0.25, 0.1], [-1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]),
        "zone": np.full((rows, 2, 3), world.ABSENT_M),
        "traffic_position": np.tile([[0.0, 0.0, 35.0], [590.0, 20.0, 50.0], [300.0, 590.0, 65.0]], (rows, 1, 1)),
        "traffic_velocity": np.tile([[10.0, 0.0, 0.0], [0.0, -10.0, 0.0], [6.0, 8.0, 0.0]], (rows, 1, 1)),
    }
    state["zone"][..., 2] = 0.0
    state["zone"][0, 0], state["zone"][1, 1] = (160.0, 280.0, 60.0), (440.0, 310.0, 40.0)
    return state


def worlds(seeds=SEEDS, count=EACH):
    """The first `count` worlds of each seed as one batch."""
    each = [philox.streams(seed, num_envs=count) for seed in seeds]
    joined = {name: np.concatenate([getattr(one, name) for one in each]) for name in ("seed", "index", "episode")}
    return philox.Streams(**joined)


def play(policy, *, streams, **config):
    """Returns, objectives and costs summed over the first episodes, who died, who was sent to the pad."""
    made, count, rng = env.domain(**config), len(streams.seed), np.random.default_rng(0)
    state, seen, _ = made.reset(streams)
    total, done, spent = np.zeros(count), np.zeros((count, 6)), np.zeros((count, 3))
    on, dead, sent = np.ones(count, bool), np.zeros(count, bool), np.zeros(count, bool)
    for _ in range(made.params.horizon):
        action = policy.head.sample(policy.distribution(seen), rng=rng)
        state, seen, reward, cost, ended, _, info = made.step(state, made.check(action), streams=streams)
        total, done, spent = total + reward * on, done + info["objectives"] * on[:, None], spent + cost * on[:, None]
        sent |= on & (state["phase"] == p.TO_PAD)
        dead |= on & ended
        on &= ~ended
    return total, done, spent, dead, sent


@pytest.fixture(scope="module")
def played():
    """All baselines on the same 320 episodes, without traffic and zones, as the page's table was measured."""
    names = ("random", "hover", "pd", "pd_fast", "pd_energy")
    return {name: play(baselines.POLICIES[name](), streams=worlds(), zones=0, traffic=0) for name in names}


def test_the_layout_is_the_golden_files():
    seen, _ = env.look(p.DroneParams(), synthetic())
    np.testing.assert_allclose(seen, np.asarray(json.loads(GOLDEN.read_text())), atol=1e-6)


def test_the_layout_by_hand():
    seen, near = env.look(p.DroneParams(), synthetic())
    first, inside, alone = seen.astype(float)
    assert first[0:3] == pytest.approx([0.5, -0.2, 0.2])
    assert first[3:6] == pytest.approx([0.5, -0.2, 0.2])
    assert first[6] == pytest.approx(np.sqrt(50**2 + 20**2 + 6**2) / 850)
    assert first[7:10] == pytest.approx([-2 / 3, -1 / 3, -0.4])
    assert first[10:15] == pytest.approx([0.75, 0.75, 0.0, 1.0, 0.0])
    assert first[15] == pytest.approx((50 - 20) / 300)
    assert first[16:18] == pytest.approx([0.35, -0.375])
    assert first[18] == pytest.approx((45_000 - 13 * np.sqrt(200**2 + 100**2) - 4_000) / 60_000)
    assert first[19:22] == pytest.approx([0.6 * 0.4, 0.8 * 0.4, 0.4])  # 100 m to the middle, 40 m to the edge
    assert inside[15] == 0.0
    assert inside[11] == 0.0  # nothing on board on the way to the pad
    assert inside[19:22] == pytest.approx([0.3, 0.0, -0.3])  # the edge is behind
    assert near.zone_m[1] == pytest.approx(-30.0)
    assert alone[19:22].tolist() == [1.0, 1.0, 1.0]
    closing = 190.0 / np.sqrt(9**2 + 19**2 + 30**2)
    assert alone[22:27] == pytest.approx([-0.09, 0.19, 1.0, closing / 30, np.sqrt(9**2 + 19**2 + 30**2) / 100])


@pytest.mark.slow
def test_orders_are_the_same_whatever_the_policy_does():
    made, streams = env.domain(), philox.streams(7, num_envs=8)
    seen_orders = []
    for name in ("pd_fast", "pd_field"):
        policy = baselines.POLICIES[name]()
        state, seen, _ = made.reset(streams)
        found = {}
        for _ in range(700):
            state, seen, *_ = made.step(state, made.check(policy.distribution(seen)), streams=streams)
            for row in range(8):
                found[row, int(state["order"][row])] = (
                    *state["pickup"][row],
                    *state["drop"][row],
                    state["payload"][row],
                )
        seen_orders.append(found)
    common = seen_orders[0].keys() & seen_orders[1].keys()
    assert len(common) > 16
    assert all(seen_orders[0][key] == seen_orders[1][key] for key in common)


def test_orders_and_pads_are_clear_of_zones():
    made, streams = env.domain(), philox.streams(3, num_envs=200)
    state, _, _ = made.reset(streams)
    for number in range(3):
        pickup, drop, payload = world.orders(made.params, streams, number=np.full(200, number), zone=state["zone"])
        for point in (pickup, drop):
            assert (world.nearest_zone(point, zone=state["zone"])[2] >= 10.0).all()
            assert (point[:, :2] >= 30.0).all()
            assert (point[:, :2] <= 570.0).all()
        assert (payload >= 0.2).all()
        assert (payload <= 2.0).all()
    assert (world.nearest_zone(state["position"], zone=state["zone"])[2] >= 20.0).all()
    centres, radius = state["zone"][..., :2], state["zone"][..., 2]
    for k in range(4):
        for j in range(k):
            gap = np.linalg.norm(centres[:, k] - centres[:, j], axis=1) - radius[:, k] - radius[:, j]
            assert (gap[(radius[:, k] > 0) & (radius[:, j] > 0)] >= 20.0).all()


@pytest.mark.slow
def test_a_longer_horizon_keeps_the_first_steps():
    kept, policy = [], baselines.pd_field()
    for horizon in (1500, 3000):
        made, streams = env.domain(horizon=horizon), philox.streams(9, num_envs=4)
        state, seen, _ = made.reset(streams)
        rows = []
        for step in range(1500):
            state, seen, reward, cost, ended, cut, _ = made.step(
                state, made.check(policy.distribution(seen)), streams=streams
            )
            rows += [seen.copy(), reward, cost, ended]
            assert not cut.any() or (horizon == 1500 and step == 1499)
        kept.append(rows)
    assert all(np.array_equal(a, b) for a, b in zip(*kept, strict=True))


def test_a_delay_applies_the_command_before():
    now, later = env.domain(gust_mps=[0.0, 0.0, 0.0]), env.domain(gust_mps=[0.0, 0.0, 0.0], delay=1)
    streams = philox.streams(1, num_envs=2)
    states = [made.reset(streams)[0] for made in (now, later)]
    pushes = [np.full((2, 3), 1.0), np.full((2, 3), -0.5), np.zeros((2, 3))]
    for step, push in enumerate(pushes):
        states = [
            made.step(s, made.check(push), streams=streams)[0] for made, s in zip((now, later), states, strict=True)
        ]
        wanted = pushes[step - 1] * [5.0, 5.0, 3.0] if step else np.zeros((2, 3))
        assert np.array_equal(states[1]["acceleration"], wanted)
    info = later.step(states[1], later.check(pushes[0]), streams=streams)[6]
    assert info["safety_drones"][0, 0, 6:9].tolist() == [5.0, 5.0, 3.0]
    assert info["safety_drones"].shape == (2, 4, 10)


def test_a_drone_is_charged_at_the_pad_and_released_with_a_new_deadline():
    params = p.DroneParams(zones=0, traffic=0)
    made, streams = env.DroneDelivery(params), philox.streams(2, num_envs=1)
    state, _, _ = made.reset(streams)
    state["phase"][:], state["goal"][:], state["energy"][:] = p.TO_PAD, params.pads[0], 30_000.0
    steps = 0
    while state["phase"][0] == p.TO_PAD:
        state, *_ = made.step(state, made.check(np.zeros((1, 3))), streams=streams)
        steps += 1
        assert steps < 60
    assert steps * params.dt == pytest.approx(0.49 * 10.0, abs=0.3)  # what is missing of 99 %, and the hover meanwhile
    due = mission.deadline(
        state["t"] * params.dt, position=state["position"], pickup=state["pickup"], drop=state["drop"]
    )
    assert state["deadline"] == pytest.approx(due)


def test_a_leg_of_the_bound_is_the_least_time():
    params = p.DroneParams()
    assert references.leg_s(np.asarray([5.0, 5.0, 0.0]), params=params) == params.dt
    far = references.leg_s(np.asarray([110.0, 0.0, 0.0]), params=params)
    assert far == pytest.approx(100 / 15 + 15 / (2 * 5.4) - 2 / 5.4)
    assert references.leg_s(np.asarray([20.0, 0.0, 0.0]), params=params) == pytest.approx(np.sqrt(20 / 5.4) - 2 / 5.4)


@pytest.mark.slow
def test_no_baseline_exceeds_the_bound(played):
    params = env.domain(zones=0, traffic=0).params
    above = references.bound(params, worlds())
    for name, (returns, *_) in played.items():
        assert (returns < above).all(), name
    assert (
        above.mean() - 9.0 <= 148.7 <= above.mean()
    )  # the page's figure leaves out small progress terms worth at most 9


@pytest.mark.slow
def test_baselines_stand_in_order_with_disjoint_intervals(played):
    interval = {name: scoring.mean_interval(returns) for name, (returns, *_) in played.items()}
    assert interval["hover"][1] < interval["pd"][0]
    assert interval["random"][1] < interval["pd"][0]
    assert interval["pd"][1] < interval["pd_fast"][0]
    assert played["pd"][0].mean() == pytest.approx(95.8, abs=3.0)  # +- 3 sd of seed means
    assert played["pd_fast"][0].mean() == pytest.approx(112.8, abs=4.5)


@pytest.mark.slow
def test_the_thrifty_pilot_uses_less_energy_a_delivery(played):
    per = {name: played[name][1][:, 4].sum() / played[name][1][:, 1].sum() for name in ("pd_energy", "pd_fast")}
    assert per["pd_energy"] < per["pd_fast"]


@pytest.mark.slow
def test_the_battery_rule_keeps_a_cruising_drone_alive(played):
    assert not played["pd"][3].any()
    low = play(baselines.pd(), streams=worlds((1,)), zones=0, traffic=0, start_charge=[0.4, 0.4])
    assert low[4].all()


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, reason="55 % of 320 full drones go to the pad, the design asks for 60 to 95 %: unexplained"
)
def test_most_full_drones_need_the_pad_once():
    high = play(baselines.pd(), streams=worlds((1,)), zones=0, traffic=0, start_charge=[1.0, 1.0])
    assert 0.60 <= high[4].mean() <= 0.95


@pytest.mark.slow
def test_the_field_keeps_out_of_zones_and_earns_no_less():
    fast, field = (play(baselines.POLICIES[name](), streams=worlds((1,))) for name in ("pd_fast", "pd_field"))
    assert field[0].mean() > fast[0].mean()
    assert field[2][:, 1].mean() < 0.3 * fast[2][:, 1].mean()
    assert field[2].sum(axis=1).mean() < fast[2].sum(axis=1).mean()


def test_modes_weigh_the_same_objectives():
    streams, rng = philox.streams(1, num_envs=5), np.random.default_rng(0)
    push = rng.uniform(-1, 1, (5, 3))
    for mode, weights in p.MODES.items():
        made = env.domain(mode=mode)
        state, _, _ = made.reset(streams)
        _, _, reward, _, _, _, info = made.step(state, made.check(push), streams=streams)
        signs = np.asarray([1, 1, 1, 1, -1, -1])
        np.testing.assert_allclose(reward, (info["objectives"] * signs * weights).sum(axis=1))
    assert observation.SIZE == 32
