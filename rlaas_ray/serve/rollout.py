"""Whether a challenger goes on: evidence against the RolloutSpec gives a Verdict, and a stage gives arms.

Called by control at each tick and by replays; `check_feasible` when a rollout is asked for. Harm comes first: an e-value over
its limit rolls back whatever else is true. Pure: acts on nothing, reads no clock (the status tells the time).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rlaas_ray.errors import InvalidInput, Refused
from rlaas_ray.serve import assignment
from rlaas_ray.specs.evidence import SRM_LIMIT, Evidence, RolloutStatus, Verdict
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.specs.routing import BUCKETS, Arm

QUIET_LIMIT = 10.0  # an e-value over this stops the ramp
PROMOTE_LIMIT = 20.0  # alpha 5 % for a promotion
PROMOTE_SHARE = 0.25  # a promotion is judged with at least this share on the challenger
NO_TRAFFIC_S = 600.0
LOSS_NOT_TO_MISS = 0.1  # of the champion's mean, for the exposure cap
# Learning the bet costs about 1.4 times the oracle's units: A/A at share 50 % measured 5,430 in the median against 3,900.
LEARNING = 1.4

Kind = Literal["promote", "hold", "roll_back", "inconclusive"]


def judge(evidence: Evidence, *, spec: RolloutSpec, status: RolloutStatus) -> Verdict:
    """Roll back, end without a result, hold, let the next stage begin, or promote; in this order of precedence."""
    streams = _streams(evidence, spec=spec)
    numbers = _numbers(evidence, spec=spec, status=status)
    harmed = next((s for s in streams if s.log_e >= math.log(s.limit)), None)
    if harmed is not None:
        return _verdict(
            "roll_back", f"rolled back: {harmed.words}", spec=spec, numbers=numbers | {"stream": harmed.name}
        )
    if _seconds(status.started_us, status.now_us) >= spec.max_duration_s:
        reason = (
            f"inconclusive: {spec.max_duration_s:,.0f} s have passed without a verdict after "
            f"{evidence.closed_challenger} challenger and {evidence.closed_champion} champion outcomes; "
            "the champion keeps all units"
        )
        return _verdict("inconclusive", reason, spec=spec, numbers=numbers)
    if evidence.log_e_srm >= math.log(SRM_LIMIT):
        reason = (
            f"held: {evidence.assigned_challenger} of {evidence.assigned_challenger + evidence.assigned_champion} units came "
            f"to the challenger, which its share does not explain (e-value {_big(evidence.log_e_srm)} against the limit "
            f"{SRM_LIMIT:,.0f}); the statistics are frozen and nothing will be promoted. Look for clients that retry, drop "
            "or cache by arm, then abort and start again"
        )
        return _verdict("hold", reason, spec=spec, numbers=numbers | {"alarm": "sample-ratio"})
    if status.state == "shadow":
        return _shadow(spec, status=status, numbers=numbers)
    waiting = _promotion_waits(evidence, spec=spec, status=status, streams=streams)
    if not waiting:
        return _verdict("promote", _promoted(evidence, spec=spec), spec=spec, numbers=numbers)
    return _ramp(evidence, spec=spec, status=status, streams=streams, numbers=numbers, waiting=waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """One way to roll back. `limit` is an e-value; the union of the three holds the error at alpha."""

    name: str
    log_e: float
    limit: float
    words: str


def _streams(evidence: Evidence, *, spec: RolloutSpec) -> list[_Stream]:
    """The streams that the guards leave on. Switching one off does not loosen the others: limits stay as they are."""
    units = f"after {evidence.assigned_challenger + evidence.assigned_champion} units"
    harmed = f"{evidence.assigned_challenger} of them with the challenger"
    means = (
        f"(scaled mean {_mean(evidence.mean_challenger)} over {evidence.closed_challenger} outcomes against "
        f"{_mean(evidence.mean_champion)} over {evidence.closed_champion})"
    )
    parts = [("reward", evidence.log_e_reward, 2.0, f"the challenger's returns are lower {means}")]
    if spec.guards.failures:
        words = (
            f"the challenger fails more often ({evidence.failures_challenger} failing units against "
            f"{evidence.failures_champion} of the champion, {evidence.missing_challenger} and {evidence.missing_champion} "
            "of them by a missing reward)"
        )
        parts.append(("failure", evidence.log_e_failure, 4.0, words))
    if spec.guards.latency:
        words = (
            f"the challenger is slow more often ({evidence.slow_challenger} slow units against "
            f"{evidence.slow_champion} of the champion)"
        )
        parts.append(("latency", evidence.log_e_latency, 4.0, words))
    return [
        _Stream(
            name=name,
            log_e=log_e,
            limit=share / spec.alpha,
            words=f"{words}; e-value {_big(log_e)} against the limit {share / spec.alpha:,.0f} {units}, {harmed}",
        )
        for name, log_e, share, words in parts
    ]


def _shadow(spec: RolloutSpec, *, status: RolloutStatus, numbers: dict[str, float | int | str | None]) -> Verdict:
    """A shadow arm answers nobody, so its stage has no evidence and ends by time."""
    passed_s = _seconds(status.stage_started_us, status.now_us)
    if passed_s >= spec.stage_min_s:
        reason = (
            f"held: the shadow stage has lasted {passed_s:,.0f} s; the first share of {spec.stages[0]:g} % may begin"
        )
        return _verdict("hold", reason, spec=spec, numbers=numbers, advance=True)
    reason = f"held: in the shadow stage for {passed_s:,.0f} s of {spec.stage_min_s:,.0f}"
    return _verdict("hold", reason, spec=spec, numbers=numbers)


def _promotion_waits(
    evidence: Evidence, *, spec: RolloutSpec, status: RolloutStatus, streams: list[_Stream]
) -> list[str]:
    """What a promotion still waits for, in words; empty when nothing."""
    waits = []
    superior = spec.promote == "superior"
    log_w = evidence.log_w_superior if superior else evidence.log_w_non_inferior
    if log_w < math.log(PROMOTE_LIMIT):
        claim = "better" if superior else f"no more than {evidence.margin:.4f} worse"
        waits.append(f"evidence that the challenger is {claim} is {_big(log_w)} of {PROMOTE_LIMIT:g}")
    waits += _not_quiet(streams)
    if evidence.closed_challenger < spec.min_units:
        waits.append(f"{evidence.closed_challenger} of {spec.min_units} challenger outcomes have closed")
    passed_s = _seconds(status.started_us, status.now_us)
    if passed_s < spec.min_time_s:
        waits.append(f"{passed_s:,.0f} of {spec.min_time_s:,.0f} s have passed")
    share = spec.stages[min(status.stage, len(spec.stages) - 1)] / 100.0
    if share < PROMOTE_SHARE or not _same_share(evidence.share, share):
        waits.append(f"the challenger's share is {100 * evidence.share:g} % of at least {100 * PROMOTE_SHARE:g} %")
    return waits


def _ramp(
    evidence: Evidence,
    *,
    spec: RolloutSpec,
    status: RolloutStatus,
    streams: list[_Stream],
    numbers: dict[str, float | int | str | None],
    waiting: list[str],
) -> Verdict:
    """Hold; with `advance` when the next stage may begin."""
    waits = _stage_waits(evidence, spec=spec, status=status, streams=streams)
    last = status.stage >= len(spec.stages) - 1
    if not last and not waits:
        reason = (
            f"held: stage {status.stage + 1} of {len(spec.stages)} is passed with {evidence.closed_challenger_stage} "
            f"challenger outcomes; the share may rise to {spec.stages[status.stage + 1]:g} %"
        )
        return _verdict("hold", reason, spec=spec, numbers=numbers, advance=True)
    alarm, words = _alarm(evidence, spec=spec, status=status)
    cap = exposure_cap(evidence, alpha=spec.alpha)
    numbers = numbers | {"alarm": alarm, "exposure_cap": cap}
    if words:
        return _verdict("hold", f"held: {words}", spec=spec, numbers=numbers)
    capped = not last and cap is not None and evidence.assigned_challenger_stage >= cap
    if capped:
        words = (
            f"{evidence.assigned_challenger_stage} challenger units in this stage reached the exposure cap of {cap} without "
            "a decision, so the share does not rise yet: "
        )
    reason = f"held: {words or ''}{'; '.join(waiting if last else waits)}"
    return _verdict("hold", reason, spec=spec, numbers=numbers)


def _stage_waits(evidence: Evidence, *, spec: RolloutSpec, status: RolloutStatus, streams: list[_Stream]) -> list[str]:
    share = spec.stages[min(status.stage, len(spec.stages) - 1)] / 100.0
    # Right after a step the latest unit still belongs to the stage before: its outcomes must not open the next one too.
    closed = evidence.closed_challenger_stage if _same_share(evidence.share, share) else 0
    waits = []
    if closed < spec.stage_min_units:
        waits.append(
            f"{closed} of {spec.stage_min_units} challenger outcomes of the stage at {100 * share:g} % have closed"
        )
    passed_s = _seconds(status.stage_started_us, status.now_us)
    if passed_s < spec.stage_min_s:
        waits.append(f"the stage has lasted {passed_s:,.0f} of {spec.stage_min_s:,.0f} s")
    return waits + _not_quiet(streams)


def _not_quiet(streams: list[_Stream]) -> list[str]:
    return [
        f"the {s.name} e-value {_big(s.log_e)} is not under {QUIET_LIMIT:g}"
        for s in streams
        if s.log_e >= math.log(QUIET_LIMIT)
    ]


def _alarm(evidence: Evidence, *, spec: RolloutSpec, status: RolloutStatus) -> tuple[str | None, str | None]:
    """No data: which alarm and its words. Rewards that miss in one arm only are failures, and no alarm."""
    latest_us = max(status.stage_started_us, evidence.last_challenger_us or 0)
    silent_s = _seconds(latest_us, status.now_us)
    if silent_s >= NO_TRAFFIC_S:
        share = spec.stages[min(status.stage, len(spec.stages) - 1)]
        return "no-traffic", f"no unit came to the challenger for {silent_s:,.0f} s, at a share of {share:g} %"
    stale = evidence.last_missing_us is not None and (
        evidence.last_closed_us is None or _seconds(evidence.last_closed_us, evidence.last_missing_us) >= NO_TRAFFIC_S
    )
    if stale and evidence.missing_champion and evidence.missing_challenger:
        return "no-reward", (
            f"rewards are missing in both arms ({evidence.missing_champion} champion and {evidence.missing_challenger} "
            "challenger units past their deadline): is anybody sending them?"
        )
    return None, None


def _promoted(evidence: Evidence, *, spec: RolloutSpec) -> str:
    if spec.promote == "superior":
        claim, log_w = "better than the champion", evidence.log_w_superior
    else:
        claim, log_w = f"at most {evidence.margin:.4f} worse than the champion", evidence.log_w_non_inferior
    effect = ""
    if evidence.effect is not None and evidence.effect_low is not None and evidence.effect_high is not None:
        low, high = evidence.effect_low, evidence.effect_high
        effect = f"; scaled effect {evidence.effect:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
    return (
        f"promoted: the challenger is {claim} (evidence {_big(log_w)} against the limit {PROMOTE_LIMIT:g}, "
        f"{evidence.closed_challenger} challenger and {evidence.closed_champion} champion outcomes{effect})"
    )


def exposure_cap(evidence: Evidence, *, alpha: float) -> int | None:
    """Challenger units of one stage that suffice to notice a loss of 10 % of the champion's mean; None before data."""
    loss = LOSS_NOT_TO_MISS * evidence.baseline
    if evidence.share <= 0.0 or loss <= 0.0:
        return None
    return math.ceil(1.2 * 2.0 * math.log(1.0 / alpha) * evidence.spread**2 / ((1.0 - evidence.share) * loss**2))


def next_arms(arms: tuple[Arm, ...], share_percent: float) -> tuple[Arm, ...]:
    """The arms with the challenger at this share; 0 takes its units back to the champion. Rising only adds units."""
    challenger = next((arm for arm in arms if arm.role == "challenger"), None)
    if challenger is None:
        raise InvalidInput("arms of a rollout", given=[a.name for a in arms], expected="one challenger")
    return assignment.grow(arms, challenger.name, count=round(share_percent * BUCKETS / 100.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """Bets (units or episodes, both arms) that a verdict needs: for the gates, and for the statistics at the last share."""

    gates: int
    statistics: int | None

    @property
    def total(self) -> int:
        """All of them."""
        return self.gates + max((self.statistics or 0), 0)


def expected_bets(spec: RolloutSpec, *, mean: float | None = None, spread: float | None = None) -> Needed:
    """What the spec's gates ask for and, where the champion's scaled mean and spread are known, what its margin asks for.

    The statistics' part assumes a challenger equal to the champion (`non_inferior`) or better by the margin (`superior`).
    """
    last = min(spec.stages[-1] / 100.0, 0.5)
    before = sum(spec.stage_min_units * 100.0 / stage for stage in spec.stages[:-1])
    closed = spec.stage_min_units * (len(spec.stages) - 1)
    gates = math.ceil(before + max(spec.min_units - closed, 1) / last)
    if mean is None or spread is None or mean <= 0.0:
        return Needed(gates=gates, statistics=None)
    growth = last * (1.0 - last) * (spec.margin * mean) ** 2 / (2.0 * spread**2)
    return Needed(gates=gates, statistics=math.ceil(LEARNING * math.log(PROMOTE_LIMIT) / growth))


def check_feasible(
    spec: RolloutSpec,
    expected_units_per_s: float | None = None,
    *,
    mean: float | None = None,
    spread: float | None = None,
) -> Needed:
    """Raises Refused when the rollout cannot reach a verdict: its last stage is too small, or too few units will come.

    Without a rate (neither here nor in the spec) only the stages are checked.
    """
    needed = expected_bets(spec, mean=mean, spread=spread)
    if spec.stages[-1] < 100 * PROMOTE_SHARE:
        raise Refused(
            "a rollout whose stages end below the share that a promotion needs",
            given=f"stages {[f'{s:g}' for s in spec.stages]} percent",
            expected=f"a last stage of at least {100 * PROMOTE_SHARE:g}",
            cure="add a stage of 25 or 50 percent.",
        )
    gates_s = max(spec.min_time_s, spec.stage_min_s * (len(spec.stages) - 1))
    if spec.max_duration_s <= gates_s:
        raise Refused(
            "a rollout that ends before its gates let it promote",
            given=f"max_duration_s {spec.max_duration_s:g}",
            expected=f"more than {gates_s:g} (min_time_s, and stage_min_s for each stage but the last)",
            cure="raise max_duration_s, or lower min_time_s and stage_min_s.",
        )
    rate = expected_units_per_s if expected_units_per_s is not None else spec.expected_units_per_s
    if rate is None:
        return needed
    coming = rate * spec.max_duration_s
    if coming < needed.total:
        raise Refused(
            "a rollout that cannot reach a verdict",
            given=f"{coming:,.0f} units expected ({rate:g}/s for {spec.max_duration_s:,.0f} s)",
            expected=f"at least {needed.total:,} ({needed.gates:,} for the gates, {needed.statistics or 0:,} for the margin)",
            cure="raise max_duration_s or the stages, lower min_units or stage_min_units, widen the margin, use "
            "`adjust: first_observation`, or `assign_by: episode` when few units live long.",
        )
    return needed


def _numbers(evidence: Evidence, *, spec: RolloutSpec, status: RolloutStatus) -> dict[str, float | int | str | None]:
    return {
        "e_reward": _exp(evidence.log_e_reward),
        "e_failure": _exp(evidence.log_e_failure),
        "e_latency": _exp(evidence.log_e_latency),
        "e_srm": _exp(evidence.log_e_srm),
        "w_non_inferior": _exp(evidence.log_w_non_inferior),
        "w_superior": _exp(evidence.log_w_superior),
        "limit_reward": 2.0 / spec.alpha,
        "limit_failure": 4.0 / spec.alpha,
        "limit_latency": 4.0 / spec.alpha,
        "limit_srm": SRM_LIMIT,
        "limit_promote": PROMOTE_LIMIT,
        "units": evidence.assigned_champion + evidence.assigned_challenger,
        "units_challenger": evidence.assigned_challenger,
        "closed_challenger": evidence.closed_challenger,
        "closed_challenger_stage": evidence.closed_challenger_stage,
        "failures_challenger": evidence.failures_challenger,
        "effect": evidence.effect,
        "share_percent": spec.stages[min(status.stage, len(spec.stages) - 1)],
        "stage": status.stage,
        "preset": spec.preset,
    }


def _verdict(
    kind: Kind, reason: str, *, spec: RolloutSpec, numbers: dict[str, float | int | str | None], advance: bool = False
) -> Verdict:
    if spec.preset == "demo":
        reason += " (preset demo: gates shortened for a demonstration, no basis for production)"
    return Verdict(kind=kind, reason=reason, numbers=numbers, advance=advance)


def _seconds(since_us: int, now_us: int) -> float:
    return (now_us - since_us) / 1e6


def _same_share(a: float, b: float) -> bool:
    return abs(a - b) < 1.0 / BUCKETS


def _mean(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _exp(log_value: float) -> float:
    """An e-value that JSON can hold."""
    return math.exp(min(log_value, 700.0))


def _big(log_value: float) -> str:
    """An e-value in figures people read."""
    if log_value > math.log(1e6):
        return f"1e{log_value / math.log(10.0):.0f}"
    value = math.exp(log_value)
    return f"{value:,.0f}" if value >= QUIET_LIMIT else f"{value:.2g}"
