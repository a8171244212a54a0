"""The few calls that placement needs of a Kubernetes API server, through the official client: list, and patch a scale.

Called by edge.py. Holds retries, timeouts, dry run and the stop after repeated failures (rules: guards.py). Never creates or
deletes an object, never patches anything but `deployments/scale`, never reads a secret.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.utils import parse_quantity

from rlaas_ray import errors
from rlaas_ray.live import guards
from rlaas_ray.specs.seams import Clock

_LOG = logging.getLogger(__name__)

SERVICE, NODE, HOSTNAME = "rlaas.io/service", "rlaas.io/node", "kubernetes.io/hostname"
_CLASSES = {401: errors.Unauthorized, 403: errors.Forbidden, 404: errors.NotFound, 422: errors.InvalidInput}


@dataclass(frozen=True)
class Deployment:
    """One Deployment of one service on one node. Requests: cores and bytes of one pod, 0 where none is set."""

    name: str
    service: str
    node: str
    pinned_to: str | None  # its nodeSelector on kubernetes.io/hostname
    replicas: int
    version: str  # resourceVersion
    images: tuple[str, ...]
    cpu: float
    memory: float


@dataclass(frozen=True)
class Pod:
    """One pod that is not being deleted."""

    name: str
    service: str
    node: str  # its label
    placed_on: str | None  # where the scheduler put it
    ready: bool
    created: datetime


@dataclass(frozen=True)
class Node:
    """Allocatable cores and bytes; `usable`: Ready and not cordoned; names of the images present."""

    name: str
    cpu: float
    memory: float
    usable: bool
    images: frozenset[str]


@dataclass(frozen=True)
class Patch:
    """What was sent: the intended diff, and whether it was a dry run."""

    deployment: str
    before: int
    after: int
    dry_run: bool


class _Stale(Exception):
    """409: not the stored resourceVersion. `retried`: an earlier try of the same call may have been carried out."""

    def __init__(self, what: str, *, retried: bool) -> None:
        super().__init__(what)
        self.retried = retried


def connect(*, context: str | None = None, kubeconfig: str | None = None) -> Any:
    """An ApiClient of the context that is named, else of the cluster that this process runs in; never a guessed context."""
    configuration = client.Configuration()
    configuration.retries = False  # the library's own retries would multiply ours and repeat what must not be
    try:
        if context is not None:
            config.load_kube_config(  # type: ignore[no-untyped-call]  # the library leaves it untyped
                config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
            )
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise errors.InvalidInput(
            "cluster of a live environment",
            given=str(error) if context is not None else "no context, and this process runs in no cluster",
            expected="to run in a pod with a service account, or a context of a kubeconfig",
            cure="Name one: context=..., as `kubectl config get-contexts` lists them.",
        ) from error
    return client.ApiClient(configuration)


class Cluster:
    """One namespace of one cluster. Without `apply` every patch carries dryRun=All: checked by the server, stored nowhere."""

    def __init__(self, api: Any, *, namespace: str, clock: Clock, limits: guards.Limits, apply: bool = False) -> None:
        self.namespace = namespace
        self.apply = apply
        self.failures = guards.Failures()
        self._clock, self._limits = clock, limits
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)
        self._custom = client.CustomObjectsApi(api)

    def deployments(self) -> list[Deployment]:
        """The Deployments of the namespace that carry our label."""
        found = self._call(
            "list deployments", self._apps.list_namespaced_deployment, self.namespace, label_selector=SERVICE
        )
        return [_deployment(one) for one in found.items]

    def pods(self) -> list[Pod]:
        """The pods of the namespace that carry our label and are not on their way out."""
        found = self._call("list pods", self._core.list_namespaced_pod, self.namespace, label_selector=SERVICE)
        return [
            _pod(one)
            for one in found.items
            if one.metadata.deletion_timestamp is None and one.status.phase in {"Pending", "Running"}
        ]

    def nodes(self) -> dict[str, Node]:
        """Every node of the cluster by name."""
        return {one.metadata.name: _node(one) for one in self._call("list nodes", self._core.list_node).items}

    def usage(self) -> dict[str, tuple[float, float]]:
        """Pod -> (cores, bytes) as the metrics API tells them; a pod too young for a figure is absent."""
        found = self._call(
            "list pods.metrics.k8s.io",
            self._custom.list_namespaced_custom_object,
            group="metrics.k8s.io",
            version="v1beta1",
            namespace=self.namespace,
            plural="pods",
            label_selector=SERVICE,
        )
        return {
            one["metadata"]["name"]: (
                math.fsum(_amount(c["usage"]["cpu"]) for c in one["containers"]),
                math.fsum(_amount(c["usage"]["memory"]) for c in one["containers"]),
            )
            for one in found["items"]
        }

    def scale(self, seen: Deployment, *, replicas: int) -> Patch:
        """Set the replicas of a Deployment as it was seen.

        The patch holds the resourceVersion that was seen, so what somebody else did meanwhile is never overwritten: on 409 the
        scale is read again, and tried once more if its replicas are still those seen. Raises Conflict if they are not,
        Refused when patching has stopped, and what `_call` raises.
        """
        if self.failures.stopped:
            raise errors.Refused(
                "patches have stopped",
                given=f"{len(self.failures.at_s)} failed calls within {self._limits.window_s:g} s",
                expected="an API server that answers",
                cure="Read the log for the calls that failed; make the environment anew when the cluster is well.",
            )
        patch = Patch(seen.name, before=seen.replicas, after=replicas, dry_run=not self.apply)
        diff = f"deployment {self.namespace}/{seen.name} replicas {seen.replicas} -> {replicas}"
        _LOG.info("%s: %s", "apply" if self.apply else "dry run", diff)
        version, again = seen.version, True
        while True:
            stale = self._patched(seen.name, replicas=replicas, version=version)
            if stale is None:
                return patch
            now = self._call(f"get {diff}", self._apps.read_namespaced_deployment_scale, seen.name, self.namespace)
            there = now.spec.replicas or 0  # a scale of 0 leaves the field out
            if there == replicas and stale.retried and self.apply:
                return patch  # the first try was carried out and its answer was lost
            if there != seen.replicas or not again:
                raise errors.Conflict(
                    f"somebody else changes {seen.name}",
                    given=f"{there} replicas now",
                    expected=f"{seen.replicas} as seen before",
                    cure="Let one thing scale it: take the HorizontalPodAutoscaler or the other agent away.",
                )
            version, again = now.metadata.resource_version, False

    def _patched(self, name: str, *, replicas: int, version: str) -> _Stale | None:
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        dry = {} if self.apply else {"dry_run": "All"}
        try:
            self._call(f"patch {name}", self._apps.patch_namespaced_deployment_scale, name, self.namespace, body, **dry)
        except _Stale as stale:
            return stale
        return None

    def _call(self, what: str, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """One call with its retries. 409 raises _Stale and is no failure; every other error that stays is one."""
        attempt = 0
        while True:
            try:
                return method(*args, _request_timeout=self._limits.timeout_s, **named)
            except ApiException as error:
                if error.status == 409:
                    raise _Stale(what, retried=attempt > 0) from error
                failed: Exception = error
                status, after = error.status, (error.headers or {}).get("Retry-After")
            except urllib3.exceptions.HTTPError as error:
                failed, status, after = error, None, None
            wait = guards.wait_s(attempt=attempt, status=status, retry_after=after, limits=self._limits)
            if wait is None:
                raise self._failure(what, error=failed, status=status) from failed
            _LOG.warning("%s: %s, once more in %g s", what, status or type(failed).__name__, wait)
            self._clock.sleep(wait)
            attempt += 1

    def _failure(self, what: str, *, error: Exception, status: int | None) -> errors.RlaasError:
        stopped = self.failures.stopped
        self.failures = guards.after_failure(self.failures, now_s=self._clock.monotonic_s(), limits=self._limits)
        if self.failures.stopped and not stopped:
            _LOG.critical(
                "ALARM: %d calls failed within %g s, nothing in namespace %s is patched any more",
                len(self.failures.at_s),
                self._limits.window_s,
                self.namespace,
            )
        rights = "Apply manifests/edge-live/rbac.yaml for this account and namespace."
        return _CLASSES.get(status or 0, errors.Unavailable)(
            f"{what} failed",
            given=_told(error),
            expected="an API server that answers and allows it",
            cure=rights if status in {401, 403} else "Look at the API server; the environment can be stepped on.",
        )


def _amount(quantity: str) -> float:
    """Cores or bytes of a quantity such as 500m, 156340n or 11Mi."""
    return float(parse_quantity(quantity))  # type: ignore[no-untyped-call]


def _told(error: Exception) -> str:
    return f"{error.status} {error.reason}" if isinstance(error, ApiException) else type(error).__name__


def _deployment(one: Any) -> Deployment:
    template = one.spec.template.spec
    requests = [(c.resources and c.resources.requests) or {} for c in template.containers]
    return Deployment(
        name=one.metadata.name,
        service=one.metadata.labels[SERVICE],
        node=one.metadata.labels.get(NODE, ""),
        pinned_to=(template.node_selector or {}).get(HOSTNAME),
        replicas=one.spec.replicas,
        version=one.metadata.resource_version,
        images=tuple(c.image for c in template.containers),
        cpu=math.fsum(_amount(r.get("cpu", "0")) for r in requests),
        memory=math.fsum(_amount(r.get("memory", "0")) for r in requests),
    )


def _pod(one: Any) -> Pod:
    return Pod(
        name=one.metadata.name,
        service=one.metadata.labels[SERVICE],
        node=one.metadata.labels.get(NODE, ""),
        placed_on=one.spec.node_name,
        ready=_is_ready(one),
        created=one.metadata.creation_timestamp,
    )


def _node(one: Any) -> Node:
    return Node(
        name=one.metadata.name,
        cpu=_amount(one.status.allocatable["cpu"]),
        memory=_amount(one.status.allocatable["memory"]),
        usable=_is_ready(one) and not one.spec.unschedulable,
        images=frozenset(name for image in one.status.images or () for name in image.names or ()),
    )


def _is_ready(one: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in one.status.conditions or ())
