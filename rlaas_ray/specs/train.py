"""TrainSpec: one training, complete; None means the env's preset, else the algorithm's default (train/presets.py).

Handed in by `rlaas train`, `POST /training`, `ray job submit` and each trial of a tuning. Never resolves an env or a file. What
one algorithm alone takes is in `options` (specs/algorithms.py); written beside the other fields it is moved there.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Literal

import pydantic
from pydantic import Field

from rlaas_ray.errors import nearest
from rlaas_ray.specs.algorithms import ALGORITHMS, Options
from rlaas_ray.specs.document import Document


class Network(Document):
    """Hidden layers of policy and value network, their activation, and what the policy remembers."""

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu", "silu", "linear"] = "tanh"
    memory: Literal["none", "lstm", "gru", "attention"] = "none"
    memory_size: int = Field(default=64, ge=1, le=4096, description="of the recurrent state, or of attention's keys")
    memory_steps: int = Field(default=16, ge=1, le=1024, description="attention's window; gradients go back as far")
    custom: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$",
        description="module:function of your own: (inputs, outputs) -> torch.nn.Module, instead of hidden layers",
    )


class EvaluateDuring(Document):
    """Evaluation at the end of training, on worlds that training never saw."""

    episodes: int = Field(default=32, ge=1, le=100_000)


class TrainSpec(Document):
    """What to train, for how long, with what, and where."""

    env: str = Field(min_length=1, description="Gymnasium id or module:Class")
    algorithm: str = Field(
        default="ppo",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.]*)?$",
        description="a name of `rlaas algorithms list`, or module:Class",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="what this algorithm alone takes")
    dataset: str | None = Field(
        default=None, description="logged data for offline algorithms: log:ENDPOINT, minari:ID, or Parquet files"
    )
    multi_agent: Literal["shared", "separate"] | None = Field(
        default=None, description="one policy for all agents, or one for each"
    )
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="name of the registered version"
    )
    env_config: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the env")
    mode: str | None = Field(default=None, description="named weights of the env's objectives")
    weights: tuple[float, ...] | dict[str, float] | None = Field(
        default=None, description="own weights, in order or by objective; override mode"
    )
    preference: Literal["conditioned"] | None = Field(
        default=None, description="one policy for all weights of the objectives, which are named when it serves"
    )
    reward: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description="own reward, module:function of the objectives; only for the envs of this package",
    )
    total_timesteps: int | None = Field(default=None, ge=1)
    total_episodes: int | None = Field(default=None, ge=1)
    time_limit_cpu_s: float | None = Field(
        default=None, gt=0, description="stop after so many CPU seconds of the driver and its runners"
    )
    stop_at_return: float | None = Field(default=None, description="stop when the 100-episode mean reaches it")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    place: Literal["here", "ray", "kuberay"] = "here"
    fast: Literal["auto", "on", "off"] = "auto"
    view: Literal["auto", "flat", "shared"] = Field(
        default="auto", description="shared: one policy for all units of a factored env"
    )
    serving: Literal["sample", "greedy"] | None = Field(default=None, description="how the bundle acts when it serves")
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    learning_rate_final: float | None = Field(default=None, ge=0, le=1)
    gamma: float | None = Field(default=None, ge=0, le=1, alias="discount_factor")
    gae_lambda: float | None = Field(default=None, ge=0, le=1)
    clip: float | None = Field(default=None, gt=0, le=10)
    entropy_coefficient: float | None = Field(default=None, ge=0)
    value_coefficient: float | None = Field(default=None, ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)
    log_std_initial: float | None = Field(default=None, ge=-10, le=2)
    batch_size: int | None = Field(default=None, ge=1, description="env steps (of one unit) per iteration")
    minibatch_size: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1, le=1000)
    normalise_observations: bool | None = None
    num_env_runners: int | None = Field(default=None, ge=0, le=1000)
    num_envs_per_runner: int | None = Field(default=None, ge=1, le=100_000)
    num_learners: int = Field(default=0, ge=0, le=64)
    gpus_per_learner: float = Field(default=0, ge=0)
    network: Network | None = None
    checkpoint_every_s: float = Field(
        default=0.0, ge=0, description="0: after every iteration, so kill -9 costs at most one"
    )
    evaluate: EvaluateDuring = EvaluateDuring()
    track: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        default=(), description="where metrics go besides the API and MLflow"
    )

    @property
    def env_arguments(self) -> dict[str, Any]:
        """`env_config` with the user's reward."""
        return self.env_config if self.reward is None else {**self.env_config, "reward": self.reward}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _options_beside_fields(cls, data: Any) -> Any:
        """`buffer_size: 1000` beside the other fields is an option of the algorithm, as everybody writes it."""
        if not isinstance(data, dict):
            return data
        known = _options(str(data.get("algorithm", "ppo")))
        own = {alias for field in cls.model_fields.values() if (alias := field.alias)} | set(cls.model_fields)
        moved = {name: data[name] for name in data if known and name in known.model_fields and name not in own}
        if not moved:
            return data
        rest = {name: value for name, value in data.items() if name not in moved}
        inner = rest.get("options")
        return {**rest, "options": {**(inner if isinstance(inner, dict) else {}), **moved}}

    @pydantic.field_validator("algorithm")
    @classmethod
    def _a_known_name(cls, value: str) -> str:
        plugins = entry_points(group="rlaas.algorithms").names
        if ":" in value or value in ALGORITHMS or value in plugins:
            return value
        msg = f"a name of `rlaas algorithms list`, or module:Class. {nearest(value, [*ALGORITHMS, *plugins])}"
        raise ValueError(msg)

    @pydantic.model_validator(mode="after")
    def _options_fit(self) -> TrainSpec:
        if ":" in self.algorithm:
            return self
        known = _options(self.algorithm)
        if known is None:
            return self  # perhaps a plugin of the user: train/families.py knows
        unknown = [name for name in self.options if name not in known.model_fields]
        if unknown:
            msg = f"{self.algorithm} has no option {unknown[0]!r}. {nearest(unknown[0], list(known.model_fields))}"
            raise ValueError(msg)
        known.model_validate(self.options)
        return self

    @pydantic.model_validator(mode="after")
    def _one_policy_has_one_memory(self) -> TrainSpec:
        if self.multi_agent is not None and self.network is not None and self.network.memory != "none":
            msg = "multi_agent without network.memory"
            raise ValueError(msg)
        return self

    @pydantic.model_validator(mode="after")
    def _data_for_those_who_read_it(self) -> TrainSpec:
        known = ALGORITHMS.get(self.algorithm)
        if known is None or known.offline == (self.dataset is not None):
            return self
        if known.offline:
            msg = f"{self.algorithm} learns from logged data: dataset is log:ENDPOINT, minari:ID, or Parquet files"
        else:
            offline = ", ".join(name for name, one in ALGORITHMS.items() if one.offline)
            msg = f"{self.algorithm} learns from its env; a dataset is for {offline}"
        raise ValueError(msg)

    @pydantic.model_validator(mode="after")
    def _a_preference_alone(self) -> TrainSpec:
        """What fixes the weights, or trains on another path than the vector env that draws them, does not go with it."""
        if self.preference is None:
            return self
        others = {
            "mode": self.mode is not None,
            "weights": self.weights is not None,
            "reward": self.reward is not None,
            "multi_agent": self.multi_agent is not None,
            "dataset": self.dataset is not None,
            "fast: off": self.fast == "off",
        }
        given = [name for name, is_given in others.items() if is_given]
        if given:
            msg = f"preference: conditioned without {given[0]}: the weights are drawn for each episode"
            raise ValueError(msg)
        return self

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> TrainSpec:
        if self.total_timesteps is not None and self.total_episodes is not None:
            msg = "total_timesteps or total_episodes, not both"
            raise ValueError(msg)
        return self


def _options(algorithm: str) -> type[Options] | None:
    entry = ALGORITHMS.get(algorithm)
    return None if entry is None else entry.options
