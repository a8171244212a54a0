"""Small bundles with random weights, and route tables over them: for tests and benchmarks of whoever serves.

A builder per noun: only what matters to a test is said. Writing certifies the engines, as for any bundle (loads torch).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.policies import bundle, decoders, heads, memory
from rlaas_ray.policies.network import Layer, Network
from rlaas_ray.policies.preferences import Preference
from rlaas_ray.specs.routing import BUCKETS, Arm, RouteTable


def a_bundle(
    directory: Path,
    *,
    width: int = 4,
    hidden: tuple[int, ...] = (8,),
    actions: int = 2,
    seed: int = 7,
    remembers: int = 0,
    preference: Preference | None = None,
) -> str:
    """A bundle of a random tanh network: `width` observations to `actions` choices. Gives its digest.

    `remembers`: entries of a GRU before the layers; 0 for none. `preference`: it observes weights besides.
    """
    rng = np.random.default_rng(seed)
    inputs = width + (0 if preference is None else preference.size)
    sizes = (remembers or inputs, *hidden, actions)
    layers = tuple(
        Layer(
            weight=(rng.normal(size=(after, before)) / np.sqrt(before)).astype(np.float32),
            bias=np.zeros(after, np.float32),
            activation="linear" if index == len(hidden) else "tanh",
        )
        for index, (before, after) in enumerate(itertools.pairwise(sizes))
    )
    space: gymnasium.spaces.Space[Any] = gymnasium.spaces.Discrete(actions)
    contents = bundle.BundleContents(
        name=f"random-{seed}",
        created_us=1_700_000_000_000_000,
        env="CartPole-v1",
        algorithm="ppo",
        observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32),
        action_space=space,
        net=Network(layers=layers, memory=_gru(rng, inputs=inputs, outputs=remembers) if remembers else None),
        head=heads.for_action_space(space),
        decoder=decoders.for_action_space(space),
        serving="sample",
        seed=seed,
        spec_digest="ab" * 32,
        observations=rng.normal(size=(256, inputs)).astype(np.float32),
        preference=preference,
    )
    return bundle.write(directory, contents)


def _gru(rng: np.random.Generator, *, inputs: int, outputs: int) -> memory.Memory:
    sizes = memory.shapes("gru", inputs=inputs, outputs=outputs, steps=1)
    arrays = {name: (0.5 * rng.normal(size=size)).astype(np.float32) for name, size in sizes.items()}
    return memory.Memory(kind="gru", after=0, arrays=arrays)


def a_table(champion: str, *, endpoint: str = "cells", epoch: int = 1, **fields: Any) -> RouteTable:
    """A table whose champion has the bundle with this digest; `challenger=(digest, share)` and `fallback=digest` add arms."""
    arms = [Arm(name="champion", role="champion", version=f"random:{epoch}", digest=champion)]
    challenger = fields.pop("challenger", None)
    if challenger is not None:
        digest, share = challenger
        ranges = ((0, round(share * BUCKETS)),)
        arms.append(Arm(name="challenger", role="challenger", version="random:99", digest=digest, ranges=ranges))
    fallback = fields.pop("fallback", None)
    if fallback is not None:
        arms.append(Arm(name="fallback", role="fallback", version="random:0", digest=fallback))
    plain: dict[str, Any] = {
        "endpoint": endpoint,
        "epoch": epoch,
        "pool": "policies",
        "arms": tuple(arms),
        "salt": "exp-1:layer-0",
        "assign_by": "unit",
        "holdout_buckets": 0,
        "reward_low": 0.0,
        "reward_high": 1.0,
        "gamma": 1.0,
        "reward_deadline_s": 60.0,
        "deadline_ms": 250,
        "durability": "process",
        "on_full": "answer",
    }
    return RouteTable(**(plain | fields))
