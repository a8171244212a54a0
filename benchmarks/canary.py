"""Operating characteristics of the canary: how often it is wrong, and how fast it is right, on simulated traffic.

`python -m benchmarks.canary [--runs 1000] [--only aa,dead] [--seed 1] [--json FILE]`. The real assignment, fold and judge run on
generated rows, one judge tick a second, ramp on; only the policies and their environment are simulated. One core; the default
set takes a few minutes. Rates come with a 95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from rlaas_ray.evaluation import sequential
from rlaas_ray.serve import assignment, rollout
from rlaas_ray.specs.evidence import RolloutStatus
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.specs.routing import Arm, RouteTable
from rlaas_ray.testing import rows

SECOND = 1_000_000
BEFORE = 500  # units before the canary
RATE = 100  # units a second


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the challenger does to its units, on which trace, under which spec."""

    name: str
    says: str
    runs: float = 0.1  # of --runs
    units: int = 20_000
    factor: float = 1.0  # on the challenger's returns
    failures: float = 0.0  # added to its rate
    slower: float = 1.0
    adjusted: bool = False
    spec: dict = field(default_factory=dict)


DEFAULT = {"min_time_s": 60.0, "stage_min_s": 10.0}
FIVE = {"stages": (5.0, 50.0), "min_time_s": 60.0, "stage_min_s": 60.0}
RAN = {"stages": (10.0, 25.0, 50.0), "promote": "superior", "min_time_s": 1.0, "stage_min_s": 0.0, "preset": "demo"}
SCENARIOS = (
    Scenario(name="aa", says="A/A, ramp 5 -> 25 -> 50 %", runs=1.0, spec=DEFAULT),
    Scenario(name="dead", says="dead arm at 5 %", runs=0.3, units=3_000, failures=1.0, spec=FIVE),
    Scenario(name="errors", says="+5 % errors", runs=0.1, failures=0.05, spec=DEFAULT),
    Scenario(name="slow", says="latency x 3", runs=0.1, slower=3.0, spec=DEFAULT),
    Scenario(name="minus20", says="return -20 %", runs=0.2, factor=0.80, spec=DEFAULT),
    Scenario(name="minus5", says="return -5 %", runs=0.1, factor=0.95, spec=DEFAULT),
    Scenario(name="plus5", says="return +5 %", runs=0.05, factor=1.05, spec=DEFAULT),
    Scenario(
        name="aa-adjusted", says="A/A, regression, 10 -> 25 -> 50 %", runs=1.0, units=2_500, adjusted=True, spec=RAN
    ),
    Scenario(
        name="better-adjusted", says="+0.02, regression", runs=0.1, units=6_000, adjusted=True, factor=1.0276, spec=RAN
    ),
    Scenario(
        name="worse-adjusted", says="-0.02, regression", runs=0.1, units=6_000, adjusted=True, factor=0.9724, spec=RAN
    ),
)


@dataclass(kw_only=True)
class Trace:
    """Columns of all units of one run, (n,) each; `arrives` is the second in which the reward comes."""

    name: list[str]
    y: np.ndarray
    fails: np.ndarray
    latency_us: np.ndarray
    arrives: np.ndarray
    luck: np.ndarray  # uniform; whether a failing challenger fails this unit
    observation: np.ndarray


def trace(rng: np.random.Generator, *, units: int, adjusted: bool) -> Trace:
    """Section 4.5 of the serving design: a daily wave, catastrophes, incidents, drifting latency, delayed rewards."""
    count = BEFORE + units
    index = np.arange(count)
    fails = np.full(count, 0.001)
    for start in rng.integers(0, count, 3):
        fails[start : start + 300] = 0.02
    observation = np.zeros((count, 1), np.float32)
    if adjusted:
        observation, y = network(rng, count=count)
    else:
        mean = 0.7 + 0.1 * np.sin(2 * np.pi * (index / 5_000 + rng.random()))
        strength = mean * (1 - mean) / 0.15**2 - 1
        y = np.where(rng.random(count) < 0.02, 0.02, rng.beta(mean * strength, (1 - mean) * strength))
    drift = 1.0 + 0.3 * np.sin(2 * np.pi * (index / 7_000 + rng.random()))
    return Trace(
        name=[f"u{i}" for i in index],
        y=y,
        fails=rng.random(count) < fails,
        latency_us=8_000 * drift * np.exp(0.3 * rng.standard_normal(count)),
        arrives=(index + rng.geometric(1 / 50, count)) // RATE,
        luck=rng.random(count),
        observation=observation,
    )


def network(rng: np.random.Generator, *, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Episodes shaped like the radio network's: mean 0.7254, sd 0.121, of which 23 numbers known before leave sd 0.033."""
    hour = 2 * np.pi * rng.random(count)
    drop = rng.normal(size=(count, 20))
    features = np.column_stack([np.sin(hour), np.cos(hour), np.sin(hour) * np.cos(hour), drop])
    known = 0.13 * features[:, 0] + 0.06 * features[:, 1] + drop @ (0.055 * np.cos(np.arange(20)) / math.sqrt(10))
    known *= math.sqrt(0.121**2 - 0.033**2) / known.std()
    # Heavy-tailed, as what a regression leaves of simulated networks is.
    rest = rng.standard_t(5, count) * 0.033 / math.sqrt(5 / 3)
    return features.astype(np.float32), 0.7254 + known + rest


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How one run ended. `units` and `exposed` count the canary only; `after_s` is from its start to the verdict."""

    kind: str
    units: int
    exposed: int
    after_s: float
    stream: str


def run(scenario: Scenario, *, seed: int) -> Ending:
    """One canary from its start to its verdict, or to the end of its units."""
    rng = np.random.default_rng([seed, len(scenario.name), *scenario.name.encode()])
    spec = RolloutSpec(
        endpoint="cells",
        challenger="a:2",
        adjust="first_observation" if scenario.adjusted else "none",
        **scenario.spec,
    )
    data = trace(rng, units=scenario.units, adjusted=scenario.adjusted)
    table = first_table(f"run-{seed}:{scenario.name}", adjusted=scenario.adjusted)
    before = replace(table, epoch=1)
    table = replace(table, arms=rollout.next_arms(table.arms, spec.stages[0]))
    fold = sequential.Fold(sequential.configure(spec, table=table, observation_size=data.observation.shape[1]))
    order = np.argsort(data.arrives, kind="stable")
    edges = np.searchsorted(data.arrives[order], np.arange(len(data.y) // RATE + 2))
    challenged = np.zeros(len(data.y), bool)
    start = BEFORE // RATE
    status = RolloutStatus(
        state="ramping", stage=0, started_us=start * SECOND, stage_started_us=start * SECOND, now_us=start * SECOND
    )
    for second in range(len(data.y) // RATE):
        units = np.arange(second * RATE, (second + 1) * RATE)
        routes = table if second >= start else before
        decisions = decide(data, units, routes=routes, scenario=scenario, challenged=challenged)
        paid = order[edges[second] : edges[second + 1]]
        paid = paid[~data.fails[paid]]
        fold.add(decisions, reward(data, paid, scenario=scenario, challenged=challenged), now_us=(second + 1) * SECOND)
        if second < start:
            continue
        evidence = fold.evidence()
        status = replace(status, now_us=(second + 1) * SECOND)
        verdict = rollout.judge(evidence, spec=spec, status=status)
        if verdict.advance:
            table = replace(
                table, epoch=table.epoch + 1, arms=rollout.next_arms(table.arms, spec.stages[status.stage + 1])
            )
            status = replace(status, stage=status.stage + 1, stage_started_us=status.now_us)
        elif verdict.kind != "hold":
            break
    return Ending(
        kind=verdict.kind,
        units=evidence.assigned_champion + evidence.assigned_challenger,
        exposed=evidence.assigned_challenger,
        after_s=(status.now_us - status.started_us) / SECOND,
        stream=str(verdict.numbers.get("stream", "")),
    )


def first_table(salt: str, *, adjusted: bool) -> RouteTable:
    """The endpoint with a challenger that has no share yet."""
    low, high = (0.4, 0.95) if adjusted else (0.0, 1.0)
    return RouteTable(
        endpoint="cells",
        epoch=2,
        pool="policies",
        arms=(
            Arm(name="champion", role="champion", version="a:1", digest=""),
            Arm(name="challenger", role="challenger", version="a:2", digest="2"),
        ),
        salt=salt,
        assign_by="unit",
        holdout_buckets=0,
        reward_low=low,
        reward_high=high,
        gamma=1.0,
        reward_deadline_s=60.0,
        deadline_ms=250,
        durability="process",
        on_full="answer",
    )


def decide(
    data: Trace, units: np.ndarray, *, routes: RouteTable, scenario: Scenario, challenged: np.ndarray
) -> rows.Decisions:
    """One second of decisions; marks who got the challenger, and who failed by it."""
    names = [data.name[i] for i in units]
    assigned = assignment.assign_many(routes, names)
    label = assigned.arm == 1
    challenged[units] = label
    if scenario.failures:
        data.fails[units] |= label & (data.luck[units] < scenario.failures)
    return rows.decisions(
        names,
        time_us=units * (SECOND // RATE),
        epoch=routes.epoch,
        arm=[routes.arms[i].name for i in assigned.arm],
        arm_probability=assigned.probability,
        fallback=["error" if failed else "" for failed in data.fails[units]],
        latency_us=data.latency_us[units] * np.where(label, scenario.slower, 1.0),
        observation=data.observation[units],
    )


def reward(data: Trace, units: np.ndarray, *, scenario: Scenario, challenged: np.ndarray) -> rows.Rewards:
    """What arrived this second."""
    return rows.rewards(
        [data.name[i] for i in units],
        reward=data.y[units] * np.where(challenged[units], scenario.factor, 1.0),
        time_us=(data.arrives[units] + 1) * SECOND,
    )


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a rate."""
    z2 = 1.959964**2
    centre = (hits + z2 / 2) / (count + z2)
    half = math.sqrt(z2 * (hits * (count - hits) / count + z2 / 4)) / (count + z2)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def summary(scenario: Scenario, endings: list[Ending], *, took_s: float) -> dict:
    """The row of the table."""
    count = len(endings)
    decided = [e for e in endings if e.kind != "hold"]
    back = sum(e.kind == "roll_back" for e in endings)
    low, high = wilson(back, count)

    def of(name: str) -> list[float | None]:
        values = [getattr(e, name) for e in decided]
        return [float(np.median(values)), float(np.quantile(values, 0.95))] if values else [None, None]

    return {
        "scenario": scenario.name,
        "says": scenario.says,
        "runs": count,
        "rolled_back": back / count,
        "rolled_back_ci95": [low, high],
        "promoted": sum(e.kind == "promote" for e in endings) / count,
        "undecided": (count - len(decided)) / count,
        "streams": {s: sum(e.stream == s for e in endings) for s in ("reward", "failure", "latency")},
        "units_to_verdict": of("units"),
        "exposed_units": of("exposed"),
        "seconds_to_verdict": of("after_s"),
        "took_s": took_s,
    }


def show(row: dict) -> str:
    """One line for a terminal."""

    def pair(name: str) -> str:
        median, p95 = row[name]
        return "-" if median is None else f"{median:,.0f} / {p95:,.0f}"

    low, high = row["rolled_back_ci95"]
    return (
        f"{row['says']:<36} {row['runs']:>5} {row['rolled_back']:>7.2%} [{low:.2%}, {high:.2%}]  {row['promoted']:>7.1%} "
        f"{pair('units_to_verdict'):>16} {pair('exposed_units'):>14} {pair('seconds_to_verdict'):>11} {row['took_s']:>6.0f} s"
    )


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="runs of the A/A rows; the others take a part of it")
    parser.add_argument("--only", default="", help="names, comma separated: " + ", ".join(s.name for s in SCENARIOS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", default="", help="write the rows here as well")
    options = parser.parse_args()
    wanted = [s for s in SCENARIOS if not options.only or s.name in options.only.split(",")]
    print(
        f"{'trace':<36} {'runs':>5} {'rolled back [95 %]':<24} {'promoted':>8} {'units med / p95':>16} "
        f"{'exposed':>14} {'seconds':>11} {'took':>8}"
    )
    table = []
    for scenario in wanted:
        begun = time.perf_counter()
        count = max(round(options.runs * scenario.runs), 1)
        endings = [run(scenario, seed=options.seed * 1_000_000 + i) for i in range(count)]
        table.append(summary(scenario, endings, took_s=time.perf_counter() - begun))
        print(show(table[-1]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"seed": options.seed, "rows": table}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
