"""Queues against Erlang's tables, against each other, and against a simulation of single requests."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.envs.edge import queueing

ERLANG_C = {
    (1, 0.5): 0.5,
    (2, 1): 1 / 3,
    (3, 2): 4 / 9,
    (4, 3): 0.5094339623,
    (5, 4): 0.5541125541,
    (10, 8): 0.4091801508,
}


def arrays(servers, offered):
    return np.array([float(servers)]), np.array([float(offered)])


@pytest.mark.parametrize(("case", "waits"), list(ERLANG_C.items()))
def test_waiting_probabilities_are_those_of_the_tables(case, waits):
    assert queueing.erlang_c(*arrays(*case))[0] == pytest.approx(waits, abs=1e-9)


@pytest.mark.parametrize("case", [(1, 0.5), (3, 2), (4, 3), (5, 4)])
def test_the_integral_of_the_tail_is_the_mean_sojourn(case):
    servers, offered = arrays(*case)
    waits, rate = queueing.erlang_c(servers, offered), 20.0
    x = np.linspace(0.0, 3.0, 300_001)
    scaled = rate * x
    tail = queueing.tail(servers, offered, waits=waits, scaled=scaled, decay=np.exp(-scaled))
    area = float(((tail[1:] + tail[:-1]) * np.diff(x)).sum() / 2.0)
    assert area == pytest.approx(queueing.sojourn_s(servers, offered, waits=waits, rate=rate)[0], rel=1e-4)


def test_the_tail_has_no_jump_where_its_formula_divides_by_nought():
    servers = np.full(3, 3.0)
    offered = np.array([2.0 - 3e-6, 2.0, 2.0 + 3e-6])
    waits = queueing.erlang_c(servers, offered)
    tail = queueing.tail(servers, offered, waits=waits, scaled=np.array(2.0), decay=np.exp(-2.0))
    assert tail == pytest.approx(np.full(3, tail[1]), rel=1e-5)


@given(servers=st.integers(1, 16), share=st.floats(0.0, 0.95), scaled=st.floats(0.0, 20.0))
def test_a_tail_is_a_probability_that_falls_and_no_pods_serve_nothing(servers, share, scaled):
    both = arrays(servers, servers * share)
    waits = queueing.erlang_c(*both)
    x = np.array([scaled, scaled + 0.5])
    tail = queueing.tail(*both, waits=waits, scaled=x, decay=np.exp(-x))
    assert 0.0 <= waits[0] <= 1.0 + 1e-12
    assert -1e-12 <= tail[1] <= tail[0] <= 1.0 + 1e-9
    none = queueing.erlang_c(np.zeros(1), np.zeros(1))
    assert none[0] == 0.0
    assert np.isfinite(queueing.sojourn_s(np.zeros(1), np.zeros(1), waits=none, rate=20.0)).all()


@pytest.mark.slow
def test_a_million_simulated_requests_wait_as_long_as_the_formula_says():
    arrivals, rate, load = 1_000_000, 1.0, 2.0
    rng = np.random.default_rng(7)
    at = np.cumsum(rng.exponential(1.0 / (load * rate), arrivals))
    service = rng.exponential(1.0 / rate, arrivals)
    free = [0.0, 0.0, 0.0]
    total = 0.0
    for came, lasts in zip(at.tolist(), service.tolist(), strict=True):
        done = max(came, free[0]) + lasts
        heapq.heapreplace(free, done)
        total += done - came
    servers, offered = arrays(3, load)
    wanted = queueing.sojourn_s(servers, offered, waits=queueing.erlang_c(servers, offered), rate=rate)[0]
    assert total / arrivals == pytest.approx(wanted, rel=0.01)
