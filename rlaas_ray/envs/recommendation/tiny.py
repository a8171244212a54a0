"""The tiny recommender: four topics, two shown, interests on a grid of five, 40 units of time; solved exactly.

Called by env's registry, its baselines and tests. The budget strictly falls, so one backward pass over 625 x 40 states gives
the optimum and the value of any policy.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.recommendation import choice
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64, I64, U32, Array, Bool

TOPICS, SHOWN, BUDGET, WATCH, LEVELS = 4, 2, 40, 4, 5
GRID: F64 = np.asarray((-1.0, -0.5, 0.0, 0.5, 1.0))
COST: I64 = np.asarray((5, 4, 3, 2))  # of a click on each topic
SLATES: I64 = np.asarray(list(itertools.combinations(range(TOPICS), SHOWN)))
STATES = LEVELS**TOPICS
OBSERVATION = TOPICS + 1
OBJECTIVES = [("watch", "min", "max"), ("ctr", "1", "max")]
METADATA = {"costs": ["trashy"], "cost_limits": [0.25], "modes": ["watch"]}
_RESET, _STEP = 5, 6  # purposes of the generator
_BLOCK: U32 = np.zeros(1, dtype=np.uint32)


class Tiny:
    """The domain (vector.Domain): Discrete(6); sees the four interests and budget/40."""

    reported = ("objectives", "cost")

    def __init__(self, *, mode: str = "watch", weights: modes.Given | None = None) -> None:
        names = [name for name, _, _ in OBJECTIVES]
        self.weights = modes.weights_of(mode, weights=weights, modes={"watch": (1.0, 0.0)}, names=names, shares=False)
        self.objectives, self.metadata = OBJECTIVES, METADATA
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (OBSERVATION,), np.float32)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(len(SLATES))

    def check(self, action: Any) -> Array:
        """Int64 (B,) below 6."""
        given = np.asarray(action)
        if given.ndim != 1 or given.dtype.kind not in "iu" or ((given < 0) | (given >= len(SLATES))).any():
            raise InvalidInput(
                "action of SlateRecommendation-tiny",
                given=given.tolist() if given.size <= len(SLATES) else given.shape,
                expected="(B,) ints from 0 to 5",
                cure="Index k shows the topics (0,1), (0,2), (0,3), (1,2), (1,3), (2,3)[k].",
            )
        return given.astype(np.int64)

    def reset(self, streams: philox.Streams) -> tuple[dict[str, Any], F32, dict[str, Any]]:
        """Users at any of the 625 points of the grid, all as probable."""
        count = len(streams.seed)
        now = np.zeros(count, dtype=np.uint32)
        drawn = philox.u01(streams.words(_BLOCK, t=now, purpose=np.full(1, _RESET, dtype=np.uint32)))
        state = {"level": (drawn * LEVELS).astype(np.int64), "budget": np.full(count, BUDGET), "t": now}
        info = {"objectives": np.zeros((count, len(OBJECTIVES))), "cost": np.zeros((count, 1))}
        return state, _observe(state), info

    def step(
        self, state: dict[str, Any], action: Any, *, streams: philox.Streams
    ) -> tuple[dict[str, Any], F32, F64, F64, Bool, Bool, dict[str, Any]]:
        """A click or none, then one grid step of the clicked topic's interest."""
        rows = np.arange(len(action))
        drawn = philox.u01(streams.words(_BLOCK, t=state["t"], purpose=np.full(1, _STEP, dtype=np.uint32)))
        shown = SLATES[action]
        mass = _MASS[state["level"][rows[:, None], shown]]
        first = mass[:, 0]
        second = first + mass[:, 1]
        mark = drawn[:, 0] * (second + choice.NULL["mnl"])
        clicked = mark < second
        topic = shown[rows, ((mark >= first) & clicked).astype(np.int64)]
        level = state["level"].copy()
        felt = level[rows, topic]
        up = drawn[:, 1] < (GRID[felt] + 1.0) / 2.0
        moved = np.clip(felt + np.where(up, 1, -1), 0, LEVELS - 1)
        level[rows, topic] = np.where(clicked, moved, felt)
        watch = np.where(clicked, np.minimum(state["budget"], WATCH), 0).astype(np.float64)
        budget = np.maximum(state["budget"] - np.where(clicked, COST[topic], 1), 0)
        after = {"level": level, "budget": budget, "t": state["t"] + np.uint32(1)}
        cost = ((COST[shown] > WATCH).sum(axis=1) / SHOWN)[:, None]
        info = {"objectives": np.stack((watch, clicked.astype(np.float64)), axis=1), "cost": cost}
        reward = self.weights[0] * watch + self.weights[1] * clicked
        return after, _observe(after), reward, cost, budget <= 0, np.zeros(len(rows), np.bool_), info

    def draw(self, state: dict[str, Any]) -> Array:
        """Interests and what each slate is worth, see picture.py."""
        from rlaas_ray.envs.recommendation import picture  # noqa: PLC0415 - matplotlib is only for those who look

        worth = action_values()[int(state["budget"][0]), int(number(state["level"][:1])[0])]
        named = {f"{first}, {second}": float(one) for (first, second), one in zip(SLATES, worth, strict=True)}
        share = float(state["budget"][0]) / BUDGET
        return picture.draw_tiny(GRID[state["level"][0]], left_share=share, worth=named)


def number(level: I64) -> I64:
    """The number of a point of the grid, topic 0 the most significant. level (n, 4) below 5 -> (n,)."""
    found = level[:, 0]
    for topic in range(1, TOPICS):
        found = found * LEVELS + level[:, topic]
    return np.asarray(found, dtype=np.int64)


@functools.lru_cache(maxsize=1)
def action_values() -> F64:
    """Minutes still to be had by the best policy after each slate: (41 budgets, 625 states, 6 slates)."""
    return solve(None)[1]


def solve(policy: F64 | None) -> tuple[F64, F64]:
    """Values (41, 625) and action values (41, 625, 6) of a policy, or of the optimum for None.

    policy: probabilities (41, 625, 6), or (625, 6) where the budget does not matter.
    """
    values, found = np.zeros((BUDGET + 1, STATES)), np.zeros((BUDGET + 1, STATES, len(SLATES)))
    probability, up, above, below = _transitions()
    followed = None if policy is None else np.broadcast_to(policy, found.shape)
    for budget in range(1, BUDGET + 1):
        for slate in range(len(SLATES)):
            worth = probability[slate, -1] * values[budget - 1]
            for slot in range(SHOWN):
                topic = SLATES[slate, slot]
                then = values[max(budget - int(COST[topic]), 0)]
                hoped = up[topic] * then[above[topic]] + (1.0 - up[topic]) * then[below[topic]]
                worth = worth + probability[slate, slot] * (min(budget, WATCH) + hoped)
            found[budget, :, slate] = worth
        values[budget] = (
            found[budget].max(axis=1) if followed is None else (followed[budget] * found[budget]).sum(axis=1)
        )
    return values, found


def observations() -> F32:
    """What is seen at every budget and point of the grid, in the order of `solve`'s values: (41, 625, 5)."""
    seen = np.empty((BUDGET + 1, STATES, OBSERVATION), dtype=np.float32)
    seen[..., :TOPICS] = GRID[_levels()]
    seen[..., TOPICS] = (np.arange(BUDGET + 1) / BUDGET)[:, None]
    return seen


def myopic() -> I64:
    """The slate with the largest click mass at each of the 625 states, the first of equals."""
    mass = _MASS[_levels()]
    both = np.stack([mass[:, first] + mass[:, second] for first, second in SLATES], axis=1)
    return np.asarray(both.argmax(axis=1), dtype=np.int64)


_MASS: F64 = np.asarray([math.exp(one) for one in GRID])


def _levels() -> I64:
    return np.stack(np.unravel_index(np.arange(STATES), (LEVELS,) * TOPICS), axis=1)


def _transitions() -> tuple[F64, F64, I64, I64]:
    """P of each slot and of no click (6, 3, 625); per topic (4, 625) P of up, the state above and the state below."""
    level = _levels()
    mass = _MASS[level]
    probability = np.empty((len(SLATES), SHOWN + 1, STATES))
    for slate, (first, second) in enumerate(SLATES):
        total = mass[:, first] + mass[:, second] + choice.NULL["mnl"]
        probability[slate] = mass[:, first] / total, mass[:, second] / total, choice.NULL["mnl"] / total
    above, below = (np.empty((TOPICS, STATES), dtype=np.int64) for _ in range(2))
    for topic in range(TOPICS):
        for into, change in ((above, 1), (below, -1)):
            moved = level.copy()
            moved[:, topic] = np.clip(moved[:, topic] + change, 0, LEVELS - 1)
            into[topic] = number(moved)
    return probability, ((GRID[level] + 1.0) / 2.0).T.copy(), above, below


def _observe(state: dict[str, Any]) -> F32:
    seen = np.empty((len(state["budget"]), OBSERVATION), dtype=np.float32)
    seen[:, :TOPICS] = GRID[state["level"]]
    seen[:, TOPICS] = state["budget"] / BUDGET
    return seen
