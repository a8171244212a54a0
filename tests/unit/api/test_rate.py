"""Over its rate a key hears when to come back; other keys, reading, and the processes of runs go on."""

import asyncio
import types

import pytest

from rlaas_ray.api.gates import RateLimit, TooMany
from rlaas_ray.testing.clock import ManualClock


def test_a_key_over_its_rate_hears_when_to_come_back_and_others_go_on() -> None:
    passed: list[str] = []

    async def app(scope, receive, send) -> None:
        passed.append(scope["path"])

    gate = RateLimit(app, clock=ManualClock(), per_minute=20, creating=3)

    def ask(path: str, *, key: str = "k", method: str = "POST", roles: tuple[str, ...] = ("operator",)) -> None:
        actor = types.SimpleNamespace(id=key, roles=roles)
        scope = {"type": "http", "method": method, "path": path, "state": {"actor": actor}}
        asyncio.run(gate(scope, None, None))

    for _ in range(3):
        ask("/api/v1/optimization")
    with pytest.raises(TooMany, match="too many requests") as caught:
        ask("/api/v1/optimization")
    assert "3 per 1 minute" in str(caught.value.expected)
    assert caught.value.retry_after_s >= 1
    ask("/api/v1/optimization", key="another")
    ask("/api/v1/runs", method="GET")
    for _ in range(50):
        ask("/api/v1/runs", roles=("run",))
    assert len(passed) == 3 + 1 + 1 + 50
    for _ in range(15):
        ask("/api/v1/runs", method="GET")
    with pytest.raises(TooMany, match="too many requests"):  # the 21st of any kind
        ask("/api/v1/runs", method="GET")
