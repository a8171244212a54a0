"""Pools on Serve, met from outside Ray: acts by a child process, status over the dashboard's HTTP.

`ServePools` implements `specs.seams.Pools` for the control API, which must never hold a Ray driver. Imports no Ray.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from rlaas_ray.errors import Unavailable, WorkFailed
from rlaas_ray.specs.seams import Pools

ACT_S = 120.0
# The dashboard imports Serve at the first question, which takes it more than 5 s on a busy machine.
ASK_S = 30.0
POLICIES = "policies"


class ServePools(Pools):
    """`settings(pool)` gives what `serve.replica` takes, and `ingress` {host, port}, `replicas`; `environment` is the child's."""

    def __init__(
        self,
        *,
        address: str,
        dashboard: str,
        settings: Callable[[str], Mapping[str, Any]],
        environment: Mapping[str, str],
        token: str | None = None,
    ) -> None:
        self._address = address
        self._settings = settings
        self._environment = dict(environment)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._dashboard = httpx.Client(base_url=dashboard, headers=headers, timeout=ASK_S, trust_env=False)
        self._head: str | None = None
        self._bare = False

    def apply(self, pool: str) -> None:
        """Deploy the pool or bring it to its settings. Returns when its replicas run; raises WorkFailed with Ray's words."""
        self._act("apply", pool=pool, told=json.dumps(dict(self._settings(pool))))

    def delete(self, pool: str) -> None:
        """Remove the pool's app; nothing where there is none."""
        self._act("delete", pool=pool)

    def shutdown(self) -> None:
        """End Serve as a whole, before the head is ended: without it the head's SIGTERM waits for a drain of 30 s."""
        self._act("shutdown", pool=POLICIES)

    def running(self) -> Mapping[str, str]:
        """Pool -> status, as Serve tells it through the dashboard; empty while Serve has not been started."""
        if self._bare:
            return {}
        body = self._ask("/api/serve/applications/")
        applications: Mapping[str, Any] = body.get("applications") or {}
        return {_pool(name): str(app["status"]) for name, app in applications.items()}

    def head_id(self) -> str | None:
        """The session of the Ray head: another one after each start. None while no head answers."""
        try:
            body = self._ask("/api/version")
        except Unavailable:
            return None
        session = body.get("session_name")
        if session is None:
            return None
        if session != self._head:
            # One that followed another has no Serve before we start it. Asked all the same, its dashboard would import Serve
            # first, and pools come back by so much later.
            self._head, self._bare = str(session), self._head is not None
        return self._head

    def close(self) -> None:
        """Let connections go."""
        self._dashboard.close()

    def _ask(self, path: str) -> Mapping[str, Any]:
        try:
            response = self._dashboard.get(path)
            response.raise_for_status()
            body: Mapping[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                "the Ray dashboard",
                given=str(error),
                expected=f"JSON from {path}",
                cure="`rlaas status` shows the head.",
            ) from None
        return body

    def _act(self, act: str, *, pool: str, told: str = "") -> None:
        self._bare = False
        command = [sys.executable, "-m", "rlaas_ray.serve.deployment", act, "--pool", pool, "--address", self._address]
        try:
            done = subprocess.run(  # noqa: S603 (our own interpreter and module)
                command,
                input=told + "\n",
                capture_output=True,
                text=True,
                timeout=ACT_S,
                env=self._environment,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise WorkFailed(f"{act} of pool {pool!r}", given=f"no end in {ACT_S:g} s") from None
        if done.returncode != 0:
            raise WorkFailed(
                f"{act} of pool {pool!r}",
                given=_last_words(done.stderr).removeprefix("rlaas_ray.errors."),
                expected="exit 0",
                cure="`rlaas status` shows whether the head is up; its log is log/head.log in the home.",
            )


def _pool(app: str) -> str:
    return app if app == POLICIES else app.removeprefix("pool-")


def _last_words(stderr: str) -> str:
    """The line that names the error: the last one that is not indented."""
    lines = [line for line in stderr.strip().splitlines() if line.strip() and not line.startswith(" ")]
    return lines[-1] if lines else "no words"
