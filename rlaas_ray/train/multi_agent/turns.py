"""Advantages where agents do not act at every step: from one own turn to the next, rewards in between summed.

Called by sampler.py. Where every agent acts at every step this is columns.advantages, and a test says so. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, Bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turns:
    """Arrays (T, rows). `acted`: the row had an observation and acted. `final`: the value of the last observation where done."""

    rewards: F32
    values: F32  # of the observation acted on
    acted: Bool
    terminated: Bool
    truncated: Bool
    final: F32
    last: F32  # (rows,), value of the observation after the block
    seen_last: Bool  # (rows,), that observation is the row's own


def advantages(turns: Turns, *, gamma: float, gae_lambda: float) -> tuple[F32, F32, Bool]:
    """Generalised advantages, value targets, and which rows (T, rows) to learn from.

    One discount for each own turn. An action whose next own observation lies beyond the block is left out, unless the episode
    ended before.
    """
    steps, rows = turns.rewards.shape
    found = np.zeros((steps, rows), dtype=np.float32)
    valid = np.zeros((steps, rows), dtype=np.bool_)
    value, known = (
        turns.last.copy(),
        turns.seen_last.copy(),
    )  # of the next own turn, and whether there is one in this block
    running, earned = np.zeros(rows, dtype=np.float32), np.zeros(rows, dtype=np.float32)
    alive, same = np.ones(rows, dtype=np.float32), np.ones(rows, dtype=np.float32)
    for t in range(steps - 1, -1, -1):
        done = turns.terminated[t] | turns.truncated[t]
        # An end at t belongs to the own turn at or before t: what comes after it is another episode.
        earned = np.where(done, 0.0, earned) + turns.rewards[t]
        alive = np.where(done, 1.0 - turns.terminated[t], alive)
        same = np.where(done, 0.0, same)
        value = np.where(done, turns.final[t], value)
        known = known | done
        acted = turns.acted[t]
        delta = earned + np.float32(gamma) * alive * value - turns.values[t]
        own = np.where(known, delta + np.float32(gamma * gae_lambda) * same * running, 0.0)
        running = np.where(acted, own, running).astype(np.float32)
        found[t] = running
        valid[t] = acted & known
        value = np.where(acted, turns.values[t], value).astype(np.float32)
        earned = np.where(acted, 0.0, earned).astype(np.float32)
        alive = np.where(acted, 1.0, alive).astype(np.float32)
        same = np.where(acted, 1.0, same).astype(np.float32)
        known = known | acted
    return found, found + turns.values, valid
