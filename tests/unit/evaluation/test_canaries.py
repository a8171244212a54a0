"""Whole canaries, folded and judged each second: the dead are found at once, the equal are left alone.

`benchmarks/canary.py` has the operating characteristics; here are few runs with the same parts.
"""

from dataclasses import replace

import numpy as np
import pytest

from rlaas_ray.evaluation import sequential
from rlaas_ray.serve import rollout
from rlaas_ray.specs.evidence import RolloutStatus, Verdict
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.testing import rows

SECOND = 1_000_000
CONFIG = sequential.FoldConfig(
    start_epoch=2,
    champion="champion",
    challenger="challenger",
    reward_low=0.0,
    reward_high=1.0,
    gamma=1.0,
    deadline_us=5 * SECOND,
)
SPEC = RolloutSpec(endpoint="cells", challenger="a:2", stages=(5, 50), min_time_s=1, stage_min_s=5)


def judged(harm, *, seed: int, seconds: int, rate: int = 100, lost: bool = False) -> tuple[Verdict, int]:
    """A canary of `seconds`; `harm` turns the outcomes of challenged units into theirs. The verdict and its second."""
    rng = np.random.default_rng(seed)
    fold = sequential.Fold(CONFIG)
    names = [f"p{i}" for i in range(300)]
    fold.add(rows.decisions(names), rows.rewards(names, reward=rng.beta(6, 3, 300)), now_us=0)
    status = RolloutStatus(state="ramping", stage=0, started_us=0, stage_started_us=0, now_us=0)
    for second in range(seconds):
        share = SPEC.stages[status.stage] / 100
        label = rng.random(rate) < share
        outcome = rng.beta(6, 3, rate)
        names = [f"{second}-{i}" for i in range(rate)]
        now_us = (second + 1) * SECOND
        broken = harm == "dead"
        decisions = rows.decisions(
            names,
            epoch=2 + status.stage,
            time_us=second * SECOND,
            arm=np.where(label, "challenger", "champion").tolist(),
            arm_probability=np.where(label, share, 1 - share),
            fallback=np.where(label & broken, "error", "").tolist(),
        )
        paid = np.flatnonzero(~(label & (broken or lost)))
        values = outcome if isinstance(harm, str) else np.where(label, harm(outcome), outcome)
        fold.add(decisions, rows.rewards([names[i] for i in paid], reward=values[paid], time_us=now_us), now_us=now_us)
        status = replace(status, now_us=now_us)
        verdict = rollout.judge(fold.evidence(), spec=SPEC, status=status)
        if verdict.advance:
            status = replace(status, stage=status.stage + 1, stage_started_us=now_us)
        elif verdict.kind != "hold":
            break
    return verdict, second + 1


@pytest.mark.parametrize("seed", range(5))
def test_a_dead_challenger_at_five_percent_is_rolled_back_within_five_seconds(seed: int) -> None:
    verdict, seconds = judged("dead", seed=seed, seconds=10)
    assert verdict.kind == "roll_back"
    assert seconds <= 5
    assert "fails more often" in verdict.reason


def test_rewards_that_only_the_challenger_loses_roll_it_back_soon_after_their_deadline() -> None:
    verdict, seconds = judged(lambda y: y, seed=1, seconds=20, lost=True)
    assert verdict.kind == "roll_back"
    assert 7 <= seconds <= 12
    assert verdict.numbers["stream"] == "failure"


def test_lower_returns_are_rolled_back_by_the_reward() -> None:
    verdict, _ = judged(lambda y: 0.8 * y, seed=2, seconds=100)
    assert (verdict.kind, verdict.numbers["stream"]) == ("roll_back", "reward")


def test_better_returns_are_promoted() -> None:
    verdict, _ = judged(lambda y: np.minimum(1.1 * y, 1.0), seed=3, seconds=100)
    assert verdict.kind == "promote"


def test_equal_challengers_are_not_rolled_back() -> None:
    verdicts = [judged(lambda y: y, seed=seed, seconds=40)[0] for seed in range(8)]
    assert "roll_back" not in {v.kind for v in verdicts}


def test_few_sticky_units_with_levels_of_their_own_roll_nothing_back() -> None:
    """300 units in 3,000 episodes: betting on every episode rolls back one A/A in six, betting on each unit once does not."""
    limit = np.log(200)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        level, label = rng.uniform(0.2, 0.8, 300), rng.random(300) < 0.1
        unit = rng.integers(0, 300, 3_000)
        names = [f"d{i}" for i in range(3_000)]
        decisions = rows.decisions(
            names,
            unit=[f"u{k}" for k in unit],
            epoch=2,
            arm=np.where(label[unit], "challenger", "champion").tolist(),
            arm_probability=np.where(label[unit], 0.1, 0.9),
        )
        rewards = rows.rewards(names, reward=np.clip(level[unit] + 0.05 * rng.standard_normal(3_000), 0, 1))
        fold = sequential.Fold(CONFIG)
        for index in np.array_split(np.arange(3_000), 30):
            fold.add(decisions.take(index), rewards.take(index), now_us=0)
            assert fold.evidence().log_e_reward < limit
        assert fold.evidence().assigned_champion + fold.evidence().assigned_challenger == len(set(unit.tolist()))
