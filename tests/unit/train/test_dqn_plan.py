"""DQN's plan, its exploration, and the feed: what a spec becomes, which actions are taken, when updates are due."""

import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, families, worlds
from rlaas_ray.train.dqn import explorer, network
from rlaas_ray.train.dqn.plan import DqnPlan, record_of, shape_of
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.replay import ring
from rlaas_ray.train.replay.feed import Feed


def plan_of(**given) -> DqnPlan:
    spec = TrainSpec(**{"env": "CartPole-v1", "algorithm": "dqn", **given})
    plan = families.of(spec).resolve(spec, worlds.of(spec))
    assert isinstance(plan, DqnPlan)
    return plan


def test_what_the_spec_says_stands_and_the_rest_has_defaults() -> None:
    plan = plan_of(learning_rate=0.01, batch_size=32, n_step=3, options={"buffer_size": 500}, learning_starts=77)
    assert (plan.learning_rate, plan.batch_size, plan.n_step) == (0.01, 32, 3)
    assert (plan.buffer_size, plan.learning_starts) == (500, 77)
    assert plan.actors == 0
    assert plan.double
    assert plan.total_timesteps == 100_000
    assert plan_of(learning_rate_final=0.0).learning_rate_final == 0.0


def test_tau_alone_moves_the_target_at_each_update_and_every_alone_copies() -> None:
    assert (plan_of(tau=0.01).tau, plan_of(tau=0.01).target_every) == (0.01, 1)
    assert (plan_of(target_every=7).tau, plan_of(target_every=7).target_every) == (1.0, 7)


@pytest.mark.parametrize(
    "given",
    [
        {"env": "Pendulum-v1"},
        {"atoms": 11, "v_min": 1.0, "v_max": 1.0},
        {"dueling": True, "network": {"hidden": []}},
    ],
)
def test_what_dqn_cannot_do_is_refused(given: dict) -> None:
    with pytest.raises(InvalidInput):
        plan_of(**given)


def test_epsilon_falls_over_its_share_of_the_budget() -> None:
    plan = plan_of(epsilon_initial=0.9, epsilon_final=0.1, epsilon_fraction=0.5)
    found = [explorer.epsilon(plan, used=used) for used in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(found, [0.9, 0.5, 0.1, 0.1])


def acting(used: float, **options) -> tuple[explorer.EpsilonGreedy, network.QNetwork]:
    plan = plan_of(epsilon_final=0.2, **options)
    shape = shape_of(plan, worlds.of(TrainSpec(env="CartPole-v1")))
    flat = network.initial(shape, rng=np.random.default_rng(0))
    found = explorer.EpsilonGreedy(plan, shape)
    nothing = columns.no_moments(4)
    found.begin(Request(iteration=0, parameters=flat, observations=nothing, returns=nothing, used=used))
    return found, network.QNetwork(flat, shape)


@pytest.mark.parametrize("atoms", [1, 5])
def test_exploring_is_as_often_as_epsilon_says_and_else_the_best(atoms: int) -> None:
    policy, net = acting(1.0, atoms=atoms)
    x = np.random.default_rng(1).standard_normal((20_000, 4), dtype=np.float32)
    taken = policy.act(x, masks=None, rng=np.random.default_rng(2))
    atoms_at = network.support(net.shape, v_min=-10, v_max=10)
    best = explorer.expected(net.outputs(x), shape=net.shape, atoms=atoms_at).argmax(axis=1)
    assert (taken[:, 0] == best).mean() == pytest.approx(0.9, abs=0.01)  # 0.8, and half of the rest by chance


def test_no_forbidden_action_is_explored_or_chosen() -> None:
    policy, _ = acting(0.0)
    masks = np.tile([False, True], (500, 1))
    x = np.zeros((500, 4), np.float32)
    rng = np.random.default_rng(0)
    assert policy.act(x, masks=masks, rng=rng).tolist() == [[1]] * 500
    assert policy.random(500, masks=masks, rng=rng).tolist() == [[1]] * 500


def fragment(count: int) -> Fragment:
    nothing = columns.no_moments(4)
    return Fragment(
        columns=np.zeros(count, dtype=ring.layout(observations=4, actions=1, discrete=True)),
        observations=nothing,
        returns=nothing,
        episode_returns=np.empty(0),
        episode_lengths=np.empty(0, dtype=np.int64),
        steps=count,
        rows=count,
        cpu_s=0.0,
    )


def test_updates_are_due_by_the_step_once_there_is_enough_to_learn_from() -> None:
    plan = plan_of(learning_starts=20, updates_per_step=0.3, buffer_size=1_000, batch_size=8)
    feed = Feed(plan, record_of(worlds.of(TrainSpec(env="CartPole-v1"))))
    assert feed.take([fragment(10)]) == 0
    due = [feed.take([fragment(5), fragment(5)]) for _ in range(10)]
    assert sum(due) == 30
    assert max(due) - min(due) <= 1
    batches = list(feed.samples(70, rng=np.random.default_rng(0), used=0.0))
    assert len(batches) == 70
    assert all(len(batch.rows) == 8 and batch.weights is None for batch in batches)
    assert len({tuple(batch.places) for batch in batches}) == 70


def test_beta_grows_to_one_so_that_weights_undo_priorities_at_the_end() -> None:
    plan = plan_of(learning_starts=0, prioritised=True, priority_beta=0.4, buffer_size=100, batch_size=16)
    feed = Feed(plan, record_of(worlds.of(TrainSpec(env="CartPole-v1"))))
    feed.take([fragment(50)])
    feed.memory.prioritise(np.arange(50), np.linspace(0.01, 5, 50))
    tree = feed.memory.tree
    assert tree is not None
    for used, beta in ((0.0, 0.4), (0.5, 0.7), (1.0, 1.0)):
        (batch,) = feed.samples(1, rng=np.random.default_rng(0), used=used)
        wanted = (50 * tree.leaves[batch.places] / tree.total) ** -beta
        np.testing.assert_allclose(batch.weights, wanted / wanted.max(), rtol=1e-5)
