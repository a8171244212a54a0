"""The offline trainer: budgets in updates and rows, the same curve again and after a resume, what it refuses, what it exports."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import bundle
from rlaas_ray.specs.train import Network, TrainSpec
from rlaas_ray.train import export, families, ledger, runner
from rlaas_ray.train.offline import trainer
from rlaas_ray.train.seam import Build


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    rows = {
        "observation": rng.standard_normal((300, 3)).tolist(),
        "action": rng.uniform(-2, 2, (300, 1)).tolist(),
        "reward": rng.standard_normal(300).tolist(),
        "truncated": (np.arange(300) % 50 == 49).tolist(),
    }
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


def a_spec(data: str, **more) -> TrainSpec:
    given = {"algorithm": "iql", "batch_size": 16, "seed": 5, "network": Network(hidden=(8,)), **more}
    return TrainSpec(env="Pendulum-v1", dataset=data, **given)


def a_trainer(spec: TrainSpec, directory: Path) -> trainer.Offline:
    worlds, plan = runner.resolve(spec)
    build = Build(spec=spec, plan=plan, worlds=worlds, directory=directory, slice_s=0.0, actor_cpus=1.0)
    return families.of(spec).trainer(build)


@pytest.mark.parametrize(("budget", "rows"), [({"updates": 210}, 3360), ({"total_timesteps": 500}, 512)])
def test_the_budget_is_updates_or_rows(data, tmp_path, budget, rows) -> None:
    made = a_trainer(a_spec(data, **budget), tmp_path)
    while not ledger.finished(made.ledger, plan=made._plan):
        made.train()
    assert (made.ledger.steps, made.ledger.rows) == (rows, rows)
    assert made.ledger.episode_return_mean is None
    assert made.stats["dataset_rows"] == 294  # the last row of each episode leads nowhere that is known
    assert made.stats["dataset_episodes"] == 6


@pytest.mark.parametrize("algorithm", ["bc", "marwil", "cql", "iql"])
def test_a_resumed_run_has_the_curve_of_one_that_never_stopped(data, tmp_path, algorithm, monkeypatch) -> None:
    monkeypatch.setattr(trainer, "UPDATES_OF_AN_ITERATION", 5)
    spec = a_spec(data, algorithm=algorithm, updates=100)
    whole, first, second = (a_trainer(spec, tmp_path) for _ in range(3))
    for _ in range(4):
        whole.train()
    for _ in range(2):
        first.train()
    second.load_state(first.state(), ledger=ledger.from_arrays(first.ledger.arrays()))
    for _ in range(2):
        second.train()
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, second.state()[name], err_msg=name)


def test_a_resume_on_other_data_is_refused(data, tmp_path) -> None:
    made = a_trainer(a_spec(data), tmp_path)
    pq.write_table(pq.read_table(data).slice(0, 200), data)
    other = a_trainer(a_spec(data), tmp_path)
    with pytest.raises(InvalidInput, match="resumed training"):
        other.load_state(made.state(), ledger=made.ledger)


@pytest.mark.parametrize("algorithm", ["bc", "cql", "iql"])
def test_the_bundle_computes_what_was_learnt(data, tmp_path, algorithm) -> None:
    spec = a_spec(data, algorithm=algorithm, updates=50)
    made = a_trainer(spec, tmp_path)
    made.train()
    worlds, plan = runner.resolve(spec)
    given = export.contents(spec, plan=plan, worlds=worlds, trained=made.policies()[""], created_us=0)
    policy = bundle.in_memory(replace(given, observations=given.observations))
    learnt = made._engine.learnt()
    rows = made._data.observations[:20]
    values = np.tanh(rows @ learnt.net.weights[0].T + learnt.net.biases[0]) @ learnt.net.weights[1].T
    values += learnt.net.biases[1]
    if learnt.log_std is not None:
        values = np.concatenate([values, np.broadcast_to(learnt.log_std, values.shape)], axis=1)
    raw = np.asarray(pq.read_table(data).column("observation").to_pylist(), dtype=np.float32)[:20]
    np.testing.assert_allclose(policy.distribution(raw), values, atol=1e-5)


def test_rewards_are_scaled_by_the_spread_of_returns(data, tmp_path) -> None:
    made = a_trainer(a_spec(data, gamma=0.9), tmp_path)
    assert made._data.returns.std() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(made._data.observations.mean(axis=0), 0, atol=1e-5)
    assert trainer.scale_of(np.full(4, 3.0, dtype=np.float32)) == 1.0


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"total_episodes": 3}, InvalidInput, "total_episodes"),
        ({"stop_at_return": 3.0}, InvalidInput, "stop_at_return"),
        ({"num_env_runners": 2}, NotBuilt, "actors"),
        ({"view": "shared"}, InvalidInput, "view"),
    ],
)
def test_what_offline_training_has_not_is_refused(data, more, error, words) -> None:
    with pytest.raises(error, match=words):
        runner.resolve(a_spec(data, **more))


def test_actions_that_an_algorithm_cannot_take_are_refused(data) -> None:
    spec = TrainSpec(env="counting:Locks", algorithm="iql", dataset=data)
    worlds, _ = runner.resolve(TrainSpec(env="counting:Locks", algorithm="bc", dataset=data))
    assert "Multi" in str(worlds.action_space)
    with pytest.raises(InvalidInput, match="action space of iql") as caught:
        runner.resolve(spec)
    assert "bc and marwil" in str(caught.value.cure)
