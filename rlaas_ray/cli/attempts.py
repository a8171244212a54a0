"""An attempt in this process: as a place started it (`--run`), as a Ray job that nobody announced, or with the API in here too.

SIGTERM, and the first Ctrl-C, ask the attempt to checkpoint and end; a second Ctrl-C ends it at once. What an attempt does
is wiring's.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import httpx

from rlaas_ray import settings, wiring
from rlaas_ray.cli import bars, job, output, server
from rlaas_ray.errors import Checkpointed, Interrupted, RlaasError
from rlaas_ray.sdk import exchange, reporter
from rlaas_ray.sdk.handles import Run

_EXIT = {"succeeded": 0, "stopped": 75}


class Stop:
    """Who asked for the end: nobody, SIGTERM or Ctrl-C."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.by: signal.Signals | None = None

    def heard(self, number: int, frame: FrameType | None) -> None:
        """Signal handler; a second Ctrl-C is Python's own."""
        if self.by == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.by = signal.Signals(number)
        output.say("ending at the next safe point, with a checkpoint; Ctrl-C again ends it now")
        self.event.set()

    def raise_if_heard(self, run_id: str) -> None:
        """The error that says how to go on."""
        words, cure = f"run {run_id} is stopped, its work saved", f"`rlaas runs resume {run_id}` goes on."
        if self.by == signal.SIGTERM:
            raise Checkpointed(words, cure=cure)
        if self.by is not None:
            raise Interrupted(words, cure=cure)


class _Spoken(reporter.HttpReporter):
    """A reporter that also says the episodes of an algorithm that tells single ones, or prints every event as a line."""

    as_jsonl = False

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event."""
        super().event(kind, data)
        if self.as_jsonl:
            output.line({"kind": kind, **data})
        elif kind == "episode":
            told = (
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in data.items()
            )
            output.say("  ".join(told).replace("_", " "))


def inside(run_id: str, *, attempt: int) -> int:
    """Execute what a place was told to; gives the exit code. The run's key and the API's address are in the environment."""
    own = settings.read()
    with reporter.connect(own.url or "", api_key=own.api_key) as client, _stopping() as stop:
        return _EXIT.get(_attempt(run_id, number=attempt, client=client, stop=stop)["state"], 1)


def in_process(
    kind: str, body: Mapping[str, Any], *, title: str, quiet: bool, as_jsonl: bool = False
) -> dict[str, Any]:
    """Make the run in an API in this process, and execute it here; gives its document. `as_jsonl`: prints its events."""
    transport = server.transport()
    with server.over(transport) as client:
        run = client.runs.started(kind, body)
        output.say(f"run {run.id}, in this process")
        return _stayed(run, transport=transport, title=title, quiet=quiet, as_jsonl=as_jsonl)


def resumed(run_id: str, *, quiet: bool) -> dict[str, Any]:
    """The next attempt of a run, in this process; gives its document."""
    transport = server.transport()
    with server.over(transport) as client:
        run = client.runs.get(run_id)
        run.resume()
        return _stayed(run, transport=transport, title=f"resume {run_id}", quiet=quiet)


def announced(kind: str, body: Mapping[str, Any], *, submission: str) -> dict[str, Any]:
    """Tell the API of this Ray job, which it did not start, and execute the run under a key of its own."""
    with server.client() as client:
        told = {"kind": kind, "spec": dict(body), "place": "ray", "place_ref": submission}
        made = client.post(f"{exchange.API}/runs", json=told)
        output.say(f"run {made['id']}, as Ray job {submission}")
        with reporter.connect(client.url, api_key=made["key"]) as own, _stopping() as stop:
            _attempt(made["id"], number=made["attempt"], client=own, stop=stop)
            stop.raise_if_heard(made["id"])
        return client.runs.get(made["id"]).document


def _stayed(
    run: Run, *, transport: httpx.BaseTransport, title: str, quiet: bool, as_jsonl: bool = False
) -> dict[str, Any]:
    own = settings.read()
    client = reporter.connect("http://127.0.0.1", api_key=server.key(own, url=None), transport=transport)
    with _stopping() as stop, _watching(run, title=title, quiet=quiet):
        _attempt(run.id, number=run.document["attempt"], client=client, stop=stop, as_jsonl=as_jsonl)
    run.refresh()
    if as_jsonl:
        output.line({"kind": "end", "state": run.document["state"]})
    if run.document["state"] == "stopped":
        stop.raise_if_heard(run.id)
    return run.document


def _attempt(run_id: str, *, number: int, client: httpx.Client, stop: Stop, as_jsonl: bool = False) -> dict[str, Any]:
    own = settings.read()
    reports = _Spoken(
        client=client,
        run_id=run_id,
        attempt=number,
        directory=own.home / "runs" / run_id,
        clock=settings.SystemClock(),
        place_ref=job.place_ref(number),
    )
    reports.as_jsonl = as_jsonl
    return wiring.attempt(reporter=reports, settings=own, client=client, stop=stop.event)


@contextmanager
def _stopping() -> Iterator[Stop]:
    """Signals ask, for as long as the block runs."""
    stop = Stop()
    before = {number: signal.signal(number, stop.heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _watching(run: Run, *, title: str, quiet: bool) -> Iterator[None]:
    """Show the run's progress from a thread of its own: the work has this one."""
    over = threading.Event()

    def look(bar: output.Bar) -> None:
        while not over.wait(0.5):
            try:
                bar.tell(run.refresh()["progress"])
            except RlaasError as error:
                output.say(f"progress is not known: {error.detail}")
                return

    with bars.bar(run, title=title, quiet=quiet) as bar:
        thread = threading.Thread(target=look, args=(bar,), name="rlaas-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)
            bar.tell(run.refresh()["progress"])
