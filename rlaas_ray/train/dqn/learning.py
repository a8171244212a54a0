"""DQN's learning: the feed of transitions, the engine, and when the target network follows.

Made by family.py, in the driver or in RLlib's Learner. Observations are stored raw and normalised when they are learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders, heads
from rlaas_ray.policies import network as programs
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import analytic, columns, plans
from rlaas_ray.train.analytic import Weights
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.dqn import explorer, network
from rlaas_ray.train.dqn.bellman import Batch, Engine, Loss, Step
from rlaas_ray.train.dqn.plan import DqnPlan, record_of, shape_of
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.replay.feed import Feed
from rlaas_ray.train.replay.memory import Sample
from rlaas_ray.train.seam import Learning, Situation, State, Trained
from rlaas_ray.train.worlds import Worlds

_STREAM = 0xD9


class DqnLearning(Learning):
    """Online and target network, Adam, and the replay memory."""

    def __init__(self, plan: DqnPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._worlds = worlds
        self._shape = shape_of(plan, worlds)
        self._feed = Feed(plan, record_of(worlds))
        flat = network.initial(self._shape, rng=np.random.default_rng(plan.seed))
        self._state = analytic.fresh_state(flat)
        self._engine = Engine(self._state, target=flat.copy(), shape=self._shape, loss=loss_of(plan))
        self._updates = 0

    def parameters(self) -> F32:
        """The flat vector of dqn/network.py, of the online network."""
        found: F32 = self._state.parameters.numpy()
        return found

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """Insert, then all updates that are due."""
        due = self._feed.take(fragments)
        if not due:
            return {}
        rng = np.random.default_rng(np.random.SeedSequence([self._plan.seed, _STREAM, self._updates]))
        rate = plans.linear(self._plan.learning_rate, self._plan.learning_rate_final, used=situation.used)
        batches = _Batches(self._plan, situation=situation)
        steps = []
        for sample in self._feed.samples(due, rng=rng, used=situation.used):
            step = self._engine.update(batches.of(sample), learning_rate=rate)
            self._feed.memory.prioritise(sample.places, step.errors)
            steps.append(step)
            self._updates += 1
            if self._updates % self._plan.target_every == 0:
                self._engine.move_target(self._plan.tau)
        return {
            **told(steps),
            "learning_rate": rate,
            "epsilon": explorer.epsilon(self._plan, used=situation.used),
            "buffer_rows": float(len(self._feed.memory)),
        }

    def state(self) -> State:
        """A copy of everything but the memory, which `save_buffer` writes."""
        weights = self._state.weights(updates=self._updates)
        return {
            "parameters": weights.parameters,
            "target": self._engine.target_flat.copy(),
            "first": weights.first,
            "second": weights.second,
            "steps": np.array([weights.adam_steps, weights.updates], dtype=np.int64),
            **self._feed.state(),
        }

    def load_state(self, state: State) -> None:
        """Go on from `state`, in place; the memory fills again unless `load_buffer` brings it back."""
        if "target" not in state or state["target"].shape != self.parameters().shape:
            raise InvalidInput(
                "checkpoint of another network",
                given=None if "target" not in state else state["target"].shape,
                expected=str(self.parameters().shape),
                cure="Resume with the spec that the run was started with.",
            )
        adam_steps, self._updates = (int(n) for n in state["steps"])
        self._state.set_weights(
            Weights(
                parameters=state["parameters"].astype(np.float32),
                first=state["first"].astype(np.float32),
                second=state["second"].astype(np.float32),
                adam_steps=adam_steps,
                updates=self._updates,
            )
        )
        self._engine.target_flat[:] = state["target"]
        self._engine.refresh()
        self._feed.load_state(state)

    def save_buffer(self, directory: Path) -> None:
        """The replay memory as files in `directory`, at every `buffer_checkpoint_every`-th call."""
        self._feed.save(directory)

    def load_buffer(self, directory: Path) -> bool:
        """The inverse; False when there is none, and the memory fills anew."""
        return self._feed.load(directory)

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The online network with frozen statistics; greedy, unless a serving epsilon or the spec says otherwise."""
        plan, view = self._plan, self._worlds.view()
        program = programs.Network(
            layers=self._engine.online.layers(),
            normaliser=normaliser(observations) if plan.normalise_observations else None,
            view=None if view is None else view.program,
            atoms=None if plan.atoms == 1 else network.support(self._shape, v_min=plan.v_min, v_max=plan.v_max),
        )
        flat = self._worlds.flat_action_space
        return {
            "": Trained(
                network=program,
                head=heads.QValues(n=self._shape.actions, epsilon=plan.serving_epsilon),
                decoder=decoders.for_action_space(flat) if view is None else view.decoder,
                serving=plan.serving or ("sample" if plan.serving_epsilon > 0 else "greedy"),
            )
        }


class _Batches:
    """Samples of the memory as the engine takes them."""

    def __init__(self, plan: DqnPlan, *, situation: Situation) -> None:
        self._normalised = plan.normalise_observations
        self._mean, self._scale = columns.scale_of(situation.ledger.observations)

    def of(self, sample: Sample) -> Batch:
        """A batch; its columns are views of the sample's rows where nothing is normalised."""
        rows = sample.rows
        return Batch(
            observations=self._filter(rows["observations"]),
            actions=rows["actions"][:, 0],
            rewards=rows["rewards"],
            discounts=rows["discounts"],
            next_observations=self._filter(rows["next_observations"]),
            next_masks=rows["next_masks"] if "next_masks" in (rows.dtype.names or ()) else None,
            weights=sample.weights,
        )

    def _filter(self, observations: F32) -> F32:
        if not self._normalised:
            return observations
        return columns.normalise(observations, mean=self._mean, scale=self._scale)


def told(steps: Sequence[Step]) -> dict[str, float]:
    """Means over updates, by the names of docs/training.md."""
    return {
        "td_error_mean": float(np.mean([step.errors.mean() for step in steps])),
        "q_mean": float(np.mean([step.q_mean for step in steps])),
        "critic_loss": float(np.mean([step.loss for step in steps])),
        "gradient_norm": float(np.mean([step.gradient_norm for step in steps])),
    }


def loss_of(plan: DqnPlan) -> Loss:
    """What the engine learns."""
    return Loss(double=plan.double, v_min=plan.v_min, v_max=plan.v_max, gradient_clip=plan.gradient_clip)


def normaliser(observations: Moments) -> programs.Normaliser:
    """The running statistics, frozen."""
    mean, scale = columns.scale_of(observations)
    return programs.Normaliser(mean=mean, std=scale, clip=columns.NORMALISED_LIMIT)
