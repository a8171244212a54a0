"""Where a run comes from: versions, git revision and machine, so that it can be repeated.

Read once when an attempt starts (wiring.attempt); kept with the run's result. Never raises.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("rlaas-ray", "ray", "torch", "numpy", "gymnasium", "optuna")
_PATIENCE_S = 5


def read(folder: Path) -> dict[str, Any]:
    """`versions`, `git` (revision, and whether files differed from it; None outside a repository) and `machine`."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": _git(folder),
        "machine": {"system": platform.platform(), "cpus": len(os.sched_getaffinity(0))},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    program = shutil.which("git")
    if program is None:
        return None
    revision = _asked(program, "rev-parse", "HEAD", folder=folder)
    if not revision:
        return None
    changed = _asked(program, "status", "--porcelain", "--untracked-files=no", folder=folder)
    return {"revision": revision, "changed": bool(changed)}


def _asked(program: str, *words: str, folder: Path) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            [program, *words], cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
