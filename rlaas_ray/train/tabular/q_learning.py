"""Tabular Q-learning as a family: epsilon-greedy over a table, learnt from fragments, exported as a lookup.

Found by families.py. A fragment holds cell numbers, not observations. Its steps are learnt from last to first: a reward
then reaches the states before it within one fragment (Lin 1992), and any order is Q-learning.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import decoders, heads, lookup, spaces
from rlaas_ray.policies import network as programs
from rlaas_ray.specs.algorithms import QLearningOptions
from rlaas_ray.specs.arrays import F32, F64, I64, Array
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, hosts, plans
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.rollouts import Block, Rollouts, Seen
from rlaas_ray.train.seam import Collector, Family, Learning, Parts, Situation, State, Trained
from rlaas_ray.train.tabular import values
from rlaas_ray.train.worlds import Worlds

ENVS, STEPS, TIMESTEPS = 16, 32, 100_000
LEARNING_RATE, GAMMA = 0.2, 0.99
MOST_VALUES = 50_000_000  # of a table, 8 bytes each


@dataclass(frozen=True, slots=True, kw_only=True)
class QPlan(Plan):
    """Rates and the schedule of exploration, over the budget."""

    learning_rate: float
    learning_rate_final: float
    epsilon_initial: float
    epsilon_final: float
    epsilon_fraction: float
    serving_epsilon: float
    bins: tuple[lookup.Bins, ...]

    def epsilon(self, used: float) -> float:
        """Linear from the initial to the final value, then constant."""
        return plans.linear(self.epsilon_initial, self.epsilon_final, used=min(1.0, used / self.epsilon_fraction))


class TableCollector(Collector):
    """Rollouts, epsilon-greedy by the table of each request."""

    def __init__(self, plan: QPlan, worlds: Worlds, *, index: int) -> None:
        self._plan = plan
        self._nvec = actions_of(worlds)
        self._cells, count = lookup.cells_of(worlds.observation_space, bins=plan.bins)
        self._shape = (count, math.prod(self._nvec))
        self._rollouts = Rollouts(worlds, envs=plan.envs, steps=plan.steps, seed=plan.seed, index=index)
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """One fragment by the request's table."""
        rng = self._rollouts.open(request.iteration)
        table = request.parameters.reshape(self._shape)
        epsilon = self._plan.epsilon(request.used)
        rows = self._rollouts.rows
        cells = np.empty((self._plan.steps, rows), dtype=np.int64)
        actions = np.empty_like(cells)

        def act(seen: Seen) -> Array:
            cells[seen.t] = self._cells.of(seen.observations)
            actions[seen.t] = values.act(table[cells[seen.t]], epsilon=epsilon, masks=seen.mask, rng=rng)
            return np.stack(np.unravel_index(actions[seen.t], self._nvec), axis=1)

        block = self._rollouts.collect(act, entries=len(self._nvec), discrete=True)
        return self._finish(block, cells=cells, actions=actions)

    def close(self) -> None:
        """Release the env."""
        self._rollouts.close()

    def _finish(self, block: Block, *, cells: I64, actions: I64) -> Fragment:
        width = block.observations.shape[2]
        following = self._cells.of(block.following().reshape(-1, width)).reshape(cells.shape)
        cpu = time.process_time()
        fragment = Fragment(
            columns=values.Transitions(
                cells=cells,
                actions=actions,
                rewards=block.rewards,
                following=following,
                terminated=block.terminated,
                valid=block.valid,
                following_masks=block.following_masks(),
            ),
            observations=columns.no_moments(width),
            returns=columns.no_moments(1),
            episode_returns=np.asarray(block.returns, dtype=np.float64),
            episode_lengths=np.asarray(block.lengths, dtype=np.int64),
            steps=block.steps,
            rows=int(block.valid.sum()),
            cpu_s=cpu - self._cpu_before,
        )
        self._cpu_before = cpu
        return fragment


class TableLearning(Learning):
    """The table, in double precision: small steps towards large values must not vanish."""

    def __init__(self, plan: QPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._worlds = worlds
        self._nvec = actions_of(worlds)
        self._cells, count = lookup.cells_of(worlds.observation_space, bins=plan.bins)
        shape = (count, math.prod(self._nvec))
        if math.prod(shape) > MOST_VALUES:
            raise InvalidInput(
                "values of a table",
                given=f"{shape[0]:,} cells times {shape[1]:,} actions",
                expected=f"at most {MOST_VALUES:,}",
                cure="Choose fewer bins, or an algorithm with a network (dqn).",
            )
        self.table: F64 = np.zeros(shape)
        self._updates = 0

    def parameters(self) -> F32:
        """The table as float32, row by row."""
        return self.table.reshape(-1).astype(np.float32)

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """Every transition once, each fragment from its last step to its first."""
        plan = self._plan
        rate = plans.linear(plan.learning_rate, plan.learning_rate_final, used=situation.used)
        differences = [
            values.update(self.table, fragment.columns.step(t), gamma=plan.gamma, learning_rate=rate)
            for fragment in fragments
            for t in reversed(range(plan.steps))
        ]
        self._updates += len(differences)
        return {
            "td_error_mean": float(np.abs(np.concatenate(differences)).mean()),
            "q_mean": float(self.table.max(axis=1).mean()),
            "epsilon": plan.epsilon(situation.used),
            "learning_rate": rate,
        }

    def state(self) -> State:
        """A copy of everything."""
        return {"table": self.table.copy(), "updates": np.array([self._updates], dtype=np.int64)}

    def load_state(self, state: State) -> None:
        """Go on from a checkpoint."""
        if "table" not in state or state["table"].shape != self.table.shape:
            raise InvalidInput(
                "checkpoint of another table",
                given=None if "table" not in state else state["table"].shape,
                expected=str(self.table.shape),
                cure="Resume with the spec that the run was started with.",
            )
        self.table[:] = state["table"]
        self._updates = int(state["updates"][0])

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The table as a lookup: values of actions, or of MultiDiscrete actions which one is the best."""
        view = self._worlds.view()
        flat = self._worlds.flat_action_space
        head, table = exported(
            self.table, action_space=self._worlds.action_space, flat=flat, epsilon=self._plan.serving_epsilon
        )
        serving = self._plan.serving or ("sample" if self._plan.serving_epsilon > 0 else "greedy")
        program = programs.Network(
            layers=(),
            lookup=lookup.Lookup(cells=self._cells, table=table),
            view=None if view is None else view.program,
        )
        decoder = decoders.for_action_space(flat) if view is None else view.decoder
        return {"": Trained(network=program, head=head, decoder=decoder, serving=serving)}


def exported(table: F64, *, action_space: spaces.Space, flat: spaces.Space, epsilon: float) -> tuple[heads.Head, F32]:
    """The head and table (s, k) of a bundle. A MultiDiscrete action is one index here and blocks there: 1 where it is best."""
    if isinstance(flat, gs.Discrete):
        return heads.QValues(n=int(flat.n), epsilon=epsilon), table.astype(np.float32)
    head = heads.for_action_space(flat)
    nvec = tuple(int(n) for n in np.asarray(action_space.nvec).ravel())  # type: ignore[attr-defined]  # actions_of refuses others
    chosen = np.unravel_index(table.argmax(axis=1), nvec)
    return head, np.concatenate(
        [np.eye(n, dtype=np.float32)[best] for n, best in zip(nvec, chosen, strict=True)], axis=1
    )


def actions_of(worlds: Worlds) -> tuple[int, ...]:
    """Sizes of an action's components; their product is the table's width. Raises NotBuilt and InvalidInput."""
    match worlds.action_space:
        case gs.Discrete():
            return (int(worlds.action_space.n),)
        case gs.MultiDiscrete():
            observed = worlds.observation_space
            if isinstance(observed, gs.Dict) and spaces.MASK in observed.spaces:
                raise NotBuilt(
                    "q_learning with masks of MultiDiscrete actions",
                    cure="Make the action one Discrete, or train with ppo.",
                )
            return tuple(int(n) for n in worlds.action_space.nvec.ravel())
        case _:
            pass
    raise InvalidInput(
        f"q_learning on {worlds.env}",
        given=worlds.action_space,
        expected="Discrete or MultiDiscrete actions",
        cure="Train with ppo, sac or td3.",
    )


def bins_of(options: QLearningOptions) -> tuple[lookup.Bins, ...]:
    """One for each number. Raises InvalidInput where the three lists differ in length, or a range is empty."""
    given = [options.bins or (), options.bin_low or (), options.bin_high or ()]
    sizes = {len(part) for part in given}
    if len(sizes) != 1 or any(n < 1 or low >= high for n, low, high in zip(*given, strict=False)):
        raise InvalidInput(
            "bins of q_learning",
            given={"bins": options.bins, "bin_low": options.bin_low, "bin_high": options.bin_high},
            expected="three lists of one length, bins 1 or more, each low below its high",
            cure="Name all three, or none for observations without numbers.",
        )
    return tuple(lookup.Bins(count=n, low=low, high=high) for n, low, high in zip(*given, strict=True))


def resolve(spec: TrainSpec, worlds: Worlds) -> QPlan:
    """The plan: the spec's own fields, else defaults."""
    options = QLearningOptions.model_validate(spec.options)
    if spec.network is not None or spec.normalise_observations:
        raise InvalidInput(
            "q_learning",
            given="network" if spec.network is not None else "normalise_observations",
            expected="a table, which has neither network nor normalisation",
            cure="Leave it out.",
        )
    if len(actions_of(worlds)) > 1 and (spec.serving == "sample" or options.serving_epsilon > 0):
        raise InvalidInput(
            f"q_learning on {worlds.env}",
            given="serving: sample" if spec.serving == "sample" else "serving_epsilon",
            expected="serving: greedy, the only way to act by a table of MultiDiscrete actions",
            cure="Leave it out.",
        )
    runners, envs = spec.num_env_runners or 0, spec.num_envs_per_runner or ENVS
    rate = spec.learning_rate or LEARNING_RATE
    return QPlan(
        env=spec.env,
        algorithm=spec.algorithm,
        seed=spec.seed,
        envs=envs,
        steps=max(1, spec.batch_size // (envs * max(1, runners))) if spec.batch_size else STEPS,
        gamma=GAMMA if spec.gamma is None else spec.gamma,
        normalise_observations=False,
        num_env_runners=runners,
        num_learners=spec.num_learners,
        gpus_per_learner=spec.gpus_per_learner,
        serving=spec.serving,
        stop_at_return=spec.stop_at_return,
        learning_rate=rate,
        learning_rate_final=rate if spec.learning_rate_final is None else spec.learning_rate_final,
        epsilon_initial=options.epsilon_initial,
        epsilon_final=options.epsilon_final,
        epsilon_fraction=options.epsilon_fraction,
        serving_epsilon=options.serving_epsilon,
        bins=bins_of(options),
        **plans.budgets(spec, preset={}, default_steps=TIMESTEPS),
    )


PARTS: Parts[QPlan] = Parts(collector=TableCollector, learning=TableLearning)
FAMILY: Family[QPlan] = Family(resolve=resolve, trainer=hosts.columnar(PARTS))
