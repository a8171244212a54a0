"""The feed of an off-policy learning: fragments into the memory, as many updates as their steps allow, batches out of it.

Held by the algorithms' Learning, which owns networks and losses. Never draws but from generators that it is handed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.replay import stored
from rlaas_ray.train.replay.memory import Memory, Sample
from rlaas_ray.train.replay.plan import ReplayPlan
from rlaas_ray.train.seam import State

_AT_ONCE = 32  # updates whose uniform batches are drawn by one index


class Feed:
    """A memory, and how many updates are due."""

    def __init__(self, plan: ReplayPlan, record: np.dtype[np.void]) -> None:
        self._plan = plan
        self.memory = Memory(
            record,
            capacity=plan.buffer_size,
            max_bytes=plan.buffer_max_bytes,
            alpha=plan.priority_alpha if plan.prioritised else None,
        )
        self._due = 0.0  # updates, a part of one included
        self._steps = 0  # env steps that came into this memory
        self._checkpoints = 0

    def take(self, fragments: Sequence[Fragment]) -> int:
        """Insert; gives the updates that are due now: none before `learning_starts` steps are in the memory.

        A resumed run whose memory was not saved fills it first, too.
        """
        for fragment in fragments:
            self.memory.insert(fragment.columns)
            self._steps += fragment.steps
        if self._steps < self._plan.learning_starts or len(self.memory) == 0:
            return 0
        self._due += self._plan.updates_per_step * sum(fragment.steps for fragment in fragments)
        now = int(self._due)
        self._due -= now
        return now

    def samples(self, updates: int, *, rng: np.random.Generator, used: float) -> Iterator[Sample]:
        """A batch for each update. `used` of the budget: beta grows to 1 with it. Under priorities each sees the last one's."""
        size = self._plan.batch_size
        if self._plan.prioritised:
            beta = self._plan.priority_beta + (1 - self._plan.priority_beta) * used
            for _ in range(updates):
                yield self.memory.sample(size, rng=rng, beta=beta)
            return
        for start in range(0, updates, _AT_ONCE):
            count = min(_AT_ONCE, updates - start)
            drawn = self.memory.sample(count * size, rng=rng)
            for i in range(count):
                part = slice(i * size, (i + 1) * size)
                yield Sample(rows=drawn.rows[part], places=drawn.places[part], weights=None)

    def state(self) -> State:
        """What a checkpoint needs beside the memory's own files."""
        return {"feed.due": np.array([self._due])}

    def load_state(self, state: State) -> None:
        """The inverse; the memory stays as it is."""
        self._due = float(state["feed.due"][0])

    def save(self, directory: Path) -> None:
        """The memory as files: at every `buffer_checkpoint_every`-th call."""
        every = self._plan.buffer_checkpoint_every
        self._checkpoints += 1
        if every and self._checkpoints % every == 0:
            stored.save(self.memory, directory)

    def load(self, directory: Path) -> bool:
        """The inverse; False when there are none. Raises InvalidInput for those of another plan."""
        if not stored.load(self.memory, directory):
            return False
        self._steps = max(self._steps, self._plan.learning_starts)
        return True
