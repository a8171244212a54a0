"""Built-in policies: heuristics that see the observation only, named `baseline:ENV/NAME`, found by entry point.

A package declares `[project.entry-points."rlaas.baselines"] ENV = "module"`; the module has POLICIES (name -> factory taking
JSON parameters). Called by bundle.py and by doors that list baselines. Never imports an env: the entry point does.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotFound, Refused, nearest
from rlaas_ray.policies import heads
from rlaas_ray.policies.spaces import Space
from rlaas_ray.specs.arrays import F32

GROUP = "rlaas.baselines"
RANDOM = "random"
_OWN_PACKAGE = "rlaas-ray"


class Builtin(Protocol):
    """A policy without weights. Its proposed actions are in the env's units (indices from 0); the decoder only clips."""

    @property
    def head(self) -> heads.Head:
        """What the numbers of `distribution` mean."""
        ...

    def distribution(self, observations: F32) -> F32:
        """Encoded observations (n, d) -> head parameters (n, k)."""
        ...


@runtime_checkable
class Remembering(Builtin, Protocol):
    """A built-in policy that carries something from one decision of an episode to the next; zeros start an episode."""

    @property
    def state_size(self) -> int:
        """Entries of a state."""
        ...

    def step(self, observations: F32, state: F32) -> tuple[F32, F32]:
        """Head parameters (n, k) and states after them (n, s), of encoded observations (n, d) and states (n, s)."""
        ...


Factory = Callable[..., Builtin]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a built-in came from: the factory, and the package and version that a manifest records."""

    factory: Factory
    package: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Every action as probable as any other, on any env: what every other policy must beat."""

    head: heads.Head

    def distribution(self, observations: F32) -> F32:
        """Zeros: all logits equal; (n, 0) for a Box, whose bounds the head knows."""
        return np.zeros((len(observations), self.head.size), dtype=np.float32)


def known(env: str) -> list[str]:
    """Names of the built-in policies of `env`; `random` serves every env."""
    return sorted({*_policies(env)[0], RANDOM})


def find(env: str, name: str, *, action_space: Space) -> Source:
    """The built-in `name` of `env`. Raises NotFound with the nearest known name."""
    policies, package, version = _policies(env)
    if name in policies:
        return Source(factory=policies[name], package=package, version=version)
    if name == RANDOM:
        own = importlib.metadata.version(_OWN_PACKAGE)
        return Source(factory=lambda: uniform(action_space), package=_OWN_PACKAGE, version=own)
    raise NotFound(
        f"no built-in policy {name!r} for {env}", given=f"baseline:{env}/{name}", cure=nearest(name, known(env))
    )


def build(source: Source, *, parameters: Mapping[str, Any]) -> Builtin:
    """The policy with these parameters. Raises InvalidInput where the factory does not take them."""
    try:
        return source.factory(**parameters)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "parameters of a built-in policy", given=dict(parameters), expected=str(error), cure="Correct them."
        ) from None


def check_version(recorded: str, *, source: Source) -> None:
    """A bundle names its policy, not the policy's code: another minor version may act differently, so it is refused."""
    if _minor(recorded) != _minor(source.version):
        raise Refused(
            f"a built-in policy of another version of {source.package}",
            given=f"installed {source.version}",
            expected=f"{'.'.join(_minor(recorded))}.*, which wrote the bundle",
            cure=f"Install {source.package} {'.'.join(_minor(recorded))}, or register the built-in policy again.",
        )


def uniform(action_space: Space) -> Uniform:
    """The random policy of an action space. Raises InvalidInput for an unbounded Box, which has no uniform distribution."""
    if not isinstance(action_space, gs.Box):
        return Uniform(head=heads.for_action_space(action_space))
    low, high = action_space.low.ravel().tolist(), action_space.high.ravel().tolist()
    if not action_space.is_bounded("both") or any(a >= b for a, b in zip(low, high, strict=True)):
        raise InvalidInput(
            "the random policy", given=action_space, expected="finite bounds with low < high", cure="Bound the Box."
        )
    return Uniform(head=heads.UniformBox(low=tuple(low), high=tuple(high)))


def _policies(env: str) -> tuple[Mapping[str, Factory], str, str]:
    found = list(importlib.metadata.entry_points(group=GROUP, name=env))
    if not found:
        return {}, "", ""
    entry = found[0]
    module = entry.load()
    policies = getattr(module, "POLICIES", None)
    if not isinstance(policies, Mapping):
        raise InvalidInput(
            f"entry point {GROUP}: {env}",
            given=entry.value,
            expected="a module with POLICIES: name -> factory",
            cure="Name the module that has it.",
        )
    package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "0.0.0")
    return policies, package, version


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])
