"""Losses of behaviour cloning, MARWIL and IQL against RLlib's own learners on the same batch and the same outputs.

RLlib's `compute_loss_for_module` is called as it is, on a learner and a module that hold nothing but our networks' outputs.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlaas_ray.policies import heads as serving
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import heads
from rlaas_ray.train.actor_critic.perceptron import Tape
from rlaas_ray.train.offline import imitation, iql
from rlaas_ray.train.offline.dataset import Dataset
from rlaas_ray.train.offline.policy import Widths

pytestmark = pytest.mark.slow

WIDTHS = Widths(observations=3, hidden=(8, 8), activation="tanh")
ROWS = 32
HEADS = {
    "categorical": (heads.Categorical((4,)), serving.Categorical(n=4)),
    "gaussian": (heads.Gaussian(2), serving.DiagonalGaussian(entries=2)),
}


def a_batch(head: heads.Head) -> Dataset:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> F32:
        return rng.standard_normal(shape, dtype=np.float32)

    return Dataset(
        observations=normal(ROWS, 3),
        actions=np.tanh(normal(ROWS, 2)) if head.gaussian else rng.integers(0, 4, (ROWS, 1)),
        rewards=normal(ROWS),
        following=normal(ROWS, 3),
        terminated=rng.random(ROWS) < 0.3,
        complete=np.ones(ROWS, dtype=np.bool_),
        returns=normal(ROWS),
        tail=np.zeros(ROWS, dtype=np.int64),
        tail_discount=np.zeros(ROWS, dtype=np.float32),
        log_probabilities=np.full(ROWS, np.nan, dtype=np.float32),
        ends=np.zeros((1, 3), dtype=np.float32),
        episode_returns=np.zeros(1),
    )


def outputs(net, observations: F32, *, copy: int = 0) -> torch.Tensor:
    tape = Tape(net.shape, rows=len(observations))
    tape.inputs[:] = observations
    return torch.from_numpy(net.parts[copy].forward(tape).copy())


def distribution_of(policy, batch: Dataset) -> torch.Tensor:
    found = outputs(policy.net, batch.observations)
    if policy.log_std is None:
        return found
    return torch.cat([found, torch.from_numpy(policy.log_std.copy()).expand_as(found)], dim=1)


def rllib_distribution(head: heads.Head):
    from ray.rllib.models.torch import torch_distributions

    return torch_distributions.TorchDiagGaussian if head.gaussian else torch_distributions.TorchCategorical


def a_learner(kind, *, module, **more):
    fake = SimpleNamespace(
        module={"policy": SimpleNamespace(unwrapped=lambda: module)},
        _module={"policy": module},
        metrics=SimpleNamespace(log_dict=lambda *_, **__: None, log_value=lambda *_, **__: None),
        device="cpu",
        _temp_losses={},
        **more,
    )
    return lambda **told: kind.compute_loss_for_module(fake, module_id="policy", **told)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("kind", sorted(HEADS))
def test_imitation_has_the_loss_of_rllibs_marwil_and_bc(kind: str, beta: float) -> None:
    from ray.rllib.algorithms.bc import BCConfig
    from ray.rllib.algorithms.marwil import MARWILConfig
    from ray.rllib.algorithms.marwil.torch.marwil_torch_learner import MARWILTorchLearner

    head, served = HEADS[kind]
    batch = a_batch(head)
    engine = imitation.Imitation(
        WIDTHS,
        head=head,
        served=served,
        beta=beta,
        gradient_clip=None,
        rng=np.random.default_rng(1),
        norm=100.0,
        norm_rate=0.25,
    )
    engine.policy.net.flat *= 3.0
    values = outputs(engine.value, batch.observations)[:, 0]
    module = SimpleNamespace(
        get_train_action_dist_cls=lambda: rllib_distribution(head), compute_values=lambda *_, **__: values
    )
    config = (MARWILConfig() if beta else BCConfig()).training(beta=beta) if beta else BCConfig()
    if beta:
        config.moving_average_sqd_adv_norm_update_rate = 0.25
    loss = a_learner(
        MARWILTorchLearner, module=module, config=config, moving_avg_sqd_adv_norms_per_module={"policy": 100.0}
    )
    actions = torch.from_numpy(batch.actions)
    wanted = loss(
        config=config,
        batch={
            "actions": actions if head.gaussian else actions[:, 0],
            "value_targets": torch.from_numpy(batch.returns),
        },
        fwd_out={"action_dist_inputs": distribution_of(engine.policy, batch)},
    )
    assert engine.gradient(batch)["total_loss"] == pytest.approx(float(wanted), abs=2e-6)


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_iql_has_the_loss_of_rllibs(kind: str) -> None:
    from ray.rllib.algorithms.iql import IQLConfig
    from ray.rllib.algorithms.iql import iql_learner as names
    from ray.rllib.algorithms.iql.torch.iql_torch_learner import IQLTorchLearner

    head, served = HEADS[kind]
    batch = a_batch(head)
    settings = iql.Settings(gamma=0.95, expectile=0.8, temperature=2.0, tau=0.01, gradient_clip=None)
    engine = iql.Iql(WIDTHS, head=head, served=served, settings=settings, rng=np.random.default_rng(2))
    engine.targets.flat += 0.1
    engine.policy.net.flat *= 3.0

    def of_action(net, copy: int) -> torch.Tensor:
        if head.gaussian:
            return outputs(net, np.concatenate([batch.observations, batch.actions], axis=1), copy=copy)[:, 0]
        return outputs(net, batch.observations, copy=copy).gather(1, torch.from_numpy(batch.actions))[:, 0]

    slow = SimpleNamespace(shape=engine.critics.shape, parts=engine.targets.parts)
    told = {
        "action_dist_inputs": distribution_of(engine.policy, batch),
        names.QF_TARGET_PREDS: torch.minimum(of_action(slow, 0), of_action(slow, 1)),
        names.VF_PREDS_NEXT: outputs(engine.value, batch.following)[:, 0],
        "vf_preds": outputs(engine.value, batch.observations)[:, 0],
        "qf_preds": of_action(engine.critics, 0),
        "qf_twin_preds": of_action(engine.critics, 1),
    }
    config = IQLConfig().training(gamma=0.95, twin_q=True)
    loss = a_learner(
        IQLTorchLearner,
        module=SimpleNamespace(get_train_action_dist_cls=lambda: rllib_distribution(head)),
        expectile={"policy": torch.tensor(0.8)},
        temperature={"policy": torch.tensor(2.0)},
        _expectile_loss=lambda difference, level: IQLTorchLearner._expectile_loss(None, difference, level),
    )
    actions = torch.from_numpy(batch.actions)
    wanted = loss(
        config=config,
        batch={
            "actions": actions if head.gaussian else actions[:, 0],
            "rewards": torch.from_numpy(batch.rewards),
            "terminateds": torch.from_numpy(batch.terminated),
        },
        fwd_out=told,
    )
    assert engine.gradient(batch)["total_loss"] == pytest.approx(float(wanted), abs=2e-6)
