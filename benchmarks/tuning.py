"""What a trial costs beside its work: trials that do nothing, by the pool, by stock Ray Tune, by Ray Tune with reused actors.

    python -m benchmarks.tuning [--rounds 2] [--trials 64] [--slots 2]

All arms on one Ray of this process, interleaved, wall seconds of the whole study (the pool's actors are started in each round;
Ray's own start is in none). Waiting is most of it, so that CPU seconds would not do; on a busy machine the pool, which waits for
nothing but processes, loses more than Tune.

Every arm draws one number and returns it; the pool also writes its journal, with an fsync for each
trial. Tables and pictures are in no arm. Prints a line a round and medians; exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import ray
from ray import tune

from benchmarks.trivial import nothing
from rlaas_ray import settings
from rlaas_ray.specs import document
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.train import cluster
from rlaas_ray.tune import journal, pool, samplers, schedulers, spaces, study
from rlaas_ray.tune.journal import Journal

BARS = {"stock": 0.03, "reuse": 0.3}  # of the pool against each


class Nothing(tune.Trainable):
    """Draws nothing, learns nothing: one step."""

    def setup(self, config: dict[str, Any]) -> None:
        self._x = config["x"]

    def step(self) -> dict[str, Any]:
        return {"value": self._x, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._x = new_config["x"]
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        return None


def by_pool(*, trials: int, slots: int) -> int:
    spec = document.parse(
        TuneSpec,
        {
            "function": "benchmarks.trivial:nothing",
            "space": {"x": {"low": 0, "high": 1}},
            "search": "random",
            "objective": "value",
            "trials": trials,
        },
    )
    space = spaces.of(spec)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / journal.FILE, digest="x") as book:
        made = study.Study(
            spec,
            sampler=samplers.of(spec, space, parallel=slots, warm=[]),
            rule=schedulers.NoRule(),
            journal=book,
            folder=Path(folder),
            limit=trials,
            told=lambda trial: None,
        )
        clock, key = settings.SystemClock(), Path(folder) / "key"
        with pool.opened(spec, count=slots, address=None, clock=clock, key_file=key) as hands:
            study.drive(made, hands, tick=lambda: "go on")
        return sum(trial.state == "completed" for trial in made.trials.values())


def by_tune(*, trials: int, slots: int, reuse: bool) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(Nothing, {"cpu": 1}),
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(
                metric="value", mode="max", num_samples=trials, max_concurrent_trials=slots, reuse_actors=reuse
            ),
            run_config=tune.RunConfig(storage_path=folder, name="n", verbose=0),
        )
        return sum(result.metrics["value"] >= 0 for result in tuner.fit())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.tuning")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--slots", type=int, default=2)
    given = parser.parse_args(arguments)
    settings.quiet()
    warnings.simplefilter("ignore")
    size = {"trials": given.trials, "slots": given.slots}
    arms = {
        "pool": lambda: by_pool(**size),
        "reuse": lambda: by_tune(**size, reuse=True),
        "stock": lambda: by_tune(**size, reuse=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    with cluster.joined(given.slots, name="benchmarks", address=None):
        for number in range(given.rounds):
            for name, arm in arms.items():
                # Each arm finds a worker process waiting for each slot, as after Ray's start.
                ray.get([ray.remote(nothing).remote({"x": 0.0}) for _ in range(given.slots)])
                began_s = time.monotonic()
                if arm() != given.trials:
                    print(f"{name}: not all trials completed")
                    return 1
                seconds[name].append((time.monotonic() - began_s) / given.trials)
            print(
                json.dumps({"round": number, **{name: round(each[-1], 4) for name, each in seconds.items()}}),
                flush=True,
            )
    median = {name: statistics.median(each) for name, each in seconds.items()}
    missed = False
    print("seconds a trial: " + ", ".join(f"{name} {value:.4f}" for name, value in median.items()))
    for name, bar in BARS.items():
        ratio = statistics.median(one / other for one, other in zip(seconds["pool"], seconds[name], strict=True))
        missed |= ratio > bar
        print(f"pool / {name}: {ratio:.4f} (bar {bar}): {'missed' if ratio > bar else 'met'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
