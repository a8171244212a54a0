"""What every algorithm with a replay memory has in its plan, and how a spec becomes it.

Extended by dqn/family.py and actor_critic/; read by collector.py and feed.py. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaas_ray.specs.algorithms import ReplayOptions
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import plans
from rlaas_ray.train.network import Activation
from rlaas_ray.train.plans import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan(Plan):
    """An off-policy training with nothing left open."""

    batch_size: int  # rows of an update
    learning_rate: float
    learning_rate_final: float
    gradient_clip: float | None
    hidden: tuple[int, ...]
    activation: Activation
    learning_starts: int  # env steps, of uniform actions
    updates_per_step: float
    n_step: int
    buffer_size: int
    buffer_max_bytes: int
    buffer_checkpoint_every: int  # checkpoints; 0: never
    prioritised: bool
    priority_alpha: float
    priority_beta: float
    tau: float
    target_every: int  # updates

    @property
    def slice_s(self) -> float:
        """An iteration is a few env steps: a checkpoint after each would cost as much as the learning."""
        return 0.5


def fields_of(spec: TrainSpec, options: ReplayOptions, *, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """ReplayPlan's fields: what the spec says, else `defaults`, which name every field that spec and options leave open.

    `tau` alone means an update of the target network at each update; `target_every` alone a copy.
    """

    def first(*given: Any, name: str) -> Any:
        return next((value for value in given if value is not None), defaults[name])

    rate = first(spec.learning_rate, name="learning_rate")
    layers = spec.network
    named = options.tau is not None or options.target_every is not None
    return {
        "env": spec.env,
        "algorithm": spec.algorithm,
        "seed": spec.seed,
        "envs": first(spec.num_envs_per_runner, name="envs"),
        "steps": defaults["steps"],
        "gamma": first(spec.gamma, name="gamma"),
        "normalise_observations": first(spec.normalise_observations, name="normalise_observations"),
        "num_env_runners": spec.num_env_runners or 0,
        "num_learners": spec.num_learners,
        "gpus_per_learner": spec.gpus_per_learner,
        "serving": spec.serving,
        **plans.budgets(spec, preset={}, default_steps=int(defaults["total_timesteps"])),
        "stop_at_return": spec.stop_at_return,
        "batch_size": first(spec.batch_size, name="batch_size"),
        "learning_rate": rate,
        "learning_rate_final": rate * defaults["learning_rate_left"]
        if spec.learning_rate_final is None
        else spec.learning_rate_final,
        "gradient_clip": first(spec.gradient_clip, name="gradient_clip"),
        "hidden": defaults["hidden"] if layers is None else layers.hidden,
        "activation": defaults["activation"] if layers is None else layers.activation,
        "learning_starts": first(options.learning_starts, name="learning_starts"),
        "updates_per_step": first(options.updates_per_step, name="updates_per_step"),
        "n_step": options.n_step,
        "buffer_size": options.buffer_size,
        "buffer_max_bytes": options.buffer_max_bytes,
        "buffer_checkpoint_every": options.buffer_checkpoint_every,
        "prioritised": options.prioritised,
        "priority_alpha": options.priority_alpha,
        "priority_beta": options.priority_beta,
        "tau": (options.tau or 1.0) if named else defaults["tau"],
        "target_every": (options.target_every or 1) if named else defaults["target_every"],
    }
