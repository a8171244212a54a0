"""Writes the sync face of the client from the async one: `python -m rlaas_ray.sdk.faces`.

One source, two faces, both with their own types. A test compares what lies there with what this makes. Never runs at import.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FILES = {"async_client.py": "client.py", "async_handles.py": "handles.py"}

# In this order. Words of async code on the left, what the other face says on the right.
_WORDS = (
    (r"rlaas_ray\.sdk import async_handles", "rlaas_ray.sdk import handles"),
    (r"\basync_handles\b", "handles"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bawaits\b", "calls"),
    (r"\bapause\b", "pause"),
    (r"\baclose\b", "close"),
    (r"\baread\b", "read"),
    (r"\baiter_(lines|bytes)\b", r"iter_\1"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bhttpx\.Async(\w+)", r"httpx.\1"),
    (r"\bAsync([A-Z]\w+)", r"\1"),
    (r"\basynchronous\b", "blocking"),
)
_HEAD = '"""Made from {source} by `python -m rlaas_ray.sdk.faces`; edit that one.\n\n'


def sync(text: str, *, source: str) -> str:
    """The sync face of an async module, not yet formatted."""
    for pattern, replacement in _WORDS:
        text = re.sub(pattern, replacement, text)
    return text.replace('"""', _HEAD.format(source=source), 1)


def formatted(text: str) -> str:
    """As the formatter leaves it."""
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    name = ["--stdin-filename", str(Path(__file__)), "-"]
    for step in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        done = subprocess.run([*ruff, *step, *name], input=text, capture_output=True, text=True, check=True)  # noqa: S603
        text = done.stdout
    return text


def main() -> None:
    """Write each sync face beside its source."""
    folder = Path(__file__).parent
    for source, target in FILES.items():
        (folder / target).write_text(formatted(sync((folder / source).read_text(), source=source)))


if __name__ == "__main__":
    main()
