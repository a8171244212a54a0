"""The algorithms that ship: what each takes beside the fields of TrainSpec, and what it needs; one table.

Read by TrainSpec (an unknown option is refused by name), `rlaas algorithms list`, docs and tune. How an algorithm works is in
rlaas_ray/train; users' own are not here (train/user).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from rlaas_ray.specs.document import Document

Actions = Literal["discrete", "multi_discrete", "box"]


class Options(Document):
    """What an algorithm takes beside TrainSpec's own fields; None everywhere means its preset."""


class PpoOptions(Options):
    """PPO (Schulman et al. 2017): everything is a field of TrainSpec."""


class LagrangianOptions(Options):
    """PPO-Lagrangian (Ray, Achiam & Amodei 2019): a multiplier for each cost that `info["cost"]` or named keys give."""

    cost_keys: tuple[str, ...] = Field(default=("cost",), min_length=1, description="keys of info, in their order")
    cost_limits: tuple[float, ...] = Field(default=(25.0,), min_length=1, description="of an episode's sum, each cost")
    cost_gamma: float = Field(default=0.99, ge=0, le=1)
    cost_gae_lambda: float = Field(default=0.95, ge=0, le=1)
    multiplier_initial: float = Field(default=0.0, ge=0)
    multiplier_learning_rate: float = Field(default=0.05, gt=0)
    multiplier_max: float = Field(default=100.0, gt=0)


class ImpalaOptions(Options):
    """IMPALA (Espeholt et al. 2018): V-trace over fragments from policies that lag behind."""

    rho_clip: float = Field(default=1.0, gt=0)
    c_clip: float = Field(default=1.0, gt=0)
    requests_in_flight: int = Field(default=2, ge=1, le=16, description="of each env runner")


class AppoOptions(ImpalaOptions):
    """APPO (Petrenko et al. 2020; RLlib): IMPALA's sampling with PPO's clipped surrogate against a target network."""

    target_every: int = Field(default=1, ge=1, description="updates between copies to the target network")


class A3cOptions(Options):
    """A3C (Mnih et al. 2016): actor-learners send gradients, applied as they come."""

    steps_per_gradient: int = Field(default=20, ge=1, le=10_000)
    max_staleness: int | None = Field(
        default=None, ge=0, description="versions; older gradients are dropped; 4 per actor"
    )
    rms_decay: float = Field(default=0.99, gt=0, lt=1)
    rms_epsilon: float = Field(default=1e-5, gt=0)


class ReplayOptions(Options):
    """What every algorithm with a replay buffer takes."""

    buffer_size: int = Field(default=100_000, ge=1, description="transitions")
    buffer_max_bytes: int = Field(
        default=2_000_000_000, ge=1, description="a larger buffer is refused before the start"
    )
    buffer_checkpoint_every: int = Field(
        default=50, ge=0, description="checkpoints; 0: never, a resumed run refills it"
    )
    learning_starts: int | None = Field(default=None, ge=0, description="env steps before the first update")
    updates_per_step: float | None = Field(default=None, gt=0, description="updates for each env step")
    n_step: int = Field(default=1, ge=1, le=100)
    prioritised: bool = False
    priority_alpha: float = Field(default=0.6, ge=0, le=1)
    priority_beta: float = Field(default=0.4, ge=0, le=1, description="grows to 1 over the budget")
    tau: float | None = Field(default=None, gt=0, le=1, description="share of the target network replaced at an update")
    target_every: int | None = Field(default=None, ge=1, description="updates between target updates")


class DqnOptions(ReplayOptions):
    """DQN (Mnih et al. 2015) with its extensions as options (Hessel et al. 2018)."""

    double: bool = True
    dueling: bool = False
    atoms: int = Field(
        default=1, ge=1, le=1000, description="1: values; more: C51's distribution (Bellemare et al. 2017)"
    )
    v_min: float = -10.0
    v_max: float = 10.0
    epsilon_initial: float = Field(default=1.0, ge=0, le=1)
    epsilon_final: float = Field(default=0.05, ge=0, le=1)
    epsilon_fraction: float = Field(default=0.1, gt=0, le=1, description="of the budget, until the final epsilon")
    serving_epsilon: float = Field(default=0.0, ge=0, le=1, description="of the bundle, when it serves by `sample`")


class SacOptions(ReplayOptions):
    """SAC (Haarnoja et al. 2018b; Christodoulou 2019 for discrete actions)."""

    entropy_target: float | None = Field(default=None, description="nats; -a, or 0.4 log(n) for n discrete actions")
    alpha_initial: float = Field(default=1.0, gt=0)
    alpha_learning_rate: float | None = Field(default=None, gt=0)
    alpha_fixed: bool = False


class DdpgOptions(ReplayOptions):
    """DDPG (Lillicrap et al. 2016)."""

    exploration_noise: float = Field(default=0.1, ge=0, description="standard deviation, of actions in [-1, 1]")


class Td3Options(DdpgOptions):
    """TD3 (Fujimoto et al. 2018)."""

    policy_delay: int = Field(default=2, ge=1)
    target_noise: float = Field(default=0.2, ge=0)
    target_noise_clip: float = Field(default=0.5, ge=0)


class OfflineOptions(Options):
    """What every algorithm that learns from logged data takes."""

    updates: int | None = Field(
        default=None, ge=1, description="the budget, in updates; else total_timesteps counts rows"
    )


class MarwilOptions(OfflineOptions):
    """MARWIL (Wang et al. 2018): imitation weighted by exp(beta * advantage)."""

    beta: float = Field(default=1.0, ge=0)


class CqlOptions(OfflineOptions):
    """CQL (Kumar et al. 2020). Rewards are scaled so that the data's returns have standard deviation 1."""

    conservative_weight: float | None = Field(
        default=None, ge=0, description="of the penalty; 1 for discrete actions, 0.01 for continuous ones"
    )
    sampled_actions: int = Field(default=10, ge=1, description="for the soft maximum over continuous actions")
    tau: float = Field(default=0.02, gt=0, le=1, description="share of the target network replaced at an update")


class IqlOptions(OfflineOptions):
    """IQL (Kostrikov et al. 2022). Rewards are scaled so that the data's returns have standard deviation 1."""

    expectile: float = Field(default=0.8, gt=0, lt=1)
    temperature: float = Field(default=30.0, ge=0, description="beta of exp(beta * advantage)")
    tau: float = Field(default=0.02, gt=0, le=1, description="share of the target network replaced at an update")


class QLearningOptions(Options):
    """Tabular Q-learning (Watkins & Dayan 1992)."""

    bins: tuple[int, ...] | None = Field(default=None, description="equal bins, for each number of a Box observation")
    bin_low: tuple[float, ...] | None = Field(default=None, description="where each number's bins begin")
    bin_high: tuple[float, ...] | None = Field(default=None, description="where they end; the outer two take the rest")
    epsilon_initial: float = Field(default=1.0, ge=0, le=1, description="share of actions drawn at random, at first")
    epsilon_final: float = Field(default=0.05, ge=0, le=1)
    epsilon_fraction: float = Field(default=0.5, gt=0, le=1, description="of the budget, until the final epsilon")
    serving_epsilon: float = Field(default=0.0, ge=0, le=1, description="of the bundle, when it serves by `sample`")


class LastreamOptions(Options):
    """The stream agent (policies/lastream): a graph network, offline candidates, an evaluator."""

    candidates: int = Field(default=10, ge=2, le=100, description="schemes that are valued at each decision")
    horizon: Literal["bandit", "td"] = Field(
        default="td", description="bandit: what it earns while it is kept; td: what follows as well"
    )
    keep: int = Field(default=6, ge=1, le=100, description="steps for which a scheme is kept in training")
    updates: int = Field(default=2, ge=0, le=1000, description="minibatches after each choice")
    learning_starts: int = Field(default=500, ge=1, description="transitions before the first update")
    buffer_size: int = Field(default=20_000, ge=1, description="transitions")
    target_every: int = Field(default=100, ge=1, description="updates between copies to the target network")
    temperature_initial: float = Field(default=0.03, gt=0, description="of exploration, in standardised reward")
    temperature_final: float = Field(default=0.003, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the evaluator")
    gcn_dropout: float = Field(default=0.0, ge=0, lt=1, description="of the graph network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One line of the table."""

    summary: str
    options: type[Options]
    actions: tuple[Actions, ...]
    offline: bool = False
    stock: bool = False  # `fast: off` runs RLlib's own


_ALL: tuple[Actions, ...] = ("discrete", "multi_discrete", "box")
ALGORITHMS: Mapping[str, Algorithm] = {
    "ppo": Algorithm(summary="clipped policy gradients", options=PpoOptions, actions=_ALL, stock=True),
    "ppo_lagrangian": Algorithm(summary="PPO that keeps costs under limits", options=LagrangianOptions, actions=_ALL),
    "appo": Algorithm(summary="PPO that does not wait for its runners", options=AppoOptions, actions=_ALL),
    "impala": Algorithm(summary="actor-critic with V-trace, asynchronous", options=ImpalaOptions, actions=_ALL),
    "a3c": Algorithm(summary="actor-learners without a barrier", options=A3cOptions, actions=_ALL),
    "dqn": Algorithm(
        summary="deep Q-learning and its extensions", options=DqnOptions, actions=("discrete",), stock=True
    ),
    "sac": Algorithm(summary="soft actor-critic", options=SacOptions, actions=("discrete", "box"), stock=True),
    "ddpg": Algorithm(summary="deterministic policy gradients", options=DdpgOptions, actions=("box",)),
    "td3": Algorithm(summary="DDPG with twin critics and delays", options=Td3Options, actions=("box",)),
    "bc": Algorithm(summary="behaviour cloning", options=OfflineOptions, actions=_ALL, offline=True),
    "marwil": Algorithm(summary="advantage-weighted imitation", options=MarwilOptions, actions=_ALL, offline=True),
    "cql": Algorithm(summary="conservative Q-learning", options=CqlOptions, actions=("discrete", "box"), offline=True),
    "iql": Algorithm(summary="implicit Q-learning", options=IqlOptions, actions=("discrete", "box"), offline=True),
    "q_learning": Algorithm(
        summary="a table of values", options=QLearningOptions, actions=("discrete", "multi_discrete")
    ),
    "lastream": Algorithm(
        summary="the stream agent: candidates, a graph network, a value of each",
        options=LastreamOptions,
        actions=("multi_discrete",),
    ),
}
