"""What the KubeRay operator refuses and the CRD cannot say, and what our own pods must have.

Called by tests on every manifest, beside `crds.py`. Rules are the operator's v1.7.0 `utils/validation.go` (the ones our objects
can meet) and docs/kubernetes.md; one function each, so that each has a good and a bad case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from rlaas_ray.jobs.crds import Finding

Json = Any
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = {"RayCluster": 53, "RayService": 47, "RayJob": 47}
_ENUMS = {
    ("RayService", "/spec/upgradeStrategy/type"): {"NewCluster", "NewClusterWithIncrementalUpgrade", "None"},
    ("RayCluster", "/spec/upgradeStrategy/type"): {"Recreate", "None"},
    ("RayJob", "/spec/submissionMode"): {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
}


def check(body: Json) -> list[Finding]:
    """All findings on one Ray object; other kinds have none."""
    if body.get("kind") not in _LONGEST_NAME:
        return []
    return [finding for rule in RULES for finding in rule(body)]


def clusters(body: Json) -> Iterator[tuple[str, Json]]:
    """(pointer, cluster spec) inside a Ray object."""
    spec = body.get("spec", {})
    field = {"RayCluster": None, "RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}[body["kind"]]
    yield ("/spec", spec) if field is None else (f"/spec/{field}", spec.get(field, {}))


def pods(value: Json, pointer: str = "") -> Iterator[tuple[str, Json]]:
    """(pointer, pod template) of every pod template below `value`."""
    if isinstance(value, dict):
        inner = value.get("spec")
        if isinstance(inner, dict) and "containers" in inner:
            yield pointer, value
            return
        for key, child in value.items():
            yield from pods(child, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from pods(child, f"{pointer}/{index}")


def _groups(body: Json) -> Iterator[tuple[str, Json]]:
    for pointer, cluster in clusters(body):
        yield f"{pointer}/headGroupSpec", cluster.get("headGroupSpec", {})
        for index, group in enumerate(cluster.get("workerGroupSpecs", [])):
            yield f"{pointer}/workerGroupSpecs/{index}", group


def names(body: Json) -> Iterator[Finding]:
    """DNS-1035 and short enough for the suffixes that the operator adds."""
    name, most = str(body["metadata"].get("name", "")), _LONGEST_NAME[body["kind"]]
    if len(name) > most or not _DNS_1035.fullmatch(name):
        yield Finding(
            pointer="/metadata/name", message=f"{name!r} is not a DNS-1035 label of at most {most} characters"
        )


def enums(body: Json) -> Iterator[Finding]:
    """Fields that are free text in the CRD and a closed set in the operator."""
    for (kind, pointer), allowed in _ENUMS.items():
        value: Json = body if kind == body["kind"] else {}
        for part in pointer.strip("/").split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and value not in allowed:
            yield Finding(pointer=pointer, message=f"{value!r} is none of {sorted(allowed)}")


def replicas(body: Json) -> Iterator[Finding]:
    """0 <= min <= replicas <= max."""
    for pointer, group in _groups(body):
        low, high = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
        if low < 0 or low > high or not low <= group.get("replicas", low) <= high:
            yield Finding(pointer=pointer, message=f"replicas {group.get('replicas')} outside {low}..{high}")


def start_parameters(body: Json) -> Iterator[Finding]:
    """Strings only, resources in one place, no labels."""
    for pointer, group in _groups(body):
        for key, value in group.get("rayStartParams", {}).items():
            if not isinstance(value, str):
                yield Finding(pointer=f"{pointer}/rayStartParams/{key}", message=f"must be a string: {value!r}")
            if key == "labels" or (key == "resources" and group.get("resources")):
                yield Finding(
                    pointer=f"{pointer}/rayStartParams/{key}", message="stands in the group's own field, not here"
                )


def authentication(body: Json) -> Iterator[Finding]:
    """The mode is written: a block with a secret alone is unauthenticated."""
    for pointer, cluster in clusters(body):
        options = cluster.get("authOptions")
        if options is not None and options.get("mode") != "token":
            yield Finding(pointer=f"{pointer}/authOptions/mode", message="mode: token must be written")
        if not cluster.get("rayVersion"):
            yield Finding(pointer=f"{pointer}/rayVersion", message="is needed for token authentication")


def autoscaler(body: Json) -> Iterator[Finding]:
    """Version 2, with a security context and resources for its sidecar."""
    for pointer, cluster in clusters(body):
        if not cluster.get("enableInTreeAutoscaling"):
            continue
        options = cluster.get("autoscalerOptions", {})
        if options.get("version") != "v2":
            yield Finding(pointer=f"{pointer}/autoscalerOptions/version", message="must be v2")
        for field in ("securityContext", "resources"):
            if not options.get(field):
                yield Finding(pointer=f"{pointer}/autoscalerOptions/{field}", message="the sidecar has none of its own")


def jobs(body: Json) -> Iterator[Finding]:
    """The matrix of suspend, shutdown, time to live and deletion; a submitter that `restricted` admits."""
    if body["kind"] != "RayJob":
        return
    spec = body["spec"]
    shuts_down = spec.get("shutdownAfterJobFinishes", False)
    if not shuts_down and (spec.get("suspend") or spec.get("ttlSecondsAfterFinished", 0) > 0):
        yield Finding(pointer="/spec/shutdownAfterJobFinishes", message="suspend and ttlSecondsAfterFinished need it")
    if shuts_down and spec.get("deletionStrategy"):
        yield Finding(pointer="/spec/deletionStrategy", message="cannot stand beside shutdownAfterJobFinishes")
    if spec.get("submissionMode", "K8sJobMode") == "K8sJobMode" and not spec.get("submitterPodTemplate"):
        yield Finding(pointer="/spec/submitterPodTemplate", message="the default submitter has no security context")
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if field in spec and spec[field] <= 0:
            yield Finding(pointer=f"/spec/{field}", message="must be positive")


def serve_config(body: Json) -> Iterator[Finding]:
    """A RayService's Serve config parses, and a container port named `serve` is the one it listens on."""
    if body["kind"] != "RayService":
        return
    try:
        config = yaml.safe_load(body["spec"].get("serveConfigV2", ""))
        port = config["http_options"]["port"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        yield Finding(pointer="/spec/serveConfigV2", message=f"does not parse, or has no http_options.port: {error}")
        return
    for pointer, template in pods(body["spec"]):
        ports = {p["name"]: p["containerPort"] for c in template["spec"]["containers"] for p in c.get("ports", [])}
        if ports.get("serve") != port:
            yield Finding(
                pointer=pointer, message=f"no container port `serve` with {port}: the operator would assume 8000"
            )


def gated(body: Json) -> Iterator[Finding]:
    """Fields behind gates that are off by default."""
    for pointer, cluster in clusters(body):
        for field in ("networkPolicy", "tlsOptions", "historyServerOptions"):
            if field in cluster:
                yield Finding(pointer=f"{pointer}/{field}", message="its feature gate is off by default")
        if body["kind"] != "RayCluster" and "upgradeStrategy" in cluster:
            yield Finding(pointer=f"{pointer}/upgradeStrategy", message="belongs to a RayCluster of its own only")


def containers(body: Json) -> Iterator[Finding]:
    """Ours: image by digest, resources, full security context, own label. This also catches a merge that lost half of a pod."""
    for pointer, template in pods(body["spec"]):
        if "rlaas.io/workload" not in template.get("metadata", {}).get("labels", {}):
            yield Finding(pointer=pointer, message="no label rlaas.io/workload: no policy could select it")
        if not template["spec"].get("securityContext", {}).get("runAsNonRoot"):
            yield Finding(pointer=f"{pointer}/spec/securityContext", message="runAsNonRoot is not set")
        for index, container in enumerate(template["spec"]["containers"]):
            where, security = f"{pointer}/spec/containers/{index}", container.get("securityContext", {})
            if not re.search(r"@sha256:[0-9a-f]{64}$", container.get("image", "")):
                yield Finding(pointer=f"{where}/image", message="is not named by digest")
            if not container.get("resources", {}).get("limits"):
                yield Finding(pointer=f"{where}/resources", message="has no limits")
            if security.get("allowPrivilegeEscalation") is not False or security.get("capabilities", {}).get(
                "drop"
            ) != ["ALL"]:
                yield Finding(pointer=f"{where}/securityContext", message="is not what `restricted` asks for")
            yield from _secrets(container, where)


def _secrets(container: Json, where: str) -> Iterator[Finding]:
    for variable in container.get("env", []):
        if "value" in variable and re.search(r"TOKEN|PASSWORD|SECRET|KEY", variable["name"]):
            yield Finding(pointer=f"{where}/env/{variable['name']}", message="a secret is referenced, never contained")


RULES: tuple[Callable[[Json], Iterator[Finding]], ...] = (
    names,
    enums,
    replicas,
    start_parameters,
    authentication,
    autoscaler,
    jobs,
    serve_config,
    gated,
    containers,
)
