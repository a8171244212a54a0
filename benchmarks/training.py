"""How fast and how well training learns here: CartPole to a true 475, and RanControl against its better heuristic.

    python -m benchmarks.training cartpole [--seeds 5]      steps per CPU second, steps to 475
    python -m benchmarks.training ran [--seeds 3] [--modes normal,energy_saving] [--cpu-s 45]

CPU seconds, one thread, one process (num_env_runners: 0), so that other work on the machine changes little. Prints one JSON
line a run and a summary; exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from rlaas_ray import settings
from rlaas_ray.envs import registry
from rlaas_ray.evaluation import episodes
from rlaas_ray.policies import bundle
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec

RAN = "rlaas/RanControl-v1"
BARS = {
    "normal": 0.8,
    "energy_saving": 1.5,
}  # lower 95 % bound over the better of hold and grid (docs/ran.md)
CARTPOLE_LIMIT = 150_000
FRESH_WORLDS_SEED = 987_654_321  # worlds that no choice has seen


class SilentReporter:
    """A reporter for a run that nobody watches."""

    def beat(self, progress: object) -> str:
        return "running"

    def event(self, kind: str, data: object) -> None:
        return None

    def metrics(self, rows: object) -> None:
        return None

    def register(self, path: Path, *, name: str, evaluation: object) -> dict[str, Any]:
        return {"name": name}


def train(spec: TrainSpec, *, directory: Path) -> dict[str, Any]:
    from rlaas_ray.train import runner

    return runner.execute(
        spec,
        run_id="train-benchmark",
        attempt=1,
        reporter=SilentReporter(),
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )


def cartpole(seed: int) -> dict[str, Any]:
    """One training until the mean of the last 100 episodes is 475, or 150,000 steps are over."""
    spec = TrainSpec(
        env="CartPole-v1",
        seed=seed,
        num_env_runners=0,
        total_timesteps=CARTPOLE_LIMIT,
        stop_at_return=475,
        evaluate=EvaluateDuring(episodes=1),
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(spec, directory=Path(folder))
    return {
        "seed": seed,
        "steps": result["steps"],
        "return": result["episode_return_mean"],
        "cpu_s": result["cpu_s"],
        "steps_per_cpu_s": result["steps"] / result["cpu_s"],
        "reached": result["episode_return_mean"] >= 475,
    }


def ran(mode: str, *, seed: int, cpu_s: float, worlds: int = 64) -> dict[str, Any]:
    """One training, then paired with hold and grid on fresh worlds."""
    spec = TrainSpec(
        env=RAN,
        mode=mode,
        seed=seed,
        num_env_runners=0,
        time_limit_cpu_s=cpu_s,
        evaluate=EvaluateDuring(episodes=2),
    )

    def make_vector(envs: int) -> Any:
        return registry.make_vector(RAN, num_envs=envs, seed=FRESH_WORLDS_SEED, mode=mode)

    with tempfile.TemporaryDirectory() as folder:
        result = train(spec, directory=Path(folder))
        policy = bundle.load(Path(result["bundle"]))
        observation_space, action_space = registry.spaces(RAN)
        over = {}
        for name in ("hold", "grid"):
            target = Path(folder) / name
            bundle.write_builtin(
                target,
                env=RAN,
                name=name,
                parameters={"mode": mode} if name == "grid" else {},
                observation_space=observation_space,
                action_space=action_space,
            )
            over[name] = episodes.paired(
                policy, bundle.load(target), make_vector=make_vector, episodes=worlds, seed=FRESH_WORLDS_SEED
            )
    better = max(over, key=lambda name: over[name].b.return_mean)
    return {
        "mode": mode,
        "seed": seed,
        "steps": result["steps"],
        "cpu_s": result["cpu_s"],
        "return": over[better].a.return_mean,
        "better_baseline": better,
        **{f"{name}_return": found.b.return_mean for name, found in over.items()},
        **{f"over_{name}": found.difference.to_json() for name, found in over.items()},
        "lower_bound": over[better].difference.low,
        "reached": over[better].difference.low >= BARS[mode],
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.training")
    parser.add_argument("what", choices=["cartpole", "ran"])
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--modes", default="normal,energy_saving")
    parser.add_argument("--cpu-s", type=float, default=45.0)
    given = parser.parse_args(arguments)
    settings.quiet()
    seeds = range(given.first_seed, given.first_seed + (given.seeds or (5 if given.what == "cartpole" else 3)))
    found = []
    for mode in given.modes.split(",") if given.what == "ran" else ["-"]:
        for seed in seeds:
            found.append(cartpole(seed) if given.what == "cartpole" else ran(mode, seed=seed, cpu_s=given.cpu_s))
            print(json.dumps(found[-1]), flush=True)
    if given.what == "cartpole":
        print(
            f"median steps to 475: {statistics.median(run['steps'] for run in found):,.0f}; "
            f"median steps per CPU second: {statistics.median(run['steps_per_cpu_s'] for run in found):,.0f}"
        )
    missed = [run for run in found if not run["reached"]]
    print(f"{len(found) - len(missed)} of {len(found)} reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
