"""A day of the network as two pure functions: `reset_batch` and `step_batch`; state is a dict of arrays, batch axis first.

Called by env.py through envs/vector.py, by the training view and by the references. Knows no framework; draws only from
philox.py. Layout per environment: gain (C, U), theta (S, U), base demand, priority, tariff, cell (U,), settings and load
(C,), hour, step, hotspots.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.ran import channel, measures, radio, snapshot
from rlaas_ray.envs.ran import pool as pools
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64, I64, U32, Array, Bool

CELLS, USERS, SITES = measures.CELLS, measures.USERS, measures.SITES
ACTION = 4 * CELLS
HOURS = 96  # quarter hours of a day
RING = 10  # users re-dropped each step
HOTSPOT_STEPS = 24
OUTAGE_STEPS = 24
MEAN_MBPS = 1.5
POWER_DBM = (30.0, 46.0)
WAKE_DBM = 40.0
TILT_DEG = (0.0, 15.0)
HOLD = {"power": 46.0, "tilt": 6.0, "fairness": 0.0, "cio": 0.0}
covariates = measures.covariates

_COLD_PASSES = 10  # from a cold start within 2e-5 of 30 passes
_COLD_LOAD = 0.5
_USER, _START, _DEMAND, _REDROP, _CENTRE, _SURGE = 1, 2, 3, 4, 5, 6
_DEMAND_BLOCKS = -(-USERS // philox.WORDS_PER_BLOCK)
# Three of each ten slots are hotspot users, by turns of the first and the second hotspot: 63 of 210 at every moment.
_SLOT_HOT = np.arange(USERS) % 10 < 3
_SLOT_SPOT = (np.cumsum(_SLOT_HOT) - 1) % 2
_SURGE_SLOTS = np.flatnonzero(_SLOT_HOT & (_SLOT_SPOT == 0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Params:
    """What is fixed for a world: weights of the objectives, the mode's events, length of an episode, demand tables."""

    mode: str
    weights: tuple[float, ...]
    episode_length: int
    scenario: channel.Scenario
    noise: F32
    profile: F32

    @property
    def pool(self) -> pools.Pool:
        """Made at the first drop: whoever only asks for spaces does not wait for it."""
        return pools.pool(self.scenario)


def params(
    mode: str | None = None,
    *,
    weights: modes.Given | None = None,
    episode_length: int = 96,
    scenario: str = "UMa",
    power_model: str = "earth",
) -> Params:
    """The parameters of a world; a mode's name gives weights and events, `weights` override the former."""
    radio.power_model(power_model)
    if type(episode_length) is not int or not 1 <= episode_length <= 100_000:
        raise InvalidInput(
            "episode_length", given=episode_length, expected="an int from 1 to 100000 steps", cure="96 is a day."
        )
    mode = "normal" if mode is None else mode
    return Params(
        mode=mode,
        weights=measures.weights_of(mode, weights=weights),
        episode_length=episode_length,
        scenario=channel.Scenario(name=scenario),
        noise=_noise_table(),
        profile=demand_profile(np.arange(HOURS) / 4.0).astype(np.float32),
    )


def demand_profile(hour: F64) -> F64:
    """delta(h): 0.16 at five in the morning, 1 at five in the afternoon."""
    return 0.16 + 0.84 * (1.0 - np.cos(2.0 * np.pi * (hour - 5.0) / 24.0)) / 2.0


def reset_batch(params: Params, streams: philox.Streams) -> tuple[snapshot.State, F32, dict[str, Any]]:
    """Fresh worlds at a uniform hour, with hold's settings and one interval measured, so that the first look is informed."""
    count = len(streams.seed)
    start = philox.u01(_draw(streams, t=np.zeros(count, np.int64), plan=_START_PLAN))
    users = _draw(streams, t=np.zeros(count, np.int64), plan=_RESET_PLAN).reshape(count, USERS, 4)
    hour = (start[:, 0] * HOURS).astype(np.int64)
    state: snapshot.State = {
        "gain": np.empty((count, CELLS, USERS), np.float32),
        "theta": np.empty((count, SITES, USERS), np.float32),
        "base": np.empty((count, USERS), np.float32),
        "priority": np.empty((count, USERS), np.bool_),
        "tariff": np.empty((count, USERS), np.float32),
        "cell": np.full((count, USERS), -1, np.int64),
        "load": np.full((count, CELLS), _COLD_LOAD, np.float32),
        "hotspot": (start[:, 1:3] * pools.CENTRES).astype(np.int64),
        "outage_site": (start[:, 3] * SITES).astype(np.int64),
        "outage_start": 16 + (start[:, 4] * 49).astype(np.int64),
        "hour": hour,
        "step": np.zeros(count, np.int64),
    }
    for name, value in HOLD.items():
        state[name] = np.full((count, CELLS), value, np.float32)
    _drop_users(params, state, slots=np.arange(USERS), words=users)
    words = _draw(streams, t=np.zeros(count, np.int64), plan=_DEMAND_PLAN)
    hour = (hour - 1) % HOURS
    before = dict(state, step=state["step"] - 1)
    demand = demand_of(params, before, words=words[:, :USERS], hour=hour)
    seen, state = _measure(params, state, demand=demand, hour=hour, passes=_COLD_PASSES)
    return state, seen.pop("observation"), seen


def step_batch(  # noqa: PLR0917 - the seam that all environments share
    params: Params, state: snapshot.State, action: F32, streams: philox.Streams
) -> tuple[snapshot.State, F32, F64, F64, Bool, Bool, dict[str, Any]]:
    """One quarter of an hour. action (B, 84) in -1..1: power, tilt, fairness and CIO of each cell in turn."""
    action = check_action(action)
    state = renew(params, state, streams=streams)
    demand: F32 = state.pop("demand")
    _settle(state, action=action)
    hour = state["hour"]
    state["hour"], state["step"] = (hour + 1) % HOURS, state["step"] + 1
    info, state = _measure(params, state, demand=demand, hour=hour, passes=3)
    normalised = info["normalised"]
    reward = sum(weight * normalised[:, k] for k, weight in enumerate(params.weights))
    truncated = state["step"] >= params.episode_length
    return state, info.pop("observation"), reward, info["cost"], np.zeros(len(action), np.bool_), truncated, info


def renew(params: Params, state: snapshot.State, *, streams: philox.Streams) -> snapshot.State:
    """The users of the coming interval and their `demand` (B, U), on which no setting has an effect; references look here too."""
    state = dict(state)
    words = _draw(streams, t=state["step"] + 1, plan=_STEP_PLAN)
    _move_hotspots(params, state, centre_words=words[:, -4:])
    state["gain"], state["theta"] = state["gain"].copy(), state["theta"].copy()
    for name in ("base", "priority", "tariff", "cell"):
        state[name] = state[name].copy()
    if params.mode == "emergency":
        _surge(params, state, streams=streams)
    _redrop(params, state, words=words[:, 4 * _DEMAND_BLOCKS : -4].reshape(len(words), RING, 4))
    state["demand"] = demand_of(params, state, words=words[:, :USERS], hour=state["hour"])
    return state


def check_action(action: Array) -> F32:
    """Float32 (B, 84), clipped to -1..1. Raises before anything moves when a number is not finite or the shape is wrong."""
    given = np.asarray(action)
    if given.ndim != 2 or given.shape[1] != ACTION or given.dtype.kind not in "fiu":
        raise InvalidInput(
            "action of RanControl",
            given=(given.shape, str(given.dtype)),
            expected=f"(B, {ACTION}) numbers",
            cure="21 cells x (power, tilt, fairness, CIO), each in -1..1.",
        )
    if not np.isfinite(given).all():
        row, entry = np.argwhere(~np.isfinite(given))[0]
        raise InvalidInput(
            f"action[{row}, {entry}] of RanControl",
            given=float(given[row, entry]),
            expected="a finite number in -1..1",
            cure="A policy that gives NaN has diverged; nothing was moved.",
        )
    return np.clip(given, -1.0, 1.0).astype(np.float32)


def settings_of(state: snapshot.State, *, emergency: bool = False) -> snapshot.Settings:
    """The settings in force; an asleep cell (30 dBm) and a cell that is out do not radiate."""
    active = state["power"] > POWER_DBM[0]
    if emergency:
        active &= ~forced_out(state)
    return snapshot.Settings(
        power=state["power"],
        tilt=state["tilt"],
        fairness=state["fairness"],
        cio=state["cio"],
        active=active,
    )


def forced_out(state: snapshot.State) -> Bool:
    """Cells (B, C) of the site that is out at this step."""
    since = state["step"] - state["outage_start"]
    out = (since >= 0) & (since < OUTAGE_STEPS)
    found: Bool = out[:, None] & (np.arange(CELLS) // 3 == state["outage_site"][:, None])
    return found


def demand_of(params: Params, state: snapshot.State, *, words: U32, hour: I64) -> F32:
    """Offered Mbps (B, U): base x profile x lognormal noise from a table of 65,536 equally likely values.

    While a site is out (`step` is the interval's), the first hotspot's users ask for three times as much.
    """
    demand: F32 = params.noise[words >> np.uint32(16)]
    demand *= state["base"]
    demand *= params.profile[hour][:, None]
    if params.mode == "emergency":
        demand[np.ix_(forced_out(state).any(axis=1), _SURGE_SLOTS)] *= 3.0
    return demand


def _measure(
    params: Params, state: snapshot.State, *, demand: F32, hour: I64, passes: int
) -> tuple[dict[str, Any], snapshot.State]:
    emergency = params.mode == "emergency"
    # `step` has advanced already; the outage is that of the interval just lived through.
    now = dict(state, step=state["step"] - 1)
    settings = settings_of(now, emergency=emergency)
    before = state["cell"]
    outcome = snapshot.evaluate(
        state,
        settings,
        demand=demand,
        load=state["load"],
        cell=before,
        passes=passes,
    )
    moved = ((outcome.cell != before) & (before >= 0)).mean(axis=1)
    found = measures.measure(
        outcome,
        demand=demand,
        priority=state["priority"],
        tariff=state["tariff"],
        moved=moved,
        emergency=emergency,
        revenue=params.mode == "revenue",
    )
    state["cell"], state["load"] = outcome.cell, outcome.load
    lg_latency = np.log10(outcome.latency)
    features = measures.cell_features(
        outcome, settings, demand=demand, priority=state["priority"], lg_latency=lg_latency
    )
    seen = measures.observe(features, hour_index=state["hour"], normalised=found.normalised, mode=params.mode)
    return {
        "observation": seen,
        "objectives": found.objectives,
        "normalised": found.normalised,
        "cost": found.cost,
        "hour": hour,
        "demand": demand,
        "served": outcome.served,
        "satisfied": outcome.satisfied,
        "lg_latency": lg_latency,
        "lg_tail": found.lg_tail,
        "attached": outcome.cell,
        "power_w": outcome.power_w,
    }, state


def _settle(state: snapshot.State, *, action: F32) -> None:
    """Turn actions into settings. A sleeping cell keeps its settings until it wakes; a cell that is out ignores every action."""
    steps = action.reshape(-1, CELLS, 4)
    power = state["power"]
    asleep = power <= POWER_DBM[0]
    wakes = asleep & (steps[..., 0] > 0.5)
    free = ~asleep | wakes
    moved = np.clip(power + 4.0 * steps[..., 0], *POWER_DBM)
    state["power"] = np.where(wakes, np.float32(WAKE_DBM), np.where(asleep, power, moved))
    state["tilt"] = np.where(free, np.clip(state["tilt"] + steps[..., 1], *TILT_DEG), state["tilt"])
    state["fairness"] = np.where(free, steps[..., 2], state["fairness"])
    state["cio"] = np.where(free, steps[..., 3] * np.float32(measures.CIO_SCALE), state["cio"])


def _move_hotspots(params: Params, state: snapshot.State, *, centre_words: U32) -> None:
    due = (state["step"] > 0) & (state["step"] % HOTSPOT_STEPS == 0)
    if not due.any():
        return
    drawn = (philox.u01(centre_words[:, :2]) * pools.CENTRES).astype(np.int64)
    replaced = np.repeat(due[:, None], 2, axis=1)
    if params.mode == "emergency":
        replaced[:, 0] &= ~forced_out(state).any(axis=1)
    state["hotspot"] = np.where(replaced, drawn, state["hotspot"])


def _surge(params: Params, state: snapshot.State, *, streams: philox.Streams) -> None:
    """At the start of an outage the first hotspot, with its users, comes to within ISD/2 of the site that went out."""
    rows = np.flatnonzero(state["step"] == state["outage_start"])
    if not len(rows):
        return
    words = _draw(streams.take(rows), t=state["step"][rows] + 1, plan=_SURGE_PLAN)
    site = state["outage_site"][rows]
    choice = (philox.u01(words[:, -1]) * params.pool.near_count[site]).astype(np.int64)
    hotspot = state["hotspot"].copy()
    hotspot[rows, 0] = params.pool.near[site, choice]
    state["hotspot"] = hotspot
    member = (
        pools.UNIFORM + hotspot[rows, 0][:, None] * pools.MEMBERS + (words[:, : len(_SURGE_SLOTS)] >> np.uint32(26))
    )
    _place(params, state, rows=rows[:, None], slots=_SURGE_SLOTS[None, :], member=member)


def _redrop(params: Params, state: snapshot.State, *, words: U32) -> None:
    position = (state["step"] % (USERS // RING)) * RING
    if (position == position[0]).all():  # all in step: the ring's slots are a plain slice
        _drop_users(params, state, slots=np.arange(position[0], position[0] + RING), words=words)
        return
    for start in np.unique(position):
        rows = np.flatnonzero(position == start)
        _drop_users(params, state, slots=np.arange(start, start + RING), words=words[rows], rows=rows)


def _drop_users(params: Params, state: snapshot.State, *, slots: I64, words: U32, rows: I64 | None = None) -> None:
    """New users in `slots` of `rows` (all by default); four words each: place, demand, priority, tariff. words (R, slots, 4)."""
    at = np.arange(len(words)) if rows is None else rows
    spot = state["hotspot"][at][:, _SLOT_SPOT[slots]]
    place = words[:, :, 0]
    hot = pools.UNIFORM + spot * pools.MEMBERS + (place >> np.uint32(26))
    member = np.where(_SLOT_HOT[slots], hot, place >> np.uint32(16))
    index, slot = at[:, None], slots[None, :]
    _place(params, state, rows=index, slots=slot, member=member)
    state["base"][index, slot] = -MEAN_MBPS * np.log(philox.u01(words[:, :, 1]))
    state["priority"][index, slot] = philox.u01(words[:, :, 2]) < 0.1
    kind = philox.u01(words[:, :, 3])
    state["tariff"][index, slot] = np.where(kind < 0.6, 1.0, np.where(kind < 0.9, 2.0, 4.0))


def _place(params: Params, state: snapshot.State, *, rows: I64, slots: I64, member: I64) -> None:
    # Advanced indices around a slice come first: the result is (R, slots, C).
    state["gain"][rows, :, slots] = params.pool.gain_db[member]
    state["theta"][rows, :, slots] = params.pool.theta_deg[member]
    state["cell"][rows, slots] = -1


@functools.lru_cache(maxsize=1)
def _noise_table() -> F32:
    sigma = 0.3
    normal = scipy.special.ndtri((np.arange(65_536) + 0.5) / 65_536)
    found: F32 = np.exp(sigma * normal - sigma**2 / 2.0).astype(np.float32)
    return found


def _plan(*parts: tuple[int, int]) -> tuple[U32, U32]:
    """Blocks and purposes of one call to the generator: (purpose, number of blocks) each."""
    block = np.concatenate([np.arange(count) for _, count in parts]).astype(np.uint32)
    purpose = np.concatenate([np.full(count, name) for name, count in parts]).astype(np.uint32)
    return block, purpose


_RESET_PLAN = _plan((_USER, USERS))
_START_PLAN = _plan((_START, 2))
_DEMAND_PLAN = _plan((_DEMAND, _DEMAND_BLOCKS))
_STEP_PLAN = _plan((_DEMAND, _DEMAND_BLOCKS), (_REDROP, RING), (_CENTRE, 1))
_SURGE_PLAN = _plan((_SURGE, len(_SURGE_SLOTS) // 4 + 1))


def _draw(streams: philox.Streams, *, t: I64, plan: tuple[U32, U32]) -> U32:
    return streams.words(plan[0], t=t.astype(np.uint32), purpose=plan[1])
