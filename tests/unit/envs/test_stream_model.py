"""The fluid dataflow against conservation, closed forms and the published scalability points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.envs import philox
from rlaas_ray.envs.stream import graph, job, model, queries, reward, usl
from rlaas_ray.errors import InvalidInput

WORDCOUNT = queries.QUERIES["wordcount"]


def passed(flow, *, count, seconds, load=1.0, down_s=0.0, skew=0.0):
    """The last of several intervals at a constant rate from empty queues."""
    batch = len(count)
    queue, down = np.zeros((batch, len(flow.operators))), np.full(batch, down_s)
    rates = np.tile(flow.nominal * load, (batch, 1))
    for _ in range(int(seconds / model.INTERVAL_S)):
        found = model.interval(
            flow,
            queue=queue,
            count=np.asarray(count),
            rates=rates,
            down_s=down,
            skew=(skew,) * len(flow.tunable),
        )
        queue, down = found.queue, found.down_s
    return found


def test_the_published_points_give_the_parameters_of_the_page():
    found = usl.fit(usl.CONTTUNE_Q1)
    assert found.rate == pytest.approx(496_981, rel=5e-4)
    assert found.sigma == pytest.approx(0.03236, rel=5e-4)
    assert found.kappa == pytest.approx(0.0, abs=1e-9)
    assert found.mean_error == pytest.approx(0.028, abs=5e-4)
    assert found.max_error == pytest.approx(0.062, abs=5e-4)
    assert pytest.approx((found.rate, found.sigma), rel=5e-4) == (queries.MAP_RATE, queries.MAP_SIGMA)
    pinned = usl.fit(usl.CONTTUNE_Q1, rate=529_573.0)
    assert pinned.sigma == pytest.approx(0.0392, abs=5e-5)
    assert pinned.mean_error == pytest.approx(0.043, abs=5e-4)
    with pytest.raises(InvalidInput, match="three or more"):
        usl.fit({1: 5.0, 2: 9.0})


def test_a_law_is_found_again_from_its_own_points():
    operator = graph.Operator(name="window", rate=8_000.0, sigma=0.015, kappa=5e-5)
    count = np.arange(1.0, 33.0)
    found = usl.fit(dict(zip(range(1, 33), graph.capacity(operator, count), strict=True)))
    assert (found.rate, found.sigma, found.kappa) == pytest.approx((8_000.0, 0.015, 5e-5), rel=1e-5)


def test_the_least_parallelism_of_every_query_is_that_of_the_page():
    wanted = {
        "wordcount": (10, 20),
        "q1": (11, 2),
        "q2": (9, 1),
        "q3": (1, 13, 1),
        "q5": (12, 1),
        "q8": (8, 1),
        "q11": (16, 1),
    }
    assert {name: flow.peak() for name, flow in queries.QUERIES.items()} == wanted


@pytest.mark.parametrize(
    ("query", "count", "wanted", "tolerance"),
    [
        ("wordcount", (2, 8), 0.2, 1e-12),
        ("wordcount", (4, 4), 0.2, 1e-12),
        ("wordcount", (10, 20), 1.0, 1e-12),
        ("q5", (4, 1), 0.38255, 1e-5),
        ("q3", (1, 4, 1), 0.36005, 1e-5),  # the design's own, where the first input took of the second's share: 0.3588
        ("q8", (8, 1), 1.0, 1e-12),
    ],
)
def test_what_is_served_is_the_page_s_and_the_closed_form_of_the_least_capacity(query, count, wanted, tolerance):
    flow = queries.QUERIES[query]
    found = passed(flow, count=[count], seconds=600)
    share = float(model.served(flow, found)[0] / flow.nominal.sum())
    assert share == pytest.approx(wanted, abs=tolerance)
    closed = min(1.0, *(found.capacity[0, one] / flow.inflow[one] for one in flow.tunable))
    assert share == pytest.approx(closed, rel=1e-9)


@pytest.mark.parametrize("query", sorted(queries.QUERIES))
def test_records_are_conserved_and_queues_fit_their_buffers_whatever_is_done(query):
    flow, batch = queries.QUERIES[query], 2400  # seven queries, 60 intervals: a million random steps
    made = job.StreamParallelism(flow, downtime=3.0)
    streams, rng = philox.streams(5, num_envs=batch), np.random.default_rng(0)
    state, _, _ = made.reset(streams)
    received, done = np.zeros((batch, len(flow.operators))), np.zeros((batch, len(flow.operators)))
    for _ in range(60):
        drawn = rng.integers(flow.max_parallelism, size=(batch, len(flow.tunable)))
        kept = rng.random(batch) < 0.7
        count = np.where(kept[:, None], state["count"], drawn + 1)
        rates = flow.nominal * rng.uniform(0.2, 1.6, size=(batch, 1))
        down = np.where((count != state["count"]).any(axis=1), 3.0, state["down_s"])
        found = model.interval(
            flow, queue=state["queue"], count=count, rates=rates, down_s=down, skew=(0.0,) * len(flow.tunable)
        )
        into = model.inflow(flow, found, rates=rates) * model.INTERVAL_S
        received, done = received + into, done + found.processed
        # A queue that was longer than the buffer of fewer instances drains; it never grows beyond either.
        limit = np.maximum(model.buffers(flow, count), state["queue"])
        assert (found.queue >= -1e-6).all()
        assert (found.queue <= limit * (1 + 1e-12) + 1e-6).all()
        state = state | {"queue": found.queue, "count": count, "down_s": found.down_s}
    assert np.abs(received - done - state["queue"]).max() <= 1e-9 * received.max()


def test_a_restart_serves_nothing_for_its_time_and_the_lag_keeps_what_came():
    flow = WORDCOUNT
    found = passed(flow, count=[(10, 20)], seconds=10, down_s=7.5)
    assert model.served(flow, found)[0] * 10.0 == pytest.approx(2.5 * flow.nominal[0], rel=0.7)
    assert model.lag(flow, found)[0] + model.served(flow, found)[0] * 10.0 == pytest.approx(10 * flow.nominal[0])
    down = passed(flow, count=[(10, 20)], seconds=10, down_s=10.0)
    assert model.served(flow, down)[0] == 0.0
    assert model.lag(flow, down)[0] == pytest.approx(10 * flow.nominal[0])
    assert model.latency_s(flow, down)[0] == model.MAX_LATENCY_S
    assert down.down_s[0] == 0.0


def test_latency_without_queues_is_one_service_each_and_the_hops():
    found = passed(WORDCOUNT, count=[(12, 24)], seconds=60, load=0.5)
    wanted = 60.0 / 1e5 + 60.0 / 1e6 + 2 * 0.002
    assert model.latency_s(WORDCOUNT, found)[0] == pytest.approx(wanted, rel=1e-9)


def test_back_pressure_is_seen_upstream_of_the_slow_operator_alone():
    found = passed(WORDCOUNT, count=[(32, 4)], seconds=60)
    assert found.blocked[0].tolist() == [1.0, 1.0, 0.0]
    assert passed(WORDCOUNT, count=[(12, 24)], seconds=60).blocked.max() == 0.0


def test_a_hot_key_caps_its_operator_at_one_instance_over_its_share():
    capped = model.capacities(WORDCOUNT, np.asarray([[32, 32]]), skew=(0.25, 0.0))
    assert capped[0, 1] == pytest.approx(WORDCOUNT.operators[1].rate * 4)
    assert capped[0, 2] == pytest.approx(WORDCOUNT.operators[2].rate * 32)


def test_la_stream_s_reward_is_the_value_of_the_page():
    found = reward.lastream(
        np.asarray([100.0]),
        in_flight=np.asarray([1000.0]),
        instances=np.asarray([10.0]),
        operators=3,
        eta=(0.4, 0.4, 0.2),
    )
    assert found[0] == pytest.approx(0.613307, abs=5e-7)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(1.0, 1e7),
    sigma=st.floats(0.0, 0.5),
    kappa=st.floats(0.0, 0.01),
    load=st.floats(0.0, 2.0),
    count=st.integers(1, 32),
)
def test_any_single_operator_serves_its_closed_form(rate, sigma, kappa, load, count):
    operators = [
        graph.Operator(name="in", rate=10 * rate, source=True),
        graph.Operator(name="work", rate=rate, sigma=sigma, kappa=kappa),
    ]
    flow = graph.dataflow("one", operators=operators, edges=[graph.Edge(source=0, target=1)])
    found = passed(flow, count=[(count,)], seconds=100, load=load)
    capacity = float(graph.capacity(operators[1], np.asarray([float(count)]))[0])
    offered = 10 * rate * load
    assert float(found.processed[0, 1]) / 10.0 == pytest.approx(min(offered, capacity), rel=1e-6)
