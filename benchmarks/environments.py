"""How fast our environments step, and REFERENCE.json of RanControl from nothing.

    python -m benchmarks.environments speed [--seconds 2]
    python -m benchmarks.environments reference [--episodes 20] [--reference-episodes 6]     about 7 CPU minutes

Speed is in CPU time, one thread, against Gymnasium's SyncVectorEnv of the same environment with the same actions; it exits 1 when
a bar is missed (4 times for RanControl, 80 times for the tiny variant).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rlaas_ray.envs import registry, scoring, speed
from rlaas_ray.envs.ran import measures

BARS = {(registry.RAN, 64): 4.0, (registry.RAN, 256): 4.0, (registry.RAN_TINY, 1024): 80.0}
CARD = Path(__file__).parents[1] / "rlaas_ray" / "envs" / "ran" / "REFERENCE.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["speed", "reference"])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--episodes", type=int, default=scoring.EPISODES)
    parser.add_argument("--reference-episodes", type=int, default=6)
    given = parser.parse_args()
    if given.what == "speed":
        return _speed(given.seconds)
    _reference(episodes=given.episodes, reference_episodes=given.reference_episodes)
    return 0


def _speed(seconds: float) -> int:
    missed = False
    for (env, num_envs), bar in BARS.items():
        found = speed.measure(env, num_envs=num_envs, clock_s=time.process_time, seconds=seconds)
        missed |= found.ratio < bar
        told = {"vector_us": round(found.vector_us, 2), "sync_us": round(found.sync_us, 1)}
        print(json.dumps({"env": env, "num_envs": num_envs, **told, "ratio": round(found.ratio, 1), "bar": bar}))
    return int(missed)


def _reference(*, episodes: int, reference_episodes: int) -> None:
    began = time.process_time()
    modes = {
        mode: scoring.measure_reference(
            mode=mode,
            episodes=episodes,
            reference_episodes=reference_episodes,
            told=lambda line: print(line, f"{time.process_time() - began:.0f} s", file=sys.stderr, flush=True),
        )
        for mode in measures.MODES
    }
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    document = scoring.document(modes, revision=revision, date=dt.datetime.now(tz=dt.UTC).date().isoformat())
    CARD.write_text(_text({**document, "cpu_s": round(time.process_time() - began)}), encoding="utf-8")


def _text(document: dict[str, Any]) -> str:
    """JSON with one line a policy: a diff shows which one moved."""
    kept = {name: value for name, value in document.items() if name != "modes"}
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in kept.items()]
    modes = []
    for mode, entry in document["modes"].items():
        facts = [f"   {json.dumps(name)}: {json.dumps(value)}," for name, value in entry.items() if name != "policies"]
        policies = ",\n".join(f"    {json.dumps(name)}: {json.dumps(one)}" for name, one in entry["policies"].items())
        modes.append("\n".join((f"  {json.dumps(mode)}: {{", *facts, '   "policies": {', policies, "   }", "  }")))
    return "\n".join(("{", *lines, ' "modes": {', ",\n".join(modes), " }", "}")) + "\n"


if __name__ == "__main__":
    sys.exit(main())
