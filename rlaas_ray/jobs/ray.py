"""Place `ray`: an attempt as a job of a Ray cluster, over the dashboard's REST, so that the API never loads Ray.

Called by control through the seam Place. Its reference is the submission id: the run id, from attempt 2 on with the
attempt behind it. Never trusts Ray's word for how a run ended: STOPPED also stands for a process that exited 0.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from rlaas_ray.errors import AlreadyExists, NotFound, RlaasError, Unauthorized, Unavailable, WorkFailed
from rlaas_ray.jobs import command
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Clock, Place

_LIVING = frozenset({"PENDING", "RUNNING"})


class RayPlace(Place):
    """`client` has the dashboard's address as base URL and its token as `Authorization`; see `connect`."""

    def __init__(
        self,
        *,
        client: httpx.Client,
        url: str,
        environment: Mapping[str, str],
        clock: Clock,
        rlaas: Sequence[str] = ("python", "-m", "rlaas_ray.cli"),
    ) -> None:
        self._client = client
        self._url = url
        self._environment = environment
        self._clock = clock
        self._rlaas = tuple(rlaas)

    def submit(self, run: Run, *, key: str) -> str:
        ref = run.id if run.attempt == 1 else f"{run.id}-{run.attempt}"
        metadata = {"rlaas_run": run.id, "rlaas_attempt": str(run.attempt), "rlaas_spec_digest": run.spec_digest}
        body = {
            # exec: without it a shell stands between Ray's SIGTERM and the attempt's checkpoint
            "entrypoint": "exec " + shlex.join([*self._rlaas, *command.arguments(run)]),
            "submission_id": ref,
            "metadata": metadata,
            "entrypoint_num_cpus": 0,
            "runtime_env": {"env_vars": command.environment(self._environment, url=self._url, key=key)},
        }
        answer = self._ask("POST", "/api/jobs/", json=body)
        if answer.status_code == httpx.codes.OK:
            return ref
        # A duplicate id is a 500 whose text says so (Ray 2.60.0): the same attempt is no fault, another run's is.
        if "already exists" in answer.text:
            found = self._job(ref).get("metadata") or {}
            if all(found.get(name) == value for name, value in metadata.items()):
                return ref
            raise AlreadyExists(f"Ray has another job named {ref}", given=found, expected=str(metadata))
        raise _refused(answer, what=f"submitting {ref}")

    def alive(self, ref: str) -> bool:
        try:
            return self._job(ref).get("status") in _LIVING
        except NotFound:
            return False

    def stop(self, ref: str, *, grace_s: float) -> None:
        if not self.alive(ref):
            return
        answer = self._ask("POST", f"/api/jobs/{ref}/stop")
        if answer.is_error:
            raise _refused(answer, what=f"stopping {ref}")
        # Ray itself ends the job after RAY_JOB_STOP_WAIT_TIME_S, set where the head is started; here we only wait for it.
        until = self._clock.monotonic_s() + grace_s
        while self.alive(ref) and self._clock.monotonic_s() < until:
            self._clock.sleep(0.25)

    def logs(self, ref: str, *, run_id: str, follow: bool) -> Iterator[str]:
        self._job(ref)
        return self._lines(ref, follow=follow)

    def _lines(self, ref: str, *, follow: bool) -> Iterator[str]:
        shown = 0
        while True:
            lives = follow and self.alive(ref)
            answer = self._ask("GET", f"/api/jobs/{ref}/logs")
            if answer.is_error:
                raise _refused(answer, what=f"the log of {ref}")
            text = str(answer.json().get("logs") or "")
            whole = text if not lives else text[: text.rfind("\n") + 1]  # a torn last line waits for its end
            yield from whole[shown:].splitlines()
            shown = max(shown, len(whole))
            if not lives:
                return
            self._clock.sleep(0.5)

    def _job(self, ref: str) -> dict[str, Any]:
        answer = self._ask("GET", f"/api/jobs/{ref}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"Ray job {ref}", given=ref)
        if answer.is_error:
            raise _refused(answer, what=f"Ray job {ref}")
        found: dict[str, Any] = answer.json()
        return found

    def _ask(self, method: str, path: str, *, json: Any = None) -> httpx.Response:
        try:
            return self._client.request(method, path, json=json)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Ray's dashboard at {self._client.base_url} does not answer",
                given=str(error) or type(error).__name__,
                cure="`rlaas status` shows the Ray head; its log is $RLAAS_HOME/log/head.log.",
            ) from error


def connect(dashboard: str, *, token: str | None) -> httpx.Client:
    """The client that RayPlace takes."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=dashboard, headers=headers, timeout=httpx.Timeout(30.0, connect=2.0), trust_env=False)


def _refused(answer: httpx.Response, *, what: str) -> RlaasError:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return Unauthorized(f"{what}: Ray refuses the token", cure="Give the cluster's own token: --token-file.")
    return WorkFailed(f"{what}: Ray's dashboard answered {answer.status_code}", given=answer.text.strip()[-300:])
