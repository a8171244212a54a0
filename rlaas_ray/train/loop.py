"""One iteration and many of them: ask, collect, count, learn; the same with RLlib's actors and in one process.

Held by rllib/ and hosts.py, who hand in how to collect and how to learn. Knows no Ray and no algorithm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rlaas_ray.errors import WorkFailed
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.seam import Situation

MAX_FAILURES_IN_A_ROW = 3


class Loop:
    """The loop's state: newest parameters, ledger, last update's statistics."""

    def __init__(
        self,
        plan: Plan,
        *,
        ledger: Ledger,
        parameters: F32,
        collect: Callable[[Request], Sequence[Fragment]],
        learn: Callable[[Sequence[Fragment], Situation], tuple[F32, dict[str, float]]],
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self.parameters = parameters
        self.stats: dict[str, float] = {}
        self._collect = collect
        self._learn = learn
        self._failed_in_a_row = 0
        self._cpu_before = time.process_time()
        self._sample_s = self._learn_s = 0.0

    def run(self, *, slice_s: float) -> None:
        """At least one iteration; more until the slice is over, the budget is used, or a runner needs looking after."""
        started = time.monotonic()
        while self.once() and not ledgers.finished(self.ledger, plan=self.plan):
            if time.monotonic() - started >= slice_s:
                return

    def once(self) -> bool:
        """One iteration; False when some runner gave nothing."""
        started = time.monotonic()
        fragments = self._collect(self.request())
        collected = time.monotonic()
        self.judge(fragments)
        good = [fragment for fragment in fragments if fragment.columns is not None]
        first = self.ledger.observations.count == 0
        self.ledger.absorb(good)
        if good:
            situation = Situation(
                ledger=self.ledger, used=ledgers.fraction(self.ledger, plan=self.plan), unnormalised=first
            )
            self.parameters, stats = self._learn(good, situation)
            self.stats = {**(stats or self.stats), "sample_share": self._share(started, collected)}
        self.ledger.iteration += 1
        self.count_cpu()
        return len(good) == max(1, self.plan.num_env_runners)

    def _share(self, started: float, collected: float) -> float:
        """How much of an iteration's time is sampling, over the last hundred or so; which of the two to speed up."""
        self._sample_s = 0.99 * self._sample_s + collected - started
        self._learn_s = 0.99 * self._learn_s + time.monotonic() - collected
        return self._sample_s / max(1e-9, self._sample_s + self._learn_s)

    def request(self) -> Request:
        """What the next fragments are made of."""
        return Request(
            iteration=self.ledger.iteration,
            parameters=self.parameters,
            observations=self.ledger.observations,
            returns=self.ledger.returns,
            steps=self.ledger.steps,
            used=ledgers.fraction(self.ledger, plan=self.plan),
        )

    def count_cpu(self) -> None:
        """This process's CPU seconds since the last call, into the ledger."""
        cpu = time.process_time()
        self.ledger.cpu_s += cpu - self._cpu_before
        self._cpu_before = cpu

    def judge(self, fragments: Sequence[Fragment]) -> None:
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
