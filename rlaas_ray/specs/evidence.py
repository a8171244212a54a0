"""Evidence: what decisions and rewards say about a challenger; Verdict: promote, hold or roll back, with the reason.

Evidence is made by `evaluation/sequential.py`, compared with the RolloutSpec by `serve/rollout.py`, stored and acted on by
`control`. Values only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

SRM_LIMIT = 1000.0  # alpha 0.1 % for the split of units: over it bets freeze and nothing is promoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Statistics of one rollout at one cut. Log e-values are natural logs; counts are units (or episodes), not requests.

    `effect` is challenger minus champion on the scaled return in [0, 1] (AIPW mean), with a 95 % normal interval for reading;
    verdicts never use the interval.
    """

    log_e_reward: float
    log_e_failure: float
    log_e_latency: float
    log_e_srm: float
    log_w_non_inferior: float
    log_w_superior: float
    closed_champion: int
    closed_challenger: int
    closed_challenger_stage: int
    assigned_champion: int
    assigned_challenger: int
    failures_champion: int
    failures_challenger: int
    mean_champion: float | None
    mean_challenger: float | None
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    pending: int
    orphans: int
    late: int
    conflicts: int
    clipped: int
    first_us: int | None
    last_us: int | None
    # The stage is the challenger's share of the latest unit; 0 before the first.
    share: float = 0.0
    assigned_challenger_stage: int = 0
    slow_champion: int = 0
    slow_challenger: int = 0
    missing_champion: int = 0
    missing_challenger: int = 0
    duplicates: int = 0
    pre_canary: int = 0
    baseline: float = 0.5
    spread: float = 0.0
    margin: float = 0.0
    adjusted: bool = False
    srm_p_value: float | None = None
    last_challenger_us: int | None = None
    last_closed_us: int | None = None
    last_missing_us: int | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values; infinities never occur (log e-values are finite)."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStatus:
    """Where a rollout stands when it is judged: all that is not evidence. `stage` indexes spec.stages."""

    state: Literal["shadow", "ramping", "holding"]
    stage: int
    started_us: int
    stage_started_us: int
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`advance`: a hold that lets the next stage begin. `reason` is for people, `numbers` for programs."""

    kind: Literal["promote", "hold", "roll_back", "inconclusive"]
    reason: str
    numbers: dict[str, float | int | str | None]
    advance: bool = False
