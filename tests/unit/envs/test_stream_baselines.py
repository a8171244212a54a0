"""DS2's steps to its fixed point, and what every baseline of the page earns."""

import numpy as np
import pytest

from rlaas_ray.envs import philox, registry, scoring
from rlaas_ray.envs.stream import autoscalers, baselines, graph, job, queries, references
from rlaas_ray.errors import InvalidInput

EPISODES = 160


def settled(flow, *, start, steps=16, downtime=0.0):
    """The counts that DS2 sets one after another under the constant nominal rate, and the latency in the end."""
    made = job.StreamParallelism(flow, trace="constant", downtime=downtime)
    streams = philox.streams(0, num_envs=1)
    state, _, _ = made.reset(streams)
    state["count"][:] = start
    policy = autoscalers.Autoscaler(flow=flow, rule=autoscalers.ds2_rule)
    seen, memory = made.observe(state), np.zeros((1, policy.state_size), np.float32)
    counts = [tuple(state["count"][0].tolist())]
    for _ in range(steps):
        wanted, memory = policy.step(seen, memory)
        state, seen, *_ = made.step(state, wanted.astype(np.int64), streams=streams)
        now = tuple(state["count"][0].tolist())
        counts += [now] if now != counts[-1] else []
    return counts[1:], float(state["latency_s"][0])


# Start -> (steps, counts of the operator that the query is about), section 5 of the design.
TABLE = {
    ("wordcount", 2): {1: [20], 8: [20], 16: [20], 24: [20], 32: [20]},
    ("q1", 1): {1: [9, 11], 8: [10, 11], 16: [12, 11], 24: [15, 12, 11], 32: [17, 13, 12, 11]},
    ("q2", 1): {1: [8, 9], 8: [9], 16: [11, 10], 24: [13, 10], 32: [15, 11, 10]},
    ("q3", 3): {1: [11, 13], 8: [12, 13], 16: [14, 13], 24: [15, 13], 32: [17, 14, 13]},
    ("q5", 1): {1: [10, 12], 8: [12], 16: [13, 12], 24: [14, 13, 12], 32: [16, 13, 12]},
    ("q8", 2): {1: [7, 8], 8: [8], 16: [9, 8], 24: [10, 8], 32: [11, 8]},
    ("q11", 1): {1: [13, 15, 16], 8: [14, 16], 16: [16], 24: [18, 16], 32: [19, 17, 16]},
}


@pytest.mark.parametrize(("query", "operator"), sorted(TABLE))
def test_ds2_takes_the_page_s_steps_from_every_start(query, operator):
    flow = queries.QUERIES[query]
    entry = flow.tunable.index(operator)
    for start, wanted in TABLE[query, operator].items():
        counts, _ = settled(flow, start=start)
        # From 8 (q8) and 16 (q11) the operator stays and only the sink shrinks.
        assert [one[entry] for one in counts] == wanted, start


def test_wordcount_goes_from_one_each_to_ten_and_twenty_in_one_decision():
    counts, _ = settled(queries.QUERIES["wordcount"], start=1)
    assert counts == [(10, 20)]


def test_three_steps_are_not_always_enough():
    operator = graph.Operator(name="work", rate=1000.0, sigma=0.03, kappa=2e-4)
    able = graph.capacity(operator, np.asarray([28.0, 29.0]))
    source = graph.Operator(name="in", rate=float(able.mean()), source=True)
    flow = graph.dataflow("one", operators=[source, operator], edges=[graph.Edge(source=0, target=1)])
    counts, _ = settled(flow, start=1)
    assert counts == [(15,), (22,), (25,), (27,), (28,), (29,)]


def test_ds2_keeps_the_backlog_of_its_restart_for_ever():
    counts, latency_s = settled(queries.QUERIES["wordcount"], start=1, steps=60, downtime=10.0)
    assert counts == [(10, 20)]
    assert latency_s == pytest.approx(19.45, abs=0.01)


def played(name, *, query, downtime=10.0):
    """Mean return of 160 episodes. The first interval is held, as on the page: nothing was measured yet."""
    config = {"query": query, "downtime": downtime}
    policy = baselines.card("balanced", config=config)[name]
    worlds = registry.make_vector("rlaas/StreamParallelism-v1", num_envs=EPISODES, seed=9001, config=config)
    act, rng = scoring.act_of(policy, env="rlaas/StreamParallelism-v1", config=config)(), np.random.default_rng(0)
    seen, _ = worlds.reset(seed=9001)
    act(seen, rng)
    action = np.full((EPISODES, len(queries.QUERIES[query].tunable)), job.START - 1)
    total = np.zeros(EPISODES)
    for _ in range(180):
        seen, reward, *_ = worlds.step(action)
        total += reward
        action = act(seen, rng)
    return float(total.mean())


# Balanced mode, default trace, 5 seeds x 32 episodes: (mean, 95 % half-width over seeds) of the design's measurement.
PAGE = {
    ("random", "wordcount"): (-232.8, 0.1),
    ("ds2", "wordcount"): (-84.5, 1.5),
    ("ds2", "q5"): (-35.2, 3.4),
    ("dhalion", "wordcount"): (-5.7, 1.7),
    ("threshold", "q5"): (64.5, 3.0),
    ("ds2_catchup", "wordcount"): (80.7, 4.7),
    ("ds2_catchup", "q5"): (120.3, 2.3),
    ("static_peak", "wordcount"): (110.5, 4.3),
    ("static_peak", "q5"): (140.6, 3.4),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "query"), sorted(PAGE))
def test_a_baseline_earns_what_the_page_measured(name, query):
    mean, half = PAGE[name, query]
    assert played(name, query=query) == pytest.approx(mean, abs=2 * half)


@pytest.mark.parametrize(
    ("query", "oracle", "bound"),
    [("wordcount", 126.7, 147.9), ("q5", 153.1, 166.3)],
)
def test_the_oracle_and_the_bound_are_where_the_page_has_them(query, oracle, bound):
    told = {"mode": "balanced", "seed": 9001, "episodes": 64, "config": {"query": query}, "query": query}
    returns, late = references.oracle(**told)
    above, _ = references.bound(**told)
    assert returns.mean() == pytest.approx(oracle, abs=2.0)
    assert above.mean() == pytest.approx(bound, abs=1.0)
    assert (returns < above).all()
    assert late.max() < 0.5


@pytest.mark.slow
def test_a_short_restart_turns_the_order_round():
    ten = {name: played(name, query="wordcount") for name in ("static_peak", "ds2_catchup")}
    one = {name: played(name, query="wordcount", downtime=1.0) for name in ("static_peak", "ds2_catchup")}
    assert ten["static_peak"] > ten["ds2_catchup"]
    assert one["ds2_catchup"] > one["static_peak"]
    assert one["ds2_catchup"] == pytest.approx(137.6, abs=1.5)


def test_a_baseline_of_another_query_is_refused():
    with pytest.raises(InvalidInput, match="dataflow 'q3'"):
        baselines.ds2(query="q3").distribution(np.zeros((2, 19), np.float32))
    with pytest.raises(InvalidInput, match="action"):
        baselines.hold(action="deltas")


def test_under_delta_actions_a_baseline_steps_towards_its_target():
    policy = baselines.static_peak(action="delta")
    seen, _ = registry.make_vector("rlaas/StreamParallelism-v1", num_envs=1, seed=0, config={"action": "delta"}).reset()
    assert policy.distribution(seen).tolist() == [[4.0, 0.0]]  # 8 -> 10 of 12, 8 -> 6 of 1
