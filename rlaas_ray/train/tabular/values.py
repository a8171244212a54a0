"""The table of Q-learning and its one update, over batches; pure.

Used by q_learning.py. Knows cells and action indices, never an env or an observation.

`s` cells, `n` actions, `B` rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, F64, I64, Bool

_FORBIDDEN = -np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transitions:
    """Steps as cells and actions, from 0; each array [T, B], or (B,) for one step; masks with a last axis n."""

    cells: I64
    actions: I64
    rewards: F32
    following: I64
    terminated: Bool
    valid: Bool
    following_masks: Bool | None = None

    def step(self, t: int) -> Transitions:
        """The valid ones of step t."""
        kept = self.valid[t]
        masks = None if self.following_masks is None else self.following_masks[t][kept]
        names = ("cells", "actions", "rewards", "following", "terminated", "valid")
        return Transitions(**{name: getattr(self, name)[t][kept] for name in names}, following_masks=masks)


def update(table: F64, step: Transitions, *, gamma: float, learning_rate: float) -> F64:
    """One update of `table` (s, n) in place by the B transitions of a step; gives their temporal differences (B,).

    Q[s,a] += alpha * (r + gamma * (1 - terminated) * max Q[s'] - Q[s,a]) (Watkins & Dayan 1992), all targets from the table as
    it was. Rows that meet in one entry count as if they came one after another: plain sums would step over the target, for
    alpha times their number may exceed 2.
    """
    bootstrapped = best(table, cells=step.following, masks=step.following_masks)
    targets = step.rewards + gamma * np.where(step.terminated, 0.0, bootstrapped)
    entries = step.cells * table.shape[1] + step.actions
    flat = table.reshape(-1)
    differences: F64 = targets - flat[entries]
    np.add.at(flat, entries, learning_rate * (1.0 - learning_rate) ** _later(entries) * differences)
    return differences


def best(table: F64, *, cells: I64, masks: Bool | None = None) -> F64:
    """The largest value of allowed actions (B,)."""
    rows = table[cells]
    found: F64 = (rows if masks is None else np.where(masks, rows, _FORBIDDEN)).max(axis=1)
    return found


def act(values: F32, *, epsilon: float, masks: Bool | None, rng: np.random.Generator) -> I64:
    """Epsilon-greedy actions (B,) of rows of values (B, n); a draw is uniform over the allowed ones."""
    rows, count = values.shape
    greedy = (values if masks is None else np.where(masks, values, _FORBIDDEN)).argmax(axis=1)
    allowed = np.ones((rows, count), dtype=np.bool_) if masks is None else masks
    drawn = np.where(allowed, rng.random((rows, count)), -1.0).argmax(axis=1)
    chosen: I64 = np.where(rng.random(rows) < epsilon, drawn, greedy).astype(np.int64)
    return chosen


def _later(entries: I64) -> I64:
    """How many of the rows that follow have the same entry (B,)."""
    order = np.argsort(entries, kind="stable")
    ordered = entries[order]
    last = np.searchsorted(ordered, ordered, side="right") - 1
    later = np.empty_like(entries)
    later[order] = last - np.arange(len(entries))
    return later
