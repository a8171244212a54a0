"""IMPALA, APPO and A3C on Ray: no barrier, a lag that is told, killed runners, and RLlib's own losses as the oracle."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
from ray.rllib.algorithms.appo.torch.appo_torch_learner import APPOTorchLearner
from ray.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner
from ray.rllib.algorithms.impala.torch.vtrace_torch_v2 import vtrace_torch
from ray.rllib.core.columns import Columns as Names
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.rl_module.apis import TargetNetworkAPI, ValueFunctionAPI

from rlaas_ray import errors, settings
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import autograd, cluster, heads, network, runner
from rlaas_ray.train.asynchronous import flow, impala
from rlaas_ray.train.asynchronous.gradients import Engine, Objective
from rlaas_ray.train.asynchronous.trajectories import Trajectory
from rlaas_ray.train.asynchronous.vtrace import Correction, vtrace
from rlaas_ray.train.rllib import onray
from rlaas_ray.train.seam import Build

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),
]

ENVS = str(Path(__file__).parents[1] / "train_envs")
if ENVS not in sys.path:
    sys.path.insert(0, ENVS)


@pytest.fixture(scope="module")
def own_ray():
    _, plan = runner.resolve(TrainSpec(env="CartPole-v1", num_env_runners=2))
    with cluster.connected(plan, address=None):
        yield
    assert not ray.is_initialized()


def execute(spec: TrainSpec, directory: Path, **more):
    reporter = TwinReporter(
        Run(
            id="train-async",
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
    given = {"run_id": "train-async", "attempt": 1, "reporter": reporter, "clock": settings.SystemClock()}
    result = runner.execute(spec, **{**given, "directory": directory, "stop": threading.Event(), **more})
    return result, reporter


def a_spec(algorithm: str, **more) -> TrainSpec:
    return TrainSpec(
        **{
            "env": "CartPole-v1",
            "algorithm": algorithm,
            "num_env_runners": 2,
            "checkpoint_every_s": 5,
            "evaluate": EvaluateDuring(episodes=8),
            **more,
        }
    )


@pytest.mark.learning
@pytest.mark.usefixtures("own_ray")
@pytest.mark.parametrize("algorithm", ["impala", "appo"])
def test_cartpole_is_balanced_by_two_runners_that_nobody_waits_for(tmp_path: Path, algorithm: str) -> None:
    spec = a_spec(algorithm, total_timesteps=300_000, stop_at_return=475)
    result, reporter = execute(spec, tmp_path)
    assert result["episode_return_mean"] >= 475
    assert result["evaluation"]["return_mean"] >= 400
    last = reporter.rows[-1]
    assert 0 < last["staleness_mean"] <= last["staleness_max"]
    assert last["dropped"] == 0
    assert result["version"]["name"] == f"cartpole-v1-{algorithm}"


@pytest.mark.learning
@pytest.mark.usefixtures("own_ray")
def test_a3c_has_a_lag_and_learns(tmp_path: Path) -> None:
    result, reporter = execute(a_spec("a3c", total_timesteps=300_000, stop_at_return=400), tmp_path)
    assert result["episode_return_mean"] >= 400
    told = [row for row in reporter.rows if "staleness_mean" in row]
    assert told[-1]["staleness_mean"] > 0  # else it would be a synchronous actor-critic under another name
    assert told[-1]["applied_per_s"] > 0
    assert told[-1]["staleness_max"] <= 8


def built(tmp_path: Path, **fields) -> flow.Flow:
    spec = a_spec("impala", **fields)
    worlds, plan = runner.resolve(spec)
    given = Build(
        spec=spec,
        plan=plan,
        worlds=worlds,
        directory=tmp_path,
        slice_s=0.0,
        actor_cpus=0.5,
        ray=onray.OnRllib(),
    )
    return flow.build(impala.PARTS, given)


@pytest.mark.usefixtures("own_ray")
def test_a_killed_runner_is_not_waited_for_and_comes_back(tmp_path: Path) -> None:
    made = built(tmp_path, total_timesteps=50_000_000)
    try:
        while made.ledger.iteration < 8:
            made.train()
        before = made._runners.process_ids()
        assert len(set(before)) == 2
        os.kill(before[0], signal.SIGKILL)
        killed, iteration, longest_s = time.monotonic(), made.ledger.iteration, 0.0
        back = False
        while not back and time.monotonic() - killed < 60:
            started = time.monotonic()
            made.train()
            longest_s = max(longest_s, time.monotonic() - started)
            back = made._runners.restarts == 1 and made.ledger.iteration > iteration + 20
        assert back
        now = made._runners.process_ids()
        assert len(set(now)) == 2
        assert before[0] not in now
        assert before[1] in now
        assert longest_s < 2.0
        assert np.isfinite(made.state()["parameters"]).all()
    finally:
        made.stop()


@pytest.mark.usefixtures("own_ray")
def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    spec = a_spec("appo", total_timesteps=120_000)  # a fast machine samples 40,000 before it is first asked
    halfway = threading.Event()
    first, _ = execute(spec, tmp_path, stop=halfway, on_progress=lambda told: told.steps and halfway.set())
    assert first["state"] == "stopped"
    assert 0 < first["steps"] < 120_000
    second, reporter = execute(spec, tmp_path, attempt=2)
    assert second["state"] == "succeeded"
    assert second["steps"] >= 120_000
    assert ("resumed", first["steps"]) in [(kind, data.get("steps")) for kind, data in reporter.events]


@pytest.mark.usefixtures("own_ray")
def test_an_env_that_always_breaks_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    spec = a_spec("impala", env="counting:Breaks", env_config={"at": 3}, total_timesteps=1000)
    with pytest.raises(errors.WorkFailed, match="the env's own words"):
        execute(spec, tmp_path)


# RLlib's formulas on the same numbers; no Ray is started for these.


@pytest.mark.parametrize("rho_clip", [1.0, 1.7])
def test_vtrace_equals_rllibs_own(rho_clip: float) -> None:
    rng = np.random.default_rng(3)
    size = (20, 6)
    target, behaviour, rewards = (rng.standard_normal(size).astype(np.float32) for _ in range(3))
    values = rng.standard_normal((size[0] + 1, size[1])).astype(np.float32)
    terminated = rng.random(size) < 0.15
    targets, advantages = vtrace(
        log_ratios=target - behaviour,
        rewards=rewards,
        values=values[:-1],
        following=values[1:],
        terminated=terminated,
        truncated=np.zeros(size, dtype=np.bool_),
        correction=Correction(gamma=0.97, rho_clip=rho_clip),
    )
    theirs, their_advantages = vtrace_torch(
        target_action_log_probs=torch.from_numpy(target),
        behaviour_action_log_probs=torch.from_numpy(behaviour),
        discounts=torch.from_numpy(0.97 * (1 - terminated.astype(np.float32))),
        rewards=torch.from_numpy(rewards),
        values=torch.from_numpy(values[:-1]),
        bootstrap_values=torch.from_numpy(values[-1]),
        clip_rho_threshold=rho_clip,
        clip_pg_rho_threshold=rho_clip,
    )
    np.testing.assert_allclose(targets, theirs.numpy(), atol=1e-5)
    np.testing.assert_allclose(advantages, their_advantages.numpy(), atol=1e-5)


SHAPE = network.Shape(inputs=4, hidden=(16,), activation="tanh", outputs=3, free=0)
STEPS, ROWS = 9, 5


class Module(TargetNetworkAPI, ValueFunctionAPI):
    """What RLlib's learners ask of a module, around our network."""

    def __init__(self, network_: autograd.TorchNetwork, target: torch.Tensor) -> None:
        self._network, self._target = network_, target

    def unwrapped(self):
        return self

    def get_train_action_dist_cls(self):
        return TorchCategorical

    def compute_values(self, batch, embeddings=None):
        return self._network.values(batch[Names.OBS])

    def forward_target(self, batch):
        return {"target_network_action_dist_inputs": self._target}

    def make_target_networks(self):
        raise AssertionError

    def get_target_network_pairs(self):
        raise AssertionError


def row_major(array: np.ndarray) -> torch.Tensor:
    """(T, B, ...) -> (B * T, ...), as RLlib's learners take it."""
    return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)).reshape(-1, *array.shape[2:]))


def loss_of_rllib(learner_class, batch: Trajectory, parameters: np.ndarray, *, old_logits, objective: Objective):
    """Loss and flat gradient by RLlib's own `compute_loss_for_module`."""
    module = autograd.TorchNetwork(SHAPE)
    from rlaas_ray.train import analytic

    state = analytic.fresh_state(parameters)
    autograd.bind(module, state, shape=SHAPE)
    observations = row_major(batch.observations[:-1])
    given = {
        Names.OBS: observations,
        Names.ACTIONS: row_major(batch.actions)[:, 0],
        Names.ACTION_LOGP: row_major(batch.log_probabilities),
        Names.REWARDS: row_major(batch.rewards),
        Names.TERMINATEDS: row_major(batch.terminated),
        Names.LOSS_MASK: row_major(batch.valid),
    }
    theirs = SimpleNamespace(
        module={"m": Module(module, row_major(old_logits))},
        entropy_coeff_schedulers_per_module={
            "m": SimpleNamespace(get_current_value=lambda: objective.entropy_coefficient)
        },
        curr_kl_coeffs_per_module={"m": 0.0},
        metrics=SimpleNamespace(log_dict=lambda *args, **kwargs: None),
    )
    config = SimpleNamespace(
        get_rollout_fragment_length=lambda: STEPS,
        gamma=objective.correction.gamma,
        vtrace_clip_rho_threshold=objective.correction.rho_clip,
        vtrace_clip_pg_rho_threshold=objective.correction.rho_clip,
        clip_param=objective.clip,
        vf_loss_coeff=2 * objective.value_coefficient,  # RLlib halves the squared error
        use_kl_loss=False,
    )
    loss = learner_class.compute_loss_for_module(
        theirs,
        module_id="m",
        config=config,
        batch=given,
        fwd_out={Names.ACTION_DIST_INPUTS: module.distribution(observations)},
    )
    loss.backward()
    return loss.item(), state.gradient.numpy()


@pytest.mark.parametrize(("learner_class", "clip"), [(IMPALATorchLearner, None), (APPOTorchLearner, 0.2)])
def test_loss_and_gradient_are_those_of_rllibs_learner(learner_class, clip: float | None) -> None:
    rng = np.random.default_rng(5)
    head, size = heads.Categorical((3,)), (STEPS, ROWS)
    parameters = network.initial(SHAPE, rng=rng, policy_gain=1.0, log_std=0.0)
    observations = rng.standard_normal((STEPS + 1, ROWS, 4), dtype=np.float32)
    flat = network.Network(parameters, SHAPE).distribution(observations[:-1].reshape(-1, 4))
    old_logits, acted = (flat + rng.normal(0, 0.4, flat.shape).astype(np.float32) for _ in range(2))
    actions = head.draw(acted, heads.noise(head, (len(flat),), rng=rng))
    terminated = rng.random(size) < 0.15
    terminated[-1] = True  # every fragment ends an episode: RLlib's own way to bootstrap is another test
    batch = Trajectory(
        observations=observations,
        actions=actions.reshape(*size, 1),
        log_probabilities=head.evaluate(acted, actions).log_probability.reshape(size),
        rewards=rng.standard_normal(size, dtype=np.float32),
        terminated=terminated,
        truncated=np.zeros(size, dtype=np.bool_),
        valid=np.ones(size, dtype=np.bool_),
        masks=None,
        final_at=np.zeros((0, 2), dtype=np.int64),
        final_observations=np.zeros((0, 4), dtype=np.float32),
    )
    objective = Objective(
        correction=Correction(gamma=0.95, rho_clip=1.0),
        clip=clip,
        value_coefficient=0.5,
        entropy_coefficient=0.01,
        gradient_clip=None,
    )
    old = head.evaluate(old_logits, actions).log_probability.reshape(size)
    found = np.zeros_like(parameters)
    engine = Engine(parameters, found, shape=SHAPE, head=head, objective=objective)
    stats = engine.gradient(batch, old=None if clip is None else old)
    loss, wanted = loss_of_rllib(
        learner_class, batch, parameters, old_logits=old_logits.reshape(*size, 3), objective=objective
    )
    assert stats["total_loss"] == pytest.approx(loss, abs=1e-5)
    np.testing.assert_allclose(found, wanted, atol=5e-6)


def test_the_row_that_rllib_appends_to_a_fragment_takes_its_bootstrap_back_and_ours_keeps_it() -> None:
    """ray 2.60: the appended row has reward 0 and discount 0, so its own surprise, -V, flows into the last real row."""
    gamma, reward, value, last = 0.9, 1.0, 3.0, 10.0
    two = torch.tensor([[0.0], [0.0]])
    theirs, _ = vtrace_torch(
        target_action_log_probs=two,
        behaviour_action_log_probs=two,
        discounts=torch.tensor([[gamma], [0.0]]),
        rewards=torch.tensor([[reward], [0.0]]),
        values=torch.tensor([[value], [last]]),
        bootstrap_values=torch.tensor([5.0]),
    )
    one = np.zeros((1, 1), dtype=np.float32)
    ours, _ = vtrace(
        log_ratios=one,
        rewards=one + np.float32(reward),
        values=one + np.float32(value),
        following=one + np.float32(last),
        terminated=one > 0,
        truncated=one > 0,
        correction=Correction(gamma=gamma),
    )
    assert theirs[0, 0].item() == pytest.approx(reward)
    assert ours[0, 0] == pytest.approx(reward + gamma * last)
