"""Columns: what sampling gives to learning, an array per field; generalised advantages over whole fragments.

Written by sampler.py, joined and standardised by ppo.py, read by analytic.py and autograd.py. Letters: T steps of a
fragment, B rows (envs, or units of envs), n rows that are left. Never holds an object per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64, Array, Bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Valid rows, in any order."""

    observations: F32  # (n, d), normalised
    actions: Array  # (n, a), int64 for discrete heads, float32 for Gaussian ones
    log_probabilities: F32  # (n,), of the policy that acted
    advantages: F32  # (n,)
    targets: F32  # (n,), of the value network
    masks: Bool | None = None  # (n, m), true where an action was allowed

    def __len__(self) -> int:
        return int(self.advantages.shape[0])


def join(parts: Sequence[Columns]) -> Columns:
    """All rows of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    return Columns(
        observations=np.concatenate([part.observations for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        log_probabilities=np.concatenate([part.log_probabilities for part in parts]),
        advantages=np.concatenate([part.advantages for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        masks=None
        if parts[0].masks is None
        else np.concatenate([part.masks for part in parts if part.masks is not None]),
    )


def standardise(advantages: F32) -> F32:
    """(A - mean) / max(1e-4, std) over valid rows only; RLlib counts its phantom row per episode too."""
    wide = advantages.astype(np.float64)
    found: F32 = ((wide - wide.mean()) / max(1e-4, float(wide.std()))).astype(np.float32)
    return found


def valid_next_step(done_before: Bool, done: Bool) -> Bool:
    """Which rows are real under NEXT_STEP autoreset: the step after a done ignores the action. done_before (B,), done (T, B)."""
    return ~np.concatenate([done_before[None], done[:-1]])


def advantages(
    *, rewards: F32, values: F32, following: F32, terminated: Bool, truncated: Bool, gamma: float, gae_lambda: float
) -> tuple[F32, F32]:
    """Generalised advantages and value targets (Schulman et al. 2016), all arrays (T, B).

    `following[t]` is the value of the observation that step t led to, the final one where an episode ended: under NEXT_STEP
    that is values[t + 1], under SAME_STEP the final observation comes apart.
    """
    if rewards.ndim != 2 or not (
        rewards.shape == values.shape == following.shape == terminated.shape == truncated.shape
    ):
        raise InvalidInput(
            "fragment",
            given=[rewards.shape, values.shape, following.shape, terminated.shape, truncated.shape],
            expected="five arrays of one shape (T, B)",
        )
    alive = 1.0 - terminated.astype(np.float32)
    same_episode = 1.0 - (terminated | truncated).astype(np.float32)
    delta = rewards + np.float32(gamma) * alive * following - values
    decay = np.float32(gamma * gae_lambda) * same_episode
    found = np.empty_like(delta)
    running = np.zeros(delta.shape[1], dtype=np.float32)
    for t in range(delta.shape[0] - 1, -1, -1):
        running = delta[t] + decay[t] * running
        found[t] = running
    return found, found + values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations by component; merged exactly (Chan, Golub & LeVeque 1979)."""

    count: float
    mean: F64  # (d,)
    deviations: F64  # (d,)

    @property
    def variance(self) -> F64:
        """Population variance; ones before the second value."""
        if self.count < 2:
            return np.ones_like(self.mean)
        return self.deviations / self.count


def no_moments(width: int) -> Moments:
    """Nothing seen yet."""
    return Moments(count=0.0, mean=np.zeros(width), deviations=np.zeros(width))


def moments(values: F32 | F64) -> Moments:
    """Of rows (n, d)."""
    if values.shape[0] == 0:
        return no_moments(values.shape[1])
    mean = values.mean(axis=0, dtype=np.float64)
    centred = values - mean
    return Moments(count=float(values.shape[0]), mean=mean, deviations=np.einsum("nd,nd->d", centred, centred))


def merge(left: Moments, right: Moments) -> Moments:
    """The moments of both samples together."""
    count = left.count + right.count
    if count == 0:
        return left
    difference = right.mean - left.mean
    return Moments(
        count=count,
        mean=left.mean + difference * (right.count / count),
        deviations=left.deviations + right.deviations + difference**2 * (left.count * right.count / count),
    )


NORMALISED_LIMIT = 10.0
NORMALISED_EPSILON = 1e-8
_CONSTANT = 1e-4  # of the mean: a standard deviation below it is rounding


def normalise(observations: F32, *, mean: F32, scale: F32, out: F32 | None = None) -> F32:
    """clip((x - mean) / scale, -10, 10); scale is sqrt(variance + 1e-8). observations (n, d)."""
    found: F32 = np.subtract(observations, mean, out=out)
    found /= scale
    np.maximum(found, np.float32(-NORMALISED_LIMIT), out=found)
    np.minimum(found, np.float32(NORMALISED_LIMIT), out=found)
    return found


def scale_of(seen: Moments) -> tuple[F32, F32]:
    """(mean, scale) as float32, for `normalise` and for the bundle. What never varies is only centred.

    Divided by its own rounding noise, a constant would set engines apart that add in another order.
    """
    constant = seen.variance <= (_CONSTANT * np.abs(seen.mean)) ** 2 + _CONSTANT**3
    scale = np.where(constant, 1.0, np.sqrt(seen.variance + NORMALISED_EPSILON))
    return seen.mean.astype(np.float32), scale.astype(np.float32)
