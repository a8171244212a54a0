"""PPO-Lagrangian: multipliers follow costs and stay in bounds, advantages are mixed as the paper says, all of it comes back."""

import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, families, ledger, worlds
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.lagrangian import family
from rlaas_ray.train.rollouts import Costs
from rlaas_ray.train.seam import Situation


def built(**options):
    spec = TrainSpec(
        env="counting:Spend",
        algorithm="ppo_lagrangian",
        num_env_runners=0,
        num_envs_per_runner=2,
        batch_size=60,
        options={"cost_limits": [1.0], **options},
    )
    made = worlds.of(spec)
    plan = families.of(spec).resolve(spec, made)
    return family.collector(plan, made, index=0), family.LagrangianLearning(plan, made)


def sampled(sampler, learning):
    nothing = columns.no_moments(1)
    return sampler.sample(Request(iteration=0, parameters=learning.parameters(), observations=nothing, returns=nothing))


def situation() -> Situation:
    return Situation(ledger=ledger.new(1), used=0.0)


def test_costs_of_episodes_are_summed_over_their_whole_length() -> None:
    sampler, learning = built()
    share = sampled(sampler, learning).columns
    assert share.episode_costs.shape == (4, 1)  # 30 steps of 2 envs: episodes of 10 and an ignored step between
    spent = np.clip(share.columns.actions[:, 0] / 2 + 0.5, 0, 1) ** 2  # the decoder: [-1, 1] to [0, 1]
    assert share.episode_costs.sum() <= spent.sum() + 1e-4
    assert share.advantages.shape == share.targets.shape == (len(share), 1)


def test_episodes_behind_a_view_whose_rows_never_end_tell_their_costs_too() -> None:
    spec = TrainSpec(
        env="rlaas/DroneDelivery-v1",
        env_config={"horizon": 10},
        algorithm="ppo_lagrangian",
        num_env_runners=0,
        num_envs_per_runner=2,
        batch_size=50,
        options={"cost_limits": [0.0] * 3, "multiplier_learning_rate": 1e-9},
    )
    made = worlds.of(spec)
    plan = families.of(spec).resolve(spec, made)
    sampler, learning = family.collector(plan, made, index=0), family.LagrangianLearning(plan, made)
    first, second = (sampled(sampler, learning).columns for _ in range(2))
    assert made.shared
    assert (len(first.episode_costs), len(second.episode_costs)) == (4, 6)  # 25 steps of 2 envs each, episodes of 10


@pytest.mark.parametrize(("limit", "rises"), [(0.0, True), (10.0, False)])
def test_a_multiplier_rises_over_the_limit_and_falls_to_zero_below_it(limit: float, rises: bool) -> None:
    sampler, learning = built(cost_limits=[limit], multiplier_initial=1.0, multiplier_learning_rate=0.5)
    told = [learning.learn([sampled(sampler, learning)], situation=situation()) for _ in range(4)]
    assert (told[-1]["multiplier/0"] > 1.0) == rises
    if not rises:
        assert told[-1]["multiplier/0"] == 0.0


def test_a_multiplier_has_a_highest_value() -> None:
    sampler, learning = built(cost_limits=[0.0], multiplier_learning_rate=100.0, multiplier_max=3.0)
    told = learning.learn([sampled(sampler, learning)], situation=situation())
    assert told["multiplier/0"] == 3.0


def test_advantages_are_mixed_by_the_multipliers() -> None:
    sampler, learning = built(multiplier_initial=2.0)
    fragment = sampled(sampler, learning)
    share = fragment.columns
    mixed = learning._mixed(fragment).columns.advantages
    np.testing.assert_allclose(mixed, (share.columns.advantages - 2 * share.advantages[:, 0]) / 3, rtol=1e-5)


def test_everything_comes_back() -> None:
    sampler, first = built()
    for _ in range(2):
        first.learn([sampled(sampler, first)], situation=situation())
    _, second = built()
    second.load_state(first.state())
    for name, array in first.state().items():
        np.testing.assert_array_equal(second.state()[name], array)
    np.testing.assert_array_equal(second.parameters(), first.parameters())


def test_costs_are_read_from_keys_and_from_the_last_step_of_an_episode() -> None:
    costs = Costs(keys=("cost", "energy"), count=3)
    info = {
        "cost": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "energy": np.array([5.0, 6.0]),
        "final_info": {"cost": np.array([[7.0, 8.0], [0.0, 0.0]])},
        "_final_info": np.array([True, False]),
    }
    np.testing.assert_array_equal(costs.of(info, rows=2), [[7, 8, 5], [3, 4, 6]])
    assert Costs(keys=("cost",), count=1).of({}, rows=2).tolist() == [[0.0], [0.0]]
    with pytest.raises(errors.WorkFailed, match="2 columns"):
        Costs(keys=("cost",), count=1).of(info, rows=2)
