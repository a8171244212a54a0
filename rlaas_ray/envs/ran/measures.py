"""What a step is worth: objectives, their normalised form, costs, and the 283 numbers an agent sees.

Called by dynamics after each snapshot; `covariates` also by the canary's regression. Pure arithmetic, no draw and no state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs import modes
from rlaas_ray.envs.ran import radio, snapshot
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64, I64, Bool

OBJECTIVES = [
    ("latency_p95", "s", "min"),
    ("throughput", "Mbps", "max"),
    ("energy", "W", "min"),
    ("satisfied", "1", "max"),
]
COSTS = ("coverage", "latency", "priority", "handover")
COST_LIMITS = (0.02, 0.0, 0.05, 0.10)
MODES = {
    "normal": (0.25, 0.25, 0.25, 0.25),
    "emergency": (0.40, 0.15, 0.05, 0.40),
    "energy_saving": (0.15, 0.15, 0.50, 0.20),
    "revenue": (0.15, 0.55, 0.10, 0.20),
}
MODE_NAMES = tuple(MODES)
METADATA = {"costs": list(COSTS), "cost_limits": list(COST_LIMITS), "modes": list(MODES)}
CELLS, USERS, SITES, FEATURES = 21, 210, 7, 13
ENERGY_MAX_W, ENERGY_SLEEP_W = CELLS * radio.CELL_MAX_W, CELLS * radio.CELL_SLEEP_W
OBSERVATION = CELLS * FEATURES + 10
HOUR, MODE, LAST = CELLS * FEATURES, CELLS * FEATURES + 2, CELLS * FEATURES + 6
COVARIATES = 23
PRIORITY_WEIGHT = 4
POWER_CENTRE, POWER_SCALE = 38.0, 8.0
TILT_CENTRE, TILT_SCALE = 7.5, 7.5
CIO_SCALE = 6.0
_EMPTY_LATENCY = -1.0  # lg s of a cell without users: neither good nor bad
_TAIL = (193, 198, 203)  # floor(p * 210) - 1: fixed order statistics, the same in every NumPy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measures:
    """objectives (B, 4) in their units, normalised (B, 4), cost (B, 4); lg_tail (B, 3) of the 92.5th, 95th, 97.5th percentile."""

    objectives: F64
    normalised: F64
    cost: F64
    lg_tail: F64


def weights_of(mode: str, *, weights: modes.Given | None) -> tuple[float, ...]:
    """The mode's weights, or the given ones once they prove to be four shares."""
    return modes.weights_of(mode, weights=weights, modes=MODES, names=[name for name, _, _ in OBJECTIVES], shares=True)


def measure(
    outcome: snapshot.Outcome,
    *,
    demand: F32,
    priority: Bool,
    tariff: F32,
    moved: F64,
    emergency: bool,
    revenue: bool,
) -> Measures:
    """Objectives and costs of a snapshot. moved (B,): share of users that changed cell."""
    latency, satisfied = np.sort(outcome.latency, axis=1), outcome.satisfied
    tail = latency[:, _TAIL].astype(np.float64)
    p95 = tail[:, 1]
    offered, served = _total(demand), _total(outcome.served)
    energy = _total(outcome.power_w)
    share = satisfied.mean(axis=1)
    objectives = np.stack((p95, served, energy, share), axis=1)
    felt, content, carried = p95, share, served / offered
    if emergency:
        felt = weighted_p95(outcome.latency, priority=priority)
        weight = np.where(priority, float(PRIORITY_WEIGHT), 1.0)
        content = (weight * satisfied).sum(axis=1) / weight.sum(axis=1)
    if revenue:
        carried = _total(outcome.served * tariff) / _total(demand * tariff)
    normalised = np.stack((latency_score(felt), carried, energy_score(energy), content), axis=1)
    urgent = np.maximum(priority.sum(axis=1), 1)
    cost = np.stack(
        (
            (outcome.sinr < 10.0**-0.6).mean(axis=1),
            np.maximum(p95 - 1.0, 0.0),
            (priority & ~satisfied).sum(axis=1) / urgent,
            moved,
        ),
        axis=1,
    )
    return Measures(objectives=objectives, normalised=normalised, cost=cost, lg_tail=np.log10(tail))


def latency_score(p95_s: F64) -> F64:
    """50 ms -> 1, 10 s -> 0, logarithmic."""
    found: F64 = np.clip(1.0 - np.log10(p95_s / 0.05) / np.log10(200.0), 0.0, 1.0)
    return found


def energy_score(energy_w: F64) -> F64:
    """All asleep -> 1, all at full power and load -> 0."""
    return 1.0 - (energy_w - ENERGY_SLEEP_W) / (ENERGY_MAX_W - ENERGY_SLEEP_W)


def weighted_p95(latency: F32, *, priority: Bool) -> F64:
    """Order statistic floor(0.95 W) - 1 of the latencies, a priority user repeated four times; W counts the repeats."""
    order = np.argsort(latency, axis=1, kind="stable")
    weight = np.where(np.take_along_axis(priority, order, axis=1), PRIORITY_WEIGHT, 1)
    cumulated = np.cumsum(weight, axis=1)
    rank = (cumulated[:, -1] * 95) // 100 - 1
    position = (cumulated <= rank[:, None]).sum(axis=1)[:, None]
    reached: F32 = np.take_along_axis(np.take_along_axis(latency, order, axis=1), position, axis=1)
    return reached[:, 0].astype(np.float64)


def observe(features: F32, *, hour_index: I64, normalised: F64, mode: str) -> F32:
    """(B, 283): 21 cells x 13 features, sin and cos of the coming hour, mode one-hot, the last normalised objectives."""
    seen = np.zeros((len(features), OBSERVATION), dtype=np.float32)
    seen[:, :HOUR] = features.reshape(len(features), -1)
    angle = hour_index * (2.0 * np.pi / 96.0)
    seen[:, HOUR], seen[:, HOUR + 1] = np.sin(angle), np.cos(angle)
    seen[:, MODE + MODE_NAMES.index(mode)] = 1.0
    seen[:, LAST:] = normalised
    return seen


def covariates(observations: F32) -> F64:
    """(n, 283) -> (n, 23): objectives and their squares (8), sin and cos of the hour (2), network means of the 13 features."""
    if observations.ndim != 2 or observations.shape[1] != OBSERVATION:
        raise InvalidInput(
            "observations",
            given=observations.shape,
            expected=f"(n, {OBSERVATION})",
            cure="Hand in a batch of flat RanControl observations.",
        )
    wide = observations.astype(np.float64)
    last = wide[:, LAST:]
    means = wide[:, :HOUR].reshape(len(wide), CELLS, FEATURES).mean(axis=1)
    return np.concatenate((last, last**2, wide[:, HOUR:MODE], means), axis=1)


def _total(values: F32) -> F64:
    found: F64 = np.add.reduce(values, axis=1, dtype=np.float64)
    return found


def cell_features(
    outcome: snapshot.Outcome, settings: snapshot.Settings, *, demand: F32, priority: Bool, lg_latency: F32
) -> F32:
    """(B, C, 13): settings (4), load, users, efficiency, lg latency, satisfied, served, asleep, out, priority."""
    shape, bins = settings.power.shape, outcome.bins
    size = settings.power.size

    def cell_sum(values: F32 | F64) -> F64:
        return np.bincount(bins, weights=values.ravel(), minlength=size).astype(np.float64, copy=False).reshape(shape)

    # Three counts in one exact float64 sum: users, satisfied, priority.
    packed = cell_sum(1.0 + 1024.0 * outcome.satisfied + 1048576.0 * priority)
    urgent, rest = np.divmod(packed, 1048576.0)
    content, users = np.divmod(rest, 1024.0)
    some = np.maximum(users, 1.0)
    offered = cell_sum(demand)
    efficiency = cell_sum(outcome.rate) / some
    features = np.empty((*shape, FEATURES), dtype=np.float32)
    features[..., 0] = (settings.power - POWER_CENTRE) / POWER_SCALE
    features[..., 1] = (settings.tilt - TILT_CENTRE) / TILT_SCALE
    features[..., 2] = settings.fairness
    features[..., 3] = settings.cio / CIO_SCALE
    features[..., 4] = outcome.load
    features[..., 5] = users / 20.0
    features[..., 6] = efficiency / (radio.BANDWIDTH_MHZ * radio.MAX_EFFICIENCY)
    features[..., 7] = np.where(users > 0, cell_sum(lg_latency) / some, _EMPTY_LATENCY)
    features[..., 8] = np.where(users > 0, content / some, 1.0)
    features[..., 9] = np.where(users > 0, cell_sum(outcome.served) / np.where(users > 0, offered, 1.0), 1.0)
    features[..., 10] = settings.power <= 30.0
    features[..., 11] = ~settings.active & (settings.power > 30.0)
    features[..., 12] = urgent / some
    return features
