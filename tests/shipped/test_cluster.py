"""The cluster files parse, keep their rules, and agree on versions."""

import json
import re
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rlaas_ray.jobs import manifests

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "cluster" / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.strip() for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")
]


def test_every_image_is_a_target() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert stages == ["build", "runtime", "api", "worker", "training-worker", "inference"]


def test_base_is_named_by_digest_and_nothing_by_latest() -> None:
    bases = {line.split()[1] for line in INSTRUCTIONS if line.startswith("FROM")}
    assert bases <= {"${BASE}", "runtime"}
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert ":latest" not in DOCKERFILE


def test_images_do_not_run_as_root() -> None:
    users = [line.split()[1] for line in INSTRUCTIONS if line.startswith("USER")]
    assert users == ["10001:10001"]
    assert INSTRUCTIONS.index("USER 10001:10001") < INSTRUCTIONS.index("FROM runtime AS api")


def test_probe_tools_are_installed_and_no_entry_point_is_in_the_way() -> None:
    install = next(line for line in INSTRUCTIONS if "apt-get install" in line)
    assert all(re.search(rf"\b{tool}\b", install) for tool in ("bash", "wget", "grep"))
    assert not any(line.startswith("ENTRYPOINT") for line in INSTRUCTIONS)


def test_nothing_is_fetched_by_add_and_no_secret_is_an_argument() -> None:
    assert not any(line.startswith("ADD") for line in INSTRUCTIONS)
    arguments = [line for line in INSTRUCTIONS if line.startswith(("ARG", "ENV"))]
    assert not any(re.search(r"TOKEN|PASSWORD|SECRET|_KEY", line) for line in arguments)


def test_copied_paths_exist() -> None:
    for line in INSTRUCTIONS:
        if line.startswith("COPY") and "--from" not in line:
            assert all((ROOT / source).exists() for source in line.split()[1:-1]), line


def test_ray_up_configuration_is_valid() -> None:
    schema = json.loads(resources.files("ray.autoscaler").joinpath("ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((ROOT / "cluster" / "ray-up.yaml").read_text()), schema)


@pytest.mark.slow
def test_runtime_environment_parses_and_installs_nothing() -> None:
    from ray.runtime_env import RuntimeEnv

    body = yaml.safe_load((ROOT / "cluster" / "runtime-env.yaml").read_text())
    RuntimeEnv(**body)
    assert not {"pip", "conda", "working_dir", "py_modules"} & set(body)


def ray_versions() -> dict[str, Any]:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    found: dict[str, Any] = {
        "constraints.txt": pins["ray"],
        "installed": metadata.version("ray"),
        "cluster/Dockerfile": re.search(r"^ARG RAY_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)[1],
        "rlaas_ray/jobs/manifests.py": manifests.RAY_VERSION,
    }
    for file in (ROOT / "manifests").rglob("*.yaml"):
        for number, version in enumerate(re.findall(r"rayVersion: (\S+)", file.read_text())):
            found[f"{file.name}#{number}"] = version
    return found


def test_every_file_names_the_same_ray() -> None:
    versions = ray_versions()
    differ = {where: version for where, version in versions.items() if version != versions["constraints.txt"]}
    assert differ == {}
    requirement = re.search(r'"ray\[[a-z,]+\]>=([\d.]+),<([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert requirement[1] == versions["constraints.txt"].rsplit(".", 1)[0]
