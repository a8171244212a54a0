"""The collector of off-policy algorithms: it hands over true transitions; warm-up; a failed env leaves nothing behind."""

import numpy as np
import pytest

from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, families, worlds
from rlaas_ray.train.dqn import network
from rlaas_ray.train.dqn.family import collector
from rlaas_ray.train.dqn.plan import shape_of
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.replay.collector import ReplayCollector


def collecting(*, truncate: bool = False, **options) -> tuple[ReplayCollector, Request]:
    spec = TrainSpec(
        env="counting:Counting",
        algorithm="dqn",
        env_config={"truncate": truncate},
        gamma=0.5,
        num_envs_per_runner=3,
        options={"learning_starts": 0, **options},
    )
    where = worlds.of(spec)
    plan = families.of(spec).resolve(spec, where)
    flat = network.initial(shape_of(plan, where), rng=np.random.default_rng(0))
    nothing = columns.no_moments(1)
    found = collector(plan, where, index=0)
    assert isinstance(found, ReplayCollector)
    return found, Request(iteration=0, parameters=flat, observations=nothing, returns=nothing)


@pytest.mark.parametrize("truncate", [False, True])
def test_transitions_are_the_envs_own_and_only_true_ends_stop_the_bootstrap(truncate: bool) -> None:
    # reward is t + 1, an episode has 3 steps
    found, request = collecting(truncate=truncate)
    fragments = [found.sample(request) for _ in range(6)]
    rows = np.concatenate([fragment.columns for fragment in fragments])
    at = rows["observations"][:, 0]
    assert len(rows) == sum(fragment.steps for fragment in fragments)
    assert set(at.tolist()) == {0.0, 1.0, 2.0}
    np.testing.assert_array_equal(rows["next_observations"][:, 0], at + 1)
    np.testing.assert_array_equal(rows["rewards"], at + 1)
    np.testing.assert_array_equal(rows["discounts"], np.where((at == 2) & (not truncate), 0.0, 0.5))
    assert {float(x) for fragment in fragments for x in fragment.episode_returns} == {6.0}


def test_returns_of_three_steps_end_with_the_episode() -> None:
    found, request = collecting(n_step=3)
    rows = np.concatenate([found.sample(request).columns for _ in range(6)])
    wanted = {0.0: 1 + 0.5 * 2 + 0.25 * 3, 1.0: 2 + 0.5 * 3, 2.0: 3.0}
    for at, reward in wanted.items():
        assert set(rows["rewards"][rows["observations"][:, 0] == at].tolist()) == {reward}
    assert (rows["discounts"] == 0).all()
    assert (rows["next_observations"] == 3).all()


def test_before_learning_starts_actions_are_uniform_whatever_the_network_says() -> None:
    found, request = collecting(learning_starts=1_000, epsilon_initial=0.0, epsilon_final=0.0)
    warm = np.concatenate([found.sample(request).columns["actions"] for _ in range(40)])
    assert 0.35 < warm.mean() < 0.65


def test_a_closed_env_begins_anew_with_nothing_waiting() -> None:
    found, request = collecting(n_step=3)
    found.sample(request)
    found.close()
    rows = found.sample(request).columns
    # 4 steps of 3 envs, of which the first two can have three steps ahead
    assert len(rows) == 6
    assert set(rows["observations"][:, 0].tolist()) == {0.0, 1.0}
    found.close()
