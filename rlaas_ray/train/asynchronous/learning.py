"""What IMPALA, APPO and A3C know, and how they learn from one fragment at a time: seam.Learning.

Hosted by flow.py beside env runners, or by train/hosts.py in one process. Never samples, never waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import analytic, heads, plans, ppo, presets
from rlaas_ray.train.asynchronous import oracle
from rlaas_ray.train.asynchronous import plan as asynchronous
from rlaas_ray.train.asynchronous import trajectories as lived
from rlaas_ray.train.asynchronous.collector import Gradient
from rlaas_ray.train.asynchronous.gradients import Engine
from rlaas_ray.train.asynchronous.plan import AsynchronousPlan
from rlaas_ray.train.asynchronous.trajectories import Trajectory
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.seam import Learning, Situation, State, Trained
from rlaas_ray.train.worlds import Worlds


class VtraceLearning(Learning):
    """IMPALA; and APPO, which has a target network besides."""

    def __init__(self, plan: AsynchronousPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._worlds = worlds
        shape, head = presets.shape_of(plan, worlds), heads.head_of(worlds.action_space)
        objective = asynchronous.objective_of(plan)
        self._state = analytic.fresh_state(ppo.initial(plan, shape=shape))
        oracle.certify(self.parameters(), shape=shape, head=head, objective=objective, seed=plan.seed)
        self._engine = Engine(
            self.parameters(), self._state.gradient.numpy(), shape=shape, head=head, objective=objective
        )
        self._updates = 0
        self._target = self.parameters().copy() if plan.algorithm == "appo" else None
        self._old = (
            None
            if self._target is None
            else Engine(self._target, self._target, shape=shape, head=head, objective=objective)
        )

    def parameters(self) -> F32:
        """The flat vector of network.parameters."""
        found: F32 = self._state.parameters.numpy()
        return found

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """All epochs over what these fragments lived; nothing from those that only start the statistics."""
        parts = [fragment.columns for fragment in fragments if not fragment.columns.warming]
        if not parts:
            return {}
        batch = lived.join(parts)
        rate = plans.linear(self._plan.learning_rate, self._plan.learning_rate_final, used=situation.used)
        stats = self._walk(batch, learning_rate=rate)
        self._updates += 1
        if self._target is not None and self._updates % self._plan.target_every == 0:
            self._target[:] = self.parameters()
        return {**stats, "learning_rate": rate, **staleness([part.staleness for part in parts])}

    def _walk(self, batch: Trajectory, *, learning_rate: float) -> dict[str, float]:
        old = None if self._old is None else self._old.log_probabilities(batch)
        # A new generator for each update: a resumed run permutes as an uninterrupted one would.
        rng = np.random.default_rng(np.random.SeedSequence([self._plan.seed, self._updates]))
        last: list[dict[str, float]] = []
        for epoch, rows in lived.minibatches(
            batch, epochs=self._plan.epochs, minibatch_size=self._plan.minibatch_size, rng=rng
        ):
            stats = self._engine.gradient(lived.take(batch, rows), old=None if old is None else old[:, rows])
            stats["gradient_norm"] = self._engine.clip()
            self._state.adam(learning_rate)
            if epoch == self._plan.epochs - 1:
                last.append(stats)
        return {name: float(np.mean([stats[name] for stats in last])) for name in last[0]}

    def state(self) -> State:
        """A copy of everything."""
        found = dict(ppo.to_state(self._state.weights(updates=self._updates)))
        if self._target is not None:
            found["target"] = self._target.copy()
        return found

    def load_state(self, state: State) -> None:
        """Go on from `state`, in place."""
        weights = ppo.from_state(state, like=self.parameters())
        self._state.set_weights(weights)
        self._updates = weights.updates
        if self._target is not None:
            self._target[:] = _target(state, like=self._target)

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The policy network with frozen statistics."""
        return ppo.trained(self.parameters(), plan=self._plan, worlds=self._worlds, observations=observations)


class CentralStore(Learning):
    """A3C's shared parameters: gradients are applied in the order in which they arrive."""

    def __init__(self, plan: AsynchronousPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._worlds = worlds
        shape, head = presets.shape_of(plan, worlds), heads.head_of(worlds.action_space)
        self._parameters = ppo.initial(plan, shape=shape)
        objective = asynchronous.objective_of(plan)
        oracle.certify(self._parameters, shape=shape, head=head, objective=objective, seed=plan.seed)
        self._mean_square = np.zeros_like(self._parameters)
        self._updates = 0

    def parameters(self) -> F32:
        """The flat vector of network.parameters."""
        return self._parameters

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """One step for each gradient; none for those of observations that only start the statistics."""
        given: list[Gradient] = [fragment.columns for fragment in fragments if not fragment.columns.warming]
        if not given:
            return {}
        rate = plans.linear(self._plan.learning_rate, self._plan.learning_rate_final, used=situation.used)
        for one in given:
            rmsprop(
                self._parameters,
                one.gradient,
                mean_square=self._mean_square,
                learning_rate=rate,
                decay=self._plan.rms_decay,
                epsilon=self._plan.rms_epsilon,
            )
            self._updates += 1
        return {**given[-1].stats, "learning_rate": rate, **staleness([one.staleness for one in given])}

    def state(self) -> State:
        """A copy of everything."""
        return {
            "parameters": self._parameters.copy(),
            "mean_square": self._mean_square.copy(),
            "updates": np.array([self._updates], dtype=np.int64),
        }

    def load_state(self, state: State) -> None:
        """Go on from `state`, in place."""
        for name, mine in (("parameters", self._parameters), ("mean_square", self._mean_square)):
            mine[:] = _target({"target": state[name]} if name in state else {}, like=mine)
        self._updates = int(state["updates"][0])

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The policy network with frozen statistics."""
        return ppo.trained(self._parameters, plan=self._plan, worlds=self._worlds, observations=observations)


def rmsprop(
    parameters: F32, gradient: F32, *, mean_square: F32, learning_rate: float, decay: float, epsilon: float
) -> None:
    """One step in place, epsilon inside the root and statistics shared by all actor-learners (Mnih et al. 2016, section 4)."""
    mean_square *= np.float32(decay)
    mean_square += np.float32(1 - decay) * gradient * gradient
    parameters -= np.float32(learning_rate) * gradient / np.sqrt(mean_square + np.float32(epsilon))


def staleness(seen: Sequence[int]) -> dict[str, float]:
    """The statistics of how many updates lay between the weights that acted and those that learn."""
    return {"staleness_mean": float(np.mean(seen)), "staleness_max": float(np.max(seen))}


def _target(state: State, *, like: F32) -> F32:
    found = state.get("target")
    if found is None or found.shape != like.shape:
        raise InvalidInput(
            "checkpoint of another network",
            given=None if found is None else found.shape,
            expected=str(like.shape),
            cure="Resume with the spec that the run was started with.",
        )
    return found.astype(np.float32)
