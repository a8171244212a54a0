"""Sequences: fragments cut along time, and what each needs to go on from where it was cut.

Made by sampler.py from blocks, joined and drawn from by engine.py. Letters: L steps of a sequence, n sequences, d entries of an
observation, s entries of a state. A sequence may hold the end of one episode and the start of the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rlaas_ray.specs.arrays import F32, I64, Array, Bool
from rlaas_ray.train import columns
from rlaas_ray.train.analytic import Schedule

_Entry = TypeVar("_Entry", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequences:
    """Beside each other, n sequences of L steps. Rows that are not `valid` are resets of an env: nothing is learnt there."""

    observations: F32  # (L, n, d), normalised
    actions: Array  # (L, n, a)
    log_probabilities: F32  # (L, n)
    advantages: F32  # (L, n)
    targets: F32  # (L, n)
    valid: Bool  # (L, n)
    starts: Bool  # (L, n): an episode starts here, the state before it is nothing
    actor: F32  # (1, n, s): the state before the first step
    critic: F32  # (1, n, s)
    masks: Bool | None = None  # (L, n, m)

    @property
    def count(self) -> int:
        """How many: n."""
        return int(self.advantages.shape[1])


def cut(array: npt.NDArray[_Entry], *, steps: int) -> npt.NDArray[_Entry]:
    """(T, B, ...) -> (steps, T/steps * B, ...): each row's pieces of `steps` steps beside each other."""
    pieces = array.reshape(-1, steps, *array.shape[1:]).swapaxes(0, 1)
    return pieces.reshape(steps, -1, *array.shape[2:])


def join(parts: Sequence[Sequences]) -> Sequences:
    """All sequences of all parts."""
    if len(parts) == 1:
        return parts[0]
    return _each(lambda name: [getattr(part, name) for part in parts], np.concatenate)


def take(batch: Sequences, chosen: I64) -> Sequences:
    """The sequences named, copied."""
    return _each(lambda name: getattr(batch, name), lambda array, axis: array.take(chosen, axis=axis))


def standardised(batch: Sequences) -> Sequences:
    """Advantages over the valid rows of the whole batch."""
    found = np.zeros_like(batch.advantages)
    found[batch.valid] = columns.standardise(batch.advantages[batch.valid])
    return replace(batch, advantages=found)


def minibatches(batch: Sequences, *, schedule: Schedule, rng: np.random.Generator) -> Iterator[tuple[int, Sequences]]:
    """(epoch, some sequences): every epoch permutes the sequences once and cuts evenly, so that no rest is dropped (trap T4)."""
    used = max(1, round(batch.count * schedule.share))
    count = min(schedule.minibatches, used)
    for epoch in range(schedule.epochs):
        order = rng.permutation(batch.count)[:used]
        for index in range(count):
            yield epoch, take(batch, order[index * used // count : (index + 1) * used // count])


def _each(get: Any, make: Any) -> Sequences:
    arrays: dict[str, Any] = {field.name: get(field.name) for field in fields(Sequences)}
    if arrays["masks"] is None or arrays["masks"][0] is None:
        del arrays["masks"]
    return Sequences(**{name: make(given, axis=1) for name, given in arrays.items()})
