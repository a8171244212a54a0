"""One iteration of PPO and many of them: collect, count, standardise, learn; the same with RLlib's actors and in one process.

Held by rllib/algorithm.py and inprocess.py, who hand in how to collect and how to learn. Knows no Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from rlaas_ray.errors import WorkFailed
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import columns, ledger
from rlaas_ray.train.analytic import Schedule, Weights
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.presets import Plan
from rlaas_ray.train.sampler import Fragment, Request

MAX_FAILURES_IN_A_ROW = 3


class Trainer(Protocol):
    """What runner.py drives: RLlib's algorithm, or the same in one process."""

    @property
    def loop(self) -> Iterations: ...

    def train(self) -> object:
        """Iterations for a slice of time."""
        ...

    def weights(self) -> Weights:
        """A copy of everything the learner knows."""
        ...

    def go_on_from(self, weights: Weights, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint."""
        ...

    def stop(self) -> None:
        """Release actors and envs."""
        ...


class Iterations:
    """The loop's state: newest parameters, ledger, last update's statistics."""

    def __init__(
        self,
        plan: Plan,
        *,
        ledger: Ledger,
        parameters: F32,
        collect: Callable[[Request], Sequence[Fragment]],
        learn: Callable[[Columns, Schedule], tuple[F32, dict[str, float]]],
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self.parameters = parameters
        self.stats: dict[str, float] = {}
        self._collect = collect
        self._learn = learn
        self._failed_in_a_row = 0
        self._cpu_before = time.process_time()

    def run(self, *, slice_s: float) -> None:
        """At least one iteration; more until the slice is over, the budget is used, or a runner needs looking after."""
        started = time.monotonic()
        while self.once() and not ledger.finished(self.ledger, plan=self.plan):
            if time.monotonic() - started >= slice_s:
                return

    def once(self) -> bool:
        """One iteration; False when some runner gave nothing."""
        fragments = self._collect(
            Request(
                iteration=self.ledger.iteration,
                parameters=self.parameters,
                observations=self.ledger.observations,
                returns=self.ledger.returns,
            )
        )
        self._judge(fragments)
        good = [fragment for fragment in fragments if fragment.columns is not None]
        # Before the first statistics observations are as they come; those rows only start the statistics.
        warming = self.plan.normalise_observations and self.ledger.observations.count == 0
        self.ledger.absorb(good)
        if good and not warming:
            self._update([fragment.columns for fragment in good if fragment.columns is not None])
        self.ledger.iteration += 1
        cpu = time.process_time()
        self.ledger.cpu_s += cpu - self._cpu_before
        self._cpu_before = cpu
        return len(good) == max(1, self.plan.num_env_runners)

    def _update(self, parts: Sequence[Columns]) -> None:
        joined = columns.join(parts)
        batch = replace(joined, advantages=columns.standardise(joined.advantages))
        rate = ledger.learning_rate(self.ledger, plan=self.plan)
        schedule = Schedule(
            epochs=self.plan.epochs,
            minibatches=max(1, round(len(batch) * self.plan.share / self.plan.minibatch_size)),
            share=self.plan.share,
            learning_rate=rate,
        )
        self.parameters, stats = self._learn(batch, schedule)
        self.stats = {**stats, "learning_rate": rate}

    def _judge(self, fragments: Sequence[Fragment]) -> None:
        """Survive an env that breaks now and then; end the run when nothing comes any more."""
        reasons = [fragment.failure for fragment in fragments if fragment.failure is not None]
        self.ledger.failures += len(reasons)
        if len(reasons) < len(fragments):
            self._failed_in_a_row = 0
            return
        self._failed_in_a_row += 1
        hopeless = self.ledger.steps == 0 and bool(reasons)
        if hopeless or self._failed_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise WorkFailed(
                f"env {self.plan.env} failed in every env runner",
                given=_last_line(reasons[0]) if reasons else "no answer from any env runner",
                expected="a step that returns",
                cure=f"`rlaas env check {self.plan.env}` runs it alone and shows the step.",
            )


def _last_line(reason: str) -> str:
    """The end of a traceback, where the env's own words are."""
    return reason.strip().rpartition("\n")[2]
