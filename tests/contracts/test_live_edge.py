"""The same episode in the simulator and on a cluster, through the real client: the twin, and RLAAS_TEST_KUBECONFIG's cluster.

What only the twin can show (faults, rights, somebody else's changes) is below it.
"""

import ast
import contextlib
import dataclasses
import importlib.util
import logging
import os
import re
import secrets
import socket
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from kubernetes import client

from rlaas_ray import errors
from rlaas_ray.envs import registry
from rlaas_ray.envs.edge import config, env, model
from rlaas_ray.envs.edge import demand as demands
from rlaas_ray.envs.vector import DomainEnv
from rlaas_ray.live import guards, kubernetes
from rlaas_ray.live.edge import LiveEdgePlacement, instance_of
from rlaas_ray.live.environment import WallClock
from rlaas_ray.live.metrics import InvalidStep, Reading
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.kube_api import KubeApi
from rlaas_ray.testing.kube_rights import Rights

ROOT = Path(__file__).resolve().parents[2]
RBAC = list(yaml.safe_load_all((ROOT / "manifests" / "edge-live" / "rbac.yaml").read_text()))
ACCOUNT, TOKEN = "edge:rlaas-edge", "twin-token"
CORE, APPS = client.CoreV1Api, client.AppsV1Api  # the client loads them when first asked for, which takes seconds

# Starts take 1, 2 and 4 steps: 10 s cached, 30 s exactly, 50 s, 106 s.
SMALL = config.Instance(
    nodes=(
        config.Node(name="edge-0", cpu=3, memory_gib=8, price=0.06, pull_mbps=100, rtt_ms=(4, 20)),
        config.Node(name="edge-1", cpu=2, memory_gib=4, price=0.06, pull_mbps=200, rtt_ms=(20, 4)),
        config.Node(name="cloud", cpu=8, memory_gib=32, price=0.03, pull_mbps=1000, rtt_ms=(80, 82)),
    ),
    services=(
        config.Service(name="detect", cpu=1, memory_gib=1, rate=40, image_mb=500, sla_ms=100, base=80),
        config.Service(name="analyse", cpu=0.5, memory_gib=2, rate=20, image_mb=1200, sla_ms=150, base=30),
    ),
    start=((0, 0, 3), (0, 0, 2)),
)


class Told:
    """A metrics source that is told what it gives."""

    def __init__(self, reading: Reading | None) -> None:
        self.reading = reading

    def read(self) -> Reading:
        if self.reading is None:
            raise InvalidStep("metric demand of detect in zone-0", given="nothing")
        return self.reading


def rates(instance: config.Instance) -> np.ndarray:
    """A demand that stays, uneven over zones."""
    base = np.asarray([service.base for service in instance.services])[:, None]
    share = np.arange(1, instance.zones + 1) / np.arange(1, instance.zones + 1).sum()
    return base * share


def quiet(instance: config.Instance) -> Reading:
    count = len(instance.services)
    return Reading(rates(instance), np.full(count, 50.0), np.zeros(count))


class Twin:
    """The twin, holding an instance's start, under the rights of the manifest."""

    def __init__(self, stack: contextlib.ExitStack, tmp_path: Path, instance: config.Instance = SMALL) -> None:
        self.instance, self.clock = instance, ManualClock()
        pull = {f"{s.name}--{n.name}": s.image_mb * 8 / n.pull_mbps for s in instance.services for n in instance.nodes}
        self.api = stack.enter_context(
            KubeApi(
                clock=self.clock,
                start_s=lambda name, cached: instance.start_s + (0.0 if cached else pull[name]),
                rbac=RBAC,
                tokens={TOKEN: ACCOUNT},
                grace_s=45.0,
            )
        )
        for node in instance.nodes:
            self.api.add_node(node.name, cpu=node.cpu, memory=node.memory_gib * 2**30)
        for service, row in zip(instance.services, instance.start, strict=True):
            for node, replicas in zip(instance.nodes, row, strict=True):
                self.api.add_deployment(
                    service.name,
                    node=node.name,
                    replicas=replicas,
                    cpu=service.cpu,
                    memory=service.memory_gib * 2**30,
                )
        self.kubeconfig = self.api.kubeconfig(tmp_path / "kubeconfig", token=TOKEN)
        self.cluster = {"namespace": "edge", "context": "twin", "kubeconfig": str(self.kubeconfig)}

    def counts(self) -> np.ndarray:
        """(2, S, N): ready and starting."""
        told = self.api.counts()
        pairs = [[told[f"{s.name}--{n.name}"] for n in self.instance.nodes] for s in self.instance.services]
        return np.moveaxis(np.asarray(pairs), -1, 0)

    def patches(self) -> list:
        return [request for request in self.api.requests if request.method == "PATCH"]


class Real:
    """A namespace of its own on the cluster of RLAAS_TEST_KUBECONFIG, with pause containers on its first two nodes."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        path, context = os.environ["RLAAS_TEST_KUBECONFIG"], os.environ["RLAAS_TEST_CONTEXT"]
        self.namespace, self.clock = f"rlaas-test-{secrets.token_hex(4)}", WallClock()
        api = kubernetes.connect(context=context, kubeconfig=path)
        self._core, self._apps = CORE(api), APPS(api)
        usable = [n.metadata.name for n in self._core.list_node().items if not n.spec.unschedulable][:2]
        node = {"cpu": 0.2, "memory_gib": 0.25, "price": 0.05, "pull_mbps": 1e9}
        self.instance = config.Instance(
            nodes=tuple(config.Node(name=name, rtt_ms=(5.0,), **node) for name in usable),
            services=(
                config.Service(name="pause", cpu=0.02, memory_gib=0.015625, rate=50, image_mb=1, sla_ms=100, base=40),
            ),
            start=((2, *(0 for _ in usable[1:])),),
            dt_s=10.0,
            start_s=5.0,
            images_everywhere=True,
        )
        self._core.create_namespace({"metadata": {"name": self.namespace}})
        stack.callback(self._core.delete_namespace, self.namespace)
        for name, replicas in zip(usable, self.instance.start[0], strict=True):
            self._apps.create_namespaced_deployment(self.namespace, self._deployment(name, replicas))
        self.cluster = {"namespace": self.namespace, "context": context, "kubeconfig": path}
        for _ in range(60):
            if self.counts()[0].sum() == 2:
                return
            self.clock.sleep(1.0)
        pytest.fail("the two pods of the start were not ready after 60 s")

    def _deployment(self, node: str, replicas: int) -> dict:
        labels = {kubernetes.SERVICE: "pause", kubernetes.NODE: node}
        requests = {"cpu": "20m", "memory": "16Mi"}
        container = {"name": "pause", "image": "registry.k8s.io/pause:3.10", "resources": {"requests": requests}}
        pod = {
            "nodeSelector": {kubernetes.HOSTNAME: node},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        }
        return {
            "metadata": {"name": f"pause--{node}", "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }

    def counts(self) -> np.ndarray:
        found = {d.metadata.name: d for d in self._apps.list_namespaced_deployment(self.namespace).items}
        made = [found[f"pause--{node.name}"] for node in self.instance.nodes]
        ready = np.asarray([[d.status.ready_replicas or 0 for d in made]])
        return np.stack([ready, np.asarray([[d.spec.replicas for d in made]]) - ready])


@pytest.fixture
def twin(tmp_path: Path):
    with contextlib.ExitStack() as stack:
        yield Twin(stack, tmp_path)


@pytest.fixture(params=["twin", pytest.param("real", marks=pytest.mark.real)])
def server(request: pytest.FixtureRequest, tmp_path: Path):
    with contextlib.ExitStack() as stack:
        if request.param == "twin":
            yield Twin(stack, tmp_path)
            return
        missing = [name for name in ("RLAAS_TEST_KUBECONFIG", "RLAAS_TEST_CONTEXT") if name not in os.environ]
        if missing:
            pytest.skip(f"no cluster: set {' and '.join(missing)}")
        yield Real(stack)


def alive(world, **options) -> LiveEdgePlacement:
    options = {"metrics": Told(quiet(world.instance)), "apply": True} | options
    return LiveEdgePlacement(cluster=world.cluster, instance=world.instance, clock=world.clock, **options)


def simulated(instance: config.Instance, *, action: str = "discrete") -> DomainEnv:
    trace = np.repeat(rates(instance)[None], instance.steps + 1, axis=0)
    params = model.params(instance, process=demands.trace(trace, instance=instance), action=action)
    return DomainEnv(env.EdgePlacement(params))


def number(kind: str, service: int, source: int, target: int, *, instance: config.Instance = SMALL) -> int:
    wanted = (kind, service, source, target)
    return next(k for k in range(instance.actions) if config.decode(k, instance=instance) == wanted)


def place(service: int, node: int) -> int:
    return number(config.PLACE, service, -1, node)


def remove(service: int, node: int) -> int:
    return number(config.REMOVE, service, node, -1)


def move(service: int, source: int, target: int) -> int:
    return number(config.MOVE, service, source, target)


# --- twin and real ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_episode_is_the_same_in_the_simulator_and_on_the_cluster(server) -> None:
    """Pod counts after every step; on the twin, whose starts take what the model says, every observation and reward too."""
    sim, told = simulated(server.instance), Told(quiet(server.instance))
    live = alive(server, metrics=told)
    on_twin = isinstance(server, Twin)
    seen, _ = sim.reset(seed=7)
    seen_live, _ = live.reset()
    rng, kinds = np.random.default_rng(7), set()
    for _ in range(20 if on_twin else 6):
        mask, allowed = seen["action_mask"], seen_live["action_mask"]
        assert not (allowed > mask).any()  # guards only take away
        action = int(rng.choice(np.flatnonzero(allowed)[1:]))
        kinds.add(config.decode(action, instance=server.instance)[0])
        seen, reward, _, _, info = sim.step(action)
        cost = np.full(len(server.instance.services), info["cost"][0])
        told.reading = Reading(rates(server.instance), info["latency_by_service"], cost)
        seen_live, reward_live, ended, _, info_live = live.step(action)
        state = sim._state
        wanted = np.stack([state["run"][0], state["starting"][0]])
        np.testing.assert_array_equal(server.counts(), wanted)
        assert not info_live["invalid"]
        assert not ended
        if on_twin:
            np.testing.assert_array_equal(seen_live["observations"], seen["observations"])
            np.testing.assert_allclose(reward_live, reward, rtol=1e-12)
            np.testing.assert_allclose(info_live["objectives"], info["objectives"], rtol=1e-12)
            np.testing.assert_allclose(info_live["cost"], info["cost"], rtol=1e-12)
    assert not on_twin or kinds == {config.PLACE, config.REMOVE, config.MOVE}
    live.close()


def test_a_dry_run_changes_nothing_and_shows_what_it_would(server, caplog: pytest.LogCaptureFixture) -> None:
    live, before = alive(server, apply=False), server.counts()
    instance = server.instance
    live.reset()
    with caplog.at_level(logging.INFO, logger="rlaas_ray.live"):
        action = number(config.PLACE, 0, -1, 0, instance=instance)
        *_, info = live.step(action)
    name = f"{instance.services[0].name}--{instance.nodes[0].name}"
    held = int(before[:, 0, 0].sum())
    assert info["patches"] == [{"deployment": name, "before": held, "after": held + 1, "dry_run": True}]
    assert info["dry_run"]
    assert info["objectives"][3] == 0.0  # nothing moved
    np.testing.assert_array_equal(server.counts(), before)
    assert f"dry run: deployment {live._cluster['namespace']}/{name} replicas {held} -> {held + 1}" in caplog.text
    live.close()


# --- spaces and doors -------------------------------------------------------------------------------------------------


def test_spaces_are_those_of_the_simulator(twin: Twin) -> None:
    for action in ("discrete", "multi"):
        live, sim = alive(twin, action=action), simulated(SMALL, action=action)
        assert live.observation_space == sim.observation_space
        assert live.action_space == sim.action_space
        seen, _ = live.reset()
        assert live.observation_space.contains(seen)
        live.close()
    with pytest.raises(errors.NotBuilt):
        alive(twin, action="replicas")


def test_made_by_name_it_is_not_tried_out(twin: Twin) -> None:
    """The registry steps what it does not know once; a step of this one would patch a cluster."""
    document = {"metrics": {"json": "http://127.0.0.1:1/metrics"}, "apply": True, "cluster": twin.cluster}
    made = registry.make("rlaas_ray.live.edge:LiveEdgePlacement", config=document, mode="latency")
    assert twin.api.requests == []
    assert made.action_space == gymnasium.spaces.Discrete(127)


def test_macro_actions_are_one_operation_a_service(twin: Twin) -> None:
    live = alive(twin, action="multi")
    live.reset()
    *_, info = live.step(np.asarray([1, 3]))
    assert [(p["deployment"], p["before"], p["after"]) for p in info["patches"]] == [
        ("detect--edge-1", 0, 1),
        ("analyse--edge-1", 0, 1),
    ]
    assert [m.target for m in live.placement.moves] == [1]
    live.close()


def test_an_instance_of_a_document_is_the_same(twin: Twin) -> None:
    document = dataclasses.asdict(SMALL)
    with LiveEdgePlacement(cluster=twin.cluster, metrics=Told(quiet(SMALL)), instance=document) as live:
        made = live.domain.params.instance
        assert dataclasses.replace(made, start=SMALL.start) == SMALL
    with pytest.raises(errors.InvalidInput, match="cores"):
        LiveEdgePlacement(cluster=twin.cluster, metrics={"json": "u"}, instance=document | {"cores": 1})


def test_cluster_and_zones_are_checked_before_anything_is_met(twin: Twin) -> None:
    with pytest.raises(errors.UnknownField) as told:
        LiveEdgePlacement(cluster={"namespace": "edge", "contxt": "a"}, metrics={"json": "u"})
    assert "context" in told.value.cure
    with pytest.raises(errors.NotBuilt, match="single"):
        LiveEdgePlacement(cluster={"namespace": "edge", "layout": "single"}, metrics={"json": "u"})
    with pytest.raises(errors.InvalidInput, match="namespace"):
        LiveEdgePlacement(cluster={}, metrics={"json": "u"})
    with pytest.raises(errors.InvalidInput, match="kube-system"):
        LiveEdgePlacement(cluster={"namespace": "kube-system"}, metrics={"json": "u"})
    with pytest.raises(errors.InvalidInput, match="4 names"):
        LiveEdgePlacement(cluster={"namespace": "edge"}, metrics={"json": "u"}, zones=["a"])


def test_no_context_is_ever_guessed(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(errors.InvalidInput, match="no context"):
        kubernetes.connect(kubeconfig=str(twin.kubeconfig))
    with pytest.raises(errors.InvalidInput, match="other"):
        kubernetes.connect(kubeconfig=str(twin.kubeconfig), context="other")


# --- the wire and the rights ------------------------------------------------------------------------------------------


def a_cluster(twin: Twin, *, apply: bool = True, timeout_s: float = 10.0) -> kubernetes.Cluster:
    api = kubernetes.connect(context="twin", kubeconfig=str(twin.kubeconfig))
    limits = guards.Limits(timeout_s=timeout_s)
    return kubernetes.Cluster(api, namespace="edge", clock=twin.clock, limits=limits, apply=apply)


def seen(cluster: kubernetes.Cluster, name: str = "detect--cloud") -> kubernetes.Deployment:
    return next(one for one in cluster.deployments() if one.name == name)


def test_what_goes_over_the_wire(twin: Twin) -> None:
    dry = a_cluster(twin, apply=False)
    dry.scale(seen(dry), replicas=4)
    request = twin.patches()[-1]
    assert request.path == "/apis/apps/v1/namespaces/edge/deployments/detect--cloud/scale"
    assert request.query == {"dryRun": "All"}
    assert request.content_type == "application/strategic-merge-patch+json"
    assert request.body["spec"] == {"replicas": 4}
    wet = a_cluster(twin)
    wet.scale(seen(wet), replicas=4)
    assert twin.patches()[-1].query == {}
    assert seen(wet).replicas == 4
    assert wet.usage().keys() == {pod.name for pod in wet.pods() if pod.ready}
    assert twin.api.requests[-2].path == "/apis/metrics.k8s.io/v1beta1/namespaces/edge/pods"


def test_quantities_are_read_with_their_units(twin: Twin) -> None:
    cluster = a_cluster(twin)
    assert {round(cpu, 9) for cpu, _ in cluster.usage().values()} == {0.5, 0.25}
    assert {memory for _, memory in cluster.usage().values()} == {2.0**29, 2.0**30}
    assert kubernetes._amount("156340n") == pytest.approx(0.000156340, rel=1e-12)
    assert kubernetes._amount("11Mi") == 11534336.0
    assert cluster.nodes()["edge-1"].memory == 4 * 2.0**30
    assert seen(cluster, "analyse--cloud").cpu == 0.5


def test_usage_is_unknown_and_not_zero_while_a_pod_has_no_figure(twin: Twin) -> None:
    live = alive(twin)
    live.reset()
    live.step(place(1, 0))
    cores, gib = live.usage()
    np.testing.assert_array_equal(cores, [[0, 0, 1.5], [np.nan, 0, 0.5]])
    np.testing.assert_array_equal(gib[1], [np.nan, 0, 2.0])
    live.close()


def test_the_manifest_gives_exactly_the_least_rights() -> None:
    namespaced = {
        ("get", "apps", "deployments"),
        ("list", "apps", "deployments"),
        ("get", "apps", "deployments/scale"),
        ("patch", "apps", "deployments/scale"),
        ("get", "", "pods"),
        ("list", "", "pods"),
        ("get", "metrics.k8s.io", "pods"),
        ("list", "metrics.k8s.io", "pods"),
    }
    wide = {("get", "", "nodes"), ("list", "", "nodes")}
    given = {(r.account, r.verb, r.group, r.resource, r.namespace) for r in Rights(RBAC).all}
    assert given == {(ACCOUNT, *right, "edge") for right in namespaced} | {(ACCOUNT, *right, None) for right in wide}
    kinds = [document["kind"] for document in RBAC]
    assert kinds == ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
    rules = [rule for document in RBAC for rule in document.get("rules", [])]
    assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in rules)
    assert "*" not in str(rules)
    assert "secrets" not in str(rules)


@pytest.mark.parametrize(
    ("verb", "group", "resource"),
    [
        ("list", "apps", "deployments"),
        ("list", "", "pods"),
        ("list", "", "nodes"),
        ("patch", "apps", "deployments/scale"),
        ("get", "apps", "deployments/scale"),
        ("list", "metrics.k8s.io", "pods"),
    ],
)
def test_each_right_is_needed_and_its_lack_is_named(twin: Twin, verb: str, group: str, resource: str) -> None:
    poorer = yaml.safe_load_all(yaml.safe_dump_all(RBAC))
    documents = list(poorer)
    for document in documents:
        for rule in document.get("rules", []):
            if rule["apiGroups"] == [group] and rule["resources"] == [resource]:
                rule["verbs"].remove(verb)
    cluster = a_cluster(twin)
    deployment = seen(cluster)
    twin.api._rights = Rights(documents)
    calls = {
        ("list", "deployments"): cluster.deployments,
        ("list", "nodes"): cluster.nodes,
        ("list", "pods"): cluster.usage if group else cluster.pods,
    }
    if verb == "get":
        twin.api.touch(deployment.name)  # the scale is read again on a conflict
    call = calls.get((verb, resource), lambda: cluster.scale(deployment, replicas=4))
    with pytest.raises(errors.Forbidden, match="403") as told:
        call()
    assert "manifests/edge-live/rbac.yaml" in told.value.cure


def test_a_stranger_is_refused(twin: Twin, tmp_path: Path) -> None:
    path = twin.api.kubeconfig(tmp_path / "stranger", token="another")
    api = kubernetes.connect(context="twin", kubeconfig=str(path))
    cluster = kubernetes.Cluster(api, namespace="edge", clock=twin.clock, limits=guards.Limits())
    with pytest.raises(errors.Unauthorized):
        cluster.pods()


# --- conflicts, faults, the stop --------------------------------------------------------------------------------------


def test_a_change_that_is_not_of_the_replicas_is_read_again_and_the_patch_repeated(twin: Twin) -> None:
    cluster = a_cluster(twin)
    deployment = seen(cluster)
    twin.api.touch("detect--cloud")
    cluster.scale(deployment, replicas=4)
    assert [request.method for request in twin.api.requests[-3:]] == ["PATCH", "GET", "PATCH"]
    assert twin.api.requests[-2].path.endswith("/scale")
    assert seen(cluster).replicas == 4
    assert cluster.failures.at_s == ()


def test_a_second_conflict_ends_it(twin: Twin) -> None:
    cluster = a_cluster(twin)
    deployment = seen(cluster)
    twin.api.fail("meanwhile", method="PATCH", times=9, act=lambda: twin.api.touch("detect--cloud"))
    with pytest.raises(errors.Conflict):
        cluster.scale(deployment, replicas=4)
    assert len(twin.patches()) == 2
    assert seen(cluster).replicas == 3


def test_what_somebody_else_scaled_is_not_overwritten(twin: Twin) -> None:
    cluster = a_cluster(twin)
    deployment = seen(cluster)
    twin.api.scale("detect--cloud", 5)
    with pytest.raises(errors.Conflict, match="somebody else"):
        cluster.scale(deployment, replicas=4)
    assert seen(cluster).replicas == 5
    live = alive(twin)
    live.reset()
    twin.api.fail("meanwhile", method="PATCH", act=lambda: twin.api.scale("detect--edge-0", 1))
    *_, info = live.step(place(0, 0))
    assert info["invalid"]
    assert "somebody else" in info["refused"][0]
    assert twin.counts()[:, 0, 0].sum() == 1
    live.close()


def test_scaling_from_none_survives_a_conflict(twin: Twin) -> None:
    """A scale of 0 comes without the field."""
    cluster = a_cluster(twin)
    deployment = seen(cluster, "detect--edge-0")
    twin.api.touch("detect--edge-0")
    cluster.scale(deployment, replicas=1)
    assert seen(cluster, "detect--edge-0").replicas == 1


@pytest.mark.parametrize("kind", ["lose", "drop", 500, 503, 429])
def test_a_patch_is_tried_again_and_done_once(twin: Twin, kind: int | str) -> None:
    cluster = a_cluster(twin)
    deployment, start = seen(cluster), twin.clock.monotonic_s()
    twin.api.fail(kind, method="PATCH")
    cluster.scale(deployment, replicas=4)
    assert seen(cluster).replicas == 4
    assert twin.clock.monotonic_s() - start == pytest.approx(0.5)
    assert cluster.failures.at_s == ()


def test_retry_after_is_honoured(twin: Twin) -> None:
    cluster, start = a_cluster(twin), twin.clock.monotonic_s()
    twin.api.fail(429, times=1, retry_after="7")
    cluster.pods()
    assert twin.clock.monotonic_s() - start == pytest.approx(7.0)


def test_a_server_that_stays_away_is_a_failure_after_three_retries(twin: Twin) -> None:
    cluster, start = a_cluster(twin), twin.clock.monotonic_s()
    twin.api.fail(500, times=4)
    with pytest.raises(errors.Unavailable, match="500"):
        cluster.pods()
    assert twin.clock.monotonic_s() - start == pytest.approx(0.5 + 1.0 + 2.0)
    assert len(twin.api.requests) == 4
    assert len(cluster.failures.at_s) == 1


def test_a_call_that_hangs_is_given_up(twin: Twin) -> None:
    cluster = a_cluster(twin, timeout_s=0.1)
    twin.api.fail("hang", times=4)
    with pytest.raises(errors.Unavailable, match="ReadTimeoutError"):
        cluster.pods()


def test_three_failures_end_all_patches_and_sound_the_alarm(twin: Twin, caplog: pytest.LogCaptureFixture) -> None:
    live = alive(twin)
    live.reset()
    twin.api.fail(403, method="PATCH", times=3)
    infos = [live.step(action)[4] for action in (place(0, 0), remove(0, 2), place(1, 0))]
    assert [info["invalid"] for info in infos] == [True] * 3
    assert [info["alarm"] for info in infos] == [False, False, True]
    assert "ALARM" in caplog.text
    np.testing.assert_array_equal(np.flatnonzero(infos[-1]["action_mask"]), [0])
    sent, before = len(twin.patches()), twin.counts()
    twin.clock.advance(3600)
    *_, info = live.step(place(0, 0))
    assert info["invalid"]
    assert info["alarm"]
    with pytest.raises(errors.Refused):
        live.placement.cluster.scale(seen(live.placement.cluster), replicas=9)
    assert len(twin.patches()) == sent
    np.testing.assert_array_equal(twin.counts(), before)
    live.step(0)  # it can still be watched
    live.close()


def test_a_step_that_nobody_saw_has_no_reward(twin: Twin) -> None:
    told = Told(quiet(SMALL))
    live = alive(twin, metrics=told)
    live.reset()
    told.reading = None
    with pytest.raises(InvalidStep, match="demand of detect"):
        live.step(0)
    told.reading = quiet(SMALL)
    twin.api.fail(403, path="/pods")
    with pytest.raises(InvalidStep, match="403"):
        live.step(0)
    *_, info = live.step(place(0, 0))
    assert not info["invalid"]
    live.close()


# --- guards and moves on the cluster ----------------------------------------------------------------------------------


def test_a_masked_action_is_nothing_and_says_so(twin: Twin) -> None:
    live = alive(twin)
    live.reset()
    *_, info = live.step(remove(0, 0))
    assert info["invalid"]
    assert info["refused"] == ["the mask does not allow it"]
    assert twin.patches() == []
    live.close()


def test_a_service_is_changed_once_in_a_period(twin: Twin) -> None:
    live = alive(twin)
    live.reset()
    live.step(place(0, 0))
    placement = live.placement
    twin.clock.advance(30.0)
    first = placement.act(guards.Operation(0, target=1), sight=placement.look())
    second = placement.act(guards.Operation(0, target=1), sight=placement.look())
    other = placement.act(guards.Operation(1, target=1), sight=placement.look())
    assert (first.refused, other.refused) == (None, None)
    assert "one operation per 30 s" in second.refused
    live.close()


def test_a_slow_server_makes_the_step_longer_and_blocks_nothing(twin: Twin) -> None:
    """The period counts from the patch, so the service is free again when the step is over."""
    live, start = alive(twin), twin.clock.monotonic_s()
    live.reset()
    for action in (place(0, 0), place(0, 1)):
        twin.api.fail("meanwhile", method="PATCH", act=lambda: twin.clock.advance(1.5))
        *_, info = live.step(action)
        assert not info["invalid"]
        assert info["action_mask"][remove(0, 2)] == 1
    assert twin.clock.monotonic_s() - start == pytest.approx(2 * 31.5)
    live.close()


def test_a_move_never_leaves_fewer_ready_pods(twin: Twin) -> None:
    live = alive(twin)
    live.reset()
    lowest, seen_s = [3], []
    sleep = twin.clock.sleep

    def watched(seconds: float) -> None:
        sleep(seconds)
        lowest.append(int(twin.counts()[0, 0].sum()))
        seen_s.append(twin.clock.monotonic_s())

    twin.clock.sleep = watched
    live.step(move(0, 2, 0))  # 500 MB at 100 Mbit/s: ready after 50 s, in the second step
    np.testing.assert_array_equal(twin.counts(), [[[0, 0, 3], [0, 0, 2]], [[1, 0, 0], [0, 0, 0]]])
    live.step(0)
    np.testing.assert_array_equal(twin.counts(), [[[1, 0, 2], [0, 0, 2]], [[0, 0, 0], [0, 0, 0]]])
    assert min(lowest) == 3
    assert live.placement.moves == []
    live.close()


def test_a_move_whose_pod_is_evicted_waits_for_the_next_one(twin: Twin) -> None:
    live = alive(twin)
    live.reset()
    live.step(move(1, 2, 0))
    twin.api.evict("analyse--edge-0")  # the image is there, the next pod takes 10 s
    live.step(0)
    np.testing.assert_array_equal(twin.counts()[:, 1], [[1, 0, 1], [0, 0, 0]])
    live.close()


def test_the_second_half_of_a_move_is_tried_until_it_is_done(twin: Twin) -> None:
    live = alive(twin)
    live.reset()
    live.step(move(0, 2, 0))
    twin.api.fail(409, method="PATCH", times=2)
    live.step(0)
    np.testing.assert_array_equal(twin.counts()[0, 0], [1, 0, 2])
    live.close()


def test_a_pod_on_its_way_out_is_not_taken_for_the_one_that_starts(twin: Twin) -> None:
    """It is listed, and ready, for 45 s more: past the next step."""
    live = alive(twin)
    live.reset()
    live.step(remove(0, 2))
    *_, info = live.step(place(0, 2))  # cached: ready after 10 s
    twin.api.scale("detect--cloud", 5)
    sight = live.placement.look()
    assert (int(sight.counts.ready[0, 2]), int(sight.counts.starting[0, 2])) == (3, 2)
    cluster = live.placement.cluster
    assert not info["invalid"]
    assert len([pod for pod in cluster.pods() if pod.name.startswith("detect--cloud")]) == 5
    live.close()


def test_nobody_places_on_a_node_that_is_cordoned_or_silent(twin: Twin) -> None:
    live = alive(twin)
    for state in ({"unschedulable": True}, {"ready": False}):
        twin.api.set_node("edge-0", **state)
        mask = live.reset()[1]["action_mask"]
        assert mask[place(0, 0)] == mask[move(0, 2, 0)] == 0
        assert mask[place(0, 1)] == 1
    live.close()


# --- cluster and instance ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda api: api._state.nodes.pop("edge-1"), "node edge-1; given 'no such node'"),
        (lambda api: api.add_node("edge-1", cpu=1.9, memory=2.0**33), "1.9 cores"),
        (lambda api: api._state.deployments.pop("analyse--edge-1"), "Deployment analyse--edge-1"),
        (lambda api: api.add_deployment("analyse", node="edge-1", replicas=0, cpu=1, memory=2.0**31), "requests of"),
        (
            lambda api: api._state.deployments["analyse--edge-1"]["spec"]["template"]["spec"].pop("nodeSelector"),
            "pinned to None",
        ),
    ],
)
def test_a_cluster_that_is_not_the_instance_is_refused(twin: Twin, change, words: str) -> None:
    change(twin.api)
    with pytest.raises(errors.InvalidInput, match=words):
        alive(twin).reset()


def test_the_shipped_deployment_is_what_the_environment_asks_for(twin: Twin) -> None:
    """`gateway--edge-0` of the full instance, taken from the file, among the twin's own."""
    with contextlib.ExitStack() as stack:
        world = Twin(stack, twin.kubeconfig.parent, config.full())
        shipped, service = yaml.safe_load_all((ROOT / "manifests" / "edge-live" / "deployment.yaml").read_text())
        meta = {"uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1"}
        shipped["metadata"] |= meta
        world.api._state.deployments["gateway--edge-0"] = shipped | {"status": {}}
        with alive(world) as live:
            _, info = live.reset()
            assert info["action_mask"][1] == 1  # place gateway on edge-0
    assert service["spec"]["selector"].items() <= shipped["spec"]["template"]["metadata"]["labels"].items()


def test_the_instance_of_the_page_is_one() -> None:
    page = (ROOT / "docs" / "edge-live.md").read_text()
    block = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if b.startswith("instance = "))
    made = instance_of(ast.literal_eval(block.removeprefix("instance = ")))
    assert made.shape == (1, 2, 2)


def test_it_must_be_reset_first(twin: Twin) -> None:
    with pytest.raises(errors.Conflict, match="reset"):
        alive(twin).step(0)


# --- the twin itself --------------------------------------------------------------------------------------------------


def test_the_twin_ends_with_its_block(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        port = int(Twin(stack, tmp_path).api.url.rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_the_twin_answers_as_the_api_conventions_say(twin: Twin) -> None:
    api = kubernetes.connect(context="twin", kubeconfig=str(twin.kubeconfig))
    apps = APPS(api)
    cases = [
        (lambda: apps.read_namespaced_deployment("nothing", "edge"), 404, "NotFound"),
        (lambda: apps.list_namespaced_deployment("other"), 403, "Forbidden"),
        (lambda: apps.delete_namespaced_deployment("detect--cloud", "edge"), 405, "MethodNotAllowed"),
        (lambda: CORE(api).list_namespaced_secret("edge"), 404, "NotFound"),
        (
            lambda: apps.patch_namespaced_deployment_scale(
                "detect--cloud", "edge", [], _content_type="application/json-patch+json"
            ),
            415,
            "UnsupportedMediaType",
        ),
        (
            lambda: apps.patch_namespaced_deployment_scale("detect--cloud", "edge", {"spec": {"replicas": -1}}),
            422,
            "Invalid",
        ),
        (
            lambda: apps.patch_namespaced_deployment_scale(
                "detect--cloud", "edge", {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}}
            ),
            409,
            "Conflict",
        ),
    ]
    for call, code, reason in cases:
        with pytest.raises(client.ApiException) as told:
            call()
        status = yaml.safe_load(told.value.body)
        assert (told.value.status, status["kind"], status["reason"], status["code"]) == (code, "Status", reason, code)


def test_the_twin_takes_pods_that_are_not_ready_first(twin: Twin) -> None:
    twin.api.scale("detect--cloud", 4)
    assert twin.counts()[:, 0, 2].tolist() == [3, 1]
    twin.api.scale("detect--cloud", 3)
    assert twin.counts()[:, 0, 2].tolist() == [3, 0]


def test_the_twin_leaves_a_pod_waiting_for_which_there_is_no_room(twin: Twin) -> None:
    twin.api.scale("detect--edge-1", 3)  # 2 cores, 1 each
    twin.clock.advance(1000)
    assert twin.counts()[:, 0, 1].tolist() == [2, 1]
    cluster = a_cluster(twin)
    assert [p.placed_on for p in cluster.pods() if p.node == "edge-1"] == ["edge-1", "edge-1", None]


# --- the example ------------------------------------------------------------------------------------------------------


def test_the_example_shows_first_and_applies_when_told(twin: Twin, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("edge_live", ROOT / "examples" / "edge_live.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    before = twin.counts()
    with alive(twin, apply=False) as live:
        example.play(live, steps=1)
    np.testing.assert_array_equal(twin.counts(), before)
    assert "would" in capsys.readouterr().out
    with alive(twin) as live:
        example.play(live, steps=1)
    assert "done" in capsys.readouterr().out
    assert (twin.counts().sum(axis=0) != before.sum(axis=0)).any()
