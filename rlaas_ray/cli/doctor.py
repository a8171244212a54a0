"""`rlaas doctor`: what of this machine and this home stands in the way, each fault with its cure.

Every check is a function that looks and says; none repairs. Exit 1 where one failed.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sqlite3
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from rlaas_ray import settings
from rlaas_ray.cli import output, runtime
from rlaas_ray.errors import RlaasError
from rlaas_ray.jobs import processes
from rlaas_ray.settings import Settings

_GIB = 2**30


class Finding(NamedTuple):
    """What one check says."""

    verdict: Literal["ok", "warn", "fail"]
    words: str
    cure: str | None = None


@click.command()
@output.json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check this machine and this home; each fault with its cure."""
    own = settings.read()
    found: dict[str, Finding] = {name: check(own) for name, check in CHECKS.items()}
    if as_json:
        output.document({"checks": [{"name": name, **finding._asdict()} for name, finding in found.items()]})
    else:
        for name, finding in found.items():
            click.echo(f"{finding.verdict:<5} {name:<16} {finding.words}")
            if finding.cure:
                click.echo(f"{'':<22} {finding.cure}")
    ctx.exit(1 if any(finding.verdict == "fail" for finding in found.values()) else 0)


def _python(_own: Settings) -> Finding:
    version = platform.python_version()
    if version.startswith("3.11."):
        return Finding("ok", version)
    return Finding("fail", version, "The pins are made for Python 3.11: `make setup` makes such an environment.")


def _packages(_own: Settings) -> Finding:
    """The libraries whose versions this product was tried with."""
    wanted = {"ray": "2.60.", "torch": "2.13.", "gymnasium": "1.2.", "onnxruntime": "1.31."}
    found = {}
    for name, prefix in wanted.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if not version.startswith(prefix):
            found[name] = version
    if not found:
        return Finding("ok", ", ".join(wanted))
    words = ", ".join(f"{name} {version} (wanted {wanted[name]}x)" for name, version in found.items())
    return Finding("fail", words, "pip install -c constraints.txt .")


def _shared_memory(_own: Settings) -> Finding:
    free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - Ray's object store lies there
    words = f"{free / _GIB:.1f} GiB free in /dev/shm"
    return (
        Finding("ok", words)
        if free >= _GIB // 2
        else Finding("warn", words, "A container: start it with --shm-size=2g.")
    )


def _disk(own: Settings) -> Finding:
    free = shutil.disk_usage(_nearest(own.home)).free
    words = f"{free / _GIB:.1f} GiB free at {own.home}"
    return (
        Finding("ok", words)
        if free >= 2 * _GIB
        else Finding("fail", words, "Free 2 GiB, or set RLAAS_HOME to a larger disk.")
    )


def _files(_own: Settings) -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Finding("ok", str(limit)) if limit >= 4096 else Finding("fail", str(limit), "ulimit -n 65536")


def _ports(own: Settings) -> Finding:
    found = runtime.serving(own.home)
    if found is not None:
        return Finding("ok", f"ours: {found.address}")
    try:
        for port in (8000, 8001, 8002):
            runtime.check_free(port)
    except RlaasError as error:
        return Finding("warn", error.subject, error.cure)
    return Finding("ok", "8000 to 8002 are free")


def _home(own: Settings) -> Finding:
    if not own.home.exists():
        return Finding("ok", f"{own.home} is not there yet; `rlaas up` makes it")
    mode = own.home.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("fail", f"{own.home} is open to others ({mode:o})", f"chmod 700 {own.home}")
    if not os.access(own.home, os.W_OK):
        return Finding("fail", f"{own.home} is not writable", "Set RLAAS_HOME.")
    return Finding("ok", f"{own.home} ({mode:o})")


def _secrets(own: Settings) -> Finding:
    files = [own.home / "ray-token", own.home / "admin-key", *(own.home / "secrets").glob("*")]
    there = [path for path in files if path.exists()]
    open_ones = [str(path) for path in there if path.stat().st_mode & 0o077]
    if open_ones:
        return Finding("fail", f"readable by others: {', '.join(open_ones)}", f"chmod 600 {' '.join(open_ones)}")
    return Finding("ok", f"{len(there)} secrets, all 0600")


def _clock(own: Settings) -> Finding:
    """A file written now must not be younger or older than now: it shows a clock that was stepped, or another's clock."""
    probe = _nearest(own.home) / f".rlaas-clock-{os.getpid()}"
    try:
        probe.write_text("")
    except OSError as error:
        return Finding("warn", f"cannot be told: {error}")
    gap = abs(probe.stat().st_mtime - settings.SystemClock().now_us() / 1e6)
    probe.unlink()
    return (
        Finding("ok", f"{gap:.2f} s from the disk's")
        if gap < 2
        else Finding("fail", f"{gap:.1f} s from the disk's", "Run NTP.")
    )


def _database(own: Settings) -> Finding:
    path = own.home / "rlaas.db"
    if own.database_url:
        return Finding("ok", "by RLAAS_DATABASE_URL; the API checks it at its start")
    if not path.exists():
        return Finding("ok", "none yet; the API makes it")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        answer = connection.execute("PRAGMA quick_check").fetchone()[0]
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.close()
    except sqlite3.Error as error:
        return Finding("fail", f"{path}: {error}", "`rlaas down`, then restore a copy of it.")
    if answer != "ok":
        return Finding("fail", f"{path}: {answer}", "`rlaas down`, then restore a copy of it.")
    return Finding("ok", f"sound, at revision {revision[0] if revision else 'none'}")


def _tracking(own: Settings) -> Finding:
    if own.mlflow_url is None:
        return Finding("ok", f"local store {own.home / 'mlflow.db'}")
    import urllib.request

    try:
        with urllib.request.urlopen(f"{own.mlflow_url.rstrip('/')}/health", timeout=3):  # noqa: S310 - the user's own URL
            return Finding("ok", f"{own.mlflow_url} answers")
    except (OSError, ValueError) as error:
        return Finding("warn", f"{own.mlflow_url}: {error}", "Runs succeed without it; the mirror catches up.")


def _runtime(own: Settings) -> Finding:
    found = runtime.read(own.home)
    if found is None:
        return Finding("ok", "down")
    parts = {"supervisor": found.supervisor, **found.children}
    dead = [name for name, part in parts.items() if not runtime.lives(part)]
    if not dead:
        return Finding("ok", f"up, {found.address}")
    return Finding("fail", f"dead: {', '.join(dead)}", "`rlaas up` starts what is missing, `rlaas down` ends the rest.")


def _leftovers(own: Settings) -> Finding:
    found = runtime.read(own.home)
    known = found.id if found is not None else None
    strays = [
        pid
        for pid in processes.marked("RLAAS_HOME", str(own.home))
        if not _marked_as(pid, known) and pid != os.getpid()
    ]
    strays = [pid for pid in strays if b"RLAAS_RUNTIME_ID=" in _environ(pid)]
    if not strays:
        return Finding("ok", "none")
    return Finding(
        "warn", f"of an earlier runtime: pids {', '.join(map(str, strays))}", f"kill {' '.join(map(str, strays))}"
    )


def _other_ray(own: Settings) -> Finding:
    """Somebody else's Ray is told and never touched."""
    found = runtime.read(own.home)
    ours = b"RLAAS_RUNTIME_ID=" + (found.id if found is not None else "-").encode()
    others = [
        pid
        for pid in processes.every()
        if "gcs_server" in processes.command_line(pid).split(" ")[0] and ours not in _environ(pid)
    ]
    return Finding("ok", f"gcs_server of others: {others}" if others else "none")


def _sessions(own: Settings) -> Finding:
    folder = runtime.temp_dir(own.home)
    count = len([path for path in folder.glob("session_2*") if path.is_dir()]) if folder.exists() else 0
    return Finding("ok", f"{count} Ray sessions in {folder}; `rlaas up` keeps 3")


def _load(_own: Settings) -> Finding:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    words = f"load {load:.1f} on {cores} cores"
    return Finding("ok", words) if load < 2 * cores else Finding("warn", words, "Figures measured now say little.")


CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "python": _python,
    "packages": _packages,
    "shared memory": _shared_memory,
    "disk": _disk,
    "open files": _files,
    "ports": _ports,
    "home": _home,
    "secrets": _secrets,
    "clock": _clock,
    "database": _database,
    "tracking": _tracking,
    "runtime": _runtime,
    "leftovers": _leftovers,
    "other Ray": _other_ray,
    "ray sessions": _sessions,
    "load": _load,
}


def _nearest(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _marked_as(pid: int, runtime_id: Any) -> bool:
    return runtime_id is not None and f"RLAAS_RUNTIME_ID={runtime_id}".encode() in _environ(pid)
