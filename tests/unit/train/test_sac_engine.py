"""SAC's engines: every gradient is autograd's and RLlib's, the actor's loss leaves the critics alone, truncation bootstraps."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlaas_ray.errors import EngineFailed, InvalidInput
from rlaas_ray.train import analytic
from rlaas_ray.train.actor_critic import oracle, sac
from rlaas_ray.train.actor_critic.discrete import Discrete, distribution
from rlaas_ray.train.actor_critic.temperature import Temperature


def settings(**changed) -> sac.Settings:
    given = {
        "observations": 3,
        "actions": 2,
        "hidden": (32, 16),
        "activation": "relu",
        "tau": 0.005,
        "target_every": 1,
        "gradient_clip": None,
        "entropy_target": -2.0,
        "alpha_initial": 0.7,
        "alpha_learning_rate": None,
        "alpha_fixed": False,
    }
    return sac.Settings(**{**given, **changed})


def make(kind, **changed):
    rng = np.random.default_rng(3)
    engine = kind(settings(**changed), rng=rng)
    engine.targets.flat[:] += rng.normal(0, 0.1, engine.targets.flat.shape).astype(np.float32)
    return engine, rng


def close(given: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(given, wanted, atol=2e-6 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "linear"])
def test_continuous_gradients_are_autograds(activation: str) -> None:
    engine, rng = make(sac.Continuous, activation=activation)
    batch = oracle.random_batch(engine, rng=rng, rows=200)
    noise = engine.noise(200, rng=rng)
    engine.gradient(batch, noise=noise)
    wanted = oracle.of_continuous(engine, batch, noise=noise)
    close(engine.actor.gradient, wanted.actor)
    close(engine.critics.gradient, wanted.critics)
    assert engine.temperature.gradient == pytest.approx(wanted.log_alpha, rel=1e-5)
    engine.temperature.step(0.0)
    assert engine.stats()["actor_loss"] == pytest.approx(wanted.actor_loss, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("target", [None, 0.4])
def test_discrete_gradients_are_autograds(masked: bool, target: float | None) -> None:
    engine, rng = make(Discrete, actions=4, entropy_target=target)
    batch = oracle.random_batch(engine, rng=rng, rows=200, masked=masked)
    engine.gradient(batch, noise=engine.noise(200, rng=rng))
    wanted = oracle.of_discrete(engine, batch)
    close(engine.actor.gradient, wanted.actor)
    close(engine.critics.gradient, wanted.critics)
    assert engine.temperature.gradient == pytest.approx(wanted.log_alpha, rel=1e-5)
    assert engine.stats()["actor_loss"] == pytest.approx(wanted.actor_loss, rel=1e-4, abs=1e-5)


def test_one_row_clipped_log_std_and_a_narrow_net() -> None:
    engine, rng = make(sac.Continuous, hidden=(4,), actions=1, entropy_target=-1.0)
    engine.actor.parts[0].biases[-1][1] = 9.0  # log_std far above its clip: no gradient by it
    batch = oracle.random_batch(engine, rng=rng, rows=1)
    noise = engine.noise(1, rng=rng)
    engine.gradient(batch, noise=noise)
    wanted = oracle.of_continuous(engine, batch, noise=noise)
    close(engine.actor.gradient, wanted.actor)
    assert engine.actor.gradients[0].biases[-1][1] == 0.0


def test_the_actors_loss_never_reaches_the_critics() -> None:
    engine, rng = make(sac.Continuous)
    batch = oracle.random_batch(engine, rng=rng, rows=64)
    noise = engine.noise(64, rng=rng)
    engine.gradient(batch, noise=noise)
    before, actor = engine.critics.gradient.copy(), engine.actor.gradient.copy()
    noise[:64] = -noise[:64]  # other actions here, the same ones in the targets
    engine.gradient(batch, noise=noise)
    np.testing.assert_allclose(engine.critics.gradient, before, atol=1e-7)
    assert np.abs(engine.actor.gradient - actor).max() > 1e-4


@pytest.mark.parametrize("kind", [sac.Continuous, Discrete])
def test_termination_ends_the_target_and_truncation_does_not(kind) -> None:
    engine, rng = make(kind)
    batch = oracle.random_batch(engine, rng=rng, rows=40)
    noise = engine.noise(40, rng=rng)
    ended = replace(batch, discounts=np.zeros(40, dtype=np.float32))
    errors = engine.gradient(ended, noise=noise)
    elsewhere = replace(ended, next_observations=batch.next_observations + 1)
    np.testing.assert_array_equal(engine.gradient(elsewhere, noise=noise), errors)
    truncated = replace(batch, discounts=np.full(40, 0.98, dtype=np.float32))
    assert np.abs(engine.gradient(truncated, noise=noise) - errors).max() > 1e-3


def test_forbidden_actions_have_no_probability_and_get_no_gradient() -> None:
    masks = np.array([[True, False, True]])
    mass, logs = distribution(np.array([[1.0, 50.0, 1.0]], np.float32), masks=masks)
    np.testing.assert_allclose(mass, [[0.5, 0.0, 0.5]])
    assert np.isfinite(mass * logs).all()


def test_targets_follow_by_their_share_and_at_their_time() -> None:
    engine, rng = make(sac.Continuous, tau=0.25, target_every=2)
    batch = oracle.random_batch(engine, rng=rng, rows=16)
    before = engine.targets.flat.copy()
    engine.update(batch, rng=rng, learning_rate=1e-2)
    np.testing.assert_array_equal(engine.targets.flat, before)
    engine.update(batch, rng=rng, learning_rate=1e-2)
    np.testing.assert_allclose(engine.targets.flat, 0.75 * before + 0.25 * engine.critics.flat, atol=1e-6)


def test_the_temperature_is_the_adam_of_the_nets_and_can_be_fixed() -> None:
    ours = Temperature(initial=0.5, target=-1.0, fixed=False)
    theirs = analytic.fresh_state(np.log(np.array([0.5], np.float32)))
    for entropy in (0.3, -1.2, 2.0, 0.1):
        ours.gradient_from(entropy)
        ours.step(0.03)
        theirs.gradient[:] = entropy + 1.0
        theirs.adam(0.03)
    assert ours.log_alpha == pytest.approx(theirs.parameters.item(), abs=1e-6)
    fixed = Temperature(initial=0.2, target=-1.0, fixed=True)
    fixed.gradient_from(3.0)
    fixed.step(0.1)
    assert fixed.alpha == pytest.approx(0.2)


@pytest.mark.parametrize("kind", [sac.Continuous, Discrete])
def test_a_checkpoint_goes_on_bit_for_bit(kind) -> None:
    engine, rng = make(kind)
    batches = [oracle.random_batch(engine, rng=rng, rows=32) for _ in range(4)]
    for batch in batches[:2]:
        engine.update(batch, rng=np.random.default_rng(1), learning_rate=1e-3)
    saved = engine.state()
    other, _ = make(kind)
    other.load_state(saved)
    for batch in batches[2:]:
        for each in (engine, other):
            each.update(batch, rng=np.random.default_rng(2), learning_rate=1e-3)
    for name, array in engine.state().items():
        np.testing.assert_array_equal(other.state()[name], array)
    with pytest.raises(InvalidInput, match="another network"):
        make(kind, hidden=(8,))[0].load_state(saved)


def test_a_gradient_longer_than_its_limit_is_cut() -> None:
    engine, rng = make(sac.Continuous, gradient_clip=1e-3)
    batch = oracle.random_batch(engine, rng=rng)
    engine.update(batch, rng=rng, learning_rate=1e-3)
    assert np.linalg.norm(engine.critics.gradient) == pytest.approx(1e-3, rel=1e-2)
    assert np.linalg.norm(engine.actor.gradient) == pytest.approx(1e-3, rel=1e-2)


def test_certify_refuses_an_engine_that_is_wrong() -> None:
    engine, rng = make(sac.Continuous)
    assert oracle.certify(engine, rng=rng) < 1e-6
    engine.critics.parts[0].weights[1] *= 1.0  # a view: certify must still pass
    engine._actor_gradient = lambda drawn, *, values: None
    engine.actor.gradient[:] = 0
    with pytest.raises(EngineFailed, match="autograd"):
        oracle.certify(engine, rng=rng)


# --- RLlib's own losses -------------------------------------------------------------------------------------------------


def rllibs(engine, batch, fwd_out: dict, *, discrete: bool):
    """SACTorchLearner's losses of a batch: (critic losses summed, actor loss, alpha loss), graphs attached."""
    from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner

    learner = SimpleNamespace(
        _module={"m": None},
        curr_log_alpha={"m": torch.tensor([engine.temperature.log_alpha], dtype=torch.float64, requires_grad=True)},
        target_entropy={"m": engine.temperature.target},
        metrics=SimpleNamespace(log_value=lambda *a, **k: None, log_dict=lambda *a, **k: None),
        _temp_losses={},
    )
    loss = (
        SACTorchLearner._compute_loss_for_module_discrete
        if discrete
        else (SACTorchLearner._compute_loss_for_module_continuous)
    )
    columns = {
        "rewards": torch.from_numpy(batch.rewards).double(),
        "terminateds": torch.from_numpy(batch.discounts == 0),
        "weights": torch.from_numpy(batch.weights).double(),
        "n_step": torch.ones(len(batch)),
        "actions": torch.from_numpy(batch.actions[:, 0]) if discrete else torch.from_numpy(batch.actions).double(),
    }
    total = loss(
        learner, module_id="m", config=SimpleNamespace(gamma=0.98, twin_q=True), batch=columns, fwd_out=fwd_out
    )
    total.backward()
    return learner


@pytest.mark.slow
def test_continuous_losses_and_gradients_are_rllibs() -> None:
    from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian

    engine, rng = make(sac.Continuous, alpha_initial=0.05)
    batch = oracle.random_batch(engine, rng=rng, rows=128)
    batch = replace(
        batch, rewards=batch.rewards * np.float32(0.1)
    )  # errors below 1: RLlib's Huber is then half the square
    noise = engine.noise(128, rng=rng)
    engine.gradient(batch, noise=noise)
    assert max(np.abs(errors).max() for errors in engine._last[1]) < 1
    actor, critics = (
        torch.from_numpy(net.flat.copy()).double().requires_grad_() for net in (engine.actor, engine.critics)
    )
    here, then = (torch.from_numpy(x).double() for x in (batch.observations, batch.next_observations))

    def drawn(observations, eps):
        logits = oracle.forward(actor, observations, shape=engine.actor.shape)
        policy = TorchSquashedGaussian.from_logits(logits)
        u = policy.loc + policy._dist.scale * torch.from_numpy(eps).double()
        return policy._squash(u), policy._squashed_logp(u)

    def values(flat, observations, actions):
        inputs = torch.cat([observations, actions], dim=1)
        return [oracle.forward(part, inputs, shape=engine.critics.shape)[:, 0] for part in flat.chunk(2)]

    actions, log_here = drawn(here, noise[:128])
    following, log_then = drawn(then, noise[128:])
    first, second = values(critics, here, torch.from_numpy(batch.actions).double())
    fwd_out = {
        "qf_preds": first,
        "qf_twin_preds": second,
        "logp_resampled": log_here,
        "logp_next_resampled": log_then.detach(),
        "q_curr": torch.minimum(*values(critics.detach(), here, actions)),
        "q_target_next": torch.minimum(
            *values(torch.from_numpy(engine.targets.flat).double(), then, following.detach())
        ).detach(),
        "action_dist_inputs": None,
        "action_log_probs": log_here,
    }
    learner = rllibs(engine, batch, fwd_out, discrete=False)
    close(engine.actor.gradient, actor.grad.numpy())
    close(engine.critics.gradient, critics.grad.numpy())
    assert engine.temperature.gradient == pytest.approx(learner.curr_log_alpha["m"].grad.item(), rel=1e-5)


@pytest.mark.slow
def test_discrete_losses_and_gradients_are_rllibs() -> None:
    engine, rng = make(Discrete, actions=3, entropy_target=0.9, alpha_initial=0.05)
    batch = oracle.random_batch(engine, rng=rng, rows=128)
    batch = replace(batch, rewards=batch.rewards * np.float32(0.1))
    engine.gradient(batch, noise=engine.noise(128, rng=rng))
    assert np.abs(engine._last[1]).max() < 1
    actor, critics = (
        torch.from_numpy(net.flat.copy()).double().requires_grad_() for net in (engine.actor, engine.critics)
    )
    here, then = (torch.from_numpy(x).double() for x in (batch.observations, batch.next_observations))
    shape = engine.critics.shape
    mass, mass_then = (torch.softmax(oracle.forward(actor, x, shape=engine.actor.shape), dim=1) for x in (here, then))
    first, second = (oracle.forward(part, here, shape=shape) for part in critics.chunk(2))
    targets = torch.from_numpy(engine.targets.flat).double().chunk(2)
    fwd_out = {
        "action_probs": mass,
        "action_log_probs": mass.log(),
        "action_probs_next": mass_then,
        "action_log_probs_next": mass_then.log(),
        "qf_preds": first,
        "qf_twin_preds": second,
        "q_target_next": torch.minimum(*(oracle.forward(part, then, shape=shape) for part in targets)),
    }
    learner = rllibs(engine, batch, fwd_out, discrete=True)
    close(engine.actor.gradient, actor.grad.numpy())
    close(engine.critics.gradient, critics.grad.numpy())
    assert engine.temperature.gradient == pytest.approx(learner.curr_log_alpha["m"].grad.item(), rel=1e-5)
