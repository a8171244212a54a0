"""DroneDelivery-tiny-v1: a lattice of 21 places and 5 speeds with drift and a battery, small enough to solve exactly.

Called by the registry; `optimum` by its baselines and tests. Shows itself through the same 32 numbers, those it does not use
are 0; the time left is among them, so it is Markov.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox, vector
from rlaas_ray.envs.drones import env, observation
from rlaas_ray.envs.drones import params as p
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64, I64, Array, Bool

LAST, TOP, STEPS, ENERGY = 20, 2, 40, 60
START, PICKUP, DROP = 10, 4, 17
DRIFT = 0.1  # probability of each side
SPEND = np.asarray([3, 2, 3])  # at |v| = 0, 1, 2: the power curve's shape
STEP_REWARD, WALL, PICKED, DELIVERED, EMPTY = -0.1, -1.0, 2.0, 10.0, -10.0
OBJECTIVES = [
    ("delivered", "1", "max"),
    ("picked", "1", "max"),
    ("walls", "1", "min"),
    ("emptied", "1", "min"),
    ("steps", "1", "min"),
]
WEIGHTS = {"balanced": (DELIVERED, PICKED, -WALL, -EMPTY, -STEP_REWARD)}
_SIGNS = (1.0, 1.0, -1.0, -1.0, -1.0)


class Tiny:
    """The domain (vector.Domain). action[0] by thirds: -1, 0, +1; the other two entries are ignored."""

    reported = ("objectives", "cost")

    def __init__(
        self,
        *,
        mode: str | None = None,
        weights: modes.Given | None = None,
        drift: float = DRIFT,
        energy: int = ENERGY,
    ) -> None:
        names = [name for name, _, _ in OBJECTIVES]
        chosen = "balanced" if mode is None else mode
        self.weights = modes.weights_of(chosen, weights=weights, modes=WEIGHTS, names=names, shares=False)
        if not 0.0 <= drift <= 0.5:
            raise InvalidInput("drift", given=drift, expected="a probability from 0 to 0.5, of each side")
        if type(energy) is not int or not 1 <= energy <= ENERGY:
            raise InvalidInput("energy", given=energy, expected=f"an int from 1 to {ENERGY}")
        self.drift, self.energy = drift, energy
        self.objectives = OBJECTIVES
        self.metadata = {"modes": list(WEIGHTS), "costs": ["geofence"], "cost_limits": [0.5]}
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (observation.SIZE,), np.float32)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Box(-1.0, 1.0, (env.ACTION,), np.float32)

    def check(self, action: Any) -> Array:
        """Float64 (B, 3), finite."""
        return env.check_action(action, shape=(env.ACTION,), name="DroneDelivery-tiny")

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Array, dict[str, Any]]:
        """At 10, at rest, to the pickup."""
        count = len(streams.seed)
        values = {"t": 0, "x": START, "v": 0, "phase": p.TO_PICKUP, "e": self.energy}
        state: vector.State = {name: np.full(count, value, np.int64) for name, value in values.items()}
        info = {"objectives": np.zeros((count, len(OBJECTIVES))), "cost": np.zeros((count, 1))}
        return state, observe(state), info

    def step(self, state: vector.State, action: Any, *, streams: philox.Streams) -> vector.Step:
        """One move of the lattice under a drawn drift."""
        words = streams.words(p.u32([0]), t=p.u32(state["t"]), purpose=p.u32([p.GUST]))
        u = philox.u01(words)[:, 0]
        drift = (u >= 1.0 - self.drift).astype(np.int64) - (u < self.drift)
        new, objectives, terminated = advance(state, throttle(action[:, 0]), drift=drift)
        reward = np.zeros(len(u))
        for k, (sign, weight) in enumerate(zip(_SIGNS, self.weights, strict=True)):
            reward = reward + sign * weight * objectives[:, k]
        cost = objectives[:, 2:3].copy()
        truncated = ~terminated & (new["t"] >= STEPS)
        return new, observe(new), reward, cost, terminated, truncated, {"objectives": objectives, "cost": cost}

    def draw(self, state: vector.State) -> Array:
        """The lattice, see picture.py."""
        from rlaas_ray.envs.drones import picture  # noqa: PLC0415 - matplotlib is only for those who look

        lattice = picture.Lattice(pickup=PICKUP, drop=DROP, last=LAST, steps=STEPS, energy=ENERGY)
        return picture.draw_tiny(state, lattice=lattice)


def throttle(action: F64) -> I64:
    """-1, 0, +1 by thirds."""
    third = 1.0 / 3.0
    return (action >= third).astype(np.int64) - (action <= -third)


def advance(state: vector.State, u: I64, *, drift: I64) -> tuple[vector.State, F64, Bool]:
    """The state after a step with a known drift, its objectives (n, 5), and who is done."""
    commanded = np.clip(state["v"] + u, -TOP, TOP)
    raw = state["x"] + commanded + drift
    place = np.clip(raw, 0, LAST)
    wall = raw != place
    speed = np.where(wall, 0, commanded)
    energy = state["e"] - SPEND[np.abs(commanded)]
    empty = energy <= 0
    target = np.where(state["phase"] == p.TO_PICKUP, PICKUP, DROP)
    here = ~empty & (place == target) & (speed == 0)
    picked, delivered = here & (state["phase"] == p.TO_PICKUP), here & (state["phase"] == p.TO_DROP)
    new: vector.State = {
        "t": state["t"] + 1,
        "x": place,
        "v": speed,
        "phase": np.where(picked, p.TO_DROP, state["phase"]),
        "e": np.maximum(energy, 0),
    }
    objectives = np.stack((delivered, picked, wall, empty, np.ones(len(place))), axis=1, dtype=np.float64)
    return new, objectives, empty | delivered


def observe(state: vector.State) -> F32:
    """(n, 32), everything that the value depends on."""
    seen = np.zeros((len(state["x"]), observation.SIZE), np.float32)
    target = np.where(state["phase"] == p.TO_PICKUP, PICKUP, DROP)
    seen[:, observation.VELOCITY] = state["v"] / TOP
    seen[:, observation.GOAL] = (target - state["x"]) / LAST
    seen[:, observation.DISTANCE] = np.abs(target - state["x"]) / LAST
    seen[:, observation.POSITION] = 2.0 * state["x"] / LAST - 1.0
    seen[:, observation.CHARGE] = state["e"] / ENERGY
    for k in (p.TO_PICKUP, p.TO_DROP):
        seen[:, observation.PHASE + k] = state["phase"] == k
    seen[:, observation.DEADLINE] = (STEPS - state["t"]) / STEPS
    return seen


@functools.lru_cache(maxsize=8)
def solve(*, drift: float = DRIFT) -> tuple[F64, I64, F64]:
    """By backward induction over 40 x 2 x 21 x 5 x 61 states: optimal values, best u, and values of uniform u.

    Each (41, 2, 21, 5, 61), indexed by t, phase, x, v + 2, e.
    """
    shape = (2, LAST + 1, 2 * TOP + 1, ENERGY + 1)
    phase, x, v, e = (one.ravel() for one in np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    state: vector.State = {"t": np.zeros(len(x), np.int64), "x": x, "v": v - TOP, "phase": phase, "e": e}
    best, uniform = np.zeros((STEPS + 1, len(x))), np.zeros((STEPS + 1, len(x)))
    plan = np.zeros((STEPS + 1, len(x)), np.int64)
    weights = np.asarray([DELIVERED, PICKED, WALL, EMPTY, STEP_REWARD])
    moves = []
    for u in (-1, 0, 1):
        for g, chance in ((-1, drift), (0, 1.0 - 2.0 * drift), (1, drift)):
            new, objectives, done = advance(state, np.full(len(x), u), drift=np.full(len(x), g))
            where = np.ravel_multi_index((new["phase"], new["x"], new["v"] + TOP, new["e"]), shape)
            moves.append((chance, (objectives * weights).sum(axis=1), where, ~done))
    for t in range(STEPS - 1, -1, -1):
        worth = np.zeros((2, 3, len(x)))
        for k, (chance, reward, where, on) in enumerate(moves):
            worth[0, k // 3] += chance * (reward + on * best[t + 1, where])
            worth[1, k // 3] += chance * (reward + on * uniform[t + 1, where])
        best[t], plan[t], uniform[t] = worth[0].max(axis=0), worth[0].argmax(axis=0) - 1, worth[1].mean(axis=0)
    full = (STEPS + 1, *shape)
    return best.reshape(full), plan.reshape(full), uniform.reshape(full)


def optimum(*, drift: float = DRIFT, energy: int = ENERGY) -> float:
    """The exact value of the start state under the best policy; 10.092864 by default."""
    return float(solve(drift=drift)[0][0, p.TO_PICKUP, START, TOP, energy])


def uniform_value(*, drift: float = DRIFT, energy: int = ENERGY) -> float:
    """The exact value of the start state where each u is as probable."""
    return float(solve(drift=drift)[2][0, p.TO_PICKUP, START, TOP, energy])
