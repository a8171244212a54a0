"""Verdicts: harm first, then the split, the gates, the ramp; and what they say."""

import math
from dataclasses import replace

import pytest

from rlaas_ray.errors import InvalidInput, Refused
from rlaas_ray.evaluation import sequential
from rlaas_ray.serve import rollout
from rlaas_ray.specs.evidence import Evidence, RolloutStatus, Verdict
from rlaas_ray.specs.rollout import Guards, RolloutSpec
from rlaas_ray.specs.routing import Arm

SECOND = 1_000_000
SPEC = RolloutSpec(endpoint="cells", challenger="a:2")
EMPTY = sequential.Fold(
    sequential.FoldConfig(
        start_epoch=1, champion="a", challenger="b", reward_low=0, reward_high=1, gamma=1, deadline_us=1
    )
).evidence()
GOOD = replace(
    EMPTY,
    log_w_non_inferior=math.log(25),
    log_w_superior=math.log(2),
    closed_champion=600,
    closed_challenger=500,
    closed_challenger_stage=400,
    assigned_champion=610,
    assigned_challenger=505,
    assigned_challenger_stage=402,
    mean_champion=0.7,
    mean_challenger=0.71,
    effect=0.01,
    effect_low=-0.002,
    effect_high=0.022,
    share=0.5,
    baseline=0.7,
    spread=0.15,
    margin=0.014,
    last_challenger_us=1999 * SECOND,
    last_closed_us=1999 * SECOND,
)
LAST = RolloutStatus(state="ramping", stage=2, started_us=0, stage_started_us=1000 * SECOND, now_us=2000 * SECOND)
FIRST = replace(LAST, stage=0, stage_started_us=0, now_us=400 * SECOND)
EARLY = replace(GOOD, share=0.05, closed_challenger_stage=60, last_challenger_us=399 * SECOND)


def judge(evidence: Evidence, *, spec: RolloutSpec = SPEC, status: RolloutStatus = LAST) -> Verdict:
    return rollout.judge(evidence, spec=spec, status=status)


def test_all_conditions_met_promote() -> None:
    verdict = judge(GOOD)
    assert verdict.kind == "promote"
    assert "at most 0.0140 worse" in verdict.reason
    assert "500 challenger and 600 champion outcomes" in verdict.reason
    assert "+0.0100" in verdict.reason


@pytest.mark.parametrize(
    ("evidence", "spec", "status", "words"),
    [
        ({"log_w_non_inferior": math.log(19.9)}, {}, {}, "is 20 of 20"),
        ({}, {"promote": "superior"}, {}, "better is 2 of 20"),
        ({"log_e_latency": math.log(10)}, {}, {}, "latency e-value 10"),
        ({"closed_challenger": 199}, {}, {}, "199 of 200"),
        ({}, {}, {"now_us": 1799 * SECOND}, "1,799 of 1,800 s"),
        ({"share": 0.05}, {"stages": (5,)}, {"stage": 0}, "share is 5 %"),
        ({"share": 0.25}, {}, {}, "share is 25 %"),
    ],
)
def test_each_condition_alone_holds_a_promotion(evidence: dict, spec: dict, status: dict, words: str) -> None:
    verdict = judge(replace(GOOD, **evidence), spec=SPEC.model_copy(update=spec), status=replace(LAST, **status))
    assert (verdict.kind, verdict.advance) == ("hold", False)
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("stream", "limit"), [("log_e_reward", 200.0), ("log_e_failure", 400.0), ("log_e_latency", 400.0)]
)
def test_each_stream_rolls_back_at_its_limit_even_when_everything_else_is_good(stream: str, limit: float) -> None:
    assert judge(replace(GOOD, **{stream: math.log(limit * 0.999)})).kind == "hold"
    verdict = judge(replace(GOOD, **{stream: math.log(limit)}))
    assert verdict.kind == "roll_back"
    assert f"against the limit {limit:,.0f} after 1115 units, 505 of them" in verdict.reason
    assert verdict.numbers["stream"] == stream.removeprefix("log_e_")


def test_limits_follow_alpha() -> None:
    strict = SPEC.model_copy(update={"alpha": 0.001})
    assert judge(replace(GOOD, log_e_reward=math.log(1999)), spec=strict).kind == "hold"
    assert judge(replace(GOOD, log_e_reward=math.log(2001)), spec=strict).kind == "roll_back"


def test_a_guard_that_is_off_neither_rolls_back_nor_holds_nor_loosens_the_others() -> None:
    off = SPEC.model_copy(update={"guards": Guards(failures=False, latency=False)})
    assert judge(replace(GOOD, log_e_failure=99.0, log_e_latency=99.0), spec=off).kind == "promote"
    assert judge(replace(GOOD, log_e_reward=math.log(199)), spec=off).kind == "hold"


def test_a_broken_split_holds_and_is_never_promoted_but_harm_still_rolls_back() -> None:
    broken = replace(GOOD, log_e_srm=math.log(1001))
    verdict = judge(broken)
    assert (verdict.kind, verdict.advance, verdict.numbers["alarm"]) == ("hold", False, "sample-ratio")
    assert judge(replace(broken, log_e_failure=9.0)).kind == "roll_back"


def test_time_runs_out_without_a_verdict_but_not_over_harm() -> None:
    late = replace(LAST, now_us=700_000 * SECOND)
    assert judge(GOOD, status=late).kind == "inconclusive"
    assert judge(replace(GOOD, log_e_reward=9.0), status=late).kind == "roll_back"


def test_a_passed_stage_lets_the_next_begin() -> None:
    verdict = judge(EARLY, status=FIRST)
    assert (verdict.kind, verdict.advance) == ("hold", True)
    assert "rise to 25 %" in verdict.reason


@pytest.mark.parametrize(
    ("evidence", "status", "words"),
    [
        ({"closed_challenger_stage": 49}, {}, "49 of 50"),
        ({}, {"now_us": 299 * SECOND}, "299 of 300 s"),
        ({"log_e_reward": math.log(11)}, {}, "reward e-value 11"),
        ({"share": 0.25}, {}, "0 of 50"),
    ],
)
def test_each_condition_alone_holds_a_stage(evidence: dict, status: dict, words: str) -> None:
    verdict = judge(replace(EARLY, assigned_challenger_stage=0, **evidence), status=replace(FIRST, **status))
    assert (verdict.kind, verdict.advance) == ("hold", False)
    assert words in verdict.reason


def test_at_the_exposure_cap_without_a_decision_the_share_does_not_rise() -> None:
    verdict = judge(replace(EARLY, log_e_reward=math.log(50), assigned_challenger_stage=5000), status=FIRST)
    assert (verdict.kind, verdict.advance) == ("hold", False)
    assert "exposure cap" in verdict.reason


def test_the_exposure_cap_is_the_published_one() -> None:
    tenth = replace(GOOD, share=0.1, spread=0.178, baseline=0.35)
    assert rollout.exposure_cap(tenth, alpha=0.01) == 318
    assert rollout.exposure_cap(EMPTY, alpha=0.01) is None


def test_silence_is_an_alarm_and_so_are_rewards_that_nobody_sends() -> None:
    quiet = judge(replace(EARLY, log_e_reward=math.log(50)), status=replace(FIRST, now_us=1000 * SECOND))
    assert quiet.numbers["alarm"] == "no-traffic"
    unpaid = replace(
        EARLY,
        closed_challenger_stage=0,
        missing_champion=90,
        missing_challenger=5,
        last_missing_us=1,
        last_closed_us=None,
    )
    assert judge(unpaid, status=FIRST).numbers["alarm"] == "no-reward"
    assert judge(replace(unpaid, missing_champion=0), status=FIRST).numbers["alarm"] is None


def test_a_shadow_stage_ends_by_time_and_is_never_promoted() -> None:
    shadow = replace(LAST, state="shadow", stage=0, stage_started_us=0)
    assert judge(GOOD, status=replace(shadow, now_us=100 * SECOND)).advance is False
    verdict = judge(GOOD, status=shadow)
    assert (verdict.kind, verdict.advance) == ("hold", True)


def test_the_demo_preset_is_named_in_every_reason() -> None:
    demo = SPEC.model_copy(update={"preset": "demo"})
    for evidence in (GOOD, EMPTY, replace(GOOD, log_e_reward=9.0)):
        assert "preset demo" in judge(evidence, spec=demo).reason


def test_numbers_stay_finite_for_any_evidence() -> None:
    verdict = judge(replace(GOOD, log_e_reward=1e6, log_w_superior=-1e6))
    assert all(math.isfinite(v) for v in verdict.numbers.values() if isinstance(v, float))
    assert "1e434294" in verdict.reason


def test_next_arms_rise_and_go_back() -> None:
    arms = (
        Arm(name="champion", role="champion", version="a:1", digest="x"),
        Arm(name="challenger", role="challenger", version="a:2", digest="y"),
    )
    five = rollout.next_arms(arms, 5)
    assert five[1].ranges == ((0, 500),)
    assert rollout.next_arms(five, 25)[1].ranges == ((0, 2500),)
    assert rollout.next_arms(five, 0) == arms
    with pytest.raises(InvalidInput, match="one challenger"):
        rollout.next_arms(arms[:1], 5)


def test_expected_bets_count_the_gates_and_the_margin() -> None:
    needed = rollout.expected_bets(SPEC, mean=0.7, spread=0.15)
    assert needed.gates == 50 * 20 + 50 * 4 + 100 * 2
    # 2 ln 20 s^2 / (pi (1 - pi) delta^2) = 2,751, and 1.4 of it for learning the bet
    assert needed.statistics == math.ceil(1.4 * 2 * math.log(20) * 0.15**2 / (0.25 * 0.014**2))
    assert rollout.expected_bets(SPEC).statistics is None


def test_a_rollout_that_cannot_reach_a_verdict_is_refused_with_the_number_it_needs() -> None:
    brief = SPEC.model_copy(update={"max_duration_s": 3600.0})
    with pytest.raises(Refused, match="1,400") as caught:
        rollout.check_feasible(brief, 0.1)
    assert "360 units expected" in str(caught.value)
    assert rollout.check_feasible(brief, 10.0).total == 1400
    with pytest.raises(Refused):
        rollout.check_feasible(brief.model_copy(update={"expected_units_per_s": 0.1}))
    assert rollout.check_feasible(brief).total == 1400


def test_stages_that_end_too_low_and_a_time_that_ends_too_soon_are_refused() -> None:
    with pytest.raises(Refused, match="at least 25"):
        rollout.check_feasible(SPEC.model_copy(update={"stages": (1.0, 10.0)}))
    with pytest.raises(Refused, match="before its gates"):
        rollout.check_feasible(SPEC.model_copy(update={"max_duration_s": 900.0}))
