"""Who goes next when many searches share a few cores: deficit round robin over whole generations, as pure functions.

Called by `host.py` with what it measured and by `hosting.py` for how many processes there shall be. Decides and never acts:
frozen values in, frozen values out, the time handed in. Deficit round robin: Shreedhar and Varghese, 1996.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

_SMOOTHED = 0.2  # weight of the newest generation in the mean of their times
_OUTLIER = 4.0  # usual generations that one counts at most
_MEASURED = 3
_RESERVED = 0.9  # of a core, at most, goes to deadlines before anybody's weight counts; the rest starves nobody
_MARGIN = 1.1  # a deadline is aimed at with a tenth to spare: generations are whole
_STEP_S = 30.0  # in the queue, twice the priority is worth this much of waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds on one machine. `round_ms` bounds a round, so that 200 searches are each seen to move every second."""

    quantum_ms: float = 20.0
    round_ms: float = 250.0
    active: int = 200
    memory_bytes: int = 4 << 30
    alone_ms: float = 250.0
    tenant_active: int = 150
    tenant_share: float = 0.5  # where somebody else wants the core too


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A search as the policy sees it. `deadline_s` and `since_s` are on the same clock as `now_s`; `tenant` is an API key's id.

    `tried` generations are done: the first loads what later ones find loaded
    and measures nothing, the shorter of the next two (`least_ms`) is the first `ms_per_generation`, None until then.
    """

    id: str
    since_s: float
    generations_left: int
    tenant: str = ""
    priority: int = 1
    deadline_s: float | None = None
    memory_bytes: int = 0
    ms_per_generation: float | None = None
    tried: int = 0
    least_ms: float = float("inf")
    deficit_ms: float = 0.0


def memory_bytes(*, population: int, variables: int, objectives: int) -> int:
    """What a search will hold: three matrices of the population, twice for temporaries, 8 bytes a number."""
    return 3 * population * (variables + objectives) * 8 * 2


def admit(queue: Iterable[Job], active: Sequence[Job], *, rules: Rules, now_s: float) -> tuple[str, ...]:
    """Ids that may begin now, in the order of beginning.

    Who waited longest is first; twice the priority counts as 30 s of waiting, a deadline within two minutes as what is
    missing to them. Nobody is overtaken for ever. A tenant at its quota, or a search for which there is no memory yet, lets
    others pass; one that is larger than all the memory never begins (see `fits`).
    """
    room, free = rules.active - len(active), rules.memory_bytes - sum(job.memory_bytes for job in active)
    held: dict[str, int] = {}
    for job in active:
        held[job.tenant] = held.get(job.tenant, 0) + 1
    found = []
    for job in sorted(queue, key=lambda one: (-_standing_s(one, now_s=now_s), one.id)):
        mine = held.get(job.tenant, 0)
        if room <= 0 or mine >= rules.tenant_active or job.memory_bytes > free:
            continue
        room, free = room - 1, free - job.memory_bytes
        held[job.tenant] = mine + 1
        found.append(job.id)
    return tuple(found)


def fits(job: Job, *, rules: Rules) -> bool:
    """Whether the search could ever begin on this machine."""
    return job.memory_bytes <= rules.memory_bytes


def deal(jobs: Sequence[Job], *, rules: Rules, now_s: float) -> tuple[Job, ...]:
    """A new round: every job that can go is given its share of it. One that has ended keeps nothing."""
    ready = [job for job in jobs if _ready(job)]
    share = shares(ready, rules=rules, now_s=now_s)
    round_ms = min(rules.quantum_ms * sum(job.priority for job in ready), rules.round_ms)
    dealt = []
    for job in jobs:
        own_ms = round_ms * share.get(job.id, 0.0)
        # A debt beyond one round is forgiven: it comes of a stall (a slow disk, a first import), and would be a standstill.
        debt_ms = max(job.deficit_ms, -own_ms)
        dealt.append(replace(job, deficit_ms=debt_ms + own_ms if job.id in share else min(job.deficit_ms, 0.0)))
    return tuple(dealt)


def may_go(job: Job) -> bool:
    """Whether its deficit pays for one more generation now; one that was never measured is tried."""
    return _ready(job) and job.deficit_ms > 0 and job.deficit_ms >= (job.ms_per_generation or 0.0)


def charge(job: Job, *, ms: float) -> Job:
    """The job after a generation. What it took beyond its deficit it owes to the next round."""
    tried, least_ms = job.tried + 1, job.least_ms if job.tried == 0 else min(job.least_ms, ms)
    mean = job.ms_per_generation
    if tried == _MEASURED:
        mean = least_ms
    elif mean is not None:  # a stall of the disk must not pass for a slow search
        mean += _SMOOTHED * (min(ms, _OUTLIER * mean) - mean)
    return replace(
        job,
        tried=tried,
        least_ms=least_ms,
        ms_per_generation=mean,
        deficit_ms=job.deficit_ms - ms,
        generations_left=max(job.generations_left - 1, 0),
    )


def goes_alone(job: Job, *, rules: Rules) -> bool:
    """Whether its generations are too long to share a process: others would be seen to stand still."""
    return job.ms_per_generation is not None and job.ms_per_generation > rules.alone_ms


def engines(*, cores: int, searches: int, trainings: int) -> int:
    """How many processes search: a core each, but one for the rest of the machine and one for each training; at least one."""
    return max(min(cores - 1 - trainings, searches), 1)


def shares(ready: Sequence[Job], *, rules: Rules, now_s: float) -> dict[str, float]:
    """Id -> part of the core, in all 1.

    Deadlines reserve in their order what keeps them, priorities divide the rest, and no tenant gets beyond its share while
    another wants it.
    """
    if not ready:
        return {}
    part = _reserved(ready, rules=rules, now_s=now_s)
    left, weight = 1.0 - sum(part.values()), sum(job.priority for job in ready)
    whole = {job.id: part.get(job.id, 0.0) + left * job.priority / weight for job in ready}
    of_tenant: dict[str, float] = {}
    for job in ready:
        of_tenant[job.tenant] = of_tenant.get(job.tenant, 0.0) + whole[job.id]
    allowed = _capped(of_tenant, cap=rules.tenant_share)
    return {job.id: whole[job.id] * allowed[job.tenant] / of_tenant[job.tenant] for job in ready}


def _ready(job: Job) -> bool:
    return job.generations_left > 0


def _standing_s(job: Job, *, now_s: float) -> float:
    waited_s = now_s - job.since_s + _STEP_S * (job.priority.bit_length() - 1)
    return waited_s if job.deadline_s is None else max(waited_s, 4 * _STEP_S - (job.deadline_s - now_s))


def _reserved(ready: Sequence[Job], *, rules: Rules, now_s: float) -> dict[str, float]:
    """What each deadline needs of the core from now on, earliest first, as long as there is some.

    A deadline that is past, or that the whole core could not keep, reserves nothing: it would only take others down with it.
    """
    found: dict[str, float] = {}
    free = _RESERVED
    for job in sorted(ready, key=lambda one: (one.deadline_s or 0.0, one.id)):
        if job.deadline_s is None or job.ms_per_generation is None:
            continue
        left_s = job.deadline_s - now_s
        need_s = job.generations_left * job.ms_per_generation / 1000
        if 0 < need_s <= left_s:
            aim_s = (
                left_s - 2 * rules.round_ms / 1000
            )  # a share that shrinks with what is left would end on the very deadline
            found[job.id] = min(_MARGIN * need_s / aim_s, free) if aim_s > 0 else free
            free -= found[job.id]
    return found


def _capped(share: Mapping[str, float], *, cap: float) -> dict[str, float]:
    """Shares in all 1, none beyond `cap` (or an equal part, where that is more); what is cut goes to the others in proportion."""
    cap = max(cap, 1 / len(share))
    full: set[str] = set()
    while True:
        rest = {name: one for name, one in share.items() if name not in full}
        free = 1.0 - cap * len(full)
        scaled = {name: free * one / sum(rest.values()) for name, one in rest.items()}
        over = {name for name, one in scaled.items() if one > cap * (1 + 1e-9)}
        if not over:
            return {name: cap if name in full else scaled[name] for name in share}
        full |= over
