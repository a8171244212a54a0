"""The desk of many attempts against an API that records: claims, one report of all, final states; nothing is lost."""

import json

import httpx
import pytest

from rlaas_ray.errors import LostLease
from rlaas_ray.sdk import desk, reporter
from rlaas_ray.specs.runs import Progress
from rlaas_ray.testing.clock import ManualClock

LOST = {"type": "/docs/problems/lost-lease", "detail": "attempt 2 owns the run", "cure": None}
UNKNOWN = {"type": "/docs/problems/unauthorized", "detail": "no valid API key", "cure": None}


FIRST = ManualClock().now_us() // 1000


class Api:
    """The run calls of the control API that a host makes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict]] = []  # key, path, body
        self.events: dict[str, list[int]] = {}
        self.lost: set[str] = set()
        self.revoked: set[str] = set()
        self.states: dict[str, str] = {}
        self.away = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("refused", request=request)
        key, path = request.headers["authorization"].removeprefix("Bearer "), request.url.path
        body = json.loads(request.content)
        self.calls.append((key, path.removeprefix("/api/v1/runs/"), body))
        if key in self.revoked:
            return httpx.Response(401, json=UNKNOWN)
        if path.endswith("/report"):
            return httpx.Response(200, json={"runs": {one["run"]: self.take(one) for one in body["reports"]}})
        run = path.split("/")[4]
        if run in self.lost:
            return httpx.Response(409, json=LOST)
        if path.endswith("/claim"):
            document = {"id": run, "kind": "optimize", "name": None, "spec": {}, "seed": 0, "state": "running"}
            return httpx.Response(200, json={**document, "attempt": 1, "place": "here", "created_us": 1})
        return httpx.Response(200, json={})

    def take(self, one: dict) -> dict:
        if one["key"] in self.revoked:
            return {"problem": UNKNOWN}
        if one["run"] in self.lost:
            return {"problem": LOST}
        self.events.setdefault(one["run"], []).extend(event["seq"] for event in one["events"])
        return {"state": self.states.get(one["run"], "running")}

    def verbs(self) -> list[str]:
        return [path for _, path, _ in self.calls]


class Ground:
    def __init__(self, folder) -> None:
        self.api, self.folder, self.clock = Api(), folder, ManualClock()
        self.client = reporter.connect("http://api", api_key=None, transport=httpx.MockTransport(self.api))
        self.desk = desk.Desk(client=self.client, clock=self.clock)

    def open(self, *names: str) -> list[desk.Line]:
        lines = [
            self.desk.open(
                run_id=name,
                attempt=1,
                directory=self.folder / name,
                key=f"rlk_{name}",
                place_ref=f"host:{name}:1",
            )
            for name in names
        ]
        self.desk.call()
        return lines


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


def test_each_is_claimed_under_its_own_key_and_all_are_told_of_in_one_report(ground) -> None:
    lines = ground.open("a", "b", "c")
    assert [(key, path) for key, path, _ in ground.api.calls] == [(f"rlk_{n}", f"{n}/claim") for n in "abc"]
    assert ground.api.calls[0][2] == {"attempt": 1, "place_ref": "host:a:1"}
    for number, line in enumerate(lines):
        assert line.run.id == "abc"[number]
        line.event("front", {"number": number})
        line.metrics([{"step": 1, "time_us": 5}])
        assert line.beat(Progress(fraction=0.5)) == "running"
    ground.desk.report()
    (told,) = [body["reports"] for _, path, body in ground.api.calls if path == "report"]
    assert [one["run"] for one in told] == ["a", "b", "c"]
    assert told[1]["key"] == "rlk_b"
    assert told[1]["progress"]["fraction"] == 0.5
    assert told[2]["events"][0]["data"] == {"number": 2}
    assert told[2]["rows"] == [{"step": 1, "time_us": 5}]


def test_a_final_state_is_told_after_all_else_and_lies_on_disk_before(ground) -> None:
    (line,) = ground.open("a")
    line.event("front", {})
    line.finish("succeeded", result={"front": []}, checkpoint_uri="/c")
    assert json.loads((ground.folder / "a" / "final.json").read_text())["state"] == "succeeded"
    ground.desk.call()
    assert "a/finish" not in ground.api.verbs()  # its event was not told yet
    ground.desk.report()
    ground.desk.call()
    assert ground.api.calls[-1][1:] == (
        "a/finish",
        {"attempt": 1, "state": "succeeded", "result": {"front": []}, "checkpoint_uri": "/c"},
    )
    assert line.over
    ground.desk.report()
    ground.desk.call()
    assert ground.api.verbs()[-1] == "a/finish"  # nothing more


def test_one_that_is_lost_hears_it_and_the_others_go_on(ground) -> None:
    first, second = ground.open("a", "b")
    ground.api.lost.add("a")
    ground.api.states["b"] = "stopping"
    for line in (first, second):
        line.event("front", {})
    ground.desk.report()
    with pytest.raises(LostLease, match="attempt 2"):
        first.beat(Progress())
    assert first.over
    assert second.beat(Progress()) == "stopping"
    assert ground.api.events == {"b": [FIRST + 1]}


def test_a_key_that_holds_no_more_stops_only_its_own_report(ground) -> None:
    first, second = ground.open("a", "b")
    ground.api.revoked.add("rlk_a")  # whose key the report goes under
    for line in (first, second):
        line.event("front", {})
    ground.desk.report()
    assert ground.api.events == {"b": [FIRST + 1]}
    with pytest.raises(LostLease):
        first.beat(Progress())


def test_a_claim_that_is_refused_is_over(ground) -> None:
    ground.api.lost.add("a")
    first, second = ground.open("a", "b")
    assert isinstance(first.refused, LostLease)
    assert first.over
    assert second.run is not None


def test_what_happens_while_the_api_is_away_is_told_once_it_is_back(ground) -> None:
    from rlaas_ray.errors import Unavailable

    (line,) = ground.open("a")
    ground.api.away = True
    for _ in range(3):
        line.event("front", {})
        line.event("note", {})
        with pytest.raises(Unavailable):
            ground.desk.report()
    late = ground.desk.open(run_id="b", attempt=1, directory=ground.folder / "b", key="rlk_b", place_ref="host:b:1")
    with pytest.raises(Unavailable):
        ground.desk.call()
    ground.api.away = False
    ground.desk.report()
    ground.desk.call()
    assert ground.api.events["a"] == [FIRST + n for n in (2, 4, 5, 6)]  # every note, and the newest front
    assert late.run is not None


def test_large_reports_go_in_parts_that_the_api_takes(ground) -> None:
    lines = ground.open(*(f"run-{n}" for n in range(6)))
    for line in lines:
        line.event("front", {"front": [[0.123456789] * 3] * 6000})
    ground.desk.report()
    sizes = [len(json.dumps(body, separators=(",", ":"))) for _, path, body in ground.api.calls if path == "report"]
    assert len(sizes) > 1
    assert max(sizes) < 1 << 20
    assert all(ground.api.events[f"run-{n}"] == [FIRST + 1] for n in range(6))


def test_a_process_that_begins_anew_counts_events_on_where_the_last_one_ended(ground) -> None:
    (line,) = ground.open("a")
    for _ in range(4):
        line.event("front", {})
    ground.clock.advance(1)
    ground.desk = desk.Desk(client=ground.client, clock=ground.clock)
    (again,) = ground.open("a")
    again.event("front", {})
    ground.desk.report()
    assert ground.api.events["a"] == [FIRST + 1000 + 1]


def test_one_that_goes_on_elsewhere_sends_what_waits_and_no_final_state(ground) -> None:
    (line,) = ground.open("a")
    line.event("front", {})
    line.leave()
    assert not line.over
    ground.desk.report()
    assert line.over
    ground.desk.call()
    assert "a/finish" not in ground.api.verbs()


def test_the_threads_of_the_desk_do_the_same(tmp_path) -> None:
    import time

    from rlaas_ray.settings import SystemClock

    api = Api()
    client = reporter.connect("http://api", api_key=None, transport=httpx.MockTransport(api))
    own = desk.Desk(client=client, clock=SystemClock())
    line = own.open(run_id="a", attempt=1, directory=tmp_path / "a", key="rlk_a", place_ref="host:a:1")
    own.start()
    until = time.monotonic() + 10
    while line.run is None and time.monotonic() < until:
        time.sleep(0.02)
    line.event("front", {})
    line.finish("stopped")
    own.close()
    assert api.verbs()[-1] == "a/finish"
