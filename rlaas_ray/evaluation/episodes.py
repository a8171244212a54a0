"""How good a policy is on an env: whole episodes on worlds with recorded seeds, and two policies on the same worlds.

Called by `rlaas evaluate`, training's last step, env scoring and benchmarks. Of each env of a vector, only the first
episode after a seeded reset counts: taking whatever ends first would favour short episodes, and a second episode's world
may depend on the first one's length. Never reads a clock; the worlds depend on `seed` alone.

`n` envs of a block, `K` costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from rlaas_ray.errors import Interrupted, InvalidInput, WorkFailed
from rlaas_ray.evaluation import intervals
from rlaas_ray.policies import spaces
from rlaas_ray.policies.loaded import Drawn
from rlaas_ray.specs.arrays import F32, F64, Bool

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]
MakeVector = Callable[[int], VectorEnv]
BLOCK = 64  # envs of a vector; part of what a seed means, so not an option
_MAX_STEPS = 1_000_000


class Decider(Protocol):
    """What is evaluated: a LoadedPolicy, or anything that encodes and decides like one."""

    @property
    def action_space(self) -> spaces.Space:
        """Of one env."""
        ...

    def encode(self, observations: Any) -> F32:
        """Raw batch -> (n, d)."""
        ...

    def action_mask(self, observations: Any) -> Bool | None:
        """Masks (n, m) of a raw batch."""
        ...

    def decide(
        self, encoded: F32, *, rng: np.random.Generator, mask: Bool | None = None, state: F32 | None = None
    ) -> Drawn:
        """One decision for each row. `state` is what the decision before gave, where it gave one; None starts an episode."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Returns of `episodes` episodes. `costs`: an episode's mean total of each cost; `score`: 0 to 100, where known."""

    return_mean: float
    return_ci95: tuple[float, float] | None  # None for one episode, which has no spread
    returns: F64  # (episodes,), by world
    lengths: F64  # (episodes,)
    costs: Mapping[str, float]
    episodes: int
    seed: int
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON; returns of single episodes are left out."""
        body: dict[str, Any] = {
            "return_mean": self.return_mean,
            "return_ci95": None if self.return_ci95 is None else list(self.return_ci95),
            "costs": dict(self.costs),
            "episodes": self.episodes,
            "seed": self.seed,
        }
        return body if self.score is None else body | {"score": self.score}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paired:
    """Two policies on the same worlds: `difference` is of a over b, its interval from the paired differences."""

    difference: intervals.Interval
    a: Evaluation
    b: Evaluation

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"difference": self.difference.to_json(), "a": self.a.to_json(), "b": self.b.to_json()}


def evaluate(
    policy: Decider,
    *,
    make_vector: MakeVector,
    episodes: int,
    seed: int,
    halted: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """The policy's returns on the worlds (seed, 0) to (seed, episodes - 1).

    `make_vector(num_envs)` makes the env, in NEXT_STEP or SAME_STEP autoreset; it is closed at the end. World j is env
    j % 64 after `reset(seed=seed + 64 * (j // 64))`, so that it is the same for every policy and every number of episodes.
    `halted` is asked at each step; when it says so, this raises Interrupted.
    """
    if episodes < 1:
        raise InvalidInput("episodes of an evaluation", given=episodes, expected="1 or more", cure="Ask for some.")
    # Its own stream: a policy that draws more often does not change any world.
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    envs = make_vector(min(episodes, BLOCK))
    try:
        _check_env(envs, policy=policy)
        blocks = [
            _block(policy, envs=envs, seed=seed + start, rng=rng, halted=halted) for start in range(0, episodes, BLOCK)
        ]
        names = _cost_names(envs, count=blocks[0][2].shape[1])
    finally:
        envs.close()
    returns, lengths, costs = (np.concatenate([block[i] for block in blocks])[:episodes] for i in range(3))
    spread = intervals.t_interval(returns) if episodes > 1 else None
    return Evaluation(
        return_mean=float(returns.mean()),
        return_ci95=None if spread is None else (spread.low, spread.high),
        returns=returns,
        lengths=lengths,
        costs={name: float(total) for name, total in zip(names, costs.mean(axis=0), strict=True)},
        episodes=episodes,
        seed=seed,
    )


def paired(a: Decider, b: Decider, *, make_vector: MakeVector, episodes: int, seed: int, level: float = 0.95) -> Paired:
    """Both policies on the same worlds; the interval is of the mean difference. At least two episodes."""
    first, second = (evaluate(policy, make_vector=make_vector, episodes=episodes, seed=seed) for policy in (a, b))
    return Paired(
        difference=intervals.t_interval(first.returns - second.returns, level=level),
        a=first,
        b=second,
    )


def _block(
    policy: Decider, *, envs: VectorEnv, seed: int, rng: np.random.Generator, halted: Callable[[], bool]
) -> tuple[F64, F64, F64]:
    """Returns (n,), lengths (n,) and costs (n, K) of each env's first episode after a reset."""
    n = envs.num_envs
    observations, _ = envs.reset(seed=seed)
    returns, lengths, running = np.zeros(n), np.zeros(n), np.ones(n, dtype=np.bool_)
    costs = np.zeros((n, 0))
    memory: dict[
        str, F32
    ] = {}  # what is carried from step to step; only each env's first episode counts, so none is reset
    for _ in range(_MAX_STEPS):
        if halted():
            raise Interrupted("the evaluation is stopped", cure="It begins again from its seed.")
        mask = policy.action_mask(observations)
        if mask is not None:  # an episode's last observation may forbid everything: nobody acts on it
            mask = mask | ~running[:, None]
        drawn = policy.decide(policy.encode(observations), rng=rng, mask=mask, **memory)
        if drawn.state is not None:
            memory["state"] = drawn.state
        observations, rewards, terminated, truncated, info = envs.step(
            spaces.actions(policy.action_space, drawn.action)
        )
        returns += np.where(running, rewards, 0.0)
        lengths += running
        step_costs = _costs(info, n=n)
        if step_costs is not None:
            costs = (costs if costs.shape[1] else np.zeros_like(step_costs)) + np.where(
                running[:, None], step_costs, 0.0
            )
        running &= ~(np.asarray(terminated) | np.asarray(truncated))
        if not running.any():
            return returns, lengths, costs
    raise WorkFailed(
        "an episode does not end",
        given=f"{_MAX_STEPS} steps",
        expected="termination or truncation",
        cure="Give the env a time limit (gymnasium.wrappers.TimeLimit, or max_episode_steps where it is registered).",
    )


def _costs(info: Mapping[str, Any], *, n: int) -> F64 | None:
    """This step's costs (n, K), where the env tells them as `info["cost"]`.

    Under SAME_STEP the last step of an episode tells them in `final_info`, because `info` is the next episode's already.
    """
    costs = np.asarray(info["cost"], dtype=np.float64).reshape(n, -1) if "cost" in info else None
    final = info.get("final_info")
    if not isinstance(final, Mapping) or "cost" not in final:
        return costs
    last = np.asarray(final["cost"], dtype=np.float64).reshape(n, -1)
    ended = np.asarray(info["_final_info"], dtype=np.bool_)
    return np.where(ended[:, None], last, np.zeros_like(last) if costs is None else costs)


def _cost_names(envs: VectorEnv, *, count: int) -> list[str]:
    names = [str(name) for name in envs.metadata.get("costs", [])]
    if len(names) == count:
        return names
    return ["cost"] if count == 1 else [f"cost_{i}" for i in range(count)]


def _check_env(envs: VectorEnv, *, policy: Decider) -> None:
    mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if mode == AutoresetMode.DISABLED:
        raise InvalidInput(
            "a vector env without autoreset", given="DISABLED", expected="NEXT_STEP or SAME_STEP", cure="Enable it."
        )
    if envs.single_action_space != policy.action_space:
        raise InvalidInput(
            "the policy was made for another env",
            given=f"actions {policy.action_space}",
            expected=f"actions {envs.single_action_space}",
            cure="Evaluate it on the env that its manifest names.",
        )
