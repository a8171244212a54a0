"""Files that hold a secret: made once, readable by their owner alone, never overwritten.

Called by wiring for the pepper, the signing key and the admin key.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from rlaas_ray.errors import Refused


def made(path: Path) -> bytes:
    """The file's bytes, 64 hex characters; made at first use. Raises Refused when it holds something else."""
    if not path.exists():
        write(path, secrets.token_hex(32), replace=False)
    value = path.read_bytes()
    if not re.fullmatch(rb"[0-9a-f]{64}", value):
        raise Refused(f"{path} is not a secret of ours", expected="64 hex characters", cure="Restore it from a backup.")
    return value


def write(path: Path, text: str, *, replace: bool) -> None:
    """Write `text` with mode 0600, whole or not at all; a file that is there stays unless `replace`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        if replace:
            fresh.replace(path)
        else:
            os.link(fresh, path)  # two processes at their first start: the second finds the first one's secret
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
