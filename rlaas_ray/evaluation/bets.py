"""The bets of a canary: e-processes on randomised labels, each a small state with a `bet` and a log wealth.

Driven by `sequential.py`, one unit at a time; formulas and vectors are in the design of serving, sections 3 and 4. `share`
is always the probability with which this unit became a challenger, frozen at its assignment. Knows no rows and no time; all
wealth is kept as natural logarithms, so nothing overflows. Plain floats: numpy costs more than it saves on four numbers.
"""

from __future__ import annotations

import math

KAPPAS = (
    0.25,
    0.5,
    1.0,
    2.0,
)  # tilts of the reward bet: small ones find small losses late, large ones find large ones soon
ODDS = (1.5, 2.0, 4.0, 10.0, 50.0)  # how much likelier an event is under the challenger, for failures and slow answers
SRM_STRENGTH = 100.0  # pseudo-counts of the Dirichlet prior (Lindon & Malek 2022)
SLOW_FACTOR = 1.2
QUANTILE_START = 100  # champion latencies before the running quantile is trusted
LOCATION_RATE = 0.0035  # half-life of 200 outcomes
LEAST_SPREAD = 1e-3


class RewardTilt:
    """E_rew: a mixture of exponential tilts of the label's odds by the standardised outcome."""

    __slots__ = ("_log",)

    def __init__(self) -> None:
        self._log = [0.0] * len(KAPPAS)

    @property
    def log_e(self) -> float:
        """Log of the mean wealth over the tilts."""
        return log_mean_exp(self._log)

    def bet(self, u: float, *, challenger: bool, share: float) -> None:
        """One outcome at `u` spreads above the baseline; a low one speaks against its arm."""
        u = min(max(u, -3.0), 3.0)
        log = self._log
        for i, kappa in enumerate(KAPPAS):
            exponent = -kappa * u
            # q/share and (1-q)/(1-share) of the page, with q's denominator written as 1 + share*(e^x - 1)
            log[i] += (exponent if challenger else 0.0) - math.log1p(share * math.expm1(exponent))


class EventOdds:
    """E_fail and E_lat: a mixture over odds ratios; only units with the event bet."""

    __slots__ = ("_factors", "_log")

    def __init__(self) -> None:
        self._log = [0.0] * len(ODDS)
        self._factors: dict[tuple[bool, float], list[float]] = {}  # few: one share per stage

    @property
    def log_e(self) -> float:
        """Log of the mean wealth over the odds ratios."""
        return log_mean_exp(self._log)

    def bet(self, *, challenger: bool, share: float) -> None:
        """One unit had the event."""
        factors = self._factors.get((challenger, share))
        if factors is None:
            factors = [(math.log(r) if challenger else 0.0) - math.log1p(share * (r - 1.0)) for r in ODDS]
            self._factors[challenger, share] = factors
        self._log = [a + b for a, b in zip(self._log, factors, strict=True)]


class SampleRatio:
    """SRM: does the split of units match the shares? Dirichlet-multinomial, one process per share, multiplied."""

    __slots__ = ("_levels", "_residual", "_variance", "log_e")

    def __init__(self) -> None:
        self.log_e = 0.0
        self._levels: dict[float, list[int]] = {}  # share -> units of [champion, challenger]
        self._residual = 0.0
        self._variance = 0.0

    @property
    def p_value(self) -> float | None:
        """The fixed-sample chi-square p-value, for the report; not valid under peeking, and no verdict uses it."""
        if self._variance == 0.0:
            return None
        return math.erfc(abs(self._residual) / math.sqrt(2.0 * self._variance))

    def bet(self, *, challenger: bool, share: float) -> None:
        """One new unit."""
        counts = self._levels.setdefault(share, [0, 0])
        expected = share if challenger else 1.0 - share
        seen = counts[challenger]
        total = counts[0] + counts[1]
        # The closed form's ratio from n to n+1, so that a change of share needs no Gamma functions.
        self.log_e += math.log((SRM_STRENGTH * expected + seen) / ((SRM_STRENGTH + total) * expected))
        counts[challenger] = seen + 1
        self._residual += challenger - share
        self._variance += share * (1.0 - share)


class MeanEffect:
    """W_NI and W_sup on the AIPW estimate of the mean effect, and that estimate with an interval for reading."""

    __slots__ = ("_w", "_w2", "_w2z", "_w2z2", "_wz", "log_non_inferior", "log_superior")

    def __init__(self) -> None:
        self.log_non_inferior = 0.0
        self.log_superior = 0.0
        self._w = self._wz = 0.0
        self._w2 = self._w2z = self._w2z2 = 0.0

    def bet(self, y: float, *, challenger: bool, share: float, baseline: float, spread: float, margin: float) -> None:
        """One outcome `y` in [0, 1] against a predicted `baseline` in [0, 1]."""
        rest = 1.0 - share
        z = (y - baseline) / share if challenger else (baseline - y) / rest
        weight = share * rest
        variance = spread * spread / weight
        largest = max(baseline / share, (1.0 - baseline) / rest)
        drift = self._wz / (1.0 + self._w)
        self.log_non_inferior += math.log1p(_stake(margin + drift, variance=variance, largest=largest) * (z + margin))
        self.log_superior += math.log1p(_stake(drift, variance=variance, largest=largest) * z)
        self._w += weight
        self._wz += weight * z
        square = weight * weight
        self._w2 += square
        self._w2z += square * z
        self._w2z2 += square * z * z

    def estimate(self) -> tuple[float, float, float] | None:
        """The precision-weighted mean effect and its 95 % normal interval; None before two outcomes would give one."""
        if self._w == 0.0:
            return None
        mean = self._wz / self._w
        squares = self._w2z2 - 2.0 * mean * self._w2z + mean * mean * self._w2
        half = 1.959963984540054 * math.sqrt(max(squares, 0.0)) / self._w
        return mean, mean - half, mean + half


def _stake(mean: float, *, variance: float, largest: float) -> float:
    """The bet's size: near the growth-optimal one, never so large that the worst outcome costs more than 90 %."""
    return min(max(mean / (variance + mean * mean), 0.0), 0.9 / largest)


class LatencyLimit:
    """What counts as slow: over 1.2 times the champion's running 95 % quantile, and over the floor."""

    __slots__ = ("_first", "_floor_us", "_log_tau")

    def __init__(self, *, floor_us: float) -> None:
        self._floor_us = floor_us
        self._first: list[int] = []
        self._log_tau: float | None = None

    def slow(self, latency_us: int) -> bool:
        """Whether this answer is slow; never before the champion's quantile is known."""
        if self._log_tau is None:
            return False
        return latency_us > self._floor_us and latency_us > SLOW_FACTOR * math.exp(self._log_tau)

    def observe(self, latency_us: int) -> None:
        """A latency of the champion, after it was judged."""
        if self._log_tau is None:
            self._first.append(latency_us)
            if len(self._first) == QUANTILE_START:
                self._log_tau = math.log(max(sorted(self._first)[int(0.95 * QUANTILE_START) - 1], 1))
                self._first.clear()
            return
        self._log_tau += 0.02 * (0.95 if latency_us > math.exp(self._log_tau) else -0.05)


class Baseline:
    """Where outcomes lie and how widely: predicts the next one from those before it, both arms together.

    `prediction` is what a regression on covariates says of the unit, 0 without one; the running offset does the rest. The
    first outcomes weigh more (plain mean until 285), so that few of them before the canary do no harm but to power.
    """

    __slots__ = ("_level", "_offset", "_variance", "count")

    def __init__(self) -> None:
        self.count = 0
        self._level = self._offset = 0.5
        self._variance = 1.0 / 12.0  # of a uniform outcome

    @property
    def level(self) -> float:
        """The running mean of outcomes."""
        return self._level

    @property
    def spread(self) -> float:
        """The running standard deviation of what the prediction leaves."""
        return max(math.sqrt(self._variance), LEAST_SPREAD)

    def predict(self, prediction: float) -> float:
        """The outcome to expect, in [0, 1]."""
        return min(max(prediction + self._offset, 0.0), 1.0)

    def adopt(self, *, spread: float) -> None:
        """A regression was fitted: start its offset at zero and its spread at that of its residuals."""
        self._offset = 0.0
        self._variance = spread * spread

    def observe(self, y: float, *, prediction: float) -> None:
        """An outcome, after it was bet on."""
        rate = max(LOCATION_RATE, 1.0 / (self.count + 2.0))
        residual = y - self.predict(prediction)
        self._variance += rate * (residual * residual - self._variance)
        self._offset += rate * (y - prediction - self._offset)
        self._level += rate * (y - self._level)
        self.count += 1


def log_mean_exp(logs: list[float]) -> float:
    """log(mean(exp(logs))) without overflow."""
    top = max(logs)
    return top + math.log(math.fsum([math.exp(x - top) for x in logs]) / len(logs))
