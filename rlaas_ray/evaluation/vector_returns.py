"""What a weight-conditioned policy earns of each objective, under many weights at once, on the same worlds.

Called by `train/fronts.py`. One vector env holds all weights times all episodes. Never chooses a point and reads no clock.

`K` weights, `E` episodes, `m` objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs import conditioned
from rlaas_ray.errors import Interrupted, InvalidInput, WorkFailed
from rlaas_ray.evaluation.episodes import MakeVector
from rlaas_ray.policies import spaces
from rlaas_ray.policies.loaded import LoadedPolicy
from rlaas_ray.specs.arrays import F32, F64

_MAX_STEPS = 1_000_000
ROWS = 1_024  # of one vector env, at most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VectorReturns:
    """`values`: sums of the objectives in their own units; `scaled`: of what the weights weigh, larger is better. (K, E, m)."""

    values: F64
    scaled: F64


def vector_returns(
    policy: LoadedPolicy,
    *,
    weights: F64,
    make_vector: MakeVector,
    episodes: int,
    seed: int,
    halted: Callable[[], bool] = lambda: False,
) -> VectorReturns:
    """Undiscounted vector returns of the first episode of worlds seed to seed + episodes - 1, under each of `weights` (K, m).

    Every weight meets the same worlds, so that two can be compared by their differences. Raises InvalidInput for a policy
    without a preference or a single episode, Interrupted when `halted` says so at a step.
    """
    if policy.preference is None:
        raise InvalidInput(
            "the front of a policy",
            given=f"{policy.manifest.name!r}, which is not conditioned on weights",
            expected="a policy with a preference",
            cure="Train one with `preference: conditioned`.",
        )
    if episodes < 2:
        raise InvalidInput("episodes of a front", given=episodes, expected="2 or more: one has no spread")
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    at_once = max(1, ROWS // episodes)
    parts = [
        _block(
            policy,
            weights=weights[start : start + at_once],
            make_vector=make_vector,
            episodes=episodes,
            seed=seed,
            rng=rng,
            halted=halted,
        )
        for start in range(0, len(weights), at_once)
    ]
    return VectorReturns(
        values=np.concatenate([part.values for part in parts]), scaled=np.concatenate([part.scaled for part in parts])
    )


def _block(
    policy: LoadedPolicy,
    *,
    weights: F64,
    make_vector: MakeVector,
    episodes: int,
    seed: int,
    rng: np.random.Generator,
    halted: Callable[[], bool],
) -> VectorReturns:
    preference = policy.preference
    assert preference is not None  # the caller refused others
    count, size = len(weights), preference.size
    rows = count * episodes
    policy = policy.preferring(np.repeat(weights, episodes, axis=0))
    envs = make_vector(rows)
    try:
        observations, _ = envs.reset(seed=[seed + world for _ in range(count) for world in range(episodes)])  # type: ignore[arg-type]  # a list is fine
        values, scaled = np.zeros((rows, size)), np.zeros((rows, size))
        running, memory = np.ones(rows, dtype=np.bool_), dict[str, F32]()
        for _ in range(_MAX_STEPS):
            if halted():
                raise Interrupted("the evaluation is stopped", cure="It begins again from its seed.")
            mask = policy.action_mask(observations)
            if mask is not None:  # an episode's last observation may forbid everything: nobody acts on it
                mask = mask | ~running[:, None]
            drawn = policy.decide(policy.encode(observations), rng=rng, mask=mask, **memory)
            if drawn.state is not None:
                memory["state"] = drawn.state
            actions = spaces.actions(policy.action_space, drawn.action)
            observations, _, terminated, truncated, info = envs.step(actions)
            now = running[:, None]
            values += np.where(now, conditioned.told(info, "objectives", rows=rows, size=size), 0.0)
            scaled += np.where(now, conditioned.scaled(info, preference, rows=rows), 0.0)
            running &= ~(np.asarray(terminated) | np.asarray(truncated))
            if not running.any():
                shape = (count, episodes, size)
                return VectorReturns(values=values.reshape(shape), scaled=scaled.reshape(shape))
    finally:
        envs.close()
    raise WorkFailed(
        "an episode does not end",
        given=f"{_MAX_STEPS} steps",
        expected="termination or truncation",
        cure="Give the env a time limit (gymnasium.wrappers.TimeLimit, or max_episode_steps where it is registered).",
    )
