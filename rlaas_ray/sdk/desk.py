"""Many attempts of one process tell the control API how they go: claims, one report of all twice a second, final states.

Built by wiring for a host of searches. Everything that waits for the API waits in threads of the desk; what the searches call
only queues. Each attempt is told for under its own key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import httpx

from rlaas_ray.errors import Forbidden, LostLease, RlaasError, Unauthorized, Unavailable, from_problem
from rlaas_ray.sdk import exchange, reporter
from rlaas_ray.specs.runs import Run, RunState
from rlaas_ray.specs.seams import Clock

_LOG = logging.getLogger(__name__)
_TELLS_S = 0.5
_BODY_BYTES = 700_000  # the API takes a MiB
_EVENTS, _ROWS = 100, 500  # of one attempt in one report


class Line(reporter.HttpReporter):
    """The reporter of one attempt. `run` and `refused` tell how the claim went; `over`: there is nothing more to send."""

    def __init__(
        self,
        *,
        client: httpx.Client,
        run_id: str,
        attempt: int,
        directory: Path,
        clock: Clock,
        key: str,
        place_ref: str,
    ) -> None:
        super().__init__(
            client=client,
            run_id=run_id,
            attempt=attempt,
            directory=directory,
            clock=clock,
            place_ref=place_ref,
            background=False,
        )
        self._headers = {**self._headers, "Authorization": f"Bearer {key}"}
        self._key = key
        self._final: dict[str, Any] | None = None
        self._leaving = False
        self.run: Run | None = None
        self.refused: RlaasError | None = None
        self.over = False

    def pump(self) -> None:
        """The desk sends for all."""

    def finish(
        self,
        state: RunState,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        checkpoint_uri: str | None = None,
    ) -> None:
        """Write `final.json`, and leave the telling to the desk."""
        self._final = self._keep_final(state, result=result, error=error, checkpoint_uri=checkpoint_uri)

    def leave(self) -> None:
        """Another process goes on with the attempt: send what waits, and no more."""
        self._leaving = True

    def take(self) -> None:
        """Claim the attempt. Raises Unavailable; a refusal is kept in `refused`."""
        try:
            self.run = self._claimed()
            self._state = self.run.state
        except Unavailable:
            raise
        except RlaasError as error:
            self.refused, self.over = error, True

    def waiting(self) -> dict[str, Any] | None:
        """What the next report says of this attempt; None before its claim and after its end."""
        if self.run is None or self.over or self._lost is not None:
            return None
        with self._lock:
            progress = dataclasses.asdict(self._progress)
            self._sent = len(self._events[:_EVENTS])  # a newer front takes the place of none of these
            told = {"run": self._run_id, "key": self._key, "attempt": self._attempt, "progress": progress}
            return {**told, "events": self._events[:_EVENTS], "rows": self._rows[:_ROWS]}

    def told(self, sent: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """What the API answered to `sent`."""
        if "problem" in answer:
            error = from_problem(answer["problem"])
            self._lost = error if isinstance(error, LostLease) else LostLease(error.detail, cure=error.cure)
            self.over = True
            return
        with self._lock:
            del self._events[: len(sent["events"])]
            del self._rows[: len(sent["rows"])]
            self._sent = 0
            empty = not self._events and not self._rows
        self._state = cast("RunState", answer["state"])
        self.over = self._leaving and empty

    def untold(self) -> None:
        """No answer came: what was sent waits as before, and gives way to what is newer."""
        with self._lock:
            self._sent = 0

    def end(self) -> None:
        """Tell the final state, where there is one and all before it was told. Raises Unavailable."""
        with self._lock:
            waiting = bool(self._events or self._rows)
        if self._final is None or self.over or waiting:
            return
        try:
            self._post("finish", self._final)
        except Unavailable:
            raise
        except RlaasError as error:
            _LOG.warning("the final state of %s is refused: %s", self._run_id, error.detail)
        self.over = True

    def _claimed(self) -> Run:
        self._directory.mkdir(parents=True, exist_ok=True)
        # A host that died has counted events of this attempt already, and the API keeps each number once: count by the clock.
        self._seq = self._clock.now_us() // 1000
        return reporter.run_of(self._post("claim", {"attempt": self._attempt, "place_ref": self._place_ref}))


_Part = tuple[Line, dict[str, Any], bytes]


class Desk:
    """`client` carries no key: each line has its own."""

    def __init__(self, *, client: httpx.Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._claims: list[Line] = []
        self._over = threading.Event()
        # Two threads: a hundred claims or final states, each a request, must not keep the report of the others waiting.
        jobs = {"rlaas-report": self.report, "rlaas-claims": self.call}
        self._threads = [
            threading.Thread(target=self._work, args=(job,), name=name, daemon=True) for name, job in jobs.items()
        ]

    def open(self, *, run_id: str, attempt: int, directory: Path, key: str, place_ref: str) -> Line:
        """The line of an attempt that is to be claimed."""
        line = Line(
            client=self._client,
            run_id=run_id,
            attempt=attempt,
            directory=directory,
            clock=self._clock,
            key=key,
            place_ref=place_ref,
        )
        with self._lock:
            self._claims.append(line)
        return line

    def start(self) -> None:
        """Work in threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Tell what there is to tell now, and no more."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=15)
        with contextlib.suppress(Unavailable):
            self.report()
            self.call()

    def call(self) -> None:
        """Claims, and the final states of which all else was told."""
        while self._claims:
            self._claims[0].take()
            with self._lock:
                self._lines.append(self._claims.pop(0))
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.end()
            if self._claims:
                return  # who waits to begin is served first

    def _work(self, job: Callable[[], None]) -> None:
        pause_s = _TELLS_S
        while not self._over.wait(pause_s):
            try:
                job()
                pause_s = _TELLS_S
            except Unavailable as error:
                pause_s = min(2 * pause_s, 5.0)
                _LOG.info("the API is away: %s", error.detail)
            except Exception:  # noqa: BLE001 - the thread outlives every answer
                _LOG.exception("reporting")

    def report(self) -> None:
        """One report of all, in as many parts as its size takes. Raises Unavailable, and nothing is lost."""
        with self._lock:
            self._lines = [line for line in self._lines if not line.over]
            told = [(line, entry) for line in self._lines if (entry := line.waiting()) is not None]
        batch: list[_Part] = []
        for line, entry in told:
            part = (line, entry, exchange.body(entry))
            if batch and sum(len(text) for _, _, text in [*batch, part]) > _BODY_BYTES:
                self._send(batch)
                batch = []
            batch.append(part)
        self._send(batch)

    def _send(self, batch: Sequence[_Part]) -> None:
        """One report. It goes under the key of its first attempt; where that holds no more, the others go without it."""
        while batch:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {batch[0][1]['key']}"}
            content = b'{"reports":[' + b",".join(text for _, _, text in batch) + b"]}"
            try:
                answer = reporter.posted(self._client, f"{exchange.API}/runs/report", content=content, headers=headers)
            except (Unauthorized, Forbidden) as error:
                batch[0][0].told(batch[0][1], {"problem": error.to_problem()})
                batch = batch[1:]
                continue
            except Unavailable:
                for line, _, _ in batch:
                    line.untold()
                raise
            for line, entry, _ in batch:
                line.told(entry, answer["runs"][entry["run"]])
            return
