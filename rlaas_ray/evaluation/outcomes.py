"""Joins rewards to decisions and says when the outcome of a unit or an episode is known, in the order of assignment.

Driven by `sequential.py`, one row at a time. Keeps what is open, and for two deadlines the ids needed to tell a late reward
from an orphan; what is closed is forgotten. Never bets, and reads no clock: `now_us` is told.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from enum import IntEnum

from rlaas_ray.specs.arrays import F64

HORIZON = (
    10  # deadlines after its first decision at which an episode without an end is closed: the line behind it moves on
)
LARGEST = 1e100  # of one reward: sums of them stay finite


class State(IntEnum):
    """How an outcome stands."""

    OPEN = 0
    CLOSED = 1  # a return is known
    MISSING = 2  # its deadline passed without the last decision's reward
    FAILED = 3  # answered by a fallback: it gives no return


class Join:
    """One decision's rewards. `outcome` is None for decisions that no outcome counts."""

    __slots__ = ("due_us", "outcome", "power", "rewards")

    def __init__(self, outcome: Outcome | None, *, power: int, due_us: int) -> None:
        self.outcome = outcome
        self.power = power
        self.due_us = due_us
        self.rewards: dict[int, float] | None = None


class Outcome:
    """The return of one unit's first episode, or of one episode, while it forms. `share` 0: before the canary, no bet."""

    __slots__ = (
        "challenger",
        "end",
        "end_step",
        "end_us",
        "episode",
        "features",
        "first_us",
        "home",
        "joins",
        "key",
        "last",
        "rewarded",
        "sequence",
        "share",
        "state",
        "value",
    )

    def __init__(self, key: str, episode: str, *, home: dict[str, Outcome], challenger: bool, share: float) -> None:
        self.key = key
        self.episode = episode
        self.home = home  # where the open one is found by key; it leaves when it closes
        self.challenger = challenger
        self.share = share
        self.state = State.OPEN
        self.value = 0.0
        self.features: F64 | None = None
        self.joins: list[Join] = []
        self.rewarded = 0
        self.end: Join | None = None
        self.end_step = 0
        self.end_us = 0
        self.first_us = 0
        self.sequence = 0
        self.last: Join | None = None


class Outcomes:
    """Rows in, known outcomes out. Counters: orphans (without a decision now), late, conflicts, duplicates."""

    def __init__(self, *, deadline_us: int, settle_us: int, gamma: float) -> None:
        self._deadline_us = deadline_us
        self._settle_us = settle_us
        self._gamma = gamma
        self._known: dict[str, Join] = {}
        self._known_until: deque[tuple[int, str]] = deque()
        self._orphans: dict[str, list[tuple[int, float, bool, int]]] = {}
        self._orphans_until: deque[tuple[int, str]] = deque()
        self._line: deque[Outcome] = deque()
        self._alarms: list[tuple[int, int, int, Outcome]] = []
        self._alarm_count = 0
        self._begun = 0
        self.orphans = 0
        self.late = 0
        self.conflicts = 0
        self.duplicates = 0

    @property
    def size(self) -> int:
        """Outcomes, decisions and orphans that are held."""
        return len(self._line) + len(self._known) + len(self._orphans)

    def pending(self) -> int:
        """Outcomes of the canary that have not bet yet."""
        return sum(1 for outcome in self._line if outcome.share > 0.0)

    def known(self, decision_id: str) -> bool:
        """Whether a decision with this id was seen lately: a repeated row counts once."""
        return decision_id in self._known

    def begin(self, outcome: Outcome, *, time_us: int) -> None:
        """A new outcome takes its place in the line; `decision` must follow for its first row."""
        outcome.first_us = time_us
        outcome.sequence = self._begun
        outcome.home[outcome.key] = outcome
        self._begun += 1
        self._line.append(outcome)
        self._alarm(outcome, at_us=time_us + self._deadline_us + self._settle_us)

    def decision(self, decision_id: str, outcome: Outcome | None, *, step: int, time_us: int) -> None:
        """A decision row, counted by `outcome` or by nobody. Rewards that came before it are joined now."""
        join = Join(outcome, power=max(step, 0), due_us=time_us + self._deadline_us)
        self._known[decision_id] = join
        self._known_until.append((join.due_us + self._deadline_us + self._settle_us, decision_id))
        if outcome is not None:
            outcome.joins.append(join)
            if outcome.last is None or join.power >= outcome.last.power:
                outcome.last = join
        if self._orphans:
            early = self._orphans.pop(decision_id, None)
            if early is not None:
                self.orphans -= len(early)
                for reward_step, value, ends, reward_us in early:
                    self._take(join, step=reward_step, value=value, ends=ends, time_us=reward_us)

    def reward(self, decision_id: str, *, step: int, value: float, ends: bool, time_us: int) -> None:
        """A reward row. The first value of (decision_id, step) stays; one that is not a number counts as a conflict."""
        if not math.isfinite(value):
            self.conflicts += 1
            return
        join = self._known.get(decision_id)
        if join is not None:
            self._take(join, step=step, value=value, ends=ends, time_us=time_us)
            return
        waiting = self._orphans.get(decision_id)
        if waiting is None:
            self._orphans[decision_id] = [(step, value, ends, time_us)]
            self._orphans_until.append((time_us + self._deadline_us + self._settle_us, decision_id))
        else:
            waiting.append((step, value, ends, time_us))
        self.orphans += 1

    def fail(self, outcome: Outcome) -> None:
        """A fallback answered one of its decisions: it will give no return."""
        self._leave(outcome, State.FAILED)

    def expire(self, now_us: int) -> list[Outcome]:
        """Close what is due by `now_us`; the outcomes whose reward is missing, in order of their deadlines."""
        missing = []
        while self._alarms and self._alarms[0][0] <= now_us:
            outcome = heapq.heappop(self._alarms)[3]
            if outcome.state is not State.OPEN:
                continue
            at_us = self._close_us(outcome)
            if at_us > now_us:
                self._alarm(outcome, at_us=at_us)
            elif outcome.end is not None or (outcome.last is not None and outcome.last.rewards):
                self._close(outcome)
            else:
                self._leave(outcome, State.MISSING)
                missing.append(outcome)
        while self._known_until and self._known_until[0][0] <= now_us:
            self._known.pop(self._known_until.popleft()[1], None)
        while self._orphans_until and self._orphans_until[0][0] <= now_us:
            self._orphans.pop(self._orphans_until.popleft()[1], None)
        return missing

    def drain(self) -> list[Outcome]:
        """The closed outcomes at the head of the line: what stands behind an open one waits, whatever its arm."""
        ready = []
        while self._line and self._line[0].state is not State.OPEN:
            outcome = self._line.popleft()
            if outcome.state is State.CLOSED:
                ready.append(outcome)
        return ready

    def _take(self, join: Join, *, step: int, value: float, ends: bool, time_us: int) -> None:
        kept = join.rewards or {}
        if step in kept:
            if kept[step] == value:
                self.duplicates += 1
            else:
                self.conflicts += 1
            return
        outcome = join.outcome
        state = outcome.state if outcome is not None else State.FAILED
        if time_us > join.due_us or state is State.MISSING:
            self.late += 1
            return
        if not kept:
            join.rewards = kept
        kept[step] = value
        if state is State.CLOSED:
            self.late += 1
        elif outcome is not None and state is State.OPEN:
            self._grown(outcome, join, step=step, ends=ends, time_us=time_us)

    def _grown(self, outcome: Outcome, join: Join, *, step: int, ends: bool, time_us: int) -> None:
        """An open outcome has a reward more; the end closes it when nothing can still be on its way."""
        outcome.rewarded += len(join.rewards or ()) == 1
        ended = ends and outcome.end is None
        if ended:
            outcome.end, outcome.end_step, outcome.end_us = join, step, time_us
        if self._complete(outcome):
            self._close(outcome)
        elif ended:
            self._alarm(outcome, at_us=time_us + self._settle_us)

    @staticmethod
    def _complete(outcome: Outcome) -> bool:
        """Nothing can still be on its way: each step up to the end has its decision and reward. Sparse ones settle first."""
        end = outcome.end
        count = len(outcome.joins)
        if end is None or end.rewards is None or outcome.rewarded < count or len(end.rewards) <= outcome.end_step:
            return False
        return count == 1 or count == end.power - outcome.joins[0].power + 1

    def _close_us(self, outcome: Outcome) -> int:
        last_us = outcome.last.due_us if outcome.last is not None else outcome.first_us
        due_us = min(last_us, outcome.first_us + HORIZON * self._deadline_us)
        return min(due_us, outcome.end_us if outcome.end is not None else due_us) + self._settle_us

    def _close(self, outcome: Outcome) -> None:
        # Exactly rounded, so that the order in which rewards arrived cannot show.
        outcome.value = math.fsum(
            self._gamma**join.power * min(max(reward, -LARGEST), LARGEST)
            for join in outcome.joins
            if join.rewards
            for reward in join.rewards.values()
        )
        self._leave(outcome, State.CLOSED)

    @staticmethod
    def _leave(outcome: Outcome, state: State) -> None:
        if outcome.state is State.OPEN:
            outcome.home.pop(outcome.key, None)
        outcome.state = state
        outcome.joins = []

    def _alarm(self, outcome: Outcome, *, at_us: int) -> None:
        self._alarm_count += 1
        heapq.heappush(self._alarms, (at_us, outcome.sequence, self._alarm_count, outcome))
