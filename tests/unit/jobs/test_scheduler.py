"""The policy of many searches on traces: what each got of the core, how long it stood still, when it ended."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rlaas_ray.jobs import scheduler
from rlaas_ray.jobs.scheduler import Job, Rules

RULES = Rules()


def job(number: int, *, generations: int = 60, **more) -> Job:
    return Job(id=f"job-{number:03d}", since_s=0.0, generations_left=generations, **more)


@dataclasses.dataclass
class Trace:
    """What one core did: milliseconds that each job got, when it ended (s), the longest time that it stood still (s)."""

    ran_ms: dict[str, float]
    ended_s: dict[str, float]
    gap_s: dict[str, float]
    now_s: float = 0.0


def play(jobs, *, takes_ms, rules=RULES, until_s=float("inf"), alone=True) -> Trace:
    """A host without a clock: rounds of turns until all have ended. A job that goes alone leaves the core."""
    jobs = {one.id: one for one in jobs}
    zero = dict.fromkeys(jobs, 0.0)
    trace, last = Trace(ran_ms=dict(zero), ended_s={}, gap_s=dict(zero)), dict(zero)
    while jobs and trace.now_s < until_s:
        dealt = scheduler.deal(list(jobs.values()), rules=rules, now_s=trace.now_s)
        jobs = {one.id: one for one in dealt}
        for name in list(jobs):
            one = jobs.pop(name)
            while scheduler.may_go(one):
                ms = takes_ms(name)
                trace.now_s += ms / 1000
                trace.ran_ms[name] += ms
                trace.gap_s[name] = max(trace.gap_s[name], trace.now_s - last[name])
                last[name] = trace.now_s
                one = scheduler.charge(one, ms=ms)
            if not one.generations_left:
                trace.ended_s[name] = trace.now_s
            elif not (alone and scheduler.goes_alone(one, rules=rules)):
                jobs[name] = one
    return trace


def jain(given) -> float:
    given = np.asarray(list(given))
    return float(given.sum() ** 2 / (len(given) * (given**2).sum()))


def test_a_hundred_equal_searches_get_the_same_and_none_stands_still_for_a_second() -> None:
    rng = np.random.default_rng(0)
    trace = play([job(n, generations=1000) for n in range(100)], takes_ms=lambda _: rng.gamma(4, 0.15), until_s=8)
    assert jain(trace.ran_ms.values()) >= 0.99
    assert max(trace.gap_s.values()) <= 0.4


def test_two_hundred_searches_are_each_seen_to_move_every_second() -> None:
    trace = play([job(n, generations=500) for n in range(200)], takes_ms=lambda _: 2.0, until_s=10)
    assert max(trace.gap_s.values()) <= 1.0


def test_searches_with_generations_of_other_lengths_get_the_same_of_the_core() -> None:
    jobs = [job(n, generations=100_000) for n in range(20)]
    trace = play(jobs, takes_ms=lambda name: 0.5 * (1 + int(name[-3:])) ** 1.4, until_s=30)
    assert jain(trace.ran_ms.values()) >= 0.99


def test_priorities_are_shares_of_the_core() -> None:
    jobs = [job(n, generations=100_000, priority=(1, 2, 4)[n % 3]) for n in range(12)]
    trace = play(jobs, takes_ms=lambda _: 1.5, until_s=20)
    got = [sum(trace.ran_ms[one.id] for one in jobs if one.priority == p) for p in (1, 2, 4)]
    assert got[1] / got[0] == pytest.approx(2, rel=0.03)
    assert got[2] / got[0] == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("alone", [True, False])
def test_a_slow_search_delays_the_others_by_no_more_than_a_fifth(alone: bool) -> None:
    others = [job(n, generations=400) for n in range(20)]
    slow = job(999, generations=20)
    before = play(others, takes_ms=lambda _: 1.0)
    after = play([*others, slow], takes_ms=lambda name: 500.0 if name == slow.id else 1.0, alone=alone)
    last = max(after.ended_s[one.id] for one in others)
    assert last <= 1.2 * max(before.ended_s.values())
    assert (slow.id in after.ended_s) is not alone  # it went to a process of its own, or it did end here


def test_a_deadline_that_can_be_kept_is_kept() -> None:
    jobs = [job(n, generations=600) for n in range(50)]
    urgent = [job(100 + k, generations=2000, deadline_s=6.0 + 3 * k) for k in range(3)]  # 2 s of work each
    trace = play([*jobs, *urgent], takes_ms=lambda _: 1.0, until_s=13)
    assert all(trace.ended_s[one.id] <= one.deadline_s for one in urgent)
    plain = play([*jobs, *(dataclasses.replace(one, deadline_s=None) for one in urgent)], takes_ms=lambda _: 1.0)
    assert all(plain.ended_s[one.id] > one.deadline_s for one in urgent)  # and would not have been


def test_a_deadline_that_is_lost_takes_nobody_with_it() -> None:
    lost = job(0, generations=20_000, deadline_s=5.0)  # 20 s of work
    kept = job(1, generations=4000, deadline_s=5.0)
    others = [job(n, generations=400) for n in range(2, 12)]
    trace = play([lost, kept, *others], takes_ms=lambda _: 1.0)
    assert trace.ended_s[kept.id] <= 5.0
    assert trace.ended_s[lost.id] > 5.0


def test_a_tenant_of_ninety_searches_leaves_half_of_the_core_to_the_other() -> None:
    jobs = [job(n, generations=100_000, tenant="key:many" if n < 90 else "key:few") for n in range(92)]
    trace = play(jobs, takes_ms=lambda _: 1.0, until_s=30)
    few = trace.ran_ms["job-090"] + trace.ran_ms["job-091"]
    assert few / sum(trace.ran_ms.values()) == pytest.approx(0.5, abs=0.03)
    assert max(trace.gap_s.values()) <= 1.0


def test_alone_a_tenant_has_the_whole_core() -> None:
    assert scheduler.shares([job(n, tenant="key:a") for n in range(4)], rules=RULES, now_s=0) == pytest.approx(
        {f"job-{n:03d}": 0.25 for n in range(4)}
    )


def test_who_has_ended_costs_nothing_and_saves_nothing_up() -> None:
    idle, busy = job(0, generations=0), job(1, generations=10_000)
    jobs = (idle, busy)
    for _ in range(50):
        jobs = scheduler.deal(jobs, rules=RULES, now_s=0)
    assert not scheduler.may_go(jobs[0])
    assert jobs[0].deficit_ms == 0
    assert jobs[1].deficit_ms == pytest.approx(50 * 20)  # the whole of every round


def test_the_mean_of_the_times_follows_slowly_and_decides_who_goes_alone() -> None:
    one = scheduler.charge(job(0), ms=5000.0)  # the first generation imports, and measures nothing
    assert one.ms_per_generation is None
    one = scheduler.charge(one, ms=700.0)  # nor does one that met a stall
    assert one.ms_per_generation is None
    one = scheduler.charge(one, ms=100.0)
    assert one.ms_per_generation == 100
    one = scheduler.charge(one, ms=300.0)
    assert one.ms_per_generation == pytest.approx(140)
    one = scheduler.charge(one, ms=9000.0)  # a stall counts as four means
    assert one.ms_per_generation == pytest.approx(140 + 0.2 * 3 * 140)
    assert not scheduler.goes_alone(one, rules=RULES)
    assert scheduler.goes_alone(scheduler.charge(one, ms=900.0), rules=RULES)
    assert one.generations_left == 55


def test_a_stall_costs_a_search_a_round_and_not_its_progress() -> None:
    """A disk that hangs for a second is nobody's doing: the search that met it moves again within a second of the core."""
    rng, met = np.random.default_rng(3), iter([True])

    def takes_ms(name: str) -> float:
        return 1000.0 if name == "job-042" and rng.random() < 0.05 and next(met, False) else 1.0

    trace = play([job(n, generations=200) for n in range(100)], takes_ms=takes_ms, until_s=15)
    assert next(met, None) is None
    assert trace.gap_s["job-042"] <= 1.0 + 2 * 0.25 + 0.1


def test_admission_keeps_the_number_the_memory_and_the_quota_and_forgets_nobody() -> None:
    rules = Rules(active=4, memory_bytes=100, tenant_active=2)
    active = [job(0, tenant="a", memory_bytes=40)]
    queue = [
        job(1, tenant="a", memory_bytes=10),
        job(2, tenant="a", memory_bytes=10),  # the quota of a is 2
        job(3, tenant="b", memory_bytes=80),  # no memory while the others are there
        job(4, tenant="b", memory_bytes=10),
        job(5, tenant="c", memory_bytes=10),
        job(6, tenant="d", memory_bytes=10),  # the fifth
    ]
    assert scheduler.admit(queue, active, rules=rules, now_s=10) == ("job-001", "job-004", "job-005")
    assert scheduler.admit(queue, [], rules=rules, now_s=10)[:1] == ("job-001",)
    assert not scheduler.fits(job(9, memory_bytes=101), rules=rules)


def test_in_the_queue_priority_and_deadlines_are_worth_seconds() -> None:
    rules = Rules(active=1)
    old, new = dataclasses.replace(job(0), since_s=0.0), dataclasses.replace(job(1, priority=4), since_s=50.0)
    assert scheduler.admit([old, new], [], rules=rules, now_s=60) == (new.id,)  # 60 against 10 + 60
    late = dataclasses.replace(new, since_s=70.0)
    assert scheduler.admit([old, late], [], rules=rules, now_s=80) == (old.id,)  # it has waited for long
    urgent = dataclasses.replace(job(2), since_s=80.0, deadline_s=100.0)
    assert scheduler.admit([old, urgent], [], rules=rules, now_s=80) == (urgent.id,)


def test_memory_and_the_number_of_processes() -> None:
    assert scheduler.memory_bytes(population=100, variables=5000, objectives=2) == 3 * 100 * 5002 * 8 * 2
    assert scheduler.engines(cores=8, searches=100, trainings=0) == 7
    assert scheduler.engines(cores=8, searches=100, trainings=3) == 4
    assert scheduler.engines(cores=8, searches=2, trainings=0) == 2
    assert scheduler.engines(cores=2, searches=100, trainings=5) == 1


JOBS = st.lists(
    st.tuples(
        st.floats(0.05, 400),  # ms of a generation
        st.integers(1, 100),  # generations
        st.sampled_from([1, 2, 4]),
        st.sampled_from(["a", "b", "c"]),
        st.one_of(st.none(), st.floats(0.1, 60)),  # deadline
    ),
    min_size=1,
    max_size=12,
)


@hypothesis.given(JOBS, st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=20, deadline=None)
def test_whatever_comes_everybody_ends_and_nobody_waits_beyond_its_share(told, seed) -> None:
    rng = np.random.default_rng(seed)
    mean = {f"job-{n:03d}": ms for n, (ms, *_) in enumerate(told)}
    jobs = [job(n, generations=count, priority=p, tenant=t, deadline_s=d) for n, (_, count, p, t, d) in enumerate(told)]
    trace = play(jobs, takes_ms=lambda name: mean[name] * rng.uniform(0.5, 1.5), alone=False)
    assert set(trace.ended_s) == set(mean)  # no starvation
    work_s = sum(trace.ran_ms.values()) / 1000
    assert trace.now_s == pytest.approx(work_s)  # the core was never idle while there was work


@hypothesis.given(JOBS, st.floats(0, 60))
@hypothesis.settings(max_examples=60, deadline=None)
def test_shares_are_a_whole_and_keep_the_quotas(told, now_s) -> None:
    jobs = [
        job(n, generations=count, priority=p, tenant=t, deadline_s=d, ms_per_generation=ms)
        for n, (ms, count, p, t, d) in enumerate(told)
    ]
    part = scheduler.shares(jobs, rules=RULES, now_s=now_s)
    assert sum(part.values()) == pytest.approx(1)
    assert min(part.values()) > 0
    tenants = {one.tenant for one in jobs}
    for tenant in tenants if len(tenants) > 1 else ():
        assert sum(part[one.id] for one in jobs if one.tenant == tenant) <= 0.5 + 1e-9
