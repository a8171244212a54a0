"""PPO as a family: its sampler, its learning over flat memory, and what it exports.

Found by families.py. With Ray its learning runs in RLlib's PPO learner (rllib/), data-parallel if asked; without, in this
process. The engine (analytic.py) is certified against autograd before the first update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders, spaces
from rlaas_ray.policies import heads as exported
from rlaas_ray.policies import network as programs
from rlaas_ray.specs.arrays import F32
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import analytic, autograd, columns, heads, hosts, network, plans, presets
from rlaas_ray.train.analytic import Schedule, Weights
from rlaas_ray.train.columns import Columns, Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.sampler import Sampler
from rlaas_ray.train.seam import Build, Collector, Family, Learning, Parts, Situation, State, Trained, Trainer
from rlaas_ray.train.worlds import Worlds

DEAD_ROWS, DEAD_RANGE = 256, 1e-6


class PpoLearning(Learning):
    """Parameters, Adam and the analytic engine."""

    def __init__(self, plan: PpoPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._worlds = worlds
        head, loss = heads.head_of(worlds.action_space), presets.loss_of(plan)
        self._shape = shape = presets.shape_of(plan, worlds)
        self._state = analytic.fresh_state(initial(plan, shape=shape))
        autograd.certify(self._state, shape=shape, head=head, loss=loss, rng=np.random.default_rng(plan.seed))
        self._engine = analytic.Analytic(self._state, shape=shape, head=head, loss=loss)
        self._updates = 0

    def parameters(self) -> F32:
        """The flat vector of network.parameters."""
        found: F32 = self._state.parameters.numpy()
        return found

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """All epochs over one batch; nothing from observations that came before there were statistics to normalise by."""
        prepared = prepare(fragments, plan=self._plan, situation=situation)
        if prepared is None:
            return {}
        batch, schedule = prepared
        rng = np.random.default_rng(np.random.SeedSequence([self._plan.seed, self._updates]))
        stats = self._engine.update(batch, schedule=schedule, rng=rng)
        self._updates += 1
        dead = dead_units(network.Network(self.parameters(), self._shape), batch.observations[:DEAD_ROWS])
        return {**stats, "learning_rate": schedule.learning_rate, "dead_units": dead}

    def state(self) -> State:
        """A copy of everything."""
        return to_state(self._state.weights(updates=self._updates))

    def load_state(self, state: State) -> None:
        """Go on from `state`, in place."""
        weights = from_state(state, like=self.parameters())
        self._state.set_weights(weights)
        self._updates = weights.updates

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The policy network with frozen statistics."""
        return trained(self.parameters(), plan=self._plan, worlds=self._worlds, observations=observations)


def initial(plan: PpoPlan, *, shape: network.Shape) -> F32:
    """Where training starts."""
    return network.initial(
        shape, rng=np.random.default_rng(plan.seed), policy_gain=plan.policy_gain, log_std=plan.log_std_initial
    )


def prepare(fragments: Sequence[Fragment], *, plan: PpoPlan, situation: Situation) -> tuple[Columns, Schedule] | None:
    """One batch with standardised advantages, and how to walk over it; None while statistics are only being started."""
    if plan.normalise_observations and situation.unnormalised:
        return None
    joined = columns.join([fragment.columns for fragment in fragments])
    batch = replace(joined, advantages=columns.standardise(joined.advantages))
    return batch, Schedule(
        epochs=plan.epochs,
        minibatches=max(1, round(len(batch) * plan.share / plan.minibatch_size)),
        share=plan.share,
        learning_rate=plans.linear(plan.learning_rate, plan.learning_rate_final, used=situation.used),
    )


def dead_units(policy: network.Network, observations: F32) -> float:
    """Share of the policy's hidden units that give the same for all of these observations."""
    kept: list[tuple[F32, F32]] = []
    policy.distribution(observations, kept=kept)
    hidden = [inputs for inputs, _ in kept[1:]]
    if not hidden:
        return 0.0
    return float(np.mean(np.concatenate([np.ptp(outputs, axis=0) < DEAD_RANGE for outputs in hidden])))


def to_state(weights: Weights) -> State:
    """A checkpoint's arrays."""
    return {
        "parameters": weights.parameters,
        "first": weights.first,
        "second": weights.second,
        "steps": np.array([weights.adam_steps, weights.updates], dtype=np.int64),
    }


def from_state(state: State, *, like: F32) -> Weights:
    """The inverse of `to_state`. Raises InvalidInput for those of another network."""
    if "parameters" not in state or state["parameters"].shape != like.shape:
        raise InvalidInput(
            "checkpoint of another network",
            given=None if "parameters" not in state else state["parameters"].shape,
            expected=str(like.shape),
            cure="Resume with the spec that the run was started with.",
        )
    adam_steps, updates = (int(n) for n in state["steps"])
    return Weights(
        parameters=state["parameters"].astype(np.float32),
        first=state["first"].astype(np.float32),
        second=state["second"].astype(np.float32),
        adam_steps=adam_steps,
        updates=updates,
    )


def trained(parameters: F32, *, plan: PpoPlan, worlds: Worlds, observations: Moments) -> Mapping[str, Trained]:
    """What export.py writes: the actor's layers, the normaliser, the view's program."""
    shape = presets.shape_of(plan, worlds)
    named = network.views(parameters, shape)
    last = len(shape.hidden)
    view = worlds.view()
    program = programs.Network(
        layers=tuple(
            programs.Layer(
                weight=named[f"actor.{layer}.weight"].copy(),
                bias=named[f"actor.{layer}.bias"].copy(),
                activation=shape.activation if layer < last else "linear",
            )
            for layer in range(last + 1)
        ),
        normaliser=normaliser(observations) if plan.normalise_observations else None,
        log_std=named["log_std"].copy() if shape.free else None,
        view=None if view is None else view.program,
        parts=2 if shape.free else 1,
    )
    flat = worlds.flat_action_space
    decoder = decoders.for_action_space(flat) if view is None else view.decoder
    return {"": Trained(network=program, head=head_of(flat), decoder=decoder)}


def normaliser(observations: Moments) -> programs.Normaliser:
    """The running statistics, frozen."""
    mean, scale = columns.scale_of(observations)
    return programs.Normaliser(mean=mean, std=scale, clip=columns.NORMALISED_LIMIT)


def head_of(space: gymnasium.Space[Any]) -> exported.Head:
    """The serving head of the policies that PPO and its kin train."""
    match space:
        case gymnasium.spaces.Discrete():
            return exported.Categorical(n=int(space.n))
        case gymnasium.spaces.MultiDiscrete():
            return exported.MultiCategorical(nvec=tuple(int(n) for n in space.nvec))
        case _:
            return exported.DiagonalGaussian(entries=spaces.action_size(space))


def collector(plan: PpoPlan, worlds: Worlds, *, index: int) -> Collector:
    """The sampler of runner `index`."""
    return Sampler(
        worlds,
        sampling=presets.sampling_of(plan),
        shape=presets.shape_of(plan, worlds),
        seed=plan.seed,
        index=index,
    )


def resolve(spec: TrainSpec, worlds: Worlds) -> PpoPlan:
    """The plan: the spec's own fields, else the env's preset, else the defaults for this kind of action."""
    shared = worlds.view()
    return presets.resolve(spec, action_space=worlds.action_space, preset=None if shared is None else shared.preset)


PARTS: Parts[PpoPlan] = Parts(collector=collector, learning=PpoLearning)


def _trainer(given: Build[PpoPlan]) -> Trainer:
    if given.plan.actors == 0:
        return hosts.InProcess(PARTS, given)
    return given.on_ray().ppo(given)


FAMILY: Family[PpoPlan] = Family(resolve=resolve, trainer=_trainer)
