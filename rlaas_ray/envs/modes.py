"""Modes: named weights of an environment's objectives, or the user's own, by order or by name.

Called by the domains. Never scales an objective.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rlaas_ray.errors import InvalidInput, nearest

Given = Sequence[float] | Mapping[str, float]


def weights_of(
    mode: str,
    *,
    weights: Given | None,
    modes: Mapping[str, Sequence[float]],
    names: Sequence[str],
    shares: bool,
) -> tuple[float, ...]:
    """The weights of `names`: the mode's, or the given ones. `shares`: they are to sum to 1. By name, those left out are 0.

    Raises InvalidInput for an unknown mode or name, a negative weight, a wrong count or sum.
    """
    if mode not in modes:
        raise InvalidInput("mode", given=mode, expected=", ".join(modes), cure=nearest(mode, list(modes)))
    if weights is None:
        return tuple(float(one) for one in modes[mode])
    given = _ordered(weights, names=names)
    if len(given) != len(names) or not all(one >= 0 and math.isfinite(one) for one in given):
        raise InvalidInput(
            "weights",
            given=weights,
            expected=f"{len(names)} non-negative numbers: {', '.join(names)}",
            cure="Give them in this order or by name, or name a mode.",
        )
    if shares and abs(sum(given) - 1.0) > 1e-9:
        raise InvalidInput(
            "weights", given=weights, expected="numbers that sum to 1", cure="Divide them by their sum, or name a mode."
        )
    return given


def _ordered(weights: Given, *, names: Sequence[str]) -> tuple[float, ...]:
    if not isinstance(weights, Mapping):
        return tuple(float(one) for one in weights)
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise InvalidInput(
            "weights", given=unknown[0], expected=", ".join(names), cure=nearest(unknown[0], list(names))
        )
    return tuple(float(weights.get(name, 0.0)) for name in names)
