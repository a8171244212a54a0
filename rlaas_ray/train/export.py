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

from rlaas_ray.envs import conditioned, philox
from rlaas_ray.policies import bundle, manifest, spaces
from rlaas_ray.specs.arrays import F32
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.seam import Trained
from rlaas_ray.train.worlds import Worlds

VISITED = 1_024
_ENVS = 16


def contents(
    spec: TrainSpec, *, plan: Plan, worlds: Worlds, trained: Trained, created_us: int, agent: str = ""
) -> bundle.BundleContents:
    """What a bundle is written from, its observations visited by this very policy. `agent`: whose policy, where each has one."""
    observation_space, action_space = worlds.flat_observation_space, worlds.flat_action_space
    width = manifest.inputs_of(observation_space, preference=worlds.preference)
    wanted = trained.serving or plan.serving
    serving: Literal["sample", "greedy"] = "greedy" if wanted == "greedy" else "sample"
    unseen = bundle.BundleContents(
        name=name_of(spec, agent=agent),
        created_us=created_us,
        env=spec.env,
        algorithm=spec.algorithm,
        observation_space=observation_space,
        action_space=action_space,
        net=trained.network,
        head=trained.head,
        decoder=trained.decoder,
        serving=serving,
        seed=spec.seed,
        spec_digest=spec.digest(),
        observations=np.zeros((bundle.GOLDEN_ROWS, width), dtype=np.float32),
        preference=worlds.preference,
    )
    if worlds.groups:
        return unseen  # several policies go where all of them together go: `seen`
    policy = bundle.in_memory(unseen)
    return replace(unseen, observations=_visited(policy, worlds=worlds, seed=spec.seed))


def seen(given: bundle.BundleContents, *, observations: F32) -> bundle.BundleContents:
    """The same with the encoded observations that its policy visited."""
    return replace(given, observations=observations)


def preferring(given: bundle.BundleContents, *, weights: tuple[float, ...]) -> bundle.BundleContents:
    """The same with these weights as the default of its preference."""
    assert given.preference is not None
    return replace(given, preference=given.preference.model_copy(update={"default": weights}))


def write(directory: Path, given: bundle.BundleContents, *, evaluation: Mapping[str, Any]) -> str:
    """The bundle, with its parity certificate and how good it is; gives its digest."""
    return bundle.write(directory, replace(given, evaluation=evaluation))


def name_of(spec: TrainSpec, *, agent: str = "") -> str:
    """The version's name: the spec's, else made from the env's id; with the agent's, where each has a policy."""
    last = spec.env.replace(":", "/").rsplit("/", 1)[-1]
    whole = spec.name or f"{last}-{spec.algorithm.rpartition(':')[2]}".lower()
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in whole + (agent and f"-{agent}"))
    return kept[:63]


def _visited(policy: bundle.LoadedPolicy, *, worlds: Worlds, seed: int) -> F32:
    """Encoded observations (n, d) of whole envs, where this policy goes."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, VISITED]))
    env = worlds.make_flat(envs=_ENVS, seed=int(rng.integers(2**31)))
    if worlds.preference is not None:  # each env under weights of its own
        own = philox.streams(seed, num_envs=_ENVS)
        policy = policy.preferring(conditioned.draws(own, size=worlds.preference.size))
    current, _ = env.reset()
    seen: list[F32] = []
    same_step = env.metadata.get("autoreset_mode") == gymnasium.vector.AutoresetMode.SAME_STEP
    state, before = policy.initial_state(_ENVS), np.zeros(_ENVS, dtype=np.bool_)
    while len(seen) * _ENVS < VISITED:
        encoded = policy.encode(current)
        seen.append(encoded.copy())
        mask = policy.action_mask(current)
        if mask is not None and not same_step:  # an episode's last observation may forbid everything
            mask = mask | before[:, None]
        drawn = policy.decide(encoded, rng=rng, mask=mask, state=state)
        current, _, terminated, truncated, _ = env.step(spaces.actions(policy.action_space, drawn.action))
        done = np.asarray(terminated) | np.asarray(truncated)
        if drawn.state is not None:  # under NEXT_STEP the observation after the ignored step opens the next episode
            state = np.where((done if same_step else before)[:, None], np.float32(0), drawn.state)
        before = done
    env.close()
    # Each env's steps in a row: a certificate takes consecutive observations for sequences where there is a memory.
    return np.stack(seen, axis=1).reshape(-1, seen[0].shape[1])
