"""The graph network against values by hand, and what must not change its embedding; the evaluator's shape."""

import numpy as np
import pytest
import torch

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies.lastream.evaluator import Evaluator, Scale
from rlaas_ray.policies.lastream.gcn import Gcn, normalised


def chain(count, nodes=None):
    nodes = nodes or count
    adjacency, mask = torch.zeros(1, nodes, nodes), torch.zeros(1, nodes)
    for one in range(count - 1):
        adjacency[0, one, one + 1] = 1.0
    mask[0, :count] = 1.0
    return adjacency, mask


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return Gcn().eval()


def features(count, nodes=None):
    found = torch.zeros(1, nodes or count, 16)
    found[0, :count] = torch.randn(count, 16, generator=torch.Generator().manual_seed(1))
    return found


def test_two_nodes_and_an_edge_by_hand():
    assert torch.equal(normalised(*chain(2)), torch.full((1, 2, 2), 0.5)) or torch.allclose(
        normalised(*chain(2)), torch.full((1, 2, 2), 0.5), atol=1e-7
    )


def test_a_chain_of_three_by_hand():
    a = 1 / 6**0.5
    wanted = torch.tensor([[0.5, a, 0.0], [a, 1 / 3, a], [0.0, a, 0.5]])
    assert round(a, 4) == 0.4082
    torch.testing.assert_close(normalised(*chain(3))[0], wanted)


def test_directed_takes_from_inputs_only_and_counts_them():
    wanted = torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5]])
    torch.testing.assert_close(normalised(*chain(2), directed=True)[0], wanted)


def test_both_directions_of_an_edge_are_one():
    adjacency, mask = chain(2)
    torch.testing.assert_close(normalised(adjacency + adjacency.transpose(1, 2), mask), normalised(adjacency, mask))


def test_the_order_of_operators_does_not_matter(network):
    seen, (adjacency, mask) = features(5), chain(5)
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        plain = network(seen, adjacency, mask=mask)
        shuffled = network(seen[:, order], adjacency[:, order][:, :, order], mask=mask)
    assert float((plain - shuffled).abs().max()) <= 1e-6


def test_padding_changes_nothing(network):
    with torch.no_grad():
        plain = network(features(5), chain(5)[0], mask=chain(5)[1])
        padded = network(features(5, 16), chain(5, 16)[0], mask=chain(5, 16)[1])
    assert float((plain - padded).abs().max()) == 0.0


def test_a_layer_is_the_formula():
    network = Gcn(output_dim=3).eval()
    seen, (adjacency, mask) = features(3), chain(3)
    hidden, mixed = torch.nn.functional.pad(seen, (0, 48)), normalised(adjacency, mask)
    for layer in network.layers:
        hidden = torch.relu(mixed @ hidden @ layer.weight.T + layer.bias)
    wanted = hidden.mean(dim=1) @ network.out.weight.T + network.out.bias
    torch.testing.assert_close(network(seen, adjacency, mask=mask), wanted, atol=1e-5, rtol=1e-4)


def test_it_equals_torch_geometric_where_that_is_installed():
    geometric = pytest.importorskip("torch_geometric.nn", reason="pip install torch-geometric")
    network, other = Gcn(directed=True).eval(), geometric.GCNConv(64, 128)
    other.lin.weight.data, other.bias.data = network.layers[0].weight.data, network.layers[0].bias.data
    seen, (adjacency, mask) = torch.nn.functional.pad(features(4), (0, 48)), chain(4)
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    ours = normalised(adjacency, mask, directed=True)[0] @ seen[0] @ network.layers[0].weight.T + network.layers[0].bias
    torch.testing.assert_close(ours, other(seen[0], edges), atol=1e-6, rtol=1e-6)


def test_the_numbers_of_parameters():
    evaluator = Evaluator()
    norms = sum(p.numel() for m in evaluator.modules() if isinstance(m, torch.nn.LayerNorm) for p in m.parameters())
    assert sum(p.numel() for p in Gcn().parameters()) == 82_496
    assert norms == 2_304
    assert sum(p.numel() for p in evaluator.parameters()) == 315_137 + 2_304


def test_more_operators_than_the_evaluator_takes_are_refused():
    with pytest.raises(InvalidInput, match="at most 10"):
        Evaluator()(torch.zeros(1, 2, 64), torch.zeros(1, 2, 11))


def test_the_scale_is_that_of_all_rewards():
    rewards, scale = np.random.default_rng(0).normal(3.0, 2.0, 100), Scale()
    for part in np.split(rewards, [1, 20, 70]):
        scale.take(part)
    np.testing.assert_allclose([scale.mean, scale.deviation], [rewards.mean(), rewards.std()])
    assert Scale().deviation == 1.0
