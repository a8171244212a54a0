"""Baselines of StreamParallelism: POLICIES see the flat observation and can serve, REFERENCES see the trace.

Found through the entry-point group `rlaas.baselines` and through the catalogue. A policy takes the `query` and `action` of its
env: it must know the shape of the job that it scales. Nothing here learns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from rlaas_ray.envs.stream import autoscalers, references
from rlaas_ray.envs.stream.document import flow_of
from rlaas_ray.envs.stream.job import ACTIONS, DELTAS
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F64

QUERY = "q5"
_LEVELS = ACTIONS[0]
Factory = Callable[..., builtin.Builtin]


def random(*, query: str = QUERY, action: str = _LEVELS) -> builtin.Builtin:
    """Each count as probable: a restart at nearly every step."""
    flow = flow_of(query)
    choices = flow.max_parallelism if _form(action) == _LEVELS else len(DELTAS)
    return builtin.Uniform(head=heads.MultiCategorical(nvec=(choices,) * len(flow.tunable)))


def hold(*, query: str = QUERY, action: str = _LEVELS) -> builtin.Builtin:
    """What is there."""
    return autoscalers.Fixed(flow=flow_of(query), counts=None, form=_form(action))


def static_peak(*, query: str = QUERY, action: str = _LEVELS) -> builtin.Builtin:
    """The least counts that carry the nominal rate, set once."""
    flow = flow_of(query)
    return autoscalers.Fixed(flow=flow, counts=flow.peak(), form=_form(action))


def ds2(*, query: str = QUERY, action: str = _LEVELS, factor: float = 0.0) -> builtin.Builtin:
    """DS2 (Kalavri et al., OSDI 2018): rates, not lag. `factor` provisions so much more."""
    rule = functools.partial(autoscalers.ds2_rule, factor=factor)
    return autoscalers.Autoscaler(flow=flow_of(query), rule=rule, form=_form(action))


def ds2_catchup(*, query: str = QUERY, action: str = _LEVELS) -> builtin.Builtin:
    """DS2 that also drains the lag and leaves well alone."""
    return autoscalers.Autoscaler(flow=flow_of(query), rule=autoscalers.catch_up, form=_form(action))


def threshold(*, query: str = QUERY, action: str = _LEVELS, high: float = 0.8, low: float = 0.4) -> builtin.Builtin:
    """Each operator by its own busy share, as a horizontal autoscaler does."""
    rule = functools.partial(autoscalers.thresholds, high=high, low=low)
    return autoscalers.Autoscaler(flow=flow_of(query), rule=rule, form=_form(action))


def dhalion(*, query: str = QUERY, action: str = _LEVELS) -> builtin.Builtin:
    """After Dhalion (Floratou et al., VLDB 2017): by symptom, one operator at a time."""
    return autoscalers.Autoscaler(flow=flow_of(query), rule=autoscalers.dhalion, form=_form(action))


POLICIES: Mapping[str, Factory] = {
    "random": random,
    "hold": hold,
    "ds2": ds2,
    "dhalion": dhalion,
    "threshold": threshold,
    "ds2_catchup": ds2_catchup,
    "static_peak": static_peak,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {
    "oracle_lookahead": functools.partial(references.oracle, query=QUERY),
    "bound": functools.partial(references.bound, query=QUERY),
}
REFERENCE = "oracle_lookahead"
SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{mode: (mode, {}) for mode in ("balanced", "throughput", "latency", "cost", "lastream")},
    "downtime_1": ("balanced", {"downtime": 1.0}),
    "scale": ("balanced", {"action": "scale"}),
    **{query: ("balanced", {"query": query}) for query in ("q1", "q2", "q3", "q8", "q11")},
}


def card(_mode: str, config: Mapping[str, Any] | None = None) -> Mapping[str, builtin.Builtin]:
    """The policies of the card of one setting, made for its query."""
    told = {name: value for name, value in (config or {}).items() if name in {"query", "action"}}
    return {name: factory(**told) for name, factory in POLICIES.items()}


def _form(action: str) -> str:
    if action not in ACTIONS:
        raise InvalidInput("action", given=action, expected=", ".join(ACTIONS), cure=nearest(action, list(ACTIONS)))
    return action
