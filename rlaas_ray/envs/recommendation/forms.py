"""The forms an action may take: an index of a slate, three positions, or a score for each candidate.

Called by env.py and satisfaction.py. Checks what is given and says which candidates it shows; knows nothing of users.
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np

from rlaas_ray.envs.recommendation import choice
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64, I64, Array

_ENV = "action of SlateRecommendation"


class Form(Protocol):
    """A way to name slates."""

    @property
    def space(self) -> gymnasium.Space[Any]: ...

    def check(self, action: Any) -> Array:
        """The batch as `shown` takes it; raises InvalidInput."""
        ...

    def shown(self, action: Array) -> tuple[I64, I64]:
        """Slates (B, 3), and how many of their documents had to be replaced (B,)."""
        ...

    def first(self, action: Array) -> I64:
        """The candidate in the first slot (B,)."""
        ...


class Index:
    """One index: of a slate among all 120, or of one candidate."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(count)

    def check(self, action: Any) -> Array:
        """Int64 (B,) below the count."""
        given = np.asarray(action)
        if given.ndim != 1 or given.dtype.kind not in "iu" or ((given < 0) | (given >= self._count)).any():
            raise _refused(given, expected=f"(B,) ints from 0 to {self._count - 1}")
        return given.astype(np.int64)

    def shown(self, action: Array) -> tuple[I64, I64]:
        """The slates of these indices."""
        return choice.SLATES[action], np.zeros(len(action), dtype=np.int64)

    def first(self, action: Array) -> I64:
        """The candidate itself."""
        return np.asarray(action, dtype=np.int64)


class Positions:
    """Three candidates by number; a duplicate is replaced and counted."""

    def __init__(self) -> None:
        self.space: gymnasium.Space[Any] = gymnasium.spaces.MultiDiscrete([choice.CANDIDATES] * choice.SHOWN)

    def check(self, action: Any) -> Array:
        """Int64 (B, 3) below 10."""
        given = np.asarray(action)
        whole = given.ndim == 2 and given.shape[1] == choice.SHOWN and given.dtype.kind in "iu"
        if not whole or ((given < 0) | (given >= choice.CANDIDATES)).any():
            raise _refused(given, expected="(B, 3) ints from 0 to 9")
        return given.astype(np.int64)

    def shown(self, action: Array) -> tuple[I64, I64]:
        """The slates, repaired."""
        return choice.repair(np.asarray(action, dtype=np.int64))

    def first(self, action: Array) -> I64:
        """The first position."""
        return np.asarray(action, dtype=np.int64)[:, 0]


class Scores:
    """A number for each candidate; the highest are shown, ties to the lower index."""

    def __init__(self) -> None:
        self.space: gymnasium.Space[Any] = gymnasium.spaces.Box(-1.0, 1.0, (choice.CANDIDATES,), np.float32)

    def check(self, action: Any) -> Array:
        """Float64 (B, 10), finite."""
        given = np.asarray(action)
        if given.ndim != 2 or given.shape[1] != choice.CANDIDATES or given.dtype.kind not in "fiu":
            raise _refused(given, expected="(B, 10) numbers")
        if not np.isfinite(given).all():
            raise _refused(given, expected="(B, 10) finite numbers")
        return given.astype(np.float64)

    def shown(self, action: Array) -> tuple[I64, I64]:
        """The three best."""
        return choice.top(_wide(action)), np.zeros(len(action), dtype=np.int64)

    def first(self, action: Array) -> I64:
        """The best."""
        return np.asarray(np.argmax(_wide(action), axis=1), dtype=np.int64)


def slate(name: str) -> Form:
    """The form of a slate: index, positions or scores."""
    known: dict[str, Form] = {"index": Index(len(choice.SLATES)), "positions": Positions(), "scores": Scores()}
    return _named(name, known=known)


def single(name: str) -> Form:
    """The form of one candidate: index or scores."""
    return _named(name, known={"index": Index(choice.CANDIDATES), "scores": Scores()})


def _named(name: str, *, known: dict[str, Form]) -> Form:
    if name not in known:
        raise InvalidInput("action", given=name, expected=", ".join(known), cure=nearest(name, list(known)))
    return known[name]


def _wide(action: Array) -> F64:
    return np.asarray(action, dtype=np.float64)


def _refused(given: Any, *, expected: str) -> InvalidInput:
    shown = given.tolist() if given.size <= choice.CANDIDATES else (given.shape, str(given.dtype))
    return InvalidInput(_ENV, given=shown, expected=expected, cure="Sample from the action space to see one.")
