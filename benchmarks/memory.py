"""Whether a memory learns what only a memory can: a cue recalled eight steps later, and CartPole without its velocities.

    python -m benchmarks.memory [--seeds 5] [--tasks recall,cartpole] [--memories none,lstm,gru,attention]

Trains each kind over seeds until its bar or its budget of env steps, and the same network without a memory, which must miss the
bar. CPU seconds, one thread, one process. Prints one JSON line a run and a summary; exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import training
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec

ENVS = Path(__file__).parents[1] / "tests" / "train_envs"
# Task -> env, budget of env steps, bar of the 100-episode mean, most that may be had without a memory, width of the memory.
TASKS = {
    "recall": ("recalling:Recall", 30_000, 0.95, 0.5, 32),
    "cartpole": ("recalling:BlindCartPole", 150_000, 300.0, 100.0, 64),
}
KINDS = ("none", "lstm", "gru", "attention")


def run(task: str, *, memory: str, seed: int) -> dict[str, Any]:
    """One training until the bar is reached or the budget is used."""
    env, steps, bar, without, width = TASKS[task]
    spec = TrainSpec(
        env=env,
        seed=seed,
        num_env_runners=0,
        total_timesteps=steps,
        stop_at_return=bar,
        network={"memory": memory, "hidden": (width,), "memory_size": width, "memory_steps": 16},
        evaluate=EvaluateDuring(episodes=100),
        serving="greedy",
    )
    with tempfile.TemporaryDirectory() as folder:
        result = training.train(spec, directory=Path(folder))
    reached = result["episode_return_mean"]
    return {
        "task": task,
        "memory": memory,
        "seed": seed,
        "steps": result["steps"],
        "cpu_s": round(result["cpu_s"], 2),
        "episode_return_mean": round(reached, 3),
        "evaluation": round(result["evaluation"]["return_mean"], 3),
        "passed": reached < without if memory == "none" else reached >= bar,
    }


def main() -> int:
    """0 when every run with a memory reached its bar and none without one did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--memories", default=",".join(KINDS))
    told = parser.parse_args()
    sys.path.insert(0, str(ENVS))
    missed = 0
    for task in told.tasks.split(","):
        for memory in told.memories.split(","):
            rows = []
            for seed in range(told.seeds):
                rows.append(run(task, memory=memory, seed=seed))
                print(json.dumps(rows[-1]), flush=True)
            passed = sum(row["passed"] for row in rows)
            missed += len(rows) - passed
            steps, cpu_s = (statistics.median(row[name] for row in rows) for name in ("steps", "cpu_s"))
            print(
                f"{task} {memory}: {passed}/{len(rows)} as wanted, median {steps:.0f} steps, {cpu_s:.1f} CPU s",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
