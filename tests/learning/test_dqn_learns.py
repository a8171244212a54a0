"""DQN learns: values of a chain that are known, with each of its extensions; CartPole; and it goes on where it stopped."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from chain import NO_RIGHT_AT, STATES, values

from rlaas_ray import settings
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import bundle
from rlaas_ray.policies.engines.numpy_engine import NumpyEngine
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import families, ledger, runner
from rlaas_ray.train.seam import Build, Situation

pytestmark = [pytest.mark.learning, pytest.mark.slow]

GAMMA = 0.9
UNIFORM = {
    "epsilon_initial": 1.0,
    "epsilon_final": 1.0,
    "learning_starts": 200,
    "buffer_size": 4_000,
    "target_every": 50,
}


def trainer_of(spec: TrainSpec, directory: Path):
    worlds, plan = runner.resolve(spec)
    built = Build(spec=spec, plan=plan, worlds=worlds, directory=directory, slice_s=0.0, actor_cpus=1.0)
    return plan, families.of(spec).trainer(built)


def a_chain(env: str = "chain:Chain", *, steps: int = 8_000, seed: int = 0, **options) -> TrainSpec:
    return TrainSpec(
        env=env,
        algorithm="dqn",
        seed=seed,
        num_env_runners=0,
        batch_size=64,
        gamma=GAMMA,
        learning_rate=3e-3,
        learning_rate_final=1e-4,
        network={"hidden": (32, 32), "activation": "relu"},
        total_timesteps=steps,
        options={**UNIFORM, "updates_per_step": 0.5, **options},
    )


CASES = {
    "plain": {"double": False},
    "double and dueling": {"dueling": True},
    "prioritised": {"prioritised": True, "priority_beta": 1.0},
    "three steps": {"n_step": 3},
    "three steps, prioritised": {"n_step": 3, "prioritised": True, "priority_beta": 1.0},
    "a distribution": {"atoms": 51, "v_min": -0.25, "v_max": 1.25},
    "a moving target": {"tau": 0.02, "target_every": 1},
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_values_of_a_chain_are_those_of_value_iteration(tmp_path: Path, case: str) -> None:
    plan, trainer = trainer_of(a_chain(**CASES[case]), tmp_path)
    while not ledger.finished(trainer.ledger, plan=plan):
        trainer.train()
    found = values_of(trainer, np.eye(STATES, dtype=np.float32))
    wanted = values(gamma=GAMMA, n=plan.n_step)
    np.testing.assert_allclose(found, wanted, atol=0.01 if plan.n_step == 1 else 0.04)


def test_a_forbidden_action_is_neither_taken_nor_bootstrapped_from(tmp_path: Path) -> None:
    plan, trainer = trainer_of(a_chain("chain:Masked"), tmp_path)
    while not ledger.finished(trainer.ledger, plan=plan):
        trainer.train()
    assert trainer.ledger.failures == 0  # the env raises at a forbidden action
    found, wanted = values_of(trainer, np.eye(STATES, dtype=np.float32)), values(gamma=GAMMA, masked=True)
    allowed = np.ones(wanted.shape, dtype=bool)
    allowed[NO_RIGHT_AT, 1] = False
    np.testing.assert_allclose(found[allowed], wanted[allowed], atol=0.04)


def values_of(trainer, observations: np.ndarray) -> np.ndarray:
    """As the bundle will compute them."""
    return NumpyEngine(trainer.policies()[""].network).distribution(observations)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cartpole_is_held_up_six_times_as_long_as_by_chance(tmp_path: Path, seed: int) -> None:
    spec = TrainSpec(
        env="CartPole-v1",
        algorithm="dqn",
        seed=seed,
        num_env_runners=0,
        total_timesteps=30_000,
        stop_at_return=130,
        checkpoint_every_s=600,
        evaluate=EvaluateDuring(episodes=16),
    )
    result = execute(spec, tmp_path)
    assert result["episode_return_mean"] >= 130  # of 100 episodes, explored actions included; chance gives 22
    for engine in ("numpy", "onnx", "torch"):
        assert bundle.load(Path(result["bundle"]), engine=engine).manifest.algorithm == "dqn"


def execute(spec: TrainSpec, directory: Path, *, attempt: int = 1):
    return runner.execute(
        spec,
        run_id="train-dqn",
        attempt=attempt,
        reporter=TwinReporter(a_run(spec)),
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )


def a_run(spec: TrainSpec) -> Run:
    return Run(
        id="train-dqn",
        kind="train",
        name=spec.name,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )


def test_a_run_that_goes_on_with_its_memory_ends_where_one_without_a_break_ends(tmp_path: Path) -> None:
    spec = a_chain(steps=2_000, prioritised=True, n_step=3, buffer_checkpoint_every=1)
    plan, whole = trainer_of(spec, tmp_path)
    _, first = trainer_of(spec, tmp_path)
    for _ in range(30):
        whole.train()
        first.train()
    first.learning.save_buffer(tmp_path / "buffer")
    _, again = trainer_of(spec, tmp_path)
    again.load_state(first.state(), ledger=first.ledger)
    assert again.learning.load_buffer(tmp_path / "buffer")
    # The same fragments for both: envs themselves begin anew after a break.
    for _ in range(10):
        fragment = whole._collector.sample(whole.loop.request())
        situation = Situation(ledger=whole.ledger, used=0.5)
        for one in (whole, again):
            one.learning.learn([fragment], situation=situation)
    np.testing.assert_array_equal(again.learning.parameters(), whole.learning.parameters())
    assert plan.prioritised


def test_a_run_keeps_its_memory_beside_its_checkpoints_and_another_attempt_takes_it_up(tmp_path: Path) -> None:
    spec = a_chain(steps=1_000, buffer_checkpoint_every=1)
    execute(spec, tmp_path)
    head = tmp_path / "checkpoints" / "buffer" / "memory.json"
    assert json.loads(head.read_text())["size"] >= 900
    assert execute(spec, tmp_path, attempt=2)["steps"] >= 1_000
    head.write_text(head.read_text().replace('"format": 1', '"format": 7'))
    with pytest.raises(InvalidInput, match="replay memory"):
        execute(spec, tmp_path, attempt=3)


def test_a_run_that_goes_on_without_its_memory_fills_one_first(tmp_path: Path) -> None:
    spec = a_chain(steps=2_000)
    _, first = trainer_of(spec, tmp_path)
    for _ in range(30):
        first.train()
    _, again = trainer_of(spec, tmp_path)
    again.load_state(first.state(), ledger=first.ledger)
    assert not again.learning.load_buffer(tmp_path / "none")
    before = again.learning.parameters().copy()
    for _ in range(5):
        again.train()
    np.testing.assert_array_equal(again.learning.parameters(), before)
    for _ in range(5):
        again.train()
    assert (again.learning.parameters() != before).any()


@pytest.mark.parametrize("case", ["plain", "three steps, prioritised"])
def test_the_same_seed_twice_gives_the_same_parameters(tmp_path: Path, case: str) -> None:
    found = []
    for _ in range(2):
        plan, trainer = trainer_of(a_chain(steps=1_000, **CASES[case]), tmp_path)
        while not ledger.finished(trainer.ledger, plan=plan):
            trainer.train()
        found.append(trainer.learning.parameters().copy())
    np.testing.assert_array_equal(*found)
