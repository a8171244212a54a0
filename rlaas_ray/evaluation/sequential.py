"""The fold of a rollout: rows of the decision log in, Evidence out.

Called by control's judge at each tick, and again to replay recorded cuts: the same rows with the same `now_us` give the same
bytes. One unit (or episode) bets once in each stream: later events of a sticky unit carry no chance. Never decides anything
(`serve/rollout.py` does), never reads a clock or a disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.evaluation import adjustment, bets, outcomes, returns
from rlaas_ray.specs.arrays import F32, F64, Array
from rlaas_ray.specs.evidence import SRM_LIMIT, Evidence
from rlaas_ray.specs.log import Decisions, Rewards
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.specs.routing import RouteTable

_FAILED, _SLOW, _SEEN = 1, 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldConfig:
    """What the fold must know of the rollout. `start_epoch`: the first with a challenger; rows before it set the baseline.

    `settle_us`: how long a row may take from its time to the log; deadlines are called that much later. `latency_floor_us`:
    no answer below it is slow, however fast the champion is (a table look-up against a network is no incident).
    """

    start_epoch: int
    champion: str
    challenger: str
    reward_low: float
    reward_high: float
    gamma: float
    deadline_us: int
    champion_digest: str | None = None
    assign_by: Literal["unit", "episode"] = "unit"
    margin: float = 0.02
    adjust: Literal["none", "first_observation"] = "none"
    covariates: adjustment.Covariates | None = None
    latency_floor_us: int = 5_000
    settle_us: int = 2_000_000


def configure(
    spec: RolloutSpec, *, table: RouteTable, covariates: adjustment.Covariates | None = None, observation_size: int = 0
) -> FoldConfig:
    """The config of a rollout whose first route table (its challenger in its first share) is `table`.

    Raises InvalidInput when the table has no challenger, or `adjust: first_observation` cannot be done.
    """
    challenger = table.arm("challenger")
    if challenger is None:
        raise InvalidInput(
            f"route table of {table.endpoint!r} has no challenger",
            given=table.epoch,
            expected="a rollout's first epoch",
        )
    if spec.adjust == "first_observation" and covariates is None:
        adjustment.raw_observation(np.zeros((0, observation_size), np.float32))
    return FoldConfig(
        start_epoch=table.epoch,
        champion=table.champion.name,
        challenger=challenger.name,
        champion_digest=table.champion.digest,
        assign_by=table.assign_by,
        reward_low=table.reward_low,
        reward_high=table.reward_high,
        gamma=table.gamma,
        deadline_us=round(table.reward_deadline_s * 1e6),
        margin=spec.margin,
        adjust=spec.adjust,
        covariates=covariates,
    )


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Counts of one arm in the canary."""

    assigned: int = 0
    closed: int = 0
    failures: int = 0
    slow: int = 0
    missing: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.closed if self.closed else None


class Fold:
    """State of one rollout's evidence. `add` the rows of each tick in the log's order, then ask for `evidence`."""

    def __init__(self, config: FoldConfig) -> None:
        if not config.reward_low < config.reward_high or config.deadline_us <= 0:
            raise InvalidInput(
                "reward bounds and deadline of a fold",
                given=(config.reward_low, config.reward_high, config.deadline_us),
                expected="low < high and a deadline over 0",
            )
        self._config = config
        self._outcomes = outcomes.Outcomes(
            deadline_us=config.deadline_us, settle_us=config.settle_us, gamma=config.gamma
        )
        self._before: dict[str, outcomes.Outcome] = {}  # open episodes of before the canary, by episode
        self._cut: set[str] = (
            set()
        )  # episodes that began before the canary and went on in it: as many as were in flight
        self._open: dict[str, outcomes.Outcome] = {}  # open outcomes of the canary, by unit or episode
        self._flags: dict[str, int] = {}  # what each unit or episode has bet on: small, but one entry for each
        self._tallies = (_Tally(), _Tally())  # champion, challenger
        self._stages: dict[float, list[int]] = {}  # share -> challenger's [assigned, closed]
        self._returns = returns.Returns(low=config.reward_low, high=config.reward_high, margin_of_mean=config.margin)
        self._failure = bets.EventOdds()
        self._latency = bets.EventOdds()
        self._srm = bets.SampleRatio()
        self._limit = bets.LatencyLimit(floor_us=config.latency_floor_us)
        self._share = 0.0
        self._first_us: int | None = None
        self._last_us: int | None = None
        self._last_challenger_us: int | None = None
        self._last_closed_us: int | None = None
        self._last_missing_us: int | None = None

    @property
    def held(self) -> int:
        """Outcomes, decisions and orphans in memory, besides one small entry per unit."""
        return self._outcomes.size

    def add(self, decisions: Decisions, rewards: Rewards, *, now_us: int) -> None:
        """Take one tick: its rows, then what falls due at `now_us`. Work is in proportion to the rows."""
        begun = self._decisions(decisions)
        if begun and self._config.adjust == "first_observation":
            rows = np.fromiter((row for row, _ in begun), np.int64, count=len(begun))
            for (_, outcome), features in zip(begun, self._covariates(decisions.observation[rows]), strict=True):
                outcome.features = features
        ends = rewards.done | rewards.truncated
        columns = (rewards.decision_id, rewards.step, rewards.reward, ends, rewards.time_us)
        take = self._outcomes.reward
        for decision_id, step, value, end, time_us in zip(*map(_listed, columns), strict=True):
            take(decision_id, step=step, value=value, ends=end, time_us=time_us)
        for outcome in self._outcomes.expire(now_us):
            if outcome.share > 0.0:
                self._missing(outcome, now_us=now_us)
        for outcome in self._outcomes.drain():
            if outcome.share > 0.0:
                self._consume(outcome, now_us=now_us)
            else:
                self._returns.learn(outcome.value, features=outcome.features)

    def evidence(self) -> Evidence:
        """The statistics at the last tick."""
        champion, challenger = self._tallies
        stage = self._stages.get(self._share, [0, 0])
        effect = self._returns.effect.estimate()
        return Evidence(
            log_e_reward=self._returns.reward.log_e,
            log_e_failure=self._failure.log_e,
            log_e_latency=self._latency.log_e,
            log_e_srm=self._srm.log_e,
            log_w_non_inferior=self._returns.effect.log_non_inferior,
            log_w_superior=self._returns.effect.log_superior,
            closed_champion=champion.closed,
            closed_challenger=challenger.closed,
            closed_challenger_stage=stage[1],
            assigned_champion=champion.assigned,
            assigned_challenger=challenger.assigned,
            assigned_challenger_stage=stage[0],
            failures_champion=champion.failures,
            failures_challenger=challenger.failures,
            slow_champion=champion.slow,
            slow_challenger=challenger.slow,
            missing_champion=champion.missing,
            missing_challenger=challenger.missing,
            mean_champion=champion.mean,
            mean_challenger=challenger.mean,
            effect=effect[0] if effect else None,
            effect_low=effect[1] if effect else None,
            effect_high=effect[2] if effect else None,
            pending=self._outcomes.pending(),
            orphans=self._outcomes.orphans,
            late=self._outcomes.late,
            conflicts=self._outcomes.conflicts,
            duplicates=self._outcomes.duplicates,
            clipped=self._returns.clipped,
            first_us=self._first_us,
            last_us=self._last_us,
            last_challenger_us=self._last_challenger_us,
            last_closed_us=self._last_closed_us,
            last_missing_us=self._last_missing_us,
            share=self._share,
            pre_canary=self._returns.before,
            baseline=self._returns.baseline.level,
            spread=self._returns.baseline.spread,
            margin=self._returns.margin,
            adjusted=self._returns.adjusted,
            srm_p_value=self._srm.p_value,
        )

    @property
    def _frozen(self) -> bool:
        """The split of units is not the one that was promised: labels are no longer random as declared, so nothing bets."""
        return self._srm.log_e >= math.log(SRM_LIMIT)

    def _covariates(self, observations: F32) -> F64:
        function = self._config.covariates or adjustment.raw_observation
        return np.asarray(function(observations), np.float64)

    def _decisions(self, decisions: Decisions) -> list[tuple[int, outcomes.Outcome]]:
        """All decision rows; gives (row, outcome) for each outcome that begins."""
        columns = (
            decisions.decision_id,
            decisions.unit if self._config.assign_by == "unit" else decisions.episode_id,
            decisions.episode_id,
            decisions.step,
            decisions.time_us,
            decisions.epoch,
            decisions.arm,
            decisions.arm_probability,
            decisions.fallback,
            decisions.excluded,
            decisions.latency_us,
            decisions.bundle_digest,
        )
        begun = []
        for index, row in enumerate(map(_Row._make, zip(*map(_listed, columns), strict=True))):
            if self._outcomes.known(row.decision_id):
                self._outcomes.duplicates += 1
                continue
            outcome = self._outcome_of(row)
            if outcome is not None and not outcome.joins:
                begun.append((index, outcome))
            self._outcomes.decision(row.decision_id, outcome, step=row.step, time_us=row.time_us)
            if outcome is not None and row.fallback:
                self._outcomes.fail(outcome)
        return begun

    def _outcome_of(self, row: _Row) -> outcomes.Outcome | None:
        """The outcome that counts this row, begun if need be, after the bets that need no outcome."""
        config = self._config
        challenger = row.arm == config.challenger
        if row.excluded or not (challenger or row.arm == config.champion):
            return None
        if row.epoch < config.start_epoch:
            return None if challenger or config.champion_digest not in {None, row.digest} else self._before_row(row)
        if self._straddles(row):
            return None  # its first steps had no challenger to go to
        share = round(row.chance if challenger else 1.0 - row.chance, 9)  # 1 - 0.95 is the same stage as 0.05
        if not 0.0 < share < 1.0:
            return None  # no chance, no bet
        return self._canary_row(row, challenger=challenger, share=share)

    def _straddles(self, row: _Row) -> bool:
        """Whether the episode began before the canary: it gives no return and is not waited for.

        Its later steps are not counted, so its end would never come, and all behind it would wait for its deadline.
        """
        begun = self._before.get(row.episode)
        if begun is not None:
            self._outcomes.fail(begun)
            self._cut.add(row.episode)
        return row.episode in self._cut

    def _before_row(self, row: _Row) -> outcomes.Outcome | None:
        """A champion's row of before the canary: every episode's return helps to set the baseline."""
        if row.episode in self._cut:
            return None
        if row.fallback:
            return self._before.get(row.episode)
        if row.latency_us >= 0:
            self._limit.observe(row.latency_us)
        outcome = self._before.get(row.episode)
        if outcome is None:
            outcome = outcomes.Outcome(row.episode, row.episode, home=self._before, challenger=False, share=0.0)
            self._outcomes.begin(outcome, time_us=row.time_us)
        return outcome

    def _canary_row(self, row: _Row, *, challenger: bool, share: float) -> outcomes.Outcome | None:
        flags = self._flags.get(row.key, 0)
        outcome = None
        if not flags & _SEEN:
            flags |= _SEEN
            outcome = outcomes.Outcome(row.key, row.episode, home=self._open, challenger=challenger, share=share)
            self._outcomes.begin(outcome, time_us=row.time_us)
            self._assigned(challenger=challenger, share=share)
        else:
            outcome = self._open.get(row.key)
            if outcome is not None and outcome.episode != row.episode:
                outcome = None
        if row.fallback:
            if _its_own_fault(row):
                flags = self._failed(flags, challenger=challenger, share=share)
        elif row.latency_us >= 0:
            flags = self._answered(flags, row.latency_us, challenger=challenger, share=share)
        self._flags[row.key] = flags
        if self._first_us is None:
            self._first_us = row.time_us
        self._last_us = row.time_us
        if challenger:
            self._last_challenger_us = row.time_us
        return outcome

    def _assigned(self, *, challenger: bool, share: float) -> None:
        self._share = share
        self._tallies[challenger].assigned += 1
        self._stages.setdefault(share, [0, 0])[0] += challenger
        if not self._frozen:
            self._srm.bet(challenger=challenger, share=share)

    def _failed(self, flags: int, *, challenger: bool, share: float) -> int:
        if flags & _FAILED:
            return flags
        self._tallies[challenger].failures += 1
        if not self._frozen:
            self._failure.bet(challenger=challenger, share=share)
        return flags | _FAILED

    def _answered(self, flags: int, latency_us: int, *, challenger: bool, share: float) -> int:
        """A time that was measured. Valid whatever the machine does: see `_its_own_fault`; a unit's first slow row bets alone."""
        if not flags & _SLOW and self._limit.slow(latency_us):
            flags |= _SLOW
            self._tallies[challenger].slow += 1
            if not self._frozen:
                self._latency.bet(challenger=challenger, share=share)
        if not challenger:
            self._limit.observe(latency_us)
        return flags

    def _missing(self, outcome: outcomes.Outcome, *, now_us: int) -> None:
        """The reward did not come: a failure of the arm that the unit was assigned to."""
        self._tallies[outcome.challenger].missing += 1
        self._last_missing_us = now_us
        flags = self._flags[outcome.key]
        self._flags[outcome.key] = self._failed(flags, challenger=outcome.challenger, share=outcome.share)

    def _consume(self, outcome: outcomes.Outcome, *, now_us: int) -> None:
        """One outcome of the canary bets."""
        y = self._returns.bet(
            outcome.value,
            features=outcome.features,
            challenger=outcome.challenger,
            share=outcome.share,
            frozen=self._frozen,
        )
        tally = self._tallies[outcome.challenger]
        tally.closed += 1
        tally.total += y
        self._stages[outcome.share][1] += outcome.challenger
        self._last_closed_us = now_us


class _Row(NamedTuple):
    """One decision, of which the fold reads this much. `key`: whoever bets, the unit or the episode."""

    decision_id: str
    key: str
    episode: str
    step: int
    time_us: int
    epoch: int
    arm: str
    chance: float
    fallback: str
    excluded: str
    latency_us: int
    digest: str


def _its_own_fault(row: _Row) -> bool:
    """Whether a row that its arm did not answer bets on failures.

    A bet is fair if, given the event and all before it, the label is still the draw of the assignment. Events of time are such
    only for the row of a turn that was inferred first and by itself (`latency_us` is known, `serve/decide.py` chooses it without
    a look at the arms): whether it is late depends on its own arm and on the machine at that moment. Rows inferred together
    share one end: a pause of the machine makes all of them late at once, and which arm's batch it meets, and how many rows pay
    for it, depends on how the labels of the others fell. `overload` says that the arm was never asked in time: in a turn
    the arm that is asked second waits for the first. An exception or a number that is not finite is the row's own: after a
    failed batch each row is tried by itself.
    """
    if row.fallback == "deadline":
        return row.latency_us >= 0
    return row.fallback != "overload"


def _listed(column: Array) -> list[Any]:
    """Python values: a loop over them is several times faster than one over array elements."""
    values: list[Any] = column.tolist()
    return values
