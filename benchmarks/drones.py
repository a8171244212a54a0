"""How well a drone learns to deliver, at what cost, and whether the constants of `pd_field` suit worlds that nobody tuned on.

    python -m benchmarks.drones learn [--seeds 5] [--steps 3000000]
    python -m benchmarks.drones field

`learn` trains PPO with its presets and scores it greedily on the card's 100 worlds, then the same network for ten drones on 20
worlds of the fleet's card. Bars: score 90, and no cost above the reference's interval. `field` changes one constant at a time, on
128 worlds that are neither the card's nor those that it was tuned on. One process; a line each. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.envs import scoring
from rlaas_ray.envs.drones import baselines, pilots
from rlaas_ray.envs.drones import params as p
from rlaas_ray.policies import bundle
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.testing import training

LONE, FLEET = "rlaas/DroneDelivery-v1", "rlaas/DroneFleet-v1"
BAR = 90.0
WORLDS: Mapping[str, Any] = {"seeds": (31, 32, 33, 34), "episodes": 32}
FIELD: Mapping[str, Any] = {"cruise_mps": 20.0, "brake": 2.8, "approach_s": 0.8, "gain_mps": 10.0}
OTHERS = (
    ("cruise_mps", (18.0, 22.0)),
    ("brake", (2.4, 3.2)),
    ("approach_s", (0.6, 1.0)),
    ("gain_mps", (6.0, 15.0)),
)


def learn(*, seeds: int, steps: int) -> bool:
    """A row for the reference and for each training seed."""
    known = scoring.act_of(baselines.pd_field(), env=LONE)
    _, costs = scoring.episode_returns(LONE, known, mode="balanced", seeds=scoring.SEEDS, episodes=scoring.EPISODES)
    intervals = [scoring.mean_interval(costs[:, k]) for k in range(len(p.COSTS))]
    print(f"pd_field: costs a step {_shown(costs.mean(axis=0))}, 95% at most {_shown([high for _, high in intervals])}")
    held = True
    for seed in range(seeds):
        spec = TrainSpec(env=LONE, num_env_runners=0, total_timesteps=steps, seed=seed)
        before = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            result, _ = training.train(spec, Path(folder))
            spent_s = time.process_time() - before
            held &= judge(
                Path(result["bundle"]), most=[high for _, high in intervals], told=f"{seed}, {spent_s:.0f} CPU s"
            )
    return held


def judge(folder: Path, *, most: list[float], told: str) -> bool:
    """One trained policy, alone and in a fleet."""
    alone = scoring.score(LONE, play_of(folder, env=LONE))
    ten = scoring.score(FLEET, play_of(folder, env=FLEET), episodes=4)
    print(f"seed {told}: {_line(alone)}; ten of them {_line(ten)}", flush=True)
    return alone.score >= BAR and all(cost <= high for cost, high in zip(alone.costs, most, strict=True))


def play_of(folder: Path, *, env: str) -> scoring.Play:
    """The bundle's decisions, for each drone of each world."""
    policy = bundle.load(folder)

    def play() -> Any:
        def act(seen: Any, rng: np.random.Generator) -> Any:
            drawn = policy.decide(np.asarray(seen).reshape(-1, seen.shape[-1]), rng=rng)
            return drawn.action.reshape(*seen.shape[:-1], -1).astype(np.float32)

        return act

    return play


def field() -> bool:
    """The paired difference of each change of one constant."""
    base, costs = _flown(FIELD)
    print(f"pd_field: {base.mean():.2f}, costs a step {_shown(costs.mean(axis=0))}")
    for name, values in OTHERS:
        for value in values:
            other, costs = _flown({**FIELD, name: value})
            low, high = scoring.mean_interval(other - base)
            told = f"{(other - base).mean():+.2f} [{low:.2f}, {high:.2f}], costs a step {_shown(costs.mean(axis=0))}"
            print(f"{name} {value}: {told}", flush=True)
    return True


def _flown(constants: Mapping[str, Any]) -> tuple[Any, Any]:
    play = scoring.act_of(pilots.Pilot(field=True, **constants), env=LONE)
    return scoring.episode_returns(LONE, play, mode="balanced", **WORLDS)


def _line(found: scoring.Score) -> str:
    low, high = found.score_ci95
    return (
        f"return {found.return_mean:.1f}, score {found.score:.1f} [{low:.1f}, {high:.1f}], costs {_shown(found.costs)}"
    )


def _shown(values: Any) -> str:
    return ", ".join(f"{value:.5f}" for value in values)


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("learn", "field"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3_000_000)
    given = parser.parse_args()
    sys.exit(0 if (field() if given.which == "field" else learn(seeds=given.seeds, steps=given.steps)) else 1)


if __name__ == "__main__":
    main()
