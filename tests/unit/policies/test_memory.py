"""A policy with a memory: three engines compute one thing over sequences, and its bundle comes back with its state."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import safetensors.numpy
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, Tampered
from rlaas_ray.policies import bundle, certificate, decoders, heads, inspection, loaded, manifest, memory, onnx_graph
from rlaas_ray.policies import view as views
from rlaas_ray.policies.engines import choice
from rlaas_ray.policies.network import Layer, Network, Normaliser, from_json

RNG = np.random.default_rng(5)
F4 = np.float32


def layer(inputs: int, outputs: int, activation: str = "linear") -> Layer:
    return Layer(
        weight=(0.5 * RNG.normal(size=(outputs, inputs))).astype(F4),
        bias=RNG.normal(size=outputs).astype(F4),
        activation=activation,
    )


def remembering(kind: str, *, hidden: tuple[int, ...] = (8,), view: views.ViewProgram | None = None, steps: int = 5):
    width = 4 if view is None else view.size
    widths = [width, *hidden]
    before = [layer(a, b, "tanh") for a, b in itertools.pairwise(widths)]
    shapes = memory.shapes(kind, inputs=widths[-1], outputs=6, steps=steps)
    arrays = {name: (0.5 * RNG.normal(size=shape)).astype(F4) for name, shape in shapes.items()}
    return Network(
        layers=(*before, layer(6, 2)),
        memory=memory.Memory(kind=kind, after=len(before), arrays=arrays),
        normaliser=Normaliser(mean=RNG.normal(size=width).astype(F4), std=np.full(width, 2, F4), clip=10.0),
        view=view,
    )


def units() -> views.ViewProgram:
    index = np.array([[0, 1, 4], [2, 3, 4]])
    return views.ViewProgram(index=index, matrix=RNG.normal(size=(4, 1)).astype(F4), offset=np.zeros(1, F4))


def contents(net: Network) -> bundle.BundleContents:
    actions = gs.Discrete(2)
    return bundle.BundleContents(
        name="blind-cart",
        created_us=1,
        env="CartPole-v1",
        algorithm="ppo",
        observation_space=gs.Box(-np.inf, np.inf, (4,), np.float32),
        action_space=actions,
        net=net,
        head=heads.for_action_space(actions),
        decoder=decoders.for_action_space(actions),
        serving="sample",
        seed=7,
        spec_digest="ab" * 32,
        observations=RNG.normal(size=(300, 4)).astype(F4),
    )


@pytest.mark.parametrize("view", [None, units()], ids=["flat", "units"])
@pytest.mark.parametrize("hidden", [(), (8,), (9, 7)])
@pytest.mark.parametrize("kind", memory.KINDS)
def test_engines_agree_over_a_sequence_each_on_its_own_state(kind, hidden, view):
    net = remembering(kind, hidden=hidden, view=view)
    model = onnx_graph.build(net)
    onnx_graph.check(model, network=net)
    engines = {name: choice.make(name, network=net, model=model) for name in choice.NAMES}
    states = {name: np.zeros((7, net.state_size), F4) for name in engines}
    for _ in range(12):
        x = RNG.normal(size=(7, 4)).astype(F4)
        given = {}
        for name, engine in engines.items():
            given[name], states[name] = engine.step(x, states[name])
            assert states[name].dtype == given[name].dtype == F4
        for name in ("numpy", "onnx"):
            np.testing.assert_allclose(given[name], given["torch"], atol=1e-5)
            np.testing.assert_allclose(states[name], states["torch"], atol=1e-5)
    again = from_json(json.loads(json.dumps(net.to_json())), tensors=net.tensors())
    assert again.state_size == net.state_size > 0


@pytest.mark.parametrize("kind", memory.KINDS)
def test_a_row_does_not_depend_on_the_rows_beside_it(kind):
    net = remembering(kind)
    engine = choice.make("numpy", network=net, model=b"")
    x, state = RNG.normal(size=(5, 4)).astype(F4), RNG.normal(size=(5, net.state_size)).astype(F4)
    together, after = engine.step(x, state)
    for i in range(5):
        alone, own = engine.step(x[i : i + 1], state[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
        np.testing.assert_allclose(own[0], after[i], atol=1e-6)


def test_attention_sees_its_window_and_nothing_older():
    net = remembering("attention", steps=4)
    engine = choice.make("numpy", network=net, model=b"")
    x = RNG.normal(size=(9, 4)).astype(F4)

    def last(sequence) -> np.ndarray:
        state = np.zeros((1, net.state_size), F4)
        for row in sequence:
            given, state = engine.step(row[None], state)
        return given[0]

    np.testing.assert_allclose(last(x), last(x[-4:]), atol=1e-6)  # full window: the past beyond it is gone
    assert np.abs(last(x) - last(x[-3:])).max() > 1e-4
    assert np.abs(last(x[-3:]) - last(x[[-2, -3, -1]])).max() > 1e-4  # the order counts


@pytest.mark.parametrize("kind", memory.KINDS)
def test_the_bundle_comes_back_with_its_memory(tmp_path, kind):
    made = contents(remembering(kind))
    digest = bundle.write(tmp_path / "b", made)
    assert bundle.verify(tmp_path / "b").digest == digest
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["format_version"] == manifest.RECURRENT_VERSION
    golden = safetensors.numpy.load((tmp_path / "b" / "golden.safetensors").read_bytes())
    assert golden["states"].shape == golden["states_out"].shape == (256, made.net.state_size)
    assert np.abs(golden["states"]).max() > 0
    before = bundle.in_memory(made)
    for engine in (None, "numpy", "onnx", "torch"):
        policy = bundle.load(tmp_path / "b", engine=engine)
        assert policy.state_size == made.net.state_size
        mine = theirs = None
        rngs = np.random.default_rng(1), np.random.default_rng(1)
        for step in range(6):
            x = made.observations[step * 5 : step * 5 + 5]
            first, second = policy.decide(x, rng=rngs[0], state=mine), before.decide(x, rng=rngs[1], state=theirs)
            mine, theirs = first.state, second.state
            np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-5)
        assert mine.shape == policy.initial_state(5).shape


def test_act_remembers_each_unit_until_it_is_reset(monkeypatch):
    made = dataclasses.replace(contents(remembering("gru")), serving="greedy")
    policy = bundle.in_memory(made)
    x = made.observations[:2]
    seen: list[np.ndarray] = []
    decide = policy.decide
    monkeypatch.setattr(policy, "decide", lambda *a, **k: seen.append(k["state"]) or decide(*a, **k))
    for unit, row in (("a", x[0]), ("b", x[1]), ("a", x[1])):
        policy.act(row, unit=unit)
    policy.reset("a")
    policy.act(x[0], unit="a")
    assert [s is None for s in seen] == [True, True, False, True]
    np.testing.assert_allclose(seen[2], decide(x[:1], rng=np.random.default_rng(0)).state)
    monkeypatch.setattr(loaded, "UNITS", 2)
    policy.act(x[0], unit="c")  # b was not asked for longest
    policy.act(x[0], unit="b")
    assert seen[-1] is None


def test_a_policy_without_memory_keeps_no_state():
    net = remembering("gru")
    plain = dataclasses.replace(net, memory=None, layers=(layer(4, 8, "tanh"), layer(8, 2)))
    policy = bundle.in_memory(contents(plain))
    assert policy.state_size == 0
    assert policy.decide(np.zeros((2, 4), F4), rng=np.random.default_rng(0)).state is None
    assert net.to_json().keys() - plain.to_json().keys() == {"memory"}


def test_a_state_of_another_size_is_refused():
    policy = bundle.in_memory(contents(remembering("lstm")))
    with pytest.raises(InvalidInput, match="state of a policy"):
        policy.decide(np.zeros((2, 4), F4), rng=np.random.default_rng(0), state=np.zeros((2, 3), F4))


def test_memories_that_do_not_fit_are_refused():
    net = remembering("lstm")
    good = net.memory
    wrong = {
        "after": dataclasses.replace(good, after=2),
        "not": dataclasses.replace(good, arrays={**good.arrays, "bias_hh": np.zeros(3, F4)}),
        "memory lstm with": dataclasses.replace(good, arrays={}),
        "axes": dataclasses.replace(good, arrays={**good.arrays, "bias_hh": np.zeros((24, 1), F4)}),
        "for 8 inputs": dataclasses.replace(good, after=0),
        "inputs after": remembering("lstm", hidden=(5,)).memory,
    }
    for message, bad in wrong.items():
        with pytest.raises(InvalidInput, match=message):
            dataclasses.replace(net, memory=bad)
    with pytest.raises(InvalidInput, match="remembers nothing"):
        remembering("attention", steps=1)
    with pytest.raises(InvalidInput, match="not a network"):
        from_json({**net.to_json(), "memory": {"kind": "rnn", "after": 1}}, tensors=net.tensors())


def test_states_that_do_not_come_out_are_tampered(tmp_path):
    made = contents(remembering("lstm"))
    bundle.write(tmp_path / "b", made)
    opened = inspection.inspect(tmp_path / "b")
    other = certificate.sequences(
        choice.make("numpy", network=made.net, model=b""), made.observations, state_size=made.net.state_size
    )[2]
    assert not np.array_equal(other[:256], opened.golden.states_out)
    forged = dataclasses.replace(opened, golden=dataclasses.replace(opened.golden, states_out=other[:256].copy()))
    with pytest.raises(Tampered, match="golden vectors"):
        bundle._engine("numpy", opened=forged, rows=None)
