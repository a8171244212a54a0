"""Offline engines: every gradient against autograd of the loss as its paper writes it; checkpoints; closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import optimize

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import heads as serving
from rlaas_ray.train import heads
from rlaas_ray.train.offline import cql, cql_box, imitation, iql
from rlaas_ray.train.offline.dataset import Dataset
from rlaas_ray.train.offline.policy import Widths

WIDE, ROWS = 3, 24
WIDTHS = Widths(observations=WIDE, hidden=(8, 8), activation="tanh")
HEADS = {
    "categorical": (heads.Categorical((4,)), serving.Categorical(n=4)),
    "multi": (heads.Categorical((3, 2)), serving.MultiCategorical(nvec=(3, 2))),
    "gaussian": (heads.Gaussian(2), serving.DiagonalGaussian(entries=2)),
}


def a_batch(head: heads.Head, *, rng: np.random.Generator, rows: int = ROWS) -> Dataset:
    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    if head.gaussian:
        actions = np.tanh(normal(rows, head.width))
    else:
        actions = np.stack([rng.integers(0, n, rows) for n in head.choices], axis=1)
    return Dataset(
        observations=normal(rows, WIDE),
        actions=actions,
        rewards=normal(rows),
        following=normal(rows, WIDE),
        terminated=rng.random(rows) < 0.3,
        complete=np.ones(rows, dtype=np.bool_),
        returns=normal(rows),
        tail=rng.integers(0, 5, rows),
        tail_discount=np.where(rng.random(rows) < 0.5, 0.9, 0.0).astype(np.float32),
        log_probabilities=np.full(rows, np.nan, dtype=np.float32),
        ends=normal(5, WIDE),
        episode_returns=np.zeros(5),
    )


class Towers:
    """A Net's flat vector as a differentiable function."""

    def __init__(self, flat: np.ndarray, shape, *, activation: str = "tanh") -> None:
        self.flat = torch.tensor(flat, dtype=torch.float64, requires_grad=True)
        self.shape = shape
        self.activation = {"tanh": torch.tanh, "relu": torch.relu}[activation]

    def __call__(self, inputs: torch.Tensor, *, copy: int = 0) -> torch.Tensor:
        offset, values = copy * self.shape.size, inputs
        widths = self.shape.widths
        for layer, (before, after) in enumerate(itertools.pairwise(widths)):
            weight = self.flat[offset : offset + before * after].reshape(after, before)
            bias = self.flat[offset + before * after : offset + (before + 1) * after]
            offset += (before + 1) * after
            values = values @ weight.T + bias
            if layer < len(widths) - 2:
                values = self.activation(values)
        return values


def t(array: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(array, dtype=torch.int64 if array.dtype.kind == "i" else torch.float64)


def log_probability(head: heads.Head, outputs: torch.Tensor, log_std: torch.Tensor | None, actions: torch.Tensor):
    if log_std is not None:
        return torch.distributions.Normal(outputs, log_std.exp()).log_prob(actions).sum(dim=1)
    blocks = torch.split(outputs, head.choices, dim=1)
    found = [torch.distributions.Categorical(logits=b).log_prob(actions[:, i]) for i, b in enumerate(blocks)]
    return torch.stack(found).sum(dim=0)


def moved(engine_policy, *, rng: np.random.Generator) -> None:
    """Away from the start, where all actions are alike and gradients vanish."""
    engine_policy.net.flat[:] = rng.standard_normal(engine_policy.net.flat.shape) * 0.5
    if engine_policy.log_std is not None:
        engine_policy.log_std[:] = [-0.3, 0.2]


def close(found: np.ndarray, wanted: torch.Tensor) -> None:
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-6)


@pytest.mark.parametrize("beta", [0.0, 1.5])
@pytest.mark.parametrize("kind", sorted(HEADS))
def test_imitation_has_autograds_gradients(kind: str, beta: float) -> None:
    rng = np.random.default_rng(3)
    head, served = HEADS[kind]
    batch = a_batch(head, rng=rng)
    engine = imitation.Imitation(
        WIDTHS, head=head, served=served, beta=beta, gradient_clip=None, rng=rng, norm=0.7, norm_rate=0.2
    )
    moved(engine.policy, rng=rng)
    told = engine.gradient(batch)

    policy, value = (
        Towers(engine.policy.net.flat, engine.policy.net.shape),
        Towers(engine.value.flat, engine.value.shape),
    )
    free = engine.policy.log_std
    log_std = None if free is None else torch.tensor(free, dtype=torch.float64, requires_grad=True)
    log_p = log_probability(head, policy(t(batch.observations)), log_std, t(batch.actions))
    if beta:
        later = value(t(batch.ends[batch.tail]))[:, 0].detach()
        advantage = t(batch.returns) + t(batch.tail_discount) * later - value(t(batch.observations))[:, 0]
        norm = 0.7 + 0.2 * (advantage.square().mean().item() - 0.7)
        weights = torch.exp(beta * advantage / (1e-8 + math.sqrt(norm))).detach()
        loss = -(weights * log_p).mean() + 0.5 * advantage.square().mean()
    else:
        loss = -log_p.mean()
    loss.backward()
    close(engine.policy.net.gradient, policy.flat.grad)
    assert told["total_loss"] == pytest.approx(loss.item(), abs=1e-5)
    if beta:
        close(engine.value.gradient, value.flat.grad)
    if log_std is not None:
        close(engine.policy._spread.gradient.numpy(), log_std.grad)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_iql_has_autograds_gradients(kind: str) -> None:
    rng = np.random.default_rng(4)
    head, served = HEADS[kind]
    batch = a_batch(head, rng=rng)
    settings = iql.Settings(gamma=0.9, expectile=0.8, temperature=2.0, tau=0.01, gradient_clip=None)
    engine = iql.Iql(WIDTHS, head=head, served=served, settings=settings, rng=rng)
    moved(engine.policy, rng=rng)
    engine.targets.flat[:] += 0.1 * rng.standard_normal(engine.targets.flat.shape, dtype=np.float32)
    told = engine.gradient(batch)

    policy, value = (
        Towers(engine.policy.net.flat, engine.policy.net.shape),
        Towers(engine.value.flat, engine.value.shape),
    )
    critics, targets = (Towers(flat, engine.critics.shape) for flat in (engine.critics.flat, engine.targets.flat))

    def of_action(towers: Towers, copy: int) -> torch.Tensor:
        if head.gaussian:
            return towers(torch.cat([t(batch.observations), t(batch.actions)], dim=1), copy=copy)[:, 0]
        return towers(t(batch.observations), copy=copy).gather(1, t(batch.actions))[:, 0]

    free = engine.policy.log_std
    log_std = None if free is None else torch.tensor(free, dtype=torch.float64, requires_grad=True)
    judged = torch.minimum(of_action(targets, 0), of_action(targets, 1)).detach()
    advantage = judged - value(t(batch.observations))[:, 0]
    side = torch.where(advantage < 0, 0.2, 0.8)
    value_loss = (side * advantage.square()).mean()
    follow = value(t(batch.following))[:, 0].detach()
    target = t(batch.rewards) + 0.9 * (1 - t(batch.terminated)) * follow
    critic_loss = sum(0.5 * (of_action(critics, i) - target).square().mean() for i in range(2))
    weights = torch.exp(2.0 * advantage).clamp(max=100.0).detach()
    actor_loss = -(weights * log_probability(head, policy(t(batch.observations)), log_std, t(batch.actions))).mean()
    (value_loss + critic_loss + actor_loss).backward()
    close(engine.policy.net.gradient, policy.flat.grad)
    close(engine.value.gradient, value.flat.grad)
    close(engine.critics.gradient, critics.flat.grad)
    assert told["total_loss"] == pytest.approx((value_loss + critic_loss + actor_loss).item(), abs=1e-5)


def test_discrete_cql_has_autograds_gradients() -> None:
    rng = np.random.default_rng(5)
    batch = a_batch(HEADS["categorical"][0], rng=rng)
    engine = cql.DiscreteCql(
        WIDTHS, actions=4, gamma=0.9, conservative_weight=0.7, tau=0.01, gradient_clip=None, rng=rng
    )
    engine.target.flat[:] += 0.1 * rng.standard_normal(engine.target.flat.shape, dtype=np.float32)
    told = engine.gradient(batch)

    critic, slow = Towers(engine.critic.flat, engine.critic.shape), Towers(engine.target.flat, engine.critic.shape)
    values = critic(t(batch.observations))
    taken = values.gather(1, t(batch.actions))[:, 0]
    best = critic(t(batch.following)).argmax(dim=1, keepdim=True)
    later = slow(t(batch.following)).gather(1, best)[:, 0]
    target = (t(batch.rewards) + 0.9 * (1 - t(batch.terminated)) * later).detach()
    loss = (taken - target).square().mean() + 0.7 * (values.logsumexp(dim=1) - taken).mean()
    loss.backward()
    close(engine.critic.gradient, critic.flat.grad)
    assert told["total_loss"] == pytest.approx(loss.item(), abs=1e-5)


def a_box_engine(rng: np.random.Generator, *, weight: float = 0.7) -> cql_box.BoxCql:
    settings = cql_box.Settings(
        entries=2, gamma=0.9, conservative_weight=weight, sampled_actions=3, tau=0.01, gradient_clip=None
    )
    engine = cql_box.BoxCql(WIDTHS, settings=settings, rng=rng)
    engine.targets.flat[:] += 0.1 * rng.standard_normal(engine.targets.flat.shape, dtype=np.float32)
    return engine


def test_continuous_cql_has_autograds_gradients() -> None:
    rng = np.random.default_rng(6)
    batch = a_batch(HEADS["gaussian"][0], rng=rng)
    engine = a_box_engine(rng)
    normal, uniform = noise = engine.noise(ROWS, rng=rng)
    told = engine.gradient(batch, noise=noise)

    actor = Towers(engine.actor.flat, engine.actor.shape)
    critics, targets = (Towers(flat, engine.critics.shape) for flat in (engine.critics.flat, engine.targets.flat))
    observations = t(batch.observations)

    def draw(seen: torch.Tensor, drawn: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = actor(seen).chunk(2, dim=1)
        base = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        found = torch.distributions.TransformedDistribution(base, torch.distributions.TanhTransform(cache_size=1))
        action = torch.tanh(mean + base.scale * t(drawn))
        return action, found.log_prob(action).sum(dim=1)

    def q(towers: Towers, actions: torch.Tensor, *, copy: int, seen: torch.Tensor = observations) -> torch.Tensor:
        return towers(torch.cat([seen, actions], dim=1), copy=copy)[:, 0]

    here, log_here = draw(observations, normal[0])
    later, _ = draw(t(batch.following), normal[1])
    follow = torch.minimum(*(q(targets, later, copy=i, seen=t(batch.following)) for i in range(2))).detach()
    target = t(batch.rewards) + 0.9 * (1 - t(batch.terminated)) * follow
    drawn = [(a, torch.full((ROWS,), 2 * math.log(0.5))) for a in t(uniform).reshape(3, ROWS, 2)]
    drawn += [draw(observations, normal[2 + i]) for i in range(3)]
    drawn += [draw(t(batch.following), normal[5 + i]) for i in range(3)]
    critic_loss = torch.zeros((), dtype=torch.float64)
    for copy in range(2):
        taken = q(critics, t(batch.actions), copy=copy)
        sampled = torch.stack([q(critics, a.detach(), copy=copy) - p.detach() for a, p in drawn])
        critic_loss += (taken - target).square().mean() + 0.7 * (sampled.logsumexp(dim=0) - taken).mean()
    frozen = Towers(engine.critics.flat, engine.critics.shape)
    actor_loss = (cql_box.ALPHA * log_here - torch.minimum(*(q(frozen, here, copy=i) for i in range(2)))).mean()
    (by_critics,) = torch.autograd.grad(critic_loss, critics.flat)
    (by_actor,) = torch.autograd.grad(actor_loss, actor.flat)
    close(engine.critics.gradient, by_critics)
    close(engine.actor.gradient, by_actor)
    assert told["critic_loss"] == pytest.approx(critic_loss.item(), abs=1e-4)
    assert told["actor_loss"] == pytest.approx(actor_loss.item(), abs=1e-5)


def test_the_value_of_iql_is_the_expectile() -> None:
    """The stationary point of the asymmetric squared loss, against a root finder (Newey & Powell 1987)."""
    sample = np.random.default_rng(0).gamma(2.0, size=500)
    for level in (0.5, 0.7, 0.9):
        wanted = optimize.brentq(
            lambda v, level=level: (
                level * np.maximum(sample - v, 0).sum() - (1 - level) * np.maximum(v - sample, 0).sum()
            ),
            sample.min(),
            sample.max(),
        )
        value = 0.0
        for _ in range(2_000):
            errors = (sample - value).astype(np.float32)
            value += 0.05 * float((iql.expectile_weights(errors, expectile=level) * errors).mean())
        assert value == pytest.approx(wanted, abs=1e-3)


def test_cql_puts_what_was_never_logged_below_all_that_was() -> None:
    """A bandit whose last action was never taken: the values are those that solve the loss's first-order condition."""
    rng = np.random.default_rng(7)
    batch = a_batch(heads.Categorical((4,)), rng=rng, rows=512)
    actions = rng.integers(0, 3, (512, 1))
    batch = Dataset(
        **{
            **{name: getattr(batch, name) for name in batch.__slots__},
            "observations": np.ones((512, WIDE), dtype=np.float32),
            "actions": actions,
            "rewards": actions[:, 0].astype(np.float32),
            "terminated": np.ones(512, dtype=np.bool_),
        }
    )
    engine = cql.DiscreteCql(
        WIDTHS, actions=4, gamma=0.9, conservative_weight=0.5, tau=0.05, gradient_clip=None, rng=rng
    )
    for _ in range(600):
        engine.update(batch, rng=rng, learning_rate=3e-3)
    engine._tape.inputs[:] = 1.0
    values = engine.critic.parts[0].forward(engine._tape)[0]
    shares = np.bincount(actions[:, 0], minlength=3) / 512
    soft = np.exp(values) / np.exp(values).sum()
    # stationary: 2 share (Q - r) + w (softmax - share) = 0
    np.testing.assert_allclose(2 * shares * (values[:3] - np.arange(3)), 0.5 * (shares - soft[:3]), atol=0.02)
    assert values[3] < values[:3].min() - 1.0


ENGINES = {
    "bc": lambda rng: imitation.Imitation(
        WIDTHS, head=HEADS["gaussian"][0], served=HEADS["gaussian"][1], beta=0.0, gradient_clip=0.5, rng=rng
    ),
    "marwil": lambda rng: imitation.Imitation(
        WIDTHS, head=HEADS["gaussian"][0], served=HEADS["gaussian"][1], beta=1.0, gradient_clip=0.5, rng=rng
    ),
    "iql": lambda rng: iql.Iql(
        WIDTHS,
        head=HEADS["gaussian"][0],
        served=HEADS["gaussian"][1],
        settings=iql.Settings(gamma=0.9, expectile=0.8, temperature=2.0, tau=0.01, gradient_clip=None),
        rng=rng,
    ),
    "cql": a_box_engine,
}


@pytest.mark.parametrize("kind", sorted(ENGINES))
def test_an_engine_goes_on_from_its_state_as_if_nothing_had_happened(kind: str) -> None:
    batch = a_batch(HEADS["gaussian"][0], rng=np.random.default_rng(8))
    engine, other = (ENGINES[kind](np.random.default_rng(seed)) for seed in (1, 2))
    for step in range(3):
        engine.update(batch, rng=np.random.default_rng(step), learning_rate=1e-3)
    other.load_state(engine.state())
    for each in (engine, other):
        each.update(batch, rng=np.random.default_rng(9), learning_rate=1e-3)
    for name, array in engine.state().items():
        np.testing.assert_array_equal(array, other.state()[name], err_msg=name)
    assert engine.stats() == other.stats()


def test_a_state_of_another_network_is_refused() -> None:
    engine = ENGINES["bc"](np.random.default_rng(1))
    state = {**engine.state(), "policy.parameters": np.zeros(3, dtype=np.float32)}
    with pytest.raises(InvalidInput, match="another network"):
        engine.load_state(state)
