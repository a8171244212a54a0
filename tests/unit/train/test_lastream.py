"""`lastream` as an algorithm: rows of the env as dataflows, episodes with a line each, checkpoints, what it refuses."""

import json

import numpy as np
import pytest

from rlaas_ray.envs import registry
from rlaas_ray.envs.stream import observation
from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies.lastream import operators
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import families, ledger
from rlaas_ray.train import worlds as worlds_of
from rlaas_ray.train.lastream import flows
from rlaas_ray.train.lastream.trainer import LastreamTrainer
from rlaas_ray.train.seam import Build

WORDCOUNT = "rlaas/StreamParallelism-wordcount-v1"
QUICK = {"keep": 30, "updates": 1, "learning_starts": 100}


def spec(env=WORDCOUNT, **more):
    return TrainSpec(
        env=env, algorithm="lastream", **({"total_episodes": 4, "num_envs_per_runner": 2, "options": QUICK} | more)
    )


def trainer(tmp_path, **more):
    told = spec(**more)
    worlds = worlds_of.of(told)
    plan = families.of(told).resolve(told, worlds)
    return LastreamTrainer(Build(spec=told, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0))


def lived(made):
    found = []
    while not ledger.finished(made.ledger, plan=made._plan):
        made.train()
        found += made.episodes()
    return found


def test_rows_of_the_env_say_what_its_operators_say():
    env = registry.make_vector("rlaas/StreamParallelism-v1", num_envs=2, seed=3, config={"query": "q3"})
    seen, _ = env.reset()
    for action in ([3, 9, 1], [20, 14, 2]):
        seen = env.step(np.array([action, action]))[0]
    flow, state = env.domain.flow, env.state()
    told = flows.Flows(flow, most=flow.max_parallelism).told(seen)
    by_name = operators.parse(observation.operators_info(flow, state, row=1), flow.pairs, max_parallelism=32)
    assert told.names == by_name.names
    assert told.fixed.tolist() == by_name.fixed.tolist()
    assert told.current[1].tolist() == by_name.current[0].tolist()
    tunable = list(flow.tunable)
    rates = np.where(state["true_rate"][1] > 0, state["true_rate"][1], [one.rate for one in flow.operators])[tunable]
    offered = np.array(flow.inflow)[tunable] * (state["offered"][1] / flow.nominal.sum())
    np.testing.assert_allclose(told.demand[1, tunable], offered / rates, rtol=1e-5)
    action = flows.Flows(flow, most=32).proposed(told.current)
    assert action.tolist() == (told.current[:, tunable] - 1).tolist()


def test_every_episode_has_its_line(tmp_path):
    made = trainer(tmp_path)
    lines = lived(made)
    assert [line["episode"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["gain"] == 0.0
    assert lines[3]["gain"] == pytest.approx(lines[3]["reward"] - lines[0]["reward"])
    np.testing.assert_allclose([line["reward"] * 180 for line in lines], list(made.ledger.recent), rtol=1e-5)
    assert all(0.0 <= line["throughput"] <= 1.0 and len(line["scheme"]) == 2 for line in lines)
    assert made.ledger.steps == 4 * 180
    made.stop()


def test_transitions_are_n_step_returns_to_the_next_choice(tmp_path):
    for horizon, discounts in (("td", [0.9**left for left in (3, 2, 1)]), ("bandit", [0.0, 0.0, 0.0])):
        made = trainer(tmp_path, options={"keep": 3, "horizon": horizon, "learning_starts": 10_000})
        made.train()
        rows = made.agent.replay.columns()
        np.testing.assert_allclose(rows["discount"][::2], discounts[::-1])  # the last step is kept first
        rewards = [_raw(rows["reward"][env::2], horizon) for env in (0, 1)]
        assert np.mean(rewards) == pytest.approx(made.agent.scale.mean)
        assert (rows["scheme"][0::2] == rows["scheme"][0]).all()
        made.stop()


def _raw(kept, horizon):
    """The rewards of three steps, from what is kept of them."""
    last, middle, first = kept
    if horizon == "td":
        return [(first - 0.9 * middle) / 0.1, (middle - 0.9 * last) / 0.1, last / 0.1]
    return [first * 3 - middle * 2, middle * 2 - last, last]


def test_a_checkpoint_goes_on(tmp_path):
    one, other = trainer(tmp_path), trainer(tmp_path, seed=9)
    lived(one)
    other.load_state(one.state(), ledger=one.ledger)
    assert {n: v.tolist() for n, v in one.agent.state().items()} == {
        n: v.tolist() for n, v in other.agent.state().items()
    }
    other.train()
    one.stop()
    other.stop()


def test_it_leaves_its_files_and_says_why_there_is_no_bundle(tmp_path):
    made = trainer(tmp_path, total_episodes=2)
    lived(made)
    told = made.told()
    assert made.policies() == {}
    assert "generator" in told["bundle_missing"]
    assert {path.rpartition("/")[2] for path in told["files"]} == {"agent.safetensors", "replay.parquet"}
    json.dumps(told)
    seen = registry.make_vector(WORDCOUNT, num_envs=3, seed=0).reset()[0]
    decider = made.decider()
    decided = decider.decide(decider.encode(seen), rng=np.random.default_rng(0))
    assert decided.action.shape == (3, 2)
    assert decided.propensity.tolist() == [1.0] * 3
    state, kept = decided.state, 0
    for _ in range(QUICK["keep"] - 1):
        again = decider.decide(decider.encode(seen), rng=np.random.default_rng(1), state=state)
        kept, state = kept + int((again.action == decided.action).all()), again.state
    assert kept == QUICK["keep"] - 1
    assert state[:, 0].tolist() == [0.0] * 3
    made.stop()


def test_a_cluster_of_few_slots_is_kept_to(tmp_path):
    made = trainer(tmp_path, total_episodes=2, env_config={"max_total": 12})
    assert all(max(line["scheme"]) <= 11 for line in lived(made))
    made.stop()


@pytest.mark.parametrize(
    ("env", "more", "error", "words"),
    [
        ("CartPole-v1", {}, InvalidInput, "StreamParallelism"),
        ("rlaas/StreamParallelism-tiny-v1", {}, InvalidInput, "StreamParallelism"),
        ("rlaas/StreamParallelism-v1", {"env_config": {"graph_obs": True}}, NotBuilt, "flat"),
        ("rlaas/StreamParallelism-v1", {"env_config": {"query": "mixed"}}, NotBuilt, "flat"),
        (WORDCOUNT, {"env_config": {"action": "delta"}}, NotBuilt, "levels"),
        (WORDCOUNT, {"num_env_runners": 2}, NotBuilt, "2 env runners"),
        (WORDCOUNT, {"serving": "sample"}, InvalidInput, "serving"),
    ],
)
def test_what_it_does_not_read_is_refused(tmp_path, env, more, error, words):
    with pytest.raises(error, match=words):
        trainer(tmp_path, env=env, **more)
