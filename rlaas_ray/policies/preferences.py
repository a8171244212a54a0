"""What a weight-conditioned policy is told besides its observation: weights over the objectives, one entry each.

Kept in the manifest of a bundle; read by training, serving, control and evaluation. A policy with a preference observes the
encoded observation followed by the weights, in the order of `objectives`. Never steps an env, never draws.

`m` objectives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pydantic
from gymnasium import spaces as gs
from pydantic import Field

from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.document import Document

OBSERVATION, PREFERENCE = "observation", "preference"  # in this order once encoded: keys are sorted
Given = Sequence[float] | Mapping[str, float]


class Objective(Document):
    """One objective of an env: its name, unit and which way is better."""

    name: str = Field(min_length=1)
    unit: str
    direction: Literal["min", "max"]


class Preference(Document):
    """What weights weigh.

    A step is worth the sum of weight * sign * objective / scale, or of weight * the env's own `normalised` entry where `scale`
    is None. `default` serves until somebody names other weights.
    """

    objectives: tuple[Objective, ...] = Field(min_length=2)
    scale: tuple[float, ...] | None = None
    default: tuple[float, ...]

    @pydantic.model_validator(mode="after")
    def _one_each(self) -> Preference:
        names = self.names
        sized = len(self.default) == len(names) and (self.scale is None or len(self.scale) == len(names))
        if len(set(names)) != len(names) or not sized:
            msg = "a name, a scale and a default weight for each objective, every name once"
            raise ValueError(msg)
        if any(one <= 0 for one in self.scale or ()) or not on_simplex(self.default):
            msg = "scales above 0, default weights of at least 0 that sum to 1"
            raise ValueError(msg)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives' names."""
        return tuple(one.name for one in self.objectives)

    @property
    def size(self) -> int:
        """How many objectives, m."""
        return len(self.objectives)

    @property
    def signs(self) -> F64:
        """(m,): 1 where larger is better, -1 where smaller is."""
        return np.array([1.0 if one.direction == "max" else -1.0 for one in self.objectives])

    def weights_of(self, given: Given | None) -> F64:
        """Weights (m,) that sum to 1, of a mapping (objectives left out weigh 0) or of m numbers in order; None: the default.

        Raises InvalidInput for an objective that the policy does not have, for a negative weight, and for zeros alone.
        """
        if given is None:
            return np.asarray(self.default, dtype=np.float64)
        values = self._by_name(given) if isinstance(given, Mapping) else [float(one) for one in given]
        good = len(values) == self.size and all(one >= 0 and math.isfinite(one) for one in values)
        total = sum(values)
        if not good or not 0 < total < math.inf:
            raise InvalidInput(
                "preference",
                given=dict(given) if isinstance(given, Mapping) else list(values),
                expected=f"weights of at least 0, not all 0, of {', '.join(self.names)}",
                cure="Give each objective its share, such as " + self.shown(self.default),
            )
        return np.asarray(values, dtype=np.float64) / total

    def named(self, weights: F64 | Sequence[float]) -> dict[str, float]:
        """Weights (m,) by name."""
        return {name: float(one) for name, one in zip(self.names, weights, strict=True)}

    def shown(self, weights: Sequence[float]) -> str:
        """As the command line takes them: `a=0.7,b=0.3`."""
        return ",".join(f"{name}={one:.4g}" for name, one in zip(self.names, weights, strict=True))

    def _by_name(self, given: Mapping[str, float]) -> list[float]:
        unknown = sorted(set(given) - set(self.names))
        if unknown:
            raise InvalidInput(
                "preference for an objective that the policy does not have",
                given=unknown[0],
                expected=", ".join(self.names),
                cure=nearest(unknown[0], list(self.names)),
            )
        return [float(given.get(name, 0.0)) for name in self.names]


def on_simplex(weights: Sequence[float]) -> bool:
    """Whether these are shares of one whole, to rounding."""
    return all(0 <= one <= 1 for one in weights) and math.isclose(sum(weights), 1.0, abs_tol=1e-6)


def space(own: spaces.Space, *, size: int) -> gs.Dict:
    """The space in which a policy is trained that observes `own` and `size` weights; an action mask stays at the top."""
    parts: dict[str, Any] = {PREFERENCE: gs.Box(0.0, 1.0, (size,), np.float32)}
    inner = own
    if isinstance(own, gs.Dict) and spaces.MASK in own.spaces:
        parts[spaces.MASK] = own.spaces[spaces.MASK]
        inner = gs.Dict({key: part for key, part in own.spaces.items() if key != spaces.MASK})
    return gs.Dict({**parts, OBSERVATION: inner})


def observed(own: Any, *, weights: Any) -> dict[str, Any]:
    """A member (or a batch) of `space`: what the env shows, and the weights."""
    parts: dict[str, Any] = {PREFERENCE: weights}
    if isinstance(own, Mapping) and spaces.MASK in own:
        parts[spaces.MASK] = own[spaces.MASK]
        own = {key: part for key, part in own.items() if key != spaces.MASK}
    return {**parts, OBSERVATION: own}
