"""An algorithm of your own, whole: an advantage actor-critic (Mnih et al. 2016, without the threads), its networks in torch.

    rlaas algorithms check examples.own_algorithm:ActorCritic
    rlaas train --env CartPole-v1 --set algorithm=examples.own_algorithm:ActorCritic --set batch_size=128 --name mine

It knows nothing of Ray, of envs or of runs: observations come in batches, steps come as columns [time, env].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch

from rlaas_ray.train.user.protocol import ActionOut, Exported, Steps


class ActorCritic:
    """A categorical policy and a value; targets bootstrap from the value where the columns end."""

    def __init__(
        self, *, observation_space: gymnasium.Space, action_space: gymnasium.Space, config: Mapping[str, Any], seed: int
    ) -> None:
        if not isinstance(action_space, gymnasium.spaces.Discrete):
            raise NotImplementedError("ActorCritic takes Discrete actions")
        self._gamma = float(config.get("gamma", 0.98))
        self._entropy = float(config.get("entropy_coefficient", 0.01))
        self._rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        inputs, actions = observation_space.shape[0], int(action_space.n)
        self._policy, self._value = network(inputs, actions, generator), network(inputs, 1, generator)
        self._both = torch.nn.ModuleList([self._policy, self._value])
        self._optimiser = torch.optim.Adam(self._both.parameters(), lr=float(config.get("learning_rate", 7e-3)))

    def choose_action(self, obs: np.ndarray, *, explore: bool, mask: np.ndarray | None = None) -> ActionOut:
        with torch.inference_mode():
            logits = self._policy(torch.from_numpy(obs)).numpy()
        if mask is not None:
            logits = np.where(mask, logits, -1e30)
        noise = self._rng.gumbel(size=logits.shape) if explore else 0.0
        return ActionOut(action=(logits + noise).argmax(axis=1))

    def update(self, columns: Steps) -> dict[str, float]:
        targets = torch.from_numpy(self._targets(columns))
        used = torch.from_numpy(columns.valid)
        observations = torch.from_numpy(columns.observations)[used]
        values = self._value(observations).squeeze(1)
        advantages = targets[used] - values.detach()
        log_probabilities = torch.log_softmax(self._policy(observations), dim=1)
        chosen = log_probabilities.gather(1, torch.from_numpy(columns.actions)[used]).squeeze(1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1).mean()
        policy_loss = -(chosen * advantages / (advantages.std() + 1e-6)).mean()
        vf_loss = torch.nn.functional.smooth_l1_loss(values, targets[used])
        self._optimiser.zero_grad()
        (policy_loss + vf_loss - self._entropy * entropy).backward()
        torch.nn.utils.clip_grad_norm_(self._both.parameters(), 0.5)
        self._optimiser.step()
        return {"policy_loss": policy_loss.item(), "vf_loss": vf_loss.item(), "entropy": entropy.item()}

    def policy(self) -> Exported:
        """What makes it servable: a bundle is written at the end of the training."""
        return Exported(layers=self._policy, head="categorical")

    def state(self) -> dict[str, np.ndarray]:
        arrays = {f"net.{name}": tensor.numpy().copy() for name, tensor in self._both.state_dict().items()}
        for i, held in self._optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{i}.{name}": np.asarray(value) for name, value in held.items()}
        return arrays

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
        self._both.load_state_dict({name[4:]: tensor for name, tensor in tensors.items() if name.startswith("net.")})
        held: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, i, key = name.split(".")
                held.setdefault(int(i), {})[key] = tensor
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": held, "param_groups": groups})

    def _targets(self, columns: Steps) -> np.ndarray:
        """Discounted rewards (T, B) up to an end of the episode or of the columns, then what the value expects."""
        with torch.inference_mode():
            following = self._value(torch.from_numpy(columns.next_observations)).squeeze(2).numpy()
        targets = np.empty_like(columns.rewards)
        later = following[-1]
        for t in reversed(range(len(targets))):
            later = np.where(columns.truncated[t], following[t], later)
            later = columns.rewards[t] + self._gamma * np.where(columns.terminated[t], np.float32(0), later)
            targets[t] = later
        return targets


def network(inputs: int, outputs: int, generator: torch.Generator) -> torch.nn.Sequential:
    """One hidden layer, drawn from a generator of its own: the same seed gives the same training."""
    first, last = (torch.nn.utils.skip_init(torch.nn.Linear, *sizes) for sizes in ((inputs, 64), (64, outputs)))
    made = torch.nn.Sequential(first, torch.nn.Tanh(), last)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
    return made
