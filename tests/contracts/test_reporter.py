"""One suite for what a run process reports through: the HTTP reporter against a recording API, and its twin."""

import itertools
import json
import pathlib

import httpx
import pytest

from rlaas_ray.errors import LostLease, Unavailable
from rlaas_ray.sdk import reporter
from rlaas_ray.specs.runs import Progress, Run
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.reporter import TwinReporter

RUN = Run(
    id="train-aaaaaaaaaa",
    kind="train",
    name=None,
    spec={"env": "CartPole-v1"},
    spec_digest="",
    seed=0,
    state="running",
    epoch=0,
    attempt=1,
    place="here",
    created_us=1,
)


class RecordingApi:
    """The run calls of the control API, as the brief of the interface states them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict]] = []
        self.events: dict[int, dict] = {}
        self.rows: list[dict] = []
        self.state = "running"
        self.away = self.taken = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("refused", request=request)
        verb = request.url.path.removeprefix("/api/v1/runs/train-aaaaaaaaaa/")
        body = json.loads(request.content)
        self.calls.append((verb, body))
        if self.taken:
            problem = {"type": "/docs/problems/lost-lease", "detail": "attempt 2 owns the run", "cure": None}
            return httpx.Response(409, json=problem)
        if verb == "claim":
            return httpx.Response(200, json={**vars_of(RUN), "progress": {"fraction": 0.0}})
        if verb == "heartbeat":
            return httpx.Response(200, json={"state": self.state})
        if verb == "events":
            self.events.update({event["seq"]: event for event in body["events"]})
        if verb == "metrics":
            self.rows += body["rows"]
        if verb == "register":
            return httpx.Response(200, json={"name": body["name"], "number": 1, "path": body["path"]})
        return httpx.Response(200, json={})

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.calls]


def vars_of(run: Run) -> dict:
    return {
        name: getattr(run, name)
        for name in ("id", "kind", "name", "spec", "seed", "state", "attempt", "place", "created_us")
    }


def http_reporter(api: RecordingApi, directory, *, clock: ManualClock | None = None) -> reporter.HttpReporter:
    client = reporter.connect("http://api", api_key="k", transport=httpx.MockTransport(api))
    return reporter.HttpReporter(
        client=client, run_id=RUN.id, attempt=1, directory=directory, clock=clock or ManualClock(), background=False
    )


class Pair:
    """A reporter and how to see what arrived."""

    def __init__(self, kind: str, directory) -> None:
        self.api = RecordingApi()
        self.twin = TwinReporter(RUN)
        self.reporter = self.twin if kind == "twin" else http_reporter(self.api, directory)
        self.is_twin = kind == "twin"

    def set_state(self, state: str) -> None:
        self.twin.state = self.api.state = state

    def lose(self) -> None:
        self.twin.lose()
        self.api.taken = True

    def events(self) -> list:
        return (
            self.twin.events if self.is_twin else [(e["kind"], e["data"]) for _, e in sorted(self.api.events.items())]
        )

    def rows(self) -> list:
        return self.twin.rows if self.is_twin else self.api.rows

    def final_state(self) -> str:
        return self.twin.final["state"] if self.is_twin else self.api.calls[-1][1]["state"]


@pytest.fixture(params=["twin", "http"])
def pair(request, tmp_path) -> Pair:
    return Pair(request.param, tmp_path)


def test_a_claim_gives_the_run_with_its_spec(pair: Pair) -> None:
    assert pair.reporter.claim().spec == {"env": "CartPole-v1"}


def test_a_beat_answers_with_the_state_that_the_api_wants(pair: Pair) -> None:
    pair.reporter.claim()
    assert pair.reporter.beat(Progress()) == "running"
    pair.set_state("stopping")
    if not pair.is_twin:
        pair.reporter._clock.advance(2)
    assert pair.reporter.beat(Progress(fraction=0.5)) == "stopping"


def test_events_and_metrics_arrive_in_order_and_the_final_state_last(pair: Pair) -> None:
    pair.reporter.claim()
    for number in range(3):
        pair.reporter.event("iteration", {"number": number})
    pair.reporter.metrics([{"step": 1, "time_us": 5, "loss": None}])
    pair.reporter.metrics([{"step": 2, "time_us": 6, "loss": 0.5}])
    assert pair.reporter.register(pathlib.Path("/b"), name="m", evaluation=None)["number"] == 1
    pair.reporter.finish("succeeded", result={"steps": 2})
    assert pair.events() == [("iteration", {"number": n}) for n in range(3)]
    assert pair.rows() == [{"step": 1, "time_us": 5, "loss": None}, {"step": 2, "time_us": 6, "loss": 0.5}]
    assert pair.final_state() == "succeeded"


def test_whoever_lost_the_run_hears_it_at_the_next_beat_and_cannot_finish(pair: Pair) -> None:
    pair.reporter.claim()
    pair.lose()
    with pytest.raises(LostLease):
        pair.reporter.beat(Progress())
    with pytest.raises(LostLease):
        pair.reporter.finish("succeeded")


def test_what_happened_while_the_api_was_away_arrives_once_and_in_order(tmp_path) -> None:
    api, clock = RecordingApi(), ManualClock()
    told = http_reporter(api, tmp_path, clock=clock)
    told.claim()
    api.away = True
    for number in range(4):
        told.event("iteration", {"number": number})
        assert told.beat(Progress()) == "running"  # no fault of the run
        clock.advance(3)
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 4
    assert not api.events
    api.away = False
    clock.advance(10)
    told.beat(Progress())
    told.event("iteration", {"number": 4})
    told.finish("succeeded")
    sent = [e["seq"] for verb, body in api.calls if verb == "events" for e in body["events"]]
    assert sent == [1, 2, 3, 4, 5]


def test_of_fronts_that_nobody_could_hear_the_newest_is_sent_and_none_is_on_disk(tmp_path) -> None:
    api, clock = RecordingApi(), ManualClock()
    told = http_reporter(api, tmp_path, clock=clock)
    told.claim()
    api.away = True
    for number in range(40):
        told.event("front", {"generation": number})
    told.event("warning", {"words": "w"})
    api.away = False
    clock.advance(10)
    told.finish("succeeded")
    assert [(e["kind"], e["seq"]) for e in api.events.values()] == [("front", 40), ("warning", 41)]
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1


def test_an_api_that_is_away_is_asked_less_and_less_often(tmp_path) -> None:
    clock, asked = ManualClock(), []

    def away(request: httpx.Request) -> httpx.Response:
        asked.append(clock.monotonic_s())
        raise httpx.ConnectError("refused", request=request)

    told = http_reporter(away, tmp_path, clock=clock)
    for _ in range(600):
        told.beat(Progress())
        clock.advance(0.1)
    gaps = [round(later - earlier, 1) for earlier, later in itertools.pairwise(asked)]
    assert gaps[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert max(gaps) <= 10.1


def test_a_run_that_ends_while_the_api_is_away_leaves_its_final_state_on_disk(tmp_path) -> None:
    api = RecordingApi()
    told = http_reporter(api, tmp_path)
    told.claim()
    api.away = True
    told.event("end", {})
    told.finish("stopped", checkpoint_uri="/c/3")
    final = json.loads((tmp_path / "final.json").read_text())
    assert (final["attempt"], final["state"], final["checkpoint_uri"]) == (1, "stopped", "/c/3")
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1


def test_a_claim_waits_for_an_api_that_is_away_and_then_says_so(tmp_path) -> None:
    api, clock = RecordingApi(), ManualClock()
    api.away = True
    with pytest.raises(Unavailable):
        http_reporter(api, tmp_path, clock=clock).claim()
    assert 20 <= clock.monotonic_s() <= 30


def test_the_thread_beats_and_sends_between_calls(tmp_path) -> None:
    import time

    from rlaas_ray.settings import SystemClock

    api = RecordingApi()
    client = reporter.connect("http://api", api_key="k", transport=httpx.MockTransport(api))
    told = reporter.HttpReporter(client=client, run_id=RUN.id, attempt=1, directory=tmp_path, clock=SystemClock())
    told.claim()
    told.event("iteration", {"number": 0})
    until = time.monotonic() + 5
    while not ({"events", "heartbeat"} <= set(api.verbs())) and time.monotonic() < until:
        time.sleep(0.05)
    told.finish("succeeded")
    assert api.verbs()[-1] == "finish"
    assert {"events", "heartbeat"} <= set(api.verbs())
