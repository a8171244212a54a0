"""PPO here against RLlib's own connectors and learner: targets, loss, gradients, twenty steps; true returns; one curve a seed.

The same columns go through our path, and as episodes through RLlib's learner connector.
"""

import sys
from collections import deque
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns as Names
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing

from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import analytic, cluster, columns, families, heads, network, runner
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.rllib import algorithm, onray
from rlaas_ray.train.rollouts import Rollouts
from rlaas_ray.train.seam import Build
from rlaas_ray.train.worlds import Worlds

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),  # ray.data, by LearnerGroup
]
ENVS = str(Path(__file__).parents[1] / "train_envs")
if ENVS not in sys.path:
    sys.path.insert(0, ENVS)
STEPS, ROWS = 32, 16


@pytest.fixture(scope="module")
def ray_here():
    _, plan = runner.resolve(TrainSpec(env="CartPole-v1", num_env_runners=2))
    with cluster.connected(plan, address=None):
        yield


def built(tmp_path: Path, **fields):
    spec = TrainSpec(**{"env": "CartPole-v1", "num_env_runners": 0, "normalise_observations": False, **fields})
    worlds, plan = runner.resolve(spec)
    return Build(
        spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0, ray=onray.OnRllib()
    )


@pytest.fixture
def learner(tmp_path: Path, ray_here):
    made = algorithm.build(built(tmp_path, gamma=0.97, gae_lambda=0.9, entropy_coefficient=0.01))
    yield made.learner_group._learner
    made.stop()


def fragment(learner, *, seed: int):
    """T x B steps with ends of both kinds, by a policy somewhat older than the learner's; every row is valid."""
    rng = np.random.default_rng(seed)
    shape = learner._shape
    observations = rng.standard_normal((STEPS + 1, ROWS, shape.inputs), dtype=np.float32)
    # what an episode ended with is not what the next begins with: SAME_STEP
    finals = rng.standard_normal((STEPS, ROWS, shape.inputs), dtype=np.float32)
    terminated = rng.random((STEPS, ROWS)) < 0.05
    truncated = (rng.random((STEPS, ROWS)) < 0.05) & ~terminated
    head = heads.head_of(gymnasium.spaces.Discrete(shape.outputs))
    policy = network.Network(learner.weights().parameters, shape)
    flat = observations[:-1].reshape(-1, shape.inputs)
    old = policy.distribution(flat) + rng.normal(0, 0.2, (len(flat), head.size)).astype(np.float32)
    actions = head.draw(old, heads.noise(head, (len(flat),), rng=rng))
    return {
        "observations": observations,
        "finals": finals,
        "terminated": terminated,
        "truncated": truncated,
        "rewards": rng.standard_normal((STEPS, ROWS), dtype=np.float32),
        "logits": old,
        "actions": actions,
        "log_probabilities": head.evaluate(old, actions).log_probability,
        "policy": policy,
    }


def ours(given, *, gamma: float, gae_lambda: float) -> Columns:
    policy, shape = given["policy"], (STEPS, ROWS)
    width = given["observations"].shape[2]
    values = policy.values(given["observations"].reshape(-1, width)).reshape(STEPS + 1, ROWS)
    done = given["terminated"] | given["truncated"]
    last = policy.values(given["finals"].reshape(-1, width)).reshape(shape)
    advantages, targets = columns.advantages(
        rewards=given["rewards"],
        values=values[:-1],
        following=np.where(done, last, values[1:]),
        terminated=given["terminated"],
        truncated=given["truncated"],
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    return Columns(
        observations=given["observations"][:-1].reshape(-1, width),
        actions=given["actions"],
        log_probabilities=given["log_probabilities"],
        advantages=advantages.reshape(-1),
        targets=targets.reshape(-1),
    )


def episodes(given) -> tuple[list[SingleAgentEpisode], np.ndarray]:
    """The same steps as RLlib's episodes, and for each of its rows the row of ours."""
    found, order = [], []
    flat = {name: given[name].reshape(STEPS, ROWS, -1) for name in ("actions", "log_probabilities", "logits")}
    for b in range(ROWS):
        start = 0
        for t in range(STEPS):
            done = given["terminated"][t, b] or given["truncated"][t, b]
            if not done and t < STEPS - 1:
                continue
            end = given["finals"][t, b] if done else given["observations"][t + 1, b]
            taken = slice(start, t + 1)
            found.append(
                SingleAgentEpisode(
                    observations=[*given["observations"][taken, b], end],
                    actions=list(flat["actions"][taken, b, 0]),
                    rewards=[float(reward) for reward in given["rewards"][taken, b]],
                    terminated=bool(given["terminated"][t, b]),
                    truncated=bool(given["truncated"][t, b]),
                    extra_model_outputs={
                        Names.ACTION_LOGP: list(flat["log_probabilities"][taken, b, 0]),
                        Names.ACTION_DIST_INPUTS: list(flat["logits"][taken, b]),
                    },
                    len_lookback_buffer=0,
                    observation_space=gymnasium.spaces.Box(
                        -np.inf, np.inf, given["observations"].shape[2:], np.float32
                    ),
                    action_space=gymnasium.spaces.Discrete(2),
                )
            )
            order += [step * ROWS + b for step in range(start, t + 1)]
            start = t + 1
    return found, np.array(order)


def theirs(learner, given):
    """RLlib's train batch without its phantom row at the end of each chunk, and our row of each of its rows."""
    chunks, order = episodes(given)
    batch = learner._learner_connector(
        rl_module=learner.module, batch={}, episodes=chunks, explore=False, shared_data={}, metrics=learner.metrics
    )[DEFAULT_MODULE_ID]
    kept = batch[Names.LOSS_MASK].numpy().astype(bool)
    assert kept.sum() == STEPS * ROWS
    return {name: value[torch.from_numpy(kept)] for name, value in batch.items() if len(value) == len(kept)}, order


@pytest.mark.parametrize("seed", [0, 1])
def test_targets_and_advantages_are_those_of_rllibs_connectors(learner, seed: int) -> None:
    given = fragment(learner, seed=seed)
    mine = ours(given, gamma=0.97, gae_lambda=0.9)
    batch, order = theirs(learner, given)
    np.testing.assert_allclose(batch[Postprocessing.VALUE_TARGETS].numpy(), mine.targets[order], atol=5e-6)
    # RLlib standardises over its phantom rows too (trap T3): the same advantages but for one scale and one shift
    standardised = batch[Postprocessing.ADVANTAGES].numpy().astype(np.float64)
    raw = mine.advantages[order].astype(np.float64)
    scale, shift = np.polyfit(raw, standardised, 1)
    np.testing.assert_allclose(standardised, scale * raw + shift, atol=5e-6)
    assert scale == pytest.approx(1 / raw.std(), rel=0.1)


def test_loss_gradients_and_twenty_steps_are_those_of_rllibs_learner(learner) -> None:
    given = fragment(learner, seed=3)
    mine = ours(given, gamma=0.97, gae_lambda=0.9)
    batch, order = theirs(learner, given)
    # the rows that RLlib's learner sees, its own advantages included
    mine = analytic.take(mine, order)
    mine = Columns(
        observations=mine.observations,
        actions=mine.actions,
        log_probabilities=mine.log_probabilities,
        advantages=batch[Postprocessing.ADVANTAGES].numpy(),
        targets=mine.targets,
    )
    flat = learner.weights().parameters
    state = analytic.fresh_state(flat)
    engine = analytic.Analytic(state, shape=learner._shape, head=learner._head, loss=learner._loss)
    named = dict(learner._network.named_parameters())
    order_of = [named[name] for name, _ in network.parameters(learner._shape)]
    adam = torch.optim.Adam([torch.nn.Parameter(p.detach().clone()) for p in order_of], lr=1e-3)
    for step in range(20):
        told = engine.gradient(mine)
        loss = learner.compute_loss_for_module(
            module_id=DEFAULT_MODULE_ID,
            config=learner.config,
            batch=batch,
            fwd_out=learner.module[DEFAULT_MODULE_ID].forward_train(batch),
        )
        assert loss.item() == pytest.approx(told["total_loss"], abs=1e-6), step
        wanted = torch.autograd.grad(loss, order_of)
        gradient = np.concatenate([part.reshape(-1).numpy() for part in wanted])
        np.testing.assert_allclose(state.gradient.numpy(), gradient, atol=5e-6)
        engine.clip()
        total = torch.sqrt(sum((part**2).sum() for part in wanted))
        shrink = min(1.0, learner._loss.gradient_clip / (float(total) + 1e-6))
        for parameter, part in zip(adam.param_groups[0]["params"], wanted, strict=True):
            parameter.grad = part * shrink
        state.adam(1e-3)
        adam.step()
        with torch.no_grad():
            for own, moved in zip(order_of, adam.param_groups[0]["params"], strict=True):
                own.copy_(moved)
    moved = np.concatenate([p.detach().reshape(-1).numpy() for p in order_of])
    np.testing.assert_allclose(state.parameters.numpy(), moved, atol=1e-6)
    assert np.abs(moved - flat).max() > 1e-3


class Told(gymnasium.Wrapper):
    """An env that keeps its own record of true returns."""

    def __init__(self, env, recent) -> None:
        super().__init__(env)
        self._recent, self._total = recent, 0.0

    def reset(self, **kwargs):
        self._total = 0.0
        return super().reset(**kwargs)

    def step(self, action):
        found = super().step(action)
        self._total += float(found[1])
        if found[2] or found[3]:
            self._recent.append(self._total)
        return found


class Watched(Worlds):
    """Worlds whose single envs are handed in."""

    __slots__ = ()

    def make(self, *, envs, seed, first_index):
        env = SyncVectorEnv([self.one] * envs, autoreset_mode=self.mode_of_reset)
        env.reset(seed=seed)
        return env


def watched(one, mode=AutoresetMode.NEXT_STEP, *, env: str = "Pendulum-v1") -> Worlds:
    kind = type("Worlds", (Watched,), {"one": staticmethod(one), "mode_of_reset": mode, "__slots__": ()})
    made = gymnasium.make(env)
    return kind(env=env, observation_space=made.observation_space, action_space=made.action_space)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_mean_return_is_exactly_that_of_a_deque_in_the_envs(tmp_path: Path, mode: AutoresetMode) -> None:
    recent: deque[float] = deque(maxlen=100)
    # a rate at which nothing is learnt, so that episodes stay short
    given = built(tmp_path, env="CartPole-v1", num_envs_per_runner=4, batch_size=128, learning_rate=1e-6)
    worlds = watched(lambda: Told(gymnasium.make("CartPole-v1"), recent), mode, env="CartPole-v1")
    made = families.of(given.spec).trainer(
        Build(spec=given.spec, plan=given.plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0)
    )
    for _ in range(30):
        made.train()
        assert made.ledger.episode_return_mean == (float(np.mean(recent)) if recent else None)
    assert len(recent) == 100


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_both_autoresets_and_single_envs_give_the_same_valid_transitions(env: str) -> None:
    """By a scripted policy of the observation alone: episode by episode, bit for bit."""
    discrete = env == "CartPole-v1"

    def scripted(observations):
        action = (observations[:, 2:3] + 0.3 * observations[:, -1:]).clip(-1, 1)
        return (action > 0).astype(np.int64) if discrete else action.astype(np.float32)

    def through(mode):
        worlds = watched(lambda: Short(gymnasium.make(env)), mode, env=env)
        rollouts = Rollouts(worlds, envs=1, steps=120, seed=7, index=0)
        rollouts.open(0)
        block = rollouts.collect(lambda seen: scripted(seen.observations), entries=1, discrete=discrete)
        v = block.valid[:, 0]
        done = block.done[v, 0]
        return [
            block.observations[:-1][v, 0],
            block.following()[v, 0],
            block.actions[v, 0],
            block.rewards[v, 0],
            block.terminated[v, 0],
            done,
        ], block.returns

    class Short(gymnasium.Wrapper):
        """Ends after 15 steps; every episode begins at the same state, so that modes cannot drift apart by generators."""

        def reset(self, *, seed=None, options=None):
            self._left = 15
            return super().reset(seed=11, options=options)

        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            self._left -= 1
            return observation, reward, terminated, truncated or self._left == 0, info

    next_step, returns = through(AutoresetMode.NEXT_STEP)
    same_step, same_returns = through(AutoresetMode.SAME_STEP)
    single = looped(Short(gymnasium.make(env)), scripted, worlds=watched(None, env=env), count=len(same_step[0]))
    rows = len(next_step[0])
    assert rows < len(same_step[0]) == 120
    for mine, same, alone in zip(next_step, same_step, single, strict=True):
        np.testing.assert_array_equal(mine, same[:rows])
        np.testing.assert_array_equal(same, alone)
    assert returns == same_returns[: len(returns)]


def looped(env, scripted, *, worlds, count):
    """A loop over one env: nothing of ours but encoder and decoder."""
    found = [[] for _ in range(6)]
    observation, _ = env.reset()
    for _ in range(count):
        before = worlds.encode([observation])
        proposed = scripted(before)
        action = worlds.decode(proposed, observations=before)[0]
        observation, reward, terminated, truncated, _ = env.step(action)
        row = (before[0], worlds.encode([observation])[0], proposed[0], reward, terminated, terminated or truncated)
        for column, value in zip(found, row, strict=True):
            column.append(value)
        if terminated or truncated:
            observation, _ = env.reset()
    kinds = (np.float32, np.float32, None, np.float32, bool, bool)
    return [np.array(column, dtype=kind) for column, kind in zip(found, kinds, strict=True)]


@pytest.mark.parametrize("runners", [0, 2])
def test_the_same_seed_gives_the_same_curve(tmp_path: Path, ray_here, runners: int) -> None:
    def curve():
        given = built(tmp_path, num_env_runners=runners, batch_size=256, seed=5, normalise_observations=True)
        made = families.of(given.spec).trainer(given)
        try:
            found = []
            for _ in range(6):
                made.train()
                found.append((made.ledger.steps, made.ledger.episode_return_mean, made.stats.get("total_loss")))
            return found, made.state()["parameters"].copy()
        finally:
            made.stop()

    first, second = curve(), curve()
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
