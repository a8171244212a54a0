"""The learning of SAC, TD3 and DDPG: the feed of transitions, an engine, and the policy as a bundle holds it.

Made by family.py, in the driver or in RLlib's Learner. Observations are stored raw and normalised when they are learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.policies import decoders, heads, spaces
from rlaas_ray.policies import network as programs
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import columns, plans
from rlaas_ray.train.actor_critic import oracle, plan
from rlaas_ray.train.actor_critic.deterministic import Deterministic
from rlaas_ray.train.actor_critic.discrete import Discrete
from rlaas_ray.train.actor_critic.networks import Batch
from rlaas_ray.train.actor_critic.perceptron import Perceptron
from rlaas_ray.train.actor_critic.plan import DeterministicPlan, SacPlan
from rlaas_ray.train.actor_critic.sac import Continuous
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.replay.feed import Feed
from rlaas_ray.train.replay.memory import Sample
from rlaas_ray.train.seam import Learning, Situation, State, Trained
from rlaas_ray.train.worlds import Worlds

_STREAM = 0xAC


class ActorCriticLearning(Learning):
    """An engine and the replay memory that it learns from."""

    def __init__(self, given: SacPlan | DeterministicPlan, worlds: Worlds) -> None:
        self._plan = given
        self._worlds = worlds
        record = plan.record_of(worlds)
        self._feed = Feed(given, record)
        self._masked = "masks" in (record.names or ())
        self._engine = engine_of(given, worlds, rng=np.random.default_rng(given.seed))
        oracle.certify(self._engine, rng=np.random.default_rng(given.seed), masked=self._masked)

    def parameters(self) -> F32:
        """The actor's, flat."""
        return self._engine.actor.flat

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """Insert, then all updates that are due; statistics of the last one."""
        due = self._feed.take(fragments)
        if not due:
            return {}
        rng = np.random.default_rng(np.random.SeedSequence([self._plan.seed, _STREAM, self._engine.updates]))
        rate = plans.linear(self._plan.learning_rate, self._plan.learning_rate_final, used=situation.used)
        mean, scale = columns.scale_of(situation.ledger.observations)
        for sample in self._feed.samples(due, rng=rng, used=situation.used):
            errors = self._engine.update(self._batch(sample, mean=mean, scale=scale), rng=rng, learning_rate=rate)
            self._feed.memory.prioritise(sample.places, errors)
        return {**self._engine.stats(), "learning_rate": rate, "buffer_rows": float(len(self._feed.memory))}

    def state(self) -> State:
        """A copy of everything but the memory, which `save_buffer` writes."""
        return {**self._engine.state(), **self._feed.state()}

    def load_state(self, state: State) -> None:
        """Go on from `state`, in place; the memory fills again unless `load_buffer` brings it back."""
        self._engine.load_state(state)
        self._feed.load_state(state)

    def save_buffer(self, directory: Path) -> None:
        """The replay memory as files in `directory`, at every `buffer_checkpoint_every`-th call."""
        self._feed.save(directory)

    def load_buffer(self, directory: Path) -> bool:
        """The inverse; False when there is none, and the memory fills anew."""
        return self._feed.load(directory)

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The actor with frozen statistics. TD3 and DDPG serve their action, or by `sample` with exploration noise around it."""
        flat, view = self._worlds.flat_action_space, self._worlds.view()
        serves = _serves(self._plan, space=flat, entries=self._engine.settings.actions)
        program = programs.Network(
            layers=_layers(self._engine.actor.parts[0], last="tanh" if serves.bounded else "linear"),
            normaliser=_normaliser(observations) if self._plan.normalise_observations else None,
            log_std=serves.log_std,
            view=None if view is None else view.program,
            parts=serves.parts,
        )
        return {
            "": Trained(
                network=program,
                head=serves.head,
                decoder=decoders.for_action_space(flat) if view is None else view.decoder,
                serving=serves.serving,
            )
        }

    def _batch(self, sample: Sample, *, mean: F32, scale: F32) -> Batch:
        rows = sample.rows
        here, following = rows["observations"], rows["next_observations"]
        if self._plan.normalise_observations:
            here, following = (columns.normalise(part, mean=mean, scale=scale) for part in (here, following))
        return Batch(
            observations=here,
            next_observations=following,
            actions=rows["actions"],
            rewards=rows["rewards"],
            discounts=rows["discounts"],
            weights=sample.weights,
            masks=rows["masks"] if self._masked else None,
            next_masks=rows["next_masks"] if self._masked else None,
        )


def engine_of(
    given: SacPlan | DeterministicPlan, worlds: Worlds, *, rng: np.random.Generator
) -> Continuous | Discrete | Deterministic:
    """The engine of the plan's algorithm and the env's actions."""
    if isinstance(given, DeterministicPlan):
        return Deterministic(plan.deterministic_settings(given, worlds), rng=rng)
    kind = Discrete if plan.is_discrete(worlds) else Continuous
    return kind(plan.soft_settings(given, worlds), rng=rng)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Serves:
    """How a policy is served: its head, and what of the network depends on it."""

    head: heads.Head
    serving: str | None
    parts: int = 1
    bounded: bool = False  # tanh after the last layer
    log_std: F32 | None = None  # of one unit


def _serves(given: SacPlan | DeterministicPlan, *, space: gymnasium.Space[Any], entries: int) -> _Serves:
    if isinstance(space, gymnasium.spaces.Discrete):
        return _Serves(head=heads.Categorical(n=int(space.n)), serving=given.serving)
    whole = spaces.action_size(space)
    if isinstance(given, SacPlan):
        return _Serves(head=heads.SquashedGaussian(entries=whole), serving=given.serving, parts=2)
    serving = given.serving or "greedy"
    if given.exploration_noise == 0:
        return _Serves(head=heads.Point(entries=whole), serving=serving, bounded=True)
    deviation = np.full(entries, np.log(given.exploration_noise), dtype=np.float32)
    head = heads.DiagonalGaussian(entries=whole)
    return _Serves(head=head, serving=serving, parts=2, bounded=True, log_std=deviation)


def _layers(actor: Perceptron, *, last: programs.Activation) -> tuple[programs.Layer, ...]:
    count = len(actor.weights)
    return tuple(
        programs.Layer(
            weight=weight.copy(),
            bias=bias.copy(),
            activation=actor.shape.activation if index < count - 1 else last,
        )
        for index, (weight, bias) in enumerate(zip(actor.weights, actor.biases, strict=True))
    )


def _normaliser(observations: Moments) -> programs.Normaliser:
    mean, scale = columns.scale_of(observations)
    return programs.Normaliser(mean=mean, std=scale, clip=columns.NORMALISED_LIMIT)
