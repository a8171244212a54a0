"""IMPALA and APPO with two env runners against RLlib's own, and how soon they balance CartPole-v1.

    python -m benchmarks.asynchronous throughput [--rounds 4] [--seconds 6]
    python -m benchmarks.asynchronous solve [--seeds 5] [--runners 0]

Throughput: env steps sampled and learnt from for each CPU second of the driver and of every Ray worker, arms taking turns on one
Ray; the
median over rounds of each round's ratio. Same network, 2 runners of 16 envs, fragments of 16 steps. RLlib learns in the driver's
process from 512 steps at a time, once over them (its APPO: twice); here it is the preset. Solve: env steps and CPU seconds to a
mean of 475 over 100 episodes. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from rlaas_ray import settings
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import cluster, families, ledger, runner, threads
from rlaas_ray.train.seam import Build

ENV, RUNNERS, ENVS, STEPS = "CartPole-v1", 2, 16, 16
ALGORITHMS = ("impala", "appo")
LIMIT, SOLVED = 150_000, 475.0
FASTER = 4.0
SHARE_SOLVED = 1.0  # of seeds, in one process


@dataclass
class Arm:
    """One training: `train` goes on for a while and gives the env steps so far."""

    train: Callable[[], int]
    close: Callable[[], None]


def trainer_of(spec: TrainSpec, directory: Path) -> Any:
    worlds, plan = runner.resolve(spec)
    given = Build(spec=spec, plan=plan, worlds=worlds, directory=directory, slice_s=0.5, actor_cpus=1.0)
    if plan.num_env_runners:
        from rlaas_ray.train.rllib import onray

        given = replace(given, ray=onray.OnRllib())
    return families.of(spec).trainer(given)


def ours(algorithm: str, directory: Path) -> Arm:
    spec = TrainSpec(
        env=ENV,
        algorithm=algorithm,
        num_env_runners=RUNNERS,
        num_envs_per_runner=ENVS,
        batch_size=RUNNERS * ENVS * STEPS,
        total_timesteps=10**9,
    )
    made = trainer_of(spec, directory)

    def train() -> int:
        made.train()
        return int(made.ledger.steps)

    return Arm(train=train, close=made.stop)


def rllib(algorithm: str) -> Arm:
    from ray.rllib.algorithms.appo import APPOConfig
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    config = (
        {"impala": IMPALAConfig, "appo": APPOConfig}[algorithm]()
        .environment(ENV, disable_env_checking=True)
        .env_runners(num_env_runners=RUNNERS, num_envs_per_env_runner=ENVS, rollout_fragment_length=STEPS)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=RUNNERS * ENVS * STEPS, lr=1e-3)
        .rl_module(
            model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False)
        )
        .debugging(log_level="ERROR")
        .reporting(min_time_s_per_iteration=0.5)
    )
    made = config.build_algo()

    def train() -> int:
        return int(made.train()["num_env_steps_sampled_lifetime"])

    return Arm(train=train, close=made.stop)


def cpu_s() -> dict[int, float]:
    """CPU seconds of this process and of Ray's workers; not of raylet and control store, which both sides share."""
    here = psutil.Process()
    found = {here.pid: sum(here.cpu_times()[:2])}
    for process in here.children(recursive=True):
        try:
            if process.name().startswith("ray::") or "default_worker" in " ".join(process.cmdline()):
                found[process.pid] = sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return found


def rate(arm: Arm, *, seconds: float) -> float:
    """Env steps for each CPU second, over about `seconds` of wall time."""
    first, before, started = arm.train(), cpu_s(), time.monotonic()
    last = first
    while time.monotonic() - started < seconds:
        last = arm.train()
    used = sum(value - before[pid] for pid, value in cpu_s().items() if pid in before)
    return (last - first) / used


def throughput(*, rounds: int, seconds: float) -> bool:

    reached = True
    for algorithm in ALGORITHMS:
        with tempfile.TemporaryDirectory() as folder:
            arms = {"ours": ours(algorithm, Path(folder)), "rllib": rllib(algorithm)}
            for arm in arms.values():
                while arm.train() == 0:  # until its actors have started
                    pass
            found = [{name: rate(arm, seconds=seconds) for name, arm in arms.items()} for _ in range(rounds)]
            for arm in arms.values():
                arm.close()
        ratios = [one["ours"] / one["rllib"] for one in found]
        summary = {
            "algorithm": algorithm,
            "steps_per_cpu_s": {name: round(statistics.median(one[name] for one in found)) for name in arms},
            "ratio": round(statistics.median(ratios), 2),
            "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "bar": FASTER,
        }
        print(json.dumps(summary), flush=True)
        reached &= summary["ratio"] >= FASTER
    return reached


def solve(*, seeds: int, runners: int) -> bool:
    reached = True
    for algorithm in ALGORITHMS if runners == 0 else (*ALGORITHMS, "a3c"):
        found = []
        for seed in range(seeds):
            spec = TrainSpec(
                env=ENV,
                algorithm=algorithm,
                seed=seed,
                num_env_runners=runners,
                total_timesteps=LIMIT,
                stop_at_return=SOLVED,
            )
            _, plan = runner.resolve(spec)
            with tempfile.TemporaryDirectory() as folder:
                made = trainer_of(spec, Path(folder))
                while not ledger.finished(made.ledger, plan=plan):
                    made.train()
                found.append((made.ledger.steps, made.ledger.cpu_s, made.ledger.episode_return_mean))
                staleness = made.stats["staleness_mean"]
                made.stop()
        solved = [one for one in found if one[2] >= SOLVED]
        summary = {
            "algorithm": algorithm,
            "runners": runners,
            "reached": f"{len(solved)}/{seeds}",
            "steps_median": statistics.median(one[0] for one in found),
            "cpu_s_median": round(statistics.median(one[1] for one in found), 2),
            "cpu_s_range": [round(min(one[1] for one in found), 2), round(max(one[1] for one in found), 2)],
            "staleness_mean": round(staleness, 2),
        }
        print(json.dumps(summary), flush=True)
        reached &= runners > 0 or len(solved) >= SHARE_SOLVED * seeds
    return reached


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.asynchronous")
    parser.add_argument("what", choices=["throughput", "solve"])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runners", type=int, default=0)
    given = parser.parse_args(arguments)
    settings.quiet()
    warnings.simplefilter("ignore")
    logging.getLogger("ray").setLevel(logging.ERROR)
    with threads.one():
        if given.what == "solve" and given.runners == 0:
            return 0 if solve(seeds=given.seeds, runners=0) else 1
        _, plan = runner.resolve(TrainSpec(env=ENV, num_env_runners=4 * RUNNERS))
        with cluster.connected(plan, address=None):
            if given.what == "throughput":
                return 0 if throughput(rounds=given.rounds, seconds=given.seconds) else 1
            return 0 if solve(seeds=given.seeds, runners=given.runners) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
