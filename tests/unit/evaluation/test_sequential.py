"""The fold: who bets, when, in which order; and the same bytes from the same rows."""

import itertools
import math
from dataclasses import replace

import hypothesis
import numpy as np
import orjson
import pytest
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.evaluation import bets, sequential
from rlaas_ray.specs.evidence import Evidence
from rlaas_ray.specs.log import Decisions, Rewards
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.specs.routing import Arm, RouteTable
from rlaas_ray.testing import rows

SECOND = 1_000_000
CONFIG = sequential.FoldConfig(
    start_epoch=5,
    champion="champion",
    challenger="challenger",
    reward_low=0.0,
    reward_high=1.0,
    gamma=1.0,
    deadline_us=60 * SECOND,
)
NO_DECISIONS = rows.decisions([])
NO_REWARDS = rows.rewards([])


def canary(names: list[str], labels: str, *, share: float = 0.1, **columns) -> Decisions:
    """One row a letter: c the challenger, b the champion."""
    chance = [share if letter == "c" else 1.0 - share for letter in labels]
    arms = ["challenger" if letter == "c" else "champion" for letter in labels]
    given = {"epoch": 5, "time_us": np.arange(len(names)) * 1000} | columns
    return rows.decisions(names, arm=arms, arm_probability=chance, **given)


def body(fold: sequential.Fold) -> bytes:
    return orjson.dumps(fold.evidence().to_json())


def fold_once(decisions: Decisions, rewards: Rewards, *, now_us: int = 0, config=CONFIG) -> Evidence:
    fold = sequential.Fold(config)
    fold.add(decisions, rewards, now_us=now_us)
    return fold.evidence()


def names_of(count: int) -> list[str]:
    return [f"d{i}" for i in range(count)]


def test_nothing_gives_wealth_one() -> None:
    evidence = sequential.Fold(CONFIG).evidence()
    assert evidence.log_e_reward == evidence.log_e_failure == evidence.log_e_srm == evidence.log_w_superior == 0.0
    assert evidence.effect is None
    assert evidence.first_us is None


def test_fallback_answers_are_failures_of_the_arm_and_give_the_published_wealth() -> None:
    evidence = fold_once(canary(names_of(5), "ccbcc", fallback="error"), rows.rewards(names_of(5), reward=0.9))
    assert math.exp(evidence.log_e_failure) == pytest.approx(272.1858, abs=5e-5)
    assert (evidence.failures_challenger, evidence.failures_champion) == (4, 1)
    assert (evidence.closed_challenger, evidence.closed_champion, evidence.log_e_reward) == (0, 0, 0.0)


def test_the_split_of_units_gives_the_closed_form_in_units_not_requests() -> None:
    names = names_of(2000)
    evidence = fold_once(
        canary(names, ("c" * 10 + "b" * 90) * 20, unit=[f"u{i % 1000}" for i in range(2000)]), NO_REWARDS
    )
    gamma = math.lgamma
    expected = gamma(100) - gamma(1100) + gamma(10 + 100) - gamma(10) + gamma(90 + 900) - gamma(90)
    expected -= 100 * math.log(0.1) + 900 * math.log(0.9)
    assert evidence.log_e_srm == pytest.approx(expected)


def test_a_split_that_cannot_be_chance_freezes_every_bet() -> None:
    names = names_of(1200)
    broken = fold_once(canary(names, "c" * 1000 + "b" * 200), rows.rewards(names, reward=0.1))
    assert broken.log_e_srm >= math.log(1000)
    assert broken.log_e_srm < math.log(1000) + 3  # it stopped where it crossed
    assert broken.log_e_reward == 0.0
    ratio = bets.SampleRatio()
    broken_after = 0
    while ratio.log_e < math.log(1000):
        ratio.bet(challenger=True, share=0.1)
        broken_after += 1
    # the unit that shows the broken split bets no more
    broken_after -= 1
    late = fold_once(canary(names, "c" * 1000 + "b" * 200, fallback="error"), NO_REWARDS)
    assert late.failures_challenger == 1000
    assert late.log_e_failure == pytest.approx(broken_after * math.log(50 / 5.9) - math.log(5), abs=0.1)


def test_rewards_bet_against_the_baseline_of_before_the_canary() -> None:
    before = [f"p{i}" for i in range(400)]
    values = np.random.default_rng(0).uniform(0.5, 0.9, 400)
    fold = sequential.Fold(CONFIG)
    fold.add(rows.decisions(before, epoch=4), rows.rewards(before, reward=values), now_us=0)
    start = fold.evidence()
    assert start.pre_canary == 400
    assert start.baseline == pytest.approx(0.7, abs=0.03)
    fold.add(canary(["x", "y"], "cb"), rows.rewards(["x", "y"], reward=[0.3, 0.8]), now_us=1)
    tilt, effect = bets.RewardTilt(), bets.MeanEffect()
    twin = bets.Baseline()
    for y in values:
        twin.observe(float(y), prediction=0.0)
    margin = 0.02 * twin.level
    for y, label in ((0.3, True), (0.8, False)):
        location, spread = twin.predict(0.0), twin.spread
        tilt.bet((y - location) / spread, challenger=label, share=0.1)
        effect.bet(y, challenger=label, share=0.1, baseline=location, spread=spread, margin=margin)
        twin.observe(y, prediction=0.0)
    evidence = fold.evidence()
    assert evidence.log_e_reward == pytest.approx(tilt.log_e)
    assert evidence.log_w_non_inferior == pytest.approx(effect.log_non_inferior)
    assert evidence.margin == margin
    assert evidence.log_e_reward > 0.0


def test_a_sticky_unit_bets_once_in_each_stream() -> None:
    names = names_of(6)
    unit = ["u"] * 6
    once = fold_once(canary(names[:1], "c", unit="u", fallback="error"), NO_REWARDS)
    often = fold_once(canary(names, "cccccc", unit=unit, fallback="error"), NO_REWARDS)
    assert often.log_e_failure == once.log_e_failure
    paid = fold_once(canary(names, "cccccc", unit=unit), rows.rewards(names, reward=0.1))
    assert (paid.closed_challenger, paid.assigned_challenger) == (1, 1)
    assert paid.orphans == paid.late == 0


def test_episodes_of_one_unit_bet_each_when_the_endpoint_assigns_by_episode() -> None:
    names = names_of(4)
    by_episode = replace(CONFIG, assign_by="episode")
    evidence = fold_once(canary(names, "cbcb", unit="u"), rows.rewards(names, reward=0.5), config=by_episode)
    assert (evidence.closed_challenger, evidence.closed_champion) == (2, 2)


def test_a_return_is_the_discounted_sum_scaled_into_its_bounds() -> None:
    config = replace(CONFIG, gamma=0.5, reward_low=-1.0, reward_high=3.0)
    names = names_of(3)
    decisions = canary(names, "ccc", unit="u", episode_id="e", step=[0, 1, 2])
    rewards = rows.rewards(names, reward=[1.0, 2.0, -4.0], done=[False, False, True])
    evidence = fold_once(decisions, rewards, config=config)
    assert evidence.mean_challenger == pytest.approx((1.0 + 1.0 - 1.0 + 1.0) / 4.0)
    assert evidence.clipped == 0


def test_several_rewards_of_one_decision_add_up() -> None:
    rewards = rows.rewards(["d0"] * 3, reward=[0.1, 0.2, 0.3], step=[0, 1, 2], done=[False, False, True])
    assert fold_once(canary(["d0"], "c"), rewards).mean_challenger == pytest.approx(0.6)


def test_a_return_out_of_bounds_is_clipped_and_counted() -> None:
    evidence = fold_once(canary(["a", "b"], "cc"), rows.rewards(["a", "b"], reward=[7.0, -1e308]))
    assert evidence.clipped == 2
    assert evidence.mean_challenger == 0.5


def test_the_head_of_the_line_waits_whatever_its_arm() -> None:
    fold = sequential.Fold(CONFIG)
    fold.add(canary(["slow", "fast"], "bc"), rows.rewards(["fast"], reward=0.2), now_us=SECOND)
    assert fold.evidence().closed_challenger == 0
    assert fold.evidence().pending == 2
    fold.add(NO_DECISIONS, rows.rewards(["slow"], reward=0.9, time_us=2 * SECOND), now_us=2 * SECOND)
    assert (fold.evidence().closed_challenger, fold.evidence().closed_champion, fold.evidence().pending) == (1, 1, 0)


def test_a_reward_missing_at_its_deadline_is_a_failure_and_frees_the_line() -> None:
    fold = sequential.Fold(CONFIG)
    fold.add(canary(["slow", "fast"], "cb"), rows.rewards(["fast"], reward=0.2), now_us=SECOND)
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=61 * SECOND)
    assert fold.evidence().failures_challenger == 0  # two seconds of settling
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=62 * SECOND)
    evidence = fold.evidence()
    assert (evidence.failures_challenger, evidence.missing_challenger) == (1, 1)
    assert (evidence.closed_champion, evidence.closed_challenger) == (1, 0)
    assert evidence.log_e_failure == pytest.approx(math.log(4.0123), abs=1e-4)
    fold.add(NO_DECISIONS, rows.rewards(["slow"], reward=1.0, time_us=59 * SECOND), now_us=63 * SECOND)
    assert fold.evidence().late == 1
    assert fold.evidence().closed_challenger == 0


def test_a_reward_sent_after_the_deadline_is_late_even_while_the_outcome_is_open() -> None:
    fold = sequential.Fold(CONFIG)
    fold.add(canary(["a"], "c"), rows.rewards(["a"], reward=1.0, time_us=60 * SECOND + 1), now_us=61 * SECOND)
    assert fold.evidence().late == 1
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=62 * SECOND)
    assert fold.evidence().missing_challenger == 1


def test_rewards_without_an_end_close_at_the_deadline() -> None:
    fold = sequential.Fold(CONFIG)
    fold.add(canary(["a"], "c"), rows.rewards(["a"], reward=0.25, done=False), now_us=SECOND)
    assert fold.evidence().closed_challenger == 0
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=62 * SECOND)
    assert fold.evidence().mean_challenger == 0.25
    assert fold.evidence().missing_challenger == 0


def test_an_episode_that_breaks_off_is_missing_its_last_reward() -> None:
    names = names_of(2)
    fold = sequential.Fold(CONFIG)
    decisions = canary(names, "cc", unit="u", episode_id="e", step=[0, 1])
    fold.add(decisions, rows.rewards(names[:1], reward=0.5, done=False), now_us=SECOND)
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=70 * SECOND)
    assert (fold.evidence().missing_challenger, fold.evidence().closed_challenger) == (1, 0)


def test_a_single_reward_at_the_end_of_an_episode_settles_and_closes() -> None:
    names = names_of(3)
    fold = sequential.Fold(CONFIG)
    decisions = canary(names, "ccc", unit="u", episode_id="e", step=[0, 1, 2])
    fold.add(decisions, rows.rewards(names[2:], reward=0.5, time_us=SECOND), now_us=SECOND)
    assert fold.evidence().closed_challenger == 0
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=3 * SECOND)
    assert fold.evidence().mean_challenger == 0.5


def test_an_endless_episode_does_not_block_the_line_for_ever() -> None:
    fold = sequential.Fold(CONFIG)
    for i in range(70):
        now = i * 10 * SECOND
        step = canary([f"d{i}"], "c", unit="u", episode_id="e", step=i, time_us=[now])
        fold.add(step, rows.rewards([f"d{i}"], reward=0.01, done=False, time_us=now), now_us=now)
    assert fold.evidence().closed_challenger == 1


def test_an_orphan_is_joined_when_its_decision_appears() -> None:
    fold = sequential.Fold(CONFIG)
    fold.add(NO_DECISIONS, rows.rewards(["a"], reward=0.4), now_us=1)
    assert fold.evidence().orphans == 1
    fold.add(canary(["a"], "c"), NO_REWARDS, now_us=2)
    assert (fold.evidence().orphans, fold.evidence().mean_challenger) == (0, 0.4)


def test_the_first_of_two_values_stays() -> None:
    rewards = rows.rewards(["a", "a", "a"], reward=[0.4, 0.9, 0.4])
    evidence = fold_once(canary(["a"], "c"), rewards)
    assert (evidence.mean_challenger, evidence.conflicts, evidence.duplicates) == (0.4, 1, 1)


def test_excluded_rows_and_other_arms_stay_out() -> None:
    decisions = canary(names_of(3), "ccc", excluded=["holdout", "estop", ""])
    decisions.arm[2] = "shadow"
    evidence = fold_once(decisions, rows.rewards(names_of(3), reward=0.0))
    assert evidence.assigned_challenger == evidence.closed_challenger == evidence.orphans == 0


def test_certain_labels_are_no_bets() -> None:
    evidence = fold_once(rows.decisions(["a"], epoch=5, arm="champion", arm_probability=1.0), rows.rewards(["a"]))
    assert evidence.assigned_champion == 0


def test_an_episode_begun_before_the_canary_takes_no_part_in_it() -> None:
    fold = sequential.Fold(CONFIG)
    fold.add(rows.decisions(["a"], unit=["u"], episode_id=["e"], epoch=4), NO_REWARDS, now_us=0)
    later = canary(["b", "c"], "cc", unit=["u", "u"], episode_id=["e", "f"], step=[1, 0])
    fold.add(later, rows.rewards(["b", "c"], reward=[0.1, 0.6]), now_us=1)
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=80 * SECOND)
    assert (fold.evidence().assigned_challenger, fold.evidence().mean_challenger) == (1, 0.6)


def test_an_episode_cut_by_the_canarys_start_is_not_waited_for() -> None:
    fold = sequential.Fold(replace(CONFIG, assign_by="episode"))
    fold.add(rows.decisions(["a0"], episode_id="a", epoch=4), rows.rewards(["a0"], reward=0.5, done=False), now_us=0)
    later = rows.decisions(["a1"], episode_id="a", step=1, epoch=5, arm="challenger", arm_probability=0.1)
    fold.add(later, rows.rewards(["a1"], reward=0.5), now_us=0)
    fresh = rows.decisions(["b0"], episode_id="b", epoch=5, arm="challenger", arm_probability=0.1)
    fold.add(fresh, rows.rewards(["b0"], reward=0.5), now_us=0)
    evidence = fold.evidence()
    assert (evidence.closed_challenger, evidence.assigned_challenger, evidence.pending) == (1, 1, 0)
    assert evidence.pre_canary == 0


def test_champions_of_another_version_set_no_baseline() -> None:
    config = replace(CONFIG, champion_digest="mine")
    decisions = rows.decisions(["a", "b"], epoch=4, bundle_digest=["mine", "other"])
    assert fold_once(decisions, rows.rewards(["a", "b"], reward=0.5), config=config).pre_canary == 1


def test_slow_answers_bet_once_the_champions_quantile_is_known() -> None:
    fold = sequential.Fold(CONFIG)
    before = [f"p{i}" for i in range(100)]
    fold.add(rows.decisions(before, epoch=4, latency_us=10_000), NO_REWARDS, now_us=0)
    fold.add(canary(names_of(4), "ccbc", latency_us=[11_000, 13_000, 13_000, 13_000]), NO_REWARDS, now_us=0)
    evidence = fold.evidence()
    assert (evidence.slow_challenger, evidence.slow_champion) == (2, 1)
    assert evidence.log_e_latency > 0.0


def test_rows_that_were_not_measured_neither_bet_on_time_nor_set_the_limit() -> None:
    fold = sequential.Fold(CONFIG)
    before = [f"p{i}" for i in range(100)]
    fold.add(rows.decisions(before, epoch=4, latency_us=-1), NO_REWARDS, now_us=0)
    fold.add(canary(names_of(4), "cccc", latency_us=10**6), NO_REWARDS, now_us=0)
    assert fold.evidence().slow_challenger == 0  # no champion was ever measured: nothing to compare with
    measured = [f"m{i}" for i in range(100)]
    fold.add(rows.decisions(measured, epoch=4, latency_us=10_000), NO_REWARDS, now_us=0)
    fold.add(canary(["x1", "x2"], "cc", latency_us=-1), NO_REWARDS, now_us=0)
    assert fold.evidence().slow_challenger == 0
    fold.add(canary(["x3"], "c", latency_us=13_000), NO_REWARDS, now_us=0)
    assert fold.evidence().slow_challenger == 1


@pytest.mark.parametrize(
    ("fallback", "latency_us", "failures"),
    [("error", -1, 1), ("error", 40, 1), ("deadline", 300_000, 1), ("deadline", -1, 0), ("overload", 300_000, 0)],
)
def test_lateness_is_an_arms_failure_only_where_its_own_time_was_measured(fallback, latency_us, failures) -> None:
    fold = sequential.Fold(CONFIG)
    fold.add(canary(["x"], "c", fallback=fallback, latency_us=latency_us), rows.rewards(["x"]), now_us=0)
    evidence = fold.evidence()
    assert evidence.failures_challenger == failures
    assert (evidence.log_e_failure > 0.0) == bool(failures)
    assert evidence.closed_challenger == 0  # another policy answered: it gives no return either way


def test_a_few_microseconds_more_a_row_are_no_slowness() -> None:
    """A network against a constant: 25 us against 5 us, far under the floor of 5 ms."""
    fold = sequential.Fold(CONFIG)
    before = [f"p{i}" for i in range(100)]
    fold.add(rows.decisions(before, epoch=4, latency_us=5), NO_REWARDS, now_us=0)
    fold.add(canary(names_of(200), "cb" * 100, share=0.5, latency_us=[25, 5] * 100), NO_REWARDS, now_us=0)
    assert (fold.evidence().slow_challenger, fold.evidence().log_e_latency) == (0, 0.0)


def test_a_slow_challenger_does_not_move_what_counts_as_slow() -> None:
    fold = sequential.Fold(CONFIG)
    before = [f"p{i}" for i in range(100)]
    fold.add(rows.decisions(before, epoch=4, latency_us=10_000), NO_REWARDS, now_us=0)
    fold.add(canary(names_of(300), "c" * 300, share=0.5, latency_us=15_000), NO_REWARDS, now_us=0)
    assert fold.evidence().slow_challenger == 300


def test_shares_told_from_either_arm_are_one_stage() -> None:
    first = canary(names_of(20), "c" + "b" * 19, share=0.05)
    evidence = fold_once(first, rows.rewards(names_of(20), reward=0.5))
    assert (evidence.share, evidence.closed_challenger_stage, evidence.assigned_challenger_stage) == (0.05, 1, 1)
    fold = sequential.Fold(CONFIG)
    fold.add(first, rows.rewards(names_of(20), reward=0.5), now_us=0)
    fold.add(canary(["x", "y"], "bc", share=0.25), rows.rewards(["x", "y"], reward=0.5), now_us=1)
    assert (fold.evidence().share, fold.evidence().closed_challenger_stage) == (0.25, 1)
    assert fold.evidence().closed_challenger == 2


LETTER = st.sampled_from("cb")
ROW = st.tuples(LETTER, st.integers(0, 3), st.floats(-2, 3), st.integers(0, 2), st.booleans())


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.lists(ROW, min_size=1, max_size=30), st.lists(st.integers(0, 30), max_size=5), st.randoms())
def test_ticks_order_of_rewards_and_repeats_change_nothing(drawn: list, cuts: list[int], chance) -> None:
    """Any partition into ticks, any order of rewards, and every row sent again give the same evidence (but its counters)."""
    names = names_of(len(drawn))
    labels = "".join(row[0] for row in drawn)
    decisions = canary(
        names,
        labels,
        unit=[f"u{row[1]}" if row[3] else names[i] for i, row in enumerate(drawn)],
        fallback=["error" if row[4] and row[3] == 1 else "" for row in drawn],
    )
    rewards = rows.rewards(names, reward=[row[2] for row in drawn], time_us=50)
    whole = sequential.Fold(CONFIG)
    whole.add(decisions, rewards, now_us=0)
    parted = sequential.Fold(CONFIG)
    order = list(range(len(names)))
    chance.shuffle(order)
    edges = [0, *sorted(min(cut, len(names)) for cut in cuts), len(names)]
    for low, high in itertools.pairwise(edges):
        index = np.array(order[low:high], np.int64)
        parted.add(decisions.take(np.arange(low, high)), rewards.take(index), now_us=0)
    parted.add(decisions, rewards, now_us=0)
    expected, found = whole.evidence().to_json(), parted.evidence().to_json()
    assert found.pop("duplicates") == 2 * len(names) + expected.pop("duplicates")
    assert orjson.dumps(found) == orjson.dumps(expected)
    assert all(math.isfinite(v) for v in expected.values() if isinstance(v, float))


def random_log(seed: int) -> list[tuple[Decisions, Rewards, int]]:
    """Ticks with multi-step episodes, lost rewards, fallbacks and a rise of the share."""
    rng = np.random.default_rng(seed)
    ticks = []
    late: list[tuple[str, float]] = []
    for second in range(150):
        share = 0.1 if second < 80 else 0.5
        units = [f"u{second}-{i}" for i in range(6)]
        labels = "".join("c" if rng.random() < share else "b" for _ in units)
        names = [f"{unit}-{step}" for unit in units for step in range(2)]
        decisions = canary(
            names,
            "".join(letter * 2 for letter in labels),
            share=share,
            unit=np.repeat(units, 2).tolist(),
            episode_id=np.repeat(units, 2).tolist(),
            step=[0, 1] * len(units),
            time_us=[second * SECOND + i for i in range(len(names))],
            fallback=np.where(rng.random(len(names)) < 0.05, "error", "").tolist(),
            epoch=4 if second < 20 else 5,
        )
        due = [(name, rng.random()) for name in names if rng.random() > 0.05] + late
        keep = rng.random(len(due)) < 0.3
        late = [row for row, kept in zip(due, keep, strict=True) if kept]
        sent = [row for row, kept in zip(due, keep, strict=True) if not kept]
        rewards = rows.rewards(
            [name for name, _ in sent],
            reward=[value for _, value in sent],
            done=[name.endswith("-1") for name, _ in sent],
            time_us=second * SECOND,
        )
        ticks.append((decisions, rewards, second * SECOND))
    ticks.append((NO_DECISIONS, NO_REWARDS, 400 * SECOND))
    return ticks


def test_replaying_recorded_ticks_gives_the_same_bytes_at_every_tick() -> None:
    seen = []
    for _ in range(2):
        fold = sequential.Fold(CONFIG)
        bodies = []
        for decisions, rewards, now_us in random_log(3):
            fold.add(decisions, rewards, now_us=now_us)
            bodies.append(body(fold))
        seen.append(bodies)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 130
    final = orjson.loads(seen[0][-1])
    assert final["missing_champion"] > 0
    assert final["pending"] == 0


def test_memory_holds_what_is_open_only() -> None:
    fold = sequential.Fold(replace(CONFIG, deadline_us=5 * SECOND))
    held = []
    for i in range(60):
        names = [f"{i}-{k}" for k in range(50)]
        fold.add(
            canary(names, "cb" * 25, share=0.5, time_us=[i * SECOND] * 50),
            rows.rewards(names, reward=0.5, time_us=i * SECOND),
            now_us=i * SECOND,
        )
        held.append(fold.held)
    assert max(held[30:]) == max(held[20:30])
    assert held[-1] <= 50 * (2 * 5 + 2 + 1)
    assert fold.evidence().closed_challenger == 1500


def test_a_missing_reward_is_not_both_a_failure_and_an_outcome() -> None:
    names = names_of(40)
    fold = sequential.Fold(CONFIG)
    fold.add(canary(names, "cb" * 20, share=0.5), rows.rewards(names[1::2], reward=0.5), now_us=0)
    fold.add(NO_DECISIONS, NO_REWARDS, now_us=100 * SECOND)
    evidence = fold.evidence()
    assert (evidence.failures_challenger, evidence.failures_champion) == (20, 0)
    assert (evidence.closed_challenger, evidence.closed_champion) == (0, 20)
    assert evidence.log_e_failure > math.log(400)


def test_a_config_comes_from_the_spec_and_the_first_table() -> None:
    arms = (
        Arm(name="champion", role="champion", version="a:1", digest="x"),
        Arm(name="challenger", role="challenger", version="a:2", digest="y", ranges=((0, 500),)),
    )
    table = RouteTable(
        endpoint="cells",
        epoch=9,
        pool="policies",
        arms=arms,
        salt="s",
        assign_by="episode",
        holdout_buckets=0,
        reward_low=3.2,
        reward_high=7.6,
        gamma=1.0,
        reward_deadline_s=60.0,
        deadline_ms=250,
        durability="process",
        on_full="answer",
    )
    spec = RolloutSpec(endpoint="cells", challenger="a:2", adjust="first_observation")
    config = sequential.configure(spec, table=table, observation_size=32)
    assert (config.start_epoch, config.assign_by, config.deadline_us) == (9, "episode", 60_000_000)
    assert config.champion_digest == "x"
    with pytest.raises(InvalidInput, match="at most 32"):
        sequential.configure(spec, table=table, observation_size=283)
    with pytest.raises(InvalidInput, match="no challenger"):
        sequential.configure(spec, table=replace(table, arms=arms[:1]))
    with pytest.raises(InvalidInput, match="low < high"):
        sequential.Fold(replace(config, reward_low=9.0))
