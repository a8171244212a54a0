"""The two variables that the client honours: RLAAS_URL and RLAAS_API_KEY.

Read when a client is made without them. The client must work where the rest of the product is not installed, so it has this
reader of its own instead of `settings`; it reads nothing else.
"""

from __future__ import annotations

import os

DEFAULT_URL = "http://127.0.0.1:8000"


def url() -> str:
    """RLAAS_URL, else the address that `rlaas up` takes by default."""
    return os.environ.get("RLAAS_URL") or DEFAULT_URL  # noqa: TID251 - the client's one reader


def api_key() -> str | None:
    """RLAAS_API_KEY, or None."""
    return os.environ.get("RLAAS_API_KEY")  # noqa: TID251 - the client's one reader
