"""An attempt says the episodes of an algorithm that tells single ones, and nothing else; or prints every event as a line."""

import json

import httpx
import pytest

from rlaas_ray.cli import attempts
from rlaas_ray.testing.clock import ManualClock


@pytest.fixture
def reports(tmp_path) -> attempts._Spoken:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
    return attempts._Spoken(
        client=httpx.Client(transport=transport, base_url="http://127.0.0.1"),
        run_id="train-a",
        attempt=1,
        directory=tmp_path,
        clock=ManualClock(),
        background=False,
    )


def test_an_episode_is_a_line_for_people(reports, tmp_path, capsys):
    reports.event("checkpoint", {"steps": 3})
    reports.event("episode", {"episode": 2, "scheme": [10, 20], "predicted_value": 0.51234, "gain": 0.25})
    assert capsys.readouterr().err == "episode 2  scheme [10, 20]  predicted value 0.5123  gain 0.25\n"
    assert "predicted_value" in (tmp_path / "events.jsonl").read_text()


def test_every_event_is_a_line_of_json_where_lines_are_asked_for(reports, capsys):
    reports.as_jsonl = True
    reports.event("front", {"generation": 1, "front": [[0.5, 2.0]]})
    reports.event("episode", {"episode": 2})
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told == [{"kind": "front", "generation": 1, "front": [[0.5, 2.0]]}, {"kind": "episode", "episode": 2}]
