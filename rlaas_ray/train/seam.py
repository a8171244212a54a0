"""The seam of algorithms: what one gives so that runner.py can train, checkpoint and export with it.

A Family resolves a spec to its own plan and builds a Trainer. Families that sample fragments and learn from them give a Collector
and a Learning, and hosts.py makes the Trainer: in one process, or in RLlib's Algorithm, EnvRunner and Learner. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from rlaas_ray.errors import WorkFailed
from rlaas_ray.policies import decoders, heads, network
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.worlds import Worlds

PlanT = TypeVar("PlanT", bound=Plan)
PlanInT = TypeVar("PlanInT", bound=Plan, contravariant=True)


class LearnerLost(WorkFailed):
    """The process that learns has died; runner.py builds another and goes on from the last checkpoint."""


State = Mapping[str, Array]  # a checkpoint's arrays by name; no objects


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A policy as export.py writes it. `serving` overrides the plan's when the algorithm allows one way only."""

    network: network.Network
    head: heads.Head
    decoder: decoders.Decoder
    serving: str | None = None


class Trainer(Protocol):
    """What runner.py drives."""

    @property
    def ledger(self) -> Ledger:
        """What happened so far; its 100-episode mean is the only return that anyone is told (trap T2)."""
        ...

    @property
    def stats(self) -> Mapping[str, float]:
        """Of the last update: the names in docs/training.md."""
        ...

    def train(self) -> object:
        """Iterations for a slice of time; one at least."""
        ...

    def state(self) -> State:
        """A copy of everything that a resumed run needs besides the ledger."""
        ...

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Go on from a checkpoint. Raises InvalidInput where its arrays do not fit."""
        ...

    def policies(self) -> Mapping[str, Trained]:
        """What to export: one under the name "", or one for each agent."""
        ...

    def stop(self) -> None:
        """Release actors and envs."""
        ...


class Collector(Protocol):
    """One vector env and the policy that acts in it; in an actor or in the driver."""

    def sample(self, request: Request) -> Fragment:
        """One fragment. Whatever the env raises comes out as it is; the host makes a failed Fragment of it."""
        ...

    def close(self) -> None:
        """Release the env; the next request makes a new one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Situation:
    """What a learning may want to know of the run: the ledger after the fragments were counted, and the budget used."""

    ledger: Ledger
    used: float
    unnormalised: bool = False  # the fragments were collected before there were statistics of observations


class Learning(Protocol):
    """Everything an algorithm knows, and its update; in the driver or in RLlib's Learner."""

    def parameters(self) -> F32:
        """What collectors act with, flat. May be a view: it is copied before it travels."""
        ...

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """All updates that these good fragments (one at least) allow; gives statistics, none when there was no update."""
        ...

    def state(self) -> State:
        """A copy of everything."""
        ...

    def load_state(self, state: State) -> None:
        """The inverse. Raises InvalidInput where shapes differ."""
        ...

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """What to export, with the run's frozen statistics."""
        ...


@runtime_checkable
class Buffered(Protocol):
    """A Trainer or a Learning with more than a checkpoint's arrays: a replay memory, which lies beside the checkpoints."""

    def save_buffer(self, directory: Path) -> None:
        """Called after every checkpoint; writes `directory` anew as often as its plan says."""
        ...

    def load_buffer(self, directory: Path) -> bool:
        """The inverse; False when there is none."""
        ...


@runtime_checkable
class Narrating(Protocol):
    """A Trainer whose single episodes are worth a line each."""

    def episodes(self) -> Sequence[Mapping[str, Any]]:
        """Those that ended since the last call, as events of the run."""
        ...


class MakeCollector(Protocol[PlanInT]):
    """A collector for the runner of that index, from 0."""

    def __call__(self, plan: PlanInT, worlds: Worlds, *, index: int) -> Collector: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts(Generic[PlanT]):
    """A family that samples and learns in turns. Both are functions of a module: they travel to actors by name."""

    collector: MakeCollector[PlanT]
    learning: Callable[[PlanT, Worlds], Learning]


class OnRay(Protocol):
    """RLlib's classes as hosts of families (rllib/onray.py)."""

    def columnar(self, parts: Parts[Any], given: Build[Any]) -> Trainer:
        """A family's parts in Algorithm, EnvRunner and Learner."""
        ...

    def ppo(self, given: Build[Any]) -> Trainer:
        """PPO, with data-parallel learners where asked for."""
        ...

    def runners(self, parts: Parts[Any], given: Build[Any]) -> Any:
        """Env runners alone, each with requests of its own under way: asynchronous/flow.py's Runners."""
        ...

    def stock(self, given: Build[Any]) -> Trainer:
        """RLlib's own path, unchanged."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Build(Generic[PlanT]):
    """What a Trainer is built from. `actor_cpus`: what each Ray actor may ask for (Ray is connected when plan.actors > 0).

    `data_url`: where this installation keeps its decision log; None where it has none. `ray`: RLlib's classes as hosts, where the
    plan wants them: handed in, so that no family knows RLlib.
    """

    spec: TrainSpec
    plan: PlanT
    worlds: Worlds
    directory: Path
    slice_s: float
    actor_cpus: float
    data_url: str | None = None
    ray: OnRay | None = None

    def on_ray(self) -> OnRay:
        """RLlib's classes; asked for only by who wants actors."""
        assert self.ray is not None
        return self.ray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family(Generic[PlanT]):
    """One algorithm, or several that share their code; found by name in families.py."""

    resolve: Callable[[TrainSpec, Worlds], PlanT]
    trainer: Callable[[Build[PlanT]], Trainer]  # hosts.columnar(PARTS) for those with Parts
