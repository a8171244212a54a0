"""EdgePlacement-v3compat: the model under the constructor, spaces and reward of LWMECPSEnv3 of the open project lwmecps-gym.

Called by the registry. For code written against that environment. Pods are counted once and put where the scheduler would, which
the original did not; see docs/edge.md for what is deliberately different.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import philox, vector
from rlaas_ray.envs.edge import config, macro, model, moves
from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.specs.arrays import F64, Array

NETWORK_MBPS = 1024.0  # of a node
POD = {"CPU": 0.1, "RAM": 128.0, "TX": 10.0, "RX": 10.0}  # cores, MB, Mbit/s, Mbit/s
STEPS = 5
REFUSED, FLOOR = -100.0, -500.0
_NODES = {f"node-{k}": {"avg_latency": rtt} for k, rtt in enumerate((10.0, 20.0, 30.0))}
_RATE, _BASE, _IMAGE_MB, _SLA_MS, _PULL_MBPS = 50.0, 150.0, 150.0, 100.0, 100.0
# Gigabytes and gigabits: in megabytes a spread of one pod alone would end an episode.
_SPREAD_UNITS = np.asarray([POD["CPU"], POD["RAM"] / 1000.0, POD["TX"] / 1000.0, POD["RX"] / 1000.0])
_ROUNDING = 1e-6  # 500 ms for every request is the floor, not below it
State = dict[str, Any]


class WrongAction(InvalidInput, ValueError):
    """An action that fits neither shape nor range: ValueError, too, which code written for the original catches."""


class Compat:
    """The domain (vector.Domain): target replicas of each deployment; a nested Dict of numbers of each node."""

    reported = ("objectives", "cost", "invalid")

    def __init__(self, params: model.Params, *, max_pods: int) -> None:
        self.params = params
        self.objectives = [("latency", "ms", "min"), ("replicas", "1", "min"), ("imbalance", "1", "min")]
        self.metadata = {"modes": ["original"], "costs": config.COSTS, "cost_limits": config.COST_LIMITS}
        instance = params.instance
        self._sizes = instance.most_pods + 1
        self.action_space = gymnasium.spaces.MultiDiscrete([self._sizes] * len(instance.services))
        of_deployment = {f"{name}_usage": _number(np.inf) for name in POD}
        replicas = gymnasium.spaces.Box(0, max_pods, (), np.int32)
        deployments: dict[str, gymnasium.Space[Any]] = {
            one.name: gymnasium.spaces.Dict({**of_deployment, "Replicas": replicas}) for one in instance.services
        }
        of_node = {
            "CPU": _number(np.inf),
            "RAM": _number(np.inf),
            "TX": _number(NETWORK_MBPS),
            "RX": _number(NETWORK_MBPS),
            "deployments": gymnasium.spaces.Dict(deployments),
            "avg_latency": _number(np.inf),
        }
        nodes: dict[str, gymnasium.Space[Any]] = {node.name: gymnasium.spaces.Dict(of_node) for node in instance.nodes}
        self.observation_space = gymnasium.spaces.Dict({"nodes": gymnasium.spaces.Dict(nodes)})

    def check(self, action: Any) -> Array:
        """Int64 (B, deployments); raises WrongAction, a ValueError, for another shape or range."""
        given, count = np.asarray(action), len(self.params.instance.services)
        whole = given.ndim == 2 and given.shape[1] == count and given.dtype.kind in "iu"
        if not whole or (given < 0).any() or (given >= self._sizes).any():
            raise WrongAction(
                "action of EdgePlacement-v3compat",
                given=given.tolist() if given.size <= 8 else (given.shape, str(given.dtype)),
                expected=f"(B, {count}) ints from 0 to {self._sizes - 1}",
                cure="Target replicas of each deployment; sample from the action space to see one.",
            )
        return given.astype(np.int64)

    def reset(self, streams: philox.Streams) -> tuple[State, Any, dict[str, Any]]:
        """One replica of the first deployment on the first node."""
        state, _, _ = model.reset_batch(self.params, streams)
        count = len(streams.seed)
        latency = np.asarray([node.rtt_ms[0] for node in self.params.instance.nodes])
        state["latency"] = np.tile(latency, (count, 1))
        info = {"objectives": np.zeros((count, 3)), "cost": np.zeros((count, 1)), "invalid": np.zeros(count, np.bool_)}
        return state, self._seen(state), info

    def step(self, state: State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """Minus latency, a tenth of replicas, a tenth of imbalance; -100 and no change where a target does not fit."""
        tried = dict(state)
        for name in moves.CHANGED:
            tried[name] = state[name].copy()
        _, refused = macro.act(self.params, tried, action=action)
        for name in moves.CHANGED:
            tried[name][refused] = state[name][refused]
        # What was asked for stands; the step itself is the model's, without a further operation.
        idle = np.asarray(_standing(tried), dtype=np.int64)
        after, _, own = model.work(self.params, tried, action=idle)
        after["t"] = state["t"] + 1
        after["before"] = state["rate"]
        after.update(self.params.demand.after(after, streams=streams))
        after["mask"] = moves.mask(self.params.known, after)
        latency = own["objectives"][:, 0]
        after["latency"] = np.repeat(latency[:, None], len(self.params.instance.nodes), axis=1)
        replicas, imbalance = _spread(after)
        reward = np.where(refused, REFUSED, -latency - 0.1 * replicas - 0.1 * imbalance)
        info = {
            "objectives": np.stack((latency, replicas, imbalance), axis=1),
            "cost": own["cost"],
            "invalid": refused,
        }
        truncated = after["t"] >= self.params.instance.steps
        return after, self._seen(after), reward, own["cost"], reward < FLOOR - _ROUNDING, truncated, info

    def draw(self, state: State) -> Array:
        """Nodes with their pods, see picture.py."""
        from rlaas_ray.envs.edge import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw(self.params, state)

    def _seen(self, state: State) -> dict[str, Any]:
        count, instance = len(state["t"]), self.params.instance
        pods = moves.pods(state)
        nodes = {}
        for n, node in enumerate(instance.nodes):
            deployments = {}
            for s, service in enumerate(instance.services):
                usage: dict[str, Array] = {f"{name}_usage": _filled(count, amount) for name, amount in POD.items()}
                deployments[service.name] = usage | {"Replicas": pods[:, s, n].astype(np.int32)}
            nodes[node.name] = {
                "CPU": _filled(count, node.cpu),
                "RAM": _filled(count, node.memory_gib * 1024.0),
                "TX": _filled(count, NETWORK_MBPS),
                "RX": _filled(count, NETWORK_MBPS),
                "deployments": deployments,
                "avg_latency": state["latency"][:, n].astype(np.float32),
            }
        return {"nodes": nodes}


def domain(  # noqa: PLR0913 - the constructor of LWMECPSEnv3 as it is
    *,
    node_name: Sequence[str] | None = None,
    max_hardware: Mapping[str, float] | None = None,
    pod_usage: Mapping[str, float] | None = None,
    node_info: Mapping[str, Mapping[str, float]] | None = None,
    num_nodes: int | None = None,
    deployments: Sequence[str] = ("app-1", "app-2"),
    max_pods: int = 100,
    mode: str = "original",
    backend: str = "simulator",
    **cluster: Any,
) -> Compat:
    """The constructor of LWMECPSEnv3. Keywords of its cluster (`CLUSTER`) are taken and not used, with one warning.

    max_hardware and node_info[name]: cpu in cores, ram in MB; node_info[name]["avg_latency"] is the round trip in ms.
    Raises InvalidInput for missing nodes or unknown modes, NotBuilt for `backend="live"`.
    """
    _check_options(cluster, mode=mode, backend=backend)
    usage = {"cpu": POD["CPU"], "ram": POD["RAM"], **(pod_usage or {})}
    most = {"cpu": 1.0, "ram": 4096.0, **(max_hardware or {})}
    known = _NODES if node_info is None else node_info
    names = list(known) if node_name is None else list(node_name)
    missing = [name for name in names if name not in known]
    if missing or not names or not deployments or (num_nodes is not None and num_nodes != len(names)):
        raise InvalidInput(
            "nodes of EdgePlacement-v3compat",
            given=f"{len(names)} names, num_nodes {num_nodes}, without node_info: {missing}, {len(deployments)} deployments",
            expected="node_info for each of node_name, num_nodes their count, one deployment or more",
        )
    nodes = [_node(name, known[name], most=most) for name in names]
    services = [_service(name, usage=usage) for name in deployments]
    start = [[int(s == n == 0) for n in range(len(nodes))] for s in range(len(services))]
    instance = config.Instance(
        nodes=tuple(nodes),
        services=tuple(services),
        start=tuple(tuple(row) for row in start),
        steps=STEPS,
        pod_limit=max_pods,
        keep=0,
        most_pods=int(most["cpu"] / usage["cpu"] + 1e-9),
    )
    return Compat(model.params(instance, action="replicas"), max_pods=max_pods)


CLUSTER = ("namespace", "group_id", "base_url", "env_config", "stabilization_time")


def _check_options(cluster: Mapping[str, Any], *, mode: str, backend: str) -> None:
    unknown = sorted(set(cluster) - set(CLUSTER))
    if unknown:
        message = f"unexpected keyword arguments: {', '.join(unknown)}"
        raise TypeError(message)
    if mode != "original":
        raise InvalidInput("mode", given=mode, expected="original", cure="This reward has one form; leave it out.")
    if backend != "simulator":
        raise NotBuilt(
            "a live cluster under the shape of LWMECPSEnv3",
            given=backend,
            expected="simulator",
            cure="Drive a cluster with rlaas/EdgePlacement-v1, whose actions place pods on nodes.",
        )
    if cluster:
        named = ", ".join(sorted(cluster))
        warnings.warn(f"the simulator has no cluster and does not use {named}", stacklevel=4)


def _node(name: str, info: Mapping[str, float], *, most: Mapping[str, float]) -> config.Node:
    latency = float(info.get("avg_latency", 0.0))
    cpu, ram = (float(info.get(key, most[key])) for key in ("cpu", "ram"))
    return config.Node(name=name, cpu=cpu, memory_gib=ram / 1024.0, price=0.05, pull_mbps=_PULL_MBPS, rtt_ms=(latency,))


def _service(name: str, *, usage: Mapping[str, float]) -> config.Service:
    return config.Service(
        name=name,
        cpu=float(usage["cpu"]),
        memory_gib=float(usage["ram"]) / 1024.0,
        rate=_RATE,
        image_mb=_IMAGE_MB,
        sla_ms=_SLA_MS,
        base=_BASE,
    )


def _spread(state: State) -> tuple[F64, F64]:
    """Replicas (B,), and the variance over nodes of cores, gigabytes, gigabits sent and received, summed (B,)."""
    pods = moves.pods(state)
    on_node = model.total(pods, axis=1)  # whole numbers
    mean = model.total(on_node, axis=1) / on_node.shape[1]
    variance = model.total(np.square(on_node - mean[:, None]), axis=1) / on_node.shape[1]
    return model.total(on_node, axis=1), variance * float((_SPREAD_UNITS**2).sum())


def _standing(state: State) -> F64:
    """Targets that ask for what is there: ready and starting pods of each deployment (B, S)."""
    staying = moves.pods(state) - state["leaving"]
    return model.total(staying, axis=2)


def _number(high: float) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, high, (), np.float32)


def _filled(count: int, amount: float) -> Array:
    return np.full(count, amount, dtype=np.float32)
