"""The head of action values: epsilon-greedy with honest propensities, masks, its JSON, and what a certificate asks of it."""

import numpy as np
import pytest
from gymnasium import spaces as gs
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from rlaas_ray.errors import InvalidInput, Refused
from rlaas_ray.policies import certificate, heads, onnx_graph
from rlaas_ray.policies.engines import choice
from rlaas_ray.policies.network import Layer, Network, from_json
from rlaas_ray.policies.view import ViewProgram

Q = np.array([[1.0, 3.0, 2.0, -5.0]], np.float32)


@given(epsilon=st.floats(0, 1), allowed=st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
def test_probabilities_are_epsilon_over_the_allowed_and_the_rest_for_the_best_of_them(
    epsilon: float, allowed: list[bool]
) -> None:
    head, mask = heads.QValues(n=4, epsilon=epsilon), np.array([allowed])
    p = head.probabilities(heads.masked(Q, mask))[0]
    best = int(np.where(allowed, Q[0], -np.inf).argmax())
    wanted = [epsilon / sum(allowed) * may + (1 - epsilon) * (i == best) for i, may in enumerate(allowed)]
    np.testing.assert_allclose(p, wanted, atol=1e-12)
    assert p.sum() == pytest.approx(1.0)


def test_draws_follow_their_propensities_and_never_take_a_forbidden_action() -> None:
    head, n = heads.QValues(n=4, epsilon=0.3), 30_000
    mask = np.tile([True, False, True, True], (n, 1))
    params = heads.masked(np.repeat(Q, n, axis=0), mask)
    drawn = head.draw(params, rng=np.random.default_rng(0))
    index = drawn.proposed[:, 0].astype(int)
    counts = np.bincount(index, minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], np.array([0.1, 0.8, 0.1]) * n).pvalue > 1e-3
    assert drawn.probabilities is not None
    np.testing.assert_array_equal(drawn.propensity, drawn.probabilities[np.arange(n), index])
    np.testing.assert_allclose(np.exp(head.log_prob(params, drawn.proposed)), drawn.propensity)
    assert head.log_prob(params[:1], np.array([[1.0]])).tolist() == [-np.inf]


def test_greedy_takes_the_best_allowed_action_with_certainty() -> None:
    head, params = heads.QValues(n=4, epsilon=0.5), heads.masked(Q, np.array([[True, False, True, True]]))
    drawn = heads.draw(head, params, serving="greedy", rng=np.random.default_rng(0))
    assert drawn.proposed.tolist() == [[2.0]]
    assert drawn.propensity.tolist() == [1.0]
    assert drawn.probabilities is not None
    assert drawn.probabilities.tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_its_json_comes_back_and_nothing_else_does() -> None:
    head = heads.QValues(n=4, epsilon=0.25)
    assert heads.from_json(head.to_json()) == head
    heads.check(head, action_space=gs.Discrete(4))
    with pytest.raises(InvalidInput):
        heads.check(head, action_space=gs.Discrete(5))
    for body in ({"n": 4, "epsilon": 1.5}, {"n": 0, "epsilon": 0.1}, {"n": 4}, {"n": 4, "epsilon": 0.1, "more": 1}):
        with pytest.raises(InvalidInput):
            heads.from_json({"type": "q_values", **body})


def test_engines_must_agree_on_the_best_value_where_there_is_one() -> None:
    values = np.array([[500.0, 500.01], [400.0, 300.0]], np.float32)
    apart = values + np.array([[0.02, 0.0], [0.0, 0.0]], np.float32)
    head = heads.QValues(n=2)
    found = certificate.compare({"a": values, "b": values * np.float32(1 + 1e-6)}, head=head, seed=0)
    assert found.pairs[0].argmax_agreement == 1.0
    assert (
        certificate.compare({"a": values, "b": values}, head=head, seed=0).pairs[0].compared == 1
    )  # 0.01 of 500 is noise
    with pytest.raises(Refused):
        certificate.compare({"a": values, "b": apart}, head=head, seed=0)


@pytest.mark.parametrize("viewed", [False, True])
def test_every_engine_gives_the_mean_of_a_distribution_over_atoms(viewed: bool) -> None:
    rng = np.random.default_rng(1)
    atoms = np.linspace(-10, 30, 21, dtype=np.float32)
    layers = tuple(
        Layer(
            weight=rng.normal(size=shape).astype(np.float32),
            bias=rng.normal(size=shape[0]).astype(np.float32),
            activation=a,
        )
        for shape, a in (((16, 5), "relu"), ((3 * 21, 16), "linear"))
    )
    view = ViewProgram(
        index=rng.integers(0, 4, size=(2, 5)), matrix=np.zeros((4, 0), np.float32), offset=np.zeros(0, np.float32)
    )
    net = Network(layers=layers, atoms=atoms, view=view if viewed else None)
    again = from_json(net.to_json(), tensors=net.tensors())
    x = rng.normal(size=(50, 4 if viewed else 5)).astype(np.float32)
    units = x[:, view.index].reshape(-1, 5) if viewed else x
    hidden = np.maximum(units @ layers[0].weight.T + layers[0].bias, 0).astype(np.float64)
    logits = (hidden @ layers[1].weight.T + layers[1].bias).reshape(len(units), 3, 21)
    wanted = (special.softmax(logits, axis=2) @ atoms).reshape(50, -1)
    assert again.outputs == wanted.shape[1]
    model = onnx_graph.build(again)
    for name in choice.NAMES:
        given = choice.make(name, network=again, model=model).distribution(x)
        np.testing.assert_allclose(given, wanted, atol=1e-4, err_msg=name)
    head = heads.QValues(n=wanted.shape[1])
    assert certificate.certify(again, model=model, observations=x, head=head, seed=0).engines == choice.NAMES


def test_atoms_that_do_not_divide_the_outputs_are_refused() -> None:
    layer = Layer(weight=np.zeros((10, 2), np.float32), bias=np.zeros(10, np.float32), activation="linear")
    for atoms in (np.zeros(3, np.float32), np.zeros(1, np.float32)):
        with pytest.raises(InvalidInput, match="atoms"):
            Network(layers=(layer,), atoms=atoms)
