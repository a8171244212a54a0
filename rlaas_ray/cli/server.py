"""Which server a command asks: --url, else RLAAS_URL, else the runtime of this home, else the same API in this process.

Called by every command that needs the API. Only here is the choice made; `--verbose` says which and why.
"""

from __future__ import annotations

from pathlib import Path

import click

from rlaas_ray import settings
from rlaas_ray.cli import output, runtime
from rlaas_ray.errors import Unavailable
from rlaas_ray.sdk.asgi import AsgiTransport
from rlaas_ray.sdk.client import RLaaSClient
from rlaas_ray.settings import Settings
from rlaas_ray.specs.runtime import Runtime


def address() -> str | None:
    """The address of the server that this command is to ask; None where there is none."""
    own = settings.read()
    said = (click.get_current_context().find_root().obj or {}).get("url")
    if said or own.url:
        _verbose(f"asking {said or own.url}, by {'--url' if said else 'RLAAS_URL'}")
        return str(said or own.url)
    found = runtime.serving(own.home)
    if found is not None:
        _verbose(f"asking {found.address}, the runtime of {own.home}")
        return found.address
    return None


def client(*, timeout_s: float = 60.0) -> RLaaSClient:
    """A client of the server there is, else of the API in this process."""
    found = address()
    if found is None:
        return in_process(timeout_s=timeout_s)
    return RLaaSClient(found, api_key=key(settings.read(), url=found), timeout_s=timeout_s)


def running(*, needs: str) -> RLaaSClient:
    """A client of a server that runs. Raises Unavailable where none does: `needs` says what cannot be done without."""
    found = address()
    if found is None:
        raise Unavailable(
            f"{needs} needs the policy servers, and no server runs",
            cure="`rlaas up` starts one; RLAAS_URL or --url names another.",
        )
    return RLaaSClient(found, api_key=key(settings.read(), url=found))


def of_runtime(found: Runtime) -> RLaaSClient:
    """A client of exactly that runtime."""
    return RLaaSClient(found.address, api_key=key(settings.read(), url=found.address))


def in_process(*, timeout_s: float = 60.0) -> RLaaSClient:
    """The same API as an app in this process, for as long as this command runs."""
    return over(transport(), timeout_s=timeout_s)


def transport() -> AsgiTransport:
    """The app of this home, started, as a transport."""
    from rlaas_ray import wiring

    own = settings.read()
    runtime.prepare(own.home)
    _verbose(f"no server runs: the API of {own.home} in this process")
    made = AsgiTransport(wiring.in_process(own))
    made.start()
    return made


def over(started: AsgiTransport, *, timeout_s: float = 60.0) -> RLaaSClient:
    """A client of that app, with this home's own key."""
    return RLaaSClient(
        "http://127.0.0.1", api_key=key(settings.read(), url=None), timeout_s=timeout_s, transport=started
    )


def key(own: Settings, *, url: str | None) -> str | None:
    """The key to show: RLAAS_API_KEY, else this home's admin key, and that to this home's server alone."""
    if own.api_key:
        return own.api_key
    found = runtime.serving(own.home)
    if url is None or (found is not None and url.rstrip("/") == found.address):
        return admin_key(own.home)
    return None


def admin_key(home: Path) -> str | None:
    """The key that the API made at its first start, readable by the owner of the home."""
    try:
        return (home / "admin-key").read_text().strip()
    except FileNotFoundError:
        return None


def _verbose(words: str) -> None:
    if (click.get_current_context().find_root().obj or {}).get("verbose"):
        output.say(words)
