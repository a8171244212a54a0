"""PPO on a network of the user's own: any torch module that a function makes, trained by autograd.

Chosen by `network.custom` (families.py), written on the protocol as a user's algorithm is. Loss, heads, advantages and statistics
are those of the built-in PPO; its learning rate stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import analytic, autograd, columns, heads, presets
from rlaas_ray.train.analytic import Loss, Schedule
from rlaas_ray.train.columns import Columns, Moments
from rlaas_ray.train.user import calls, finding, policy
from rlaas_ray.train.user.protocol import ActionOut, Exported, HeadName, Steps


class ModelPpo:
    """Actor and critic from one function: (inputs, outputs) -> torch.nn.Module of (n, inputs) -> (n, outputs)."""

    def __init__(
        self,
        *,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        config: Mapping[str, Any],
        seed: int,
    ) -> None:
        if config.get("learning_rate_final") is not None:
            raise NotBuilt("learning_rate_final with a network of your own", cure="Leave it out: the rate is constant.")
        discrete = not isinstance(action_space, gymnasium.spaces.Box)
        chosen = {**presets.COMMON, **(presets.DISCRETE if discrete else presets.BOX), **config}
        self._target = str(config["network"]["custom"])
        self._head = heads.head_of(action_space)
        self._gamma, self._gae_lambda = float(chosen["gamma"]), float(chosen["gae_lambda"])
        self._epochs, self._minibatch = int(chosen["epochs"]), int(chosen["minibatch_size"])
        self._normalises, self._scales = bool(chosen["normalise_observations"]), bool(chosen["scale_rewards"])
        self._rate = float(chosen["learning_rate"])
        self._loss = Loss(
            clip=float(chosen["clip"]),
            value_coefficient=float(chosen["value_coefficient"]),
            entropy_coefficient=float(chosen["entropy_coefficient"]),
            gradient_clip=chosen["gradient_clip"],
        )
        self._seed, self._updates = seed, 0
        self._rng = np.random.default_rng(seed)
        self._inputs = int(observation_space.shape[0]) if observation_space.shape else 0
        self._seen, self._returns = columns.no_moments(self._inputs), columns.no_moments(1)
        self._discounted = np.zeros(1)
        with torch.random.fork_rng(devices=[]):  # modules draw from the global generator: it is put back
            torch.manual_seed(seed)
            self._actor, self._critic = self._made(self._head.size - self._head.free), self._made(1)
        self._log_std = torch.nn.Parameter(torch.full((self._head.free,), float(chosen["log_std_initial"])))
        self._all = torch.nn.ModuleDict({"actor": self._actor, "critic": self._critic})
        self._learnt = [*self._all.parameters(), *([self._log_std] if self._head.free else [])]
        self._optimiser = torch.optim.Adam(self._learnt, lr=self._rate)

    def choose_action(self, obs: F32, *, explore: bool, mask: Bool | None = None) -> ActionOut:
        """Drawn from the head, or its mode."""
        with torch.inference_mode():
            parameters: F32 = self._parameters(torch.from_numpy(self._filtered(obs))).numpy()
        parameters = heads.masked(parameters, mask)
        if not explore:
            return ActionOut(action=self._mode(parameters))
        actions = self._head.draw(parameters, heads.noise(self._head, (len(obs),), rng=self._rng))
        return ActionOut(action=actions, logp=self._head.evaluate(parameters, actions).log_probability)

    def update(self, steps: Steps) -> dict[str, float]:
        """All epochs over the valid rows; none before there are statistics to normalise by."""
        warming = self._normalises and self._seen.count == 0
        batch = None if warming else self._batch(steps)
        self._look(steps)
        if batch is None:
            return {}
        schedule = Schedule(
            epochs=self._epochs,
            minibatches=max(1, round(len(batch) / self._minibatch)),
            share=1.0,
            learning_rate=self._rate,
        )
        self._updates += 1
        stats = [self._step(rows) for _, rows in analytic.minibatches(batch, schedule=schedule, rng=self._rng)]
        last = stats[-schedule.minibatches :]
        return {name: float(np.mean([one[name] for one in last])) for name in last[0]}

    def policy(self) -> Exported | None:
        """The actor, where it is layers that a bundle knows."""
        if not policy.readable(self._actor):
            return None
        names: dict[str, HeadName] = {"gaussian": "gaussian", "one": "categorical", "many": "multi_categorical"}
        kind = "gaussian" if self._head.gaussian else ("one" if self._head.width == 1 else "many")
        log_std = self._log_std.detach().numpy() if self._head.free else None
        mean, std = columns.scale_of(self._seen) if self._normalises else (None, None)
        return Exported(layers=self._actor, head=names[kind], log_std=log_std, mean=mean, std=std)

    def state(self) -> dict[str, Array]:
        """Networks, Adam's moments, how many updates there were."""
        arrays: dict[str, Array] = {f"net.{name}": held.numpy() for name, held in self._all.state_dict().items()}
        arrays |= {"log_std": self._log_std.detach().numpy(), "updates": np.array([self._updates])}
        for name, seen in (("observations", self._seen), ("returns", self._returns)):
            arrays |= {
                f"{name}.count": np.array([seen.count]),
                f"{name}.mean": seen.mean,
                f"{name}.sum": seen.deviations,
            }
        for i, moments in self._optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{i}.{name}": np.asarray(held) for name, held in moments.items()}
        return arrays

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse; random numbers go on from the number of updates."""
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
        self._all.load_state_dict({name[4:]: held for name, held in tensors.items() if name.startswith("net.")})
        self._log_std.data.copy_(tensors["log_std"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, held in tensors.items():
            if name.startswith("adam."):
                _, i, key = name.split(".")
                moments.setdefault(int(i), {})[key] = held
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self._seen, self._returns = (
            Moments(
                count=float(state[f"{name}.count"][0]),
                mean=np.array(state[f"{name}.mean"], dtype=np.float64),
                deviations=np.array(state[f"{name}.sum"], dtype=np.float64),
            )
            for name in ("observations", "returns")
        )
        self._updates = int(state["updates"][0])
        self._rng = np.random.default_rng(np.random.SeedSequence([self._seed, self._updates]))

    def _made(self, outputs: int) -> torch.nn.Module:
        factory = finding.function(self._target)
        with calls.theirs(self._target, "the function"):
            module = factory(self._inputs, outputs)
        given = module(torch.zeros(2, self._inputs)) if isinstance(module, torch.nn.Module) else None
        if given is None or tuple(given.shape) != (2, outputs):
            raise InvalidInput(
                f"network {self._target}",
                given=type(module).__name__ if given is None else f"outputs of shape {tuple(given.shape)}",
                expected=f"a torch.nn.Module that gives (2, {outputs}) for (2, {self._inputs})",
                cure="The function is called as (inputs, outputs), once for the policy and once for the value.",
            )
        assert isinstance(module, torch.nn.Module)
        return module

    def _filtered(self, observations: F32) -> F32:
        """Rows (..., d) by the statistics so far."""
        if not self._normalises or self._seen.count == 0:
            return observations
        mean, scale = columns.scale_of(self._seen)
        return columns.normalise(observations, mean=mean, scale=scale)

    def _look(self, steps: Steps) -> None:
        """Statistics of observations and of discounted returns grow by these steps."""
        self._seen = columns.merge(self._seen, columns.moments(steps.observations[steps.valid]))
        running, done = np.broadcast_to(self._discounted, steps.rewards.shape[1:]), steps.terminated | steps.truncated
        returns = np.empty(steps.rewards.shape)
        for t, rewards in enumerate(steps.rewards):
            returns[t] = running * self._gamma + rewards
            running = np.where(done[t], 0.0, returns[t])
        self._discounted = running
        self._returns = columns.merge(self._returns, columns.moments(returns[steps.valid][:, None]))

    def _parameters(self, observations: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self._actor(observations)
        return torch.cat([outputs, self._log_std.expand_as(outputs)], dim=-1) if self._head.free else outputs

    def _values(self, observations: F32) -> F32:
        """(T, B, d) -> (T, B)."""
        with torch.inference_mode():
            found: F32 = self._critic(torch.from_numpy(observations.reshape(-1, self._inputs))).numpy()
        return found.reshape(observations.shape[:2])

    def _mode(self, parameters: F32) -> Array:
        if self._head.gaussian:
            return parameters[:, : self._head.width]
        ends = np.cumsum(self._head.choices)
        return np.stack([block.argmax(axis=1) for block in np.split(parameters, ends[:-1], axis=1)], axis=1)

    def _batch(self, steps: Steps) -> Columns:
        assert steps.logp is not None  # of every choose_action that explores
        observations = self._filtered(steps.observations)
        variance = self._returns.variance[0] if self._scales and self._returns.count else 1.0
        found, targets = columns.advantages(
            rewards=steps.rewards / np.float32(np.sqrt(variance + columns.NORMALISED_EPSILON)),
            values=self._values(observations),
            following=self._values(self._filtered(steps.next_observations)),
            terminated=steps.terminated,
            truncated=steps.truncated,
            gamma=self._gamma,
            gae_lambda=self._gae_lambda,
        )
        valid = steps.valid
        return Columns(
            observations=observations[valid],
            actions=steps.actions[valid],
            log_probabilities=steps.logp[valid],
            advantages=columns.standardise(found[valid]),
            targets=targets[valid],
            masks=None if steps.masks is None else steps.masks[valid],
        )

    def _step(self, rows: Columns) -> dict[str, float]:
        observations = torch.from_numpy(rows.observations)
        parameters = self._parameters(observations)
        if rows.masks is not None:
            parameters = parameters.masked_fill(~torch.from_numpy(rows.masks), float(heads.MASKED))
        values = self._critic(observations).squeeze(-1)
        total, stats = autograd.objective(parameters, values, batch=rows, head=self._head, loss=self._loss)
        self._optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        limit = self._loss.gradient_clip if self._loss.gradient_clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._learnt, limit)
        self._optimiser.step()
        return {**stats, "gradient_norm": norm.item()}
