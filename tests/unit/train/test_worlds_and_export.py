"""Worlds of a spec, and the bundle's contents: the same actions as in training, through the shared view as well."""

import sys
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.policies import bundle, spaces
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, export, network, ppo, presets, runner, worlds

RAN = "rlaas/RanControl-v1"


def test_a_users_module_is_known_by_its_folder_and_an_installed_one_is_not() -> None:
    found = worlds.of(TrainSpec(env="counting:Counting"))
    assert found.folder is not None
    assert Path(found.folder, "counting.py").is_file()
    assert worlds.module_of("gymnasium.envs.classic_control.cartpole:CartPoleEnv") is None
    assert worlds.module_of("CartPole-v1") is None


def test_worlds_make_a_users_env_where_its_folder_is_not_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    found = worlds.of(TrainSpec(env="counting:Counting"))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != found.folder])
    monkeypatch.delitem(sys.modules, "counting")
    env = found.make(envs=2, seed=0, first_index=0)
    assert env.num_envs == 2
    env.close()


def test_a_shared_view_of_an_env_that_has_none_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="view of CartPole-v1"):
        worlds.of(TrainSpec(env="CartPole-v1", view="shared"))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"env": "CartPole-v1"}, "cartpole-v1-ppo"),
        ({"env": RAN}, "rancontrol-v1-ppo"),
        ({"env": "my.module:Env"}, "env-ppo"),
        ({"env": "x", "name": "mine"}, "mine"),
    ],
)
def test_a_version_is_named_by_the_spec_or_after_the_env(fields: dict, name: str) -> None:
    assert export.name_of(TrainSpec(**fields)) == name


@pytest.mark.slow
def test_a_bundle_of_the_shared_view_drives_whole_networks_as_training_drove_their_cells() -> None:
    spec = TrainSpec(env=RAN, mode="normal", serving="greedy")
    made, plan = runner.resolve(spec)
    shape = presets.shape_of(plan, made)
    parameters = network.initial(shape, rng=np.random.default_rng(0), policy_gain=1.0, log_std=-1.0)
    rng = np.random.default_rng(1)
    seen = columns.moments(rng.normal(0.3, 0.5, (50, shape.inputs)))
    trained = ppo.trained(parameters, plan=plan, worlds=made, observations=seen)[""]
    given = export.contents(spec, plan=plan, worlds=made, trained=trained, created_us=1)
    policy = bundle.in_memory(given)
    acting = network.Network(parameters, shape)
    mean, scale = columns.scale_of(seen)
    cells, whole = made.make(envs=2, seed=5, first_index=0), made.make_flat(envs=2, seed=5)
    rows, flat = cells.reset()[0], whole.reset()[0]
    for _ in range(3):
        outputs = acting.distribution(columns.normalise(made.encode(rows), mean=mean, scale=scale))
        rows, _, _, _, info = cells.step(outputs[:, : shape.outputs])
        drawn = policy.decide(policy.encode(flat), rng=rng)
        flat, rewards, _, _, _ = whole.step(spaces.actions(policy.action_space, drawn.action))
        np.testing.assert_allclose(info["env_reward"], rewards, atol=1e-5)
    assert len(given.observations) >= bundle.GOLDEN_ROWS
    assert given.net.outputs == 2 * 84
