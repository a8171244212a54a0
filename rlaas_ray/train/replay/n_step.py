"""n-step transitions from blocks [T, B]: over ends of episodes, truncations, NEXT_STEP's resets and borders of fragments.

Used by collector.py, which keeps one NStep for each vector env. The last n - 1 steps of a block wait for the next one: nothing is
lost at a border, and nothing is joined over one that is none (a restarted env). Never loops over rows, only over the n steps.

R = r_0 + gamma r_1 + ... while the episode goes on; at a truncation the final observation is bootstrapped from (Sutton 1988;
Pardo et al. 2018).
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import Bool
from rlaas_ray.train.replay.ring import Rows
from rlaas_ray.train.rollouts import Block


class NStep:
    """One vector env's steps on their way to becoming transitions."""

    def __init__(self, record: np.dtype[np.void], *, n: int, gamma: float) -> None:
        self._record = record
        self._n = n
        self._gamma = np.float32(gamma)
        self._waiting: tuple[Rows, Bool, Bool] | None = None

    def forget(self) -> None:
        """The next block is of another env: what waits has no continuation."""
        self._waiting = None

    def rows(self, block: Block) -> Rows:
        """All transitions (n,) that this block completes, in the order of time, then of envs."""
        steps, done, valid = self.single(block), block.done, block.valid
        if self._n == 1:
            return steps[valid]
        if self._waiting is not None:
            before = self._waiting
            steps = np.concatenate([before[0], steps])
            done = np.concatenate([before[1], done])
            valid = np.concatenate([before[2], valid])
        kept = max(0, len(steps) - (self._n - 1))
        self._waiting = (steps[kept:], done[kept:], valid[kept:])
        return joined(steps, done=done, n=self._n)[valid[:kept]]

    def single(self, block: Block) -> Rows:
        """The block's own steps as records (T, B)."""
        rows: Rows = np.empty(block.rewards.shape, dtype=self._record)
        rows["observations"] = block.observations[:-1]
        rows["next_observations"] = block.following()
        rows["actions"] = block.actions
        rows["rewards"] = block.rewards
        rows["discounts"] = np.where(block.terminated, np.float32(0), self._gamma)
        if block.masks is not None:
            rows["masks"] = block.masks[:-1]
            rows["next_masks"] = block.following_masks()
        return rows


def joined(steps: Rows, *, done: Bool, n: int) -> Rows:
    """Transitions over up to n steps from one-step records (T, B): those that start at the first T - n + 1 steps."""
    starts = max(0, len(steps) - n + 1)
    found: Rows = steps[:starts].copy()
    rewards, discounts = found["rewards"], found["discounts"]
    last = np.broadcast_to(np.arange(starts)[:, None], rewards.shape).copy()
    going = ~done[:starts]
    for k in range(1, n):
        following = steps[k : k + starts]
        rewards += np.where(going, discounts * following["rewards"], np.float32(0))
        discounts *= np.where(going, following["discounts"], np.float32(1))
        last += going
        going = going & ~done[k : k + starts]
    envs = np.arange(steps.shape[1])
    for name in ("next_observations", "next_masks"):
        if name in (steps.dtype.names or ()):
            found[name] = steps[name][last, envs]
    return found
