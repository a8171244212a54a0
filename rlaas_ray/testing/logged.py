"""Logged transitions made by a scripted policy, as a Parquet file that offline training reads.

Called by tests and benchmarks; never by the product.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import registry
from rlaas_ray.specs.arrays import Array

Act = Callable[[Array, np.random.Generator], Array]


def write(path: Path, *, env: str, policies: list[Act], rows: int, seed: int, envs: int = 16) -> float:
    """At least `rows` rows in `path`, each episode by the next of `policies`; gives the mean return of its episodes.

    A policy maps observations (n, d) and a generator to actions (n,) or (n, a).
    """
    rng = np.random.default_rng(seed)
    world = registry.make_vector(env, num_envs=envs, seed=seed)
    assert world.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    seen, _ = world.reset()
    columns: dict[str, list[Any]] = {
        name: [] for name in ("observation", "action", "reward", "terminated", "truncated")
    }
    episode, step = np.arange(envs), np.zeros(envs, dtype=np.int64)
    numbers: dict[str, list[Any]] = {"episode_id": [], "step": []}
    begun, fresh, kept = envs, np.zeros(envs, dtype=np.bool_), 0
    while kept < rows:
        action = np.stack([policies[episode[i] % len(policies)](seen[i : i + 1], rng)[0] for i in range(envs)])
        following, reward, terminated, truncated, _ = world.step(action)
        real = ~fresh  # the step after an end is the reset
        given = (seen, action, reward, terminated, truncated)
        for values, name in zip(given, columns, strict=True):
            columns[name].extend(np.asarray(values)[real].tolist())
        numbers["episode_id"].extend(episode[real].tolist())
        numbers["step"].extend(step[real].tolist())
        kept += int(real.sum())
        fresh = terminated | truncated
        step = np.where(fresh, 0, np.where(real, step + 1, 0))
        for i in np.flatnonzero(fresh):
            episode[i], begun = begun, begun + 1
        seen = following
    world.close()
    table = pa.table({**columns, **numbers})
    pq.write_table(table, path)
    totals = table.group_by("episode_id").aggregate([("reward", "sum")]).column("reward_sum").to_numpy()
    return float(np.mean(totals))
