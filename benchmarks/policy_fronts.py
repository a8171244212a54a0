"""Fronts of conditioned policies where the best is known: Deep Sea Treasure (convex), and the tiny radio network by enumeration.

`python -m benchmarks.policy_fronts --seeds 5` prints what docs/policy-fronts.md tells: a JSON line for each training.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "train_envs"))

import deep_sea

from rlaas_ray.envs import registry
from rlaas_ray.envs.ran import tiny
from rlaas_ray.evaluation import policy_front
from rlaas_ray.evaluation.vector_returns import vector_returns
from rlaas_ray.policies import bundle
from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.testing.training import train

WHOLE = 401.8  # hypervolume of the convex front at (0, -25)
TINY = "rlaas/RanControl-tiny-v1"
DQN: dict[str, Any] = {
    "algorithm": "dqn",
    "total_timesteps": 300_000,
    "num_envs_per_runner": 32,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "gamma": 0.995,
    "network": {"hidden": (64, 64), "activation": "relu"},
    "options": {"n_step": 5, "epsilon_fraction": 0.5, "updates_per_step": 0.05, "buffer_size": 50_000},
}
PPO: dict[str, Any] = {
    "algorithm": "ppo",
    "total_timesteps": 300_000,
    "num_envs_per_runner": 64,
    "batch_size": 2048,
    "minibatch_size": 512,
    "epochs": 6,
    "learning_rate": 4e-3,
    "gamma": 0.998,
    "gae_lambda": 0.98,
    "entropy_coefficient": 0.1,
    "serving": "greedy",
}
CELLS: dict[str, Any] = {
    "algorithm": "ppo",
    "total_timesteps": 200_000,
    "num_envs_per_runner": 128,
    "batch_size": 4096,
    "minibatch_size": 1024,
    "epochs": 6,
    "learning_rate": 2e-3,
    "gamma": 0.0,
    "serving": "greedy",
}


def main() -> None:
    """Train each setting for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=["dqn", "ppo", "cells"])
    given = parser.parse_args()
    for name, settings in (("dqn", DQN), ("ppo", PPO), ("cells", CELLS)):
        for seed in range(given.seeds) if given.only in {None, name} else ():
            told = _cells(settings, seed=seed) if name == "cells" else _sea(settings, seed=seed)
            print(json.dumps({"setting": name, "seed": seed, **told}), flush=True)


def _sea(settings: dict[str, Any], *, seed: int) -> dict[str, Any]:
    result = _trained(deep_sea.CONVEX, settings, seed=seed)
    table = result["evaluation"]["front"]["preferences"]
    weights, means = (np.array([row[name] for row in table]) for name in ("weights", "mean"))
    reached = policy_front.hypervolume(means, reference=np.array([0.0, -25.0]))
    return {
        "hypervolume": round(reached, 1),
        "share": round(reached / WHOLE, 4),
        "points": len({tuple(row) for row in np.round(means, 6)}),
        "correlation": round(float(np.corrcoef(weights[:, 0], means[:, 0])[0, 1]), 3),
        "cpu_s": round(result["cpu_s"], 1),
    }


def _cells(settings: dict[str, Any], *, seed: int) -> dict[str, Any]:
    result = _trained(TINY, settings, seed=seed)
    weights = np.random.default_rng(100).dirichlet(np.ones(4), size=100)
    found = vector_returns(
        bundle.load(Path(result["bundle"]), engine="numpy"),
        weights=weights,
        make_vector=lambda envs: registry.make_vector(TINY, num_envs=envs, seed=0),
        episodes=2,
        seed=0,
    )
    reached: F64 = (found.scaled.mean(axis=1) * weights).sum(axis=1)
    worth = np.stack([tiny.table()[1] @ row for row in weights])  # (100, 8 steps, 729 actions)
    best, random = worth.max(axis=2).sum(axis=1), worth.mean(axis=2).sum(axis=1)
    share = (reached - random) / (best - random)
    return {
        "utility": round(float(reached.mean()), 4),
        "best": round(float(best.mean()), 4),
        "random": round(float(random.mean()), 4),
        "share": round(float(share.mean()), 4),
        "least_share": round(float(share.min()), 4),
        "cpu_s": round(result["cpu_s"], 1),
    }


def _trained(env: str, settings: dict[str, Any], *, seed: int) -> dict[str, Any]:
    spec = TrainSpec(
        env=env, preference="conditioned", seed=seed, num_env_runners=0, checkpoint_every_s=1e6, **settings
    )
    return train(spec, Path(tempfile.mkdtemp()))[0]


if __name__ == "__main__":
    main()
