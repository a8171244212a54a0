"""Edge placement on a live Kubernetes cluster: the simulator's spaces, B = 1, steps that last as long as they say.

Made by a user, or by name as `rlaas_ray.live.edge:LiveEdgePlacement`. Without `apply=True` every patch is a dry run. Never
makes up a figure: what is not measured ends the step as InvalidStep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray import errors
from rlaas_ray.envs.edge import config, env, macro, model, moves, observation
from rlaas_ray.live import guards, kubernetes, metrics
from rlaas_ray.live.environment import WallClock
from rlaas_ray.live.metrics import InvalidStep, MetricsSource, Reading
from rlaas_ray.live.placement import Outcome, Placement, Sight
from rlaas_ray.specs.arrays import F64, Array
from rlaas_ray.specs.seams import Clock

POLL_S = 5.0  # how often a move is looked at
_GIB = 2.0**30
_CLUSTER = ("namespace", "context", "kubeconfig", "allow_namespace")


class LiveEdgePlacement(gymnasium.Env[Any, Any]):
    """One live cluster as an environment.

    `cluster`: namespace, and context and kubeconfig unless this runs in the cluster; `metrics`: a MetricsSource or its
    configuration (see metrics.source_of); `instance`: nodes and services as in config.Instance, the full one by default;
    `zones`: what the metrics call the zones. `options`: mode, weights, routing, action (discrete or multi), as in the simulator.
    """

    def __init__(
        self,
        *,
        cluster: Mapping[str, Any],
        metrics: Mapping[str, Any] | MetricsSource,
        apply: bool = False,
        instance: config.Instance | Mapping[str, Any] | None = None,
        zones: Sequence[str] | None = None,
        mask_in_obs: bool = True,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        made = instance_of(instance)
        if options.get("action") == "replicas":
            raise errors.NotBuilt(
                "action=replicas on a live cluster",
                expected="at most one operation of a service in a step",
                cure="Use action=discrete or multi.",
            )
        self.domain = env.EdgePlacement(model.params(made, **options), mask_in_obs=mask_in_obs)
        self.observation_space, self.action_space = self.domain.observation_space, self.domain.action_space
        # `live`: nobody but the user may step it; the registry does not try it out.
        self.metadata = {"render_modes": [], "objectives": config.OBJECTIVES, "live": True, **model.metadata()}
        self._cluster = _cluster_of(cluster)
        self._apply, self._clock = apply, clock or WallClock()
        self._limits = guards.Limits(period_s=made.dt_s, pods_per_node=made.pod_limit)
        self._metrics = _source(metrics, instance=made, zones=zones, namespace=self._cluster["namespace"])
        self._api: Any = None
        self._placement: Placement | None = None
        self._state: dict[str, Any] = {}
        self._operations: dict[int, guards.Operation] = _operations(made)

    @property
    def dry_run(self) -> bool:
        """Whether patches are only checked by the server, not carried out."""
        return not self._apply

    @property
    def placement(self) -> Placement:
        """The pods; connects on first use and sees that cluster and instance are alike."""
        if self._placement is None:
            self._api = kubernetes.connect(context=self._cluster["context"], kubeconfig=self._cluster["kubeconfig"])
            cluster = kubernetes.Cluster(
                self._api,
                namespace=self._cluster["namespace"],
                clock=self._clock,
                limits=self._limits,
                apply=self._apply,
            )
            instance = self.domain.params.instance
            made = Placement(cluster, instance=instance, limits=self._limits, clock=self._clock)
            made.admit()
            self._placement = made
        return self._placement

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Count the steps anew. Changes nothing in the cluster: an episode starts with the pods that are there."""
        super().reset(seed=seed)
        sight, reading = self.placement.look(), self._metrics.read()
        self._state = self._seen(sight, reading=reading, before=reading.demand, t=0)
        return self._told(), self._info(outcomes=[], reading=reading)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act, wait for the end of the period while moves are seen through, measure.

        Raises InvalidInput for an action that is none, InvalidStep when the cluster or a metric does not answer; the next
        step can be tried.
        """
        if not self._state:
            raise errors.Conflict("the environment has not been reset", cure="Call reset() first.")
        given = self.domain.check(np.asarray(action)[None])
        placement, before = self.placement, self._state
        try:
            sight = placement.look()
            outcomes = [self._acted(wanted, sight=sight) for wanted in self._wanted(given, sight=sight)]
            # The period counts from the last patch on, so that each service is free again when it is over.
            until_s = self._clock.monotonic_s() + self._limits.period_s
            sight = placement.look()  # of the period: what is removed is gone, what is started holds its requests
            self._wait(until_s=until_s)
            reading = self._metrics.read()
            self._state = self._seen(
                placement.look(), reading=reading, before=before["rate"][0], t=int(before["t"][0]) + 1
            )
        except InvalidStep:
            raise
        except errors.RlaasError as error:
            raise InvalidStep("step of a live cluster", given=error.detail, cure=error.cure) from error
        self._state["utilisation"] = self._utilisation(sight, reading=reading)
        reward, info = self._outcome(sight, outcomes=outcomes, reading=reading)
        return self._told(), reward, False, bool(self._state["t"][0] >= self.domain.params.instance.steps), info

    def action_masks(self) -> Array:
        """Int8 (A,): what the simulator's mask and the guards allow now; all zero but the first after an alarm."""
        mask: Array = self._state["mask"][0]
        return mask

    @property
    def demand(self) -> F64:
        """Requests a second as last measured, (S, Z)."""
        rate: F64 = self._state["rate"][0]
        return rate

    def usage(self) -> tuple[F64, F64]:
        """Cores and GiB in use, (S, N) each, by the metrics API; NaN where a pod is too young for a figure."""
        told, sight = self.placement.cluster.usage(), self.placement.look()
        cores, gib = np.zeros(sight.replicas.shape), np.zeros(sight.replicas.shape)
        for at, pods in sight.pods.items():
            figures = [told.get(pod.name, (np.nan, np.nan)) for pod in pods]
            cores[at], gib[at] = sum(cpu for cpu, _ in figures), sum(memory for _, memory in figures) / _GIB
        return cores, gib

    def close(self) -> None:
        """Let go of the connections. Moves that are under way keep both pods."""
        if self._api is not None:
            self._api.rest_client.pool_manager.clear()

    def _wanted(self, action: Array, *, sight: Sight) -> list[guards.Operation | None]:
        """The operations that an action asks for; None is one that the mask does not allow."""
        if self.domain.params.action == "discrete":
            number = int(action[0])
            if not self._state["mask"][0, number]:
                return [None]
            return [self._operations[number]] if number else []
        before = self._state | self._counted(sight, t=0)
        after = {name: value.copy() for name, value in before.items()}
        _, refused = macro.act(self.domain.params, after, action=action)
        return [*_difference(before, after), *([None] if refused[0] else [])]

    def _acted(self, wanted: guards.Operation | None, *, sight: Sight) -> Outcome:
        if wanted is None:
            return Outcome((), refused="the mask does not allow it")
        return self.placement.act(wanted, sight=sight)

    def _wait(self, *, until_s: float) -> None:
        while (left := until_s - self._clock.monotonic_s()) > 1e-6:
            self._clock.sleep(min(POLL_S, left) if self.placement.moves else left)
            self.placement.see_through()

    def _counted(self, sight: Sight, *, t: int) -> dict[str, Any]:
        """Pods as the simulator's state holds them; nobody knows when a start will be over, so all wait in the first slot."""
        instance, counts = self.domain.params.instance, sight.counts
        waiting = np.zeros((2, 1, instance.slots, *sight.replicas.shape), np.int8)
        waiting[0, 0, 0], waiting[1, 0, 0] = counts.starting, counts.leaving
        return {
            "t": np.asarray([t], np.int64),
            "run": counts.ready[None].astype(np.float64),
            "starting": counts.starting[None].astype(np.float64),
            "leaving": counts.leaving[None].astype(np.float64),
            "pend": waiting[0],
            "leave": waiting[1],
        }

    def _seen(self, sight: Sight, *, reading: Reading, before: F64, t: int) -> dict[str, Any]:
        usable, cached = self.placement.nodes(sight)
        state = self._counted(sight, t=t)
        state |= {"rate": reading.demand[None], "before": before[None], "cache": cached[None]}
        state["utilisation"] = np.zeros(state["run"].shape)
        state["mask"] = moves.mask(self.domain.params.known, state)
        for number, operation in self._operations.items():
            away = operation.target is not None and not usable[operation.target]
            if state["mask"][0, number] and (away or self.placement.refusal(operation, counts=sight.counts)):
                state["mask"][0, number] = 0
        return state

    def _utilisation(self, sight: Sight, *, reading: Reading) -> F64:
        """Load of the ready pods under the measured demand, (1, S, N): routed as the model routes, for nobody measures it."""
        p, run = self.domain.params, sight.counts.ready[..., None].astype(np.float64)
        load = model.serve(p, run=run, rate=reading.demand[..., None]).load
        return np.asarray((load / np.where(run > 0.0, run * p.rate[:, None, None], 1.0))[..., 0][None])

    def _outcome(self, sight: Sight, *, outcomes: Sequence[Outcome], reading: Reading) -> tuple[float, dict[str, Any]]:
        p, held = self.domain.params, sight.replicas[..., None].astype(np.float64)
        offered = reading.demand.sum(axis=1)
        share = offered / max(float(offered.sum()), 1e-12)
        latency = float((reading.latency_ms * share).sum())
        spend, used, spread = (float(one[0]) for one in model.resources(p, held))
        migration = sum(_migration(outcome) for outcome in outcomes)
        parts = (latency / p.instance.reference_ms, used, spread, migration)
        info = self._info(outcomes=outcomes, reading=reading)
        info["objectives"] = np.asarray([latency, spend, spread, migration])
        info["cost"] = np.asarray([float((reading.violation * share).sum())])
        return -sum(weight * part for weight, part in zip(p.weights, parts, strict=True)), info

    def _info(self, *, outcomes: Sequence[Outcome], reading: Reading) -> dict[str, Any]:
        refused = [outcome.refused for outcome in outcomes if outcome.refused is not None]
        info: dict[str, Any] = {
            "objectives": np.zeros(len(config.OBJECTIVES)),
            "cost": np.zeros(1),
            "invalid": bool(refused),
            "refused": refused,
            "latency_by_service": reading.latency_ms.copy(),
            "patches": [dataclasses.asdict(patch) for outcome in outcomes for patch in outcome.patches],
            "dry_run": self.dry_run,
            "alarm": self.placement.cluster.failures.stopped,
        }
        return info | ({"action_mask": self.action_masks()} if self.domain.params.action == "discrete" else {})

    def _told(self) -> Any:
        seen = observation.observe(self.domain.params, self._state)[0]
        if isinstance(self.observation_space, gymnasium.spaces.Dict):
            return {"observations": seen, "action_mask": self.action_masks()}
        return seen


def instance_of(given: config.Instance | Mapping[str, Any] | None) -> config.Instance:
    """The full instance, the one given, or one of a mapping with `nodes`, `services` and what else config.Instance has."""
    if given is None:
        return config.full()
    if isinstance(given, config.Instance):
        return given
    known = {field.name for field in dataclasses.fields(config.Instance)}
    try:
        nodes = tuple(config.Node(**{**node, "rtt_ms": tuple(node["rtt_ms"])}) for node in given["nodes"])
        services = tuple(config.Service(**service) for service in given["services"])
        start = tuple((0,) * len(nodes) for _ in services)  # a live episode starts with the pods that are there
        rest = {name: value for name, value in given.items() if name not in {"nodes", "services", "start"}}
        return config.Instance(**{"nodes": nodes, "services": services, "start": start, **rest})
    except (KeyError, TypeError) as error:
        raise errors.InvalidInput(
            "instance of edge placement",
            given=str(error),
            expected=f"nodes, services, and of {', '.join(sorted(known))} what differs",
            cure="See docs/edge-live.md for one.",
        ) from error


def _cluster_of(given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("layout", "nodes") != "nodes":
        raise errors.NotBuilt(
            "layout of a live environment",
            given=given["layout"],
            expected="one Deployment of each service on each node",
            cure="Leave layout out: another affinity on one Deployment would roll all its pods.",
        )
    unknown = sorted(set(given) - {*_CLUSTER, "layout"})
    if unknown:
        raise errors.UnknownField("cluster", given=unknown[0], cure=errors.nearest(unknown[0], list(_CLUSTER)))
    if not given.get("namespace"):
        raise errors.InvalidInput(
            "cluster", given=dict(given), expected="a namespace", cure='For example cluster={"namespace": "edge"}.'
        )
    guards.admit_namespace(given["namespace"], allowed=given.get("allow_namespace"))
    return {name: given.get(name) for name in _CLUSTER}


def _source(
    given: Mapping[str, Any] | MetricsSource, *, instance: config.Instance, zones: Sequence[str] | None, namespace: str
) -> MetricsSource:
    if not isinstance(given, Mapping):
        return given
    names = [f"zone-{k}" for k in range(instance.zones)] if zones is None else list(zones)
    if len(names) != instance.zones:
        raise errors.InvalidInput(
            "zones", given=names, expected=f"{instance.zones} names", cure="One for each distance of a node."
        )
    services = [service.name for service in instance.services]
    return metrics.source_of(given, services=services, zones=names, namespace=namespace)


def _operations(instance: config.Instance) -> dict[int, guards.Operation]:
    """Number of the discrete form -> operation, all but the first, which does nothing."""
    made = {}
    for number in range(1, instance.actions):
        _, service, source, target = config.decode(number, instance=instance)
        made[number] = guards.Operation(
            service, source=None if source < 0 else source, target=None if target < 0 else target
        )
    return made


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[guards.Operation]:
    """The operations, at most one a service, that lead from one state of the simulator to another."""
    more = (after["starting"] > before["starting"])[0]
    less = ((after["leaving"] > before["leaving"]) | (after["run"] < before["run"]))[0]
    return [
        guards.Operation(
            service,
            target=int(more[service].argmax()) if more[service].any() else None,
            source=int(less[service].argmax()) if less[service].any() else None,
        )
        for service in range(len(more))
        if more[service].any() or less[service].any()
    ]


def _migration(outcome: Outcome) -> float:
    """0.25 for a place, 1 for a move; nothing for a dry run, which moves nothing."""
    if outcome.refused is not None or outcome.operation is None or any(p.dry_run for p in outcome.patches):
        return 0.0
    placed, moved = outcome.operation.target is not None, outcome.operation.source is not None
    return (1.0 if moved else 0.25) if placed else 0.0
