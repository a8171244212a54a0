"""The manifests' samples: what the builder makes, what the API server and the operator accept, and traps that must be caught."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from rlaas_ray.jobs import crds, manifests, operator_rules

ROOT = Path(__file__).resolve().parents[2]
CRDS = Path(os.environ.get("RLAAS_KUBERAY_CRDS", ROOT.parent / "shared" / "kuberay-crds"))


@pytest.fixture(scope="module")
def server() -> crds.Crds:
    if not CRDS.is_dir():
        pytest.skip(f"no KubeRay CRDs at {CRDS}: set RLAAS_KUBERAY_CRDS to the operator's folder")
    return crds.Crds(CRDS)


def an_object(name: str) -> Any:
    return copy.deepcopy(manifests.samples()[name][-1])


@pytest.mark.parametrize("name", sorted(manifests.samples()))
def test_samples_are_what_the_builder_makes(name: str) -> None:
    assert (ROOT / "manifests" / "samples" / name).read_text() == manifests.to_yaml(manifests.samples()[name])


def test_no_sample_is_missing_or_strange() -> None:
    assert {f.name for f in (ROOT / "manifests" / "samples").iterdir()} == set(manifests.samples())


@pytest.mark.parametrize("name", sorted(manifests.samples()))
def test_samples_pass_server_and_operator(server: crds.Crds, name: str) -> None:
    for body in crds.read_objects((ROOT / "manifests" / "samples" / name).read_text()):
        if body["kind"] != "ConfigMap":
            assert [str(f) for f in server.validate(body) + operator_rules.check(body)] == []


def test_unknown_field_is_found_by_its_path(server: crds.Crds) -> None:
    body = an_object("raycluster.yaml")
    body["spec"]["headGroupSpec"]["templat"] = {}
    assert "/spec/headGroupSpec/templat: unknown field" in [str(f) for f in server.validate(body)]


def test_integer_start_parameter_is_refused(server: crds.Crds) -> None:
    body = an_object("raycluster.yaml")
    body["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert any(f.pointer.endswith("/rayStartParams/num-cpus") for f in server.validate(body))


def test_missing_container_name_is_refused(server: crds.Crds) -> None:
    body = an_object("raycluster.yaml")
    del body["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["name"]
    assert any("'name' is a required property" in f.message for f in server.validate(body))


def test_port_that_stands_twice_is_refused_after_defaulting(server: crds.Crds) -> None:
    body = an_object("raycluster.yaml")
    ports = body["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    ports.append({"name": "again", "containerPort": ports[0]["containerPort"], "protocol": "TCP"})
    assert any("duplicate" in f.message for f in server.validate(body))


def test_number_out_of_int32_is_refused(server: crds.Crds) -> None:
    body = an_object("rayjob.yaml")
    body["spec"]["ttlSecondsAfterFinished"] = 2**31
    assert any(f.pointer == "/spec/ttlSecondsAfterFinished" for f in server.validate(body))


def test_null_in_an_object_is_dropped_not_refused(server: crds.Crds) -> None:
    body = an_object("raycluster.yaml")
    body["spec"]["headGroupSpec"]["template"]["metadata"]["annotations"] = None
    assert server.validate(body) == []


def test_key_that_stands_twice_in_yaml_is_refused() -> None:
    with pytest.raises(Exception, match="twice"):
        crds.read_objects("a: 1\na: 2\n")


def _drop(path: str) -> Any:
    def edit(body: Any) -> None:
        *front, last = path.split("/")
        for part in front:
            body = body[int(part) if part.isdigit() else part]
        del body[last]

    return edit


def _put(path: str, value: Any) -> Any:
    def edit(body: Any) -> None:
        *front, last = path.split("/")
        for part in front:
            body = body[int(part) if part.isdigit() else part]
        body[last] = value

    return edit


PLANTED = [
    ("raycluster.yaml", _drop("spec/authOptions/mode"), "mode: token"),
    ("raycluster.yaml", _drop("spec/autoscalerOptions/securityContext"), "sidecar"),
    ("raycluster.yaml", _put("spec/autoscalerOptions/version", "v1"), "v2"),
    ("raycluster.yaml", _put("metadata/name", "9cluster"), "DNS-1035"),
    ("raycluster.yaml", _put("metadata/name", "a" * 54), "DNS-1035"),
    ("raycluster.yaml", _put("spec/workerGroupSpecs/0/minReplicas", 9), "outside"),
    ("raycluster.yaml", _put("spec/upgradeStrategy/type", "Recreat"), "none of"),
    ("raycluster.yaml", _put("spec/networkPolicy", {}), "gate"),
    ("raycluster.yaml", _drop("spec/rayVersion"), "token authentication"),
    ("raycluster.yaml", _put("spec/workerGroupSpecs/0/rayStartParams/labels", "a=b"), "own field"),
    ("raycluster.yaml", _put("spec/headGroupSpec/template/spec/containers/0/image", "rlaas/worker:latest"), "digest"),
    ("raycluster.yaml", _drop("spec/headGroupSpec/template/spec/containers/0/securityContext"), "restricted"),
    ("raycluster.yaml", _drop("spec/headGroupSpec/template/spec/containers/0/resources"), "limits"),
    ("raycluster.yaml", _drop("spec/headGroupSpec/template/metadata"), "label"),
    (
        "raycluster.yaml",
        _put("spec/headGroupSpec/template/spec/containers/0/env", [{"name": "A_TOKEN", "value": "x"}]),
        "secret",
    ),
    ("rayjob.yaml", _drop("spec/submitterPodTemplate"), "security context"),
    ("rayjob.yaml", _put("spec/shutdownAfterJobFinishes", False), "need it"),
    ("rayjob.yaml", _put("spec/deletionStrategy", {"deletionRules": []}), "beside"),
    ("rayjob.yaml", _put("spec/submissionMode", "k8sJobMode"), "none of"),
    ("rayjob.yaml", _put("spec/activeDeadlineSeconds", 0), "positive"),
    ("rayservice.yaml", _put("spec/serveConfigV2", "a: ["), "does not parse"),
    ("rayservice.yaml", _put("spec/serveConfigV2", "http_options: {port: 9}"), "8000"),
    ("rayservice.yaml", _put("spec/rayClusterConfig/upgradeStrategy", {"type": "None"}), "own only"),
]


@pytest.mark.parametrize("case", range(len(PLANTED)))
def test_planted_fault_is_found(case: int) -> None:
    name, edit, words = PLANTED[case]
    body = an_object(name)
    assert operator_rules.check(body) == []
    edit(body)
    assert any(words in f.message for f in operator_rules.check(body)), [str(f) for f in operator_rules.check(body)]


def test_entry_point_quotes_what_a_shell_would_run() -> None:
    config_map, job = manifests.ray_job(
        manifests.Profile(), name="rlaas-train-x", verb="train", spec_text="name: $(id); rm -rf /\n"
    )
    assert job["spec"]["entrypoint"] == "rlaas train /etc/rlaas/spec.yaml"
    assert config_map["data"]["spec.yaml"] == "name: $(id); rm -rf /\n"


def test_gpu_group_starts_at_none_and_tolerates_its_taint() -> None:
    group = next(g for g in an_object("raycluster.yaml")["spec"]["workerGroupSpecs"] if g["groupName"] == "gpu")
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert group["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
