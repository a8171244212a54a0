"""Identifiers: `<kind>-<10 lowercase base32>`, 50 random bits, a DNS label.

Called by control when something is made. A collision is a primary-key error and a new draw; nothing is looked up here.
"""

from __future__ import annotations

import base64
import secrets


def new(kind: str) -> str:
    """A fresh id, e.g. `train-k3v9q2m7xa`."""
    return f"{kind}-{letters(10)}"


def letters(count: int) -> str:
    """`count` random characters of lowercase base32 (5 bits each)."""
    return base64.b32encode(secrets.token_bytes(count)).decode().lower()[:count]
