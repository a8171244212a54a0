"""The judge on twins: verdicts come from the log, happen once, survive a restart, and can be reached again byte for byte."""

import dataclasses

import numpy as np
import pytest

from rlaas_ray.serve import assignment
from rlaas_ray.specs import routing
from rlaas_ray.store import endpoints, rollouts
from rlaas_ray.testing import bundles, rows

CHAMPION = "baseline:rlaas/RanControl-tiny-v1/hold"
CHALLENGER = "baseline:rlaas/RanControl-tiny-v1/random"
QUICK = {
    "challenger": CHALLENGER,
    "stages": [25, 50],
    "min_time_s": 0,
    "stage_min_s": 0,
    "stage_min_units": 20,
    "min_units": 40,
    "margin": 0.2,
    "preset": "demo",
}


class Traffic:
    """Units that come, are answered by the arm that the newest table gives them, and pay at once."""

    def __init__(self, house) -> None:
        self.house = house
        self.rng = np.random.default_rng(7)
        self.seen = 0

    def flow(self, count: int, *, challenger: float, champion: float = 0.7, fails: float = 0.0) -> None:
        body = self.house.ask("GET", "/api/v1/endpoints/cells").json()["table"]
        table = routing.from_json(body)
        units = [f"unit-{self.seen + i}" for i in range(count)]
        self.seen += count
        given = [assignment.assign(table, unit) for unit in units]
        arms = [one.arm.name for one in given]
        first_us = self.house.clock.now_us()
        times = first_us + np.arange(count)
        failed = [("error" if a == "challenger" and self.rng.random() < fails else "") for a in arms]
        self.house.log.append_decisions(
            "cells",
            rows=rows.decisions(
                units,
                time_us=times,
                epoch=table.epoch,
                arm=arms,
                bundle_digest=[one.arm.digest for one in given],
                arm_probability=[one.probability for one in given],
                fallback=failed,
            ),
        )
        means = np.array([challenger if a == "challenger" else champion for a in arms])
        values = np.clip(means + 0.05 * self.rng.normal(size=count), 0, 1)
        kept = [i for i in range(count) if not failed[i]]
        paid = rows.rewards([units[i] for i in kept], reward=values[kept], time_us=times[kept] + 1)
        self.house.log.append_rewards("cells", rows=paid)
        self.house.clock.advance(1.0)


@pytest.fixture
def traffic(house):
    house.tick()
    assert house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": CHAMPION}).status_code == 201
    made = Traffic(house)
    made.flow(300, challenger=0.0)  # before the canary: what the champion is worth
    return made


def start(house, **more) -> dict:
    answer = house.ask("POST", "/api/v1/endpoints/cells/rollouts", json={**QUICK, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


def shown(house, rollout: dict) -> dict:
    return house.ask("GET", f"/api/v1/endpoints/cells/rollouts/{rollout['id']}").json()


def judged(house, traffic, rollout, *, ticks: int, restart_at: int | None = None, count: int = 100, **worth) -> dict:
    for i in range(ticks):
        if i == restart_at:
            house.application.close()
            house.restart()
            house.tick()
        traffic.flow(count, **worth)
        house.tick()
        found = shown(house, rollout)
        if found["ended_us"] is not None:
            return found
    return found


def test_a_shadow_with_a_memory_is_refused_where_the_rollout_is_made(house, tmp_path) -> None:
    for name, entries in (("plain", 0), ("remembering", 3)):
        bundles.a_bundle(tmp_path / name, remembers=entries)
        made = house.ask("POST", "/api/v1/models/import", json={"path": str(tmp_path / name), "name": name})
        assert made.status_code == 201, made.text
    assert house.ask("PUT", "/api/v1/endpoints/poles", json={"champion": "plain:1"}).status_code == 201
    told = {**QUICK, "challenger": "remembering:1", "shadow": True}
    refused = house.ask("POST", "/api/v1/endpoints/poles/rollouts", json=told)
    assert refused.status_code == 501
    assert "shadow arm with a memory" in refused.json()["detail"]


def test_a_challenger_that_is_worse_is_rolled_back_and_its_units_go_back(house, traffic) -> None:
    found = judged(house, traffic, start(house), ticks=40, challenger=0.3)
    assert found["state"] == "rolled_back"
    assert found["verdict"]["numbers"]["stream"] == "reward"
    assert "lower" in found["verdict"]["reason"]
    table = house.ask("GET", "/api/v1/endpoints/cells").json()["table"]
    assert [arm["role"] for arm in table["arms"]] == ["champion"]
    assert table["rollout_id"] is None


def test_a_challenger_that_fails_is_rolled_back_for_failing(house, traffic) -> None:
    found = judged(house, traffic, start(house), ticks=40, challenger=0.7, fails=0.5)
    assert found["state"] == "rolled_back"
    assert found["verdict"]["numbers"]["stream"] == "failure"


def test_a_challenger_as_good_climbs_the_stages_and_becomes_champion(house, traffic) -> None:
    # nothing is promoted below a share of 25 %, so that the second stage has to come whatever the units' draw
    found = judged(house, traffic, start(house, stages=[10, 50]), ticks=120, challenger=0.75)
    assert found["state"] == "promoted"
    document = house.ask("GET", "/api/v1/endpoints/cells").json()
    assert document["table"]["arms"][0]["version"] == found["challenger"]
    assert document["spec"]["champion"] == found["challenger"]
    reasons = [item["reason"] for item in house.ask("GET", "/api/v1/endpoints/cells/history").json()["items"]]
    assert reasons.count("rollout") == 3  # begun at 10 %, raised to 50 %, promoted
    name = found["challenger"].rpartition(":")[0]
    assert house.ask("GET", f"/api/v1/models/{name}@champion").json()["aliases"] == ["champion"]


@pytest.mark.parametrize("worth", [{"challenger": 0.3}, {"challenger": 0.75}])
def test_a_restart_in_the_middle_goes_on_where_it_was(tmp_path, worth) -> None:
    from rlaas_ray.testing.house import House

    ends = []
    for restart_at in (None, 1):
        house = House(tmp_path / f"home-{restart_at}")
        house.tick()
        house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": CHAMPION})
        traffic = Traffic(house)
        traffic.flow(300, challenger=0.0)
        found = judged(house, traffic, start(house), ticks=80, restart_at=restart_at, count=30, **worth)
        ends.append((house, found))
    (_, whole), (house, broken) = ends
    assert broken["state"] == whole["state"] == ("promoted" if worth["challenger"] > 0.7 else "rolled_back")
    house.application.close()
    ends[0][0].application.close()


def test_replaying_the_cuts_reaches_every_recorded_tick_byte_for_byte(house, traffic) -> None:
    rollout = start(house)
    judged(house, traffic, rollout, ticks=80, restart_at=2, count=30, challenger=0.75)
    house.restart()
    with house.application.database.read() as tx:
        stored = rollouts.evidence(tx, rollout["id"])
    assert len(stored) >= 4
    assert house.application.judge.replay(rollout["id"]) == stored


def test_a_verdict_happens_once_however_often_it_is_judged(house, traffic) -> None:
    rollout = start(house)
    judged(house, traffic, rollout, ticks=40, challenger=0.3)
    with house.application.database.read() as tx:
        before = endpoints.last_epoch(tx)
    for _ in range(3):
        house.tick(1.0)
    with house.application.database.read() as tx:
        assert endpoints.last_epoch(tx) == before


def test_two_processes_judge_and_one_of_them_acts(house, traffic) -> None:
    rollout = start(house)
    judge, lease = house.application.judge, house.application.loop._lease
    for _ in range(40):
        traffic.flow(100, challenger=0.3)
        judge.tick(lease=lease)
        if shown(house, rollout)["ended_us"]:
            break
    stale = dataclasses.replace(lease, fence=lease.fence - 1)
    assert judge.tick(lease=stale) == []
    assert shown(house, rollout)["state"] == "rolled_back"


def test_a_judge_without_the_lease_records_nothing(house, traffic) -> None:
    rollout = start(house)
    traffic.flow(100, challenger=0.3)
    lease = house.application.loop._lease
    house.application.judge.tick(lease=dataclasses.replace(lease, fence=lease.fence + 5))
    assert shown(house, rollout)["evidence"] is None


def test_time_alone_ends_a_rollout_without_a_result(house, traffic) -> None:
    rollout = start(house, max_duration_s=3600)
    house.tick()
    house.clock.advance(3601)
    house.tick()
    found = shown(house, rollout)
    assert found["state"] == "inconclusive"
    assert house.application.judge.replay(rollout["id"])[-1].verdict == found["verdict"]


def test_a_shadow_stage_answers_nobody_and_then_the_first_share_begins(house, traffic) -> None:
    rollout = start(house, shadow=True)
    table = house.ask("GET", "/api/v1/endpoints/cells").json()["table"]
    assert [(arm["role"], arm["ranges"]) for arm in table["arms"]] == [("champion", []), ("shadow", [])]
    house.tick(1.0)
    assert shown(house, rollout)["state"] == "ramping"
    found = judged(house, traffic, rollout, ticks=80, challenger=0.75)
    assert found["state"] == "promoted"
    with house.application.database.read() as tx:
        assert house.application.judge.replay(rollout["id"]) == rollouts.evidence(tx, rollout["id"])


def test_what_was_rolled_back_stays_out_for_a_day_unless_forced(house, traffic) -> None:
    judged(house, traffic, start(house), ticks=40, challenger=0.3)
    again = house.ask("POST", "/api/v1/endpoints/cells/rollouts", json=QUICK)
    assert again.status_code == 409
    assert "24 h" in again.json()["detail"]
    forced = start(house, force=True)
    assert forced["state"] == "ramping"


def test_a_person_ends_or_promotes_an_open_rollout_once(house, traffic) -> None:
    rollout = start(house)
    path = f"/api/v1/endpoints/cells/rollouts/{rollout['id']}"
    assert house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": CHALLENGER}).status_code == 409
    assert house.ask("DELETE", "/api/v1/endpoints/cells").status_code == 409
    assert house.ask("POST", "/api/v1/endpoints/cells/rollouts", json=QUICK).status_code == 409
    ended = house.ask("POST", f"{path}/abort", json={"reason": "wrong file"}).json()
    assert (ended["state"], ended["verdict"]["reason"]) == ("aborted", "wrong file")
    assert house.ask("POST", f"{path}/promote", json={}).status_code == 409
    rollout = start(house)
    ended = house.ask("POST", f"/api/v1/endpoints/cells/rollouts/{rollout['id']}/promote").json()
    assert ended["state"] == "promoted"
    assert house.ask("GET", "/api/v1/audit/verify").json()["ok"]


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"stages": [5, 10]}, 409, "share"),
        ({"stages": [50, 150]}, 422, "50"),
        ({"expected_units_per_s": 0.0001}, 409, "cannot reach a verdict"),
        ({"challenger": "baseline:CartPole-v1/random"}, 422, "observation space"),
        ({"challenger": "nobody:3"}, 404, "no such model"),
        ({"sheres": [5]}, 422, "sheres"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused_and_changes_nothing(house, traffic, more, status, words) -> None:
    before = house.ask("GET", "/api/v1/endpoints/cells").json()["epoch"]
    answer = house.ask("POST", "/api/v1/endpoints/cells/rollouts", json={**QUICK, **more})
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert house.ask("GET", "/api/v1/endpoints/cells").json()["epoch"] == before
