"""The tiny instance against its exact answers, and the order in which policies must come out."""

import numpy as np
import pytest

from rlaas_ray.envs import registry, scoring
from rlaas_ray.envs.catalogue import EDGE_TINY
from rlaas_ray.envs.edge import baselines_tiny, config, demand, env, model, references, rules, tiny
from rlaas_ray.errors import InvalidInput

STEPS = 60


def uniform():
    allowed = tiny.chain().allowed
    return allowed / allowed.sum(axis=1, keepdims=True)


def always(action):
    return np.eye(tiny.ACTIONS)[np.full(tiny.STATES, action)]


def test_there_are_330_states_each_with_its_own_index():
    every = tiny.states(env.tiny_domain().params)
    assert len(tiny.configurations()) == 55
    assert tiny.index(every).tolist() == list(range(330))


def test_the_optimum_and_the_fixed_policies_cost_what_the_chain_says():
    best, plan = tiny.optimum()
    assert best == pytest.approx(-101.32292, abs=1e-4)
    assert plan.shape == (STEPS, 330)
    assert -tiny.expected(uniform()) / STEPS == pytest.approx(4.252839, abs=1e-6)
    assert -tiny.expected(always(0)) / STEPS == pytest.approx(5.538649, abs=1e-6)
    stationary = np.eye(tiny.ACTIONS)[tiny.stationary(discount=0.95)]
    assert -tiny.expected(stationary) / STEPS == pytest.approx(1.688898, abs=1e-6)


def test_looking_one_step_ahead_is_as_good_as_never_acting():
    chain = tiny.chain()
    greedy = np.where(chain.allowed, chain.reward, -np.inf).argmax(axis=1)
    assert -tiny.expected(np.eye(tiny.ACTIONS)[greedy]) / STEPS == pytest.approx(5.538649, abs=1e-6)


# target: cost per step and its 95 % interval over 2000 episodes
HPA = {0.3: (2.190, 0.007), 0.4: (2.289, 0.006), 0.5: (3.455, 0.014), 0.8: (4.870, 0.031)}


@pytest.mark.slow
def test_simulated_costs_of_rules_and_optimum_are_the_published_ones_in_their_order():
    params = env.tiny_domain().params
    found = {}
    for target, (cost, interval) in HPA.items():
        rule = rules.Autoscaler(instance=params.instance, target=target)
        returns, _ = references.follow(params, rule, seed=11, episodes=2000)
        found[target] = -returns.mean() / STEPS
        assert found[target] == pytest.approx(cost, abs=2.0 * interval)
    play = scoring.act_of(baselines_tiny.optimum(), env=EDGE_TINY)
    returns, _ = scoring.episode_returns(EDGE_TINY, play, mode="balanced", seeds=[3], episodes=1000)
    best = -returns.mean() / STEPS
    assert best == pytest.approx(1.6887, abs=0.024)
    assert best < found[0.3] < found[0.5] < 4.252839 < 5.538649


@pytest.mark.parametrize("mode", list(config.MODES))
def test_the_served_optimum_takes_the_plans_actions_in_every_mode(mode):
    domain = env.tiny_domain(mode=mode)
    policy, (_, plan) = baselines_tiny.optimum(mode), tiny.optimum(mode)
    worlds = registry.make_vector(EDGE_TINY, num_envs=16, seed=5, mode=mode)
    seen, info = worlds.reset()
    memory = np.zeros((16, policy.state_size), np.float32)
    for step in range(STEPS):
        wishes, memory = policy.step(seen["observations"], memory)
        action = np.where(seen["action_mask"] > 0, wishes, -np.inf).argmax(axis=1)
        assert np.array_equal(action, plan[step, info["state_index"]])
        seen, _, _, cut, info = worlds.step(action)
    assert cut.all()
    assert domain.params.weights == config.MODES[mode]


def test_the_index_as_observation_is_the_state():
    worlds = registry.make_vector(EDGE_TINY, num_envs=4, seed=1, config={"observation": "index"})
    seen, info = worlds.reset()
    for _ in range(10):
        assert np.array_equal(seen["observations"], info["state_index"])
        seen, _, _, _, info = worlds.step(seen["action_mask"][:, ::-1].argmax(axis=1) * 0 + 1)
    with pytest.raises(InvalidInput, match="observation"):
        registry.make(EDGE_TINY, config={"observation": "raw"})


def test_the_demand_chain_moves_as_its_rows_say():
    worlds = registry.make_vector(EDGE_TINY, num_envs=2000, seed=2, config={"observation": "index"})
    _, info = worlds.reset()
    counts = np.zeros((6, 6))
    for _ in range(20):
        before = info["state_index"] // 55
        _, _, _, _, info = worlds.step(np.zeros(2000, np.int64))
        np.add.at(counts, (before, info["state_index"] // 55), 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    assert share == pytest.approx(tiny.chain().draws, abs=0.03)
    assert demand.chain_rate(np.array([2]), np.array([1])).ravel() == pytest.approx([6.0, 54.0])


def test_a_pod_takes_two_steps_and_a_move_keeps_its_source_until_then():
    params = env.tiny_domain().params
    every = tiny.states(params)
    row = slice(int(tiny.chain().start), int(tiny.chain().start) + 1)
    state = {name: value[row] for name, value in every.items()}
    moved, _, info = model.work(params, state, action=np.array([5]))
    assert not info["invalid"].any()
    assert moved["run"][0, 0].tolist() == [1.0, 1.0]
    moved["mask"] = state["mask"]
    landed, _, _ = model.work(params, moved, action=np.array([0]))
    assert landed["run"][0, 0].tolist() == [0.0, 2.0]
