"""Segments: torn tails, incremental reading, sealing; through the real writer on a real disk."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaas_ray.data import decision_log, schema, seal
from rlaas_ray.errors import InvalidInput, NotBuilt, NotFound
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.testing.clock import ManualClock

WIDTH = 3
FORM = schema.decisions(WIDTH)


def transposed(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def columns(ids, *, time_us=1_700_000_000_000_000, width=WIDTH, **more):
    n = len(ids)
    made = {
        "decision_id": list(ids),
        "endpoint": ["cells"] * n,
        "epoch": [4] * n,
        "time_us": [time_us + i for i in range(n)],
        "unit": [f"u-{i}" for i in ids],
        "episode_id": list(ids),
        "step": [0] * n,
        "arm": ["champion"] * n,
        "version": ["ran-ppo:3"] * n,
        "bundle_digest": ["ab"] * n,
        "observation": np.arange(n * width, dtype=np.float32).reshape(n, width),
        "action_mask": [None] * n,
        "action_proposed": np.full((n, 2), 0.25),
        "action": np.full((n, 2), 0.5),
        "propensity": [0.5] * n,
        "probabilities": [None] * n,
        "arm_probability": [0.9] * n,
        "shield_modified": [False] * n,
        "fallback": [None] * n,
        "excluded": [None] * n,
        "latency_us": [120] * n,
        **more,
    }
    return transposed(made)


def rewards(ids, *, time_us=1_700_000_000_000_500):
    n = len(ids)
    made = {
        "decision_id": list(ids),
        "step": [0] * n,
        "reward": [0.5] * n,
        "done": [True] * n,
        "truncated": [False] * n,
        "time_us": [time_us] * n,
    }
    return transposed(made)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def writer(tmp_path, clock):
    made = DecisionWriter(tmp_path, nonce="aaaaaaaaaa", clock=clock, metrics=ServingMetrics())
    yield made
    made.close()


def the_stream(root):
    return next(root.glob("decisions/endpoint=cells/date=*/*.arrows"))


def test_what_was_appended_is_read_back_with_every_column(tmp_path, writer):
    assert writer.append("decisions", endpoint="cells", rows=columns(["a-1", "a-2"]), form=FORM)
    assert writer.append("rewards", endpoint="cells", rows=rewards(["a-1"]), form=schema.REWARDS)
    rows, rewarded, cut = decision_log.ArrowDecisionLog(str(tmp_path)).read("cells", after={})
    assert rows.decision_id.tolist() == ["a-1", "a-2"]
    np.testing.assert_array_equal(rows.observation, [[0, 1, 2], [3, 4, 5]])
    assert rows.observation.dtype == np.float32
    assert rows.action_proposed.tolist() == [[0.25, 0.25]] * 2
    assert rows.fallback.tolist() == ["", ""]
    assert rewarded.decision_id.tolist() == ["a-1"]
    assert sorted(cut.values()) == [1, 2]


def test_rewards_stand_beside_their_decisions_in_the_order_in_which_they_came(tmp_path, writer):
    log = decision_log.ArrowDecisionLog(str(tmp_path))
    writer.append("decisions", endpoint="cells", rows=columns(["a-3", "a-1", "a-2", "a-1"]), form=FORM)
    assert log.joined("cells").column("rewards").to_pylist() == [[]] * 4
    told = rewards(["a-1", "nobody", "a-3", "a-1"])
    for value, row in enumerate(told):
        row["reward"] = float(value)
    writer.append("rewards", endpoint="cells", rows=told, form=schema.REWARDS)
    found = log.joined("cells").to_pylist()
    assert [(row["decision_id"], [r["reward"] for r in row["rewards"]]) for row in found] == [
        ("a-3", [2.0]),
        ("a-1", [0.0, 3.0]),
        ("a-2", []),
        ("a-1", [0.0, 3.0]),  # written twice: whoever learns from it counts it once
    ]
    assert set(found[0]["rewards"][0]) == set(schema.REWARDS.names) - {"decision_id"}


def test_a_second_read_gives_only_the_new_rows_and_starts_at_their_byte(tmp_path, writer):
    log = decision_log.ArrowDecisionLog(str(tmp_path))
    writer.append("decisions", endpoint="cells", rows=columns(["a-1", "a-2"]), form=FORM)
    _, _, first = log.read("cells", after={})
    writer.append("decisions", endpoint="cells", rows=columns(["a-3"]), form=FORM)
    rows, _, second = log.read("cells", after=first)
    assert rows.decision_id.tolist() == ["a-3"]
    assert list(second.values()) == [3]
    again, _, third = log.read("cells", after=second)
    assert len(again) == 0
    assert third == second


def test_two_writers_are_merged_by_time_then_id(tmp_path, writer, clock):
    other = DecisionWriter(tmp_path, nonce="bbbbbbbbbb", clock=clock, metrics=ServingMetrics())
    writer.append("decisions", endpoint="cells", rows=columns(["a-1"], time_us=200), form=FORM)
    other.append("decisions", endpoint="cells", rows=columns(["b-1"], time_us=100), form=FORM)
    writer.append("decisions", endpoint="cells", rows=columns(["a-0"], time_us=200), form=FORM)
    other.close()
    rows, _, _ = decision_log.ArrowDecisionLog(str(tmp_path)).read("cells", after={})
    assert rows.decision_id.tolist() == ["b-1", "a-0", "a-1"]


@pytest.mark.parametrize("cut_bytes", [1, 7, 100, 700])
def test_a_torn_tail_is_left_unread_counted_and_read_once_it_is_whole(tmp_path, writer, cut_bytes):
    for i in range(3):
        writer.append("decisions", endpoint="cells", rows=columns([f"a-{i}"]), form=FORM)
    path = the_stream(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut_bytes])
    log = decision_log.ArrowDecisionLog(str(tmp_path))
    rows, _, cut = log.read("cells", after={})
    assert rows.decision_id.tolist() == ["a-0", "a-1"]
    assert log.torn_bytes > 0
    path.write_bytes(whole)
    rows, _, _ = log.read("cells", after=cut)
    assert rows.decision_id.tolist() == ["a-2"]
    assert log.torn_bytes == 0


def test_a_file_cut_within_its_schema_has_no_rows_yet(tmp_path, writer):
    writer.append("decisions", endpoint="cells", rows=columns(["a-1"]), form=FORM)
    path = the_stream(tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    rows, _, cut = decision_log.ArrowDecisionLog(str(tmp_path)).read("cells", after={})
    assert len(rows) == 0
    assert cut == {}


def test_the_same_cuts_give_the_same_rows_before_and_after_sealing(tmp_path, writer):
    log = decision_log.ArrowDecisionLog(str(tmp_path))
    cuts = [{}]
    for i in range(4):
        writer.append("decisions", endpoint="cells", rows=columns([f"a-{i}-{k}" for k in range(i + 1)]), form=FORM)
        cuts.append(log.read("cells", after=cuts[-1])[2])
    writer.close()
    before = [log.read("cells", after=a, until=b)[0] for a, b in itertools.pairwise(cuts)]
    sealed = seal.seal_all(tmp_path)
    assert [s.rows for s in sealed] == [10]
    assert not list(tmp_path.glob("decisions/**/*.arrows"))
    for reader in (log, decision_log.ArrowDecisionLog(str(tmp_path))):
        after = [reader.read("cells", after=a, until=b)[0] for a, b in itertools.pairwise(cuts)]
        for x, y in zip(before, after, strict=True):
            assert x.decision_id.tolist() == y.decision_id.tolist()
            np.testing.assert_array_equal(x.observation, y.observation)
    assert [len(rows) for rows in before] == [1, 2, 3, 4]
    assert len(log.read("cells", after=cuts[-1])[0]) == 0


def test_a_cut_inside_a_batch_is_kept_to(tmp_path, writer):
    writer.append("decisions", endpoint="cells", rows=columns(["a-1", "a-2", "a-3"]), form=FORM)
    log = decision_log.ArrowDecisionLog(str(tmp_path))
    stem = next(iter(log.read("cells", after={})[2]))
    first, _, cut = log.read("cells", after={}, until={stem: 2})
    rest, _, _ = log.read("cells", after=cut)
    assert first.decision_id.tolist() == ["a-1", "a-2"]
    assert rest.decision_id.tolist() == ["a-3"]


def test_a_file_that_its_writer_still_holds_is_not_sealed(tmp_path, writer):
    writer.append("decisions", endpoint="cells", rows=columns(["a-1"]), form=FORM)
    assert seal.seal_all(tmp_path) == []
    writer.close()
    assert [s.rows for s in seal.seal_all(tmp_path)] == [1]


def test_a_decision_is_found_by_its_id_open_or_sealed(tmp_path, writer):
    log = decision_log.ArrowDecisionLog(str(tmp_path))
    writer.append("decisions", endpoint="cells", rows=columns(["aaaaaaaaaa-1", "mine"]), form=FORM)
    assert log.find("aaaaaaaaaa-1")["unit"] == "u-aaaaaaaaaa-1"
    writer.close()
    seal.seal_all(tmp_path)
    assert log.find("mine")["endpoint"] == "cells"
    with pytest.raises(NotFound, match="nobody"):
        log.find("nobody")


def test_export_joins_the_rewards_of_each_decision(tmp_path, writer):
    writer.append("decisions", endpoint="cells", rows=columns(["a-1", "a-2"]), form=FORM)
    writer.append("rewards", endpoint="cells", rows=rewards(["a-2"]), form=schema.REWARDS)
    log = decision_log.ArrowDecisionLog(str(tmp_path))
    assert log.export("cells", to=tmp_path / "out.parquet") == 2
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [len(row["rewards"]) for row in table] == [0, 1]
    assert table[1]["rewards"][0]["reward"] == 0.5
    with pytest.raises(NotFound):
        log.export("nobody", to=tmp_path / "none.parquet")


def test_wider_observations_of_a_remade_endpoint_pad_the_narrow_ones(tmp_path, writer):
    writer.append("decisions", endpoint="cells", rows=columns(["a-1"]), form=FORM)
    wide = columns(["a-2"], time_us=1_800_000_000_000_000, width=5)
    writer.append("decisions", endpoint="cells", rows=wide, form=schema.decisions(5))
    rows, _, _ = decision_log.ArrowDecisionLog(str(tmp_path)).read("cells", after={})
    assert rows.observation.shape == (2, 5)
    assert np.isnan(rows.observation[0, 3:]).all()


def test_another_schema_version_is_refused_by_name(tmp_path):
    folder = tmp_path / "decisions/endpoint=cells/date=2026-01-01"
    folder.mkdir(parents=True)
    (folder / "cccccccccc-000001.arrows").write_bytes(
        FORM.with_metadata({b"rlaas.version": b"9"}).serialize().to_pybytes()
    )
    with pytest.raises(InvalidInput, match="version 1"):
        decision_log.ArrowDecisionLog(str(tmp_path)).read("cells", after={})


def test_an_object_store_is_told_to_be_not_built():
    with pytest.raises(NotBuilt, match="s3://bucket"):
        decision_log.ArrowDecisionLog("s3://bucket/log")


def test_the_stream_is_plain_arrow(tmp_path, writer):
    writer.append("decisions", endpoint="cells", rows=columns(["a-1", "a-2"]), form=FORM)
    writer.close()
    sealed_or_open = the_stream(tmp_path)
    table = pa.ipc.open_stream(sealed_or_open.read_bytes()).read_all()
    assert table.schema.metadata[b"rlaas.version"] == b"1"
    assert table.num_rows == 2
