"""One suite for both decision logs: Arrow files written by the real writer, and the twin in memory."""

import numpy as np
import pytest

from rlaas_ray.data import schema
from rlaas_ray.data.decision_log import ArrowDecisionLog, to_decisions, to_rewards
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.log import MemoryDecisionLog


def transposed(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def decision_batch(ids, times):
    n = len(ids)
    columns = {field.name: [None] * n for field in schema.decisions(2)}
    columns |= {
        "decision_id": ids,
        "endpoint": ["cells"] * n,
        "epoch": [1] * n,
        "time_us": times,
        "step": [0] * n,
        "observation": np.ones((n, 2), dtype=np.float32),
        "action_proposed": np.ones((n, 1)),
        "action": np.ones((n, 1)),
        "propensity": [1.0] * n,
        "arm_probability": [1.0] * n,
        "latency_us": [1] * n,
    }
    return transposed(columns)


def reward_batch(ids, times):
    n = len(ids)
    columns = {
        "decision_id": ids,
        "step": [0] * n,
        "reward": [1.0] * n,
        "done": [True] * n,
        "truncated": [False] * n,
        "time_us": times,
    }
    return transposed(columns)


class Files:
    """Writes through real writers, one per named file."""

    def __init__(self, root):
        self.root, self.writers = root, {}
        self.log = ArrowDecisionLog(str(root))

    def _writer(self, name):
        if name not in self.writers:
            self.writers[name] = DecisionWriter(self.root, nonce=name, clock=ManualClock(), metrics=ServingMetrics())
        return self.writers[name]

    def decide(self, name, ids, times):
        form = schema.decisions(2)
        assert self._writer(name).append("decisions", endpoint="cells", rows=decision_batch(ids, times), form=form)

    def reward(self, name, ids, times):
        columns = reward_batch(ids, times)
        assert self._writer(name).append("rewards", endpoint="cells", rows=columns, form=schema.REWARDS)

    def close(self):
        for writer in self.writers.values():
            writer.close()


class Memory:
    """Appends to the twin."""

    def __init__(self, _root):
        self.log = MemoryDecisionLog(empty_decisions=to_decisions([]), empty_rewards=to_rewards([]))

    def decide(self, name, ids, times):
        batch = schema.batch(decision_batch(ids, times), form=schema.decisions(2))
        self.log.append_decisions("cells", rows=to_decisions([batch]), file=name)

    def reward(self, name, ids, times):
        batch = schema.batch(reward_batch(ids, times), form=schema.REWARDS)
        self.log.append_rewards("cells", rows=to_rewards([batch]), file=name)

    def close(self):
        pass


@pytest.fixture(params=[Files, Memory], ids=["arrow", "twin"])
def world(request, tmp_path):
    made = request.param(tmp_path)
    yield made
    made.close()


def test_an_empty_log_reads_as_no_rows_and_an_empty_cut(world):
    decisions, rewards, cut = world.log.read("cells", after={})
    assert (len(decisions), len(rewards), cut) == (0, 0, {})


def test_rows_of_all_files_come_by_time_then_id(world):
    world.decide("aaaaaaaaaa", ["a-2", "a-9"], [20, 30])
    world.decide("bbbbbbbbbb", ["b-1", "b-2"], [10, 30])
    assert world.log.read("cells", after={})[0].decision_id.tolist() == ["b-1", "a-2", "a-9", "b-2"]


def test_a_cut_hides_what_was_read_and_nothing_else(world):
    world.decide("aaaaaaaaaa", ["a-1"], [10])
    world.reward("aaaaaaaaaa", ["a-1"], [11])
    _, _, cut = world.log.read("cells", after={})
    world.decide("bbbbbbbbbb", ["b-1"], [5])  # earlier in time, later in the log: it is not lost
    decisions, rewards, cut2 = world.log.read("cells", after=cut)
    assert decisions.decision_id.tolist() == ["b-1"]
    assert len(rewards) == 0
    assert world.log.read("cells", after=cut2)[2] == cut2


def test_reading_up_to_a_recorded_cut_replays_that_tick_exactly(world):
    world.decide("aaaaaaaaaa", ["a-1", "a-2"], [10, 20])
    _, _, one = world.log.read("cells", after={})
    world.decide("aaaaaaaaaa", ["a-3"], [30])
    world.reward("aaaaaaaaaa", ["a-1"], [31])
    _, _, two = world.log.read("cells", after=one)
    world.decide("aaaaaaaaaa", ["a-4"], [40])
    assert world.log.read("cells", after={}, until=one)[0].decision_id.tolist() == ["a-1", "a-2"]
    decisions, rewards, cut = world.log.read("cells", after=one, until=two)
    assert decisions.decision_id.tolist() == ["a-3"]
    assert rewards.decision_id.tolist() == ["a-1"]
    assert cut == two


def test_another_endpoint_is_another_log(world):
    world.decide("aaaaaaaaaa", ["a-1"], [10])
    assert len(world.log.read("drones", after={})[0]) == 0
