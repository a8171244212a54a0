"""Offline learning learns: better than the data where that is mixed; from files, the decision log and its export."""

import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.data import decision_log, schema
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.policies import bundle
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.testing import logged
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]
SEEDS = (0, 1, 2)


def train(directory: Path, *, data_url: str | None = None, **spec) -> tuple[float, Path]:
    """The mean return of the evaluation, and the bundle."""
    given = TrainSpec.model_validate(spec)
    run = Run(
        id="train-offline",
        kind="train",
        name=None,
        spec=given.to_json(),
        spec_digest=given.digest(),
        seed=given.seed,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )
    directory.mkdir()
    result = runner.execute(
        given,
        run_id=run.id,
        attempt=1,
        reporter=TwinReporter(run),
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
        data_url=data_url,
    )
    assert result["episode_return_mean"] is None
    return float(result["evaluation"]["return_mean"]), Path(result["bundle"])


# --- CartPole: half of the episodes are noise -------------------------------------------------------------------------


def _balance(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (seen @ np.array([0.1, 0.5, 2.0, 1.0]) > 0).astype(np.int64)


def _noisy(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(len(seen)) < 0.5, rng.integers(0, 2, len(seen)), _balance(seen, rng))


@pytest.mark.parametrize("seed", SEEDS)
def test_learning_from_mixed_data_beats_imitating_it(tmp_path: Path, seed: int) -> None:
    """Every second action of these episodes is noise. A clone of them lasts as long as they did; the others know better."""
    path = tmp_path / "mixed.parquet"
    level = logged.write(path, env="CartPole-v1", policies=[_noisy], rows=8_000, seed=seed, envs=4)
    reached = {
        name: train(tmp_path / name, env="CartPole-v1", algorithm=name, dataset=str(path), seed=seed, updates=3_000)[0]
        for name in ("bc", "marwil", "cql", "iql")
    }
    assert 0.6 * level < reached["bc"] < 1.6 * level
    assert reached["marwil"] > 1.8 * level
    assert min(reached["cql"], reached["iql"]) >= 450


def test_a_clone_of_an_expert_is_as_good_as_the_expert(tmp_path: Path) -> None:
    path = tmp_path / "expert.parquet"
    level = logged.write(path, env="CartPole-v1", policies=[_balance], rows=8_000, seed=0)
    reached, _ = train(
        tmp_path / "bc", env="CartPole-v1", algorithm="bc", dataset=str(path), serving="greedy", updates=2_000
    )
    assert level > 400
    assert reached >= 475


# --- continuous actions ------------------------------------------------------------------------------------------------


def _swing_up(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pump energy until the pole is near the top, then hold it there."""
    angle, speed = np.arctan2(seen[:, 1], seen[:, 0]), seen[:, 2]
    energy = speed**2 / 6 + 5 * (seen[:, 0] - 1)
    swing = np.where(np.abs(speed) < 0.1, 2.0, np.clip(-energy * speed, -2, 2))
    return np.where(np.abs(angle) < 0.5, np.clip(-(10 * angle + 2 * speed), -2, 2), swing)[:, None].astype(np.float32)


def _any_torque(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-2, 2, (len(seen), 1)).astype(np.float32)


def _anywhere(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(2, 6, (len(seen), 1)).astype(np.float32)


@pytest.mark.parametrize("seed", SEEDS)
def test_continuous_actions_are_chosen_from_uniform_ones(tmp_path: Path, seed: int) -> None:
    """Uniform actions are 1.2 off at each of 8 steps; the best constant one 0.5."""
    path = tmp_path / "uniform.parquet"
    logged.write(path, env="counting:Reach", policies=[_anywhere], rows=4_000, seed=seed)
    common = {"env": "counting:Reach", "dataset": str(path), "seed": seed, "serving": "greedy", "batch_size": 128}
    bc, _ = train(tmp_path / "bc", algorithm="bc", updates=1_000, **common)
    iql, _ = train(tmp_path / "iql", algorithm="iql", updates=2_500, **common)
    cql, _ = train(tmp_path / "cql", algorithm="cql", updates=1_500, options={"sampled_actions": 4}, **common)
    assert bc < -3.0
    assert iql > -1.6
    assert cql > -1.6


@pytest.mark.parametrize(("algorithm", "more"), [("iql", {}), ("cql", {"sampled_actions": 4})])
def test_a_pendulum_is_swung_up_from_data_of_which_half_is_noise(tmp_path: Path, algorithm: str, more: dict) -> None:
    path = tmp_path / "mixed.parquet"
    level = logged.write(path, env="Pendulum-v1", policies=[_swing_up, _any_torque], rows=10_000, seed=0)
    common = {"env": "Pendulum-v1", "dataset": str(path), "serving": "greedy", "gamma": 0.98}
    reached, _ = train(tmp_path / "it", algorithm=algorithm, batch_size=128, updates=5_000, options=more, **common)
    assert -700 < level < -450
    assert reached > -400


# --- the decision log: a contextual bandit with known propensities ------------------------------------------------------

ACTIONS, USUAL = 4, 0.4  # every context's usual action is one too low; the right one is as rare as the other two


def _log(root: Path, *, rows: int, seed: int) -> None:
    """Decisions of one step at an endpoint, each with its reward, by the writer that serves."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, ACTIONS, rows)
    shares = np.full((rows, ACTIONS), (1 - USUAL) / (ACTIONS - 1))
    shares[np.arange(rows), (right - 1) % ACTIONS] = USUAL
    action = (shares.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    pay = (action == right) + 0.3 * rng.standard_normal(rows)
    form = schema.decisions(ACTIONS)
    writer = DecisionWriter(root, nonce="aaaaaaaaaa", clock=ManualClock(), metrics=ServingMetrics())
    decisions = [
        {
            **dict.fromkeys(form.names),
            "decision_id": f"d-{i}",
            "endpoint": "shop",
            "epoch": 1,
            "time_us": i,
            "unit": f"u-{i}",
            "episode_id": f"d-{i}",
            "step": 0,
            "arm": "champion",
            "version": "v:1",
            "bundle_digest": "ab",
            "observation": np.eye(ACTIONS, dtype=np.float32)[right[i]],
            "action_proposed": [float(action[i])],
            "action": [float(action[i])],
            "propensity": shares[i, action[i]],
            "arm_probability": 1.0,
            "shield_modified": False,
        }
        for i in range(rows)
    ]
    rewards = [
        {"decision_id": f"d-{i}", "step": 0, "reward": float(pay[i]), "done": True, "truncated": False, "time_us": i}
        for i in range(rows)
    ]
    assert writer.append("decisions", endpoint="shop", rows=decisions, form=form)
    assert writer.append("rewards", endpoint="shop", rows=rewards, form=schema.REWARDS)
    writer.close()


@pytest.mark.parametrize("source", ["log", "export"])
def test_the_best_action_is_found_in_the_decision_log(tmp_path: Path, source: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    _log(root, rows=4_000, seed=1)
    dataset = "log:shop"
    if source == "export":
        dataset = str(tmp_path / "shop.parquet")
        decision_log.ArrowDecisionLog(str(root)).export("shop", to=Path(dataset))
    contexts = np.eye(ACTIONS, dtype=np.float32)
    for name, wanted in (("bc", -1), ("marwil", 0), ("cql", 0), ("iql", 0)):
        _, path = train(
            tmp_path / name,
            data_url=str(root) if source == "log" else None,
            env="counting:Shop",
            algorithm=name,
            dataset=dataset,
            serving="greedy",
            updates=600,
            learning_rate=3e-3,
        )
        parameters = bundle.load(path).distribution(contexts)
        assert parameters.argmax(axis=1).tolist() == [(i + wanted) % ACTIONS for i in range(ACTIONS)], name
