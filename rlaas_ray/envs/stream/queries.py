"""The seven dataflows of the table: Heron's WordCount and six Nexmark queries.

Called by document.py and tests. Topologies as in the examples of DS2's repository (strymon-system/ds2); q1's map is fitted to
published figures (usl.py), WordCount is the scenario of the DS2 paper (OSDI 2018), every other rate is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlaas_ray.envs.stream.graph import Dataflow, Edge, Operator, dataflow

MAP_RATE, MAP_SIGMA, MAP_KAPPA = 496_981.0, 0.03236, 0.0
_STATEFUL = (0.015, 5e-5)  # windows and joins
_STATELESS = (MAP_SIGMA, MAP_KAPPA)
_NO_LOSS = (0.0, 0.0)
_SINK = 2_000_000.0
_MINUTE = 60.0


def _source(name: str, rate: float) -> Operator:
    return Operator(name=name, rate=rate, source=True)


def _operator(name: str, rate: float, *, loss: tuple[float, float] = _STATEFUL) -> Operator:
    return Operator(name=name, rate=rate, sigma=loss[0], kappa=loss[1])


def _sink() -> Operator:
    return _operator("sink", _SINK, loss=_NO_LOSS)


def _flow(name: str, operators: Sequence[Operator], *ways: tuple[int, int, float]) -> Dataflow:
    edges = [Edge(source=source, target=target, selectivity=selectivity) for source, target, selectivity in ways]
    return dataflow(name, operators=operators, edges=edges)


QUERIES: Mapping[str, Dataflow] = {
    "wordcount": _flow(
        "wordcount",
        [
            _source("source", 1e6 / _MINUTE),
            _operator("flatmap", 1e5 / _MINUTE, loss=_NO_LOSS),
            _operator("count", 1e6 / _MINUTE, loss=_NO_LOSS),
        ],
        (0, 1, 1.0),
        (1, 2, 20.0),
    ),
    "q1": _flow(
        "q1", [_source("bids", 4e6), _operator("map", MAP_RATE, loss=_STATELESS), _sink()], (0, 1, 1.0), (1, 2, 1.0)
    ),
    "q2": _flow(
        "q2",
        [_source("bids", 4e6), _operator("filter", 560_000.0, loss=_STATELESS), _sink()],
        (0, 1, 1.0),
        (1, 2, 0.01),
    ),
    "q3": _flow(
        "q3",
        [
            _source("auctions", 800_000.0),
            _source("persons", 200_000.0),
            _operator("filter", 250_000.0, loss=_STATELESS),
            _operator("join", 80_000.0),
            _sink(),
        ],
        (0, 3, 1.0),
        (1, 2, 1.0),
        (2, 3, 0.25),
        (3, 4, 0.1),
    ),
    "q5": _flow("q5", [_source("bids", 80_000.0), _operator("window", 8_000.0), _sink()], (0, 1, 1.0), (1, 2, 0.02)),
    "q8": _flow(
        "q8",
        [_source("persons", 100_000.0), _source("auctions", 300_000.0), _operator("join", 60_000.0), _sink()],
        (0, 2, 1.0),
        (1, 2, 1.0),
        (2, 3, 0.2),
    ),
    "q11": _flow("q11", [_source("bids", 1e6), _operator("window", 80_000.0), _sink()], (0, 1, 1.0), (1, 2, 0.05)),
}
