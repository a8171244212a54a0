"""Kubernetes objects as an API server writes them: nodes, Deployments, pods, scales, metrics, and the Status of a refusal.

Called by kube_api.py. Pure; shapes and words follow the API conventions of Kubernetes 1.34.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.utils import parse_quantity

SERVICE, NODE, HOSTNAME = "rlaas.io/service", "rlaas.io/node", "kubernetes.io/hostname"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # those that Kubernetes draws name suffixes from

Body = dict[str, Any]


class Refusal(Exception):
    """An answer that is not 200: its code and Status."""

    def __init__(self, code: int, *, reason: str, message: str, details: Body | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = status(code, reason=reason, message=message, details=details)


def status(code: int, *, reason: str, message: str, details: Body | None = None) -> Body:
    """A Status object of failure."""
    made = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return made | {"message": message, "reason": reason, "details": details or {}, "code": code}


def not_found(kind: str, name: str) -> Refusal:
    """404."""
    resource, _, group = kind.partition(".")
    details = {"name": name, "group": group, "kind": resource}
    return Refusal(404, reason="NotFound", message=f'{kind} "{name}" not found', details=details)


def conflict(name: str) -> Refusal:
    """409: the resourceVersion is not the stored one."""
    message = (
        f'Operation cannot be fulfilled on deployments.apps "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    details = {"name": name, "group": "apps", "kind": "deployments"}
    return Refusal(409, reason="Conflict", message=message, details=details)


def invalid(name: str, *, field: str, given: Any) -> Refusal:
    """422 with its cause."""
    message = f"Invalid value: {given!r}: must be greater than or equal to 0"
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": field}]
    details = {"name": name, "group": "autoscaling", "kind": "Scale", "causes": causes}
    full = f'Scale.autoscaling "{name}" is invalid: {field}: {message}'
    return Refusal(422, reason="Invalid", message=full, details=details)


def forbidden(account: str, *, verb: str, group: str, resource: str, namespace: str | None) -> Refusal:
    """403, naming user, verb and resource."""
    kind, where = f"{resource}.{group}" if group else resource, "at the cluster scope"
    if namespace is not None:
        where = f'in the namespace "{namespace}"'
    message = (
        f'{kind} is forbidden: User "system:serviceaccount:{account}" cannot {verb} resource "{resource}" '
        f'in API group "{group}" {where}'
    )
    return Refusal(403, reason="Forbidden", message=message, details={"group": group, "kind": resource})


def suffix(number: int) -> str:
    """Five letters of a number, another for each of the first 27**5."""
    made = ""
    for _ in range(5):
        number, digit = divmod(number, len(_LETTERS))
        made = _LETTERS[digit] + made
    return made


def quantity(amount: float, *, unit: str = "") -> str:
    """Milli-cores, or bytes in Ki."""
    return f"{round(amount / 1024)}Ki" if unit == "Ki" else f"{round(amount * 1000)}m"


def requests(made: Mapping[str, Any]) -> tuple[float, float]:
    """Cores and bytes that one pod of a Deployment asks for."""
    asked = made["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    cpu, memory = (parse_quantity(asked[name]) for name in ("cpu", "memory"))  # type: ignore[no-untyped-call]
    return float(cpu), float(memory)


def deployment(
    service: str, *, node: str, namespace: str, replicas: int, cpu: float, memory: float, created: str
) -> Body:
    """The Deployment of one service on one node, as the docs show it."""
    name, labels = f"{service}--{node}", {SERVICE: service, NODE: node}
    asked = {"cpu": quantity(cpu), "memory": quantity(memory, unit="Ki")}
    container = {"name": service, "image": f"registry.example/{service}:1", "resources": {"requests": asked}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": "0",
            "creationTimestamp": created,
            "labels": labels,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"nodeSelector": {HOSTNAME: node}, "containers": [container]},
            },
        },
        "status": {},
    }


def deployment_status(made: Mapping[str, Any], *, total: int, ready: int) -> Body:
    """Fields that are 0 are left out, as the API server does."""
    fields = {
        "observedGeneration": made["metadata"]["generation"],
        "replicas": total,
        "updatedReplicas": total,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": total - ready,
    }
    return {name: value for name, value in fields.items() if value}


def scale(made: Mapping[str, Any]) -> Body:
    """The scale subresource; `replicas` is left out at 0."""
    meta = {k: made["metadata"][k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    replicas = made["spec"]["replicas"]
    selector = ",".join(f"{name}={value}" for name, value in made["spec"]["selector"]["matchLabels"].items())
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": made["status"].get("replicas", 0), "selector": selector},
    }


def pod(
    made: Mapping[str, Any], *, name: str, node: str | None, ready: bool, created: str, deleted: str | None
) -> Body:
    """A pod of a Deployment: waiting for a node, starting, ready, or on its way out."""
    template = made["spec"]["template"]
    conditions = [
        {"type": "PodScheduled", "status": "True"}
        if node
        else {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"},
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
    placed = {"nodeName": node} if node else {}
    ending = {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": 30} if deleted else {}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": made["metadata"]["namespace"],
            "uid": f"uid-{name}",
            "resourceVersion": made["metadata"]["resourceVersion"],
            "creationTimestamp": created,
            "labels": template["metadata"]["labels"],
        }
        | ending,
        "spec": template["spec"] | placed,
        "status": {"phase": "Running" if ready else "Pending", "conditions": conditions},
    }


def node(name: str, *, facts: Mapping[str, Any], images: Sequence[str]) -> Body:
    """A node with its allocatable amounts and images."""
    amounts = {"cpu": quantity(facts["cpu"]), "memory": quantity(facts["memory"], unit="Ki"), "pods": "110"}
    cordoned = {"unschedulable": True} if facts["unschedulable"] else {}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "labels": {HOSTNAME: name}},
        "spec": cordoned,
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True" if facts["ready"] else "Unknown"}],
            "images": [{"names": [image], "sizeBytes": 1} for image in images],
        },
    }


def pod_metrics(made: Mapping[str, Any], *, stamp: str) -> Body:
    """What metrics-server tells of a pod: here half of what it asks for."""
    container = made["spec"]["containers"][0]
    cpu, memory = requests({"spec": {"template": {"spec": made["spec"]}}})
    usage = {"cpu": f"{round(cpu * 5e8)}n", "memory": quantity(memory / 2, unit="Ki")}
    kept = {k: made["metadata"][k] for k in ("name", "namespace", "labels")}
    return {
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": kept | {"creationTimestamp": stamp},
        "timestamp": stamp,
        "window": "15s",
        "containers": [{"name": container["name"], "usage": usage}],
    }


def selected(items: Sequence[Body], selector: str) -> list[Body]:
    """Items that a label selector of `key`, `!key`, `key=value` and `key!=value` takes."""
    return [one for one in items if all(_holds(one["metadata"].get("labels", {}), t) for t in selector.split(",") if t)]


def merged(into: Mapping[str, Any], patch: Mapping[str, Any]) -> Body:
    """RFC 7396; what a strategic merge does, too, where no list is patched."""
    made = dict(into)
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        elif isinstance(value, dict) and isinstance(made.get(name), dict):
            made[name] = merged(made[name], value)
        else:
            made[name] = value
    return made


def _holds(labels: Mapping[str, str], term: str) -> bool:
    if " " in term.strip():
        raise Refusal(400, reason="BadRequest", message=f"this twin does not know the selector {term!r}")
    if "!=" in term:
        name, _, value = term.partition("!=")
        return labels.get(name) != value
    if "=" in term:
        name, _, value = term.replace("==", "=").partition("=")
        return labels.get(name) == value
    return term[1:] not in labels if term.startswith("!") else term in labels
