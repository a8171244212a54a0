"""A running attempt tells the control API how it goes, over HTTP; what the API cannot hear now, it hears later.

Built by wiring for a run process, handed in as `seams.Reporter`. Events lie in `runs/<id>/events.jsonl` before they are sent,
the final state in `final.json`. Never decides what the run's state is: it reports, the API answers.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import httpx
import orjson

from rlaas_ray.errors import LostLease, RlaasError, Unavailable
from rlaas_ray.sdk import exchange
from rlaas_ray.specs.runs import Progress, Run, RunState
from rlaas_ray.specs.seams import Clock, Reporter

_LOG = logging.getLogger(__name__)
_BEAT_S = 5.0  # the lease is 30 s
_SOONEST_S = 1.0  # beats closer together than this tell nobody anything
_BATCH = 500
_PASSING = "front"  # events of this kind: the newest tells all


class HttpReporter(Reporter):
    """`directory` is the run's folder. `background=False`: nothing happens between calls; then call `beat` each 5 s."""

    def __init__(
        self,
        *,
        client: httpx.Client,
        run_id: str,
        attempt: int,
        directory: Path,
        clock: Clock,
        place_ref: str | None = None,
        patience_s: float = 30.0,
        background: bool = True,
    ) -> None:
        self._client = client
        self._path = f"{exchange.API}/runs/{run_id}"
        self._headers = {"Content-Type": "application/json"}
        self._run_id = run_id
        self._attempt = attempt
        self._directory = directory
        self._clock = clock
        self._place_ref = place_ref
        self._patience_s = patience_s
        self._background = background
        self._lock = threading.Lock()  # of the queues; never held while sending
        self._sending = threading.Lock()  # one sender at a time keeps the order
        self._events: list[dict[str, Any]] = []
        self._rows: list[Mapping[str, float | int | None]] = []
        self._sent = 0  # events in the batch that is on its way
        self._seq = 0
        self._progress = Progress()
        self._state: RunState = "running"
        self._lost: LostLease | None = None
        self._beaten_s = float("-inf")
        self._away_s = 0.0
        self._not_before_s = float("-inf")
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self) -> Run:
        """Take the attempt; from here on the thread beats."""
        self._directory.mkdir(parents=True, exist_ok=True)
        body = {"attempt": self._attempt, "place_ref": self._place_ref}
        document = self._insist("claim", {k: v for k, v in body.items() if v is not None})
        if self._background:
            self._thread = threading.Thread(target=self._work, name="rlaas-reporter", daemon=True)
            self._thread.start()
        return run_of(document)

    def beat(self, progress: Progress) -> RunState:
        """Keep the progress for the next heartbeat, and beat now where a second has passed."""
        with self._lock:
            self._progress = progress
        self.pump()
        if self._lost is not None:
            raise self._lost
        return self._state

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write the event to disk and queue it."""
        with self._lock:
            self._seq += 1
            event = {"seq": self._seq, "kind": kind, "time_us": self._clock.now_us(), "data": dict(data)}
            if kind == _PASSING:
                # Fronts follow each other fast and each tells all: one waits at most, and the disk keeps none.
                waiting = self._events[self._sent :]
                self._events[self._sent :] = [one for one in waiting if one["kind"] != kind]
            else:
                with (self._directory / "events.jsonl").open("ab") as file:
                    file.write(orjson.dumps({"attempt": self._attempt, **event}) + b"\n")
            self._events.append(event)
        self._raise_if_lost()

    def metrics(self, rows: Sequence[Mapping[str, float | int | None]]) -> None:
        """Queue metric rows."""
        with self._lock:
            self._rows += [dict(row) for row in rows]
        self._raise_if_lost()

    def finish(
        self,
        state: RunState,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        checkpoint_uri: str | None = None,
    ) -> None:
        """Write `final.json`, send what waits, then tell the API; gives up quietly where it stays away."""
        final = self._keep_final(state, result=result, error=error, checkpoint_uri=checkpoint_uri)
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=self._patience_s)
        self._raise_if_lost()
        try:
            self._retry(self._flush)
            self._retry(self._heartbeat)  # the last progress, which a beat within the same second has kept back
            self._insist("finish", final)
        except Unavailable:
            # The sweep of the API finds final.json when it is back; the work itself has not failed.
            _LOG.warning(
                "the API is away: %s keeps the final state of %s", self._directory / "final.json", self._run_id
            )

    def _keep_final(self, state: RunState, **told: Any) -> dict[str, Any]:
        """The body of `finish`, written to `final.json` before anybody hears of it."""
        given = {name: value for name, value in told.items() if value is not None}
        final = {"attempt": self._attempt, "state": state, **given}
        _replace(self._directory / "final.json", orjson.dumps({**final, "time_us": self._clock.now_us()}))
        return final

    def register(self, bundle: Path, *, name: str, evaluation: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Register the bundle; waits for an API that is away."""
        body = {"attempt": self._attempt, "path": str(bundle), "name": name, "evaluation": evaluation}
        document: Mapping[str, Any] = self._insist("register", {k: v for k, v in body.items() if v is not None})
        return document

    def pump(self) -> None:
        """Send what is waiting and, where it is time, a heartbeat; called by the thread and by `beat`.

        An API that is away is left alone for a while (0.5 s, doubling to 10 s).
        """
        now_s = self._clock.monotonic_s()
        if self._lost is not None or now_s < self._not_before_s:
            return
        try:
            self._flush()
            if now_s - self._beaten_s >= _SOONEST_S:
                self._heartbeat()
                self._beaten_s = now_s
            self._away_s = 0.0
        except LostLease as error:
            self._lost = error
        except Unavailable:
            self._away_s = min(max(2 * self._away_s, 0.5), 10.0)
            self._not_before_s = now_s + self._away_s

    def _work(self) -> None:
        while not self._over.wait(0.5):
            try:
                with self._lock:
                    waiting = bool(self._events or self._rows)
                if waiting or self._clock.monotonic_s() - self._beaten_s >= _BEAT_S:
                    self.pump()
            except RlaasError:
                _LOG.exception("reporting %s", self._run_id)

    def _heartbeat(self) -> None:
        with self._lock:
            progress = dataclasses.asdict(self._progress)
        answer = self._post("heartbeat", {"attempt": self._attempt, "progress": progress})
        self._state = cast("RunState", answer["state"])  # the API's word

    def _flush(self) -> None:
        with self._sending:
            try:
                while self._send_some(self._events, noun="events", field="events"):
                    pass
            finally:
                self._sent = 0
            while self._send_some(self._rows, noun="metrics", field="rows"):
                pass

    def _send_some(self, queue: list[Any], *, noun: str, field: str) -> bool:
        with self._lock:
            batch = queue[:_BATCH]
            if queue is self._events:
                self._sent = len(batch)
        if not batch:
            return False
        self._post(noun, {"attempt": self._attempt, field: batch})
        with self._lock:
            del queue[: len(batch)]  # only after the API has them; seq makes a second sending harmless
            if queue is self._events:
                self._sent = 0
        return True

    def _insist(self, verb: str, body: Mapping[str, Any]) -> Any:
        return self._retry(lambda: self._post(verb, body))

    def _retry(self, act: Callable[[], Any]) -> Any:
        """Do `act`, again while the API is away, for as long as there is patience."""
        until = self._clock.monotonic_s() + self._patience_s
        pause_s = 0.5
        while True:
            try:
                return act()
            except Unavailable:
                if self._clock.monotonic_s() + pause_s > until:
                    raise
            self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, 10.0)

    def _post(self, verb: str, body: Mapping[str, Any]) -> Any:
        content = exchange.body(body)
        return posted(self._client, f"{self._path}/{verb}", content=content, headers=self._headers)

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise self._lost


def posted(client: httpx.Client, path: str, *, content: bytes, headers: Mapping[str, str]) -> Any:
    """The API's answer. Raises Unavailable where it is away or says that it is of no meaning for the run: later."""
    try:
        response = client.post(path, content=content, headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable(f"the API at {client.base_url} is away", given=type(error).__name__) from error
    if response.status_code in {429, 500, 502, 503, 504}:
        raise Unavailable(f"the API answered {response.status_code}", given=response.text[:200])
    return exchange.answer(response)


def connect(url: str, *, api_key: str | None, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """The client that HttpReporter takes."""
    return httpx.Client(
        base_url=url,
        headers=exchange.headers(api_key),
        timeout=httpx.Timeout(10.0, connect=3.0),
        transport=transport,
        trust_env=False,
    )


def run_of(document: Mapping[str, Any]) -> Run:
    """The Run that a run document states."""
    known = {f.name for f in dataclasses.fields(Run)}
    told = {name: value for name, value in document.items() if name in known}
    progress = {f.name for f in dataclasses.fields(Progress)}
    given = {name: value for name, value in (document.get("progress") or {}).items() if name in progress}
    return Run(**{"spec_digest": "", "epoch": 0, **told, "progress": Progress(**given)})


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)
