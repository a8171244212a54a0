"""The report of many runs at once: kept as if each had told it, once, under its own key; a refused one harms no other."""

import pytest

SPEC = {"problem": "5g", "generations": 10}


def started(house, count: int) -> list[dict]:
    house.tick()
    runs = [house.ask("POST", "/api/v1/optimization", json=SPEC).json() for _ in range(count)]
    house.tick()
    keys = {ref.partition(":")[0]: key for ref, key in house.place.keys.items()}
    for run in runs:
        path = f"/api/v1/runs/{run['id']}/claim"
        assert house.ask("POST", path, json={"attempt": 1}, key=keys[run["id"]]).status_code == 200
    return [{"run": run["id"], "key": keys[run["id"]], "attempt": 1} for run in runs]


def told(house, reports: list[dict]) -> dict:
    answer = house.ask("POST", "/api/v1/runs/report", json={"reports": reports}, key=reports[0]["key"])
    assert answer.status_code == 200, answer.text
    return answer.json()["runs"]


def event(seq: int, **data) -> dict:
    return {"seq": seq, "kind": "front", "time_us": seq, "data": data}


def test_what_many_runs_tell_is_kept_for_each_and_once(house) -> None:
    entries = started(house, 3)
    for number, entry in enumerate(entries):
        entry["progress"] = {"fraction": 0.1 * (number + 1), "message": f"run {number}"}
        entry["events"] = [event(1, number=number), event(2, number=number)]
        entry["rows"] = [{"step": 1, "time_us": 5, "hypervolume": 0.5 + number}]
    assert {one["state"] for one in told(house, entries).values()} == {"running"}
    entries[0]["events"].append(event(3, number=0))  # the answer was lost: all of it again, and something new
    told(house, entries)
    for number, entry in enumerate(entries):
        found = house.ask("GET", f"/api/v1/runs/{entry['run']}").json()
        assert found["progress"]["message"] == f"run {number}"
        events, _ = house.application.runs.events(entry["run"], after=0)
        fronts = [one for one in events if one.kind == "front"]
        assert [one.data["number"] for one in fronts] == [number] * (3 if number == 0 else 2)
        assert [one.seq for one in events] == list(range(1, len(events) + 1))
        metrics = house.ask("GET", f"/api/v1/runs/{entry['run']}/metrics").json()
        assert metrics["hypervolume"] == [0.5 + number]


def test_the_lease_of_each_is_renewed_and_each_hears_its_own_state(house) -> None:
    first, second = started(house, 2)
    house.clock.advance(25)
    house.ask("POST", f"/api/v1/optimization/{first['run']}/stop")
    answer = told(house, [first, second])
    assert answer == {first["run"]: {"state": "stopping"}, second["run"]: {"state": "running"}}
    house.tick(20)  # 45 s after the claims, 20 after the report
    assert house.ask("GET", f"/api/v1/runs/{second['run']}").json()["state"] == "running"


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        ({"key": "rlk_aaaaaaaa_" + 43 * "a"}, "unauthorized"),
        ({"attempt": 2}, "lost-lease"),
        ({"run": "optimize-unknown"}, "forbidden"),
    ],
)
def test_one_that_is_refused_changes_nothing_and_harms_no_other(house, change, slug) -> None:
    good, bad = started(house, 2)
    bad_run = bad["run"]
    for entry in (good, bad):
        entry["events"] = [event(1)]
    answer = told(house, [good, {**bad, **change}])
    assert answer[good["run"]] == {"state": "running"}
    assert answer[change.get("run", bad_run)]["problem"]["type"].endswith(slug)
    kinds = [one.kind for one in house.application.runs.events(bad_run, after=0)[0]]
    assert "front" not in kinds


def test_a_key_of_one_run_reports_for_no_other(house) -> None:
    mine, other = started(house, 2)
    answer = told(house, [{**other, "key": mine["key"], "events": [event(1)]}])
    assert answer[other["run"]]["problem"]["type"].endswith("forbidden")


def test_a_viewer_reports_nothing(house) -> None:
    viewer = house.ask("POST", "/api/v1/keys", json={"roles": ["viewer"]}).json()["secret"]
    first, second = started(house, 2)
    assert house.ask("POST", "/api/v1/runs/report", json={"reports": [first]}, key=viewer).status_code == 403
    answer = told(house, [first, {**second, "key": viewer}])  # nor in the company of one that may
    assert answer[first["run"]] == {"state": "running"}
    assert answer[second["run"]]["problem"]["type"].endswith("forbidden")


def test_a_run_that_its_process_takes_up_again_while_it_stops_is_still_its_own(house) -> None:
    (entry,) = started(house, 1)
    run = house.ask("GET", f"/api/v1/runs/{entry['run']}").json()
    house.ask("POST", f"/api/v1/optimization/{entry['run']}/stop")
    body = {"attempt": 1, "place_ref": run["place_ref"]}
    path = f"/api/v1/runs/{entry['run']}/claim"
    assert house.ask("POST", path, json=body, key=entry["key"]).json()["state"] == "stopping"
    assert house.ask("POST", path, json={**body, "place_ref": "other"}, key=entry["key"]).status_code == 409


def test_of_many_fronts_the_newest_thousand_events_are_kept(house) -> None:
    (entry,) = started(house, 1)
    for first in range(1, 1202, 400):
        entry["events"] = [event(seq, number=seq) for seq in range(first, first + 400)]
        told(house, [entry])
    events = house.application.runs.events(entry["run"], after=0, limit=2000)[0]
    fronts = [one.data["number"] for one in events if one.kind == "front"]
    assert len(fronts) <= 1000
    assert fronts[-1] == 1600
