"""A twin of the Kubernetes API server on loopback: what placement on a live cluster asks of it, with real JSON shapes.

For tests of rlaas_ray/live and for trying a configuration without a cluster. Pods become ready by the clock that is handed in;
rights come from RBAC documents; faults are injected. Answers follow the API conventions and were not held against a real
server. It ends with its `with` block.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from rlaas_ray.specs.seams import Clock
from rlaas_ray.testing import kube_objects
from rlaas_ray.testing.kube_objects import NODE, Refusal, status
from rlaas_ray.testing.kube_rights import Rights

_NAMESPACED = r"/namespaces/(?P<namespace>[^/]+)"
_ROUTES = [  # path, API group, resource as RBAC names it
    (r"/version", None, "version"),
    (r"/api/v1/nodes", "", "nodes"),
    (rf"/api/v1{_NAMESPACED}/pods", "", "pods"),
    (rf"/apis/apps/v1{_NAMESPACED}/deployments", "apps", "deployments"),
    (rf"/apis/apps/v1{_NAMESPACED}/deployments/(?P<name>[^/]+)", "apps", "deployments"),
    (rf"/apis/apps/v1{_NAMESPACED}/deployments/(?P<name>[^/]+)/scale", "apps", "deployments/scale"),
    (rf"/apis/metrics\.k8s\.io/v1beta1{_NAMESPACED}/pods", "metrics.k8s.io", "pods"),
]
_MERGES = {"application/strategic-merge-patch+json", "application/merge-patch+json"}


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str | None
    body: Any


@dataclass
class _Fault:
    """`kind`: a status code, "drop" before handling, "lose" the answer after it, "hang", or "meanwhile" (calls `act`)."""

    kind: int | str
    method: str | None
    path: str
    times: int
    retry_after: str | None
    act: Callable[[], None] | None


@dataclass
class _Pod:
    name: str
    number: int
    deployment: str
    created_s: float
    node: str | None = None
    ready_s: float = 0.0
    ready: bool = False
    gone_s: float = 0.0  # of one that was deleted


@dataclass
class _State:
    """What the server stores. `version` is the one counter of resourceVersions."""

    version: int = 100
    number: int = 0
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: list[_Pod] = field(default_factory=list)
    ending: list[_Pod] = field(default_factory=list)  # deleted, still listed
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    cached: set[tuple[str, str]] = field(default_factory=set)  # (image, node)


class KubeApi:
    """`start_s(deployment, image_cached)` is the time from scheduling to Ready; `rbac` the documents whose rights hold.

    Without `rbac` every request is allowed. `tokens`: bearer token -> service account `namespace:name`. A deleted pod is listed,
    with its deletionTimestamp, for `grace_s` more; its requests are free at once.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        namespace: str = "edge",
        start_s: Callable[[str, bool], float] | None = None,
        rbac: Iterable[Mapping[str, Any]] | None = None,
        tokens: Mapping[str, str] | None = None,
        grace_s: float = 0.0,
    ) -> None:
        self.namespace = namespace
        self._grace_s = grace_s
        self.requests: list[Request] = []
        self._clock, self._start_s = clock, start_s or _ten_seconds
        self._rights = None if rbac is None else Rights(rbac)
        self._tokens = dict(tokens or {})
        self._state, self._faults = _State(), list[_Fault]()
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads, self._server.block_on_close = True, False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, path: Path, *, context: str = "twin", token: str = "none") -> Path:  # noqa: S107 - no secret
        """A kubeconfig that leads here."""
        named = {"name": context}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [named | {"cluster": {"server": self.url}}],
            "users": [named | {"user": {"token": token}}],
            "contexts": [named | {"context": {"cluster": context, "user": context, "namespace": self.namespace}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    # --- what the cluster holds -------------------------------------------------------------------------------------

    def add_node(self, name: str, *, cpu: float, memory: float) -> None:
        """A Ready node with allocatable cores and bytes."""
        self._state.nodes[name] = {"cpu": cpu, "memory": memory, "ready": True, "unschedulable": False}

    def set_node(self, name: str, *, ready: bool = True, unschedulable: bool = False) -> None:
        """Cordon a node, or let its kubelet fall silent."""
        self._state.nodes[name] |= {"ready": ready, "unschedulable": unschedulable}

    def add_image(self, image: str, *, node: str) -> None:
        """An image that the node holds already."""
        self._state.cached.add((image, node))

    def add_deployment(
        self, service: str, *, node: str, replicas: int, cpu: float, memory: float, ready: bool = True
    ) -> None:
        """The Deployment `{service}--{node}`; `ready`: its pods have run for long."""
        with self._lock:
            name = f"{service}--{node}"
            self._state.deployments[name] = kube_objects.deployment(
                service,
                node=node,
                namespace=self.namespace,
                replicas=replicas,
                cpu=cpu,
                memory=memory,
                created=self._stamp(),
            )
            self._touch(name)
            self._reconcile(name)
            if ready:
                for pod in self._pods(name):
                    pod.ready = pod.node is not None
            self._update(name)

    def scale(self, name: str, replicas: int) -> None:
        """Somebody else scales a Deployment."""
        with self._lock:
            self._state.deployments[name]["spec"]["replicas"] = replicas
            self._touch(name)
            self._reconcile(name)

    def touch(self, name: str) -> None:
        """Somebody else changes something of a Deployment that is not its replicas."""
        with self._lock:
            self._touch(name)

    def evict(self, name: str) -> None:
        """The oldest pod of a Deployment goes; its ReplicaSet makes another."""
        with self._lock:
            self._state.pods.remove(self._pods(name)[0])
            self._reconcile(name)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Deployment -> ready and starting pods, now."""
        with self._lock:
            self._tick()
            return {
                name: (sum(p.ready for p in self._pods(name)), sum(not p.ready for p in self._pods(name)))
                for name in self._state.deployments
            }

    def fail(
        self,
        kind: int | str,
        *,
        method: str | None = None,
        path: str = "",
        times: int = 1,
        retry_after: str | None = None,
        act: Callable[[], None] | None = None,
    ) -> None:
        """The next `times` requests of this method whose path holds `path` meet a fault, see `_Fault`."""
        self._faults.append(_Fault(kind, method, path, times, retry_after, act))

    # --- answering --------------------------------------------------------------------------------------------------

    def answer(self, request: Request, *, bearer: str | None) -> tuple[int, dict[str, Any], dict[str, str]] | None:
        """Status, body and headers; None for a connection that drops."""
        fault = self._fault_of(request)
        if fault is not None:
            if fault.kind == "hang":
                self._ended.wait(30.0)
            if fault.kind in {"hang", "drop"}:
                return None
            if fault.act is not None:
                fault.act()
            if isinstance(fault.kind, int):
                headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
                return fault.kind, status(fault.kind, reason="Injected", message="an injected fault"), headers
        try:
            with self._lock:
                self._tick()
                body = self._handled(request, bearer=bearer)
        except Refusal as refusal:
            return refusal.code, refusal.body, {}
        return None if fault is not None and fault.kind == "lose" else (200, body, {})

    def _fault_of(self, request: Request) -> _Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.times and fault.method in {None, request.method} and fault.path in request.path:
                    fault.times -= 1
                    return fault
        return None

    def _handled(self, request: Request, *, bearer: str | None) -> dict[str, Any]:
        group, resource, where = _routed(request.path)
        if group is None:
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        name, namespace = where.get("name"), where.get("namespace")
        verbs = {"GET": "get" if name else "list", "PATCH": "patch" if name else None}
        verb = verbs.get(request.method)
        if verb is None:
            raise Refusal(405, reason="MethodNotAllowed", message="the server does not allow this method")
        self._allow(bearer, verb=verb, group=group, resource=resource, namespace=namespace)
        if verb == "list":
            return self._listed(group, resource=resource, namespace=namespace, query=request.query)
        if namespace != self.namespace or name not in self._state.deployments:
            raise kube_objects.not_found("deployments.apps", name or "")
        made = self._patched(request, name=name, scale=resource.endswith("scale")) if verb == "patch" else None
        stored = made or self._state.deployments[name]
        return kube_objects.scale(stored) if resource.endswith("scale") else stored

    def _allow(self, bearer: str | None, *, verb: str, group: str, resource: str, namespace: str | None) -> None:
        if self._rights is None:
            return
        account = self._tokens.get(bearer or "")
        if account is None:
            raise Refusal(401, reason="Unauthorized", message="Unauthorized")
        if not self._rights.allow(account, verb=verb, group=group, resource=resource, namespace=namespace):
            raise kube_objects.forbidden(account, verb=verb, group=group, resource=resource, namespace=namespace)

    def _listed(self, group: str, *, resource: str, namespace: str | None, query: Mapping[str, str]) -> dict[str, Any]:
        state, items = self._state, list[dict[str, Any]]()
        if resource == "nodes":
            items = [
                kube_objects.node(n, facts=facts, images=sorted(i for i, at in state.cached if at == n))
                for n, facts in state.nodes.items()
            ]
        elif namespace == self.namespace and resource == "deployments":
            items = list(state.deployments.values())
        elif namespace == self.namespace and group:
            made = [(p, self._pod(p)) for p in state.pods if p.ready]
            items = [kube_objects.pod_metrics(body, stamp=self._stamp()) for _, body in made]
        elif namespace == self.namespace:
            items = [self._pod(p) for p in [*state.pods, *state.ending]]
        kind = {"nodes": "Node", "deployments": "Deployment", "pods": "PodMetrics" if group else "Pod"}[resource]
        versions = {"": "v1", "apps": "apps/v1", "metrics.k8s.io": "metrics.k8s.io/v1beta1"}
        chosen = kube_objects.selected(items, query.get("labelSelector", ""))
        return {
            "kind": f"{kind}List",
            "apiVersion": versions[group],
            "metadata": {"resourceVersion": str(state.version)},
            "items": copy.deepcopy(chosen),
        }

    def _patched(self, request: Request, *, name: str, scale: bool) -> dict[str, Any]:
        """The Deployment after the patch; stored unless it is a dry run."""
        if request.content_type not in _MERGES or not isinstance(request.body, dict):
            raise Refusal(
                415, reason="UnsupportedMediaType", message=f"this twin takes a merge of {sorted(_MERGES)} here"
            )
        now = self._state.deployments[name]
        asked = request.body.get("metadata", {}).get("resourceVersion")
        if asked is not None and asked != now["metadata"]["resourceVersion"]:
            raise kube_objects.conflict(name)
        made = copy.deepcopy(now)
        spec = request.body.get("spec", {})
        made["spec"] = kube_objects.merged(made["spec"], {"replicas": spec.get("replicas", 0)} if scale else spec)
        replicas = made["spec"]["replicas"]
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            raise kube_objects.invalid(name, field="spec.replicas", given=replicas)
        if request.query.get("dryRun") == "All" or made == now:
            return made
        self._state.deployments[name] = made
        made["metadata"]["generation"] += 1
        self._touch(name)
        self._reconcile(name)
        return self._state.deployments[name]

    # --- what controllers, scheduler and kubelets do ----------------------------------------------------------------

    def _tick(self) -> None:
        """Bring every pod to where it is by now."""
        now = self._clock.monotonic_s()
        self._state.ending = [p for p in self._state.ending if now < p.gone_s]
        for pod in self._state.pods:
            if pod.node is None:
                self._schedule(pod)
            if pod.node is not None and not pod.ready and now >= pod.ready_s - 1e-6:
                pod.ready = True
                self._update(pod.deployment)

    def _reconcile(self, name: str) -> None:
        """As a ReplicaSet: make what is missing; take pods that are not ready first, then the youngest."""
        pods, wanted = self._pods(name), self._state.deployments[name]["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            self._state.number += 1
            number = self._state.number
            made = _Pod(f"{name}-{kube_objects.suffix(number)}", number, name, self._clock.monotonic_s())
            self._state.pods.append(made)
            self._schedule(made)
        leaving = sorted(pods, key=lambda p: (p.node is not None, p.ready, -p.number))[: max(0, len(pods) - wanted)]
        self._state.pods = [p for p in self._state.pods if p not in leaving]
        for pod in leaving:
            pod.gone_s = self._clock.monotonic_s() + self._grace_s
        self._state.ending += leaving
        self._update(name)

    def _schedule(self, pod: _Pod) -> None:
        """Bind the pod to the node of its selector when its requests fit; the image is fetched from then on."""
        made = self._state.deployments[pod.deployment]
        labels, node = made["metadata"]["labels"], self._state.nodes.get(made["metadata"]["labels"][NODE])
        if node is None or node["unschedulable"] or not node["ready"]:
            return
        need = kube_objects.requests(made)
        held = [kube_objects.requests(self._state.deployments[p.deployment]) for p in self._state.pods]
        here = [h for h, p in zip(held, self._state.pods, strict=True) if p.node == labels[NODE] and p is not pod]
        if any(need[k] + sum(h[k] for h in here) > node[name] + 1e-6 for k, name in enumerate(("cpu", "memory"))):
            return
        image = (made["spec"]["template"]["spec"]["containers"][0]["image"], labels[NODE])
        cached = image in self._state.cached
        self._state.cached.add(image)
        pod.node = labels[NODE]
        pod.ready_s = self._clock.monotonic_s() + self._start_s(pod.deployment, cached)

    def _pods(self, name: str) -> list[_Pod]:
        return [p for p in self._state.pods if p.deployment == name]

    def _pod(self, pod: _Pod) -> dict[str, Any]:
        return kube_objects.pod(
            self._state.deployments[pod.deployment],
            name=pod.name,
            node=pod.node,
            ready=pod.ready,
            created=self._stamp(pod.created_s),
            deleted=self._stamp(pod.gone_s) if pod in self._state.ending else None,
        )

    def _update(self, name: str) -> None:
        """The Deployment's status; a change of it is a new resourceVersion."""
        made, pods = self._state.deployments[name], self._pods(name)
        fresh = kube_objects.deployment_status(made, total=len(pods), ready=sum(p.ready for p in pods))
        if fresh != made["status"]:
            made["status"] = fresh
            self._touch(name)

    def _touch(self, name: str) -> None:
        self._state.version += 1
        self._state.deployments[name]["metadata"]["resourceVersion"] = str(self._state.version)

    def _stamp(self, at_s: float | None = None) -> str:
        back = 0.0 if at_s is None else self._clock.monotonic_s() - at_s
        return datetime.fromtimestamp(self._clock.now_us() / 1e6 - back, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _routed(path: str) -> tuple[str | None, str, dict[str, str]]:
    """API group, resource, and namespace and name where the path has them."""
    for pattern, group, resource in _ROUTES:
        found = re.fullmatch(pattern, path)
        if found:
            return group, resource, found.groupdict()
    raise Refusal(404, reason="NotFound", message="the server could not find the requested resource")


def _ten_seconds(deployment: str, cached: bool) -> float:  # noqa: ARG001, FBT001 - the signature of start_s
    return 10.0


def _handler(twin: KubeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one write: two would wait for each other's acknowledgement

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):  # the library asks for do_GET, do_PATCH, ...
                return self._serve
            raise AttributeError(name)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Says nothing: `requests` has it."""

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=unquote(parts.path),
                query={name: values[-1] for name, values in parse_qs(parts.query).items()},
                content_type=self.headers.get("Content-Type"),
                body=json.loads(raw) if raw else None,
            )
            bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            answered = twin.answer(request, bearer=bearer)
            self.close_connection = answered is None
            if answered is None:
                return
            code, body, headers = answered
            content = json.dumps(body).encode()
            self.send_response(code)
            for name, value in (
                {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler
