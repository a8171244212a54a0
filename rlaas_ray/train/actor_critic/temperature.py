"""SAC's temperature alpha: the weight of entropy, learnt so that the policy's entropy stays at a target (Haarnoja et al. 2018b).

Held by the SAC engines. One number with its own Adam, in Python's floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rlaas_ray.specs.arrays import Array
from rlaas_ray.train.analytic import ADAM_BETAS, ADAM_EPSILON


class Temperature:
    """log(alpha); its loss is mean(log(alpha) * (entropy - target)), so it falls while there is more entropy than asked for."""

    def __init__(self, *, initial: float, target: float | None, fixed: bool) -> None:
        self.target = target  # nats; None where each batch says its own
        self.fixed = fixed
        self.log_alpha = math.log(initial)
        self.gradient = 0.0
        self.alpha_before = initial  # the last update's
        self._first = self._second = 0.0
        self._steps = 0

    @property
    def alpha(self) -> float:
        """The weight itself."""
        return math.exp(self.log_alpha)

    def gradient_from(self, entropy: float, *, target: float | None = None) -> None:
        """D loss / d log(alpha) at this batch's entropy."""
        wanted = self.target if target is None else target
        assert wanted is not None
        self.gradient = entropy - wanted

    def step(self, learning_rate: float) -> None:
        """Adam (Kingma & Ba 2015), unless the temperature is fixed."""
        self.alpha_before = self.alpha
        if self.fixed:
            return
        first, second = ADAM_BETAS
        self._steps += 1
        self._first += (1 - first) * (self.gradient - self._first)
        self._second += (1 - second) * (self.gradient * self.gradient - self._second)
        mean = self._first / (1 - first**self._steps)
        square = self._second / (1 - second**self._steps)
        self.log_alpha -= learning_rate * mean / (math.sqrt(square) + ADAM_EPSILON)

    def to_state(self) -> dict[str, Array]:
        """A checkpoint's arrays."""
        return {"temperature": np.array([self.log_alpha, self._first, self._second, float(self._steps)])}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse."""
        log_alpha, self._first, self._second, steps = (float(x) for x in state["temperature"])
        self.log_alpha, self._steps = log_alpha, int(steps)
