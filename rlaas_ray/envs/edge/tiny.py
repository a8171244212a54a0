"""The tiny instance as a Markov chain of 330 states, and its exact optimum by backward induction.

Called by env.py for the state's index, by the tiny baselines and by tests. Its tables are made by the model itself, on every
state and action; only the demand's two draws are replaced by their probabilities.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs.edge import config, demand, model, moves
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

State = dict[str, Any]
PODS = 3  # at most on a node
LANDING = 5  # what lands next step: nothing, +0, +1, 0 to 1, 1 to 0
CONFIGURATIONS = 55
DEMANDS = 6
STATES = DEMANDS * CONFIGURATIONS
ACTIONS = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """reward, allowed (330, 7); after (330, 7) the next configuration, 0 to 54; draws (6, 6) of the demand."""

    reward: F64
    allowed: Bool
    after: I64
    draws: F64
    start: int
    steps: int

    def follow(self, values: F64) -> F64:
        """E[V(next)] (330, 7), of V (330,)."""
        expected = self.draws @ values.reshape(DEMANDS, CONFIGURATIONS)  # (6 from, 55)
        wide = np.repeat(expected, CONFIGURATIONS, axis=0)
        return np.take_along_axis(wide, self.after, axis=1)


def configurations() -> list[tuple[int, int, int]]:
    """(pods of node 0, of node 1, what lands) in the order of the index; at least one pod, room for what lands."""
    found = []
    for zero, one, landing in itertools.product(range(PODS + 1), range(PODS + 1), range(LANDING)):
        to_zero, to_one = landing in {1, 4}, landing in {2, 3}
        from_there = (landing != 3 or zero > 0) and (landing != 4 or one > 0)
        if zero + one > 0 and zero + to_zero <= PODS and one + to_one <= PODS and from_there:
            found.append((zero, one, landing))
    return found


def index(state: State) -> I64:
    """The state's number (B,): (level, crowd) major, configuration minor."""
    run, starting = state["run"], state["starting"][:, 0]
    zero, one = run[:, 0, 0].astype(np.int64), run[:, 0, 1].astype(np.int64)
    to_one = starting[:, 1] > 0.0
    moved = state["leaving"][:, 0].max(axis=1) > 0.0
    landing = np.where(starting.max(axis=1) > 0.0, np.where(moved, 3 + ~to_one, 1 + to_one), 0)
    return np.asarray(
        (state["level"] * 2 + state["crowd"]) * CONFIGURATIONS + _numbers()[zero, one, landing], dtype=np.int64
    )


def states(params: model.Params) -> State:
    """All 330 states as one batch."""
    known = configurations()
    pairs = list(itertools.product(range(3), range(2)))
    count = len(pairs) * len(known)
    run = np.zeros((count, 1, 2))
    pend, leave = np.zeros((count, 2, 1, 2), np.int8), np.zeros((count, 2, 1, 2), np.int8)
    demands = np.repeat(np.asarray(pairs, np.int64), len(known), axis=0)
    for row in range(count):
        zero, one, landing = known[row % len(known)]
        run[row, 0] = zero, one
        if landing:
            pend[row, 0, 0, int(landing in {2, 3})] = 1
        if landing >= 3:
            leave[row, 0, 0, landing - 3] = 1
    state: State = {
        "t": np.zeros(count, np.int64),
        "run": run,
        "starting": pend[:, 0].astype(np.float64),
        "leaving": leave[:, 0].astype(np.float64),
        "pend": pend,
        "leave": leave,
        "cache": np.full(run.shape, fill_value=True),
        "utilisation": np.zeros(run.shape),
        "level": demands[:, 0],
        "crowd": demands[:, 1],
        "rate": demand.chain_rate(demands[:, 0], demands[:, 1]),
    }
    state["before"] = state["rate"]
    state["mask"] = moves.mask(params.known, state)
    return state


@functools.cache
def chain(mode: str = "balanced") -> Chain:
    """The model of the chain in a mode."""
    instance = config.tiny()
    params = model.params(instance, mode=mode, process=demand.Chain())
    every = states(params)
    reward, after = np.empty((STATES, ACTIONS)), np.empty((STATES, ACTIONS), np.int64)
    for action in range(ACTIONS):
        landed, reward[:, action], _ = model.work(params, every, action=np.full(STATES, action, np.int64))
        after[:, action] = index(landed) % CONFIGURATIONS
    level, flip = np.asarray(demand.LEVEL_ROWS), demand.FLIP
    crowd = np.array([[1.0 - flip, flip], [flip, 1.0 - flip]])
    (zero, one), first = instance.start[0], 0
    return Chain(
        reward=reward,
        allowed=every["mask"] > 0,
        after=after,
        draws=np.kron(level, crowd),
        start=first * CONFIGURATIONS + int(_numbers()[zero, one, 0]),
        steps=instance.steps,
    )


@functools.cache
def optimum(mode: str = "balanced") -> tuple[float, I64]:
    """The best expected return of an episode, and the best action of each step and state (60, 330)."""
    known = chain(mode)
    values, plan = np.zeros(STATES), np.empty((known.steps, STATES), np.int64)
    for step in reversed(range(known.steps)):
        worth = np.where(known.allowed, known.reward + known.follow(values), -np.inf)
        plan[step], values = worth.argmax(axis=1), worth.max(axis=1)
    return float(values[known.start]), plan


def expected(probabilities: F64, *, mode: str = "balanced") -> float:
    """The expected return of a stationary policy, probabilities (330, 7) over allowed actions. Exact."""
    known = chain(mode)
    values = np.zeros(STATES)
    for _ in range(known.steps):
        values = (probabilities * (known.reward + known.follow(values))).sum(axis=1)
    return float(values[known.start])


def stationary(*, mode: str = "balanced", discount: float = 0.95) -> I64:
    """The greedy action of each state by value iteration."""
    known = chain(mode)
    values = np.zeros(STATES)
    while True:
        worth = np.where(known.allowed, known.reward + discount * known.follow(values), -np.inf)
        better = worth.max(axis=1)
        if np.abs(better - values).max() < 1e-10:
            return np.asarray(worth.argmax(axis=1), dtype=np.int64)
        values = better


@functools.cache
def _numbers() -> Array:
    found = np.full((PODS + 1, PODS + 1, LANDING), -1, np.int64)
    for number, entry in enumerate(configurations()):
        found[entry] = number
    return found
