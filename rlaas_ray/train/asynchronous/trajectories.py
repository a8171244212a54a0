"""Trajectories: fragments [T, B] as they were lived, for learners whose policy is no longer the one that acted.

Made by collector.py, read by engine.py. Never holds advantages: those depend on the policy that learns. Letters as in
train/columns.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, I64, Array, Bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """One fragment. Rows that are not `valid` are NEXT_STEP's resets."""

    observations: F32  # (T + 1, B, d), normalised as the policy that acted saw them
    actions: Array  # (T, B, a)
    log_probabilities: F32  # (T, B), of the policy that acted
    rewards: F32  # (T, B)
    terminated: Bool  # (T, B)
    truncated: Bool  # (T, B)
    valid: Bool  # (T, B)
    masks: Bool | None  # (T, B, m)
    final_at: I64  # (k, 2): step and row of episodes that SAME_STEP autoreset ended
    final_observations: F32  # (k, d), normalised
    warming: bool = False  # observations as they come: they only start the statistics
    staleness: int = 0  # updates between the weights that acted and those that learn

    @property
    def steps(self) -> int:
        """T."""
        return int(self.rewards.shape[0])

    @property
    def rows(self) -> int:
        """B."""
        return int(self.rewards.shape[1])


def join(parts: Sequence[Trajectory]) -> Trajectory:
    """Side by side: rows of all parts; each has T steps."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(part.rows for part in parts[:-1])])
    masks = [part.masks for part in parts if part.masks is not None]
    return Trajectory(
        observations=np.concatenate([part.observations for part in parts], axis=1),
        actions=np.concatenate([part.actions for part in parts], axis=1),
        log_probabilities=np.concatenate([part.log_probabilities for part in parts], axis=1),
        rewards=np.concatenate([part.rewards for part in parts], axis=1),
        terminated=np.concatenate([part.terminated for part in parts], axis=1),
        truncated=np.concatenate([part.truncated for part in parts], axis=1),
        valid=np.concatenate([part.valid for part in parts], axis=1),
        masks=np.concatenate(masks, axis=1) if masks else None,
        final_at=np.concatenate(
            [part.final_at + np.array([0, first]) for part, first in zip(parts, before, strict=True)]
        ),
        final_observations=np.concatenate([part.final_observations for part in parts]),
    )


def take(trajectory: Trajectory, rows: I64) -> Trajectory:
    """The rows named, copied, every step of them."""
    place = np.full(trajectory.rows, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    final_rows = place[trajectory.final_at[:, 1]]
    inside = final_rows >= 0
    return Trajectory(
        observations=trajectory.observations[:, rows],
        actions=trajectory.actions[:, rows],
        log_probabilities=trajectory.log_probabilities[:, rows],
        rewards=trajectory.rewards[:, rows],
        terminated=trajectory.terminated[:, rows],
        truncated=trajectory.truncated[:, rows],
        valid=trajectory.valid[:, rows],
        masks=None if trajectory.masks is None else trajectory.masks[:, rows],
        final_at=np.stack([trajectory.final_at[inside, 0], final_rows[inside]], axis=1),
        final_observations=trajectory.final_observations[inside],
    )


def minibatches(
    trajectory: Trajectory, *, epochs: int, minibatch_size: int, rng: np.random.Generator
) -> Iterator[tuple[int, I64]]:
    """(epoch, rows): every epoch permutes the rows and cuts them evenly into about `minibatch_size` steps.

    Whole rows, because V-trace needs their future.
    """
    count = min(trajectory.rows, max(1, round(trajectory.steps * trajectory.rows / minibatch_size)))
    for epoch in range(epochs):
        order = rng.permutation(trajectory.rows)
        for index in range(count):
            yield epoch, order[index * trajectory.rows // count : (index + 1) * trajectory.rows // count]
