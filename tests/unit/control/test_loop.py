"""Runs, pools and promises through the loop, on twins: what was promised is done, what died is found, nothing happens twice."""

import orjson
import pytest

from rlaas_ray.errors import InvalidInput, Unavailable
from rlaas_ray.specs.seams import Place

TRAIN = {"env": "CartPole-v1", "total_timesteps": 1000}


def begun(house, **spec) -> dict:
    house.tick()
    run = house.ask("POST", "/api/v1/training", json={**TRAIN, **spec}).json()
    house.tick()
    return house.ask("GET", f"/api/v1/runs/{run['id']}").json()


def key_of(house, run: dict) -> str:
    return house.place.keys[f"{run['id']}:{run['attempt']}"]


def report(house, run: dict, verb: str, *, key: str | None = None, **body):
    path = f"/api/v1/runs/{run['id']}/{verb}"
    return house.ask("POST", path, json={"attempt": run["attempt"], **body}, key=key or key_of(house, run))


def state(house, run: dict) -> str:
    return house.ask("GET", f"/api/v1/runs/{run['id']}").json()["state"]


def test_a_run_is_submitted_once_claimed_and_finished(house) -> None:
    run = begun(house)
    house.tick()
    assert house.place.submitted == [(run["id"], 1)]
    assert report(house, run, "claim").json()["state"] == "running"
    assert report(house, run, "heartbeat", progress={"fraction": 0.5, "steps": 500}).json() == {"state": "running"}
    done = report(house, run, "finish", state="succeeded", result={"steps": 1000})
    assert done.json()["state"] == "succeeded"
    assert done.json()["progress"]["fraction"] == 1.0
    assert report(house, run, "heartbeat").json()["type"].endswith("lost-lease")
    house.tick(11.0)
    assert report(house, run, "heartbeat").status_code == 401  # its key has ended with it, look-ups are kept for 10 s
    assert house.mirror.runs[run["id"]][0].state == "succeeded"


def test_an_attempt_is_claimed_by_one_process(house) -> None:
    run = begun(house)
    assert report(house, run, "claim", place_ref=run["place_ref"]).status_code == 200
    assert report(house, run, "claim", place_ref=run["place_ref"]).status_code == 200  # the first answer was lost
    other = report(house, run, "claim", place_ref="4711:1:1")
    assert other.status_code == 409
    assert other.json()["type"].endswith("lost-lease")


def test_a_key_of_one_run_reports_on_no_other(house) -> None:
    first, second = begun(house), begun(house)
    assert report(house, second, "claim", key=key_of(house, first)).status_code == 403


def test_a_run_without_heartbeats_is_lost_after_30_s_and_can_be_resumed(house) -> None:
    run = begun(house)
    house.tick(31.0)  # the loop has held its lease long enough to tell
    report(house, run, "claim")
    house.tick(29.0)
    assert state(house, run) == "running"
    house.tick(2.0)
    found = house.ask("GET", f"/api/v1/runs/{run['id']}").json()
    assert (found["state"], found["error"]["reason"]) == ("failed", "lost")
    house.tick()
    assert house.place.stopped == [f"{run['id']}:1"]  # what still lives must not write on
    resumed = house.ask("POST", f"/api/v1/runs/{run['id']}/resume").json()
    assert (resumed["state"], resumed["attempt"]) == ("queued", 2)
    house.tick()
    assert house.place.submitted[-1] == (run["id"], 2)


def test_an_attempt_that_died_before_it_was_claimed_fails_and_one_that_lives_waits(house) -> None:
    run, other = begun(house), begun(house)
    house.place.end(house.ask("GET", f"/api/v1/runs/{run['id']}").json()["place_ref"])
    house.tick(61.0)
    found = house.ask("GET", f"/api/v1/runs/{run['id']}").json()
    assert (found["state"], found["error"]["reason"]) == ("failed", "died")
    assert state(house, other) == "queued"


def test_a_process_that_wakes_up_after_it_was_lost_can_write_nothing(house) -> None:
    run = begun(house)
    secret = key_of(house, run)
    house.tick(31.0)
    report(house, run, "claim")
    house.tick(31.0)
    house.tick(1.0)
    assert state(house, run) == "failed"
    for verb, body in (("heartbeat", {}), ("finish", {"state": "succeeded"})):
        assert report(house, run, verb, key=secret, **body).status_code in {401, 409}
    assert state(house, run) == "failed"


def test_a_loop_that_has_just_begun_calls_nobody_lost(house) -> None:
    run = begun(house)
    report(house, run, "claim")
    house.clock.advance(600)
    house.application.close()
    house.restart()
    house.tick()
    assert state(house, run) == "running"
    house.tick(31.0)
    house.tick(1.0)
    assert state(house, run) == "failed"


def test_a_final_state_on_disk_counts_when_the_api_was_away(house) -> None:
    run = begun(house)
    report(house, run, "claim")
    folder = house.home / "runs" / run["id"]
    folder.mkdir(parents=True)
    (folder / "final.json").write_bytes(orjson.dumps({"attempt": 1, "state": "succeeded", "result": {"steps": 9}}))
    house.tick(31.0)
    found = house.ask("GET", f"/api/v1/runs/{run['id']}").json()
    assert (found["state"], found["result"]) == ("succeeded", {"steps": 9})


def test_stopping_tells_the_process_and_the_place(house) -> None:
    run = begun(house)
    report(house, run, "claim")
    assert house.ask("POST", f"/api/v1/training/{run['id']}/stop").json()["state"] == "stopping"
    assert report(house, run, "heartbeat").json() == {"state": "stopping"}
    house.tick()
    assert house.place.stopped == [f"{run['id']}:1"]
    assert report(house, run, "finish", state="stopped", checkpoint_uri="/c/1").json()["checkpoint_uri"] == "/c/1"
    assert house.ask("POST", f"/api/v1/training/{run['id']}/stop").json()["state"] == "stopped"


def test_a_queued_run_is_stopped_before_it_starts(house) -> None:
    house.tick()
    run = house.ask("POST", "/api/v1/training", json=TRAIN).json()
    assert house.ask("POST", f"/api/v1/runs/{run['id']}/stop").json()["state"] == "stopped"
    house.tick()
    assert house.place.submitted == []


def test_events_sent_twice_are_kept_once_and_every_attempt_counts_its_own(house) -> None:
    run = begun(house)
    report(house, run, "claim")
    events = [{"seq": n, "kind": "note", "time_us": n, "data": {"n": n}} for n in (1, 2)]
    for _ in range(2):
        assert report(house, run, "events", events=events).status_code == 200
    found, _ = house.application.runs.events(run["id"], after=0)
    assert [event.data.get("n") for event in found if event.kind == "note"] == [1, 2]
    assert [event.seq for event in found] == list(range(1, len(found) + 1))


def test_metric_rows_come_back_as_columns(house) -> None:
    run = begun(house)
    report(house, run, "claim")
    told = [{"step": 10, "time_us": 1, "loss": 0.5}, {"step": 20, "time_us": 2, "episode_return_mean": 3.0}]
    assert report(house, run, "metrics", rows=told).json() == {"added": 2}
    assert report(house, run, "metrics", rows=told).json() == {"added": 0}
    found = house.ask("GET", f"/api/v1/training/{run['id']}/metrics").json()
    assert found == {"step": [10, 20], "time": [1, 2], "episode_return_mean": [None, 3.0], "loss": [0.5, None]}


def test_a_run_started_by_hand_is_adopted_once(house) -> None:
    house.tick()
    told = {"kind": "train", "spec": TRAIN, "place": "ray", "place_ref": "raysubmit_1"}
    first, second = (house.ask("POST", "/api/v1/runs", json=told).json() for _ in range(2))
    assert first["id"] == second["id"]
    house.tick()
    assert house.place.submitted == []
    claimed = house.ask("POST", f"/api/v1/runs/{first['id']}/claim", json={"attempt": 1}, key=second["key"])
    assert claimed.json()["state"] == "running"


@pytest.mark.parametrize(("error", "states"), [(Unavailable("away"), "queued"), (InvalidInput("never"), "failed")])
def test_a_submission_is_tried_again_or_given_up_with_the_reason(house, error, states) -> None:
    class Refuses(Place):
        def submit(self, run, *, key: str) -> str:
            raise error

    house.application.loop._parts.places["here"] = Refuses()
    house.tick()
    run = house.ask("POST", "/api/v1/training", json=TRAIN).json()
    house.tick()
    assert state(house, run) == states
    house.application.loop._parts.places["here"] = house.place
    house.tick(2.0)
    assert house.place.submitted == ([(run["id"], 1)] if states == "queued" else [])


def test_a_mirror_that_is_away_fails_nothing_and_hears_later(house) -> None:
    house.tick()
    house.mirror.failures = 1
    assert house.ask("PUT", "/api/v1/endpoints/e", json={"champion": "baseline:CartPole-v1/random"}).status_code == 201
    house.tick()
    assert house.mirror.versions == {}
    house.tick(2.0)
    assert len(house.mirror.versions) == 1


def test_pools_are_deployed_on_each_new_head_and_not_after_our_own_restart(house) -> None:
    house.tick()
    assert house.pools.applied == ["policies"]
    house.ask("PUT", "/api/v1/endpoints/e", json={"champion": "baseline:CartPole-v1/random", "pool": "own"})
    house.tick(1.0)
    assert house.pools.applied == ["policies", "own"]
    house.application.close()
    house.restart()
    house.tick(1.0)
    assert house.pools.applied == ["policies", "own"]
    house.pools.restart_head()
    house.tick(1.0)
    assert sorted(house.pools.applied[2:]) == ["own", "policies"]
    house.ask("DELETE", "/api/v1/endpoints/e")
    house.tick(16.0)
    assert set(house.pools.running()) == {"policies"}


def test_two_loops_and_one_acts(house) -> None:
    house.tick()
    first = house.application.loop
    house.restart()
    second = house.application.loop
    second._owner = "elsewhere:1:1"
    second.hold()
    assert (first.acts, second.acts) == (True, False)
    house.clock.advance(11)
    second.hold()
    first.hold()
    assert (first.acts, second.acts) == (False, True)


def test_an_hour_with_news_is_signed_and_anchored(house) -> None:
    house.tick()
    house.ask("POST", "/api/v1/keys", json={"roles": ["viewer"]})
    house.tick(3601)
    head = house.ask("GET", "/api/v1/audit/head").json()
    assert head["checkpoint"] is not None
    assert head["unsigned"] == 0
    assert (house.home / "log" / "audit-anchor.jsonl").read_text().count("\n") == 1


def test_a_start_waits_for_no_mirror(house) -> None:
    """A hundred searches that end together keep MLflow busy for long; who asks for a run meanwhile does not notice."""
    run = begun(house)
    report(house, run, "claim")
    report(house, run, "finish", state="succeeded")
    fresh = house.ask("POST", "/api/v1/training", json=TRAIN).json()
    seen: list[list[tuple[str, int]]] = []
    house.mirror.run = lambda run, metrics: seen.append(list(house.place.submitted))
    house.tick(1.0)
    assert seen == [[(run["id"], 1), (fresh["id"], 1)]]
