"""StreamParallelism-v1 and its WordCount form: which dataflow, seen how.

Called by the registry. Decides nothing about streams.
"""

from __future__ import annotations

from typing import Any

from rlaas_ray.envs import vector
from rlaas_ray.envs.stream.document import flow_of
from rlaas_ray.envs.stream.job import GraphParallelism, StreamParallelism
from rlaas_ray.envs.stream.mixed import Mixed
from rlaas_ray.errors import InvalidInput, NotBuilt

MIXED = "mixed"
SIMULATOR, FLINK = "simulator", "flink"


def domain(*, query: str = "q5", graph_obs: bool = False, backend: str = SIMULATOR, **options: Any) -> vector.Domain:
    """The domain of a configuration: query, graph_obs, and mode, weights, trace, downtime, skew, action, max_total.

    A real engine is another Domain behind the same spaces: its `step` would rescale a running job and read its metrics.
    """
    if backend == FLINK:
        raise NotBuilt(
            "backend='flink', a real Apache Flink job",
            given=backend,
            expected=SIMULATOR,
            cure="Leave backend out and simulate with downtime=3, what a restart took on a local Flink.",
        )
    if backend != SIMULATOR:
        raise InvalidInput("backend", given=backend, expected=f"{SIMULATOR} or {FLINK}", cure="Leave it out.")
    if query == MIXED:
        return Mixed(**options)
    flow = flow_of(query)
    return GraphParallelism(flow, **options) if graph_obs else StreamParallelism(flow, **options)


def wordcount(**options: Any) -> vector.Domain:
    """Heron's WordCount (optimum 10 and 20 at the nominal rate); options as of `domain`."""
    return domain(**{"query": "wordcount", **options})
