"""Logged data as training columns: the decision log as it is written, its export, Parquet, Minari; and what is refused."""

import warnings

import gymnasium
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaas_ray.data import schema, training_rows
from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.train.offline import dataset, sources

SEEN = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
CHOICE = gymnasium.spaces.Discrete(3, start=1)
TORQUE = gymnasium.spaces.Box(-2.0, 6.0, (1,), np.float32)
_US = 1_700_000_000_000_000


def decision(name, *, episode=None, step=0, **more):
    """A row as serve/decide.py makes it: action 2 of CHOICE was proposed as index 1."""
    return {
        "decision_id": name,
        "endpoint": "shop",
        "epoch": 1,
        "time_us": _US + step,
        "unit": "u",
        "episode_id": episode or name,
        "step": step,
        "arm": "champion",
        "version": "v:1",
        "bundle_digest": "ab",
        "observation": np.array([step, 1.0], dtype=np.float32),
        "action_mask": None,
        "action_proposed": np.array([1.0]),
        "action": np.array([2.0]),
        "propensity": 0.5,
        "probabilities": None,
        "arm_probability": 0.9,
        "shield_modified": False,
        "fallback": None,
        "excluded": None,
        "latency_us": 100,
        **more,
    }


def reward(name, value, *, step=0, done=False, truncated=False, time_us=_US):
    return {
        "decision_id": name,
        "step": step,
        "reward": value,
        "done": done,
        "truncated": truncated,
        "time_us": time_us,
    }


@pytest.fixture
def log(tmp_path):
    """A function that writes rows with the product's own writer and gives the log's root."""

    def write(decisions, rewards):
        writer = DecisionWriter(tmp_path, nonce="aaaaaaaaaa", clock=ManualClock(), metrics=ServingMetrics())
        assert writer.append("decisions", endpoint="shop", rows=decisions, form=schema.decisions(2))
        if rewards:
            assert writer.append("rewards", endpoint="shop", rows=rewards, form=schema.REWARDS)
        writer.close()
        return str(tmp_path)

    return write


def columns(root, *, action_space=CHOICE, gamma=0.5, observation_space=SEEN):
    rows = sources.read("log:shop", data_url=root)
    return dataset.columns_of(rows, observation_space=observation_space, action_space=action_space, gamma=gamma)


def test_an_episode_has_its_next_observations_returns_and_end(log) -> None:
    found = columns(
        log(
            [decision(f"e-{i}", episode="e", step=i) for i in range(3)],
            [reward("e-0", 1.0), reward("e-1", 2.0), reward("e-2", 4.0, done=True)],
        )
    )
    np.testing.assert_array_equal(found.observations[:, 0], [0, 1, 2])
    np.testing.assert_array_equal(found.following[:2, 0], [1, 2])
    assert found.actions.tolist() == [[1], [1], [1]]
    assert found.terminated.tolist() == [False, False, True]
    assert found.complete.all()
    np.testing.assert_allclose(found.returns, [3.0, 4.0, 4.0])  # 1 + 2/2 + 4/4
    assert found.tail_discount.tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.log_probabilities, np.log(0.5))
    assert found.episode_returns.tolist() == [7.0]


def test_a_decision_alone_is_an_episode_of_one_step_once_it_is_rewarded(log) -> None:
    found = columns(log([decision("a"), decision("b"), decision("c")], [reward("a", 1.0), reward("c", 3.0)]))
    assert found.rewards.tolist() == [1.0, 3.0]
    assert found.terminated.all()
    assert found.returns.tolist() == [1.0, 3.0]


def test_rewards_of_a_decision_are_summed_and_the_first_of_a_step_stays(log) -> None:
    given = [
        reward("a", 1.0, step=0, time_us=_US + 5),
        reward("a", 9.0, step=0, time_us=_US + 6),
        reward("a", 0.5, step=1),
        reward("a", float("nan"), step=2),
        reward("gone", 7.0),
    ]
    assert columns(log([decision("a"), decision("a")], given)).rewards.tolist() == [1.5]


def test_sparse_rewards_count_as_zero_before_the_last_one_and_as_unknown_after_it(log) -> None:
    found = columns(log([decision(f"e-{i}", episode="e", step=i) for i in range(4)], [reward("e-1", 8.0)]))
    assert found.rewards.tolist() == [0.0, 8.0]
    assert found.complete.all()
    # the episode is open: what the third decision saw is where the known part ends
    np.testing.assert_allclose(found.returns, [4.0, 8.0])
    np.testing.assert_allclose(found.tail_discount, [0.25, 0.5])
    np.testing.assert_array_equal(found.ends[found.tail][:, 0], [2, 2])


def test_a_truncated_episode_ends_without_a_known_next_observation(log) -> None:
    found = columns(
        log(
            [decision(f"e-{i}", episode="e", step=i) for i in range(2)],
            [reward("e-0", 1.0), reward("e-1", 1.0, truncated=True)],
        )
    )
    assert found.terminated.tolist() == [False, False]
    assert found.complete.tolist() == [True, False]
    assert found.tail_discount[0] == 0.5


def test_a_lost_decision_breaks_the_chain(log) -> None:
    found = columns(
        log(
            [decision(f"e-{i}", episode="e", step=i) for i in (0, 2, 3)],
            [reward(f"e-{i}", 1.0, done=i == 3) for i in (0, 2, 3)],
        )
    )
    assert found.complete.tolist() == [False, True, True]


def test_fallbacks_and_the_excluded_are_not_learnt_from_but_seen_as_next_observation(log) -> None:
    failed = {"fallback": "deadline", "action": np.empty(0), "action_proposed": np.empty(0), "propensity": None}
    found = columns(
        log(
            [
                decision("e-0", episode="e", step=0),
                decision("e-1", episode="e", step=1, **failed),
                decision("e-2", episode="e", step=2, excluded="holdout"),
                decision("e-3", episode="e", step=3),
            ],
            [reward(f"e-{i}", 1.0, done=i == 3) for i in range(4)],
        )
    )
    np.testing.assert_array_equal(found.observations[:, 0], [0, 3])
    assert found.following[0, 0] == 1
    np.testing.assert_allclose(found.returns, [1.875, 1.0])


def test_a_box_action_is_the_proposal_where_it_decodes_to_what_was_done(log) -> None:
    rows = [
        decision("a", action_proposed=np.array([1.5]), action=np.array([6.0])),  # clipped by our decoder
        decision("b", action_proposed=np.array([4.0]), action=np.array([4.0])),  # a built-in policy, in the env's units
    ]
    found = columns(log(rows, [reward("a", 1.0), reward("b", 1.0)]), action_space=TORQUE)
    np.testing.assert_allclose(found.actions[:, 0], [1.5, 0.5])
    assert np.isfinite(found.log_probabilities).tolist() == [True, False]


def test_the_export_is_read_as_the_log_is(log, tmp_path) -> None:
    root = log(
        [decision(f"e-{i}", episode="e", step=i) for i in range(3)],
        [reward("e-0", 1.0), reward("e-2", 4.0, done=True)],
    )
    ArrowDecisionLog(root).export("shop", to=tmp_path / "shop.parquet")
    exported = sources.read(str(tmp_path / "shop.parquet"), data_url=None)
    other = dataset.columns_of(exported, observation_space=SEEN, action_space=CHOICE, gamma=0.5)
    found = columns(root)
    for name in ("observations", "actions", "rewards", "following", "terminated", "returns", "tail_discount"):
        np.testing.assert_array_equal(getattr(found, name), getattr(other, name), err_msg=name)


def test_returns_to_go_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    rewards, linked = rng.standard_normal(200), rng.random(200) < 0.9
    linked[-1] = False
    wanted = rewards.copy()
    for i in range(198, -1, -1):
        if linked[i]:
            wanted[i] += 0.9 * wanted[i + 1]
    returns, tail, discount = dataset.to_go(rewards, linked=linked, gamma=0.9)
    np.testing.assert_allclose(returns, wanted)
    steps = tail - np.arange(200)
    assert all(linked[i : tail[i]].all() and not linked[tail[i]] for i in range(200))
    np.testing.assert_allclose(discount, 0.9 ** (steps + 1))


def test_anybodys_parquet_is_read_in_the_order_of_its_episodes(tmp_path) -> None:
    table = pa.table(
        {
            "observation": [[1.0, 0.0], [9.0, 0.0], [0.0, 0.0]],
            "action": [3, 1, 2],
            "reward": [2, 5, 1],
            "terminated": [True, False, False],
            "truncated": [False, True, False],
            "episode_id": ["x", "y", "x"],
            "step": [1, 0, 0],
        }
    )
    for i in range(2):
        pq.write_table(table.slice(2 * i, 2), tmp_path / f"part-{i}.parquet")
    for given in (str(tmp_path), str(tmp_path / "part-*.parquet"), f"file://{tmp_path}"):
        rows = sources.read(given, data_url=None)
        found = dataset.columns_of(rows, observation_space=SEEN, action_space=CHOICE, gamma=1.0)
        assert found.observations[:, 0].tolist() == [0, 1, 9]
        assert found.actions[:, 0].tolist() == [1, 2, 0]
        assert found.returns.tolist() == [3.0, 2.0, 5.0]
        assert found.complete.tolist() == [True, True, False]


def test_observations_of_structs_are_encoded_as_the_envs_are(tmp_path) -> None:
    space = gymnasium.spaces.Dict({"hour": gymnasium.spaces.Discrete(3), "load": SEEN})
    seen = [{"hour": 2, "load": [0.5, 1.0]}, {"hour": 0, "load": [1.5, 2.0]}]
    path = tmp_path / "rows.parquet"
    pq.write_table(
        pa.table({"observation": seen, "action": [1, 2], "reward": [0.0, 1.0], "terminated": [False, True]}), path
    )
    rows = sources.read(str(path), data_url=None)
    found = dataset.columns_of(rows, observation_space=space, action_space=CHOICE, gamma=1.0)
    np.testing.assert_array_equal(found.observations, [[0, 0, 1, 0.5, 1.0], [1, 0, 0, 1.5, 2.0]])


REFUSED = {
    "columns": ({"observation": [[0.0, 0.0]], "action": [1]}, "columns of the dataset"),
    "width": ({"observation": [[0.0]], "action": [1], "reward": [0.0]}, "observation"),
    "ragged": ({"observation": [[0.0], [0.0, 1.0]], "action": [1, 1], "reward": [0.0, 0.0]}, "one length"),
    "action": ({"observation": [[0.0, 0.0]], "action": [7], "reward": [0.0]}, "actions of the dataset"),
    "entries": ({"observation": [[0.0, 0.0]], "action": [[1, 2]], "reward": [0.0]}, "2 entries"),
    "infinite": ({"observation": [[0.0, float("inf")]], "action": [1], "reward": [0.0]}, "NaN or infinity"),
    "nothing": ({"observation": [[0.0, 0.0]], "action": [1], "reward": [float("nan")]}, "0 with a reward"),
    "text": ({"observation": [[0.0, 0.0]], "action": [1], "reward": ["much"]}, "reward"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_file_that_does_not_fit_is_refused_by_what_is_wrong(tmp_path, case) -> None:
    given, words = REFUSED[case]
    pq.write_table(pa.table(given), tmp_path / "rows.parquet")
    with pytest.raises(InvalidInput, match=words):
        dataset.columns_of(
            sources.read(str(tmp_path / "rows.parquet"), data_url=None),
            observation_space=SEEN,
            action_space=CHOICE,
            gamma=1.0,
        )


def test_what_is_not_there_is_said_with_its_cure(tmp_path) -> None:
    with pytest.raises(NotFound, match="Parquet file"):
        training_rows.of_parquet(str(tmp_path / "none.parquet"))
    with pytest.raises(NotFound, match="logged decisions"):
        sources.read("log:nobody", data_url=str(tmp_path))
    with pytest.raises(InvalidInput, match="decision log at hand"):
        sources.read("log:shop", data_url=None)


def test_a_minari_data_set_is_read_from_this_machine(tmp_path, monkeypatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(NotFound, match="Minari"):
        sources.read("minari:walk/none-v0", data_url=None)
    rng = np.random.default_rng(0)
    buffers = [
        minari.data_collector.EpisodeBuffer(
            id=i,
            observations=rng.standard_normal((4, 2)).astype(np.float32),
            actions=np.array([1, 2, 3]),
            rewards=[1.0, 2.0, 4.0],
            terminations=[False, False, i == 0],
            truncations=[False, False, i == 1],
        )
        for i in range(2)
    ]
    with warnings.catch_warnings(action="ignore"):  # of a data set without an author
        minari.create_dataset_from_buffers(
            dataset_id="walk/mixed-v0", buffer=buffers, observation_space=SEEN, action_space=CHOICE
        )
    rows = sources.read("minari:walk/mixed-v0", data_url=None)
    found = dataset.columns_of(rows, observation_space=SEEN, action_space=CHOICE, gamma=1.0)
    np.testing.assert_array_equal(found.observations[:3], buffers[0].observations[:-1])
    np.testing.assert_array_equal(found.following[3:], buffers[1].observations[1:])
    assert found.actions[:, 0].tolist() == [0, 1, 2] * 2
    assert found.complete.all()
    np.testing.assert_allclose(found.returns, [7, 6, 4] * 2)
    np.testing.assert_allclose(found.tail_discount, [0, 0, 0, 1, 1, 1])
