"""Export: trained parameters, frozen statistics and the view's program as a Bundle.

Called by runner.py at the end of a training. What the bundle holds is decided in policies/; nothing here is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np

from rlaas_ray.envs import registry
from rlaas_ray.policies import bundle, decoders, heads, network, spaces
from rlaas_ray.specs.arrays import F32
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, presets
from rlaas_ray.train import network as training
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.presets import Plan
from rlaas_ray.train.worlds import Worlds

VISITED = 1_024
_ENVS = 16


def contents(
    spec: TrainSpec, *, plan: Plan, worlds: Worlds, parameters: F32, observations: Moments, created_us: int
) -> bundle.BundleContents:
    """What a bundle is written from, its observations visited by this very policy."""
    observation_space, action_space = registry.spaces(spec.env, config=spec.env_config)
    view = worlds.view()
    head = _head(action_space)
    width = spaces.encoded_size(observation_space)
    serving: Literal["sample", "greedy"] = "greedy" if plan.serving == "greedy" else "sample"
    unseen = bundle.BundleContents(
        name=name_of(spec),
        created_us=created_us,
        env=spec.env,
        algorithm=spec.algorithm,
        observation_space=observation_space,
        action_space=action_space,
        net=_network(plan, worlds=worlds, parameters=parameters, observations=observations),
        head=head,
        decoder=decoders.for_action_space(action_space) if view is None else view.decoder,
        serving=serving,
        seed=spec.seed,
        spec_digest=spec.digest(),
        observations=np.zeros((bundle.GOLDEN_ROWS, width), dtype=np.float32),
    )
    policy = bundle.in_memory(unseen)
    return replace(unseen, observations=_visited(policy, worlds=worlds, seed=spec.seed))


def write(directory: Path, given: bundle.BundleContents, *, evaluation: Mapping[str, Any]) -> str:
    """The bundle, with its parity certificate and how good it is; gives its digest."""
    return bundle.write(directory, replace(given, evaluation=evaluation))


def name_of(spec: TrainSpec) -> str:
    """The version's name: the spec's, else made from the env's id."""
    if spec.name is not None:
        return spec.name
    last = spec.env.replace(":", "/").rsplit("/", 1)[-1]
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in last)
    return f"{kept}-{spec.algorithm}".lower()[:63]


def _network(plan: Plan, *, worlds: Worlds, parameters: F32, observations: Moments) -> network.Network:
    shape = presets.shape_of(plan, worlds)
    named = training.views(parameters, shape)
    last = len(shape.hidden)
    mean, scale = columns.scale_of(observations)
    view = worlds.view()
    return network.Network(
        layers=tuple(
            network.Layer(
                weight=named[f"actor.{layer}.weight"].copy(),
                bias=named[f"actor.{layer}.bias"].copy(),
                activation=shape.activation if layer < last else "linear",
            )
            for layer in range(last + 1)
        ),
        normaliser=network.Normaliser(mean=mean, std=scale, clip=columns.NORMALISED_LIMIT)
        if plan.normalise_observations
        else None,
        log_std=named["log_std"].copy() if shape.free else None,
        view=None if view is None else view.program,
        parts=2 if shape.free else 1,
    )


def _head(space: gymnasium.Space[Any]) -> heads.Head:
    match space:
        case gymnasium.spaces.Discrete():
            return heads.Categorical(n=int(space.n))
        case gymnasium.spaces.MultiDiscrete():
            return heads.MultiCategorical(nvec=tuple(int(n) for n in space.nvec))
        case _:
            return heads.DiagonalGaussian(entries=spaces.action_size(space))


def _visited(policy: bundle.LoadedPolicy, *, worlds: Worlds, seed: int) -> F32:
    """Encoded observations (n, d) of whole envs, where this policy goes."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, VISITED]))
    env = worlds.make_flat(envs=_ENVS, seed=int(rng.integers(2**31)))
    current, _ = env.reset()
    seen: list[F32] = []
    while len(seen) * _ENVS < VISITED:
        encoded = policy.encode(current)
        seen.append(encoded.copy())
        drawn = policy.decide(encoded, rng=rng)
        current, *_ = env.step(spaces.actions(policy.action_space, drawn.action))
    env.close()
    return np.concatenate(seen)
