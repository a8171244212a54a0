"""SlateRecommendation-v1 for Gymnasium: spaces, action forms and keyword arguments around the two dynamics.

Called by the registry. Decides nothing about users.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox, vector
from rlaas_ray.envs.recommendation import choice, dynamics, forms, metrics, satisfaction
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import Array

_DYNAMICS = ("interest_evolution", "long_term_satisfaction")


class Slates:
    """Interest evolution as a domain (vector.Domain)."""

    reported = ("objectives", "cost", "clicked", "watch", "converted", "ild", "propensity_of_click", "repaired")

    def __init__(self, params: dynamics.Params, *, action: str = "index") -> None:
        self.params = params
        self.objectives, self.metadata = metrics.OBJECTIVES, metrics.METADATA
        # Interests and flags lie within 1; no draw of 32 bits makes a quality above 3.7.
        self.observation_space = gymnasium.spaces.Box(-1.1, 1.1, (dynamics.OBSERVATION,), np.float32)
        self._form = forms.slate(action)
        self.action_space = self._form.space

    def check(self, action: Any) -> Array:
        """See forms.py."""
        return self._form.check(action)

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Array, dict[str, Any]]:
        """See dynamics.reset_batch."""
        return dynamics.reset_batch(self.params, streams)

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """See dynamics.step_batch."""
        shown, repaired = self._form.shown(action)
        stepped = dynamics.step_batch(self.params, state, shown, streams)
        stepped[-1]["repaired"] = repaired
        return stepped

    def draw(self, state: vector.State) -> Array:
        """The user and the candidates, see picture.py."""
        from rlaas_ray.envs.recommendation import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw(state, rule=self.params.choice)


def domain(*, dynamics: str = "interest_evolution", **config: Any) -> vector.Domain:
    """The domain of a configuration; what else may be given is what `slates` and `Satisfaction` take."""
    if dynamics not in _DYNAMICS:
        raise InvalidInput(
            "dynamics", given=dynamics, expected=", ".join(_DYNAMICS), cure=nearest(dynamics, list(_DYNAMICS))
        )
    return slates(**config) if dynamics == _DYNAMICS[0] else satisfaction.Satisfaction(**config)


def slates(
    *,
    mode: str = metrics.WATCH,
    weights: modes.Given | None = None,
    choice: str = "mnl",
    action: str = "index",
    **seen: bool,
) -> Slates:
    """Interest evolution: mode or weights, choice model, action form; observe_quality, observe_interests, conversion."""
    known = _CHOICES
    if choice not in known:
        raise InvalidInput("choice", given=choice, expected=", ".join(known), cure=nearest(choice, list(known)))
    for name, value in seen.items():
        if name in _FLAGS and not isinstance(value, bool):
            raise InvalidInput(name, given=value, expected="true or false", cure="Leave it out for true.")
    params = dynamics.Params(weights=metrics.weights_of(mode, weights=weights), choice=choice, **seen)
    return Slates(params, action=action)


_CHOICES = tuple(choice.NULL)
_FLAGS = ("observe_quality", "observe_interests", "conversion")
