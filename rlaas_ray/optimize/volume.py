"""The hypervolume of a search, generation by generation, below one reference that never moves once it is fixed.

Kept by search.py. The reference is the user's, else the problem's own box, else a tenth beyond the nadir of the fifth
generation's feasible front. Never searches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """Hypervolume as a share of the box and in the objectives' own units; the trace (generations,) is shares. Box minimised."""

    share: float
    raw: float
    trace: F64
    ideal: F64
    nadir: F64


class Volume:
    """Hypervolumes so far. `trace` holds NaN until the reference is fixed, and is then filled in from the start."""

    def __init__(self, subject: problems.Subject, *, reference: Mapping[str, float] | None) -> None:
        self._given = None if reference is None else _minimised(subject, reference)
        self.ideal: F64 | None = None
        self.reference: F64 | None = None
        self.trace: list[float] = []
        self._early: list[F64] = []  # fronts of the generations before the reference
        if subject.box is not None:
            self.ideal = np.asarray(subject.box[0], dtype=np.float64)
            self.reference = self._given if self._given is not None else np.asarray(subject.box[1], dtype=np.float64)

    @property
    def latest(self) -> float | None:
        """The newest hypervolume measured, as a share of the box; None before the reference is fixed."""
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
            self.trace.append(self._share(f))

    def clipped(self, f: F64) -> int:
        """Points beyond the reference, which count nothing."""
        return 0 if self.reference is None else int((f >= self.reference).any(axis=1).sum())

    def final(self, f: F64) -> Measured:
        """Of the final front, which may hold points (the anchors) that no generation had. f (k, m), k >= 1."""
        if self.reference is None:
            self._fix(f)
        assert self.ideal is not None
        assert self.reference is not None
        share = self._share(f)
        size = np.where(self.reference > self.ideal, self.reference - self.ideal, 1.0)
        return Measured(
            share=share,
            raw=share * float(size.prod()),
            trace=np.asarray(self.trace, dtype=np.float64),
            ideal=self.ideal,
            nadir=self.reference,
        )

    def header(self) -> dict[str, Any]:
        """What load takes, JSON values."""
        return {"early": len(self._early)}

    def arrays(self) -> dict[str, F64]:
        """What load takes, arrays."""
        found = {f"early.{number}": f for number, f in enumerate(self._early)}
        found["trace"] = np.asarray(self.trace, dtype=np.float64)
        if self.ideal is not None and self.reference is not None:
            found |= {"ideal": self.ideal, "reference": self.reference}
        return found

    def load(self, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """The state that header and arrays told."""
        self._early = [arrays[f"early.{number}"] for number in range(int(header["early"]))]
        self.trace = arrays["trace"].tolist()
        if "reference" in arrays:
            self.ideal, self.reference = arrays["ideal"], arrays["reference"]

    def _fix(self, f: F64) -> None:
        low, high = f.min(axis=0), f.max(axis=0)
        margin = MARGIN * np.where(high > low, high - low, 1.0)
        self.ideal = low - margin
        self.reference = self._given if self._given is not None else high + margin
        self.trace = [self._share(early) for early in self._early]
        self._early = []

    def _share(self, f: F64) -> float:
        assert self.ideal is not None
        assert self.reference is not None
        return front.hypervolume(f, ideal=self.ideal, nadir=self.reference)


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
