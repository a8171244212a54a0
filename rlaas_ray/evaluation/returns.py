"""The bets on returns: scaled, predicted from what came before, and bet on in the order of assignment.

Driven by `sequential.py` with one closed outcome at a time. Outcomes of before the canary set the baseline and, where asked,
fit the regression; the first bet fixes both that fit and the margin. Knows no rows, no units and no time.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from rlaas_ray.evaluation import adjustment, bets
from rlaas_ray.specs.arrays import F64

PRE_CANARY = 2_000  # outcomes that a regression is fitted on, the latest


class Returns:
    """State of the reward stream. `margin_of_mean`: what non-inferiority allows, as a part of the champion's scaled mean."""

    def __init__(self, *, low: float, high: float, margin_of_mean: float) -> None:
        self._low = low
        self._high = high
        self._margin_of_mean = margin_of_mean
        self._margin: float | None = None  # None until the first bet fixes it
        self._regression: adjustment.Regression | None = None
        self._samples: deque[tuple[F64, float]] = deque(maxlen=PRE_CANARY)
        self.reward = bets.RewardTilt()
        self.effect = bets.MeanEffect()
        self.baseline = bets.Baseline()
        self.before = 0
        self.clipped = 0

    @property
    def margin(self) -> float:
        """The margin on the scaled return; until the first bet, what it would be."""
        return self._margin_of_mean * self.baseline.level if self._margin is None else self._margin

    @property
    def adjusted(self) -> bool:
        """Whether a regression predicts outcomes."""
        return self._regression is not None

    def learn(self, value: float, *, features: F64 | None) -> None:
        """An outcome of before the canary."""
        y = self._scaled(value)
        self.baseline.observe(y, prediction=self._prediction(features))
        self.before += 1
        if features is not None and self._margin is None:
            self._samples.append((features, y))

    def bet(self, value: float, *, features: F64 | None, challenger: bool, share: float, frozen: bool) -> float:
        """An outcome of the canary bets (unless frozen), then teaches the baseline; gives it scaled."""
        if self._margin is None:
            self._fix()
        y = self._scaled(value)
        prediction = self._prediction(features)
        location, spread = self.baseline.predict(prediction), self.baseline.spread
        if not frozen:
            self.reward.bet((y - location) / spread, challenger=challenger, share=share)
            self.effect.bet(y, challenger=challenger, share=share, baseline=location, spread=spread, margin=self.margin)
        self.baseline.observe(y, prediction=prediction)
        return y

    def _fix(self) -> None:
        self._margin = self.margin
        if self._samples:
            features = np.stack([features for features, _ in self._samples])
            values = np.fromiter((y for _, y in self._samples), np.float64, count=len(self._samples))
            self._regression = adjustment.fit(features, values)
            self._samples.clear()
        if self._regression is not None:
            self.baseline.adopt(spread=self._regression.spread)

    def _prediction(self, features: F64 | None) -> float:
        if self._regression is None:
            return 0.0
        return self._regression.intercept if features is None else self._regression.predict(features)

    def _scaled(self, value: float) -> float:
        """The return in [0, 1]; one out of the declared bounds is clipped and counted."""
        y = (value - self._low) / (self._high - self._low)
        if 0.0 <= y <= 1.0:
            return y
        self.clipped += 1
        return 0.0 if y < 0.0 else 1.0
