"""Problem type `edge_placement`: pods of each service on each node for an hour of demand, as a pymoo problem.

Met by optimize/problems.py. Three objectives under constraints; every point is judged by the model's own routing and queues on
the same demand. Never moves a pod: a placement stands for the whole hour.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pymoo.core.problem import Problem

from rlaas_ray.envs import philox
from rlaas_ray.envs.edge import config, demand, model, moves
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64

OBJECTIVES: tuple[tuple[str, str, Literal["min", "max"]], ...] = (
    ("latency", "ms", "min"),
    ("spend", "1/h", "min"),
    ("balance", "1", "min"),
)
# Those of EdgePlacement without migration; "normal" is its "balanced".
MODES: Mapping[str, tuple[float, float, float]] = {
    "normal": config.MODES["balanced"][:3],
    "latency": config.MODES["latency"][:3],
    "cost": config.MODES["cost"][:3],
    "emergency": config.MODES["emergency"][:3],
}
SAMPLES = 12
_FILLS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# "tiny": one service on two nodes of three pods each, 16 placements in all
_SIZES: Mapping[str, Callable[[], model.Params]] = {
    "full": lambda: model.params(config.full()),
    "tiny": lambda: model.params(config.tiny(), process=demand.Chain()),
}


class EdgeStaticProblem(Problem):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """`edge_placement` for pymoo: x int (n, S N) in 0..16, service-major; numbers in between are rounded.

    Constraints, kept where <= 0: late requests over `late_limit`, then cores and GiB over each node's, as shares of them. The
    5 % that EdgePlacement allows is barely within reach of a placement that never moves (4.5 to 4.9 % was the least found).
    """

    MODES: ClassVar[Mapping[str, tuple[float, float, float]]] = MODES
    objectives = OBJECTIVES
    warm_start = True  # a random placement overfills every node

    def __init__(
        self,
        *,
        mode: str = "normal",
        size: str = "full",
        demand_seed: int = 0,
        samples: int = SAMPLES,
        late_limit: float = 0.1,
    ) -> None:
        if size not in _SIZES:
            raise InvalidInput(
                "size of problem edge_placement",
                given=size,
                expected=", ".join(_SIZES),
                cure=nearest(size, list(_SIZES)),
            )
        if mode not in MODES:
            raise InvalidInput(
                "mode of problem edge_placement", given=mode, expected=", ".join(MODES), cure=nearest(mode, list(MODES))
            )
        if not 1 <= samples <= 120:
            raise InvalidInput(
                "samples of problem edge_placement", given=samples, expected="1 to 120, steps of an hour"
            )
        if not 0.0 < late_limit <= 1.0:
            raise InvalidInput(
                "late_limit of problem edge_placement", given=late_limit, expected="a share above 0, at most 1"
            )
        self.late_limit = late_limit
        self.params = _SIZES[size]()
        self.weights = np.array(MODES[mode], dtype=np.float64)
        self.rate = hour(self.params, seed=demand_seed, samples=samples)
        services, nodes, _ = self.params.instance.shape
        whole = float((self.params.price * self.params.known.cpu_capacity).sum())
        self.box = (np.zeros(3), np.array([self.params.instance.timeout_ms, whole, 1.0]))
        super().__init__(
            n_var=services * nodes,
            n_obj=3,
            n_ieq_constr=1 + 2 * nodes,
            xl=0.0,
            xu=float(self.params.instance.pod_limit),
            vtype=int,
        )

    def judged(self, x: F64) -> tuple[F64, F64]:
        """Objectives (n, 3) and constraints (n, 1 + 2 N) of points (n, S N)."""
        pods = self.pods(x)
        p, count, samples = self.params, len(pods), self.rate.shape[2]
        held = moves.last(pods)  # (S, N, n)
        found = model.serve(p, run=np.repeat(held, samples, axis=2), rate=np.tile(self.rate, count))
        offered = model.total(found.offered, axis=0)
        latency = (model.total(found.latency, axis=0) / offered).reshape(count, samples).mean(axis=1)
        missed = (model.total(found.missed, axis=0) / offered).reshape(count, samples).mean(axis=1)
        spend, _, spread = model.resources(p, held)
        over = [
            moves.requested(held, request) / capacity[:, None] - 1.0
            for request, capacity in (
                (p.known.cpu, p.known.cpu_capacity),
                (p.known.memory, p.known.memory_capacity),
            )
        ]
        constraints = np.concatenate(((missed - self.late_limit)[None], *over))
        return np.stack((latency, spend, spread), axis=1), constraints.T.copy()

    def pods(self, x: F64) -> F64:
        """Whole pods (n, S, N) of points (n, S N). Raises InvalidInput for another width."""
        services, nodes, _ = self.params.instance.shape
        if x.ndim != 2 or x.shape[1] != services * nodes or not np.isfinite(x).all():
            raise InvalidInput(
                "variables of problem edge_placement", given=x.shape, expected=f"(n, {services * nodes}) finite numbers"
            )
        return np.rint(np.clip(x, 0.0, self.params.instance.pod_limit)).reshape(-1, services, nodes)

    def _evaluate(self, x: F64, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"], out["G"] = self.judged(np.asarray(x, dtype=np.float64))

    def anchors(self) -> dict[str, F64]:
        """Placements that an engineer would try first and that keep the constraints: nearest nodes filled; name -> (S N,)."""
        found: dict[str, F64] = {}
        for fill in _FILLS:
            x = self._nearest(fill).reshape(-1)
            _, constraints = self.judged(x[None])
            if (constraints <= 0.0).all():
                found[f"nearest {fill:.0%}"] = x
        return found

    def _nearest(self, fill: float) -> F64:
        """For each zone so many pods that its busiest sample fills them so far, on its nearest nodes; the least patient first."""
        p = self.params
        services, nodes, zones = p.instance.shape
        wanted = np.ceil(self.rate.max(axis=2) / (fill * p.rate[:, None])).astype(int)  # (S, Z)
        pods = np.zeros((services, nodes))
        free = np.stack((p.known.cpu_capacity, p.known.memory_capacity), axis=1)
        request = np.stack((p.known.cpu, p.known.memory), axis=1)
        for service in np.argsort([one.sla_ms for one in p.instance.services], kind="stable"):
            for turn, zone in itertools.product(range(int(wanted[service].max())), range(zones)):
                fits = (free >= request[service]).all(axis=1) & (pods[service] < p.instance.pod_limit)
                if turn < wanted[service, zone] and fits.any():
                    node = int(np.where(fits, p.rtt[zone], np.inf).argmin())
                    pods[service, node] += 1.0
                    free[node] -= request[service]
        return pods


def hour(params: model.Params, *, seed: int, samples: int) -> F64:
    """Demand (S, Z, samples) at even distances in one hour of the world `seed`."""
    streams = philox.streams(seed, num_envs=1)
    state, _, _ = model.reset_batch(params, streams)
    rates = []
    for step in range(1, params.instance.steps + 1):
        rates.append(state["rate"][0])
        state = state | {"t": np.array([step])}
        state |= params.demand.after(state, streams=streams)
    chosen = np.linspace(0, len(rates), samples, endpoint=False).astype(int)
    return np.ascontiguousarray(np.stack([rates[k] for k in chosen], axis=-1))
