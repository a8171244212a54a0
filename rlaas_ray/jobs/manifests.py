"""Ray custom resources from typed values: the one builder of the manifests' samples and, later, of jobs on KubeRay.

Called by `python -m rlaas_ray.jobs.manifests DIR` (writes the samples) and by tests, which compare. Pure: same values, same
bytes; no clock, no randomness, no cluster. The rules that shape each pod are in docs/kubernetes.md with their reasons.
"""

# ruff: noqa: S104, S108 - addresses and paths inside pods; NetworkPolicies say who reaches them
from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

RAY_VERSION = "2.60.0"
KUBERAY_VERSION = "v1.7.0"
# Replaced by kustomize's `images:` field or by CI with the digest of the image that was built; never a tag.
PLACEHOLDER_DIGEST = "sha256:" + "0" * 64

_HEADING = "# Made by `python -m rlaas_ray.jobs.manifests manifests/samples`. Set the digests of your images first.\n"

Workload = Literal["serve", "train", "dev"]
Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a pod asks for. CPU is also what Ray is told; memory limit = request, since /dev/shm counts against it."""

    cpu: int
    memory_gi: int
    gpu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Names and images of one installation."""

    namespace: str = "rlaas"
    tenant: str = "default"
    registry: str = "rlaas"
    digest: str = PLACEHOLDER_DIGEST
    api_url: str = "http://rlaas-api:8000"
    key_secret: str = "rlaas-run-key"  # noqa: S105 - the name of a Secret, not a secret
    data_claim: str = "rlaas-data"

    def image(self, target: str) -> str:
        """`registry/target@digest`: images are named by digest only."""
        return f"{self.registry}/{target}@{self.digest}"


# Unset, Ray's ports are random, and no NetworkPolicy can name them. All values are strings: the CRD refuses integers.
_PORTS = {
    "node-manager-port": "6380",
    "object-manager-port": "6381",
    "min-worker-port": "20000",
    "max-worker-port": "20999",
    "dashboard-agent-listen-port": "52365",
    "dashboard-agent-grpc-port": "52366",
    "runtime-env-agent-port": "52367",
    "metrics-export-port": "8080",
}
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
_HEAD = Size(cpu=2, memory_gi=8)
_CPU_WORKER = Size(cpu=4, memory_gi=8)
_GPU_WORKER = Size(cpu=8, memory_gi=32, gpu=1)


def ray_cluster(profile: Profile, *, name: str = "rlaas-dev") -> Object:
    """A RayCluster for people and hand-submitted jobs: CPU workers, and GPU workers that start at none."""
    spec = _cluster_spec(profile, workload="dev", image="training-worker", gpu=True)
    return _object("RayCluster", name, profile=profile, spec={"upgradeStrategy": {"type": "None"}, **spec})


def ray_service(profile: Profile, *, name: str = "rlaas-serve", pool: str = "policies", replicas: int = 2) -> Object:
    """A RayService that keeps one pool of policies up; shares and versions travel in the API's route tables, never here."""
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8001},
        "applications": [
            {
                "name": pool,
                "route_prefix": "/",
                "import_path": "rlaas_ray.serve.deployment:pool_app",
                "args": {
                    "pool": pool,
                    "api_url": profile.api_url,
                    "replicas": replicas,
                    "native_host": "0.0.0.0",
                    "native_port": 8002,
                },
            }
        ],
    }
    spec = {
        "upgradeStrategy": {"type": "NewCluster"},
        "rayClusterDeletionDelaySeconds": 120,
        "excludeHeadPodFromServeSvc": True,
        "serveConfigV2": yaml.safe_dump(config, sort_keys=True),
        "rayClusterConfig": _cluster_spec(profile, workload="serve", image="inference", gpu=False),
    }
    return _object("RayService", name, profile=profile, spec=spec)


def ray_job(profile: Profile, *, name: str, verb: Literal["train", "optimize"], spec_text: str) -> list[Object]:
    """A ConfigMap with the spec and the RayJob that runs it: the spec's text never stands on a command line."""
    head_mount = {"name": "spec", "mountPath": "/etc/rlaas", "readOnly": True}
    cluster = _cluster_spec(profile, workload="train", image="training-worker", gpu=False, autoscaling=False)
    head = cluster["headGroupSpec"]["template"]["spec"]
    head["volumes"].append({"name": "spec", "configMap": {"name": f"{name}-spec"}})
    head["containers"][0]["volumeMounts"].append(head_mount)
    spec = {
        "entrypoint": shlex.join(["rlaas", verb, "/etc/rlaas/spec.yaml"]),
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "activeDeadlineSeconds": 86_400,
        "preRunningDeadlineSeconds": 1800,
        # A retry is a new attempt of the run, made by the API: `--attempt` stands in the entry point.
        "backoffLimit": 0,
        "submitterPodTemplate": _submitter(profile),
        "rayClusterSpec": cluster,
    }
    config_map = _object("ConfigMap", f"{name}-spec", profile=profile, api_version="v1")
    config_map["data"] = {"spec.yaml": spec_text}
    return [config_map, _object("RayJob", name, profile=profile, spec=spec)]


def samples(profile: Profile | None = None) -> dict[str, list[Object]]:
    """File name -> objects of `manifests/samples/`."""
    profile = profile or Profile()
    spec_text = yaml.safe_dump(
        {
            "kind": "Train",
            "env": "rlaas/RanControl-v1",
            "mode": "energy_saving",
            "name": "ran-ppo",
            "total_timesteps": 2_000_000,
            "seed": 7,
        },
        sort_keys=False,
    )
    return {
        "rayservice.yaml": [ray_service(profile)],
        "raycluster.yaml": [ray_cluster(profile)],
        "rayjob.yaml": ray_job(profile, name="rlaas-train-sample", verb="train", spec_text=spec_text),
    }


def to_yaml(objects: Sequence[Object]) -> str:
    """The text of a manifest file; keys sorted, so that equal objects give equal bytes."""
    return _HEADING + "---\n".join(yaml.dump(o, Dumper=_Dumper, sort_keys=True, width=110) for o in objects)


class _Dumper(yaml.SafeDumper):
    """Whole text in place of anchors, and blocks for text of several lines: a person reads these files."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _object(
    kind: str, name: str, *, profile: Profile, spec: Object | None = None, api_version: str = "ray.io/v1"
) -> Object:
    labels = {
        "app.kubernetes.io/name": "rlaas",
        "app.kubernetes.io/managed-by": "rlaas",
        "rlaas.io/tenant": profile.tenant,
    }
    body: Object = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": profile.namespace, "labels": labels},
    }
    if spec is not None:
        body["spec"] = spec
    return body


def _cluster_spec(profile: Profile, *, workload: Workload, image: str, gpu: bool, autoscaling: bool = True) -> Object:
    groups = [
        _group(
            "cpu",
            _CPU_WORKER,
            profile=profile,
            workload=workload,
            image=image,
            replicas=1 if workload != "serve" else 2,
        )
    ]
    if gpu:
        groups.append(_group("gpu", _GPU_WORKER, profile=profile, workload=workload, image=f"{image}-gpu", replicas=0))
    spec: Object = {
        "rayVersion": RAY_VERSION,
        "headGroupSpec": _head(profile, workload=workload, image=image, token=autoscaling),
        "workerGroupSpecs": groups,
    }
    # Written out: a block with a secret and no mode is unauthenticated (the operator tests for the word).
    spec["authOptions"] = {"mode": "token", "secretName": "rlaas-ray-token"}
    if autoscaling:
        spec["enableInTreeAutoscaling"] = True
        # The sidecar gets no security context of its own and `restricted` would refuse it.
        spec["autoscalerOptions"] = {
            "version": "v2",
            "idleTimeoutSeconds": 120,
            "securityContext": _CONTAINER_SECURITY,
            "resources": _resources(Size(cpu=1, memory_gi=1)),
        }
    return spec


def _head(profile: Profile, *, workload: Workload, image: str, token: bool) -> Object:
    ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}
    if workload == "serve":
        ports["serve"] = 8001
    container = _container("ray-head", profile.image(image), size=_HEAD, profile=profile, ports=ports)
    pod = _pod(container, workload=workload, profile=profile, account="rlaas-ray-head", token=token)
    # num-cpus 0: no work lands on the head.
    return {"rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **_PORTS}, "template": pod}


def _group(name: str, size: Size, *, profile: Profile, workload: Workload, image: str, replicas: int) -> Object:
    ports = {"metrics": 8080} | ({"serve": 8001, "native": 8002} if workload == "serve" else {})
    container = _container("ray-worker", profile.image(image), size=size, profile=profile, ports=ports)
    pod = _pod(container, workload=workload, profile=profile, account="rlaas-ray", token=False)
    if workload == "serve":
        # HAProxy's and the listener's drain must end before the kubelet's patience does.
        pod["spec"]["terminationGracePeriodSeconds"] = 150
    if size.gpu:
        pod["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        pod["spec"]["nodeSelector"] = {"rlaas.io/accelerator": "gpu"}
    return {
        "groupName": name,
        "replicas": replicas,
        "minReplicas": 0 if size.gpu else 1,
        "maxReplicas": 4 if size.gpu else 8,
        "rayStartParams": dict(_PORTS),
        "template": pod,
    }


def _submitter(profile: Profile) -> Object:
    container = _container(
        "ray-job-submitter", profile.image("training-worker"), size=Size(cpu=1, memory_gi=1), profile=profile, ports={}
    )
    pod = _pod(container, workload="train", profile=profile, account="rlaas-submitter", token=False)
    pod["spec"]["restartPolicy"] = "Never"
    return pod


def _container(name: str, image: str, *, size: Size, profile: Profile, ports: Mapping[str, int]) -> Object:
    container: Object = {
        "name": name,
        "image": image,
        "resources": _resources(size),
        "securityContext": _CONTAINER_SECURITY,
        "env": [
            {"name": "HOME", "value": "/tmp/home"},
            {"name": "OMP_NUM_THREADS", "value": "1"},
            # Workers otherwise run at nice 15, and so would the listener that carries the traffic.
            {"name": "RAY_worker_niceness", "value": "0"},
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            {"name": "RLAAS_HOME", "value": "/tmp/rlaas"},
            {"name": "RLAAS_URL", "value": profile.api_url},
            {"name": "RLAAS_DATA_URL", "value": "/data"},
            {"name": "RLAAS_API_KEY", "valueFrom": {"secretKeyRef": {"name": profile.key_secret, "key": "key"}}},
        ],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}],
    }
    if ports:
        container["ports"] = [{"name": n, "containerPort": p} for n, p in ports.items()]
    return container


def _pod(container: Object, *, workload: Workload, profile: Profile, account: str, token: bool) -> Object:
    return {
        # Own labels: Ray pods do not carry the name of the resource that they come from, so nothing else can select them.
        "metadata": {"labels": {"rlaas.io/workload": workload, "rlaas.io/tenant": profile.tenant}},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": token,
            "securityContext": _POD_SECURITY,
            "containers": [container],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": "8Gi"}},
                # Decisions, rewards and bundles: one ReadWriteMany volume that the API mounts too.
                {"name": "data", "persistentVolumeClaim": {"claimName": profile.data_claim}},
            ],
            "terminationGracePeriodSeconds": 60,
        },
    }


def _resources(size: Size) -> Object:
    amounts = {"cpu": str(size.cpu), "memory": f"{size.memory_gi}Gi"} | (
        {"nvidia.com/gpu": str(size.gpu)} if size.gpu else {}
    )
    return {"limits": dict(amounts), "requests": dict(amounts)}


def main(directory: str) -> None:
    """Write the samples."""
    for name, objects in samples().items():
        Path(directory, name).write_text(to_yaml(objects), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
