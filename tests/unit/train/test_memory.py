"""Training with a memory: sequences give what steps gave, gradients are those of unrolled episodes, starts hide the past."""

import gymnasium
import numpy as np
import pytest
import torch

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import memory as memories
from rlaas_ray.policies.engines.numpy_engine import NumpyEngine
from rlaas_ray.policies.engines.torch_engine import TorchEngine
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import analytic, columns, families, heads, ledger, presets
from rlaas_ray.train import worlds as worlds_of
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.memory import family, network, sequences
from rlaas_ray.train.memory.torch_network import TorchNetwork
from rlaas_ray.train.memory.unrolled import SequenceEngine
from rlaas_ray.train.seam import Situation

F4 = np.float32
KINDS = memories.KINDS


def a_shape(kind: str, *, hidden=(7,), free=0, steps=4) -> network.Shape:
    return network.Shape(
        inputs=3, hidden=hidden, activation="tanh", kind=kind, size=5, steps=steps, outputs=2, free=free
    )


def flat_of(shape: network.Shape, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    flat = network.initial(shape, rng=rng, policy_gain=1.0, log_std=-0.5)
    return (flat + 0.1 * rng.standard_normal(flat.shape)).astype(F4)


def a_spec(kind: str, env: str = "recalling:Recall", **more) -> TrainSpec:
    net = {"memory": kind, "hidden": (8,), "memory_size": 6, "memory_steps": 4}
    return TrainSpec(env=env, num_env_runners=0, num_envs_per_runner=3, batch_size=48, network=net, **more)


def fragments_of(spec: TrainSpec, *, count: int = 3):
    """Fragments in their order, the plan, the learning whose parameters collected them, and all raw statistics."""
    worlds = worlds_of.of(spec)
    plan = family.resolve(spec, worlds)
    learning = family.MemoryLearning(plan, worlds)
    flat = flat_of(family.shape_of(plan, worlds))
    learning.load_state({**learning.state(), "parameters": flat})
    collector = family.collector(plan, worlds, index=0)
    seen, found = columns.no_moments(family.shape_of(plan, worlds).inputs), []
    for iteration in range(count):
        request = Request(iteration=iteration, parameters=flat, observations=seen, returns=columns.no_moments(1))
        found.append(collector.sample(request))
        seen = columns.merge(seen, found[-1].observations)
    collector.close()
    return found, plan, learning, worlds


ENVS = ["recalling:Recall", "recalling:Masked", "recalling:Follow"]


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_over_sequences_are_those_that_were_stored(kind, env):
    found, plan, learning, _ = fragments_of(a_spec(kind, env))
    starts = 0
    for fragment in found:
        batch = fragment.columns
        assert batch.observations.shape[0] == plan.memory_steps
        again, _ = learning._engine.log_probabilities(batch)
        np.testing.assert_allclose(again.detach().numpy(), batch.log_probabilities[batch.valid], atol=1e-5)
        starts += int(batch.starts[1:].sum())
    assert starts > 3  # episodes began inside sequences
    assert fragment.rows == int(batch.valid.sum()) > 0


class SameStep(gymnasium.vector.SyncVectorEnv):
    """Vector of Recall in the other autoreset mode."""

    def __init__(self, envs, **_):
        super().__init__(envs, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)


@pytest.mark.parametrize("same_step", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_targets_are_those_of_each_episode_walked_alone(kind, same_step, monkeypatch):
    if same_step:
        monkeypatch.setattr(gymnasium.vector, "SyncVectorEnv", lambda envs, **_: SameStep(envs))
    spec = a_spec(kind, gae_lambda=0.0, gamma=0.9, normalise_observations=False)
    found, plan, learning, worlds = fragments_of(spec, count=1)
    batch = found[0].columns
    shape = family.shape_of(plan, worlds)
    engine = TorchEngine(network.program(learning.parameters(), shape, tower="critic", normaliser=None))
    length = plan.memory_steps
    seen = batch.observations.reshape(length, -1, 3, 3).swapaxes(0, 1).reshape(-1, 3, 3)  # (T, B, d)

    def whole(name):
        return getattr(batch, name).reshape(length, -1, 3).swapaxes(0, 1).reshape(-1, 3)

    valid, starts, targets, advantages = (whole(n) for n in ("valid", "starts", "targets", "advantages"))
    checked = 0
    for row in range(3):
        state = np.zeros((1, shape.state_size()), F4)
        for t in range(len(seen) - 1):
            if starts[t, row]:
                state[:] = 0
            value, state = engine.step(seen[t, row][None], state)
            if not valid[t, row]:
                continue
            np.testing.assert_allclose(targets[t, row] - advantages[t, row], value[0, 0], atol=1e-5)
            is_last = seen[t, row, 1] == 1  # the answer: the episode terminates, and its value is the reward alone
            if not is_last and not starts[t + 1, row]:
                following, _ = engine.step(seen[t + 1, row][None], state)
                np.testing.assert_allclose(targets[t, row], 0.9 * following[0, 0], atol=1e-5)
                checked += 1
            elif is_last:
                assert abs(abs(targets[t, row]) - 1) < 1e-5
    assert checked > 20


def test_a_truncated_episodes_last_value_uses_its_own_memory_under_same_step(monkeypatch):
    monkeypatch.setattr(gymnasium.vector, "SyncVectorEnv", lambda envs, **_: SameStep(envs))
    spec = a_spec("gru", "recalling:Follow", gae_lambda=0.0, gamma=0.9, normalise_observations=False)
    worlds = worlds_of.of(spec)
    plan = family.resolve(spec, worlds)
    shape = family.shape_of(plan, worlds)
    flat = flat_of(shape)
    collector = family.collector(plan, worlds, index=0)
    blocks = []
    collect = collector._rollouts.collect
    monkeypatch.setattr(collector._rollouts, "collect", lambda *a, **k: blocks.append(collect(*a, **k)) or blocks[-1])
    none = columns.no_moments(shape.inputs)
    request = Request(iteration=0, parameters=flat, observations=none, returns=columns.no_moments(1))
    batch = collector.sample(request).columns
    end = blocks[0].final[0]
    engine = NumpyEngine(network.program(flat, shape, tower="critic", normaliser=None))
    state = np.zeros((1, shape.state_size()), F4)
    for t in range(end.t + 1):
        _, state = engine.step(blocks[0].observations[t, end.row][None], state)
    value, _ = engine.step(end.observation[None], state)
    targets = batch.targets.reshape(plan.memory_steps, -1, 3).swapaxes(0, 1).reshape(-1, 3)
    reward = blocks[0].rewards[end.t, end.row]
    np.testing.assert_allclose(targets[end.t, end.row], reward + 0.9 * value[0, 0], atol=1e-5)


def random_batch(shape: network.Shape, head, *, length: int = 6, count: int = 5, seed: int = 3) -> sequences.Sequences:
    rng = np.random.default_rng(seed)
    size = (length, count)
    starts = rng.random(size) < 0.3
    starts[0, 0], starts[0, 1] = True, False
    states = 0.5 * rng.standard_normal((2, 1, count, shape.state_size()))
    if shape.kind == "attention":  # places fill from the newest
        places = states.reshape(2, count, shape.steps - 1, -1)
        taken = np.arange(shape.steps - 1)[::-1] < rng.integers(0, shape.steps, size=(count, 1))
        places[..., 0] = taken
        places *= taken[None, :, :, None]
    parameters = rng.standard_normal((length * count, head.size)).astype(F4)
    noise = heads.noise(head, (length * count,), rng=rng)
    return sequences.Sequences(
        observations=rng.standard_normal((*size, shape.inputs)).astype(F4),
        actions=head.draw(parameters, noise).reshape(*size, -1),
        log_probabilities=rng.normal(-0.7, 0.3, size).astype(F4),
        advantages=rng.standard_normal(size).astype(F4),
        targets=rng.standard_normal(size).astype(F4),
        valid=rng.random(size) < 0.8,
        starts=starts,
        actor=states[0].astype(F4),
        critic=states[1].astype(F4),
    )


def naive(net: TorchNetwork, tower: str, batch: sequences.Sequences) -> torch.Tensor:
    """One row and one step at a time in torch's own cells: (L, n, k)."""
    shape, named = net.shape, {n.removeprefix(f"{tower}."): p for n, p in net.named_parameters() if n.startswith(tower)}
    state = torch.from_numpy(batch.actor[0] if tower == "actor" else batch.critic[0])
    columns_ = []
    for row in range(batch.count):
        held, out = state[row], []
        for t in range(len(batch.observations)):
            if batch.starts[t, row]:
                held = torch.zeros_like(held)
            y, held = _cell(shape, named, torch.from_numpy(batch.observations[t, row]), held)
            out.append(named["output.weight"] @ y + named["output.bias"])
        columns_.append(torch.stack(out))
    return torch.stack(columns_, dim=1)


def _encode(shape, named, x):
    for layer in range(len(shape.hidden)):
        x = torch.tanh(named[f"{layer}.weight"] @ x + named[f"{layer}.bias"])
    return x


def _cell(shape, named, x, held):
    if shape.kind == "attention":
        places = torch.cat([held.reshape(shape.steps - 1, -1), torch.cat([torch.ones(1), x])[None]])
        position = named["memory.position"]
        age = [(len(places) - 1 - i, place[1:]) for i, place in enumerate(places) if place[0] > 0]
        xs = [_encode(shape, named, seen) for _, seen in age]
        placed = [x_ + position[a] for (a, _), x_ in zip(age, xs, strict=True)]
        query = named["memory.query.weight"] @ placed[-1] + named["memory.query.bias"]
        scores = torch.stack([query @ (named["memory.key.weight"] @ p) for p in placed]) / shape.size**0.5
        context = sum(w * (named["memory.value.weight"] @ p) for w, p in zip(scores.softmax(0), placed, strict=True))
        both = torch.cat([xs[-1], context])
        return torch.tanh(named["memory.output.weight"] @ both + named["memory.output.bias"]), places[1:].ravel()
    x = _encode(shape, named, x)[None]
    weights = [named[f"memory.{n}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if shape.kind == "gru":
        h = torch.gru_cell(x, held[None], *weights)
        return h[0], h[0]
    h, c = torch.lstm_cell(x, (held[None, : shape.size], held[None, shape.size :]), *weights)
    return h[0], torch.cat([h, c], dim=1)[0]


@pytest.mark.parametrize("hidden", [(), (7,)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_loss_unrolled_step_by_step(kind, hidden):
    shape, head = a_shape(kind, hidden=hidden), heads.Categorical((2,))
    loss = analytic.Loss(clip=0.2, value_coefficient=0.5, entropy_coefficient=0.01, gradient_clip=None)
    state = analytic.fresh_state(flat_of(shape))
    engine = SequenceEngine(state, shape=shape, head=head, loss=loss)
    batch = random_batch(shape, head)
    stats = engine.gradient(batch)
    given = state.gradient.clone()
    valid = torch.from_numpy(batch.valid)
    logits = naive(engine.network, "actor", batch)[valid]
    values = naive(engine.network, "critic", batch)[valid][:, 0]
    logs = torch.log_softmax(logits, dim=1)
    taken = logs.gather(1, torch.from_numpy(batch.actions)[valid])[:, 0]
    ratio = (taken - torch.from_numpy(batch.log_probabilities)[valid]).exp()
    advantages = torch.from_numpy(batch.advantages)[valid]
    policy = -torch.minimum(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
    value = (values - torch.from_numpy(batch.targets)[valid]).square().mean()
    total = policy + 0.5 * value + 0.01 * (logs.exp() * logs).sum(1).mean()
    state.gradient.zero_()
    total.backward()
    assert stats["total_loss"] == pytest.approx(total.item(), abs=1e-5)
    np.testing.assert_allclose(given.numpy(), state.gradient.numpy(), atol=1e-5)
    assert float(given.norm()) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_before_a_start_is_seen_after_it(kind):
    shape, head = a_shape(kind), heads.Categorical((2,))
    net = TorchNetwork(shape)
    batch = random_batch(shape, head)
    starts = np.zeros((6, 5), dtype=np.bool_)
    starts[3] = True
    given = torch.from_numpy(batch.observations).requires_grad_()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5)
    state = torch.from_numpy(batch.actor[0]).clone().requires_grad_()
    net.distribution(given, state=state, starts=starts)[3:].sum().backward()
    assert given.grad[:3].abs().max() == 0 == state.grad.abs().max()
    assert given.grad[3:].abs().min() > 0
    given.grad = None
    net.distribution(given, state=state, starts=np.zeros_like(starts))[3].sum().backward()
    assert given.grad[0].abs().max() > 0  # without a start it is


def test_sequences_are_cut_along_time_and_every_one_is_drawn_once():
    whole = np.arange(12 * 3).reshape(12, 3)
    pieces = sequences.cut(whole, steps=4)
    assert pieces.shape == (4, 9)
    np.testing.assert_array_equal(pieces[:, 4], whole[4:8, 1])
    batch = random_batch(a_shape("gru"), heads.Categorical((2,)))
    joined = sequences.join([batch, batch])
    assert joined.count == 10
    assert joined.actor.shape == (1, 10, 5)
    schedule = analytic.Schedule(epochs=2, minibatches=3, share=1.0, learning_rate=1e-3)
    drawn = list(sequences.minibatches(joined, schedule=schedule, rng=np.random.default_rng(0)))
    assert [epoch for epoch, _ in drawn] == [0, 0, 0, 1, 1, 1]
    assert sum(part.count for epoch, part in drawn if epoch == 1) == 10
    level = sequences.standardised(joined).advantages
    assert abs(level[joined.valid].mean()) < 1e-6
    assert (level[~joined.valid] == 0).all()


def test_the_exported_policy_is_the_trained_tower():
    found, plan, learning, _ = fragments_of(a_spec("attention"))
    seen = columns.no_moments(3)
    for fragment in found[:-1]:
        seen = columns.merge(seen, fragment.observations)
    program = learning.policies(observations=seen)[""].network
    assert program.state_size == (4 - 1) * (1 + 3)
    engine = TorchEngine(program)
    raw = np.random.default_rng(0).standard_normal((6, 1, 3)).astype(F4)
    mean, scale = columns.scale_of(seen)
    normalised = columns.normalise(raw.reshape(-1, 3), mean=mean, scale=scale).reshape(6, 1, 3)
    nothing = torch.zeros(1, program.state_size)
    wanted = learning._engine.network.distribution(
        torch.from_numpy(normalised), state=nothing, starts=np.zeros((6, 1), np.bool_)
    )
    state = nothing.numpy()
    for t in range(6):
        given, state = engine.step(raw[t], state)
        np.testing.assert_allclose(given, wanted[t].detach().numpy(), atol=1e-5)
    assert plan.steps % plan.memory_steps == 0


def test_a_spec_with_a_memory_finds_its_family_and_others_are_refused():
    assert families.of(a_spec("lstm")) is family.FAMILY
    assert families.of(TrainSpec(env="CartPole-v1")) is not family.FAMILY
    with pytest.raises(NotBuilt, match=r"algorithm sac with network\.memory"):
        families.of(TrainSpec(env="CartPole-v1", algorithm="sac", network={"memory": "gru"}))
    short = TrainSpec(env="recalling:Recall", network={"memory": "attention", "memory_steps": 1})
    with pytest.raises(InvalidInput, match="memory_steps of attention"):
        family.resolve(short, worlds_of.of(short))


def test_a_checkpoint_goes_on_as_if_there_had_been_none():
    spec = a_spec("gru", epochs=2, minibatch_size=16)
    found, plan, learning, worlds = fragments_of(spec)
    situation = _situation()
    learning.learn(found[1:2], situation=situation)
    other = family.MemoryLearning(plan, worlds)
    other.load_state(learning.state())
    one, two = (each.learn(found[2:], situation=situation) for each in (learning, other))
    assert one == two
    np.testing.assert_array_equal(learning.parameters(), other.parameters())
    with pytest.raises(InvalidInput, match="another network"):
        other.load_state({**learning.state(), "parameters": np.zeros(3, F4)})
    assert learning.learn(found[:1], situation=_situation(unnormalised=True)) == {}
    assert presets.loss_of(plan).clip == plan.clip


def _situation(*, unnormalised: bool = False):
    return Situation(ledger=ledger.new(3), used=0.1, unnormalised=unnormalised)
