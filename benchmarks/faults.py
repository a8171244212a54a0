"""What a killed env runner costs: the longest iteration while it is down, and how long until all are back.

    python -m benchmarks.faults [--times 3]

CartPole-v1, PPO, two env runners on a Ray of its own; one of them gets SIGKILL. Prints a JSON line a kill; exits 1 when the
median of the longest iterations is over 2 s, or that of coming back over 15 s. Wall time: a busy machine shows.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rlaas_ray import settings
from rlaas_ray.specs.train import TrainSpec

LONGEST_S, BACK_S, PATIENCE_S = 2.0, 15.0, 120.0


def kills(times: int) -> list[dict[str, float]]:
    """One row for each kill: usual and longest iteration, seconds until both runners answer, env steps meanwhile."""
    from rlaas_ray.train import cluster, runner
    from rlaas_ray.train.rllib import algorithm
    from rlaas_ray.train.seam import Build

    spec = TrainSpec(env="CartPole-v1", num_env_runners=2)
    worlds, plan = runner.resolve(spec)
    found = []
    with cluster.connected(plan, address=None), tempfile.TemporaryDirectory() as folder:
        made = algorithm.build(
            Build(spec=spec, plan=plan, worlds=worlds, directory=Path(folder), slice_s=0.0, actor_cpus=1.0)
        )
        for _ in range(times):
            usual = [timed(made) for _ in range(20)]
            steps, killed_s = made.ledger.steps, time.monotonic()
            os.kill(made.runners.process_ids()[0], signal.SIGKILL)
            down: list[float] = []
            while time.monotonic() - killed_s < PATIENCE_S:
                down.append(timed(made))
                if len(down) > 5 and len(made.runners.up) == 2:
                    break
            found.append(
                {
                    "usual_s": statistics.median(usual),
                    "longest_s": max(down),
                    "back_s": time.monotonic() - killed_s,
                    "steps_meanwhile": made.ledger.steps - steps,
                }
            )
            print(json.dumps(found[-1]), flush=True)
        made.stop()
    return found


def timed(made) -> float:
    began_s = time.monotonic()
    made.train()
    return time.monotonic() - began_s


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.faults")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args(arguments)
    settings.quiet()
    rows = kills(given.times)
    longest, back = (statistics.median(row[name] for row in rows) for name in ("longest_s", "back_s"))
    print(f"longest iteration {longest:.2f} s (at most {LONGEST_S}), back after {back:.1f} s (at most {BACK_S})")
    return 0 if longest <= LONGEST_S and back <= BACK_S else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
