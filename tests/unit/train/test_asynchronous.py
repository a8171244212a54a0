"""IMPALA, APPO and A3C without Ray: gradients against autograd, whole rows, target network, RMSProp, a flow with a known lag."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, families, heads, hosts, network
from rlaas_ray.train import worlds as worlds_of
from rlaas_ray.train.asynchronous import flow, impala, learning, oracle, plan, trajectories
from rlaas_ray.train.asynchronous.collector import ActorLearner, Trajectories
from rlaas_ray.train.asynchronous.flow import Arrival, Flow
from rlaas_ray.train.asynchronous.gradients import Engine, Objective
from rlaas_ray.train.asynchronous.vtrace import Correction
from rlaas_ray.train.fragments import Request, failed
from rlaas_ray.train.seam import Build, Situation

HEADS = {"one": heads.Categorical((3,)), "many": heads.Categorical((3, 2)), "normal": heads.Gaussian(2)}


def a_shape(head: heads.Head, *, activation: str = "tanh") -> network.Shape:
    return network.Shape(inputs=5, hidden=(16, 8), activation=activation, outputs=head.size - head.free, free=head.free)


def an_objective(**more) -> Objective:
    correction = Correction(gamma=0.9, gae_lambda=0.8, rho_clip=1.2, c_clip=0.9)
    return Objective(
        **{
            "correction": correction,
            "clip": None,
            "value_coefficient": 0.5,
            "entropy_coefficient": 0.01,
            "gradient_clip": None,
            **more,
        }
    )


def start(shape: network.Shape) -> np.ndarray:
    return network.initial(shape, rng=np.random.default_rng(0), policy_gain=1.0, log_std=-0.2)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize(
    ("name", "masks"), [("one", False), ("one", True), ("many", False), ("many", True), ("normal", False)]
)
def test_gradients_are_those_of_autograd(name: str, clip: float | None, masks: bool, activation: str) -> None:
    head = HEADS[name]
    shape, objective = a_shape(head, activation=activation), an_objective(clip=clip)
    parameters = start(shape)
    batch, old = oracle.invented(parameters, shape=shape, head=head, rng=np.random.default_rng(7), masks=masks)
    given = None if clip is None else old
    wanted, loss = oracle.gradient(parameters, batch, shape=shape, head=head, objective=objective, old=given)
    found = np.zeros_like(parameters)
    stats = Engine(parameters, found, shape=shape, head=head, objective=objective).gradient(batch, old=given)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert stats["total_loss"] == pytest.approx(loss, abs=1e-6)
    assert np.abs(wanted).max() > 0.01
    if clip is not None:
        assert 0 < stats["clipped_share"] < 1


def test_an_engine_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    head = HEADS["one"]
    shape = a_shape(head)
    monkeypatch.setattr(Engine, "gradient", lambda self, batch, old=None: {})
    with pytest.raises(errors.EngineFailed, match="autograd"):
        oracle.certify(start(shape), shape=shape, head=head, objective=an_objective(), seed=0)


def test_a_long_gradient_is_cut_to_the_norm_asked_for() -> None:
    head = HEADS["one"]
    shape = a_shape(head)
    parameters, gradient = start(shape), np.ones(a_shape(head).size, dtype=np.float32)
    engine = Engine(parameters, gradient, shape=shape, head=head, objective=an_objective(gradient_clip=0.5))
    assert engine.clip() == pytest.approx(np.sqrt(shape.size), rel=1e-5)
    assert np.linalg.norm(gradient) == pytest.approx(0.5, rel=1e-4)
    assert engine.clip() == pytest.approx(0.5, rel=1e-4)


def test_parts_joined_and_rows_taken_give_the_same_gradient() -> None:
    head = HEADS["many"]
    shape, objective = a_shape(head), an_objective()
    parameters = start(shape)
    parts = [oracle.invented(parameters, shape=shape, head=head, rng=np.random.default_rng(seed))[0] for seed in (1, 2)]
    joined = trajectories.join(parts)
    assert joined.rows == 8
    again = trajectories.take(joined, np.array([4, 5, 6, 7]))
    found, wanted = (np.zeros_like(parameters) for _ in range(2))
    Engine(parameters, wanted, shape=shape, head=head, objective=objective).gradient(parts[1])
    Engine(parameters, found, shape=shape, head=head, objective=objective).gradient(again)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(again.final_at, parts[1].final_at)
    assert trajectories.join(parts[:1]) is parts[0]


@pytest.mark.parametrize("minibatch_size", [1, 20, 10_000])
def test_every_epoch_walks_over_every_row_once(minibatch_size: int) -> None:
    head = HEADS["one"]
    batch, _ = oracle.invented(start(a_shape(head)), shape=a_shape(head), head=head, rng=np.random.default_rng(0))
    walked = list(
        trajectories.minibatches(batch, epochs=3, minibatch_size=minibatch_size, rng=np.random.default_rng(0))
    )
    for epoch in range(3):
        rows = np.concatenate([rows for at, rows in walked if at == epoch])
        assert sorted(rows) == [0, 1, 2, 3]


def test_rmsprop_by_hand_with_epsilon_under_the_root() -> None:
    parameters, mean_square = np.array([1.0, 1.0], np.float32), np.zeros(2, np.float32)
    for gradient in ([2.0, 0.0], [1.0, 3.0]):
        learning.rmsprop(
            parameters,
            np.array(gradient, np.float32),
            mean_square=mean_square,
            learning_rate=0.1,
            decay=0.75,
            epsilon=0.5,
        )
    # 0.25 * 4 = 1, then 0.75 * 1 + 0.25 * 1 = 1; and 0, then 0.25 * 9 = 2.25
    np.testing.assert_allclose(mean_square, [1.0, 2.25])
    np.testing.assert_allclose(parameters, [1 - 0.2 / 1.5**0.5 - 0.1 / 1.5**0.5, 1 - 0.3 / 2.75**0.5], rtol=1e-6)


def a_build(**fields) -> Build:
    spec = TrainSpec(**{"env": "CartPole-v1", "algorithm": "impala", "num_env_runners": 0, **fields})
    worlds = worlds_of.of(spec)
    return Build(
        spec=spec,
        plan=families.of(spec).resolve(spec, worlds),
        worlds=worlds,
        directory=Path("unused"),
        slice_s=0.0,
        actor_cpus=1.0,
    )


def a_request(given: Build, parameters: np.ndarray, *, iteration: int = 0) -> Request:
    seen = columns.moments(np.random.default_rng(0).normal(size=(50, 4)))
    return Request(iteration=iteration, parameters=parameters, observations=seen, returns=columns.no_moments(1))


def a_situation(used: float = 0.0) -> Situation:
    from rlaas_ray.train import ledger

    return Situation(ledger=ledger.new(4), used=used)


def test_the_target_network_follows_every_so_many_fragments() -> None:
    given = a_build(algorithm="appo", options={"target_every": 2}, batch_size=64, num_envs_per_runner=4)
    made = learning.VtraceLearning(given.plan, given.worlds)
    collector = impala.PARTS.collector(given.plan, given.worlds, index=0)
    start_at = made.parameters().copy()
    for update in range(1, 5):
        before = made.state()["target"]
        fragment = collector.sample(a_request(given, made.parameters().copy()))
        stats = made.learn([fragment], situation=a_situation())
        target = made.state()["target"]
        np.testing.assert_array_equal(target, made.parameters() if update % 2 == 0 else before)
    assert not np.array_equal(made.parameters(), start_at)
    assert stats["staleness_mean"] == 0
    assert stats["learning_rate"] == pytest.approx(given.plan.learning_rate)
    collector.close()


@pytest.mark.parametrize("algorithm", ["impala", "appo"])
def test_a_resumed_learning_goes_on_as_an_uninterrupted_one(algorithm: str) -> None:
    given = a_build(algorithm=algorithm, batch_size=64, num_envs_per_runner=4)
    first, second = (learning.VtraceLearning(given.plan, given.worlds) for _ in range(2))
    collector = impala.PARTS.collector(given.plan, given.worlds, index=0)
    fragments = [collector.sample(a_request(given, first.parameters().copy())) for _ in range(4)]
    for fragment in fragments[:2]:
        first.learn([fragment], situation=a_situation())
    second.load_state({name: array.copy() for name, array in first.state().items()})
    for fragment in fragments[2:]:
        first.learn([fragment], situation=a_situation(0.5))
        second.learn([fragment], situation=a_situation(0.5))
    assert first.state().keys() == second.state().keys()
    for name, array in first.state().items():
        np.testing.assert_array_equal(second.state()[name], array)
    other = learning.VtraceLearning(
        a_build(algorithm=algorithm, network={"hidden": [8]}).plan, a_build(algorithm=algorithm).worlds
    )
    with pytest.raises(errors.InvalidInput, match="another network"):
        other.load_state(first.state())
    collector.close()


def test_observations_that_only_start_the_statistics_teach_nothing() -> None:
    given = a_build(batch_size=64, num_envs_per_runner=4)
    made = learning.VtraceLearning(given.plan, given.worlds)
    collector = impala.PARTS.collector(given.plan, given.worlds, index=0)
    first = replace(a_request(given, made.parameters().copy()), observations=columns.no_moments(4))
    assert made.learn([collector.sample(first)], situation=a_situation()) == {}
    collector.close()


def a_plan_of_a3c(**fields) -> Build:
    return a_build(**{"algorithm": "a3c", "num_env_runners": 2, "num_envs_per_runner": 4, **fields})


def test_an_actor_learner_sends_the_gradient_of_the_parameters_it_was_sent() -> None:
    given = a_plan_of_a3c()
    store = learning.CentralStore(given.plan, given.worlds)
    actor = ActorLearner(given.plan, given.worlds, index=0)
    request = a_request(given, store.parameters().copy())
    sent = actor.sample(request)
    assert sent.steps <= 20 * 4
    lived = impala.PARTS.collector(given.plan, given.worlds, index=0).sample(request).columns
    shape = network.Shape(inputs=4, hidden=(64, 64), activation="tanh", outputs=2, free=0)
    wanted, _ = oracle.gradient(
        request.parameters, lived, shape=shape, head=heads.Categorical((2,)), objective=plan.objective_of(given.plan)
    )
    wanted *= min(1.0, given.plan.gradient_clip / np.linalg.norm(wanted))
    np.testing.assert_allclose(sent.columns.gradient, wanted, atol=2e-6)
    before = store.parameters().copy()
    store.learn([sent], situation=a_situation())
    moved = store.parameters() - before
    assert (moved[wanted > 1e-4] < 0).all()
    assert (moved[wanted < -1e-4] > 0).all()
    again = learning.CentralStore(given.plan, given.worlds)
    again.load_state(store.state())
    for name, array in store.state().items():
        np.testing.assert_array_equal(again.state()[name], array)
    with pytest.raises(errors.InvalidInput, match="another network"):
        again.load_state({"parameters": np.zeros(3, np.float32), "updates": np.array([0])})
    actor.close()


class InTurn:
    """flow.Runners over one collector: requests are answered in the order in which they were made, `late` of them at once."""

    def __init__(self, given: Build, collector, *, runners: int) -> None:
        self._given, self._collector, self._runners = given, collector, runners
        self.asked: list[tuple[Request, int]] = []
        self.broken = 0
        self.silent = False
        self.stopped = False

    def fill(self, request: Request, *, version: int, each: int) -> None:
        while len(self.asked) < each * self._runners:
            self.asked.append((replace(request, parameters=request.parameters.copy()), version))

    def arrived(self, *, timeout_s: float) -> Arrival | None:
        if self.silent:
            return None
        request, version = self.asked.pop(0)
        if self.broken:
            self.broken -= 1
            return Arrival(fragment=failed(request.observations, reason="Traceback\nValueError: odd"), version=version)
        return Arrival(fragment=self._collector.sample(request), version=version)

    def stop(self) -> None:
        self.stopped = True


def a_flow(given: Build, *, runners: int) -> tuple[Flow, InTurn]:
    twin = InTurn(given, impala.PARTS.collector(given.plan, given.worlds, index=0), runners=runners)
    return Flow(given, learning=learning.VtraceLearning(given.plan, given.worlds), runners=twin), twin


def test_the_lag_is_the_updates_since_the_weights_left() -> None:
    given = a_build(batch_size=32, num_envs_per_runner=4, num_env_runners=3, options={"requests_in_flight": 2})
    made, twin = a_flow(given, runners=3)
    for _ in range(3):
        made.train()  # each runner's first only starts the statistics
    assert "staleness_mean" not in made.stats
    lags = []
    for _ in range(20):
        made.train()
        lags.append(made.stats["staleness_max"])
        assert len(twin.asked) <= 6
    # six requests are under way, so five updates lie between asking and learning once the first round is through
    assert made.stats["staleness_max"] == 5
    assert lags[0] == 0
    assert 4 < made.stats["staleness_mean"] <= 5
    assert made.stats["dropped"] == 0
    assert made.ledger.iteration == 23
    assert set(made.stats) >= {"policy_loss", "vf_loss", "entropy", "mean_kl", "learning_rate", "gradient_norm"}
    made.stop()
    assert twin.stopped


def test_what_is_too_old_is_dropped_and_counted() -> None:
    given = a_build(batch_size=32, num_envs_per_runner=4, num_env_runners=3, options={"requests_in_flight": 2})
    given = replace(given, plan=replace(given.plan, max_staleness=2))
    made, _ = a_flow(given, runners=3)
    for _ in range(20):
        made.train()
    assert made.stats["staleness_max"] <= 2
    assert made.stats["dropped"] > 0
    assert np.isfinite(made.state()["parameters"]).all()


def test_an_env_that_breaks_now_and_then_is_counted_and_one_that_always_breaks_ends_the_run() -> None:
    given = a_build(batch_size=32, num_envs_per_runner=4, num_env_runners=1)
    made, twin = a_flow(given, runners=1)
    made.train()
    twin.broken = 2
    for _ in range(4):
        made.train()
    assert made.ledger.failures == 2
    twin.broken = 9
    made.train()
    made.train()
    with pytest.raises(errors.WorkFailed, match="ValueError: odd"):
        made.train()


def test_silence_returns_to_the_caller_so_that_a_stop_is_heard_and_ends_the_run_at_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = a_build(batch_size=32, num_envs_per_runner=4, num_env_runners=1)
    made, twin = a_flow(given, runners=1)
    twin.silent = True
    made.train()
    assert made.ledger.iteration == 0
    monkeypatch.setattr(flow, "SILENCE_S", -1.0)
    with pytest.raises(errors.WorkFailed, match="no answer"):
        made.train()


def test_a_flow_goes_on_from_a_checkpoint() -> None:
    given = a_build(batch_size=32, num_envs_per_runner=4, num_env_runners=1)
    made, _ = a_flow(given, runners=1)
    for _ in range(6):
        made.train()
    other, twin = a_flow(given, runners=1)
    other.load_state(made.state(), ledger=made.ledger)
    asked: list[Request] = []

    def fill(request: Request, *, version: int, each: int) -> None:
        asked.append(request)

    twin.fill = fill
    twin.silent = True
    other.train()
    np.testing.assert_array_equal(asked[0].parameters, made.state()["parameters"])
    assert asked[0].iteration == made.ledger.iteration == 6
    assert other.policies()[""].network.layers[0].weight.shape == (64, 4)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"num_learners": 1}, errors.NotBuilt, "num_learners"),
        ({"network": {"memory": "lstm"}}, errors.NotBuilt, "memory"),
        ({"multi_agent": "shared"}, errors.NotBuilt, "multi_agent"),
        ({"algorithm": "a3c"}, errors.InvalidInput, "at least 1"),
    ],
)
def test_what_there_is_not_is_refused_with_a_cure(fields, error, said: str) -> None:
    spec = TrainSpec(**{"env": "CartPole-v1", "algorithm": "impala", "num_env_runners": 0, **fields})
    worlds = worlds_of.of(TrainSpec(env="CartPole-v1"))
    with pytest.raises(error, match=said) as caught:
        plan.resolve(spec, worlds)
    assert caught.value.cure


def test_options_reach_the_plan() -> None:
    found = a_build(algorithm="impala", rho_clip=2.0, c_clip=0.5, requests_in_flight=3).plan
    assert (found.rho_clip, found.c_clip, found.requests_in_flight) == (2.0, 0.5, 3)
    found = a_plan_of_a3c(options={"steps_per_gradient": 7, "rms_decay": 0.9}).plan
    assert (found.steps, found.rms_decay, found.max_staleness, found.requests_in_flight) == (7, 0.9, 8, 1)


def test_with_no_env_runners_it_is_one_process_without_a_lag() -> None:
    given = a_build(batch_size=64, num_envs_per_runner=4)
    made = impala.FAMILY.trainer(given)
    assert isinstance(made, hosts.InProcess)
    for _ in range(3):
        made.train()
    assert made.stats["staleness_max"] == 0
    made.stop()


class Ends(gymnasium.vector.VectorEnv):
    """Counts to three and truncates, in one row; SAME_STEP autoreset gives the last observation apart."""

    metadata: ClassVar[dict] = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}

    def __init__(self) -> None:
        self.num_envs = 1
        self._t = 0

    def reset(self, *, seed=None, options=None):
        self._t = 0
        return np.zeros((1, 1), np.float32), {}

    def step(self, actions):
        self._t += 1
        ended = self._t == 3
        info = {"final_obs": np.array([np.array([3.0], np.float32)], dtype=object)} if ended else {}
        self._t %= 3
        return (
            np.full((1, 1), self._t, np.float32),
            np.ones(1),
            np.zeros(1, np.bool_),
            np.array([ended]),
            info,
        )


class Ending(worlds_of.Worlds):
    __slots__ = ()

    def make(self, *, envs, seed, first_index):
        return Ends()


def test_the_last_observation_of_an_episode_is_what_its_last_step_led_to() -> None:
    from rlaas_ray.train.sampler import Sampling

    made = Ending(
        env="ends",
        observation_space=gymnasium.spaces.Box(-9, 9, (1,), np.float32),
        action_space=gymnasium.spaces.Discrete(2),
    )
    shape = network.Shape(inputs=1, hidden=(8,), activation="tanh", outputs=2, free=0)
    sampling = Sampling(envs=1, steps=6, gamma=0.9, gae_lambda=1.0, normalise_observations=False, scale_rewards=False)
    collector = Trajectories(made, sampling=sampling, shape=shape, seed=0, index=0)
    parameters = start(shape)
    request = Request(
        iteration=0, parameters=parameters, observations=columns.no_moments(1), returns=columns.no_moments(1)
    )
    lived = collector.sample(request).columns
    np.testing.assert_array_equal(lived.final_at, [[2, 0], [5, 0]])
    np.testing.assert_array_equal(lived.final_observations, [[3.0], [3.0]])
    assert not lived.warming
    found = np.zeros_like(parameters)
    engine = Engine(parameters, found, shape=shape, head=heads.Categorical((2,)), objective=an_objective())
    values, following = engine._values(lived, kept=[])
    value = network.Network(parameters, shape).values(np.arange(4, dtype=np.float32)[:, None])
    np.testing.assert_allclose(values[:, 0], np.tile(value[:3], 2), rtol=1e-5)
    np.testing.assert_allclose(following[:, 0], np.tile(value[1:], 2), rtol=1e-5)
