"""References of RanControl: they see the true users and demands and set what they like, without ramps; plus the bound.

Scored by scoring.py; the strongest is 100 on the card. They cannot serve: no live network knows its snapshot. Shapes as in
snapshot.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.ran import dynamics, measures, radio, snapshot
from rlaas_ray.specs.arrays import F32, F64

POWERS_DBM = (34.0, 37.0, 40.0, 43.0, 46.0)
TILTS_DEG = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0)
SLEEP_AT = (30.0, 6.0)
# 30 awake settings and asleep (six tilts of a sleeping cell are one setting).
CANDIDATES = np.asarray([*itertools.product(POWERS_DBM, TILTS_DEG), SLEEP_AT], dtype=np.float32)
GRID_POWERS, GRID_TILTS, GRID_ALPHAS = (34.0, 37.0, 40.0, 43.0, 46.0), (2.0, 4.0, 6.0, 8.0, 10.0), (0.5, 1.0, 2.0)
_LEAST_SINR = 10.0**-0.6


class Reference(Protocol):
    """Settings for the coming interval, from the users and demands that it will have (dynamics.renew)."""

    def settle(self, ahead: snapshot.State) -> tuple[F32, F32]:
        """Power and tilt (B, C)."""
        ...


@dataclass(frozen=True, slots=True)
class CoordinateAscent:
    """One sweep over the cells each step: the best of 31 (power, tilt) for each cell in turn, busiest first.

    The operators' self-organising network at its best: no ramp, no measurement error, users and demands of the interval known.
    """

    params: dynamics.Params

    def settle(self, ahead: snapshot.State) -> tuple[F32, F32]:
        """Each network by itself: 31 candidates and the present setting are a batch."""
        powers, tilts = ahead["power"].copy(), ahead["tilt"].copy()
        for row in range(len(powers)):
            one = {name: value[row : row + 1] for name, value in ahead.items()}
            power, tilt = powers[row], tilts[row]
            for cell in np.argsort(-ahead["load"][row], kind="stable"):
                trial_power = np.repeat(power[None], len(CANDIDATES) + 1, axis=0)
                trial_tilt = np.repeat(tilt[None], len(CANDIDATES) + 1, axis=0)
                trial_power[:-1, cell], trial_tilt[:-1, cell] = CANDIDATES[:, 0], CANDIDATES[:, 1]
                best = int(np.argmax(self._worth(one, power=trial_power, tilt=trial_tilt)))
                power[cell], tilt[cell] = trial_power[best, cell], trial_tilt[best, cell]
        return powers, tilts

    def _worth(self, one: Mapping[str, Any], *, power: F32, tilt: F32) -> F64:
        return value(self.params, one, power=power, tilt=tilt, load=np.repeat(one["load"], len(power), axis=0))


@dataclass(frozen=True, slots=True)
class GreedySleep:
    """Hold's settings; cells sleep in increasing load while coverage and satisfied stay within one point of all awake."""

    params: dynamics.Params
    wake_at: float = 0.7
    tolerance: float = 0.01

    def settle(self, ahead: snapshot.State) -> tuple[F32, F32]:
        """All networks at once: the k-th emptiest cell of each is tried together."""
        count = len(ahead["hour"])
        tilt = np.full_like(ahead["tilt"], dynamics.HOLD["tilt"])
        power = np.full_like(ahead["power"], dynamics.HOLD["power"])
        covered, content, load = self._quality(ahead, power=power, tilt=tilt)
        rows = np.arange(count)
        for cell in np.argsort(load, axis=1, kind="stable").T:
            trial = power.copy()
            trial[rows, cell] = dynamics.POWER_DBM[0]
            covered_now, content_now, load_now = self._quality(ahead, power=trial, tilt=tilt)
            kept = (covered_now >= covered - self.tolerance) & (content_now >= content - self.tolerance)
            kept &= load_now.max(axis=1) <= np.maximum(self.wake_at, load.max(axis=1))
            power = np.where(kept[:, None], trial, power)
        return power, tilt

    def _quality(self, state: snapshot.State, *, power: F32, tilt: F32) -> tuple[F64, F64, F32]:
        outcome, _, _ = _look(self.params, state, power=power, tilt=tilt, load=state["load"])
        return (outcome.sinr >= _LEAST_SINR).mean(axis=1), outcome.satisfied.mean(axis=1), outcome.load


def played(
    make: Callable[[dynamics.Params], Reference], *, mode: str, seed: int, episodes: int, config: Mapping[str, Any]
) -> tuple[F64, F64]:
    """Returns (episodes,) and mean costs (episodes, 4) of the first days of `episodes` networks."""
    total, spent, _ = _days(make, mode=mode, seed=seed, episodes=episodes, config=config)
    return total, spent


def bounded(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """The bound of the same days (episodes,), and no costs (episodes, 0); users and demands do not depend on settings."""
    _, _, above = _days(GreedySleep, mode=mode, seed=seed, episodes=episodes, config=config)
    return above, np.zeros((episodes, 0))


def _days(
    make: Callable[[dynamics.Params], Reference], *, mode: str, seed: int, episodes: int, config: Mapping[str, Any]
) -> tuple[F64, F64, F64]:
    params = dynamics.params(mode, **config)
    reference = make(params)
    streams = philox.streams(seed, num_envs=episodes)
    state, _, _ = dynamics.reset_batch(params, streams)
    total, spent, above = np.zeros(episodes), np.zeros((episodes, 4)), np.zeros(episodes)
    for _ in range(params.episode_length):
        ahead = dynamics.renew(params, state, streams=streams)
        above += bound(params, ahead)
        power, tilt = reference.settle(ahead)
        state = dict(state, power=power, tilt=tilt)
        state, _, reward, cost, _, _, _ = dynamics.step_batch(params, state, stay(state), streams)
        total += reward
        spent += cost / params.episode_length
    return total, spent, above


def stay(state: Mapping[str, Any]) -> F32:
    """The action (B, 84) that leaves every setting as it is."""
    action = np.zeros((*state["power"].shape, 4), np.float32)
    action[..., 2], action[..., 3] = state["fairness"], state["cio"] / np.float32(measures.CIO_SCALE)
    return action.reshape(len(action), -1)


def value(
    params: dynamics.Params, state: Mapping[str, Any], *, power: F32, tilt: F32, load: F32, passes: int = 3
) -> F64:
    """The reward (n,) that these settings would bring; state as dynamics.renew gives it, one row or n."""
    outcome, _, demand = _look(params, state, power=power, tilt=tilt, load=load, passes=passes)
    shape = demand.shape
    found = measures.measure(
        outcome,
        demand=demand,
        priority=np.broadcast_to(state["priority"], shape),
        tariff=np.broadcast_to(state["tariff"], shape),
        moved=np.zeros(len(power)),
        emergency=params.mode == "emergency",
        revenue=params.mode == "revenue",
    )
    return np.asarray(found.normalised @ np.asarray(params.weights))


def bound(params: dynamics.Params, state: Mapping[str, Any]) -> F64:
    """Above every setting's reward, and loosely: each objective as if it were alone, on a network without interference (B,)."""
    demand, power = state["demand"], np.float32(dynamics.POWER_DBM[1])
    best = np.exp((state["gain"].max(axis=1) + power) * radio.LN_PER_DB) / radio.NOISE_MW
    rate = radio.rate_mbps(best.astype(np.float32))
    served = np.minimum(rate, demand)
    latency = radio.FILE_MBIT / rate
    content = served >= snapshot.SATISFIED_SHARE * demand
    priority, tariff = state["priority"], state["tariff"]
    if params.mode == "emergency":
        p95 = measures.weighted_p95(latency, priority=priority)
        weight = np.where(priority, float(measures.PRIORITY_WEIGHT), 1.0)
    else:
        p95 = measures.weighted_p95(latency, priority=np.zeros_like(priority))
        weight = np.ones(priority.shape)
    paid = tariff if params.mode == "revenue" else np.ones_like(tariff)
    alone = np.stack(
        (
            measures.latency_score(p95),
            (served * paid).sum(axis=1) / (demand * paid).sum(axis=1),
            np.ones(len(rate)),
            (weight * content).sum(axis=1) / weight.sum(axis=1),
        ),
        axis=1,
    )
    return np.asarray(alone @ np.asarray(params.weights))


def grid_table(*, seed: int = 0, drops: int = 32, hours: int = 8) -> dict[str, tuple[float, float, float]]:
    """The best constant (power, tilt, alpha) of each mode on fixed drops, cold start, no noise: how baselines.GRID was made."""
    choices = list(itertools.product(GRID_POWERS, GRID_TILTS, GRID_ALPHAS))
    cells = np.ones((drops, dynamics.CELLS), np.float32)
    best = {}
    for mode in measures.MODES:
        params = dynamics.params(mode)
        state, _, _ = dynamics.reset_batch(params, philox.streams(seed, num_envs=drops))
        state["cell"] = np.full_like(state["cell"], -1)
        total = np.zeros(len(choices))
        for number, (power, tilt, alpha) in enumerate(choices):
            state["fairness"] = cells * np.float32(np.log(alpha) / np.log(4.0))
            for hour in range(hours):
                state["demand"] = state["base"] * params.profile[hour * dynamics.HOURS // hours]
                set_to = {"power": cells * np.float32(power), "tilt": cells * np.float32(tilt)}
                total[number] += value(params, state, **set_to, load=0.5 * cells, passes=10).sum()
        best[mode] = choices[int(np.argmax(total))]
    return best


def _look(
    params: dynamics.Params, state: Mapping[str, Any], *, power: F32, tilt: F32, load: F32, passes: int = 3
) -> tuple[snapshot.Outcome, snapshot.Settings, F32]:
    """The snapshot with other settings; state has one row, or as many as the settings."""
    emergency = params.mode == "emergency"
    wide = {name: np.broadcast_to(state[name], (len(power), *state[name].shape[1:])) for name in _SEEN}
    demand: F32 = wide["demand"]
    settings = dynamics.settings_of({**wide, "power": power, "tilt": tilt}, emergency=emergency)
    return (
        snapshot.evaluate(wide, settings, demand=demand, load=load, cell=wide["cell"], passes=passes),
        settings,
        demand,
    )


_SEEN = ("gain", "theta", "demand", "cell", "step", "fairness", "cio", "outage_site", "outage_start")
