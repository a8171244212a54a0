"""Live traffic for an endpoint: simulated networks, many in flight, that ask for each step and report what came of it.

Called by quickstart_steps.py. A client and nothing else: it talks to the endpoint as any user would, and learns which arm
answered from the answers. One unit is one episode of eight steps that starts from the operator's setting in either arm.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from rlaas_ray.cli.story import Traffic
from rlaas_ray.envs import registry
from rlaas_ray.errors import Overloaded, TimedOut, Unavailable, WorkFailed
from rlaas_ray.sdk.handles import Endpoint
from rlaas_ray.specs.seams import Clock

AnswerT = TypeVar("AnswerT")
STEPS = 8
PATIENCE_S = 20.0
CHALLENGER = "challenger"


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the client saw: decisions by arm and second, calls that a fallback answered, units that were closed."""

    start_us: int
    by_second: dict[str, Counter[int]] = field(default_factory=lambda: {"champion": Counter(), CHALLENGER: Counter()})
    decisions: int = 0
    fallbacks: int = 0
    units: int = 0

    def count(self, arms: list[str], *, fallbacks: int, now_us: int) -> None:
        """One batch of answers."""
        second = (now_us - self.start_us) // 1_000_000
        theirs = sum(arm == CHALLENGER for arm in arms)
        self.by_second[CHALLENGER][second] += theirs
        self.by_second["champion"][second] += len(arms) - theirs
        self.decisions += len(arms)
        self.fallbacks += fallbacks

    @property
    def harmed(self) -> int:
        """Decisions that the challenger answered."""
        return self.by_second[CHALLENGER].total()

    def traffic(self) -> Traffic:
        """By second, without gaps."""
        seen = [s for counter in self.by_second.values() for s in counter]
        seconds = tuple(range(max(seen) + 1)) if seen else ()
        return Traffic(
            second=seconds,
            champion=tuple(self.by_second["champion"][s] for s in seconds),
            challenger=tuple(self.by_second[CHALLENGER][s] for s in seconds),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """`networks` simulated networks of `env` at once; `pace` caps decisions per second (None: as fast as it goes)."""

    env: str
    mode: str
    networks: int
    seed: int
    pace: float | None = None

    def drive(
        self, endpoint: Endpoint, *, tag: str, tally: Tally, clock: Clock, over: Callable[[], bool], limit_s: float
    ) -> None:
        """Episodes, wave after wave, until `over()` is true after a wave. Raises TimedOut after `limit_s`.

        A wave is finished before the question is asked, so that no unit is left without its rewards.
        """
        worlds = registry.make_vector(
            self.env, num_envs=self.networks, seed=self.seed, mode=self.mode, config={"episode_length": STEPS}
        )
        began_s = clock.monotonic_s()
        wave = 0
        try:
            while not over():
                if clock.monotonic_s() - began_s > limit_s:
                    raise TimedOut(
                        f"traffic of {tag!r} brought no end", given=f"{limit_s:.0f} s", cure="Give it longer."
                    )
                observations, _ = worlds.reset()
                names = [f"{tag}-{wave}-{i}" for i in range(self.networks)]
                for step in range(STEPS):
                    step_s = clock.monotonic_s()
                    asked = [
                        {
                            "unit": name,
                            "episode_id": name,
                            "step": step,
                            "decision_id": f"{name}-{step}",
                            "observation": row,
                        }
                        for name, row in zip(names, observations.tolist(), strict=True)
                    ]
                    answers = _patiently(functools.partial(endpoint.decide_batch, asked), clock=clock)
                    fallbacks = sum(a.fallback is not None for a in answers)
                    tally.count([a.arm for a in answers], fallbacks=fallbacks, now_us=clock.now_us())
                    actions = np.array([a.action for a in answers], dtype=np.float32)
                    observations, rewards, _, ended, _ = worlds.step(actions)
                    outcomes = [
                        {"decision_id": a.decision_id, "reward": float(r), "done": bool(e)}
                        for a, r, e in zip(answers, rewards, ended, strict=True)
                    ]
                    taken = _patiently(functools.partial(endpoint.reward_batch, outcomes), clock=clock)
                    if taken.get("rejected"):
                        raise WorkFailed("rewards were refused", given=taken["rejected"][:2], expected="none")
                    if self.pace is not None:
                        clock.sleep(max(0.0, self.networks / self.pace - (clock.monotonic_s() - step_s)))
                tally.units += self.networks
                wave += 1
        finally:
            worlds.close()


def _patiently(ask: Callable[[], AnswerT], *, clock: Clock) -> AnswerT:
    """Asks again while nobody answers, as a client does: decisions carry their ids, so what is sent twice counts once."""
    until_s = clock.monotonic_s() + PATIENCE_S
    while True:
        try:
            return ask()
        except (Unavailable, Overloaded):
            if clock.monotonic_s() > until_s:
                raise
            clock.sleep(0.5)
