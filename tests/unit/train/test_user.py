"""Users' algorithms: what they are handed, what is made of what they give, how they fail, stop and go on."""

import dataclasses
import importlib.metadata
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotBuilt, NotFound, WorkFailed
from rlaas_ray.evaluation import episodes
from rlaas_ray.policies import heads
from rlaas_ray.policies.engines import choice
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import families, ledger
from rlaas_ray.train.seam import Build
from rlaas_ray.train.unexported import Unexported
from rlaas_ray.train.user import calls, finding, plain, policy
from rlaas_ray.train.user import plans as user_plans
from rlaas_ray.train.user.protocol import Exported
from rlaas_ray.train.worlds import Worlds, of


def build(tmp_path: Path, **fields):
    spec = TrainSpec(**{"env": "counting:Counting", "batch_size": 8, "num_envs_per_runner": 2, **fields})
    family = families.of(spec)
    worlds = of(spec)
    plan = family.resolve(spec, worlds)
    given = Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0)
    return family.trainer(given), plan


def until_done(trainer, plan) -> None:
    while not ledger.finished(trainer.ledger, plan=plan):
        trainer.train()


# --- sample, then update ----------------------------------------------------------------------------------------------


def test_steps_are_those_of_the_env_and_its_true_returns_are_counted(tmp_path) -> None:
    trainer, plan = build(tmp_path, algorithm="theirs:Linear", options={"colour": "red"}, gamma=0.5, seed=7)
    trainer.train()
    algorithm = trainer.algorithm
    observed, acted, config, seed = algorithm.given
    assert (observed.shape, acted, config, seed) == ((1,), gs.Discrete(2), {"gamma": 0.5, "colour": "red"}, 7)
    [steps] = algorithm.seen
    np.testing.assert_array_equal(steps.observations[:, 0, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(steps.next_observations[:, 0, 0], [1, 2, 3, 0])
    np.testing.assert_array_equal(steps.valid[:, 0], [True, True, True, False])
    np.testing.assert_array_equal(steps.terminated[:, 0], [False, False, True, False])
    assert steps.actions.shape == (4, 2, 1)
    assert (steps.logp.shape, steps.dist.shape) == ((4, 2), (4, 2, 2))
    assert trainer.ledger.steps == 6
    assert list(trainer.ledger.recent) == [6.0, 6.0]
    assert trainer.stats["updates"] == 1
    assert "text" not in trainer.stats
    assert "nothing" not in trainer.stats
    assert plan.batch == 8


def test_a_checkpoint_goes_on_where_it_was(tmp_path) -> None:
    trainer, _ = build(tmp_path, algorithm="theirs:Linear")
    for _ in range(3):
        trainer.train()
    state = trainer.state()
    other, _ = build(tmp_path, algorithm="theirs:Linear", seed=1)
    other.load_state(state, ledger=trainer.ledger)
    np.testing.assert_array_equal(other.algorithm.weight, trainer.algorithm.weight)
    assert (other.algorithm.updates, other.ledger.steps) == (3, trainer.ledger.steps)
    trainer.train()
    assert not np.array_equal(state["weight"], trainer.algorithm.weight)  # a copy


def test_masks_reach_the_algorithm_and_no_forbidden_action_is_taken(tmp_path) -> None:
    trainer, _ = build(tmp_path, env="recalling:Masked", algorithm="theirs:Linear")
    trainer.train()
    [steps] = trainer.algorithm.seen
    assert np.take_along_axis(steps.masks, steps.actions, axis=2)[steps.valid].all()


def test_a_bounded_box_is_proposed_in_minus_one_to_one_and_executed_in_its_units(tmp_path) -> None:
    trainer, _ = build(tmp_path, env="counting:Reach", algorithm="theirs:Linear")
    trainer.train()
    algorithm = trainer.algorithm
    assert algorithm.given[1] == gs.Box(-1, 1, (1,), np.float32)
    assert algorithm.seen[0].actions.dtype == np.float32
    [trained] = trainer.policies().values()
    assert isinstance(trained.head, heads.Point)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("theirs:Raising", r"update of theirs:Raising.*forgotten.*theirs.py, line \d+"),
        ("theirs:Wide", "shape"),
        ("theirs:Texts", "arrays of numbers"),
    ],
)
def test_what_a_users_code_does_wrong_is_named_with_its_line(tmp_path, name: str, words: str) -> None:
    trainer, _ = build(tmp_path, algorithm=name)

    def run() -> None:
        for _ in range(3):
            trainer.train()
        trainer.state()

    with pytest.raises((WorkFailed, InvalidInput), match=words) as failed:
        run()
    assert failed.value.cure


def test_the_policy_that_is_offered_is_what_choose_action_does(tmp_path) -> None:
    trainer, _ = build(tmp_path, algorithm="theirs:Linear")
    [trained] = trainer.policies().values()
    x = np.random.default_rng(0).normal(size=(32, 1)).astype(np.float32)
    given = choice.make("numpy", network=trained.network, model=b"").distribution(x)
    acted = trainer.algorithm.choose_action(x, explore=False)
    np.testing.assert_array_equal(trained.head.mode(given)[:, 0], acted.action)
    assert trained.serving == "greedy"


def test_without_a_policy_it_is_evaluated_by_its_own_actions_and_says_what_is_missing(tmp_path) -> None:
    trainer, _ = build(tmp_path, algorithm="theirs:Hidden")
    assert trainer.policies() == {}
    assert isinstance(trainer, Unexported)
    assert "policy()" in trainer.told()["bundle_missing"]
    worlds = of(TrainSpec(env="counting:Counting"))
    found = episodes.evaluate(
        trainer.decider(), make_vector=lambda n: worlds.make_flat(envs=n, seed=0), episodes=3, seed=0
    )
    assert found.return_mean == 6.0


def test_actors_are_not_built_for_users_algorithms(tmp_path) -> None:
    with pytest.raises(NotBuilt, match="several processes"):
        build(tmp_path, algorithm="theirs:Linear", num_env_runners=2)


# --- loops of their own -----------------------------------------------------------------------------------------------


def test_a_loop_of_its_own_is_counted_and_ends_with_its_budget(tmp_path) -> None:
    trainer, plan = build(tmp_path, algorithm="theirs:Climber", total_timesteps=100)
    until_done(trainer, plan)
    assert 100 <= trainer.ledger.steps <= 120
    assert set(trainer.ledger.recent) == {6.0}
    assert trainer.stats["used"] == 1.0
    assert trainer.ledger.iteration == trainer.algorithm.updates > 3
    again, _ = build(tmp_path, algorithm="theirs:Climber", total_timesteps=150)
    again.load_state(trainer.state(), ledger=trainer.ledger)
    again.train()
    assert again.ledger.steps > 110
    trainer.stop()


def test_a_loop_that_never_steps_is_told_from_one_that_is_done(tmp_path) -> None:
    trainer, _ = build(tmp_path, algorithm="theirs:Idle")
    with pytest.raises(WorkFailed, match="0 steps"):
        trainer.train()


# --- plain agents -----------------------------------------------------------------------------------------------------


def test_a_plain_agent_trains_in_chunks_and_its_files_are_its_state(tmp_path) -> None:
    trainer, plan = build(tmp_path, algorithm="theirs:Agent", total_episodes=300, options={"luck": 5})
    until_done(trainer, plan)
    assert trainer.agent.agent.calls == [3] * 100
    assert (trainer.ledger.episodes, trainer.ledger.steps) == (300, 900)
    assert trainer.stats == {"metric": 3.0}
    state = trainer.state()
    assert set(state) == {"files/model", "files/model.d/luck.json"}
    assert all(array.dtype == np.uint8 for array in state.values())
    again, _ = build(tmp_path, algorithm="theirs:Agent", total_episodes=300)
    again.load_state(state, ledger=trainer.ledger)
    assert again.agent.agent.luck == trainer.agent.agent.luck == 5 + 300 * 6
    told = trainer.told()
    assert {Path(path).name for path in told["files"]} == {"model", "luck.json"}
    assert all(Path(path).is_relative_to(tmp_path) for path in told["files"])
    assert trainer.policies() == {}


def test_a_plain_agent_acts_in_the_evaluation_as_in_use(tmp_path) -> None:
    trainer, _ = build(tmp_path, algorithm="theirs:Agent")
    decider = trainer.decider()
    raw = np.zeros((4, 1), np.float32)
    drawn = decider.decide(decider.encode(raw), rng=np.random.default_rng(0))
    assert drawn.action.tolist() == [[1.0]] * 4


def test_the_same_seed_trains_a_plain_agent_the_same(tmp_path) -> None:
    luck = []
    for seed in (3, 3, 4):
        trainer, _ = build(tmp_path, env="CartPole-v1", algorithm="theirs:Agent", seed=seed)
        trainer.train()
        luck.append(trainer.agent.agent.luck)
    assert luck[0] == luck[1] != luck[2]


@pytest.mark.parametrize(
    ("name", "options", "words"), [("theirs:Silent", {}, "no file"), ("theirs:Agent", {"lucky": 1}, "lucky")]
)
def test_a_plain_agent_that_cannot_be_held_is_refused(tmp_path, name: str, options: dict, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        build(tmp_path, algorithm=name, options=options)[0].state()


def test_a_path_out_of_the_folder_is_refused(tmp_path) -> None:
    with pytest.raises(InvalidInput, match="another algorithm"):
        plain.write_files({"files/../../x": np.zeros(1, np.uint8)}, folder=tmp_path)


@pytest.mark.parametrize(("episodes_wanted", "chunk"), [(None, 5), (10, 1), (300, 3), (100_000, 50)])
def test_chunks_are_small_against_the_budget(episodes_wanted, chunk: int) -> None:
    spec = TrainSpec(env="x", algorithm="a:B", total_episodes=episodes_wanted)
    assert user_plans.resolve(spec, target="a:B").chunk == chunk


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("theirs:Nothing", InvalidInput, "nothing of that name"),
        ("theirs:value", InvalidInput, "int"),
        ("theirs:Half", InvalidInput, "without update, state, load_state"),
        ("not_there:Class", NotFound, "not_there"),
    ],
)
def test_a_name_that_is_no_algorithm_is_refused_with_the_nearest(tmp_path, name: str, error, words: str) -> None:
    with pytest.raises(error) as refused:
        build(tmp_path, algorithm=name)
    assert words in f"{refused.value.detail} {refused.value.cure}"


def entry(name: str, value: str) -> importlib.metadata.EntryPoint:
    return importlib.metadata.EntryPoint(name=name, value=value, group=finding.GROUP)


def test_broken_and_clashing_plugins_are_told_and_the_others_work() -> None:
    entries = [
        entry("good", "theirs:Linear"),
        entry("broken", "not_there:Class"),
        entry("ppo", "theirs:Linear"),
        entry("twice", "theirs:Linear"),
        entry("twice", "theirs:Hidden"),
    ]
    found = finding.plugins(entries)
    errors = {plugin.name: plugin.error for plugin in found}
    assert errors["good"] is None
    assert "not_there" in errors["broken"]
    assert "built in" in errors["ppo"]
    assert "two packages" in errors["twice"]
    assert finding.target_of("good", entries=entries) == "theirs:Linear"
    for name in ("ppo", "twice"):
        with pytest.raises(InvalidInput, match="of its own"):
            finding.target_of(name, entries=entries)


# --- what they give ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"a": 1, "b": [1, 3], "c": "x", "d": None}, {"a": 1.0, "b": 2.0}),
        ([{"a": 1}, {"a": 3, "b": 2}], {"a": 2.0, "b": 2.0}),
        ([1.0, 2.0], {"metric": 1.5}),
        (np.float32(4), {"metric": 4.0}),
        ({"a": float("inf"), "b": np.array([np.nan])}, {}),
        ("done", {}),
    ],
)
def test_metrics_of_every_common_form_become_numbers(given, wanted: dict) -> None:
    assert calls.numbers(given) == wanted


CARTPOLE = Worlds(env="x", observation_space=gs.Box(-1, 1, (4,)), action_space=gs.Discrete(2))
TWO = [(np.zeros((8, 4)), np.zeros(8), "tanh"), (np.zeros((2, 8)), np.zeros(2), "linear")]


def test_a_torch_sequential_becomes_the_same_network() -> None:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 2)
    )
    mean, std = np.array([1, 2, 3, 4.0]), np.array([1, 2, 1, 2.0])
    made = policy.trained(Exported(layers=net, head="categorical", mean=mean, std=std), worlds=CARTPOLE, target="x")
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    with torch.inference_mode():
        wanted = net(torch.from_numpy(((x - mean) / std).astype(np.float32))).numpy()
    given = choice.make("numpy", network=made.network, model=b"").distribution(x)
    np.testing.assert_allclose(given, wanted, atol=1e-6)


def test_a_gaussian_has_its_log_stds_beside_the_means() -> None:
    worlds = dataclasses.replace(CARTPOLE, action_space=gs.Box(-2, 2, (2,)))
    made = policy.trained(Exported(layers=TWO, head="gaussian", log_std=np.zeros(2)), worlds=worlds, target="x")
    assert made.network.outputs == made.head.size == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Exported(layers=TWO, head="gaussian", log_std=np.zeros(2)), "one for Discrete"),
        (Exported(layers=TWO, head="softmax"), "one for Discrete"),
        (Exported(layers=TWO[:1], head="categorical"), "8 outputs"),
        (Exported(layers=[(np.zeros((2, 3)), np.zeros(2), "linear")], head="categorical"), "takes 3 numbers"),
        (Exported(layers=[(np.zeros((2, 4)), np.zeros(2), "gelu")], head="categorical"), "gelu"),
        (Exported(layers=TWO, head="categorical", mean=np.zeros(4)), "mean or std alone"),
        (Exported(layers=[object()], head="categorical"), "object"),
    ],
)
def test_a_policy_that_does_not_fit_says_where(given: Exported, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        policy.trained(given, worlds=CARTPOLE, target="x")


def test_an_activation_without_its_linear_is_not_read_over() -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    with pytest.raises(InvalidInput, match="Tanh after ReLU"):
        policy.trained(Exported(layers=net, head="categorical"), worlds=CARTPOLE, target="x")


def test_the_env_that_a_loop_is_handed_keeps_the_api_of_vector_envs(tmp_path) -> None:
    from rlaas_ray.train.user.counting import CountedVector, Tally

    tally = Tally(width=0)
    worlds = of(TrainSpec(env="counting:Remember"))
    env = CountedVector(worlds, envs=3, seed=0, tally=tally)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    obs, _ = env.reset()
    assert obs.shape == (3, 5)
    for _ in range(12):
        obs, reward, _terminated, _truncated, _info = env.step(np.zeros(3, dtype=np.int64))
        assert reward.dtype == np.float32
    assert (tally.steps, tally.lengths) == (30, [5] * 6)
    env.close()


# --- a network of one's own in PPO ------------------------------------------------------------------------------------


def model_ppo(tmp_path, function: str, **fields):
    return build(tmp_path, algorithm="ppo", network={"custom": function}, **fields)


def test_the_update_of_an_own_network_is_that_of_the_built_in_ppo(tmp_path) -> None:
    """The same weights, rows and loss: one minibatch moves them as analytic.py's engine does."""
    import torch

    from rlaas_ray.train import analytic, autograd, heads, network
    from rlaas_ray.train.analytic import Loss, Schedule
    from rlaas_ray.train.columns import Columns

    trainer, _ = model_ppo(tmp_path, "theirs:sequential", epochs=1, learning_rate=1e-3, gradient_clip=0.5)
    own = trainer.algorithm
    shape = network.Shape(inputs=1, hidden=(32,), activation="tanh", outputs=2, free=0)
    flat = analytic.fresh_state(np.zeros(sum(int(np.prod(size)) for _, size in network.parameters(shape)), np.float32))
    twin = autograd.TorchNetwork(shape)
    autograd.bind(twin, flat, shape=shape)
    with torch.no_grad():
        for tower, module in ((twin.actor, own._actor), (twin.critic, own._critic)):
            for mine, theirs in zip(tower.parameters(), module.parameters(), strict=True):
                mine.copy_(theirs)
    rng = np.random.default_rng(0)
    rows = Columns(
        observations=rng.normal(size=(64, 1)).astype(np.float32),
        actions=rng.integers(2, size=(64, 1)),
        log_probabilities=np.full(64, -0.7, np.float32),
        advantages=rng.normal(size=64).astype(np.float32),
        targets=rng.normal(size=64).astype(np.float32),
        masks=None,
    )
    loss = Loss(clip=0.2, value_coefficient=0.5, entropy_coefficient=0.0, gradient_clip=0.5)
    engine = analytic.Analytic(flat, shape=shape, head=heads.Categorical((2,)), loss=loss)
    wanted = engine.update(rows, schedule=Schedule(epochs=1, minibatches=1, share=1.0, learning_rate=1e-3), rng=rng)
    given = own._step(rows)
    assert given["policy_loss"] == pytest.approx(wanted["policy_loss"], abs=1e-5)
    moved = torch.cat([parameter.detach().reshape(-1) for parameter in own._actor.parameters()])
    kept = torch.cat([parameter.detach().reshape(-1) for parameter in twin.actor.parameters()])
    torch.testing.assert_close(moved, kept, atol=1e-5, rtol=0)


def test_an_own_network_goes_on_from_its_checkpoint_bit_for_bit(tmp_path) -> None:
    first, _ = model_ppo(tmp_path, "theirs:residual", env="counting:Reach")
    for _ in range(3):
        first.train()
    second, _ = model_ppo(tmp_path, "theirs:residual", env="counting:Reach", seed=1)
    second.load_state(first.state(), ledger=first.ledger)
    for name, array in first.state().items():
        np.testing.assert_array_equal(second.state()[name], array, err_msg=name)


def test_an_own_network_is_exported_where_a_bundle_knows_its_layers(tmp_path) -> None:
    trainer, _ = model_ppo(tmp_path, "theirs:sequential", env="counting:Reach", batch_size=64)
    for _ in range(3):
        trainer.train()
    [trained] = trainer.policies().values()
    assert isinstance(trained.head, heads.DiagonalGaussian)
    x = np.random.default_rng(0).uniform(-50, 50, size=(16, 2)).astype(np.float32)
    given = choice.make("numpy", network=trained.network, model=b"").distribution(x)
    acted = trainer.algorithm.choose_action(x, explore=False)
    np.testing.assert_allclose(given[:, :1], acted.action, atol=1e-5)
    other, _ = model_ppo(tmp_path, "theirs:residual")
    assert other.policies() == {}


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"network": {"custom": "theirs:narrow"}}, InvalidInput, r"\(2, 2\)"),
        ({"network": {"custom": "theirs:nothing"}}, InvalidInput, "nothing of that name"),
        ({"network": {"custom": "theirs:sequential"}, "learning_rate_final": 1e-4}, NotBuilt, "learning_rate_final"),
        ({"network": {"custom": "theirs:sequential"}, "algorithm": "dqn"}, NotBuilt, "dqn"),
        ({"network": {"custom": "theirs:sequential", "memory": "gru"}}, NotBuilt, "memory: gru"),
        ({"network": {"custom": "theirs:sequential"}, "fast": "off"}, NotBuilt, "fast: off"),
        ({"network": {"custom": "theirs:sequential"}, "multi_agent": "shared"}, NotBuilt, "multi_agent"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path, fields: dict, error, words: str) -> None:
    with pytest.raises(error, match=words):
        build(tmp_path, **{"algorithm": "ppo", **fields})


def test_a_network_of_its_own_moves_no_global_generator(tmp_path) -> None:
    import torch

    before = torch.random.get_rng_state()
    trainer, _ = model_ppo(tmp_path, "theirs:sequential")
    trainer.train()
    assert torch.equal(before, torch.random.get_rng_state())
