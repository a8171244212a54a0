"""SAC, TD3 and DDPG as families: plans, which actions they take, how they explore, and bundles that act as the trained actor."""

from pathlib import Path

import gymnasium.spaces as gs
import numpy as np
import pytest
from scipy import stats

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import bundle, heads, spaces
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, export, families, worlds
from rlaas_ray.train.actor_critic import explorers, family, learning
from rlaas_ray.train.actor_critic import plan as plans
from rlaas_ray.train.actor_critic.explorers import Choosing, Noisy, Squashed
from rlaas_ray.train.actor_critic.perceptron import Shape, Tape
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.worlds import Worlds


def spec_of(algorithm: str, env: str = "Pendulum-v1", **fields) -> TrainSpec:
    return TrainSpec(env=env, algorithm=algorithm, num_env_runners=0, **fields)


def test_each_name_finds_the_family_and_ddpg_is_td3_without_its_additions() -> None:
    for name in ("sac", "td3", "ddpg"):
        assert families.of(spec_of(name)) is family.FAMILY
    made = worlds.of(spec_of("td3"))
    td3, ddpg = (plans.resolve(spec_of(name), made) for name in ("td3", "ddpg"))
    assert (td3.critics, td3.policy_delay, td3.target_noise, td3.target_noise_clip) == (2, 2, 0.2, 0.5)
    assert (ddpg.critics, ddpg.policy_delay, ddpg.target_noise) == (1, 1, 0.0)


def test_the_specs_own_fields_and_options_win() -> None:
    spec = spec_of(
        "sac",
        batch_size=32,
        learning_rate=2e-4,
        gamma=0.9,
        network={"hidden": (8,), "activation": "tanh"},
        options={"entropy_target": -3.0, "alpha_initial": 0.2, "alpha_learning_rate": 1e-5, "tau": 0.5, "n_step": 3},
    )
    made = worlds.of(spec)
    plan = plans.resolve(spec, made)
    assert (plan.batch_size, plan.learning_rate, plan.gamma, plan.hidden, plan.n_step) == (32, 2e-4, 0.9, (8,), 3)
    told = plans.soft_settings(plan, made)
    assert (told.entropy_target, told.alpha_initial, told.alpha_learning_rate, told.tau) == (-3.0, 0.2, 1e-5, 0.5)
    default = plans.soft_settings(plans.resolve(spec_of("sac"), made), made)
    assert default.entropy_target == -1.0


@pytest.mark.parametrize(
    ("algorithm", "space"),
    [
        ("sac", gs.MultiDiscrete([2, 3])),
        ("sac", gs.Box(-np.inf, np.inf, (2,))),
        ("td3", gs.Discrete(3)),
        ("ddpg", gs.Box(np.array([0.0], np.float32), np.array([np.inf], np.float32))),
    ],
)
def test_actions_that_cannot_be_learnt_are_refused_with_a_cure(algorithm: str, space) -> None:
    made = Worlds(env="x", observation_space=gs.Box(-1, 1, (2,)), action_space=space)
    with pytest.raises(InvalidInput) as raised:
        plans.resolve(spec_of(algorithm, "x"), made)
    assert "ppo" in raised.value.cure


def acting(kind, *, rows: int = 4_000, outputs: int = 2, **more):
    shape = Shape(inputs=3, hidden=(8,), outputs=outputs, activation="relu")
    flat = np.random.default_rng(0).normal(0, 0.5, shape.size).astype(np.float32)
    explorer = kind(shape, **more)
    nothing = columns.no_moments(1)
    explorer.begin(Request(iteration=0, parameters=flat, observations=nothing, returns=nothing))
    observations = np.tile(np.array([0.3, -0.2, 0.9], np.float32), (rows, 1))
    return explorer, observations


def test_sac_explores_by_its_own_density() -> None:
    explorer, observations = acting(Squashed, entries=1)
    drawn = explorer.act(observations, masks=None, rng=np.random.default_rng(1))
    mean, log_std = explorer.outputs(observations)[0]
    assert drawn.dtype == np.float32
    assert stats.kstest(np.arctanh(drawn[:, 0]), stats.norm(mean, np.exp(log_std)).cdf).pvalue > 1e-3


def test_td3_explores_by_gaussian_noise_inside_the_bounds() -> None:
    explorer, observations = acting(Noisy, entries=2, deviation=0.3)
    drawn = explorer.act(observations, masks=None, rng=np.random.default_rng(1))
    centre = np.tanh(explorer.outputs(observations)[0])
    assert np.abs(drawn).max() <= 1
    inside = (np.abs(drawn) < 1).all(axis=1)
    assert inside.mean() > 0.5
    assert np.median(drawn, axis=0) == pytest.approx(centre, abs=0.03)


def test_discrete_sac_never_takes_a_forbidden_action() -> None:
    explorer, observations = acting(Choosing, outputs=4)
    rng = np.random.default_rng(2)
    masks = rng.random((len(observations), 4)) < 0.5
    masks[np.arange(len(masks)), rng.integers(4, size=len(masks))] = True
    rows = np.arange(len(masks))
    for drawn in (
        explorer.act(observations, masks=masks, rng=rng)[:, 0],
        explorer.random(len(masks), masks=masks, rng=rng)[:, 0],
    ):
        assert masks[rows, drawn].all()
    free = explorer.random(40_000, masks=None, rng=rng)[:, 0]
    assert stats.chisquare(np.bincount(free, minlength=4)).pvalue > 1e-3


def test_an_index_without_mass_is_never_chosen() -> None:
    class Ends:
        def random(self, shape) -> np.ndarray:
            return np.array([[0.0], [1.0 - 2.0**-53]])

    mass = np.array([[0.0, 0.5, 0.5, 0.0]] * 2, np.float32)
    np.testing.assert_array_equal(explorers.chosen(mass, rng=Ends()), [[1], [2]])


def test_uniform_actions_fill_the_whole_range() -> None:
    explorer, _ = acting(Squashed, entries=1)
    drawn = explorer.random(20_000, masks=None, rng=np.random.default_rng(3))
    assert stats.kstest(drawn[:, 0], stats.uniform(-1, 2).cdf).pvalue > 1e-3


KINDS = {
    "sac": ("sac", {}, heads.SquashedGaussian(entries=1), "sample"),
    "td3": ("td3", {}, heads.DiagonalGaussian(entries=1), "greedy"),
    "td3 with its noise": ("td3", {"serving": "sample"}, heads.DiagonalGaussian(entries=1), "sample"),
    "ddpg without noise": ("ddpg", {"options": {"exploration_noise": 0.0}}, heads.Point(entries=1), "greedy"),
}


@pytest.mark.slow  # bundles are certified by all three engines
@pytest.mark.parametrize("case", sorted(KINDS))
def test_the_bundle_acts_as_the_actor_in_the_envs_units(tmp_path: Path, case: str) -> None:
    algorithm, fields, head, serving = KINDS[case]
    spec = spec_of(algorithm, "counting:Reach", normalise_observations=True, **fields)
    made = worlds.of(spec)
    plan = plans.resolve(spec, made)
    learner = learning.ActorCriticLearning(plan, made)
    seen = columns.moments(np.random.default_rng(1).normal(40, 5, (50, 2)))
    trained = learner.policies(observations=seen)[""]
    assert trained.head == head
    given = export.contents(spec, plan=plan, worlds=made, trained=trained, created_us=0)
    export.write(tmp_path / "b", given, evaluation={})
    observations = np.array([[33.0, 50.0], [48.0, 50.0]], np.float32)
    mean, scale = columns.scale_of(seen)
    tape = Tape(learner._engine.actor.shape, rows=2)
    tape.inputs[:] = columns.normalise(observations, mean=mean, scale=scale)
    outputs = learner._engine.actor.parts[0].forward(tape)
    for engine in ("numpy", "onnx", "torch"):
        policy = bundle.load(tmp_path / "b", engine=engine)
        assert policy.serving == serving
        found = policy.distribution(observations)
        wanted = outputs if algorithm == "sac" else np.tanh(outputs)
        np.testing.assert_allclose(found[:, : wanted.shape[1]], wanted, atol=1e-5)
        if case.startswith("td3"):
            np.testing.assert_allclose(np.exp(found[:, 1:]), 0.1, atol=1e-6)
        drawn = policy.decide(observations, rng=np.random.default_rng(0))
        np.testing.assert_allclose(drawn.action, np.clip(4 + 2 * drawn.action_proposed, 2, 6), atol=1e-12)
        mode = np.tanh(outputs[:, :1].astype(float))
        if serving == "greedy":
            np.testing.assert_allclose(drawn.action_proposed, mode, atol=1e-5)
            np.testing.assert_array_equal(drawn.propensity, 1.0)
        else:
            assert np.log(drawn.propensity) == pytest.approx(policy.head.log_prob(found, drawn.action_proposed))
        spaces.actions(made.action_space, drawn.action)
