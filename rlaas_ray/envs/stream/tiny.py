"""The tiny dataflow: 351 states, 9 actions, whole numbers; small enough that its optimum and every policy's value are exact.

Called by the registry, by the tiny baselines, and by tests that hold learners against the optimum. No queues inside: what is
served is the closed form of the whole model, the least capacity.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.stream import job
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64, I64, Array, Bool

LEVELS, MOST, CHOICES, STEPS = 3, 12, 3, 60
STATES, ACTIONS = LEVELS * (MOST + 1) * CHOICES**2, CHOICES**2
RATE = np.asarray([1, 3, 5])
FLATMAP, COUNT = np.asarray([2, 4, 6]), np.asarray([2, 4, 5])  # capacity in source units with 1, 2, 3 instances
MOVES = np.asarray([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.1, 0.9]])
WEIGHTS = (1.0, 0.06, 0.1, 0.2)  # of lag over 12, instances, a change, records lost
OBJECTIVES = [("lag", "1", "min"), ("instances", "1", "min"), ("rescales", "1", "min"), ("lost", "1", "min")]
NAMES = tuple(name for name, _, _ in OBJECTIVES)
MODES = {"tiny": WEIGHTS}
_LEVEL, _LOST = 20, 1.0  # purpose of the generator; records lost above which the cost counts
OBSERVATION = LEVELS + 4

Step = tuple[dict[str, Any], F32, F64, F64, Bool, Bool, dict[str, Any]]


class Tiny:
    """The domain (vector.Domain): MultiDiscrete([3, 3]); sees level one-hot, lag / 12, both counts / 3, t / 60."""

    reported = ("objectives", "cost")

    def __init__(self, *, mode: str = "tiny", weights: modes.Given | None = None) -> None:
        self.weights = modes.weights_of(mode, weights=weights, modes=MODES, names=NAMES, shares=False)
        self.objectives = OBJECTIVES
        self.metadata = {"modes": list(MODES), "costs": ["lost"], "cost_limits": [0.0]}
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (OBSERVATION,), np.float32)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.MultiDiscrete([CHOICES] * 2)

    def check(self, action: Any) -> Array:
        """Int64 (B, 2) below 3. Raises InvalidInput."""
        return job.checked(action, sizes=np.asarray([CHOICES] * 2))

    def reset(self, streams: philox.Streams) -> tuple[dict[str, Any], F32, dict[str, Any]]:
        """The lowest rate, no lag, one instance each."""
        batch = len(streams.seed)
        state = {name: np.zeros(batch, np.int64) for name in ("t", "level", "lag", "flatmap", "count")}
        return state, observe(state), {"objectives": np.zeros((batch, 4)), "cost": np.zeros((batch, 1))}

    def step(self, state: dict[str, Any], action: Any, *, streams: philox.Streams) -> Step:
        """Serve, then draw the next rate. Truncated after 60 steps."""
        lag, moved = served(state, action)
        one = np.zeros(1, np.uint32)
        drawn = philox.u01(streams.words(one, t=state["t"].astype(np.uint32), purpose=one + np.uint32(_LEVEL)))[:, 0]
        bounds = np.cumsum(MOVES, axis=1)[state["level"]]
        level = (drawn >= bounds[:, 0]).astype(np.int64) + (drawn >= bounds[:, 1])
        after = {"t": state["t"] + 1, "level": level, "lag": lag, "flatmap": action[:, 0], "count": action[:, 1]}
        reward = worth(moved, weight=self.weights)
        cost = (moved[:, 3] >= _LOST).astype(np.float64)[:, None]
        info: dict[str, Any] = {"objectives": moved, "cost": cost}
        return after, observe(after), reward, cost, np.zeros(len(lag), np.bool_), after["t"] >= STEPS, info

    def draw(self, state: dict[str, Any]) -> Array:
        """Rate, capacity and lag, see picture.py."""
        from rlaas_ray.envs.stream import picture  # noqa: PLC0415 - matplotlib is only for those who look

        flatmap, count = int(state["flatmap"][0]), int(state["count"][0])
        return picture.draw_tiny(
            rate=float(RATE[state["level"][0]]),
            capacity={f"flatmap x {flatmap + 1}": float(FLATMAP[flatmap]), f"count x {count + 1}": float(COUNT[count])},
            lag=float(state["lag"][0]),
            most=float(MOST),
            title=f"step {int(state['t'][0])} of {STEPS}",
        )


def served(state: dict[str, Any], action: I64) -> tuple[I64, F64]:
    """Lag after the step (B,), and the objectives (B, 4). A change of either count serves nothing in its step."""
    changed = (action[:, 0] != state["flatmap"]) | (action[:, 1] != state["count"])
    capacity = np.minimum(FLATMAP[action[:, 0]], COUNT[action[:, 1]])
    there = state["lag"] + RATE[state["level"]]
    left = there - np.where(changed, 0, np.minimum(there, capacity))
    lag = np.minimum(left, MOST)
    return lag, np.stack((lag, action[:, 0] + action[:, 1] + 2, changed, left - lag), axis=1).astype(np.float64)


def worth(moved: F64, *, weight: tuple[float, ...] = WEIGHTS) -> F64:
    """(B,) the reward of objectives (B, 4)."""
    found: F64 = -(
        weight[0] * (moved[:, 0] / MOST) + weight[1] * moved[:, 1] + weight[2] * moved[:, 2] + weight[3] * moved[:, 3]
    )
    return found


def observe(state: dict[str, Any]) -> F32:
    """(B, 7)."""
    seen = np.zeros((len(state["t"]), OBSERVATION), np.float32)
    seen[np.arange(len(seen)), state["level"]] = 1.0
    seen[:, LEVELS] = state["lag"] / MOST
    seen[:, LEVELS + 1] = (state["flatmap"] + 1) / CHOICES
    seen[:, LEVELS + 2] = (state["count"] + 1) / CHOICES
    seen[:, LEVELS + 3] = state["t"] / STEPS
    return seen


def read(observations: F32) -> dict[str, I64]:
    """The state (B,) of each name that an observation shows whole. Raises InvalidInput for another width."""
    if observations.shape[1] != OBSERVATION:
        raise InvalidInput("observation of the tiny dataflow", given=observations.shape, expected=f"(B, {OBSERVATION})")
    scaled = {LEVELS: MOST, LEVELS + 1: CHOICES, LEVELS + 2: CHOICES, LEVELS + 3: STEPS}
    lag, flatmap, count, t = (np.rint(observations[:, at] * by).astype(np.int64) for at, by in scaled.items())
    level = observations[:, :LEVELS].argmax(axis=1).astype(np.int64)
    return {"t": t, "level": level, "lag": lag, "flatmap": flatmap - 1, "count": count - 1}


def states() -> dict[str, I64]:
    """All 351, (351,) of each name, numbered as `index` does; at t = 0."""
    level, lag, flatmap, count = np.unravel_index(np.arange(STATES), (LEVELS, MOST + 1, CHOICES, CHOICES))
    return {"t": np.zeros(STATES, np.int64), "level": level, "lag": lag, "flatmap": flatmap, "count": count}


def index(state: dict[str, Any]) -> I64:
    """(B,) the number of a state, its time apart."""
    found: I64 = ((state["level"] * (MOST + 1) + state["lag"]) * CHOICES + state["flatmap"]) * CHOICES + state["count"]
    return found


@functools.lru_cache(maxsize=1)
def tables() -> tuple[F64, I64]:
    """Rewards (351, 9) and the states that follow (351, 9, 3), one for each level of the next rate, by the env's own step."""
    every = states()
    rewards, follow = np.zeros((STATES, ACTIONS)), np.zeros((STATES, ACTIONS, LEVELS), np.int64)
    for action in range(ACTIONS):
        chosen = np.tile(np.asarray(divmod(action, CHOICES)), (STATES, 1))
        lag, moved = served(every, chosen)
        rewards[:, action] = worth(moved)
        for level in range(LEVELS):
            after = {"level": np.full(STATES, level), "lag": lag, "flatmap": chosen[:, 0], "count": chosen[:, 1]}
            follow[:, action, level] = index(after)
    return rewards, follow


def value(policy: F64) -> float:
    """What a stationary policy, probabilities (351, 9), earns in 60 steps from the start, exactly."""
    worth_of = np.zeros(STATES)
    for _ in range(STEPS):
        worth_of = (policy * _ahead(worth_of)).sum(axis=1)
    return float(worth_of[0])


@functools.lru_cache(maxsize=1)
def optimum() -> tuple[float, I64]:
    """The best value from the start, and the best action (60, 351) of each step, by backward induction."""
    worth_of, plan = np.zeros(STATES), np.zeros((STEPS, STATES), np.int64)
    for step in reversed(range(STEPS)):
        ahead = _ahead(worth_of)
        plan[step], worth_of = ahead.argmax(axis=1), ahead.max(axis=1)
    return float(worth_of[0]), plan


def _ahead(worth_of: F64) -> F64:
    """(351, 9) reward now and the mean worth of what follows."""
    rewards, follow = tables()
    chance = MOVES[states()["level"]]
    found: F64 = rewards + (chance[:, None, :] * worth_of[follow]).sum(axis=2)
    return found
