"""The agent: the example of its page, what acting tells, learning of both networks, files."""

import socket
import sys

import numpy as np
import pytest
import torch

from rlaas.stream import StreamProcessingRLAgent
from rlaas_ray.errors import Conflict, InvalidInput, NotFound
from rlaas_ray.policies.lastream import agent as agents
from rlaas_ray.policies.lastream import replay

OPERATORS = [
    {"name": "Source", "processing_capability": 0.9, "input_rate": 0.8, "resource_load": 0.3},
    {"name": "Split", "processing_capability": 0.4, "input_rate": 0.8, "resource_load": 0.6},
    {"name": "Count", "processing_capability": 0.2, "input_rate": 0.8, "resource_load": 0.9},
]
CHAIN = [(0, 1), (1, 2)]


@pytest.fixture(autouse=True)
def _no_key_of_the_machine(monkeypatch):
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)


def made(**more):
    return StreamProcessingRLAgent(deepseek_config={"max_parallelism": 8}, **more)


def act(agent, info=OPERATORS, **more):
    return agent.act(operators_info=info, dependencies=CHAIN[: len(info) - 1], **more)


def test_the_example_runs_without_network_key_or_other_libraries(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    agent = StreamProcessingRLAgent(
        deepseek_api_key=None,
        gcn_config={"output_dim": 64},
        deepseek_config={"max_parallelism": 8},
        action_evaluator_config=None,
        experience_buffer_size=3000,
        device="cpu",
        pretrained_model_path=None,
        generator=None,
        seed=0,
    )
    best_scheme, action_info = agent.act(
        operators_info=OPERATORS, dependencies=[(0, 1), (1, 2)], num_candidate_schemes=10
    )
    assert [type(count) for count in best_scheme] == [int, int, int]
    assert "openai" not in sys.modules
    assert action_info["app_embedding"].shape == (64,)
    assert action_info["app_embedding"].dtype == np.float32
    assert best_scheme in action_info["candidate_schemes"]
    assert len(action_info["candidate_schemes"]) == 10
    assert action_info["num_operators"] == 3
    assert action_info["total_parallelism"] == sum(best_scheme)
    assert action_info["predicted_value"] == pytest.approx(action_info["values"].max())
    assert (action_info["generator"], action_info["fallback_reason"], action_info["propensity"]) == (
        "offline",
        None,
        1.0,
    )
    assert action_info["probabilities"].sum() == pytest.approx(1.0)


def test_acting_is_without_dropout_and_the_same_seed_says_the_same():
    one, other = made(seed=4), made(seed=4)
    one.gcn.train()
    one.evaluator.train()
    assert act(one)[1]["values"].tolist() == act(other)[1]["values"].tolist()
    assert not one.gcn.training
    assert not one.evaluator.training


def test_the_chance_of_the_caller_is_left_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    agent = made()
    act(agent, explore=True)
    agent.store_experience(operators_info=OPERATORS, dependencies=CHAIN, scheme=[1, 1, 1], reward=1.0)
    agent.train_evaluator()
    assert torch.equal(before, torch.random.get_rng_state())


def test_more_operators_than_it_was_built_for_are_refused():
    info = [{"name": f"o{n}"} for n in range(11)]
    with pytest.raises(InvalidInput, match=r"11 operators.*at most 10"):
        made().act(operators_info=info, dependencies=[])
    agent = made(action_evaluator_config={"max_operators": 11})
    assert len(agent.act(operators_info=info, dependencies=[])[0]) == 11


def test_equal_schemes_share_a_probability_and_propensity_sums_over_them():
    schemes = np.array([[1, 1], [2, 2], [1, 1]])
    values = np.array([0.5, 0.0, 0.5])
    found = agents.softmax(values, schemes, temperature=0.5)
    e = np.exp(1.0)
    np.testing.assert_allclose(found, [e / (e + 1) / 2, 1 / (e + 1), e / (e + 1) / 2])
    agent = StreamProcessingRLAgent(deepseek_config={"max_parallelism": 2})
    _, told = agent.act(operators_info=[{"name": "a"}], dependencies=[], num_candidate_schemes=6, explore=True)
    rows = {tuple(row) for row in told["candidate_schemes"]}
    assert len(told["candidate_schemes"]) == 6
    assert rows == {(1,), (2,)}
    total = dict.fromkeys(rows, 0.0)
    for row, probability in zip(told["candidate_schemes"], told["probabilities"], strict=True):
        total[tuple(row)] += probability
    assert told["propensity"] in [pytest.approx(value) for value in total.values()]
    assert sum(total.values()) == pytest.approx(1.0)


def test_exploring_draws_by_its_probabilities():
    agent, counts = made(seed=1), {}
    agent.generator = Same()
    for _ in range(150):
        scheme, told = act(
            agent,
            [{"name": "a", "instance_count": 1}, {"name": "b", "instance_count": 1}],
            explore=True,
            num_candidate_schemes=3,
            temperature=0.05,
        )
        counts[tuple(scheme)] = counts.get(tuple(scheme), 0) + 1
    for row, probability in zip(told["candidate_schemes"], told["probabilities"], strict=True):
        assert counts.get(tuple(row), 0) / 150 == pytest.approx(probability, abs=4 * 0.041)


class Same:
    name, fallback_reason = "same", None

    def propose(self, context, k, *, rng):
        return np.array([[1, 1], [1, 2], [2, 1]])


def test_ties_go_to_the_fewest_instances_then_to_the_first_in_order():
    schemes = np.array([[3, 3], [2, 1], [1, 2], [1, 1]])
    assert agents.best(np.array([1.0, 1.0, 1.0, 0.0]), schemes) == 2


def test_a_generator_of_ones_own_is_asked_and_held_to_the_contract():
    agent = made(generator=Same())
    scheme, told = act(
        agent, [{"name": "a", "instance_count": 1}, {"name": "b", "instance_count": 1}], num_candidate_schemes=3
    )
    assert told["generator"] == "same"
    assert tuple(scheme) in {(1, 1), (1, 2), (2, 1)}
    with pytest.raises(InvalidInput, match="generator same"):
        act(agent, OPERATORS)


def test_the_scheme_in_force_is_the_last_one_recommended():
    agent = made()
    first, _ = act(agent)
    _, told = act(agent)
    assert first in told["candidate_schemes"]


def test_graph_network_and_evaluator_are_trained_together():
    agent = made(experience_buffer_size=64)
    before = [p.detach().clone() for p in (*agent.gcn.parameters(), *agent.evaluator.parameters())]
    rng = np.random.default_rng(0)
    for _ in range(32):
        scheme = rng.integers(1, 9, 3).tolist()
        agent.store_experience(operators_info=OPERATORS, dependencies=CHAIN, scheme=scheme, reward=-float(sum(scheme)))
    agent.train_evaluator()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in agent.gcn.parameters())
    after = [*agent.gcn.parameters(), *agent.evaluator.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
def test_it_learns_which_scheme_earns_most():
    agent = made(seed=2)
    rng = np.random.default_rng(0)
    for _ in range(300):
        scheme = rng.integers(1, 9, 3)
        reward = -float(np.abs(scheme - [2, 4, 6]).sum())
        agent.store_experience(operators_info=OPERATORS, dependencies=CHAIN, scheme=scheme.tolist(), reward=reward)
    agent.train_evaluator(num_epochs=12)
    told = agent._told(OPERATORS, CHAIN)
    values = agent.values(told, np.array([[[2, 4, 6], [8, 1, 1], [1, 1, 1]]]))[0]
    assert values[0] > max(values[1:])
    mean = values[0] * agent.scale.deviation + agent.scale.mean
    assert mean == pytest.approx(0.0, abs=3.0)


def test_what_follows_counts_with_td_alone():
    for horizon, discount in (("bandit", 0.0), ("td", 0.5)):
        agent = made(action_evaluator_config={"horizon": horizon, "gamma": 0.5})
        agent.store_experience(
            operators_info=OPERATORS, dependencies=CHAIN, scheme=[1, 2, 3], reward=4.0, next_operators_info=OPERATORS
        )
        row = agent.replay.columns()
        assert row["discount"].tolist() == [discount]
        assert row["reward"].tolist() == [4.0 if horizon == "bandit" else 2.0]
        assert np.isfinite(agent.train_evaluator()["loss"])


def test_what_cannot_be_stored_is_refused():
    agent = made()
    for scheme, reward in (([1, 2], 0.0), ([1, 2, 9], 0.0), ([1, 2, 3], float("nan"))):
        with pytest.raises(InvalidInput):
            agent.store_experience(operators_info=OPERATORS, dependencies=CHAIN, scheme=scheme, reward=reward)
    with pytest.raises(Conflict, match="empty"):
        agent.train_evaluator()


def test_an_agent_is_saved_and_loaded_bit_by_bit(tmp_path):
    agent = made(seed=5)
    for count in range(1, 9):
        agent.store_experience(operators_info=OPERATORS, dependencies=CHAIN, scheme=[count] * 3, reward=float(count))
    agent.train_evaluator()
    agent.save_model(tmp_path / "agent.safetensors")
    other = made(seed=6, pretrained_model_path=tmp_path / "agent.safetensors")
    schemes = np.arange(1, 4)[None, None, :]
    told = agent._told(OPERATORS, CHAIN)
    assert agent.values(told, schemes).tolist() == other.values(told, schemes).tolist()
    state, again = agent.state(), other.state()
    assert {name: value.tolist() for name, value in state.items()} == {n: v.tolist() for n, v in again.items()}


def test_a_file_that_is_not_its_own_is_refused(tmp_path):
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(InvalidInput, match="safetensors"):
        made().load_model(tmp_path / "junk")
    with pytest.raises(NotFound):
        made().load_model(tmp_path / "nothing")
    made().save_model(tmp_path / "one")
    with pytest.raises(InvalidInput, match="another agent"):
        made(gcn_config={"output_dim": 32}).load_model(tmp_path / "one")


def test_settings_are_checked_by_name():
    with pytest.raises(InvalidInput, match="output_dim"):
        made(gcn_config={"outputdim": 64})
    with pytest.raises(InvalidInput, match="horizon"):
        made(action_evaluator_config={"horizon": "long"})


def rows(count, first=0):
    n, k = 3, 4
    return {
        **{f"{when}features": np.ones((count, n, 16), np.float32) for when in ("", "next_")},
        **{f"{when}current": np.ones((count, n), np.int32) for when in ("", "next_")},
        **{f"{when}demand": np.ones((count, n)) for when in ("", "next_")},
        "adjacency": np.ones((count, n, n), np.float32),
        "mask": np.ones((count, n), np.float32),
        "scheme": np.ones((count, n), np.int32),
        "next_schemes": np.ones((count, k, n), np.int32),
        "limit": np.full(count, 8, np.int32),
        "reward": np.arange(first, first + count, dtype=np.float64),
        "discount": np.zeros(count),
        "propensity": np.ones(count),
    }


def test_the_ring_keeps_the_newest_and_goes_through_parquet(tmp_path):
    ring = replay.Replay(5, operators=4, candidates=4)
    ring.add(rows(3))
    ring.add(rows(4, first=3))
    assert len(ring) == 5
    assert ring.rewards().tolist() == [2, 3, 4, 5, 6]
    ring.save(tmp_path / "replay.parquet")
    again = replay.Replay.load(tmp_path / "replay.parquet")
    assert again.capacity == 5
    for name, value in ring.columns().items():
        np.testing.assert_array_equal(value, again.columns()[name])
    one, other = (part.sample(8, rng=np.random.default_rng(1))["reward"] for part in (ring, again))
    assert sorted(set(one.tolist()) | set(other.tolist())) <= [2, 3, 4, 5, 6]
    with pytest.raises(InvalidInput, match="at most"):
        replay.Replay(5, operators=2, candidates=4).add(rows(1))
