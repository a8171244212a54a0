"""Baselines of the WordCount form: those of StreamParallelism, made for that dataflow."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rlaas_ray.envs.stream import baselines, references
from rlaas_ray.policies import builtin

QUERY = "wordcount"
POLICIES = {name: functools.partial(factory, query=QUERY) for name, factory in baselines.POLICIES.items()}
REFERENCES = {
    "oracle_lookahead": functools.partial(references.oracle, query=QUERY),
    "bound": functools.partial(references.bound, query=QUERY),
}
REFERENCE = baselines.REFERENCE
SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{mode: (mode, {}) for mode in ("balanced", "throughput", "latency", "cost", "lastream")},
    "downtime_1": ("balanced", {"downtime": 1.0}),
    "scale": ("balanced", {"action": "scale"}),
}


def card(_mode: str, config: Mapping[str, Any] | None = None) -> Mapping[str, builtin.Builtin]:
    """The policies of the card of one setting."""
    return baselines.card(_mode, config={**(config or {}), "query": QUERY})
