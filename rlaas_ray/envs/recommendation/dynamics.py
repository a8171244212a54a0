"""Interest evolution: a user with 200 minutes meets slates of 3 out of 10 documents; a click moves interests and the time left.

Called by env.py. Re-derived from the parameters of RecSim's environment of that name (google-research/recsim,
interest_evolution.py; Ie et al. 2019, arXiv 1905.12767). Knows no framework; all chance comes from philox.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.recommendation import choice, metrics
from rlaas_ray.specs.arrays import F32, F64, I64, U32, Bool

TOPICS = 20
BUDGET_MIN, LENGTH_MIN, NO_CLICK_MIN = 200.0, 4.0, 0.5
QUALITY_SCALE = 3.4
GAIN = 0.9 / QUALITY_SCALE  # minutes won back a minute watched and unit of quality
INTEREST_STEP, QUALITY_SD = 0.3, 0.1
MAX_STEPS = 400  # a safety: sessions last 60 to 140 steps
TRASHY_BELOW = -1.5  # of a topic's mean quality
# Published: 14 values on [-3, 0], then 6 on [0, 3], both ends included.
MEANS: F64 = np.concatenate((np.linspace(-3.0, 0.0, 14), np.linspace(0.0, 3.0, 6)))
BUDGET, TOPIC, QUALITY = TOPICS, TOPICS + 1, TOPICS + 1 + choice.CANDIDATES * TOPICS
OBSERVATION = QUALITY + choice.CANDIDATES

_RESET, _STEP = 1, 2  # purposes of the generator
# Words of a block: 10 topics, 10 of the qualities' normals, then one each; a reset has 20 interests behind the candidates.
_NORMALS, _CHOICE, _DIRECTION, _CONVERSION = 10, 20, 21, 22
_STEP_BLOCKS: U32 = np.arange(6, dtype=np.uint32)
_RESET_BLOCKS: U32 = np.arange(10, dtype=np.uint32)
State = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`weights` of ctr, cvr, diversity, or None where the reward is minutes; what is seen; whether clicks may convert."""

    weights: tuple[float, ...] | None = None
    choice: str = "mnl"
    observe_quality: bool = True
    observe_interests: bool = True
    conversion: bool = True


def reset_batch(params: Params, streams: philox.Streams) -> tuple[State, F32, dict[str, Any]]:
    """New users with interests uniform on (-1, 1), their whole budget and the first ten candidates."""
    count = len(streams.seed)
    now = np.zeros(count, dtype=np.uint32)
    drawn = philox.u01(streams.words(_RESET_BLOCKS, t=now, purpose=np.full(len(_RESET_BLOCKS), _RESET, np.uint32)))
    topic, quality = _candidates(drawn)
    state = {
        "interests": 2.0 * drawn[:, 20 : 20 + TOPICS] - 1.0,
        "budget": np.full(count, BUDGET_MIN),
        "topic": topic,
        "quality": quality,
        "response": np.full(count, -1, dtype=np.int64),  # topic of the last click
        "t": now,
    }
    none = np.zeros(count)
    info = {
        "objectives": np.zeros((count, len(metrics.NAMES))),
        "cost": np.zeros((count, len(metrics.COSTS))),
        "clicked": np.full(count, -1, dtype=np.int64),
        "watch": none,
        "converted": none,
        "ild": none,
        "propensity_of_click": none,
        "repaired": np.zeros(count, dtype=np.int64),
    }
    return state, observe(params, state), info


def step_batch(  # noqa: PLR0917 - the shape that all domains share
    params: Params, state: State, shown: I64, streams: philox.Streams
) -> tuple[State, F32, F64, F64, Bool, Bool, dict[str, Any]]:
    """Show slates (B, 3) of candidates; the user answers. The next candidates are drawn here, so that the observation is whole.

    Interests move by the clicked topic's value before the step; the budget by the document's quality, not its topic's mean.
    """
    rows = np.arange(len(shown))
    drawn = philox.u01(
        streams.words(_STEP_BLOCKS, t=state["t"], purpose=np.full(len(_STEP_BLOCKS), _STEP, dtype=np.uint32))
    )
    topic = state["topic"][rows[:, None], shown]
    interest = state["interests"][rows[:, None], topic]
    weight = choice.mass(interest, rule=params.choice)
    response = choice.choose(weight, rule=params.choice, uniform=drawn[:, _CHOICE])
    clicked = response.slot >= 0
    slot = np.maximum(response.slot, 0)
    one, felt = topic[rows, slot], interest[rows, slot]
    quality = state["quality"][rows, shown[rows, slot]]
    watch = np.where(clicked, np.minimum(state["budget"], LENGTH_MIN), 0.0)
    spent = np.where(clicked, watch - GAIN * watch * quality, NO_CLICK_MIN)
    interests = state["interests"].copy()
    interests[rows, one] = np.where(clicked, evolve(felt, uniform=drawn[:, _DIRECTION]), felt)
    candidates, qualities = _candidates(drawn)
    after = {
        "interests": interests,
        "budget": state["budget"] - spent,
        "topic": candidates,
        "quality": qualities,
        "response": np.where(clicked, one, -1),
        "t": state["t"] + np.uint32(1),
    }
    converted = np.zeros(len(rows))
    if params.conversion:
        converted[:] = clicked & (drawn[:, _CONVERSION] < metrics.conversion(felt, quality))
    info = _told(topic, response=response, watch=watch, converted=converted)
    reward = watch if params.weights is None else _weighted(info["objectives"], weights=params.weights)
    ended = after["budget"] <= 0.0
    cut = ~ended & (after["t"] >= MAX_STEPS)
    return after, observe(params, after), reward, info["cost"], ended, cut, info


def evolve(interest: F64, *, uniform: F64) -> F64:
    """Interest in the clicked topic after the click: with probability (I + 1)/2 up, else down, by 0.3 (1 - |I|)(1 - I)."""
    step = INTEREST_STEP * (1.0 - np.abs(interest)) * (1.0 - interest)
    moved = np.where(uniform < (interest + 1.0) / 2.0, interest + step, interest - step)
    return np.clip(moved, -1.0, 1.0)


def observe(params: Params, state: State) -> F32:
    """(B, 231): interests or the last click's topic (20), budget/200, candidates' topics one-hot (10 x 20), quality/3.4 (10)."""
    topic, rows = state["topic"], np.arange(len(state["topic"]))
    seen = np.zeros((len(topic), OBSERVATION), dtype=np.float32)
    if params.observe_interests:
        seen[:, :BUDGET] = state["interests"]
    else:
        answered = np.flatnonzero(state["response"] >= 0)
        seen[answered, state["response"][answered]] = 1.0
    seen[:, BUDGET] = state["budget"] / BUDGET_MIN
    seen[rows[:, None], _ONE_HOT + topic] = 1.0
    if params.observe_quality:
        seen[:, QUALITY:] = state["quality"] / QUALITY_SCALE
    return seen


_ONE_HOT: I64 = TOPIC + TOPICS * np.arange(choice.CANDIDATES, dtype=np.int64)


def _candidates(drawn: F64) -> tuple[I64, F64]:
    topic = (drawn[:, :_NORMALS] * TOPICS).astype(np.int64)
    return topic, MEANS[topic] + QUALITY_SD * philox.normals(drawn[:, _NORMALS:_CHOICE])


def _told(topic: I64, *, response: choice.Response, watch: F64, converted: F64) -> dict[str, Any]:
    diverse = metrics.diversity(topic)
    trashy = _TRASHY[topic[:, 0]] + _TRASHY[topic[:, 1]] + _TRASHY[topic[:, 2]]
    clicked = (response.slot >= 0).astype(np.float64)
    return {
        "objectives": np.stack((clicked, converted, diverse), axis=1),
        "cost": np.stack((trashy / choice.SHOWN, 1.0 - diverse), axis=1),
        "clicked": response.slot,
        "watch": watch,
        "converted": converted,
        "ild": diverse,
        "propensity_of_click": response.click,
    }


_TRASHY: F64 = (MEANS < TRASHY_BELOW).astype(np.float64)


def _weighted(objectives: F64, *, weights: tuple[float, ...]) -> F64:
    reward = weights[0] * objectives[:, 0]
    for k in range(1, len(weights)):  # a matrix product would depend on the batch
        reward = reward + weights[k] * objectives[:, k]
    return np.asarray(reward, dtype=np.float64)
