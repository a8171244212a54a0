"""What the model owes: nothing is lost, nothing exceeds a node, the mask says what is allowed, every form of an action."""

import multiprocessing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.envs import philox, registry
from rlaas_ray.envs.catalogue import EDGE, EDGE_TINY
from rlaas_ray.envs.edge import compat, config, demand, env, macro, model, moves
from rlaas_ray.errors import InvalidInput, NotBuilt


def legal(mask, rng):
    return np.where(mask > 0, rng.random(mask.shape), -1.0).argmax(axis=1)


def walk(domain, *, count, steps, seed=0):
    """States, actions and infos of random allowed actions."""
    streams, rng = philox.streams(seed, num_envs=count), np.random.default_rng(seed)
    state, _, _ = domain.reset(streams)
    for _ in range(steps):
        action = legal(state["mask"], rng)
        before = state
        state, seen, reward, _, _, _, info = domain.step(state, action, streams=streams)
        yield before, action, state, seen, reward, info


def test_no_request_is_lost_and_no_node_is_overfull():
    domain = env.domain()
    known, params = domain.params.known, domain.params
    for before, _, state, _, _, _ in walk(domain, count=32, steps=60):
        found = model.serve(params, run=moves.last(before["run"]), rate=moves.last(before["rate"]))
        served = model.total(found.load, axis=1)
        assert served + found.dropped == pytest.approx(found.offered, rel=1e-9)
        assert (found.missed <= found.offered * (1.0 + 1e-9)).all()
        assert (state["run"] >= 0).all()
        assert (state["starting"] >= 0).all()
        assert (state["run"].sum(axis=2) - state["leaving"].sum(axis=2) >= 1).all()
        assert np.array_equal(state["starting"], state["pend"].sum(axis=1))
        assert np.array_equal(state["leaving"], state["leave"].sum(axis=1))
        held = moves.last(moves.pods(state))
        assert (moves.requested(held, known.cpu) <= known.cpu_capacity[:, None] + 1e-9).all()
        assert (moves.requested(held, known.memory) <= known.memory_capacity[:, None] + 1e-9).all()
        assert (held <= 16).all()


def test_an_action_is_invalid_exactly_where_the_mask_says_so_and_then_nothing_moves():
    domain = env.domain(mask_in_obs=False)
    rng = np.random.default_rng(1)
    for before, _, _, _, _, _ in walk(domain, count=16, steps=25):
        action = rng.integers(0, 127, 16)
        after, _, info = model.work(domain.params, before, action=action)
        allowed = before["mask"][np.arange(16), action] > 0
        assert np.array_equal(info["invalid"], ~allowed)
        idle, _, _ = model.work(domain.params, before, action=np.zeros(16, np.int64))
        for name in ("run", "pend", "leave", "cache"):
            assert np.array_equal(after[name][~allowed], idle[name][~allowed])
        assert (info["objectives"][:, 3] > 0).tolist() == (
            allowed & np.isin(domain.params.known.kind[action], (1, 3))
        ).tolist()


@pytest.mark.parametrize(
    "count", [2, 7, pytest.param(64, marks=pytest.mark.slow), pytest.param(1024, marks=pytest.mark.slow)]
)
def test_the_first_and_the_last_world_of_a_batch_are_the_same_alone(count):
    domain = env.domain()
    taken = [(action, seen, reward) for _, action, _, seen, reward, _ in walk(domain, count=count, steps=120)]
    for row in (0, count - 1):
        rows = slice(row, row + 1)
        streams = philox.streams(0, num_envs=count).take(rows)
        state, _, _ = domain.reset(streams)
        for action, seen, reward in taken:
            state, alone, own, *_ = domain.step(state, action[rows], streams=streams)
            assert np.array_equal(alone["observations"], seen["observations"][rows])
            assert np.array_equal(own, reward[rows])


def _rewards(seed):
    return [reward for *_, reward, _ in walk(env.domain(), count=3, steps=10, seed=seed)]


@pytest.mark.slow
def test_another_process_draws_the_same():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(_rewards, (5,)), _rewards(5))


@pytest.mark.parametrize("mode", list(config.MODES))
def test_the_reward_is_the_weighted_sum_of_the_objectives(mode):
    domain = env.domain(mode=mode)
    weights = config.MODES[mode]
    for _, _, _, _, reward, info in walk(domain, count=4, steps=5):
        latency, spend, balance, migration = info["objectives"].T
        parts = (latency / 50.0, spend / 1.8, balance, migration)
        assert reward == pytest.approx(-sum(w * part for w, part in zip(weights, parts, strict=True)))


def test_a_fixed_case_of_routing_by_hand():
    # One node at 10 ms with two pods of 20/s for 10/s: M/M/2 at a = 0.5 has C = 0.1, W = 0.1/(40 - 10) + 0.05 s.
    node = config.Node(name="n", cpu=4, memory_gib=4, price=0.1, pull_mbps=100, rtt_ms=(10.0,))
    service = config.Service(name="s", cpu=1, memory_gib=1, rate=20, image_mb=0, sla_ms=150, base=10)
    params = model.params(config.Instance(nodes=(node,), services=(service,), start=((2,),)))
    found = model.serve(params, run=np.full((1, 1, 1), 2.0), rate=np.full((1, 1, 1), 10.0))
    assert found.latency[0, 0] / 10.0 == pytest.approx(10.0 + 1000.0 * (0.1 / 30.0 + 0.05))
    # 50/s for 40: routing fills 32, spill-over 6 more, 12 are dropped and count as the time-out.
    full = model.serve(params, run=np.full((1, 1, 1), 2.0), rate=np.full((1, 1, 1), 50.0))
    assert (full.load[0, 0, 0], full.dropped[0, 0]) == (pytest.approx(38.0), pytest.approx(12.0))
    none = model.serve(params, run=np.zeros((1, 1, 1)), rate=np.full((1, 1, 1), 10.0))
    assert (none.dropped[0, 0], none.latency[0, 0]) == (pytest.approx(10.0), pytest.approx(5000.0))


def test_routing_prefers_the_near_node_unless_it_is_uniform():
    run, rate = np.zeros((3, 6, 1)), np.zeros((3, 4, 1))
    run[0, 0], run[0, 5], rate[0, 0] = 4.0, 4.0, 100.0
    near = model.serve(model.params(config.full()), run=run, rate=rate)
    even = model.serve(model.params(config.full(), routing="uniform"), run=run, rate=rate)
    assert near.load[0, 0, 0] == pytest.approx(100.0 / (1.0 + np.exp(-7.6)))
    assert even.load[0, 0, 0] == pytest.approx(50.0)
    assert near.latency[0, 0] < even.latency[0, 0]


def test_a_pull_takes_as_long_as_the_image_and_the_link_say():
    steps = moves.tables(config.full()).pull_steps
    # (10 s + MB * 8 / Mbit/s) in steps of 30 s, at most 4
    assert steps.tolist() == [[1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 1, 1], [4, 4, 4, 4, 2, 1]]


def test_users_walk_around_the_zones_once_an_hour():
    domain = env.domain()
    streams = philox.streams(3, num_envs=200)
    state, _, _ = domain.reset(streams)
    rates = [state["rate"]]
    for _ in range(119):
        state, *_ = domain.step(state, np.zeros(200, np.int64), streams=streams)
        rates.append(state["rate"])
    total = np.stack(rates).sum(axis=3).mean(axis=(0, 1))
    assert total == pytest.approx([500, 160, 60], rel=0.02)
    crowd = np.stack(rates)[:, :, 0].argmax(axis=2)
    assert [(crowd == zone).mean() for zone in range(4)] == pytest.approx([0.25] * 4, abs=0.04)


def test_the_multi_form_moves_a_pod_to_the_users():
    domain = env.domain(action="multi")
    assert domain.action_space.nvec.tolist() == [4, 4, 4]
    streams = philox.streams(0, num_envs=3)
    state, seen, _ = domain.reset(streams)
    assert seen.shape == (3, 110)
    after, _, _, _, _, _, info = domain.step(
        state, domain.check(np.array([[macro.SHIFT, macro.MORE, macro.FEWER], [0, 0, 0], [1, 1, 1]])), streams=streams
    )
    pods = moves.pods(after)
    assert pods[1].tolist() == state["run"][1].tolist()
    assert pods[0, 1].sum() == state["run"][0, 1].sum() + 1
    assert after["run"][0, 2].sum() == state["run"][0, 2].sum() - 1
    assert pods[0, 0, :4].sum() == 1
    assert info["objectives"][:, 3].tolist() == [1.25, 0.0, 0.75]


def test_the_replicas_form_reaches_its_targets_and_says_when_it_cannot():
    domain = env.domain(action="replicas")
    streams = philox.streams(0, num_envs=2)
    state, _, _ = domain.reset(streams)
    target = np.array([[12, 3, 5], [40, 40, 40]])
    after, _, _, _, _, _, info = domain.step(state, domain.check(target), streams=streams)
    assert moves.pods(after)[0].sum(axis=1).tolist() == [12, 3, 5]
    assert info["invalid"].tolist() == [False, True]
    held = moves.last(moves.pods(after))
    assert (moves.requested(held, domain.params.known.cpu) <= domain.params.known.cpu_capacity[:, None]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shares_of_zones_sum_to_the_total_whatever_the_seed(seed):
    process = demand.Walking(dt_s=30.0, base=np.array([500.0, 160.0]), zones=4)
    state = process.start(philox.streams(seed, num_envs=2))
    assert (state["rate"] > 0).all()
    swing = 1.0 + 0.5 * np.sin(2.0 * np.pi * state["phases"])
    assert state["rate"].sum(axis=2) == pytest.approx(np.array([500.0, 160.0]) * swing)


def test_a_trace_is_replayed_from_an_array_and_from_parquet(tmp_path):
    rates = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 3, 4)
    rows = [
        (t, config.full().services[s].name, z, rates[t, s, z]) for t in range(2) for s in range(3) for z in range(4)
    ]
    table = pa.table(dict(zip(("step", "service", "zone", "rate"), zip(*rows, strict=True), strict=True)))
    pq.write_table(table, tmp_path / "trace.parquet")
    for given_trace in (rates.tolist(), str(tmp_path / "trace.parquet")):
        made = env.domain(demand="trace", trace=given_trace)
        streams = philox.streams(0, num_envs=2)
        state, _, _ = made.reset(streams)
        for step in range(5):
            assert np.array_equal(state["rate"][0], rates[step % 2])
            state, *_ = made.step(state, np.zeros(2, np.int64), streams=streams)


@pytest.mark.parametrize(
    "wrong",
    [
        {"demand": "trace"},
        {"demand": "poisson"},
        {"trace": [[[1.0]]]},
        {"demand": "trace", "trace": [[[1.0]]]},
        {"demand": "trace", "trace": np.full((2, 3, 4), np.nan).tolist()},
        {"demand": "trace", "trace": np.full((2, 3, 4), -1.0).tolist()},
        {"demand": "trace", "trace": "/nowhere/trace.parquet"},
        {"routing": "random"},
        {"action": "box"},
        {"mode": "balance"},
        {"weights": [1.0, 2.0]},
        {"nodes": 3},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(InvalidInput):
        registry.make(EDGE, config=wrong)


def test_the_mask_is_where_others_look_for_it():
    plain = registry.make(EDGE, config={"mask_in_obs": False}).unwrapped
    seen, info = plain.reset(seed=1)
    assert seen.shape == (110,)
    assert np.array_equal(plain.action_masks(), info["action_mask"] > 0)
    seen, _ = registry.make(EDGE_TINY).reset(seed=1)
    assert set(seen) == {"observations", "action_mask"}
    assert seen["observations"].shape == (18,)


@pytest.mark.parametrize("action", [[127], [-1], [0.5], [[1]], [np.nan]])
def test_impossible_actions_are_refused(action):
    worlds = registry.make_vector(EDGE, num_envs=1, seed=0)
    worlds.reset()
    with pytest.raises(InvalidInput, match="edge placement"):
        worlds.step(np.asarray(action))


def test_the_shape_of_lwmecpsenv3_is_kept():
    with pytest.warns(UserWarning, match="base_url, namespace"):
        made = compat.domain(
            node_name=["a", "b"],
            max_hardware={"cpu": 2.0, "ram": 2048.0},
            pod_usage={"cpu": 0.5, "ram": 512.0},
            node_info={"a": {"avg_latency": 5.0}, "b": {"avg_latency": 9.0, "cpu": 1.0}},
            num_nodes=2,
            namespace="default",
            deployments=["web"],
            base_url="http://127.0.0.1",
        )
    assert made.action_space.nvec.tolist() == [5]
    streams = philox.streams(0, num_envs=2)
    state, seen, _ = made.reset(streams)
    assert seen["nodes"]["a"]["deployments"]["web"]["Replicas"].tolist() == [1, 1]
    state, seen, reward, _, _, _, info = made.step(state, made.check([[3], [4]]), streams=streams)
    placed = [seen["nodes"][name]["deployments"]["web"]["Replicas"] for name in ("a", "b")]
    assert (placed[0] + placed[1]).tolist() == [3, 4]
    assert (placed[1] <= 2).all()
    latency, replicas, imbalance = info["objectives"].T
    assert reward == pytest.approx(-latency - 0.1 * replicas - 0.1 * imbalance)
    with pytest.raises(ValueError, match="v3compat"):
        made.check([[6]])


def test_targets_that_do_not_fit_change_nothing_and_cost_a_hundred():
    info = {"a": {"avg_latency": 5.0, "cpu": 0.5}}
    made = compat.domain(node_info=info, deployments=["web"], pod_usage={"cpu": 0.25})
    streams = philox.streams(0, num_envs=1)
    state, _, _ = made.reset(streams)
    after, _, reward, _, ended, _, told = made.step(state, made.check([[4]]), streams=streams)
    assert (reward[0], told["invalid"][0], ended[0]) == (-100.0, True, False)
    assert np.array_equal(after["run"], state["run"])
    gone, _, reward, _, _, _, _ = made.step(state, made.check([[0]]), streams=streams)
    assert gone["run"].sum() == 0
    assert reward[0] == pytest.approx(-500.0)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"backend": "live"}, NotBuilt),
        ({"mode": "balanced"}, InvalidInput),
        ({"num_nodes": 5}, InvalidInput),
        ({"node_name": ["x"]}, InvalidInput),
        ({"replicas": 5}, TypeError),
    ],
)
def test_wrong_options_of_the_original_are_refused(wrong, error):
    with pytest.raises(error):
        compat.domain(**wrong)
