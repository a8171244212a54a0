"""What a data plane answers from: per endpoint its route table and loaded arms, swapped as one reference.

Built by `routes.py` off the loop, read by `answer.py` and its parts. Immutable but for the breakers, which outlive a swap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rlaas_ray.errors import NotFound, Unavailable, nearest
from rlaas_ray.specs.arrays import F32, F64, Bool
from rlaas_ray.specs.routing import Arm, RouteTable

EJECT_AFTER = 5
EJECT_S = 10.0


class Drawn(Protocol):
    """What `policies.bundle.LoadedPolicy.decide` gives for n rows."""

    @property
    def action_proposed(self) -> F64: ...
    @property
    def action(self) -> F64: ...
    @property
    def propensity(self) -> F64: ...
    @property
    def probabilities(self) -> F64 | None: ...
    @property
    def state(self) -> F32 | None: ...


class ServingPolicy(Protocol):
    """The part of `policies.bundle.LoadedPolicy` that serving needs."""

    @property
    def digest(self) -> str: ...
    @property
    def observation_space(self) -> Any: ...
    @property
    def action_space(self) -> Any: ...
    @property
    def state_size(self) -> int: ...
    @property
    def size(self) -> int:
        """Entries that it observes, weights of a preference among them."""
        ...

    def decide(
        self, encoded: F32, *, rng: np.random.Generator, mask: Bool | None = None, state: F32 | None = None
    ) -> Drawn: ...
    def action_to_json(self, action: F64) -> Any: ...


@dataclass(slots=True, eq=False)
class Breaker:
    """Five failures in a row eject an arm for ten seconds: it protects requests, it gives no verdict."""

    failures: int = 0
    until_s: float = 0.0

    def is_open(self, now_s: float) -> bool:
        """Whether the arm is to be left alone now."""
        return now_s < self.until_s

    def failed(self, now_s: float) -> bool:
        """Count a failure; true when this one ejected the arm."""
        self.failures += 1
        if self.failures < EJECT_AFTER:
            return False
        self.failures, self.until_s = 0, now_s + EJECT_S
        return True

    def worked(self) -> None:
        """A success ends the row of failures."""
        self.failures = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndpointState:
    """One endpoint: `policies` by bundle digest, one for each arm of the table; `width` is d of the row that is logged.

    The row is the encoded observation, followed by the weights of the table's preference where it has one. `blind`: digests of
    policies that do not observe these.

    `observation_space` is that of all arms: control refuses a table whose arms differ in it. `remembers`: some arm has a memory.
    """

    table: RouteTable
    policies: Mapping[str, ServingPolicy]
    width: int
    breakers: dict[str, Breaker] = field(default_factory=dict)
    blind: frozenset[str] = frozenset()
    weights: F32 = field(init=False)
    champion: Arm = field(init=False)
    observation_space: Any = field(init=False)
    remembers: bool = field(init=False)

    def __post_init__(self) -> None:
        weights = np.array([weight for _, weight in self.table.preference], dtype=np.float32)
        object.__setattr__(self, "weights", weights)
        # Looked up once: each row asks for them, and the table is searched for an arm by its role.
        object.__setattr__(self, "champion", self.table.champion)
        object.__setattr__(self, "observation_space", self.policies[self.champion.digest].observation_space)
        object.__setattr__(self, "remembers", any(policy.state_size for policy in self.policies.values()))

    @property
    def inputs(self) -> int:
        """Entries of an encoded observation, as clients know it."""
        return self.width - len(self.weights)

    def row(self, encoded: F32) -> F32:
        """The row (width,) of an encoded observation (inputs,)."""
        return np.concatenate((encoded, self.weights)) if len(self.weights) else encoded

    def policy(self, arm: Arm) -> ServingPolicy:
        """The loaded policy of an arm of this table."""
        return self.policies[arm.digest]

    def breaker(self, arm: Arm) -> Breaker:
        """The breaker of an arm's bundle."""
        return self.breakers.setdefault(arm.digest, Breaker())

    def stand_in(self, arm: Arm) -> Arm | None:
        """Who answers for an arm that failed: the fallback arm, else the champion, else nobody."""
        fallback = self.table.arm("fallback")
        if fallback is not None and fallback.digest != arm.digest:
            return fallback
        champion = self.champion
        return champion if champion.digest != arm.digest else None

    def version(self, wanted: str) -> Arm:
        """The arm that runs version `wanted` (`3`, or `name:3`)."""
        for arm in self.table.arms:
            if wanted in (arm.version, arm.version.rpartition(":")[2]):
                return arm
        running = [arm.version for arm in self.table.arms]
        raise NotFound(f"version of endpoint {self.table.endpoint!r}", given=wanted, expected=f"one of {running}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Everything of a pool at one epoch. `ready` once the pool has heard which endpoints it holds."""

    epoch: int = 0
    ready: bool = False
    endpoints: Mapping[str, EndpointState] = field(default_factory=dict)

    def endpoint(self, name: str) -> EndpointState:
        """The endpoint, or an error that names the nearest one."""
        found = self.endpoints.get(name)
        if found is not None:
            return found
        if not self.ready:
            raise Unavailable("the pool is starting", given=name, cure="Try again in a moment.")
        raise NotFound("endpoint", given=name, cure=nearest(name, list(self.endpoints)))
