"""DroneFleet: assignments, the queue, who is lost, dicts by agent, the swap, the bound, the tiny fleet."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from rlaas_ray.envs import multi_agent, philox
from rlaas_ray.envs.drones import (
    assignment,
    baselines,
    env,
    fleet,
    fleet_agents,
    fleet_baselines,
    fleet_references,
    fleet_tiny,
    observation,
    queue,
    training,
    world,
)
from rlaas_ray.envs.drones import params as p
from rlaas_ray.errors import Conflict, InvalidInput


def fly(made, *, steps, streams, pilot=None, seen=None, state=None):
    """The states and infos of a crew over some steps."""
    policy = fleet_baselines.crew(pilot or baselines.pd_field(), drones=made.params.drones)
    if state is None:
        state, seen, _ = made.reset(streams)
    for _ in range(steps):
        action = policy.distribution(seen.reshape(len(seen), -1)).reshape(len(seen), -1, 3)
        state, seen, reward, cost, ended, cut, info = made.step(state, made.check(action), streams=streams)
        yield state, seen, reward, cost, ended, cut, info


@pytest.mark.slow
def test_the_auction_costs_what_the_hungarian_costs_on_a_thousand_matrices():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        costs = np.round(rng.uniform(0.0, 120.0, (10, 30)), 2)
        drones, orders = assignment.auction(costs)
        best = linear_sum_assignment(assignment.cents_of(costs))
        assert len(set(drones)) == len(set(orders)) == 10
        assert assignment.cents_of(costs)[drones, orders].sum() == assignment.cents_of(costs)[best].sum()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 3), (6, 4)])
def test_all_shapes_and_forbidden_pairs(shape):
    rng = np.random.default_rng(1)
    for _ in range(20):
        costs = np.round(rng.uniform(0.0, 60.0, shape), 2)
        costs[rng.random(shape) < 0.3] = np.inf
        made = {name: method(costs) for name, method in assignment.METHODS.items()}
        for drones, orders in made.values():
            assert len(set(drones)) == len(set(orders)) == len(drones)
            assert np.isfinite(costs[drones, orders]).all()
        least = [np.where(np.isfinite(costs), costs, 1e6)]
        best = least[0][linear_sum_assignment(least[0])]
        for name in ("hungarian", "auction"):
            assert costs[made[name]].sum() == pytest.approx(best[best < 1e6].sum(), abs=1e-9)
        assert len(made["nearest"][0]) <= min(shape)


def test_nearest_serves_the_oldest_order_first():
    costs = np.asarray([[1.0, 5.0], [2.0, 100.0]])
    drones, orders = assignment.nearest(costs)
    assert list(zip(drones, orders, strict=True)) == [(0, 0), (1, 1)]
    drones, orders = assignment.hungarian(costs)
    assert list(zip(drones, orders, strict=True)) == [(0, 1), (1, 0)]


@pytest.mark.slow
def test_orders_are_kept_account_of_and_arrive_as_a_poisson_process():
    made, streams = fleet.domain(), philox.streams(5, num_envs=32)
    totals, alive = np.zeros((32, 6)), np.ones((32, 10), bool)
    for state, _, reward, cost, _, _, info in fly(made, steps=500, streams=streams):
        totals += 10.0 * info["objectives"]
        np.testing.assert_allclose(reward, info["agent_reward"].mean(axis=1))
        np.testing.assert_allclose(cost, info["agent_cost"].mean(axis=1))
        assert not info["global_state"].reshape(32, 10, 32)[~alive].any()  # who was lost before this step shows nothing
        alive = info["alive"]
        assert (np.abs(state["velocity"]) <= np.asarray([15.0, 15.0, 5.0])).all()
    carried = np.isin(state["phase"], (p.TO_PICKUP, p.TO_DROP)).sum(axis=1)  # the lost keep theirs
    waiting = (state["queue_number"] >= 0).sum(axis=1)
    np.testing.assert_allclose(totals[:, 1] + carried + waiting, state["arrived"], atol=1e-9)
    assert (totals[:, 0] <= totals[:, 1] + 1e-9).all()
    assert (state["arrived"] - 10).mean() == pytest.approx(100.0 / 6.0, abs=3 * np.sqrt(100.0 / 6.0 / 32))


def test_two_that_meet_are_lost_and_the_others_fly_on():
    made, streams = fleet.domain(zones=0), philox.streams(1, num_envs=2)
    state, seen, _ = made.reset(streams)
    state["position"][0, 1] = state["position"][0, 0] + [1.0, 0.0, 0.0]
    steps = list(fly(made, steps=3, streams=streams, state=state, seen=seen))
    first, last = steps[0], steps[-1]
    assert first[6]["alive"][0].tolist() == [False, False] + [True] * 8
    assert first[6]["agent_reward"][0, :2] == pytest.approx([-20.0, -20.0], abs=0.5)
    assert last[6]["agent_reward"][0, :2].tolist() == [0.0, 0.0]
    assert last[1][0, 0].tolist() == [0.0] * 32
    assert not last[4].any()
    assert np.array_equal(last[0]["position"][0, 0], first[0]["position"][0, 0])
    assert last[6]["alive"][1].all()


def test_free_drones_loiter_and_low_ones_go_to_their_stands():
    made = fleet.domain(orders_at_start=0, order_every_s=0.0, zones=0, start_charge=[0.4, 0.6])
    streams = philox.streams(1, num_envs=4)
    state = list(fly(made, steps=200, streams=streams))[-1][0]
    idle = state["phase"] == p.FREE
    assert (state["energy"][idle] > 0.49 * 60_000.0).all()
    assert (state["energy"] > 50_000.0).any()  # who has been to the pad
    free = state["phase"] == p.FREE
    speed = np.linalg.norm(state["velocity"], axis=2)
    assert free.any()
    assert speed[free].mean() == pytest.approx(10.0, abs=2.0)
    gaps = np.linalg.norm(queue.stands(made.params)[:, None] - queue.stands(made.params)[None], axis=2)
    assert gaps[~np.eye(10, dtype=bool)].min() > 2 * made.params.arrival_m


def test_the_swap_ends_when_all_are_across_and_a_field_keeps_drones_apart():
    kept = {}
    for name, pilot in (("pd", baselines.pd(12.0)), ("pd_field", baselines.pd_field(12.0))):
        made = fleet.domain(scenario="antipodal", wind_mps=[0.0, 0.0], collision_m=0.001)
        streams, near = philox.streams(3, num_envs=8), np.zeros(8)
        over = np.zeros(8, bool)
        for _, _, _, cost, ended, _, _ in fly(made, steps=220, streams=streams, pilot=pilot):
            near += cost[:, 0] * ~over
            over |= ended
        kept[name] = (near.mean(), over.mean())
    assert kept["pd"][0] > 0.0  # unshielded, they meet in the middle
    assert kept["pd"][1] == 1.0
    assert kept["pd_field"][0] < kept["pd"][0]


@pytest.mark.slow
def test_no_crew_exceeds_the_bound_and_assignment_pays():
    streams, earned = philox.streams(1, num_envs=8), {}
    for name in ("hungarian", "nearest"):
        made = fleet.domain(assignment=name)
        earned[name], _ = fleet_baselines.flown(made, fleet_baselines.pd_fast(), streams=streams)
        assert (earned[name] < fleet_references.bound(made.params, streams)).all()
    assert earned["hungarian"].mean() > earned["nearest"].mean()


def test_agents_leave_when_they_are_lost_and_all_are_told_at_the_end():
    made = fleet_agents.DroneFleet(zones=0, horizon=3)
    with pytest.raises(Conflict):
        made.step({})
    seen, info = made.reset(seed=4)
    assert made.agents == made.possible_agents == [f"drone_{k}" for k in range(10)]
    assert all(made.observation_space(name).contains(one) for name, one in seen.items())
    made._state["energy"][0, 3] = 1.0
    act = {name: made.action_space(name).sample() for name in made.agents}
    seen, rewards, ended, cut, info = made.step(act)
    assert ended["drone_3"]
    assert rewards["drone_3"] < -19.0
    assert not ended["__all__"]
    assert "drone_3" not in made.agents
    seen, rewards, ended, cut, _ = made.step({name: act[name] for name in made.agents})
    assert set(seen) == set(rewards) == set(made.possible_agents) - {"drone_3"}
    seen, rewards, ended, cut, _ = made.step({name: act[name] for name in made.agents})
    assert cut["__all__"]
    assert made.agents == []
    assert info["drone_0"]["global_state"].shape == (320,)


def test_agents_earn_their_own_or_the_teams_mean_and_repeat_themselves():
    own, team = fleet_agents.DroneFleet(), fleet_agents.DroneFleet(team=True)
    first, _ = own.reset(seed=2)
    again, _ = team.reset(seed=2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    act = {name: own.action_space(name).sample() for name in own.agents}
    (seen, rewards, *_), (same, shared, *_) = own.step(act), team.step(act)
    assert all(np.array_equal(seen[name], same[name]) for name in seen)
    assert len(set(shared.values())) == 1
    assert shared["drone_0"] == pytest.approx(np.mean(list(rewards.values())))
    second, _ = own.reset()
    assert not np.array_equal(first["drone_0"], second["drone_0"])


def test_the_products_multi_agent_copies_take_it():
    copies = multi_agent.make(
        "rlaas_ray.envs.drones.fleet_agents:DroneFleet",
        config={"horizon": 4, "drones": 3, "orders_at_start": 3},
        copies=2,
        seed=0,
    )
    over = []
    for _ in range(9):
        stepped = copies.step({agent.name: np.zeros((2, 3), np.float32) for agent in copies.agents})
        over.append(stepped.over.all())
    assert over == [False, False, False, True] * 2 + [False]


def test_views_propose_velocities_and_rows_never_end():
    for view, made in ((training.DroneView(), env.domain()), (training.FleetView(), fleet.domain())):
        rows = view.make_vector(num_envs=3, seed=1, config={"horizon": 3})
        seen, _ = rows.reset(seed=1)
        assert seen.shape == (3 * view.units, 36)
        flat = seen[:, :32].reshape(3, -1)
        assert seen[:, 32:35] == pytest.approx(seen[:, 3:6] * [10.0, 10.0, 6.0])  # the way, metres near the goal
        assert view.program.apply(flat).reshape(seen.shape) == pytest.approx(seen, abs=1e-6)
        done = []
        for _ in range(4):
            seen, reward, ended, cut, info = rows.step(np.tile([0.5, 0.0, 0.0], (len(seen), 1)))
            assert not ended.any()
            assert not cut.any()
            assert reward.shape == (3 * view.units,)
            done.append(info["env_done"].all())
        assert done == [False, False, True, False]
        still = np.zeros((1, 32 * view.units), np.float32)  # in the middle of the area
        action = view.decoder.decode(np.tile([0.1, 0.1, 0.1], (1, view.units)), observations=still)
        velocity = type(made)(made.params)
        wanted = [0.1 * 15 / 0.5 / 5, 0.1 * 15 / 0.5 / 5, 0.1 * 5 / 0.5 / 3]
        assert action[0, :3] == pytest.approx(wanted)
        assert velocity.params is made.params


def test_a_view_goes_round_a_zone_stops_in_front_of_walls_and_leaves_a_zone():
    """Proposed: straight into a zone from 90 m, on through one from its inside, down into a corner of the area."""
    made, view = env.domain(traffic=0, gust_mps=(0.0, 0.0, 0.0)), training.DroneView()
    streams = philox.streams(2, num_envs=3)
    state, _, _ = made.reset(streams)
    state["zone"][..., :2], state["zone"][:, 0] = world.ABSENT_M, (300.0, 300.0, 50.0)
    state["position"] = np.asarray([[160.0, 300.0, 30.0], [310.0, 310.0, 30.0], [60.0, 50.0, 60.0]])
    proposed, geofence = np.asarray([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-1.0, -1.0, -1.0]]), []
    for _ in range(150):
        seen, _ = env.look(made.params, state)
        action = view.decoder.decode(proposed, observations=seen)
        state, _, _, cost, _, _, _ = made.step(state, made.check(action), streams=streams)
        geofence.append(cost[:, 1])
    spent = np.sum(geofence, axis=0)
    assert spent[0] == spent[2] == 0.0
    assert 0.0 < spent[1] < 100.0
    assert not geofence[-1].any()
    assert state["position"][0, 0] > 350.0  # behind the zone, which ends there
    assert state["position"][2] == pytest.approx([3.0, 3.0, 23.0], abs=1.0)


def test_a_view_keeps_its_distance_from_a_drone_ahead():
    view, seen = training.DroneView(), np.zeros((2, 32), np.float32)
    first = observation.NEIGHBOUR
    seen[0, first : first + 5] = [0.125, 0.0, 0.0, 0.0, 0.125]  # 12.5 m to the east: 0.5 m to brake in, by 2 m/s^2
    seen[1, first : first + 5] = [0.11, 0.0, 0.0, 0.0, 0.11]  # 1 m too near
    seen[:, observation.ZONE_DISTANCE] = 1.0
    found = view.decoder.decode(
        np.asarray([[0.1, 0.0, 0.0]] * 2), observations=seen
    )  # 1.5 m/s, in half a second by 5 m/s^2
    assert found[0] == pytest.approx(
        [np.sqrt(2.0) / 2.5, -0.5 / 2.5, 0.0], abs=1e-5
    )  # the rest of its speed: to the right
    assert found[1] == pytest.approx([-1.0 / 2.5, -np.sqrt(1.25) / 2.5, 0.0], abs=1e-5)


def picked_s(made, *, streams):
    """Seconds (B,) after which the drones have picked up, summed over them."""
    total = np.zeros(len(streams.seed))
    for state, _, _, _, _, _, info in fly(made, steps=400, streams=streams):
        total += state["t"] * made.params.dt * made.params.drones * info["objectives"][:, 2]
    return total


@pytest.mark.slow
def test_the_hungarian_sends_a_tiny_fleet_as_trying_all_six_assignments_would():
    streams = philox.streams(3, num_envs=24)
    plans = itertools.permutations(range(3))
    tried = np.stack([picked_s(fleet_tiny.domain(plan=plan), streams=streams) for plan in plans])
    sent, least = picked_s(fleet_tiny.domain(), streams=streams), tried.min(axis=0)
    assert (sent >= least - 1e-6).all()
    assert (sent <= least + 1e-6).mean() >= 0.8  # its costs are distances at 13 m/s, not flights
    assert (sent / least).mean() <= 1.02
    best, _ = fleet_tiny.best_assignment(mode="balanced", seed=3, episodes=6, config={})
    earned, _ = fleet_baselines.flown(fleet_tiny.domain(), fleet_tiny.pd_field(), streams=streams.take(slice(6)))
    assert (earned <= best + 1e-9).all()


@pytest.mark.parametrize(
    "config",
    [
        {"scenario": "swap"},
        {"assignment": "greedy"},
        {"traffic": 1},
        {"drones": 11},
        {"plan": [0, 0]},
        {"orders_at_start": 31},
    ],
)
def test_senseless_fleets_are_refused(config):
    with pytest.raises(InvalidInput):
        fleet.domain(**config)
