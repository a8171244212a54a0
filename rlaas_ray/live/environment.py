"""The variables that name a language model, and the clock, for agents that are made outside the composition root.

Read by llm.py when an agent is made without a key: a library call has no root that could hand them in. Reads nothing else.
"""

from __future__ import annotations

import os
import threading
import time

from rlaas_ray.specs.seams import Clock


def llm_key() -> str | None:
    """DEEPSEEK_API_KEY, or None."""
    return os.environ.get("DEEPSEEK_API_KEY") or None  # noqa: TID251 - the one reader of live


def llm_base_url() -> str | None:
    """RLAAS_LLM_BASE_URL, or None."""
    return os.environ.get("RLAAS_LLM_BASE_URL") or None  # noqa: TID251 - the one reader of live


def llm_model() -> str | None:
    """RLAAS_LLM_MODEL, or None."""
    return os.environ.get("RLAAS_LLM_MODEL") or None  # noqa: TID251 - the one reader of live


class WallClock(Clock):
    """The machine's own."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)
