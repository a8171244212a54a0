"""DQN's loss and gradients are those of RLlib's own DQN learner on the same batch and the same network."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.dqn.dqn import DQNConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner

from rlaas_ray.train import analytic
from rlaas_ray.train.dqn import network
from rlaas_ray.train.dqn.bellman import Batch, Engine, Loss

pytestmark = pytest.mark.ray

V_MIN, V_MAX, GAMMA, ROWS, ACTIONS = -4.0, 6.0, 0.97, 64, 3


class Silent:
    """Where RLlib's learner logs; what it logs is not looked at."""

    def log_value(self, *args, **kwargs) -> None: ...

    def log_dict(self, *args, **kwargs) -> None: ...


def outputs(named: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for layer in range(2):
        x = torch.relu(torch.nn.functional.linear(x, named[f"q.{layer}.weight"], named[f"q.{layer}.bias"]))
    return torch.nn.functional.linear(x, named["q.2.weight"], named["q.2.bias"])


def predictions(raw: torch.Tensor, *, atoms: int, prefix: str) -> dict[str, torch.Tensor]:
    """What RLlib's module gives for one network, by its names."""
    if atoms == 1:
        return {prefix + "preds": raw}
    logits = raw.reshape(len(raw), ACTIONS, atoms)
    probabilities = torch.softmax(logits, dim=2)
    support = torch.linspace(V_MIN, V_MAX, atoms)
    found = {prefix + "preds": (probabilities * support).sum(dim=2), prefix + "logits": logits}
    return {**found, prefix + "probs": probabilities}


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("atoms", [1, 21])
@pytest.mark.parametrize("double", [False, True])
def test_loss_and_gradients_are_rllibs(double: bool, atoms: int, n_step: int) -> None:
    rng = np.random.default_rng(0)
    shape = network.Shape(inputs=4, hidden=(24, 16), activation="relu", actions=ACTIONS, atoms=atoms, dueling=False)
    state = analytic.fresh_state(network.initial(shape, rng=rng) * np.float32(2))
    engine = Engine(
        state,
        target=network.initial(shape, rng=rng) * np.float32(2),
        shape=shape,
        loss=Loss(double=double, v_min=V_MIN, v_max=V_MAX, gradient_clip=None),
    )
    ended = rng.random(ROWS) < 0.3
    batch = Batch(
        observations=rng.standard_normal((ROWS, 4), dtype=np.float32),
        actions=rng.integers(ACTIONS, size=ROWS),
        rewards=rng.standard_normal(ROWS, dtype=np.float32) * 2,
        discounts=np.where(ended, 0.0, GAMMA**n_step).astype(np.float32),
        next_observations=rng.standard_normal((ROWS, 4), dtype=np.float32),
        next_masks=None,
        weights=rng.uniform(0.2, 1.0, ROWS).astype(np.float32),
    )
    mine = engine.gradient(batch)
    online, frozen = (
        {name: torch.tensor(array, requires_grad=learnt) for name, array in network.views(flat, shape).items()}
        for flat, learnt in ((engine.online.flat, True), (engine.target_flat, False))
    )
    after = torch.tensor(batch.next_observations)
    forward = {
        **predictions(outputs(online, torch.tensor(batch.observations)), atoms=atoms, prefix="qf_"),
        **predictions(outputs(online, after), atoms=atoms, prefix="qf_next_"),
        **predictions(outputs(frozen, after), atoms=atoms, prefix="qf_target_next_"),
        "atoms": torch.linspace(V_MIN, V_MAX, atoms),
    }
    config = DQNConfig().training(
        double_q=double, num_atoms=atoms, v_min=V_MIN, v_max=V_MAX, gamma=GAMMA, td_error_loss_fn="huber"
    )
    loss = DQNTorchLearner.compute_loss_for_module(
        SimpleNamespace(metrics=Silent(), config=config),
        module_id="default_policy",
        config=config,
        batch={
            "actions": torch.tensor(batch.actions),
            "rewards": torch.tensor(batch.rewards),
            "terminateds": torch.tensor(ended),
            "n_step": torch.full((ROWS,), float(n_step)),
            "weights": torch.tensor(batch.weights),
        },
        fwd_out=forward,
    )
    loss.backward()
    assert mine.loss == pytest.approx(loss.item(), abs=1e-5)
    for name, array in network.views(engine.gradient_flat, shape).items():
        np.testing.assert_allclose(array, online[name].grad.numpy(), atol=1e-5, err_msg=name)
