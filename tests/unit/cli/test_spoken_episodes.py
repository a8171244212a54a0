"""An attempt says the episodes of an algorithm that tells single ones, and nothing else."""

import httpx

from rlaas_ray.cli import attempts
from rlaas_ray.testing.clock import ManualClock


def test_an_episode_is_a_line_for_people(tmp_path, capsys):
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
    reports = attempts._Spoken(
        client=httpx.Client(transport=transport, base_url="http://127.0.0.1"),
        run_id="train-a",
        attempt=1,
        directory=tmp_path,
        clock=ManualClock(),
        background=False,
    )
    reports.event("checkpoint", {"steps": 3})
    reports.event("episode", {"episode": 2, "scheme": [10, 20], "predicted_value": 0.51234, "gain": 0.25})
    assert capsys.readouterr().err == "episode 2  scheme [10, 20]  predicted value 0.5123  gain 0.25\n"
    assert "predicted_value" in (tmp_path / "events.jsonl").read_text()
