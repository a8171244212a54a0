"""Worlds: the vector env that a spec names, flat or as a shared view, with encoder and decoder; a value that travels to actors.

Made by `of`, for runner.py; opened by sampler.py. Never steps anything.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import conditioned, multi_agent, registry, view
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders, preferences, spaces
from rlaas_ray.policies.preferences import Preference
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.specs.train import TrainSpec

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]
_PREFERENCE_SEED = 0x5EED  # the same for every seed of a spec, so that weights mean the same to policies of one env


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Agents of a multi-agent env that share a policy. `columns`: where they stand among all agents."""

    policy: str  # "": the only one
    agents: tuple[str, ...]
    columns: tuple[int, ...]
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worlds:
    """What to make envs of. With `shared`, a row is one of `units` units of an env, and the spaces are those of one unit.

    With a `preference` the observation space holds its weights, and `make` draws them; whole envs stay as they are.
    """

    env: str
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    mode: str | None = None
    weights: registry.Weights | None = None
    units: int = 1
    shared: bool = False
    groups: tuple[Group, ...] = ()  # of a multi-agent env; the spaces are then those of the first
    preference: Preference | None = None
    folder: str | None = None  # where a user's module was found; actors on this machine look there as well

    def make(self, *, envs: int, seed: int, first_index: int) -> VectorEnv:
        """A vector env of `envs` envs (envs * units rows), seeded."""
        self._find()
        shared = self.view()
        if shared is not None:
            return shared.make_vector(
                num_envs=envs,
                seed=seed,
                first_index=first_index,
                mode=self.mode,
                weights=self.weights,
                config=self.config,
            )
        made = self.make_flat(envs=envs, seed=seed, first_index=first_index)
        if self.preference is None:
            return made
        return conditioned.Conditioned(made, self.preference, seed=seed, first_index=first_index)

    def make_flat(self, *, envs: int, seed: int, first_index: int = 0) -> VectorEnv:
        """The same worlds as whole envs, as evaluation and serving see them."""
        return registry.make_vector(
            self.env,
            num_envs=envs,
            seed=seed,
            first_index=first_index,
            mode=self.mode,
            weights=self.weights,
            config=self.config,
        )

    def make_one(self) -> gymnasium.Env[Any, Any]:
        """One env of these worlds, not seeded."""
        self._find()
        return registry.make(self.env, mode=self.mode, weights=self.weights, config=self.config)

    def _find(self) -> None:
        """Where a user's module was found, actors on this machine look as well."""
        if self.folder is not None and self.folder not in sys.path:
            sys.path.append(self.folder)

    @property
    def flat_observation_space(self) -> gymnasium.Space[Any]:
        """Of whole envs, as evaluation and serving see them."""
        if self.shared or self.preference is not None:
            return registry.spaces(self.env, config=self.config)[0]
        return self.observation_space

    @property
    def flat_action_space(self) -> gymnasium.Space[Any]:
        """Of whole envs."""
        return registry.spaces(self.env, config=self.config)[1] if self.shared else self.action_space

    def view(self) -> view.TrainingView | None:
        """The shared view, if rows are units; they observe the weights of a preference as well."""
        found = registry.training_view(self.env) if self.shared else None
        if found is None or self.preference is None:
            return found
        assert isinstance(found, view.Weighable)  # `of` refused others
        return view.ConditionedView(own=found, preference=self.preference)

    def of_group(self, group: Group) -> Worlds:
        """What one policy of a multi-agent env sees and does."""
        return replace(
            self, observation_space=group.observation_space, action_space=group.action_space, groups=(group,)
        )

    def encode(self, observations: Any) -> F32:
        """Raw batch -> (rows, d)."""
        return spaces.encode(self.observation_space, observations)

    def encode_one(self, observation: Any) -> F32:
        """One raw observation -> (d,)."""
        encoded: F32 = spaces.encode(self.observation_space, [observation])[0]
        return encoded

    def masks(self, observations: Any) -> Bool | None:
        """Raw batch -> (rows, m), true where an action is allowed; None where the env has no action mask."""
        return spaces.action_mask(self.observation_space, observations)

    def mask_one(self, observation: Any) -> Bool:
        """The mask (m,) of one raw observation of an env that has masks."""
        return np.asarray(observation[spaces.MASK]).reshape(-1) > 0

    def decode(self, proposed: Array, *, observations: F32) -> Array:
        """Proposed actions (rows, a) -> what the vector env takes; as the bundle will decode them."""
        return self.decoding()(proposed, observations)

    def decoding(self) -> Callable[[Array, F32], Array]:
        """`decode` with everything looked up once: for who steps an env many times."""
        space = self.action_space
        if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
            kind = space.dtype
            return lambda proposed, _: proposed[:, 0].astype(kind, copy=False)
        decoder = decoders.for_action_space(space)

        def decode(proposed: Array, observations: F32) -> Array:
            executed = decoder.decode(proposed.astype(np.float64), observations=observations)
            return spaces.actions(space, executed)

        return decode


def of(spec: TrainSpec) -> Worlds:
    """The worlds of a spec. Raises for an env that cannot be made, a view that there is not, spaces that cannot be trained."""
    own = [module_of(name) for name in (spec.env, spec.reward or "")]
    folder = next((str(found.parent) for found in own if found is not None), None)
    if spec.multi_agent is not None:
        groups = _groups(spec)
        return Worlds(
            env=spec.env,
            observation_space=groups[0].observation_space,
            action_space=groups[0].action_space,
            config=dict(spec.env_arguments),
            groups=groups,
            folder=folder,
        )
    observation_space, action_space = registry.spaces(spec.env, config=spec.env_arguments)
    if spec.preference is not None:
        return _conditioned(spec, observation_space=observation_space, action_space=action_space, folder=folder)
    flat = spec.view == "flat" or (spec.view == "auto" and spec.reward is not None)  # a view has rewards of its own
    shared = None if flat else registry.training_view(spec.env)
    if shared is not None and spec.reward is not None:
        raise InvalidInput(
            "reward", given=spec.reward, expected="view: flat", cure="Units of a shared view have rewards of their own."
        )
    if spec.view == "shared" and shared is None:
        raise InvalidInput(
            f"view of {spec.env}",
            given="shared",
            expected="auto or flat",
            cure="Only factored envs have a shared view.",
        )
    return Worlds(
        env=spec.env,
        observation_space=observation_space if shared is None else shared.observation_space,
        action_space=action_space if shared is None else shared.action_space,
        config=dict(spec.env_arguments),
        mode=spec.mode,
        weights=spec.weights,
        units=1 if shared is None else shared.units,
        shared=shared is not None,
        folder=folder,
    )


def _conditioned(
    spec: TrainSpec,
    *,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    folder: str | None,
) -> Worlds:
    """Envs under weights that are drawn; what these weigh is found on worlds of their own, before any training."""

    def make_vector(envs: int) -> VectorEnv:
        return registry.make_vector(spec.env, num_envs=envs, seed=_PREFERENCE_SEED, config=spec.env_arguments)

    preference = conditioned.preference_of(spec.env, make_vector, seed=_PREFERENCE_SEED)
    units = None if spec.view == "flat" else registry.training_view(spec.env)
    if spec.view == "shared" and not isinstance(units, view.Weighable):
        raise InvalidInput(
            f"view of {spec.env} under a preference",
            given="shared",
            expected="auto or flat",
            cure="Its units, if it has some, have rewards of their own that weights do not change.",
        )
    shared = view.ConditionedView(own=units, preference=preference) if isinstance(units, view.Weighable) else None
    own = preferences.space(observation_space, size=preference.size)
    return Worlds(
        env=spec.env,
        observation_space=own if shared is None else shared.observation_space,
        action_space=action_space if shared is None else shared.action_space,
        config=dict(spec.env_arguments),
        preference=preference,
        units=1 if shared is None else shared.units,
        shared=shared is not None,
        folder=folder,
    )


def _groups(spec: TrainSpec) -> tuple[Group, ...]:
    """One group of all agents, or one for each."""
    agents = multi_agent.agents_of(spec.env, config=spec.env_config)
    if spec.multi_agent == "separate":
        return tuple(
            Group(
                policy=agent.name,
                agents=(agent.name,),
                columns=(column,),
                observation_space=agent.observation_space,
                action_space=agent.action_space,
            )
            for column, agent in enumerate(agents)
        )
    first = agents[0]
    other = next(
        (a for a in agents if (a.observation_space, a.action_space) != (first.observation_space, first.action_space)),
        None,
    )
    if other is not None:
        raise InvalidInput(
            f"agents of {spec.env}",
            given=f"{other.name} has other spaces than {first.name}",
            expected="the same spaces for a shared policy",
            cure="Set `multi_agent: separate`.",
        )
    return (
        Group(
            policy="",
            agents=tuple(agent.name for agent in agents),
            columns=tuple(range(len(agents))),
            observation_space=first.observation_space,
            action_space=first.action_space,
        ),
    )


def module_of(env: str) -> Path | None:
    """The file or package folder of a user's own module in `module:Class`; None for what is installed."""
    if ":" not in env:
        return None
    file = importlib.import_module(env.partition(":")[0].partition(".")[0]).__file__
    if file is None or "site-packages" in file or file.startswith(sys.base_prefix):
        return None
    path = Path(file)
    return path.parent if path.name == "__init__.py" else path
