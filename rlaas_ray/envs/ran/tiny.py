"""The tiny network: one site, three sectors, twelve users, eight steps, no chance and no memory; small enough to enumerate.

Called by env.py, by tests that ask an optimizer for the exact front, and by the tiny baselines. All 729 actions at all 8
steps are evaluated once in float64; a step is a lookup.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.ran import measures, radio
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

CELLS, USERS, STEPS, CHOICES = 3, 12, 8, 9
ACTIONS = CHOICES**CELLS
POWERS_DBM = (30.0, 40.0, 46.0)
TILTS_DEG = (4.0, 8.0, 12.0)
PROFILE = (0.2, 0.4, 0.8, 1.2, 1.0, 0.6, 0.3, 0.1)
OBSERVATION = STEPS + 2 + 4
_PASSES = 30
_P95 = 10  # floor(0.95 * 12) - 1 counts from 0: the 11th smallest


class Tiny:
    """The domain (vector.Domain): MultiDiscrete([9, 9, 9]); sees step one-hot, profile, start flag, last objectives."""

    reported = ("objectives", "normalised", "cost")

    def __init__(self, *, mode: str | None = None, weights: modes.Given | None = None) -> None:
        self.weights = measures.weights_of("normal" if mode is None else mode, weights=weights)
        self.objectives, self.metadata = measures.OBJECTIVES, measures.METADATA
        self.observation_space = gymnasium.spaces.Box(-4.0, 12.0, (OBSERVATION,), np.float32)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.MultiDiscrete([CHOICES] * CELLS)

    def check(self, action: Any) -> Array:
        """Int64 (B, 3) below 9."""
        given = np.asarray(action)
        whole = given.ndim == 2 and given.shape[1] == CELLS and given.dtype.kind in "iu"
        if not whole or (given < 0).any() or (given >= CHOICES).any():
            raise InvalidInput(
                "action of RanControl-tiny",
                given=given.tolist() if given.size <= 2 * CELLS else given.shape,
                expected="(B, 3) ints from 0 to 8",
                cure="Index k sets power (30, 40, 46)[k // 3] dBm and tilt (4, 8, 12)[k % 3] degrees.",
            )
        return given.astype(np.int64)

    def reset(self, streams: philox.Streams) -> tuple[dict[str, Any], Array, dict[str, Any]]:
        """Step 0; no network has been seen yet, so the last objectives are zero."""
        step = np.zeros(len(streams.seed), np.int64)
        zero = np.zeros((len(step), 4))
        info: dict[str, Any] = {"objectives": zero, "normalised": zero, "cost": zero}
        return {"step": step}, _observe(step, normalised=zero), info

    def step(
        self, state: dict[str, Any], action: Any, *, streams: philox.Streams
    ) -> tuple[dict[str, Any], Array, F64, F64, Bool, Bool, dict[str, Any]]:
        """A lookup; truncated after the eighth step."""
        raw, normalised, costs = table()
        step: I64 = state["step"]
        number = (action[:, 0] * CHOICES + action[:, 1]) * CHOICES + action[:, 2]
        now = step % STEPS
        reached = normalised[now, number]
        reward = sum(
            weight * reached[:, k] for k, weight in enumerate(self.weights)
        )  # a product would depend on the batch
        cost, ended = costs[now, number], np.zeros(len(step), np.bool_)
        info: dict[str, Any] = {"objectives": raw[now, number], "normalised": reached, "cost": cost}
        after = step + 1
        return {"step": after}, _observe(after, normalised=reached), reward, cost, ended, after >= STEPS, info

    def draw(self, state: dict[str, Any]) -> Array:
        """What each action of this step reaches, see picture.py."""
        from rlaas_ray.envs.ran import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw_tiny(state, normalised=table()[1])


@functools.lru_cache(maxsize=1)
def table() -> tuple[F64, F64, F64]:
    """Objectives, normalised objectives and costs, each (8 steps, 729 actions, 4)."""
    choice = np.stack(np.unravel_index(np.arange(ACTIONS), (CHOICES,) * CELLS), axis=1)
    results = [evaluate(choice, step=step) for step in range(STEPS)]
    return tuple(np.stack([result[k] for result in results]) for k in range(3))  # type: ignore[return-value]


def evaluate(choice: I64, *, step: int) -> tuple[F64, F64, F64]:
    """Objectives, normalised, costs (n, 4) of actions (n, 3) at one step, computed and not looked up."""
    count = len(choice)
    user, cell = np.arange(USERS), np.arange(CELLS)
    power, tilt = np.asarray(POWERS_DBM)[choice // 3], np.asarray(TILTS_DEG)[choice % 3]
    active = choice >= 3
    theta = 2.0 + ((3 * user) % 10).astype(np.float64)
    base = np.where(
        cell[:, None] == user % CELLS, -(112.0 + 2.0 * user), -(120.0 + (5 * user + 7 * cell[:, None]) % 17)
    )
    received = power[:, :, None] + base - radio.vertical_db(theta, tilt[:, :, None])
    received = np.where(active[:, :, None], received, -300.0)
    serving = np.argmax(received, axis=1)
    mw = 10.0 ** (received / 10.0)
    row = np.arange(count)[:, None]
    own = mw[row, serving, user]
    mw[row, serving, user] = 0.0
    demand = np.broadcast_to(1.5 * (1.0 + user % 4) * PROFILE[step], (count, USERS))
    bins = (row * CELLS + serving).ravel()
    loading = radio.couple_load(
        mw, own, demand=demand, bins=bins, active=active, load=np.where(active, 0.5, 0.0), passes=_PASSES
    )
    wanted = loading.wanted.ravel()
    airtime = radio.fair_airtime(
        loading.rate.ravel(), loading.cap.ravel(), bins=bins, wanted=wanted, fairness=np.ones(len(wanted))
    ).reshape(own.shape)
    slack = np.maximum(1.0 - wanted, 0.0)[bins].reshape(own.shape)
    served = loading.rate * airtime
    p95 = np.sort(radio.latency_s(loading.rate, airtime, slack=slack), axis=1)[:, _P95]
    energy = radio.cell_power_w(power, loading.load, asleep=~active).sum(axis=1)
    content = (served >= 0.95 * demand - 1e-12).mean(axis=1)
    raw = np.stack((p95, served.sum(axis=1), energy, content), axis=1)
    sleep_w, full_w = CELLS * radio.CELL_SLEEP_W, CELLS * radio.CELL_MAX_W
    saved = 1.0 - (energy - sleep_w) / (full_w - sleep_w)
    carried = served.sum(axis=1) / demand.sum(axis=1)
    normalised = np.stack((measures.latency_score(p95), carried, saved, content), axis=1)
    uncovered = (loading.sinr < 10.0**-0.6).mean(axis=1)
    cost = np.stack((uncovered, np.maximum(p95 - 1.0, 0.0), np.zeros(count), np.zeros(count)), axis=1)
    return raw, normalised, cost


def _observe(step: I64, *, normalised: F64) -> Array:
    seen = np.zeros((len(step), OBSERVATION), np.float32)
    inside = step < STEPS
    seen[np.flatnonzero(inside), step[inside]] = 1.0
    seen[:, STEPS] = np.asarray((*PROFILE, 0.0))[np.minimum(step, STEPS)]
    seen[:, STEPS + 1] = step == 0
    seen[:, STEPS + 2 :] = normalised
    return seen
