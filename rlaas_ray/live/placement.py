"""Pods of a live cluster as the counts of the simulator, and operations on them: look, act under guards, see moves through.

Called by edge.py. One Deployment a service and node, so that a count of replicas is a placement. Never decides what to do, never
waits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray import errors
from rlaas_ray.envs.edge import config
from rlaas_ray.live import guards
from rlaas_ray.live.kubernetes import Cluster, Deployment, Node, Patch, Pod
from rlaas_ray.specs.arrays import I64, Bool
from rlaas_ray.specs.seams import Clock

_LOG = logging.getLogger(__name__)

At = tuple[int, int]  # service, node


@dataclass(frozen=True)
class Sight:
    """What one look gave. `replicas` (S, N) is what the Deployments want; ready plus starting of `counts` is the same."""

    deployments: dict[At, Deployment]
    pods: dict[At, tuple[Pod, ...]]
    replicas: I64
    counts: guards.Counts


@dataclass
class Move:
    """A move whose target was asked for and whose source still stands. `known`: pods at the target before."""

    service: int
    source: int
    target: int
    known: frozenset[str]
    pod: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of an operation: its patches, or why there are none."""

    patches: tuple[Patch, ...]
    refused: str | None = None
    operation: guards.Operation | None = None


class Placement:
    """The pods of an instance's services on its nodes."""

    def __init__(self, cluster: Cluster, *, instance: config.Instance, limits: guards.Limits, clock: Clock) -> None:
        self.cluster = cluster
        self.moves: list[Move] = []
        self._instance, self._limits, self._clock = instance, limits, clock
        self._services = {service.name: k for k, service in enumerate(instance.services)}
        self._nodes = {node.name: k for k, node in enumerate(instance.nodes)}
        self._last_s: dict[int, float] = {}

    def admit(self) -> None:
        """Raises InvalidInput unless cluster and instance are alike: nodes, one pinned Deployment each, requests."""
        nodes, found = self.cluster.nodes(), self._keyed(self.cluster.deployments())
        for node in self._instance.nodes:
            there = nodes.get(node.name)
            if there is None or there.cpu < node.cpu or there.memory < node.memory_gib * 2**30:
                raise _differs(
                    f"node {node.name}",
                    given="no such node" if there is None else f"{there.cpu:g} cores, {there.memory / 2**30:.2f} GiB",
                    expected=f"{node.cpu:g} cores and {node.memory_gib:g} GiB allocatable",
                )
        for service, s in self._services.items():
            for node_name, n in self._nodes.items():
                self._admit_one(found.get((s, n)), service=self._instance.services[s], node=node_name, name=service)

    def _admit_one(self, found: Deployment | None, *, service: config.Service, node: str, name: str) -> None:
        wanted = f"{name}--{node}"
        if found is None or found.name != wanted or found.pinned_to != node:
            raise _differs(
                f"Deployment {wanted}",
                given="none with its labels" if found is None else f"{found.name} pinned to {found.pinned_to}",
                expected=f"labels rlaas.io/service={name}, rlaas.io/node={node}, and a nodeSelector of that node",
            )
        if abs(found.cpu - service.cpu) > 1e-6 or abs(found.memory - service.memory_gib * 2**30) > 1024:
            raise _differs(
                f"requests of {wanted}",
                given=f"{found.cpu:g} cores, {found.memory / 2**30:g} GiB",
                expected=f"{service.cpu:g} cores and {service.memory_gib:g} GiB",
            )

    def look(self) -> Sight:
        """Deployments and pods, now. Ready pods beyond the replicas wanted are on their way out and do not count."""
        deployments, pods = self._keyed(self.cluster.deployments()), self._grouped(self.cluster.pods())
        shape = len(self._services), len(self._nodes)
        replicas, ready = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for at, found in deployments.items():
            replicas[at] = found.replicas
            ready[at] = min(found.replicas, sum(pod.ready for pod in pods.get(at, ())))
        leaving = np.zeros(shape, np.int64)
        for move in self.moves:
            leaving[move.service, move.source] += 1
        counts = guards.Counts(ready=ready, starting=replicas - ready, leaving=leaving)
        return Sight(deployments=deployments, pods=pods, replicas=replicas, counts=counts)

    def nodes(self, sight: Sight) -> tuple[Bool, Bool]:
        """Which nodes can take pods (N,), and where a service's images are present (S, N)."""
        found = self.cluster.nodes()
        usable = np.asarray([name in found and found[name].usable for name in self._nodes], dtype=np.bool_)
        cached = np.zeros((len(self._services), len(self._nodes)), np.bool_)
        for at, deployment in sight.deployments.items():
            node: Node | None = found.get(deployment.node)
            cached[at] = node is not None and set(deployment.images) <= node.images
        return usable, cached

    def refusal(self, operation: guards.Operation, *, counts: guards.Counts) -> str | None:
        """Why a guard would not let it happen now, or None."""
        last = self._last_s.get(operation.service)
        since = None if last is None else self._clock.monotonic_s() - last
        return guards.refusal(
            operation, counts=counts, since_last_s=since, limits=self._limits, failures=self.cluster.failures
        )

    def act(self, operation: guards.Operation, *, sight: Sight) -> Outcome:
        """Patch what the operation needs first: the target of a place or move, the source of a removal.

        Refused by a guard, by the server or by somebody else's change: nothing was changed, and `refused` says why.
        """
        reason = self.refusal(operation, counts=sight.counts)
        if reason is not None:
            _LOG.warning("refused: %s", reason)
            return Outcome((), refused=reason)
        s, source, target = operation.service, operation.source, operation.target
        try:
            if target is None:
                assert source is not None
                patches = [self._scale(sight, at=(s, source), by=-1)]
            else:
                patches = [self._scale(sight, at=(s, target), by=1)]
                if source is not None and not self.cluster.apply:  # nothing will start: show the second half at once
                    patches.append(self._scale(sight, at=(s, source), by=-1))
        except errors.RlaasError as error:
            return Outcome((), refused=error.detail)
        self._last_s[s] = self._clock.monotonic_s()
        if source is not None and target is not None and self.cluster.apply:
            known = frozenset(pod.name for pod in sight.pods.get((s, target), ()))
            self.moves.append(Move(s, source=source, target=target, known=known))
        return Outcome(tuple(patches), operation=operation)

    def see_through(self) -> None:
        """Take the source's pod of each move whose target is ready; what fails is tried at the next call."""
        for move in list(self.moves):
            try:
                pods = self._grouped(self.cluster.pods())
                if self._arrived(move, pods=pods.get((move.service, move.target), ())):
                    self._finish(move, sight=self.look())
            except errors.RlaasError as error:
                _LOG.warning("a move of %s waits: %s", self._instance.services[move.service].name, error.detail)

    def _finish(self, move: Move, *, sight: Sight) -> None:
        if guards.may_finish(service=move.service, source=move.source, counts=sight.counts):
            self._scale(sight, at=(move.service, move.source), by=-1)
            self.moves.remove(move)

    def _arrived(self, move: Move, *, pods: Sequence[Pod]) -> bool:
        """Whether the pod that the move started is ready. It is the oldest one that was not there before."""
        names = {pod.name: pod for pod in pods}
        if move.pod not in names:
            taken = move.known | {other.pod for other in self.moves if other is not move}
            fresh = sorted((pod.created, name) for name, pod in names.items() if name not in taken)
            move.pod = fresh[0][1] if fresh else None
        return move.pod is not None and names[move.pod].ready

    def _scale(self, sight: Sight, *, at: At, by: int) -> Patch:
        seen = sight.deployments[at]
        return self.cluster.scale(seen, replicas=seen.replicas + by)

    def _keyed(self, found: Sequence[Deployment]) -> dict[At, Deployment]:
        return {
            (self._services[one.service], self._nodes[one.node]): one
            for one in found
            if one.service in self._services and one.node in self._nodes
        }

    def _grouped(self, found: Sequence[Pod]) -> dict[At, tuple[Pod, ...]]:
        grouped: dict[At, tuple[Pod, ...]] = {}
        for pod in found:
            if pod.service in self._services and pod.node in self._nodes:
                at = self._services[pod.service], self._nodes[pod.node]
                grouped[at] = (*grouped.get(at, ()), pod)
        return grouped


def _differs(subject: str, *, given: str, expected: str) -> errors.InvalidInput:
    return errors.InvalidInput(
        subject, given=given, expected=expected, cure="Make cluster and instance alike, see docs/edge-live.md."
    )
