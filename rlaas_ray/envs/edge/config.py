"""Instances: nodes, services, distances; names and numbers of actions. The simulator and a live cluster read the same.

Called by everything in this package and by a cluster backend. Holds no state and computes no physics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlaas_ray.errors import InvalidInput

NONE, PLACE, REMOVE, MOVE = "none", "place", "remove", "move"

OBJECTIVES = [("latency", "ms", "min"), ("spend", "1/h", "min"), ("balance", "1", "min"), ("migration", "1", "min")]
# Weights of J_lat, J_res, J_bal, J_mig, which the reward subtracts.
MODES: Mapping[str, tuple[float, float, float, float]] = {
    "balanced": (1.0, 0.3, 0.2, 0.1),
    "latency": (2.0, 0.1, 0.1, 0.05),
    "cost": (0.5, 1.0, 0.1, 0.1),
    "emergency": (3.0, 0.0, 0.0, 0.0),
}
COSTS, COST_LIMITS = ["violation"], [0.05]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node: cores, GiB, price of a core for an hour, Mbit/s of an image pull, round trip from each zone in ms."""

    name: str
    cpu: float
    memory_gib: float
    price: float
    pull_mbps: float
    rtt_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service: requests of a pod, requests/s that a pod serves, image, latency agreed on, mean demand in requests/s."""

    name: str
    cpu: float
    memory_gib: float
    rate: float
    image_mb: float
    sla_ms: float
    base: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A cluster and its services. `start[s][n]` pods of service s on node n when an episode starts, images cached there."""

    nodes: tuple[Node, ...]
    services: tuple[Service, ...]
    start: tuple[tuple[int, ...], ...]
    dt_s: float = 30.0
    steps: int = 120
    slots: int = 4  # a start takes at most so many steps
    start_s: float = 10.0
    pod_limit: int = 16  # of a service on a node
    keep: int = 1  # ready pods that a service keeps at least
    most_pods: int = 40  # of a service, for those who count pods: HPA and the replicas form
    images_everywhere: bool = False
    routing_ms: float = 10.0
    timeout_ms: float = 500.0
    reference_ms: float = 50.0

    def __post_init__(self) -> None:
        zones = {len(node.rtt_ms) for node in self.nodes}
        shapes = {len(row) for row in self.start}
        if len(zones) != 1 or len(self.start) != len(self.services) or shapes != {len(self.nodes)}:
            raise InvalidInput(
                "edge instance",
                given=f"{len(self.nodes)} nodes, {len(self.services)} services, distances of {sorted(zones)} zones",
                expected="one distance a zone on every node, one start count a service and node",
                cure="Make the tables equally long.",
            )

    @property
    def zones(self) -> int:
        """Z."""
        return len(self.nodes[0].rtt_ms)

    @property
    def shape(self) -> tuple[int, int, int]:
        """S services, N nodes, Z zones."""
        return len(self.services), len(self.nodes), self.zones

    @property
    def actions(self) -> int:
        """How many actions the discrete form has: 1 + 2 S N + S N (N - 1)."""
        services, nodes, _ = self.shape
        return 1 + services * nodes * (nodes + 1)


def full() -> Instance:
    """Four edge nodes on a ring of zones, one in the metropolis, a distant cloud; three services."""
    edge = ((4, 14, 22, 18), (14, 4, 14, 22), (22, 14, 4, 14), (18, 22, 14, 4))
    nodes = [
        Node(name=f"edge-{k}", cpu=4, memory_gib=8, price=0.06, pull_mbps=100, rtt_ms=rtt) for k, rtt in enumerate(edge)
    ]
    nodes.append(Node(name="metro", cpu=8, memory_gib=16, price=0.045, pull_mbps=200, rtt_ms=(28, 26, 26, 28)))
    nodes.append(Node(name="cloud", cpu=16, memory_gib=64, price=0.03, pull_mbps=1000, rtt_ms=(80, 80, 82, 84)))
    services = (
        Service(name="gateway", cpu=0.5, memory_gib=0.5, rate=100, image_mb=150, sla_ms=50, base=500),
        Service(name="detect", cpu=1, memory_gib=1, rate=40, image_mb=500, sla_ms=100, base=160),
        Service(name="analyse", cpu=1, memory_gib=2, rate=20, image_mb=1200, sla_ms=150, base=60),
    )
    # At 60 % utilisation 9, 7 and 5 pods; they ask for 16.5 cores of the cloud's 16, so one gateway starts in the metropolis.
    start = ((0, 0, 0, 0, 1, 8), (0, 0, 0, 0, 0, 7), (0, 0, 0, 0, 0, 5))
    return Instance(nodes=tuple(nodes), services=services, start=start)


def tiny() -> Instance:
    """One service on two nodes of three pods each: small enough for its exact optimum."""
    nodes = tuple(
        Node(name=f"edge-{k}", cpu=1.5, memory_gib=8, price=0.05, pull_mbps=100, rtt_ms=rtt)
        for k, rtt in enumerate(((5, 35), (35, 5)))
    )
    service = Service(name="service", cpu=0.5, memory_gib=0.5, rate=20, image_mb=0, sla_ms=150, base=30)
    return Instance(
        nodes=nodes,
        services=(service,),
        start=((1, 1),),
        dt_s=60.0,
        steps=60,
        slots=2,
        start_s=61.0,
        pod_limit=3,
        most_pods=6,
        images_everywhere=True,
    )


def decode(action: int, *, instance: Instance | None = None) -> tuple[str, int, int, int]:
    """What a number of the discrete form means: (kind, service, source node, target node), -1 where there is none.

    0 nothing; then place (s, n); remove (s, n); move (s, a, b) with a != b, each in this order. None is the full instance.
    Raises InvalidInput for a number that is no action.
    """
    known = full() if instance is None else instance
    services, nodes, _ = known.shape
    if isinstance(action, bool) or int(action) != action or not 0 <= action < known.actions:
        raise InvalidInput(
            "action of edge placement",
            given=action,
            expected=f"an int from 0 to {known.actions - 1}",
            cure="Sample from the action space to see one.",
        )
    block = services * nodes
    if action == 0:
        return NONE, -1, -1, -1
    if action <= block:
        service, node = divmod(int(action) - 1, nodes)
        return PLACE, service, -1, node
    if action <= 2 * block:
        service, node = divmod(int(action) - 1 - block, nodes)
        return REMOVE, service, node, -1
    pair, other = divmod(int(action) - 1 - 2 * block, nodes - 1)
    service, source = divmod(pair, nodes)
    return MOVE, service, source, other if other < source else other + 1
