"""Training on Ray: env runners and learner as actors, RLlib's own loss as the oracle, restores, killed and failing runners."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns as Names
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.evaluation.postprocessing import Postprocessing

from rlaas_ray import errors, settings
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import analytic, cluster, columns, heads, network, runner
from rlaas_ray.train.rllib import algorithm
from rlaas_ray.train.seam import Build

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),  # ray.data, by LearnerGroup
]
ENVS = str(Path(__file__).parents[1] / "train_envs")
if ENVS not in sys.path:
    sys.path.insert(0, ENVS)


@pytest.fixture(scope="module", autouse=True)
def _ray():
    _, plan = runner.resolve(TrainSpec(env="CartPole-v1", num_env_runners=3))
    with cluster.connected(plan, address=None):
        yield
    assert not ray.is_initialized()


def execute(spec: TrainSpec, directory: Path, **more):
    reporter = TwinReporter(
        Run(
            id="train-ray",
            kind="train",
            name=None,
            spec=spec.to_json(),
            spec_digest=spec.digest(),
            seed=spec.seed,
            state="running",
            epoch=1,
            attempt=1,
            place="here",
            created_us=0,
        )
    )
    result = runner.execute(
        spec,
        **{
            "run_id": "train-ray",
            "attempt": 1,
            "reporter": reporter,
            "clock": settings.SystemClock(),
            "directory": directory,
            "stop": threading.Event(),
            **more,
        },
    )
    return result, reporter


def built(tmp_path: Path, *, slice_s: float = 0.0, **fields):
    spec = TrainSpec(**{"env": "CartPole-v1", "num_env_runners": 0, **fields})
    worlds, plan = runner.resolve(spec)
    given = Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=slice_s, actor_cpus=1.0)
    return algorithm.build(given)


@pytest.fixture
def algo(tmp_path: Path):
    made = built(tmp_path)
    yield made
    made.stop()


def test_a_default_training_has_two_actors_and_gives_a_bundle(tmp_path: Path) -> None:
    spec = TrainSpec(env="counting:Reach", total_timesteps=6_000, evaluate=EvaluateDuring(episodes=8))
    result, reporter = execute(spec, tmp_path)
    assert ("starting", {"num_env_runners": 2, "num_learners": 0}) in reporter.events
    assert result["state"] == "succeeded"
    assert 6_000 <= result["steps"] <= 8_500
    policy = bundle.load(Path(result["bundle"]))
    assert 2.0 <= float(np.asarray(policy.act(np.array([40.0, 50.0], dtype=np.float32)))[0]) <= 6.0


def test_a_training_attaches_to_the_ray_it_is_given_and_leaves_it_running(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3])\n"
        "import test_train_resume as t; from rlaas_ray.specs.train import TrainSpec\n"
        "spec = TrainSpec(env='counting:Reach', total_timesteps=2000, num_env_runners=1)\n"
        "print(t.execute(spec, Path(sys.argv[1]), ray_address=sys.argv[2])['state'])"
    )
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), address, str(Path(__file__).parent)],
        env={**os.environ, "PYTHONPATH": ENVS},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.strip().endswith("succeeded"), done.stderr
    assert ray.cluster_resources()["CPU"] > 0


def test_every_socket_of_our_own_ray_is_on_loopback() -> None:
    address = ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")
    outside = next((a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)), "127.0.0.1")
    if not outside.startswith("127."):
        with socket.socket() as probe:
            probe.settimeout(1)
            assert probe.connect_ex((outside, int(address.rpartition(":")[2]))) != 0


def test_loss_and_gradient_equal_those_of_rllibs_own_learner(algo) -> None:
    rng = np.random.default_rng(0)
    learner = algo.learner_group._learner
    flat = learner.weights().parameters
    head = heads.head_of(algo.config.action_space)
    observations = rng.standard_normal((300, 4), dtype=np.float32)
    old = network.Network(flat, algo.config.shape).distribution(observations)
    actions = head.draw(old, heads.noise(head, (300,), rng=rng))
    old_logits = old + rng.normal(0, 0.3, old.shape).astype(np.float32)
    batch = columns.Columns(
        observations=observations,
        actions=actions,
        log_probabilities=head.evaluate(old_logits, actions).log_probability,
        advantages=columns.standardise(rng.standard_normal(300, dtype=np.float32)),
        targets=rng.standard_normal(300, dtype=np.float32) * 5,
    )
    state = analytic.fresh_state(flat)
    ours = analytic.Analytic(state, shape=algo.config.shape, head=head, loss=learner._loss).gradient(batch)
    module: MultiRLModule = learner.module
    theirs = {
        Names.OBS: torch.from_numpy(observations),
        Names.ACTIONS: torch.from_numpy(actions[:, 0]),
        Names.ACTION_LOGP: torch.from_numpy(batch.log_probabilities),
        Names.ACTION_DIST_INPUTS: torch.from_numpy(old_logits),
        Postprocessing.ADVANTAGES: torch.from_numpy(batch.advantages),
        Postprocessing.VALUE_TARGETS: torch.from_numpy(batch.targets),
    }
    out = module[DEFAULT_MODULE_ID].forward_train(theirs)
    loss = learner.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID, config=learner.config, batch=theirs, fwd_out=out
    )
    assert loss.item() == pytest.approx(ours["total_loss"], abs=5e-6)
    named = dict(learner._network.named_parameters())
    wanted = torch.autograd.grad(loss, [named[name] for name, _ in network.parameters(algo.config.shape)])
    gradient = np.concatenate([part.reshape(-1).numpy() for part in wanted])
    np.testing.assert_allclose(state.gradient.numpy(), gradient, atol=5e-6)


def test_a_restored_algorithm_samples_with_the_learners_whole_network_critic_included(tmp_path: Path, algo) -> None:
    algo.train()  # the first iteration only starts the statistics of observations
    algo.train()
    saved = algo.weights()
    path = algo.save_to_path(str(tmp_path / "checkpoint"))
    other = built(tmp_path, seed=77)
    try:
        assert not np.array_equal(other.weights().parameters, saved.parameters)
        other.restore_from_path(path)
        restored = other.weights()
        np.testing.assert_array_equal(restored.parameters, saved.parameters)
        np.testing.assert_array_equal(restored.first, saved.first)
        np.testing.assert_array_equal(restored.second, saved.second)
        assert restored.adam_steps == saved.adam_steps > 0
        np.testing.assert_array_equal(other.loop.parameters, saved.parameters)  # what the next request carries
        other.train()
        other.train()
        assert other.weights().adam_steps > saved.adam_steps
        module = other.learner_group._learner.module[DEFAULT_MODULE_ID].unwrapped()
        critic = dict(module.network.named_parameters())["critic.0.weight"].detach().numpy()
        mine = network.views(other.weights().parameters, other.config.shape)["critic.0.weight"]
        np.testing.assert_array_equal(critic, mine)  # RLlib's tensors are views of ours
    finally:
        other.stop()


def test_a_learner_of_its_own_actor_learns_as_a_local_one(tmp_path: Path) -> None:
    local, remote = built(tmp_path), built(tmp_path, num_learners=1)
    try:
        for made in (local, remote):
            made.train()
            made.train()
        np.testing.assert_allclose(remote.weights().parameters, local.weights().parameters, atol=1e-6)
        assert remote.loop.stats.keys() == local.loop.stats.keys()
    finally:
        local.stop()
        remote.stop()


def test_a_killed_runner_comes_back_while_training_goes_on(tmp_path: Path) -> None:
    made = built(tmp_path, num_env_runners=2)
    try:
        made.train()
        before = made.runners.process_ids()
        assert len(set(before)) == 2
        os.kill(before[0], signal.SIGKILL)
        steps, started = made.loop.ledger.steps, time.monotonic()
        while time.monotonic() - started < 25:
            made.train()
            pids = made.runners.process_ids()
            if len(pids) == 2:
                break
        assert len(pids) == 2
        assert before[0] not in pids
        assert made.loop.ledger.steps > steps
        assert np.isfinite(made.weights().parameters).all()
    finally:
        made.stop()


def test_an_env_that_breaks_now_and_then_is_made_anew_and_counted(tmp_path: Path) -> None:
    made = built(
        tmp_path, env="counting:Breaks", env_config={"at": 150, "often": False}, num_env_runners=1, batch_size=64
    )
    try:
        for _ in range(150):
            made.train()
            if made.loop.ledger.failures:
                break
        assert made.loop.ledger.failures == 1
        steps = made.loop.ledger.steps
        made.train()
        assert made.loop.ledger.steps > steps
    finally:
        made.stop()


def test_an_env_that_always_breaks_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    spec = TrainSpec(env="counting:Breaks", env_config={"at": 3}, num_env_runners=1, total_timesteps=1000)
    with pytest.raises(errors.WorkFailed, match="the env's own words"):
        execute(spec, tmp_path)


@pytest.mark.timeout(300)
def test_a_killed_learner_is_made_anew_and_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    spec = TrainSpec(
        env="CartPole-v1",
        num_env_runners=1,
        num_learners=1,
        total_timesteps=12_000,
        batch_size=512,
        evaluate=EvaluateDuring(episodes=2),
    )
    killed: list[int] = []

    def kill(progress) -> None:
        if not killed and progress.steps > 2_000:
            mine = psutil.Process().children(recursive=True)
            # RLlib's learner group wraps its learner in an actor of this name
            (found,) = [p.pid for p in mine if p.cmdline()[:1] == ["ray::_WrappedExecutable"]]
            killed.append(found)
            os.kill(found, signal.SIGKILL)

    result, reporter = execute(spec, tmp_path, on_progress=kill, report_every_s=0.0)
    assert killed
    assert result["state"] == "succeeded"
    assert result["steps"] >= 12_000
    kinds = [kind for kind, _ in reporter.events]
    assert kinds.count("learner_lost") == 1
    resumed = next(data for kind, data in reporter.events if kind == "resumed")
    lost = next(data for kind, data in reporter.events if kind == "learner_lost")
    assert resumed["iteration"] == lost["iteration"] > 0
