"""The client that drives live traffic: whole episodes, each decision rewarded once, arms counted as answered, bounded in time."""

from types import SimpleNamespace

import numpy as np
import pytest

from rlaas_ray.cli import quickstart_traffic as traffic
from rlaas_ray.envs import registry
from rlaas_ray.errors import TimedOut, Unavailable
from rlaas_ray.testing.clock import ManualClock


class Twin:
    """An endpoint that answers with no change; every fourth unit goes to the challenger."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[dict] = []
        self.rewards: list[dict] = []

    def decide_batch(self, batch):
        self.clock.advance(0.3)
        answers = []
        for item in batch:
            self.asked.append(item)
            arm = "challenger" if int(item["unit"].rsplit("-", 1)[1]) % 4 == 0 else "champion"
            answers.append(
                SimpleNamespace(decision_id=f"d{len(self.asked)}", arm=arm, action=[0.0] * 84, fallback=None)
            )
        return answers

    def reward_batch(self, batch):
        self.rewards += batch
        return {"accepted": len(batch), "duplicate": 0, "rejected": []}


def driven(*, waves: int, pace: float | None = None) -> tuple[Twin, traffic.Tally, ManualClock]:
    clock = ManualClock()
    twin = Twin(clock)
    tally = traffic.Tally(start_us=clock.now_us())
    fleet = traffic.Fleet(env=registry.RAN, mode="energy_saving", networks=8, seed=3, pace=pace)
    fleet.drive(twin, tag="t", tally=tally, clock=clock, over=lambda: tally.units >= 8 * waves, limit_s=1000)
    return twin, tally, clock


def test_every_unit_is_one_episode_of_eight_steps_and_every_decision_is_rewarded_once() -> None:
    twin, tally, _ = driven(waves=2)
    assert tally.decisions == len(twin.asked) == len(twin.rewards) == 2 * 8 * 8
    assert len({item["unit"] for item in twin.asked}) == 16
    assert [item["step"] for item in twin.asked if item["unit"] == "t-1-5"] == list(range(8))
    assert len({item["decision_id"] for item in twin.rewards}) == 128
    done = [item["done"] for item in twin.rewards]
    assert done == ([False] * 56 + [True] * 8) * 2


def test_units_start_from_the_operators_setting_and_differ() -> None:
    twin, _, _ = driven(waves=1)
    first = np.array([item["observation"] for item in twin.asked if item["step"] == 0])
    settings = first[:, :273].reshape(8, 21, 13)[:, :, :4]
    assert np.ptp(settings) < 10
    assert (settings == settings[0, 0]).all()
    assert len({row.tobytes() for row in first}) == 8


def test_arms_are_counted_as_answered_by_second() -> None:
    _, tally, _ = driven(waves=2)
    shown = tally.traffic()
    assert tally.harmed == sum(shown.challenger) == 2 * 8 * 2
    assert sum(shown.champion) + sum(shown.challenger) == tally.decisions
    # 16 batches, 0.3 s each: seconds 0 to 4
    assert shown.second == (0, 1, 2, 3, 4)


def test_a_pace_stretches_time() -> None:
    _, tally, clock = driven(waves=1, pace=16.0)
    # 8 decisions a step at 16 a second: half a second a step
    assert clock.monotonic_s() == pytest.approx(8 * 0.5, abs=1e-6)
    assert tally.decisions == 64


def test_a_server_that_is_away_for_a_moment_is_asked_again_and_nothing_counts_twice() -> None:
    refused = iter([True, True, False, True])

    class Shaky(Twin):
        def decide_batch(self, batch):
            if next(refused, False):
                raise Unavailable("no listener")
            return super().decide_batch(batch)

    clock = ManualClock()
    twin, tally = Shaky(clock), traffic.Tally(start_us=clock.now_us())
    fleet = traffic.Fleet(env=registry.RAN, mode="normal", networks=2, seed=0)
    fleet.drive(twin, tag="t", tally=tally, clock=clock, over=lambda: tally.units >= 2, limit_s=100)
    assert tally.decisions == len(twin.asked) == len({item["decision_id"] for item in twin.asked}) == 16


def test_traffic_without_an_end_is_ended() -> None:
    clock = ManualClock()
    fleet = traffic.Fleet(env=registry.RAN, mode="normal", networks=2, seed=0)
    with pytest.raises(TimedOut, match="brought no end"):
        fleet.drive(Twin(clock), tag="t", tally=traffic.Tally(start_us=0), clock=clock, over=lambda: False, limit_s=5.0)
