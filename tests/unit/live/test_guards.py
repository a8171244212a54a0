"""What may be done to a cluster, when a call is tried again, when everything stops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.live import guards
from rlaas_ray.live.guards import Counts, Failures, Limits, Operation

LIMITS = Limits()
PLACE, REMOVE, MOVE = Operation(0, target=1), Operation(0, source=0), Operation(0, source=0, target=1)


def counts(ready, *, starting=None, leaving=None) -> Counts:
    made = np.asarray(ready, np.int64)
    zero = np.zeros_like(made)
    return Counts(
        ready=made,
        starting=zero if starting is None else np.asarray(starting, np.int64),
        leaving=zero if leaving is None else np.asarray(leaving, np.int64),
    )


def refusal(operation, at, *, since=None, failures=None):
    return guards.refusal(operation, counts=at, since_last_s=since, limits=LIMITS, failures=failures or Failures())


def test_what_is_free_may_be_done() -> None:
    assert [refusal(o, counts([[2, 0]])) for o in (PLACE, REMOVE, MOVE)] == [None, None, None]


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "kube-node-lease"])
def test_namespaces_of_the_cluster_itself_are_refused_unless_named(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        guards.admit_namespace(name, allowed=None)
    with pytest.raises(InvalidInput):
        guards.admit_namespace(name, allowed="kube-*")
    guards.admit_namespace(name, allowed=name)


def test_a_namespace_of_its_own_is_fine() -> None:
    guards.admit_namespace("defaults", allowed=None)
    guards.admit_namespace("edge", allowed=None)


def test_one_operation_of_a_service_in_a_period() -> None:
    assert "one operation per 30 s" in refusal(PLACE, counts([[2, 0]]), since=29.9)
    assert refusal(PLACE, counts([[2, 0]]), since=30.0) is None


def test_the_pod_limit_counts_pods_that_start() -> None:
    assert "limit is 16" in refusal(PLACE, counts([[2, 10]], starting=[[0, 6]]))
    assert refusal(PLACE, counts([[2, 10]], starting=[[0, 5]])) is None


def test_the_last_ready_pod_stays_but_may_be_moved() -> None:
    alone = counts([[1, 0]], starting=[[0, 3]])
    assert "last ready pod" in refusal(REMOVE, alone)
    assert refusal(MOVE, alone) is None
    assert not guards.may_finish(service=0, source=0, counts=alone)
    assert guards.may_finish(service=0, source=0, counts=counts([[1, 1]]))


def test_a_pod_that_a_move_will_take_is_not_free() -> None:
    assert "free to go" in refusal(REMOVE, counts([[1, 2]], leaving=[[1, 0]]))
    assert "moving away" in refusal(Operation(0, target=0), counts([[1, 2]], leaving=[[1, 0]]))


def test_a_starting_pod_at_the_source_would_go_first() -> None:
    assert "ReplicaSet" in refusal(REMOVE, counts([[3, 2]], starting=[[1, 0]]))


def test_three_failures_in_five_minutes_stop_for_good() -> None:
    failures = Failures()
    for at in (0.0, 100.0):
        failures = guards.after_failure(failures, now_s=at, limits=LIMITS)
    assert not failures.stopped
    assert guards.after_failure(failures, now_s=299.0, limits=LIMITS).stopped
    late = guards.after_failure(failures, now_s=300.0, limits=LIMITS)
    assert not late.stopped
    assert late.at_s == (100.0, 300.0)
    stopped = guards.after_failure(failures, now_s=101.0, limits=LIMITS)
    assert guards.after_failure(stopped, now_s=9999.0, limits=LIMITS).stopped
    assert "stopped" in refusal(PLACE, counts([[2, 0]]), failures=stopped)


@pytest.mark.parametrize("status", [None, 429, 500, 503, 599])
def test_waits_double_and_end_after_three(status: int | None) -> None:
    waits = [guards.wait_s(attempt=k, status=status, retry_after=None, limits=LIMITS) for k in range(5)]
    assert waits == [0.5, 1.0, 2.0, None, None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_what_trying_again_cannot_mend_is_not_tried_again(status: int) -> None:
    assert guards.wait_s(attempt=0, status=status, retry_after="1", limits=LIMITS) is None


def test_retry_after_is_kept_to() -> None:
    assert guards.wait_s(attempt=0, status=429, retry_after="7", limits=LIMITS) == 7.0
    assert guards.wait_s(attempt=2, status=503, retry_after="1", limits=LIMITS) == 2.0
    assert guards.wait_s(attempt=0, status=429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT", limits=LIMITS) == 0.5
    assert guards.wait_s(attempt=0, status=429, retry_after="3600", limits=LIMITS) is None


SMALL = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=2)
ANY = st.tuples(st.integers(0, 1), st.sampled_from([None, 0, 1, 2]), st.sampled_from([None, 0, 1, 2]))


@given(ready=SMALL, starting=SMALL, asked=st.lists(ANY, max_size=12))
def test_no_sequence_of_admitted_operations_leaves_a_service_without_ready_pods(ready, starting, asked) -> None:
    """Removals at once; a move's source goes only while another pod is ready. Starts may never get ready."""
    at = counts(ready, starting=starting)
    before = at.ready.sum(axis=1)
    for service, source, target in asked:
        if source == target or refusal(Operation(service, source=source, target=target), at) is not None:
            continue
        if target is None:
            at.ready[service, source] -= 1
        else:
            at.starting[service, target] += 1
            if source is not None:
                at.leaving[service, source] += 1
        for s, n in zip(*np.nonzero(at.leaving), strict=True):
            if guards.may_finish(service=int(s), source=int(n), counts=at):
                at.ready[s, n] -= 1
                at.leaving[s, n] -= 1
    assert (at.ready.sum(axis=1)[before > 0] >= 1).all()
    assert (at.ready >= 0).all()
