"""One suite for every place: submit once, alive, stop, logs. The Ray place meets a dashboard that answers as measured."""

import dataclasses
import json
import shlex
import subprocess
import sys
import time

import httpx
import pytest

from rlaas_ray.errors import AlreadyExists, NotBuilt, NotFound, Unauthorized, Unavailable
from rlaas_ray.jobs import command, here, kuberay, ray
from rlaas_ray.settings import SystemClock
from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.places import TwinPlace

# Stands for `rlaas`: says what it got, then waits to be told to end.
PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), os._exit(75)))
print("argv", *sys.argv[1:], flush=True)
print("key", os.environ["RLAAS_API_KEY"], os.environ["RLAAS_URL"], os.environ.get("RLAAS_DATABASE_URL"), flush=True)
signal.pause()
"""


def run(attempt: int = 1, *, name: str = "train-aaaaaaaaaa", digest: str = "d") -> Run:
    return Run(
        id=name,
        kind="train",
        name=None,
        spec={},
        spec_digest=digest,
        seed=0,
        state="queued",
        epoch=1,
        attempt=attempt,
        place="here",
        created_us=1,
    )


class Dashboard:
    """Ray 2.60's job REST as measured: a duplicate id is a 500 with a text, a stop is asynchronous."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.jobs: dict[str, tuple[subprocess.Popen, dict]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != "Bearer token":
            return httpx.Response(401, text="Unauthorized")
        parts = request.url.path.strip("/").split("/")
        if request.method == "POST" and len(parts) == 2:
            return self.submit(json.loads(request.content))
        if parts[2] not in self.jobs:
            return httpx.Response(404, text=f"Job {parts[2]} does not exist")
        process, body = self.jobs[parts[2]]
        if parts[-1] == "stop":
            process.terminate()
            return httpx.Response(200, json={"stopped": True})
        if parts[-1] == "logs":
            return httpx.Response(200, json={"logs": (self.directory / parts[2]).read_text()})
        status = "RUNNING" if process.poll() is None else "STOPPED"
        return httpx.Response(200, json={"status": status, "metadata": body["metadata"]})

    def submit(self, body: dict) -> httpx.Response:
        name = body["submission_id"]
        if name in self.jobs:
            text = f"RuntimeError: Job with submission_id {name} already exists. Please use a different submission_id."
            return httpx.Response(500, text=text)
        assert body["entrypoint"].startswith("exec ")
        with (self.directory / name).open("w") as log:
            process = subprocess.Popen(
                shlex.split(body["entrypoint"])[1:], stdout=log, stderr=log, env=body["runtime_env"]["env_vars"]
            )
        self.jobs[name] = (process, body)
        return httpx.Response(200, json={"submission_id": name})


def ray_place(dashboard: Dashboard, *, token: str = "token") -> ray.RayPlace:
    client = httpx.Client(
        transport=httpx.MockTransport(dashboard),
        base_url="http://127.0.0.1:8265",
        headers={"Authorization": f"Bearer {token}"},
    )
    return ray.RayPlace(
        client=client, url="http://api", environment={}, clock=SystemClock(), rlaas=(sys.executable, "-c", PROGRAM)
    )


@pytest.fixture(params=["twin", "here", "ray"])
def place(request, tmp_path):
    if request.param == "twin":
        yield TwinPlace()
        return
    if request.param == "ray":
        dashboard = Dashboard(tmp_path)
        yield ray_place(dashboard)
        for process, _ in dashboard.jobs.values():
            process.kill()
            process.wait()
        return
    built = here.HerePlace(
        directory=tmp_path,
        url="http://api",
        environment={"RLAAS_DATABASE_URL": "sqlite:///never"},
        clock=SystemClock(),
        rlaas=(sys.executable, "-c", PROGRAM),
    )
    yield built
    for started in tmp_path.glob("*/process.*"):
        built.stop(started.read_text(), grace_s=0)


def logged(place, ref: str, *, lines: int) -> list[str]:
    for _ in range(100):
        found = list(
            place.logs(ref, run_id=ref.split(":")[0] if isinstance(place, TwinPlace) else run().id, follow=False)
        )
        if len(found) >= lines:
            return found
        time.sleep(0.05)
    pytest.fail(f"the log never held {lines} lines: {found}")


def test_a_submitted_attempt_is_alive_until_it_is_stopped(place) -> None:
    ref = place.submit(run(), key="rlk_x")
    logged(place, ref, lines=1)
    assert place.alive(ref)
    place.stop(ref, grace_s=5)
    assert not place.alive(ref)
    place.stop(ref, grace_s=5)  # a second stop finds nothing and is no fault


def test_submitting_the_same_attempt_twice_starts_it_once(place) -> None:
    first = place.submit(run(), key="rlk_x")
    assert place.submit(run(), key="rlk_x") == first
    second = place.submit(run(2), key="rlk_x")
    assert second != first
    logged(place, second, lines=1)
    assert place.alive(first)
    assert place.alive(second)


def test_the_log_of_what_was_never_started_is_not_found(place) -> None:
    ref = "1:1:1" if isinstance(place, here.HerePlace) else "train-zzzzzzzzzz"
    with pytest.raises(NotFound):
        list(place.logs(ref, run_id="train-zzzzzzzzzz", follow=False))


def test_an_attempt_gets_its_run_its_key_and_the_address_but_no_database(place) -> None:
    if isinstance(place, TwinPlace):
        pytest.skip("starts nothing")
    ref = place.submit(run(3), key="rlk_secret")
    lines = logged(place, ref, lines=2)
    assert lines[0] == "argv train --run train-aaaaaaaaaa --attempt 3"
    assert lines[1] == "key rlk_secret http://api None"
    place.stop(ref, grace_s=5)
    assert logged(place, ref, lines=3)[2] == "saved"  # SIGTERM came first


def test_following_a_log_ends_with_the_attempt(place) -> None:
    if isinstance(place, TwinPlace):
        pytest.skip("starts nothing")
    ref = place.submit(run(), key="k")
    lines = place.logs(ref, run_id=run().id, follow=True)
    assert next(lines).startswith("argv")
    next(lines)
    place.stop(ref, grace_s=5)
    assert list(lines) == ["saved"]


def test_what_ignores_sigterm_is_ended_after_the_grace_with_all_its_session(tmp_path) -> None:
    program = (
        "import signal, subprocess, sys, os;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "c = subprocess.Popen(['sleep', '60'], process_group=0); print(c.pid, flush=True); signal.pause()"
    )
    place = here.HerePlace(
        directory=tmp_path,
        url="u",
        environment={"PATH": "/usr/bin:/bin"},
        clock=SystemClock(),
        rlaas=(sys.executable, "-c", program),
    )
    ref = place.submit(run(), key="k")
    grandchild = int(logged(place, ref, lines=1)[0])
    place.stop(ref, grace_s=0.2)
    assert not place.alive(ref)
    assert here.processes.start_time(grandchild) is None


def test_a_used_again_pid_is_not_mistaken_for_the_attempt(tmp_path) -> None:
    import os

    place = here.HerePlace(directory=tmp_path, url="u", environment={}, clock=SystemClock())
    mine = f"{os.getpid()}:1:1"  # this very test, with a start time that is not its own
    assert not place.alive(mine)
    place.stop(mine, grace_s=0)  # still here afterwards


def test_another_runs_job_under_the_same_id_is_a_conflict_and_not_taken_for_ours(tmp_path) -> None:
    dashboard = Dashboard(tmp_path)
    place = ray_place(dashboard)
    place.submit(run(), key="k")
    with pytest.raises(AlreadyExists):
        place.submit(dataclasses.replace(run(), spec_digest="other"), key="k")
    for process, _ in dashboard.jobs.values():
        process.kill()
        process.wait()


def test_a_wrong_token_and_a_silent_dashboard_are_told_apart(tmp_path) -> None:
    with pytest.raises(Unauthorized, match="token"):
        ray_place(Dashboard(tmp_path), token="wrong").submit(run(), key="k")

    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unavailable, match="does not answer"):
        ray_place(silent).alive("train-aaaaaaaaaa")


def test_the_kubernetes_place_says_that_it_is_not_built() -> None:
    with pytest.raises(NotBuilt, match="kuberay") as caught:
        kuberay.KubeRayPlace().submit(run(), key="k")
    assert "--place" in str(caught.value.cure)


def test_a_kind_that_no_command_executes_is_refused() -> None:
    with pytest.raises(NotBuilt):
        command.arguments(dataclasses.replace(run(), kind="dream"))
