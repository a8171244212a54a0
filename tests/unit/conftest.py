"""Unit tests touch nothing: no socket, no sleep, no environment of the product."""

import os
import time

import pytest
import pytest_socket


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seconds: float) -> None:
        pytest.fail(f"time.sleep({seconds}) in a unit test: hand a ManualClock in")

    monkeypatch.setattr(time, "sleep", refuse)
    for name in [n for n in os.environ if n.startswith("RLAAS_")]:
        monkeypatch.delenv(name)
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()
