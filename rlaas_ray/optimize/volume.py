"""The hypervolume of a search, generation by generation, below one reference that never moves once it is fixed.

Kept by search.py. The reference is the user's, else the problem's own box, else a tenth beyond the nadir of the fifth
generation's feasible front. A problem that says its ideal is measured in shares of its box, any other in its own units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np

from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.optimize import front, problems
from rlaas_ray.specs.arrays import F64

FIXED_AT = 5  # generation
MARGIN = 0.1  # of the range of the front there
EVERY = 10  # generations, where measuring takes longer than searching
_POINTS_IN_5 = 500  # with five objectives 2.6 ms for 500 points, 33 ms for 2,000 (one core)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Of a front: `value` as the trace (generations,) has it, `raw` in the objectives' own units. Both corners minimised."""

    value: float
    raw: float
    trace: F64
    ideal: F64
    nadir: F64


class Volume:
    """Hypervolumes so far. `trace` holds NaN until the reference is fixed, and is then filled in from the start."""

    def __init__(self, subject: problems.Subject, *, reference: Mapping[str, float] | None) -> None:
        self.reference: F64 | None = None if reference is None else _minimised(subject, reference)
        self.trace: list[float] = []
        self._early: list[F64] = []  # fronts of the generations before the reference
        self._ideal: F64 | None = None  # the problem's own
        if subject.box is not None:
            self._ideal, nadir = (np.asarray(corner, dtype=np.float64) for corner in subject.box)
            self.reference = nadir if self.reference is None else self.reference
        if self._ideal is not None and self.reference is not None and (self.reference <= self._ideal).any():
            raise InvalidInput(
                "reference of the hypervolume",
                given=(self.reference * subject.sign).tolist(),
                expected=f"worse than the ideal {(self._ideal * subject.sign).tolist()} in every objective",
                pointer="/reference",
            )

    @property
    def latest(self) -> float | None:
        """The newest hypervolume measured; None before the reference is fixed."""
        return self.trace[-1] if self.trace and np.isfinite(self.trace[-1]) else None

    def tell(self, f: F64, *, changed: bool) -> None:
        """The front after one more generation, minimised (k, m)."""
        if self.reference is None:
            self._early.append(f)
            self.trace.append(np.nan)
            if len(self.trace) >= FIXED_AT and len(f):
                self._fix(f)
            return
        number = len(self.trace) + 1
        if self.trace and (not changed or not _measured(f, generation=number)):
            self.trace.append(self.trace[-1])
        else:
            self.trace.append(self._value(f))

    def clipped(self, f: F64) -> int:
        """Points beyond the reference, which count nothing."""
        return 0 if self.reference is None else int((f >= self.reference).any(axis=1).sum())

    def final(self, f: F64) -> Measured:
        """Of the final front, which may hold points (the anchors) that no generation had. f (k, m), k >= 1."""
        if self.reference is None:
            self._fix(f)
        assert self.reference is not None
        value = self._value(f)
        return Measured(
            value=value,
            raw=value if self._ideal is None else value * float((self.reference - self._ideal).prod()),
            trace=np.asarray(self.trace, dtype=np.float64),
            ideal=f.min(axis=0) if self._ideal is None else self._ideal,
            nadir=self.reference,
        )

    def header(self) -> dict[str, Any]:
        """What load takes, JSON values."""
        return {"early": len(self._early)}

    def arrays(self) -> dict[str, F64]:
        """What load takes, arrays."""
        found = {f"early.{number}": f for number, f in enumerate(self._early)}
        found["trace"] = np.asarray(self.trace, dtype=np.float64)
        if self.reference is not None:
            found["reference"] = self.reference
        return found

    def load(self, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """The state that header and arrays told."""
        self._early = [arrays[f"early.{number}"] for number in range(int(header["early"]))]
        self.trace = arrays["trace"].tolist()
        if "reference" in arrays:
            self.reference = arrays["reference"]

    def _fix(self, f: F64) -> None:
        low, high = f.min(axis=0), f.max(axis=0)
        self.reference = high + MARGIN * np.where(high > low, high - low, 1.0)
        self.trace = [self._value(early) for early in self._early]
        self._early = []

    def _value(self, f: F64) -> float:
        assert self.reference is not None
        if self._ideal is not None:
            return front.hypervolume(f, ideal=self._ideal, nadir=self.reference)
        inside = f[(f < self.reference).all(axis=1)]
        return float(moocore.hypervolume(inside, ref=self.reference)) if len(inside) else 0.0


def _measured(f: F64, *, generation: int) -> bool:
    points, objectives = f.shape
    cheap = objectives <= 4 or (objectives == 5 and points <= _POINTS_IN_5)
    return cheap or generation % EVERY == 0


def _minimised(subject: problems.Subject, reference: Mapping[str, float]) -> F64:
    names = [name for name, _, _ in subject.objectives]
    unknown = sorted(set(reference) - set(names))
    if unknown or len(reference) != len(names):
        raise InvalidInput(
            "reference of the hypervolume",
            given=sorted(reference),
            expected=f"a value for each of {', '.join(names)}, worse than any that counts",
            cure=nearest(unknown[0], names) if unknown else "Name every objective.",
            pointer="/reference",
        )
    return np.array([reference[name] for name in names], dtype=np.float64) * subject.sign
