"""PPO with a memory as a family: found by families.py when a spec's network has one.

Its fragments are sequences and its learning runs through time; plan, loss, schedule and checkpoints are PPO's (ppo.py,
presets.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders, spaces
from rlaas_ray.policies.memory import Kind
from rlaas_ray.specs.arrays import F32
from rlaas_ray.specs.train import Network, TrainSpec
from rlaas_ray.train import analytic, heads, hosts, plans, ppo, presets
from rlaas_ray.train.analytic import Schedule
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.memory import network, sequences
from rlaas_ray.train.memory.network import Shape
from rlaas_ray.train.memory.sampler import MemorySampler
from rlaas_ray.train.memory.unrolled import SequenceEngine
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.seam import Collector, Family, Learning, Parts, Situation, State, Trained
from rlaas_ray.train.worlds import Worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan(PpoPlan):
    """A training by PPO over sequences with nothing left open."""

    memory: Kind
    memory_size: int
    memory_steps: int  # of a sequence, through which gradients go back; attention's window


class MemoryLearning(Learning):
    """Parameters, Adam and the engine over sequences."""

    def __init__(self, plan: MemoryPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._worlds = worlds
        self._shape = shape_of(plan, worlds)
        flat = network.initial(
            self._shape,
            rng=np.random.default_rng(plan.seed),
            policy_gain=plan.policy_gain,
            log_std=plan.log_std_initial,
        )
        self._state = analytic.fresh_state(flat)
        head = heads.head_of(worlds.action_space)
        self._engine = SequenceEngine(self._state, shape=self._shape, head=head, loss=presets.loss_of(plan))
        self._updates = 0

    def parameters(self) -> F32:
        """The flat vector of network.parameters."""
        found: F32 = self._state.parameters.numpy()
        return found

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """All epochs over one batch; nothing from observations that came before there were statistics to normalise by."""
        plan = self._plan
        if plan.normalise_observations and situation.unnormalised:
            return {}
        batch = sequences.standardised(sequences.join([fragment.columns for fragment in fragments]))
        schedule = Schedule(
            epochs=plan.epochs,
            minibatches=max(1, round(int(batch.valid.sum()) * plan.share / plan.minibatch_size)),
            share=plan.share,
            learning_rate=plans.linear(plan.learning_rate, plan.learning_rate_final, used=situation.used),
        )
        rng = np.random.default_rng(np.random.SeedSequence([plan.seed, self._updates]))
        stats = self._engine.update(batch, schedule=schedule, rng=rng)
        self._updates += 1
        return {**stats, "learning_rate": schedule.learning_rate}

    def state(self) -> State:
        """A copy of everything."""
        return ppo.to_state(self._state.weights(updates=self._updates))

    def load_state(self, state: State) -> None:
        """Go on from `state`, in place."""
        weights = ppo.from_state(state, like=self.parameters())
        self._state.set_weights(weights)
        self._updates = weights.updates

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The policy's tower with frozen statistics."""
        view, flat = self._worlds.view(), self._worlds.flat_action_space
        program = network.program(
            self.parameters(),
            self._shape,
            tower="actor",
            normaliser=ppo.normaliser(observations) if self._plan.normalise_observations else None,
            view=None if view is None else view.program,
        )
        decoder = decoders.for_action_space(flat) if view is None else view.decoder
        return {"": Trained(network=program, head=ppo.head_of(flat), decoder=decoder)}


def resolve(spec: TrainSpec, worlds: Worlds) -> MemoryPlan:
    """PPO's plan, its fragments made whole sequences."""
    plain = ppo.resolve(spec, worlds)
    asked = spec.network or Network()
    assert asked.memory != "none"  # families.py sent it here
    if asked.memory == "attention" and asked.memory_steps < 2:
        raise InvalidInput(
            "memory_steps of attention",
            given=asked.memory_steps,
            expected="2 or more: a window of one observation remembers nothing",
            pointer="/network/memory_steps",
        )
    length = asked.memory_steps
    changed = {
        "steps": length * max(1, round(plain.steps / length)),
        "memory": asked.memory,
        "memory_size": asked.memory_size,
        "memory_steps": length,
    }
    return MemoryPlan(**({field.name: getattr(plain, field.name) for field in fields(plain)} | changed))


def shape_of(plan: MemoryPlan, worlds: Worlds) -> Shape:
    """The network's shape."""
    head = heads.head_of(worlds.action_space)
    return Shape(
        inputs=spaces.encoded_size(worlds.observation_space),
        hidden=plan.hidden,
        activation=plan.activation,
        kind=plan.memory,
        size=plan.memory_size,
        steps=plan.memory_steps,
        outputs=head.size - head.free,
        free=head.free,
    )


def collector(plan: MemoryPlan, worlds: Worlds, *, index: int) -> Collector:
    """The sampler of runner `index`."""
    return MemorySampler(
        worlds,
        sampling=presets.sampling_of(plan),
        shape=shape_of(plan, worlds),
        length=plan.memory_steps,
        seed=plan.seed,
        index=index,
    )


PARTS: Parts[MemoryPlan] = Parts(collector=collector, learning=MemoryLearning)
FAMILY: Family[MemoryPlan] = Family(resolve=resolve, trainer=hosts.columnar(PARTS))
