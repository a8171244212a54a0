"""What the API asks Ray's dashboard, and what it need not ask: a stand-in dashboard, no Ray."""

import httpx
import pytest

from rlaas_ray.errors import Unavailable
from rlaas_ray.serve.pools import ServePools


class Dashboard:
    """Answers as Ray's does; counts the questions about Serve, each of which costs a new head seconds."""

    def __init__(self):
        self.session, self.apps, self.asked = "session_1", {}, 0

    def __call__(self, request):
        if self.session is None:
            raise httpx.ConnectError("refused")
        if request.url.path == "/api/version":
            return httpx.Response(200, json={"session_name": self.session})
        self.asked += 1
        return httpx.Response(200, json={"applications": {name: {"status": "RUNNING"} for name in self.apps}})


@pytest.fixture
def dashboard(monkeypatch):
    made = Dashboard()
    plain = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: plain(**given, transport=httpx.MockTransport(made)))
    return made


@pytest.fixture
def pools(dashboard):
    made = ServePools(address="127.0.0.1:1", dashboard="http://127.0.0.1:2", settings=lambda _: {}, environment={})
    yield made
    made.close()


def test_at_its_first_head_the_api_asks_what_runs_there(pools, dashboard):
    """After a restart of the API its pools still run, and must not be deployed again."""
    dashboard.apps = {"policies": 1, "pool-fast": 1}
    assert pools.head_id() == "session_1"
    assert pools.running() == {"policies": "RUNNING", "fast": "RUNNING"}
    assert dashboard.asked == 1


def test_a_head_that_follows_another_is_not_asked_before_something_was_started_there(pools, dashboard, monkeypatch):
    assert pools.head_id() == "session_1"
    dashboard.session = None
    assert pools.head_id() is None
    with pytest.raises(Unavailable):
        pools.running()
    dashboard.session = "session_2"
    assert pools.head_id() == pools.head_id() == "session_2"
    assert pools.running() == {}
    assert dashboard.asked == 0
    monkeypatch.setattr("subprocess.run", lambda *_, **__: type("Done", (), {"returncode": 0})())
    pools.apply("policies")
    dashboard.apps = {"policies": 1}
    assert pools.running() == {"policies": "RUNNING"}
    assert dashboard.asked == 1
