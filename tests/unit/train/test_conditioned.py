"""`preference: conditioned` through the runner: what it is refused with, what the bundle of each family observes."""

from pathlib import Path

import numpy as np
import pytest
from deep_sea import CONVEX
from pydantic import ValidationError

from rlaas_ray.envs import registry
from rlaas_ray.errors import InvalidInput
from rlaas_ray.evaluation import vector_returns
from rlaas_ray.optimize import choosing
from rlaas_ray.pictures import notebook
from rlaas_ray.policies import bundle
from rlaas_ray.specs.choose import ChooseSpec
from rlaas_ray.specs.evaluate import EvaluateSpec
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.testing.bundles import a_bundle
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.testing.training import train
from rlaas_ray.train import fronts, worlds

RAN, TINY = "rlaas/RanControl-v1", "rlaas/RanControl-tiny-v1"


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"mode": "normal"}, "mode"),
        ({"weights": (0.5, 0.5)}, "weights"),
        ({"reward": "m:f"}, "reward"),
        ({"multi_agent": "shared"}, "multi_agent"),
        ({"algorithm": "bc", "dataset": "log:cells"}, "dataset"),
        ({"fast": "off"}, "fast: off"),
    ],
)
def test_what_fixes_the_weights_does_not_go_with_drawn_ones(more: dict, word: str) -> None:
    with pytest.raises(ValidationError, match=f"without {word}"):
        TrainSpec(env=TINY, preference="conditioned", **more)


def test_an_evaluation_is_of_one_point_or_of_all() -> None:
    with pytest.raises(ValidationError, match="not both"):
        EvaluateSpec(policy="p", env=TINY, front=True, preference={"energy": 1.0})


def test_worlds_of_whole_envs_under_weights_and_without() -> None:
    found = worlds.of(TrainSpec(env=RAN, preference="conditioned", view="flat"))
    assert not found.shared
    assert found.preference is not None
    assert found.preference.scale is None  # the env's own normalised entries
    assert found.observation_space["observation"] == found.flat_observation_space
    assert found.preference == worlds.of(TrainSpec(env=RAN, preference="conditioned", seed=5)).preference


def test_cells_observe_the_weights_of_their_network_and_are_rewarded_by_them() -> None:
    """A network's reward is that of a network which was made with the weights that were drawn."""
    found = worlds.of(TrainSpec(env=RAN, preference="conditioned", env_config={"episode_length": 6}))
    assert found.shared
    env = found.make(envs=2, seed=2, first_index=0)
    seen, _ = env.reset()
    weights = seen[:, -4:].reshape(2, 21, 4)
    np.testing.assert_array_equal(weights, weights[:, :1].repeat(21, axis=1))
    assert len(np.unique(weights[:, 0], axis=0)) == 2
    plain = registry.training_view(RAN).make_vector(
        num_envs=2,
        seed=2,
        config={"episode_length": 6},
        weights=tuple(weights[1, 0].astype(float) / weights[1, 0].sum()),
    )
    own, _ = plain.reset()
    np.testing.assert_array_equal(seen[:, :-4], own)
    actions = np.random.default_rng(0).normal(size=(42, 4)) * 0.1
    after, _, _, _, info = env.step(actions)
    _, _, _, _, other = plain.step(actions)
    assert info["env_reward"][1] == pytest.approx(other["env_reward"][1], rel=1e-6)
    for _ in range(5):
        after, _, _, _, info = env.step(actions)
    assert info["env_done"].all()
    fresh = after[:, -4:].reshape(2, 21, 4)
    assert (fresh[:, 0] != weights[:, 0]).any(axis=1).all()


def test_a_program_with_weights_gives_the_units_what_it_gave_and_the_weights() -> None:
    program = registry.training_view(RAN).program
    flat = np.random.default_rng(0).normal(size=(5, program.flat_size)).astype(np.float32)
    weights = np.random.default_rng(1).random((5, 4)).astype(np.float32)
    found = program.with_weights(4).apply(np.concatenate([flat, weights], axis=1))
    np.testing.assert_allclose(found[:, :, :-4], program.apply(flat), rtol=1e-6)
    np.testing.assert_array_equal(found[:, :, -4:], weights[:, None].repeat(21, axis=1))


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sac"])
def test_what_each_family_learns_is_a_bundle_with_its_front(tmp_path: Path, algorithm: str) -> None:
    reporter, result = trained(
        tmp_path,
        env=CONVEX,
        algorithm=algorithm,
        total_timesteps=1_500,
        network={"hidden": (16,), "activation": "tanh"},
        serving="greedy" if algorithm == "ppo" else None,
    )
    front = result["evaluation"]["front"]
    assert reporter.versions[0]["evaluation"]["front"] == front  # it lies with the version
    assert len(front["preferences"]) == 21
    assert sum(row["chosen"] for row in front["preferences"]) == 1
    assert front["front"][front["chosen"]["index"]] == list(front["chosen"]["objectives"].values())
    assert 0 <= front["hypervolume"] <= 1
    # Choice and pictures read it as they read the front of a search.
    made = choosing.answer(front, ChooseSpec(method="knee"), rng=np.random.default_rng(0))
    assert front["x"][made["chosen"]["index"]] in [row["weights"] for row in front["preferences"]]
    assert "treasure" in notebook.front(front)
    policy = bundle.load(Path(result["bundle"]), engine="numpy")
    assert policy.size == 21 + 2  # the grid one-hot, and the weights
    assert policy.preference.default == tuple(front["chosen"]["x"])


def test_each_weight_meets_the_same_worlds_and_one_alone_earns_the_same(tmp_path: Path) -> None:
    calls: list[int] = []

    def make(n: int):
        calls.append(n)
        return worlds.of(TrainSpec(env=TINY)).make_flat(envs=n, seed=0)

    _, result = trained(tmp_path, env=TINY, total_timesteps=256, batch_size=256, serving="greedy")
    policy = bundle.load(Path(result["bundle"]), engine="numpy")
    weights = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0.25, 0.25, 0.25, 0.25]])
    whole = vector_returns.vector_returns(policy, weights=weights, make_vector=make, episodes=3, seed=4)
    alone = vector_returns.vector_returns(policy, weights=weights[1:2], make_vector=make, episodes=3, seed=4)
    assert calls == [9, 3]
    np.testing.assert_array_equal(whole.values[1], alone.values[0])
    assert (whole.values[0] != whole.values[1]).any()


def trained(directory: Path, **fields: object) -> tuple[TwinReporter, dict]:
    """A short training under drawn weights: who was told, and the result."""
    spec = TrainSpec(preference="conditioned", num_env_runners=0, evaluate={"episodes": 2}, **fields)
    result, reporter = train(spec, directory)
    return reporter, result


def test_a_policy_without_a_preference_has_no_front(tmp_path: Path) -> None:
    a_bundle(tmp_path / "b")
    policy = bundle.load(tmp_path / "b", engine="numpy")
    with pytest.raises(InvalidInput) as refused:
        fronts.measure(policy, make_vector=lambda n: pytest.fail("no env is needed"), seed=0)
    assert "preference: conditioned" in refused.value.cure
