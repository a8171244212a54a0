"""Files that hold a secret: made once, readable by their owner alone, never overwritten.

Called by wiring for the pepper, the signing key and the admin key.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from rlaas_ray.errors import Refused


def bytes_of(path: Path) -> bytes:
    """The 32 bytes in the file, made at first use. Raises Refused when it is not 64 hex characters."""
    if not path.exists():
        write_new(path, secrets.token_hex(32))
    text = path.read_text().strip()
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise Refused(f"{path} is not a secret of ours", expected="64 hex characters", cure="Restore it from a backup.")
    return value


def write_new(path: Path, text: str) -> bool:
    """Write `text` with mode 0600 unless the file exists; says whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
    return True
