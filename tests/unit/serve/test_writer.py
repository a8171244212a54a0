"""The decision writer: a failing disk, rotation, fsync; through injected system calls."""

import errno
import os
import threading

import numpy as np
import pytest

from rlaas_ray.data import decision_log, schema
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve import writer as writers
from rlaas_ray.testing.clock import ManualClock


def rewards(*ids):
    n = len(ids)
    made = {
        "decision_id": list(ids),
        "step": [0] * n,
        "reward": np.zeros(n),
        "done": [False] * n,
        "truncated": [False] * n,
        "time_us": list(range(n)),
    }
    return [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]


class Disk:
    """write(2) that can be told to fail, after taking some bytes of the call or none."""

    def __init__(self):
        self.error = None
        self.takes = 0

    def __call__(self, descriptor, data):
        if self.error is None:
            return os.write(descriptor, data)
        if self.takes:
            taken, self.takes = os.write(descriptor, data[: self.takes]), 0
            return taken
        raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def metrics():
    return ServingMetrics()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def writer(tmp_path, disk, metrics, clock):
    made = writers.DecisionWriter(tmp_path, nonce="aaaaaaaaaa", clock=clock, metrics=metrics, write=disk)
    yield made
    disk.error = None
    made.close()


def append(writer, *ids):
    return writer.append("rewards", endpoint="cells", rows=rewards(*ids), form=schema.REWARDS)


def read_ids(root):
    return decision_log.ArrowDecisionLog(str(root)).read("cells", after={})[1].decision_id.tolist()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("takes", [0, 100])
def test_a_failing_disk_is_told_counted_and_leaves_no_torn_batch(tmp_path, writer, disk, metrics, code, takes):
    assert append(writer, "a-1")
    disk.error, disk.takes = code, takes
    assert not append(writer, "a-2", "a-3")
    assert not append(writer, "a-4")
    disk.error = None
    assert append(writer, "a-5")
    assert sorted(read_ids(tmp_path)) == ["a-1", "a-5"]
    assert metrics.registry.get_sample_value("rlaas_log_dropped_total", {"endpoint": "cells", "kind": "rewards"}) == 3
    for path in tmp_path.glob("rewards/**/*.arrows"):
        log = decision_log.ArrowDecisionLog(str(tmp_path))
        log.read("cells", after={})
        assert log.torn_bytes == 0, path


def test_a_full_disk_leaves_no_empty_files_behind(tmp_path, writer, disk):
    disk.error = errno.ENOSPC
    for i in range(5):
        assert not append(writer, f"a-{i}")
    assert list(tmp_path.glob("rewards/**/*.arrows")) == []


def test_short_writes_are_completed(tmp_path, metrics, clock):
    writer = writers.DecisionWriter(
        tmp_path, nonce="n", clock=clock, metrics=metrics, write=lambda fd, data: os.write(fd, data[:7])
    )
    assert append(writer, "a-1")
    assert read_ids(tmp_path) == ["a-1"]
    writer.close()


def test_a_file_rotates_by_age_even_when_nothing_more_is_written(tmp_path, writer, clock):
    append(writer, "a-1")
    clock.advance(writers.ROTATE_S - 1)
    writer.tick()
    append(writer, "a-2")
    clock.advance(2)
    writer.tick()
    append(writer, "a-3")
    files = sorted(tmp_path.glob("rewards/**/*.arrows"))
    assert [path.name for path in files] == ["aaaaaaaaaa-000001.arrows", "aaaaaaaaaa-000002.arrows"]
    assert files[0].read_bytes().endswith(schema.EOS)
    assert read_ids(tmp_path) == ["a-1", "a-2", "a-3"]


def test_a_file_rotates_by_size(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(writers, "ROTATE_BYTES", 1)
    append(writer, "a-1")
    append(writer, "a-2")
    assert len(list(tmp_path.glob("rewards/**/*.arrows"))) == 2


@pytest.mark.parametrize("works", [True, False])
def test_who_waits_for_the_disk_is_told_whether_fsync_worked(tmp_path, metrics, clock, works):
    synced = []

    def sync(descriptor):
        synced.append(descriptor)
        if not works:
            raise OSError(errno.EIO, "no")

    writer = writers.DecisionWriter(tmp_path, nonce="n", clock=clock, metrics=metrics, sync=sync)
    append(writer, "a-1")
    told, got = threading.Event(), []
    writer.when_synced(lambda ok: (got.append(ok), told.set()))
    assert told.wait(5)
    assert got == [works]
    assert synced
    writer.close()
