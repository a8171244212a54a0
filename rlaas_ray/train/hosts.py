"""Hosts: a Trainer out of a family's Parts; in this process without Ray, or in RLlib's Algorithm, EnvRunner and Learner.

Called through `Family.trainer`. RLlib's classes come with the Build: who imports them is runner.py, when a plan wants actors.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rlaas_ray.errors import RlaasError
from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import fragments, ledger
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.loop import Loop
from rlaas_ray.train.seam import Buffered, Build, Learning, Parts, PlanT, Situation, State, Trained, Trainer


def columnar(parts: Parts[PlanT]) -> Callable[[Build[PlanT]], Trainer]:
    """How to build the Trainer of a family that samples and learns in turns."""

    def build(given: Build[PlanT]) -> Trainer:
        if given.plan.actors == 0:
            return InProcess(parts, given)
        return given.on_ray().columnar(parts, given)

    return build


class InProcess(Trainer):
    """A Trainer without actors: one collector, one learning, in turns."""

    def __init__(self, parts: Parts[PlanT], given: Build[PlanT]) -> None:
        self._slice_s = given.slice_s
        self._collector = parts.collector(given.plan, given.worlds, index=0)
        self._learning = parts.learning(given.plan, given.worlds)
        self.loop = Loop(
            given.plan,
            ledger=ledger.new(spaces.encoded_size(given.worlds.observation_space)),
            parameters=self._learning.parameters(),
            collect=self._collect,
            learn=self._learn,
        )

    @property
    def learning(self) -> Learning:
        """What was learnt so far."""
        return self._learning

    @property
    def ledger(self) -> Ledger:
        return self.loop.ledger

    @property
    def stats(self) -> Mapping[str, float]:
        return self.loop.stats

    def train(self) -> None:
        """Iterations for a slice of time."""
        self.loop.run(slice_s=self._slice_s)

    def state(self) -> State:
        """A copy of everything."""
        return self._learning.state()

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint."""
        self._learning.load_state(state)
        self.loop.ledger = ledger
        self.loop.parameters = self._learning.parameters()

    def save_buffer(self, directory: Path) -> None:
        """What the learning keeps beside its state, if it does."""
        if isinstance(self._learning, Buffered):
            self._learning.save_buffer(directory)

    def load_buffer(self, directory: Path) -> bool:
        """The inverse."""
        return isinstance(self._learning, Buffered) and self._learning.load_buffer(directory)

    def policies(self) -> Mapping[str, Trained]:
        return self._learning.policies(observations=self.ledger.observations)

    def stop(self) -> None:
        """Release the envs."""
        self._collector.close()

    def _collect(self, request: Request) -> Sequence[Fragment]:
        try:
            return [self._collector.sample(request)]
        except RlaasError:
            raise
        except Exception:  # noqa: BLE001  # whatever an env raises: the loop decides whether the run goes on
            self._collector.close()
            return [fragments.failed(self.ledger.observations, reason=traceback.format_exc())]

    def _learn(self, given: Sequence[Fragment], situation: Situation) -> tuple[F32, dict[str, float]]:
        stats = self._learning.learn(given, situation=situation)
        return self._learning.parameters(), stats
