"""How fast our environments step, in their vector form.

    python -m benchmarks.environments [--env ID ...] [--seconds 2]

CPU time, one thread, against Gymnasium's SyncVectorEnv of the same environment with the same actions, and against the memory
bound: one NumPy pass that copies the arrays of the state. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from rlaas_ray.envs import registry, speed

NUM_ENVS = 1024
BARS = {registry.RAN: 8.0}
BAR = 80.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", action="append", choices=registry.ours())
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    missed = False
    for env in given.env or registry.ours():
        bar = BARS.get(env, BAR)
        found = speed.measure(env, num_envs=NUM_ENVS, clock_s=time.process_time, seconds=given.seconds)
        missed |= found.ratio < bar
        told = {"vector_us": round(found.vector_us, 2), "sync_us": round(found.sync_us, 1)}
        memory = {"copy_us": round(found.copy_us, 4), "over_copy": round(found.vector_us / found.copy_us)}
        print(
            json.dumps({"env": env, "num_envs": NUM_ENVS, **told, "ratio": round(found.ratio, 1), "bar": bar, **memory})
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
