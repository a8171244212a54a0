"""DQN's engine: gradients against autograd for every combination of options, C51's projection against a loop, the fold."""

import itertools

import numpy as np
import pytest
import torch

from rlaas_ray.train import analytic
from rlaas_ray.train.dqn import network
from rlaas_ray.train.dqn.bellman import Batch, Engine, Loss, project
from rlaas_ray.train.dqn.network import QNetwork, Shape

V_MIN, V_MAX = -4.0, 6.0


def shape_of(*, dueling: bool = False, atoms: int = 1, activation: str = "relu") -> Shape:
    return Shape(inputs=3, hidden=(16, 12), activation=activation, actions=4, atoms=atoms, dueling=dueling)


def engine_of(shape: Shape, *, double: bool, gradient_clip: float | None = None, seed: int = 0) -> Engine:
    rng = np.random.default_rng(seed)
    state = analytic.fresh_state(network.initial(shape, rng=rng) * np.float32(2))
    loss = Loss(double=double, v_min=V_MIN, v_max=V_MAX, gradient_clip=gradient_clip)
    return Engine(state, target=network.initial(shape, rng=rng) * np.float32(2), shape=shape, loss=loss)


def batch_of(count: int = 40, *, masks: bool = False, weights: bool = False, seed: int = 1) -> Batch:
    rng = np.random.default_rng(seed)
    allowed = rng.random((count, 4)) < 0.5
    allowed[np.arange(count), rng.integers(4, size=count)] = True
    return Batch(
        observations=rng.standard_normal((count, 3), dtype=np.float32),
        actions=rng.integers(4, size=count),
        rewards=rng.standard_normal(count, dtype=np.float32) * 3,
        discounts=np.where(rng.random(count) < 0.2, 0.0, 0.9 ** rng.integers(1, 4, count)).astype(np.float32),
        next_observations=rng.standard_normal((count, 3), dtype=np.float32),
        next_masks=allowed if masks else None,
        weights=rng.uniform(0.1, 1.0, count).astype(np.float32) if weights else None,
    )


def by_torch(named: dict[str, torch.Tensor], observations: torch.Tensor, *, shape: Shape) -> torch.Tensor:
    """The architecture as its papers have it, apart streams and all: (n, A, K)."""
    activation = {"relu": torch.relu, "tanh": torch.tanh, "silu": torch.nn.functional.silu}[shape.activation]
    x, hidden = observations, len(shape.hidden)
    for layer in range(hidden):
        x = activation(torch.nn.functional.linear(x, named[f"q.{layer}.weight"], named[f"q.{layer}.bias"]))
    if not shape.dueling:
        outputs = torch.nn.functional.linear(x, named[f"q.{hidden}.weight"], named[f"q.{hidden}.bias"])
        return outputs.reshape(len(x), shape.actions, shape.atoms)
    streams = x.chunk(2, dim=1)
    value = torch.nn.functional.linear(streams[0], named["value.weight"], named["value.bias"])[:, None, :]
    advantage = torch.nn.functional.linear(streams[1], named["advantage.weight"], named["advantage.bias"])
    advantage = advantage.reshape(len(x), shape.actions, shape.atoms)
    return value + advantage - advantage.mean(dim=1, keepdim=True)


def loss_by_torch(engine: Engine, batch: Batch, *, shape: Shape, double: bool) -> tuple[torch.Tensor, dict]:
    named = {
        name: torch.tensor(array, requires_grad=True)
        for name, array in network.views(engine.online.flat, shape).items()
    }
    frozen = {name: torch.tensor(array) for name, array in network.views(engine.target_flat, shape).items()}
    atoms = torch.linspace(V_MIN, V_MAX, shape.atoms)
    rows = torch.arange(len(batch))
    outputs = by_torch(named, torch.tensor(batch.observations), shape=shape)[rows, torch.tensor(batch.actions)]
    with torch.no_grad():
        after = torch.tensor(batch.next_observations)
        following = by_torch(frozen, after, shape=shape)
        chooser = by_torch(named, after, shape=shape) if double else following
        q = chooser[:, :, 0] if shape.atoms == 1 else torch.softmax(chooser, dim=2) @ atoms
        if batch.next_masks is not None:
            q = q.masked_fill(~torch.tensor(batch.next_masks), -torch.inf)
        following = following[rows, q.argmax(dim=1)]
    weights = torch.ones(len(batch)) if batch.weights is None else torch.tensor(batch.weights)
    rewards, discounts = torch.tensor(batch.rewards), torch.tensor(batch.discounts)
    if shape.atoms == 1:
        wanted = rewards + discounts * following[:, 0]
        losses = torch.nn.functional.huber_loss(outputs[:, 0], wanted, reduction="none")
    else:
        wanted = torch.tensor(by_loop(torch.softmax(following, dim=1).numpy(), batch, atoms=atoms.numpy()))
        losses = -(wanted * torch.log_softmax(outputs, dim=1)).sum(dim=1)
    return (weights * losses).mean(), named


def by_loop(probabilities: np.ndarray, batch: Batch, *, atoms: np.ndarray) -> np.ndarray:
    """Algorithm 1 of Bellemare et al. 2017, an atom at a time."""
    found = np.zeros_like(probabilities)
    spacing = (V_MAX - V_MIN) / (len(atoms) - 1)
    for row, column in itertools.product(range(len(probabilities)), range(len(atoms))):
        moved = min(max(batch.rewards[row] + batch.discounts[row] * atoms[column], V_MIN), V_MAX)
        place = (moved - V_MIN) / spacing
        lower, upper = int(np.floor(place)), int(np.ceil(place))
        if lower == upper:
            found[row, lower] += probabilities[row, column]
        else:
            found[row, lower] += probabilities[row, column] * (upper - place)
            found[row, upper] += probabilities[row, column] * (place - lower)
    return found


@pytest.mark.parametrize(
    ("double", "dueling", "atoms", "masks", "weights"),
    list(itertools.product([False, True], [False, True], [1, 11], [False, True], [False, True])),
)
def test_gradients_are_autograds_for_every_combination_of_options(
    double: bool, dueling: bool, atoms: int, masks: bool, weights: bool
) -> None:
    for activation in ("relu", "tanh", "silu"):
        shape = shape_of(dueling=dueling, atoms=atoms, activation=activation)
        engine, batch = engine_of(shape, double=double), batch_of(masks=masks, weights=weights)
        found = engine.gradient(batch)
        loss, named = loss_by_torch(engine, batch, shape=shape, double=double)
        loss.backward()
        assert found.loss == pytest.approx(loss.item(), abs=1e-5)
        for name, array in network.views(engine.gradient_flat, shape).items():
            np.testing.assert_allclose(array, named[name].grad.numpy(), atol=1e-5, err_msg=f"{activation} {name}")


def test_a_projected_distribution_keeps_its_mass_and_its_clipped_mean() -> None:
    rng, atoms = np.random.default_rng(0), np.linspace(V_MIN, V_MAX, 51, dtype=np.float32)
    batch = batch_of(200)
    probabilities = rng.dirichlet(np.ones(51), 200).astype(np.float32)
    found = project(probabilities, rewards=batch.rewards, discounts=batch.discounts, v_min=V_MIN, atoms=atoms)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    moved = np.clip(batch.rewards[:, None] + batch.discounts[:, None] * atoms, V_MIN, V_MAX)
    np.testing.assert_allclose(found @ atoms, (probabilities * moved).sum(axis=1), atol=1e-4)
    np.testing.assert_allclose(found, by_loop(probabilities, batch, atoms=atoms), atol=1e-4)


@pytest.mark.parametrize("atoms", [1, 5])
def test_a_dueling_network_is_a_plain_one_once_its_streams_are_folded(atoms: int) -> None:
    shape = shape_of(dueling=True, atoms=atoms)
    flat = network.initial(shape, rng=np.random.default_rng(3))
    net = QNetwork(flat, shape)
    x = np.random.default_rng(4).standard_normal((7, 3), dtype=np.float32)
    named = {name: torch.tensor(array) for name, array in network.views(flat, shape).items()}
    wanted = by_torch(named, torch.tensor(x), shape=shape).reshape(7, -1).numpy()
    np.testing.assert_allclose(net.outputs(x), wanted, atol=1e-6)
    folded = x
    for layer in net.layers():
        folded = folded @ layer.weight.T + layer.bias
        folded = np.maximum(folded, 0) if layer.activation == "relu" else folded
    np.testing.assert_allclose(folded, wanted, atol=1e-6)


def test_the_target_moves_by_its_share_and_only_then() -> None:
    shape = shape_of()
    engine = engine_of(shape, double=False)
    before, batch = engine.target_flat.copy(), batch_of()
    engine.update(batch, learning_rate=1e-2)
    np.testing.assert_array_equal(engine.target_flat, before)
    engine.move_target(0.25)
    np.testing.assert_allclose(engine.target_flat, 0.75 * before + 0.25 * engine.online.flat, atol=1e-6)
    engine.move_target(1.0)
    np.testing.assert_array_equal(engine.target_flat, engine.online.flat)


def test_gradients_longer_than_the_limit_are_scaled_to_it() -> None:
    shape = shape_of()
    free, bounded = engine_of(shape, double=True), engine_of(shape, double=True, gradient_clip=0.01)
    norm = free.gradient(batch_of()).gradient_norm
    assert bounded.gradient(batch_of()).gradient_norm == pytest.approx(norm)
    assert norm > 0.01
    np.testing.assert_allclose(bounded.gradient_flat, free.gradient_flat * (0.01 / norm), rtol=1e-3)
